"""The names of the graph of 2015, against the list that others made from the file itself."""

import dataclasses

import pytest

from inception import architecture
from inception.variants import GOOGLE_2015
from inception.weights.dialects import graph_names
from inception.weights.plan import AS_IS, MATRIX

# slim's scope and the node, of every convolution: what scripts that dump or convert the graph have.
LIST = """
Conv2d_1a_3x3                   conv
Conv2d_2a_3x3                   conv_1
Conv2d_2b_3x3                   conv_2
Conv2d_3b_1x1                   conv_3
Conv2d_4a_3x3                   conv_4
Mixed_5b/Branch_0/Conv2d_0a_1x1 mixed/conv
Mixed_5b/Branch_1/Conv2d_0a_1x1 mixed/tower/conv
Mixed_5b/Branch_1/Conv2d_0b_5x5 mixed/tower/conv_1
Mixed_5b/Branch_2/Conv2d_0a_1x1 mixed/tower_1/conv
Mixed_5b/Branch_2/Conv2d_0b_3x3 mixed/tower_1/conv_1
Mixed_5b/Branch_2/Conv2d_0c_3x3 mixed/tower_1/conv_2
Mixed_5b/Branch_3/Conv2d_0b_1x1 mixed/tower_2/conv
Mixed_5c/Branch_0/Conv2d_0a_1x1 mixed_1/conv
Mixed_5c/Branch_1/Conv2d_0b_1x1 mixed_1/tower/conv
Mixed_5c/Branch_1/Conv_1_0c_5x5 mixed_1/tower/conv_1
Mixed_5c/Branch_2/Conv2d_0a_1x1 mixed_1/tower_1/conv
Mixed_5c/Branch_2/Conv2d_0b_3x3 mixed_1/tower_1/conv_1
Mixed_5c/Branch_2/Conv2d_0c_3x3 mixed_1/tower_1/conv_2
Mixed_5c/Branch_3/Conv2d_0b_1x1 mixed_1/tower_2/conv
Mixed_5d/Branch_0/Conv2d_0a_1x1 mixed_2/conv
Mixed_5d/Branch_1/Conv2d_0a_1x1 mixed_2/tower/conv
Mixed_5d/Branch_1/Conv2d_0b_5x5 mixed_2/tower/conv_1
Mixed_5d/Branch_2/Conv2d_0a_1x1 mixed_2/tower_1/conv
Mixed_5d/Branch_2/Conv2d_0b_3x3 mixed_2/tower_1/conv_1
Mixed_5d/Branch_2/Conv2d_0c_3x3 mixed_2/tower_1/conv_2
Mixed_5d/Branch_3/Conv2d_0b_1x1 mixed_2/tower_2/conv
Mixed_6a/Branch_0/Conv2d_1a_1x1 mixed_3/conv
Mixed_6a/Branch_1/Conv2d_0a_1x1 mixed_3/tower/conv
Mixed_6a/Branch_1/Conv2d_0b_3x3 mixed_3/tower/conv_1
Mixed_6a/Branch_1/Conv2d_1a_1x1 mixed_3/tower/conv_2
Mixed_6b/Branch_0/Conv2d_0a_1x1 mixed_4/conv
Mixed_6b/Branch_1/Conv2d_0a_1x1 mixed_4/tower/conv
Mixed_6b/Branch_1/Conv2d_0b_1x7 mixed_4/tower/conv_1
Mixed_6b/Branch_1/Conv2d_0c_7x1 mixed_4/tower/conv_2
Mixed_6b/Branch_2/Conv2d_0a_1x1 mixed_4/tower_1/conv
Mixed_6b/Branch_2/Conv2d_0b_7x1 mixed_4/tower_1/conv_1
Mixed_6b/Branch_2/Conv2d_0c_1x7 mixed_4/tower_1/conv_2
Mixed_6b/Branch_2/Conv2d_0d_7x1 mixed_4/tower_1/conv_3
Mixed_6b/Branch_2/Conv2d_0e_1x7 mixed_4/tower_1/conv_4
Mixed_6b/Branch_3/Conv2d_0b_1x1 mixed_4/tower_2/conv
Mixed_6c/Branch_0/Conv2d_0a_1x1 mixed_5/conv
Mixed_6c/Branch_1/Conv2d_0a_1x1 mixed_5/tower/conv
Mixed_6c/Branch_1/Conv2d_0b_1x7 mixed_5/tower/conv_1
Mixed_6c/Branch_1/Conv2d_0c_7x1 mixed_5/tower/conv_2
Mixed_6c/Branch_2/Conv2d_0a_1x1 mixed_5/tower_1/conv
Mixed_6c/Branch_2/Conv2d_0b_7x1 mixed_5/tower_1/conv_1
Mixed_6c/Branch_2/Conv2d_0c_1x7 mixed_5/tower_1/conv_2
Mixed_6c/Branch_2/Conv2d_0d_7x1 mixed_5/tower_1/conv_3
Mixed_6c/Branch_2/Conv2d_0e_1x7 mixed_5/tower_1/conv_4
Mixed_6c/Branch_3/Conv2d_0b_1x1 mixed_5/tower_2/conv
Mixed_6d/Branch_0/Conv2d_0a_1x1 mixed_6/conv
Mixed_6d/Branch_1/Conv2d_0a_1x1 mixed_6/tower/conv
Mixed_6d/Branch_1/Conv2d_0b_1x7 mixed_6/tower/conv_1
Mixed_6d/Branch_1/Conv2d_0c_7x1 mixed_6/tower/conv_2
Mixed_6d/Branch_2/Conv2d_0a_1x1 mixed_6/tower_1/conv
Mixed_6d/Branch_2/Conv2d_0b_7x1 mixed_6/tower_1/conv_1
Mixed_6d/Branch_2/Conv2d_0c_1x7 mixed_6/tower_1/conv_2
Mixed_6d/Branch_2/Conv2d_0d_7x1 mixed_6/tower_1/conv_3
Mixed_6d/Branch_2/Conv2d_0e_1x7 mixed_6/tower_1/conv_4
Mixed_6d/Branch_3/Conv2d_0b_1x1 mixed_6/tower_2/conv
Mixed_6e/Branch_0/Conv2d_0a_1x1 mixed_7/conv
Mixed_6e/Branch_1/Conv2d_0a_1x1 mixed_7/tower/conv
Mixed_6e/Branch_1/Conv2d_0b_1x7 mixed_7/tower/conv_1
Mixed_6e/Branch_1/Conv2d_0c_7x1 mixed_7/tower/conv_2
Mixed_6e/Branch_2/Conv2d_0a_1x1 mixed_7/tower_1/conv
Mixed_6e/Branch_2/Conv2d_0b_7x1 mixed_7/tower_1/conv_1
Mixed_6e/Branch_2/Conv2d_0c_1x7 mixed_7/tower_1/conv_2
Mixed_6e/Branch_2/Conv2d_0d_7x1 mixed_7/tower_1/conv_3
Mixed_6e/Branch_2/Conv2d_0e_1x7 mixed_7/tower_1/conv_4
Mixed_6e/Branch_3/Conv2d_0b_1x1 mixed_7/tower_2/conv
Mixed_7a/Branch_0/Conv2d_0a_1x1 mixed_8/tower/conv
Mixed_7a/Branch_0/Conv2d_1a_3x3 mixed_8/tower/conv_1
Mixed_7a/Branch_1/Conv2d_0a_1x1 mixed_8/tower_1/conv
Mixed_7a/Branch_1/Conv2d_0b_1x7 mixed_8/tower_1/conv_1
Mixed_7a/Branch_1/Conv2d_0c_7x1 mixed_8/tower_1/conv_2
Mixed_7a/Branch_1/Conv2d_1a_3x3 mixed_8/tower_1/conv_3
Mixed_7b/Branch_0/Conv2d_0a_1x1 mixed_9/conv
Mixed_7b/Branch_1/Conv2d_0a_1x1 mixed_9/tower/conv
Mixed_7b/Branch_1/Conv2d_0b_1x3 mixed_9/tower/mixed/conv
Mixed_7b/Branch_1/Conv2d_0b_3x1 mixed_9/tower/mixed/conv_1
Mixed_7b/Branch_2/Conv2d_0a_1x1 mixed_9/tower_1/conv
Mixed_7b/Branch_2/Conv2d_0b_3x3 mixed_9/tower_1/conv_1
Mixed_7b/Branch_2/Conv2d_0c_1x3 mixed_9/tower_1/mixed/conv
Mixed_7b/Branch_2/Conv2d_0d_3x1 mixed_9/tower_1/mixed/conv_1
Mixed_7b/Branch_3/Conv2d_0b_1x1 mixed_9/tower_2/conv
Mixed_7c/Branch_0/Conv2d_0a_1x1 mixed_10/conv
Mixed_7c/Branch_1/Conv2d_0a_1x1 mixed_10/tower/conv
Mixed_7c/Branch_1/Conv2d_0b_1x3 mixed_10/tower/mixed/conv
Mixed_7c/Branch_1/Conv2d_0c_3x1 mixed_10/tower/mixed/conv_1
Mixed_7c/Branch_2/Conv2d_0a_1x1 mixed_10/tower_1/conv
Mixed_7c/Branch_2/Conv2d_0b_3x3 mixed_10/tower_1/conv_1
Mixed_7c/Branch_2/Conv2d_0c_1x3 mixed_10/tower_1/mixed/conv
Mixed_7c/Branch_2/Conv2d_0d_3x1 mixed_10/tower_1/mixed/conv_1
Mixed_7c/Branch_3/Conv2d_0b_1x1 mixed_10/tower_2/conv
"""
NODES = dict(line.split() for line in LIST.split("\n") if line)


