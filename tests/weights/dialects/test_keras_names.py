"""Names in other vocabularies, against Keras's own models."""

import dataclasses
import re

import pytest

from inception.variants import KERAS, TORCHVISION
from inception.weights.dialects import keras_config, keras_layers


def published(name: str) -> str:
    """A layer of keras.applications as the published file calls it: Keras 2 counted from 1."""
    kinds = "conv2d|batch_normalization|activation|max_pooling2d|average_pooling2d|concatenate"
    match = re.fullmatch(rf"({kinds})(?:_(\d+))?", name)
    return f"{match[1]}_{int(match[2] or 0) + 1}" if match else {"input_layer": "input_1"}.get(name, name)


@pytest.fixture(scope="module")
def peers():
    import keras

    keras.backend.clear_session()
    peers = {}
    for top in (True, False):
        keras.backend.clear_session()  # its layer names count on from the last model
        peers[top] = keras.applications.InceptionV3(weights=None, include_top=top)
    return peers


@pytest.mark.parametrize("top", [True, False])
def test_the_depth_order_is_keras_own(peers, top):
    variant = dataclasses.replace(KERAS, num_classes=1000 if top else 0)
    described = [layer.name for layer in keras_config.describe(variant).by_depth()]
    assert described == [published(layer.name) for layer in peers[top].layers]


def test_66_of_94_convolutions_stand_elsewhere_than_they_were_made():
    order = [layer.name for layer in keras_config.describe(KERAS).by_depth() if layer.kind == "Conv2D"]
    moved = sum(name != f"conv2d_{i}" for i, name in enumerate(order, 1))
    assert moved == 66
    assert [int(name.removeprefix("conv2d_")) - 1 for name in order[:11]] == [0, 1, 2, 3, 4, 8, 6, 9, 5, 7, 10]


def test_layers_are_named_as_in_the_published_file():
    layers = keras_layers.layers(TORCHVISION.table())
    assert layers["Conv2d_1a_3x3"] == "conv2d_1"
    assert layers["Mixed_7c/Branch_3/Conv2d_0b_1x1"] == "conv2d_94"
    assert (layers["Mixed_5b"], layers["Mixed_6a"], layers["Mixed_7c"]) == ("mixed0", "mixed3", "mixed10")
    assert (layers["Mixed_7b/Branch_1"], layers["Mixed_7c/Branch_1"]) == ("mixed9_0", "mixed9_1")
    assert layers["AuxLogits/Conv2d_2a_5x5"] == "conv2d_96"
    assert len(set(layers.values())) == len(layers)
    assert keras_layers.unit("conv2d_7") == ("batch_normalization_7", "activation_7")


def test_creation_order_is_the_number_whatever_it_starts_at():
    found = ["conv2d_10", "conv2d_9", "conv2d_transpose_1", "conv2d", "dense", "conv2d_1"]
    assert keras_layers.in_creation_order(found, "conv2d") == ["conv2d", "conv2d_1", "conv2d_9", "conv2d_10"]
