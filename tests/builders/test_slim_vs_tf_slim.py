"""Our slim network against tf-slim's own: the same graph, name by name, and the same numbers."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from builders import slim_oracle as oracle
from made import first

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


@pytest.mark.thorough
def test_tf_slims_own_test_file_passes():
    """Their file, our module in place of theirs, tf_keras out of reach."""
    blocked = "import sys; sys.modules['tf_keras'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocked + TF_SLIM_TEST_FILE],
        check=False,
        cwd=Path(ours.__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"Ran 16 tests in", done.stderr)
    assert re.search(r"^OK \(skipped=1\)$", done.stderr, re.MULTILINE)  # the one is TensorFlow's own `test_session`


def published(module):
    return module.inception_v3_arg_scope(batch_norm_decay=0.75)


def positional(module):
    return module.inception_v3_arg_scope(0.1, "stats", 0.75, 0.1, ["first", "second"])


def own(module):
    """A user's own scope, with slim's own batch norm, and a scope of batch norm beside it."""
    with (
        slim.arg_scope([slim.batch_norm], epsilon=0.01, decay=0.75),
        slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm, activation_fn=tf.nn.elu) as scope,
    ):
        return scope


class Built:
    """One network in a graph of its own, by one of the two modules."""

    def __init__(self, module, size, batch=2, classes=11, arg_scope=published, **options):
        self.graph, self.size = tf.Graph(), size
        with self.graph.as_default(), slim.arg_scope(arg_scope(module)):
            self.inputs = v1.placeholder(tf.float32, [batch, size, size, 3])
            options["dropout_keep_prob"] = 1.0
            self.logits, self.end_points = module.inception_v3(self.inputs, classes, **options)

    def gradients(self):
        """{name: gradient} for all variables, of a loss on both heads and the weights."""
        with self.graph.as_default():
            heads = [self.logits, self.end_points.get("AuxLogits", tf.zeros([]))]
            losses = [tf.reduce_sum(tf.square(head)) for head in heads]
            loss = tf.add_n([*losses, *v1.losses.get_regularization_losses()])
            variables = v1.trainable_variables()
            gradients = tf.gradients(loss, variables)
            return {f"gradient of {v.op.name}": g for v, g in zip(variables, gradients, strict=True)}

    def numbers(self, weights, gradients, updates):
        """Every end point, gradient, and moving average after one update, for given weights and images."""
        fetches = {f"end point {name}": x for name, x in self.end_points.items() if name not in ADDED}
        fetches |= self.gradients() if gradients else {}
        with self.graph.as_default(), v1.Session() as session:
            oracle.initialize(session, weights)
            feed = {self.inputs: oracle.images(self.size, self.inputs.shape[0] or 2)}
            values = session.run(fetches, feed)
            session.run(v1.get_collection(updates), feed)
            moving = {f"moved {v.op.name}": v for v in v1.global_variables() if "/moving_" in v.name}
            return values | session.run(moving)


NARROW = {"depth_multiplier": 0.1}
NETWORKS = {  # size, whether gradients are compared too, what is special
    "299, gradients": (299, True, {"classes": 1001} | NARROW),
    "150, user's scope": (
        150,
        False,
        {
            "arg_scope": own,
            "spatial_squeeze": False,
            "prediction_fn": lambda logits, scope: tf.sigmoid(logits, name=scope),
            "scope": "Other",
        }
        | NARROW,
    ),
    "unknown size": (None, False, {"is_training": False} | NARROW),
    "107, unknown batch": (107, False, {"batch": None, "is_training": False, "min_depth": 8} | NARROW),
    "299, full width": (299, False, {"batch": 1, "classes": 1001, "is_training": False}),
    "75, no auxiliary head": (
        75,
        False,
        {"batch": 3, "arg_scope": positional, "create_aux_logits": False} | NARROW,
    ),
}


@pytest.mark.parametrize("network", first(3, NETWORKS))
def test_same_graph_and_numbers(network):
    """Every op outside batch norm has the same name, type, inputs and attributes; every number is equal."""
    size, gradients, options = NETWORKS[network]
    mine, slims = (Built(module, size, **options) for module in (ours, oracle.theirs))

    names, their_names = ([(k, x.name) for k, x in b.end_points.items() if k not in ADDED] for b in (mine, slims))
    assert names == their_names
    assert len(names) == (21 if options.get("create_aux_logits") is False else 22)
    nodes, their_nodes = oracle.nodes(mine.graph), oracle.nodes(slims.graph)
    assert nodes.keys() == their_nodes.keys()
    assert [name for name in nodes if nodes[name] != their_nodes[name]] == []
    assert oracle.collections(mine.graph) == oracle.collections(slims.graph)
    assert oracle.batch_norms(mine.graph) == oracle.batch_norms(slims.graph)
    if network == "299, gradients":
        counts = {key: len(names) for key, names in oracle.collections(mine.graph).items()}
        assert counts["variables"] == counts["model_variables"] == 388
        assert counts["update_ops"] == counts["moving_vars"] == 192
        assert counts["regularization_losses"] == 98
        assert dict(names)["Logits"] == "InceptionV3/Logits/SpatialSqueeze:0"
        assert dict(names)["Predictions"] == "InceptionV3/Predictions/Reshape_1:0"
    if size is None:
        return

    updates = "first" if options.get("arg_scope") is positional else v1.GraphKeys.UPDATE_OPS
    with mine.graph.as_default():
        weights = oracle.random_values(oracle.shapes())
    numbers, their_numbers = (b.numbers(weights, gradients, updates) for b in (mine, slims))
    assert numbers.keys() == their_numbers.keys()
    for name, value in their_numbers.items():
        assert oracle.difference(numbers[name], value) <= 1e-5, name
        assert np.isfinite(value).all()
        if not name.startswith("gradient"):
            assert np.ptp(value) > 0, name  # a dead or constant layer would prove nothing


@pytest.mark.parametrize("name", ["inception_v3", "inception_v3_base", "inception_v3_arg_scope"])
def test_signatures_begin_with_tf_slims(name):
    mine, slims = (
        [(p.name, p.default) for p in inspect.signature(getattr(module, name)).parameters.values()]
        for module in (ours, oracle.theirs)
    )
    assert mine[: len(slims)] == slims
    assert ours.inception_v3.default_image_size == oracle.theirs.inception_v3.default_image_size


def bare():
    """No batch norm: these graphs are quicker to build."""
    with slim.arg_scope([slim.conv2d], normalizer_fn=None) as scope:
        return scope


@pytest.fixture(scope="module")
def their_base():
    """The op names of tf-slim's base, with the place in them where each end point is ready."""
    with tf.Graph().as_default() as graph, slim.arg_scope(bare()):
        _, end_points = oracle.theirs.inception_v3_base(v1.placeholder(tf.float32, [2, 75, 75, 3]))
        return list(oracle.nodes(graph)), end_points