def test_every_convolution_has_the_node_that_the_graph_has():
    found = graph_names.nodes(GOOGLE_2015.table())
    places = [p.path for p in architecture.convolutions(GOOGLE_2015.table())]
    assert len(NODES) == 94 and list(NODES) == places
    assert {place: found[place] for place in places} == NODES


def test_pools_and_the_classifier():
    found = graph_names.nodes(GOOGLE_2015.table())
    rest = {place: node for place, node in found.items() if place not in NODES}
    averages = {place for place in rest if place.endswith("/Branch_3/AvgPool_0a_3x3")}
    assert {rest.pop(place) for place in averages} == {
        *("mixed/tower_2/pool", "mixed_1/tower_2/pool", "mixed_2/tower_2/pool", "mixed_4/tower_2/pool"),
        *("mixed_5/tower_2/pool", "mixed_6/tower_2/pool", "mixed_7/tower_2/pool", "mixed_9/tower_2/pool"),
        "mixed_10/tower_2/pool",
    }
    assert found[graph_names.LAST_POOL] == "mixed_10/tower_2/pool"
    assert rest == {
        "MaxPool_3a_3x3": "pool",
        "MaxPool_5a_3x3": "pool_1",
        "Mixed_6a/Branch_2/MaxPool_1a_3x3": "mixed_3/pool",
        "Mixed_7a/Branch_2/MaxPool_1a_3x3": "mixed_8/pool",
        "Logits/AvgPool_1a_8x8": "pool_3",
        "Logits/Conv2d_1c_1x1": "softmax",
    }


