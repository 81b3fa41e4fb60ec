"""Our slim network against tf-slim's own: the same graph, name by name, and the same numbers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import slim_oracle as oracle
import tensorflow as tf
import tf_slim as slim

from inception.architecture import END_POINTS
from inception.builders import slim as ours

v1 = tf.compat.v1

ADDED = {"AvgPool_1a"}  # the end point that the later nets/inception_v3.py added to tf-slim's

TF_SLIM_TEST_FILE = """
import sys, unittest
import tf_slim.nets
from inception.builders import slim
sys.modules["tf_slim.nets.inception_v3"] = tf_slim.nets.inception_v3 = slim
from tf_slim.nets import inception_v3_test
assert inception_v3_test.inception_v3 is slim
unittest.main(module=inception_v3_test, argv=["tests"])
"""


def test_tf_slims_own_test_file_passes():
    """Their file, our module in place of theirs, tf_keras out of reach. Takes about 40 s."""
    blocked = "import sys; sys.modules['tf_keras'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocked + TF_SLIM_TEST_FILE],
        cwd=Path(ours.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"Ran 16 tests in", done.stderr)
    assert re.search(r"^OK \(skipped=1\)$", done.stderr, re.M)  # the one is TensorFlow's own `test_session`


# --- Numbers -----------------------------------------------------------------------------


def numbers(module, size, batch, training, gradients, **options):
    """End points, gradients of all variables and the moving averages after one update."""
    with tf.Graph().as_default():
        inputs = v1.placeholder(tf.float32, [batch, size, size, 3])
        with slim.arg_scope(module.inception_v3_arg_scope(batch_norm_decay=0.75)):
            logits, end_points = module.inception_v3(
                inputs, 11, is_training=training, dropout_keep_prob=1.0, **options
            )
        fetches = {f"end point {name}": x for name, x in end_points.items() if name not in ADDED}
        if gradients:
            heads = [logits, end_points.get("AuxLogits", tf.zeros([]))]
            losses = [tf.reduce_sum(tf.square(head)) for head in heads]
            loss = tf.add_n([*losses, *v1.losses.get_regularization_losses()])
            variables = v1.trainable_variables()
            for v, gradient in zip(variables, tf.gradients(loss, variables), strict=True):
                fetches[f"gradient of {v.op.name}"] = gradient
        with v1.Session() as session:
            oracle.initialize(session, oracle.random_values(oracle.shapes()))
            feed = {inputs: oracle.images(size, batch)}
            values = session.run(fetches, feed)
            session.run(v1.get_collection(v1.GraphKeys.UPDATE_OPS), feed)
            moving = {f"moved {v.op.name}": v for v in v1.get_collection("moving_vars")}
            return values | session.run(moving)


NARROW = {"depth_multiplier": 0.1}
NETWORKS = {
    "inference at 299, whole width": (299, 1, False, False, {}),
    "gradients at 299": (299, 2, True, True, {"depth_multiplier": 0.25}),
    "inference at 107": (107, 2, False, True, NARROW),
    "training at 107": (107, 2, True, True, NARROW),
    "training at 150": (150, 2, True, True, NARROW),
    "inference at 75": (75, 2, False, False, NARROW | {"create_aux_logits": False}),
    "training at 75": (75, 3, True, True, NARROW | {"create_aux_logits": False}),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_same_numbers(network):
    size, batch, training, gradients, options = NETWORKS[network]
    mine = numbers(ours, size, batch, training, gradients, **options)
    slims = numbers(oracle.theirs, size, batch, training, gradients, **options)
    assert mine.keys() == slims.keys()
    heads = 3 if options.get("create_aux_logits") is False else 4
    assert sum(name.startswith("end point") for name in mine) == 18 + heads
    for name, value in slims.items():
        assert oracle.difference(mine[name], value) <= 1e-5, name
        assert np.isfinite(value).all()
        if not name.startswith("gradient"):
            assert np.ptp(value) > 0, name  # a dead or constant layer would prove nothing


# --- Names -------------------------------------------------------------------------------


def graph_of(module, size=299, classes=11, batch=2, arg_scope=None, **options):
    with tf.Graph().as_default() as graph:
        inputs = v1.placeholder(tf.float32, [batch, size, size, 3])
        with slim.arg_scope(module.inception_v3_arg_scope() if arg_scope is None else arg_scope(module)):
            _, end_points = module.inception_v3(inputs, classes, **options)
        return graph, {name: x.name for name, x in end_points.items() if name not in ADDED}


def assert_same_graph(mine, slims):
    (graph, end_points), (their_graph, their_end_points) = mine, slims
    assert list(end_points.items()) == list(their_end_points.items())
    nodes, their_nodes = oracle.nodes(graph), oracle.nodes(their_graph)
    assert nodes.keys() == their_nodes.keys()
    assert [name for name in nodes if nodes[name] != their_nodes[name]] == []
    assert oracle.collections(graph) == oracle.collections(their_graph)


def test_same_graph_at_full_size():
    """Every op outside batch norm is equal with its type, inputs and attributes; and the published counts."""
    mine, slims = (graph_of(module, classes=1001) for module in (ours, oracle.theirs))
    assert_same_graph(mine, slims)
    graph, end_points = mine
    counts = {key: len(graph.get_collection(key)) for key in graph.get_all_collection_keys()}
    assert counts["variables"] == counts["model_variables"] == 388
    assert counts["update_ops"] == counts["moving_vars"] == 192
    assert counts["regularization_losses"] == 98
    assert end_points["Logits"] == "InceptionV3/Logits/SpatialSqueeze:0"
    assert end_points["Predictions"] == "InceptionV3/Predictions/Reshape_1:0"
    shapes = {v.op.name: v.shape for v in graph.get_collection("variables")}
    assert shapes["InceptionV3/AuxLogits/Conv2d_2a_5x5/weights"] == [5, 5, 128, 768]
    assert shapes["InceptionV3/Logits/Conv2d_1c_1x1/weights"] == [1, 1, 2048, 1001]


def own_scope(module):
    """A user's scope with slim's own batch norm, and gamma asked for by a scope of its own."""
    with (
        slim.arg_scope([slim.batch_norm], epsilon=0.01),
        slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, activation_fn=tf.nn.elu) as scope,
    ):
        return scope


GRAPHS = {
    "unsqueezed, own predictions, own scope": {
        "spatial_squeeze": False,
        "prediction_fn": lambda logits, scope: tf.sigmoid(logits, name=scope),
        "scope": "Other",
        "size": 150,
    },
    "no auxiliary head": {"create_aux_logits": False, "size": 75, "is_training": False},
    "unknown size": {"size": None, "is_training": False},
    "unknown batch": {"batch": None, "size": 107, "depth_multiplier": 0.1, "min_depth": 8},
    "346: a 9x9 map under an 8x8 window": {"size": 346, "is_training": False},
    "512: maps of logits": {"size": 512, "is_training": False, "spatial_squeeze": False},
    "a user's arg scope": {"size": 150, "arg_scope": own_scope},
    "arguments of the arg scope": {
        "size": 150,
        "arg_scope": lambda module: module.inception_v3_arg_scope(0.1, "stats", 0.9, 0.1, ["u1", "u2"]),
    },
}


@pytest.mark.parametrize("options", GRAPHS)
def test_same_graph(options):
    mine, slims = (graph_of(module, **GRAPHS[options]) for module in (ours, oracle.theirs))
    assert_same_graph(mine, slims)
    fused = "FusedBatchNormV3"
    epsilons, theirs = (
        [op.get_attr("epsilon") for op in g.get_operations() if op.type == fused] for g, _ in (mine, slims)
    )
    assert epsilons == theirs
    assert len(epsilons) >= 94


def test_reuse_is_the_same_graph():
    def twice(module):
        with tf.Graph().as_default() as graph, slim.arg_scope(module.inception_v3_arg_scope()):
            module.inception_v3(v1.placeholder(tf.float32, [2, 107, 107, 3]), 5)
            count = len(v1.global_variables())
            inputs = v1.placeholder(tf.float32, [4, 107, 107, 3])
            _, end_points = module.inception_v3(inputs, 5, is_training=False, reuse=True)
            assert len(v1.global_variables()) == count == 388
            return graph, {name: x.name for name, x in end_points.items() if name not in ADDED}

    assert_same_graph(twice(ours), twice(oracle.theirs))


@pytest.fixture(scope="module")
def their_base():
    """The op names of tf-slim's base, with the place in them where each end point is ready."""
    with tf.Graph().as_default() as graph, slim.arg_scope(oracle.theirs.inception_v3_arg_scope()):
        _, end_points = oracle.theirs.inception_v3_base(v1.placeholder(tf.float32, [2, 75, 75, 3]))
        return list(oracle.nodes(graph)), end_points


@pytest.mark.parametrize("final", END_POINTS)
def test_each_final_endpoint(final, their_base):
    ops, their_end_points = their_base
    with tf.Graph().as_default() as graph, slim.arg_scope(ours.inception_v3_arg_scope()):
        net, end_points = ours.inception_v3_base(v1.placeholder(tf.float32, [2, 75, 75, 3]), final)
        built = list(oracle.nodes(graph))
    last = ops.index(their_end_points[final].op.name)
    assert built == ops[: last + 1]
    assert list(end_points) == list(END_POINTS[: END_POINTS.index(final) + 1])
    assert end_points[final] is net
    for name, x in end_points.items():
        assert (x.name, x.shape) == (their_end_points[name].name, their_end_points[name].shape)