@pytest.mark.parametrize("final", END_POINTS)
def test_each_final_endpoint(final, their_base):
    ops, their_end_points = their_base
    with tf.Graph().as_default() as graph, slim.arg_scope(bare()):
        net, end_points = ours.inception_v3_base(v1.placeholder(tf.float32, [2, 75, 75, 3]), final)
        built = list(oracle.nodes(graph))
    last = ops.index(their_end_points[final].op.name)
    assert built == ops[: last + 1]
    assert list(end_points) == list(END_POINTS[: END_POINTS.index(final) + 1])
    assert end_points[final] is net
    for name, x in end_points.items():
        assert (x.name, x.shape) == (their_end_points[name].name, their_end_points[name].shape)


WINDOWS = [slim.conv2d, slim.max_pool2d, slim.avg_pool2d]
AROUND = {  # arg scopes of a user's, inside the published one
    "stride and padding": {"stride": [1, 3], "padding": "SAME"},
    "collections": {"outputs_collections": "mine"},
}


@pytest.mark.parametrize("around", AROUND)
def test_a_users_arg_scope_reaches_what_slims_reaches(around):
    """The head's pool and last convolution too, to which slim gives no stride, and no padding to the latter."""
    graphs = []
    for module in (ours, oracle.theirs):
        with tf.Graph().as_default() as graph, slim.arg_scope(bare()), slim.arg_scope(WINDOWS, **AROUND[around]):
            inputs = v1.placeholder(tf.float32, [2, 450, 450, 3])
            with slim.arg_scope([slim.conv2d], biases_initializer=v1.ones_initializer(), trainable=False):
                module.inception_v3(inputs, 7, spatial_squeeze=False, **NARROW)
        graphs.append(graph)
    mine, slims = map(oracle.nodes, graphs)
    assert mine.keys() == slims.keys()
    assert [name for name in mine if mine[name] != slims[name]] == []
    assert len({*map(str, map(oracle.collections, graphs))}) == 1
    assert ("mine" in oracle.collections(graphs[0])) == (around == "collections")