def test_every_variable_has_one_constant():
    found = graph_names.variables(GOOGLE_2015)
    assert list(found) == list(GOOGLE_2015.shapes())
    assert len({node for node, _ in found.values()}) == len(found) == 94 * 5 + 2
    unit = "InceptionV3/Mixed_7b/Branch_1/Conv2d_0b_3x1"
    node = "mixed_9/tower/mixed/conv_1"
    assert found[f"{unit}/weights"] == (f"{node}/conv2d_params", AS_IS)
    for name in ("beta", "gamma", "moving_mean", "moving_variance"):
        assert found[f"{unit}/BatchNorm/{name}"] == (f"{node}/batchnorm/{name}", AS_IS)
    assert found["InceptionV3/Logits/Conv2d_1c_1x1/weights"] == ("softmax/weights", MATRIX)
    assert found["InceptionV3/Logits/Conv2d_1c_1x1/biases"] == ("softmax/biases", AS_IS)


@pytest.mark.parametrize(("changes", "count"), [({"gamma": False}, 94 * 4 + 2), ({"num_classes": 0}, 94 * 5)])
def test_a_smaller_variant_has_fewer(changes, count):
    assert len(graph_names.variables(dataclasses.replace(GOOGLE_2015, **changes))) == count


def test_an_auxiliary_head_is_not_in_this_graph():
    found = graph_names.variables(dataclasses.replace(GOOGLE_2015, aux_logits=True))
    assert not any("AuxLogits" in name for name in found)
