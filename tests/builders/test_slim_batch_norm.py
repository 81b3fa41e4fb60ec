"""Our batch norm against tf-slim's: variables, collections, outputs, gradients and moving averages."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from builders import slim_oracle as oracle

from inception.builders.slim_batch_norm import batch_norm

v1 = tf.compat.v1

UPDATE_OPS = v1.GraphKeys.UPDATE_OPS
X = np.random.default_rng(0).normal(1.5, 2, [3, 5, 4, 6]).astype(np.float32)
X2 = X.reshape(-1, 6)


def outcome(layer, x, flag=True, steps=2, unknown=False, **options):
    """A batch norm's numbers (output, gradients, variables after `steps` updates), shapes, collections."""
    with tf.Graph().as_default() as graph:
        inputs = v1.placeholder(x.dtype, [None] * (x.ndim - 1) + [x.shape[-1]] if unknown else x.shape)
        is_training, feed = flag, {inputs: x}
        if flag in ("feed True", "feed False"):
            is_training = v1.placeholder(tf.bool, [])
            feed[is_training] = flag == "feed True"
        with v1.variable_scope("net"):
            y = layer(inputs, is_training=is_training, **options)
        assert y.shape.as_list() == inputs.shape.as_list()
        trainable = v1.trainable_variables()
        weight = np.random.default_rng(1).normal(0, 1, x.shape)
        gradients = dict(
            zip(
                ["gradient of x", *(f"gradient of {v.op.name}" for v in trainable)],
                tf.gradients(tf.reduce_sum(y * weight), [inputs, *trainable]),
                strict=True,
            )
        )
        updates = v1.get_collection(options.get("updates_collections") or UPDATE_OPS)
        with v1.Session() as session:
            oracle.initialize(session, oracle.random_values(oracle.shapes()))
            numbers = session.run({"y": y, **gradients}, feed)
            for _ in range(steps):
                session.run(updates, feed)
            for v in v1.global_variables():
                numbers[v.op.name] = session.run(v)
        return numbers, oracle.shapes(), oracle.collections(graph), len(updates)


SETTINGS = {
    "training": {"flag": True},
    "inference": {"flag": False},
    "fed True": {"flag": "feed True"},
    "fed False": {"flag": "feed False"},
    "no beta": {"center": False},
    "decay, epsilon": {"decay": 0.9997, "epsilon": 0.1},
    "not fused": {"fused": False},
    "not fused, inference": {"fused": False, "flag": False},
    "not fused, fed": {"fused": False, "flag": "feed True"},
    "in place": {"updates_collections": None, "decay": 0.75},
    "in place, fed False": {"updates_collections": None, "decay": 0.75, "flag": "feed False"},
    "in place, inference": {"updates_collections": None, "flag": False},
    "own update collection": {"updates_collections": "mine", "decay": 0.75},
    "own update collection, fed": {"updates_collections": "mine", "decay": 0.75, "flag": "feed True"},
    "zero debias": {"zero_debias_moving_mean": True, "decay": 0.75},
    "zero debias, fed False": {"zero_debias_moving_mean": True, "decay": 0.75, "flag": "feed False"},
    "NCHW": {"data_format": "NCHW"},
    "NCHW, not fused": {"data_format": "NCHW", "fused": False},
    "activation": {"activation_fn": tf.nn.relu},
    "frozen": {"trainable": False},
    "frozen, in place": {"trainable": False, "updates_collections": None, "decay": 0.75},
    "one collection": {"variables_collections": ["all"]},
    "collections": {
        "variables_collections": {"beta": ["b"], "moving_mean": ["m", "n"]},
        "outputs_collections": "out",
    },
    "initializers": {
        "param_initializers": {"beta": tf.constant_initializer(3.0)},
        "param_regularizers": {"beta": tf.nn.l2_loss},
    },
    "scope": {"scope": "bn"},
    "unknown sizes": {"unknown": True},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_equals_tf_slims(setting):
    ours, shapes, collections, updates = outcome(batch_norm, X, **SETTINGS[setting])
    theirs, their_shapes, their_collections, their_updates = outcome(slim.batch_norm, X, **SETTINGS[setting])
    assert list(shapes.items()) == list(their_shapes.items())
    assert updates == their_updates
    for key in {*collections, *their_collections} - {"mine", UPDATE_OPS}:
        assert sorted(collections.get(key, [])) == sorted(their_collections.get(key, [])), key
    assert {k: oracle.difference(v, theirs[k]) for k, v in ours.items()} == pytest.approx(
        dict.fromkeys(theirs, 0), abs=1e-6
    )


@pytest.mark.parametrize("options", [{}, {"flag": False}, {"updates_collections": None, "decay": 0.75}])
def test_scale_equals_tf_slims(options):
    # tf-slim makes gamma before beta in its Keras layer and after it elsewhere; ours is always after.
    ours, shapes, *_ = outcome(batch_norm, X, scale=True, **options)
    theirs, their_shapes, *_ = outcome(slim.batch_norm, X, scale=True, **options)
    assert list(shapes) == [f"net/BatchNorm/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance")]
    assert shapes == their_shapes
    assert all(oracle.difference(ours[k], theirs[k]) <= 1e-6 for k in theirs)


@pytest.mark.parametrize("flag", [True, False, "feed True"])
def test_rank_two_equals_tf_slims(flag):
    ours, theirs = (outcome(layer, X2, flag)[0] for layer in (batch_norm, slim.batch_norm))
    assert all(oracle.difference(ours[k], theirs[k]) <= 1e-6 for k in theirs)


def by_hand(x, decay, biased=False):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=0 if biased else 1)
    return (1 - decay) * mean, decay + (1 - decay) * variance


@pytest.mark.parametrize("fused", [True, False])
def test_moving_averages_by_hand(fused):
    """The fused op moves towards the unbiased variance, the elementary ops towards the biased one."""
    with tf.Graph().as_default():
        batch_norm(tf.constant(X), decay=0.75, fused=fused)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(v1.get_collection(UPDATE_OPS))
            _, mean, variance = session.run(v1.global_variables())
    expected_mean, expected_variance = by_hand(X, 0.75, biased=not fused)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5)
    np.testing.assert_allclose(variance, expected_variance, rtol=1e-5)


def test_zero_debias_gives_the_batch_mean_at_once():
    with tf.Graph().as_default():
        batch_norm(tf.constant(X), zero_debias_moving_mean=True)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(v1.get_collection(UPDATE_OPS))
            mean = session.run(v1.global_variables("BatchNorm/moving_mean")[0])
    np.testing.assert_allclose(mean, X.mean((0, 1, 2)), rtol=1e-3)  # float32: 1 - 0.999


def test_half_precision_keeps_float32_statistics():
    with tf.Graph().as_default():
        y = batch_norm(tf.constant(X, tf.float16))
        assert y.dtype == tf.float16
        assert {v.dtype.base_dtype for v in v1.global_variables()} == {tf.float32}
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            normal = (X - X.mean((0, 1, 2))) / X.std((0, 1, 2))
            np.testing.assert_allclose(session.run(y), normal, atol=5e-3)


def test_rank_three_and_float64_are_normalized():
    with tf.Graph().as_default():
        y3 = batch_norm(tf.constant(X[0]), scope="three")
        y64 = batch_norm(tf.constant(X, tf.float64), scope="double")
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            y3, y64 = session.run([y3, y64])
    np.testing.assert_allclose(y3.mean((0, 1)), 0, atol=1e-6)
    np.testing.assert_allclose(y3.std((0, 1)), 1, atol=1e-3)
    assert y64.dtype == np.float64
    np.testing.assert_allclose(y64.mean((0, 1, 2)), 0, atol=1e-14)


def test_reuse_shares_variables_and_adds_updates():
    with tf.Graph().as_default():
        x = tf.constant(X)
        batch_norm(x, scope="bn")
        batch_norm(x, scope="bn", reuse=True)
        batch_norm(x, scope="bn", reuse=True, is_training=False)
        assert list(oracle.shapes()) == ["bn/beta", "bn/moving_mean", "bn/moving_variance"]
        assert len(v1.get_collection(UPDATE_OPS)) == 4
        with pytest.raises(ValueError, match="already exists"):
            batch_norm(x, scope="bn")


def test_statistics_are_synchronized_as_tf_slims():
    with tf.Graph().as_default():
        batch_norm(tf.constant(X), scope="ours")
        slim.batch_norm(tf.constant(X), scope="theirs")
        for ours, theirs in zip(v1.global_variables("ours"), v1.global_variables("theirs"), strict=True):
            assert (ours.synchronization, ours.aggregation) == (theirs.synchronization, theirs.aggregation)
            assert ours.trainable == theirs.trainable


def test_partitioner_leaves_the_statistics_whole():
    with tf.Graph().as_default(), v1.variable_scope("s", partitioner=v1.fixed_size_partitioner(2)):
        y = batch_norm(tf.constant(X), is_training=False)
        assert list(oracle.shapes()) == [
            "s/BatchNorm/beta/part_0",
            "s/BatchNorm/beta/part_1",
            "s/BatchNorm/moving_mean",
            "s/BatchNorm/moving_variance",
        ]
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            np.testing.assert_allclose(session.run(y), X / np.sqrt(1.001), rtol=1e-5)


@pytest.mark.parametrize("named", [slim.batch_norm, batch_norm])
def test_one_arg_scope_reaches_both(named):
    with tf.Graph().as_default(), slim.arg_scope([named], scale=True, is_training=False):
        slim.batch_norm(tf.constant(X), scope="theirs")
        batch_norm(tf.constant(X), scope="ours")
        assert {v.op.name for v in v1.trainable_variables()} == {
            "theirs/beta",
            "theirs/gamma",
            "ours/beta",
            "ours/gamma",
        }
        assert v1.get_collection(UPDATE_OPS) == []


def test_signature_is_slims():
    def signature(function):
        return {p.name: p.default for p in inspect.signature(inspect.unwrap(function)).parameters.values()}

    assert signature(batch_norm) == signature(slim.batch_norm)


@pytest.mark.parametrize("argument", [{"batch_weights": [1.0]}, {"renorm": True}, {"adjustment": tf.ones_like}])
def test_unsupported_arguments_are_named(argument):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=f"not support {next(iter(argument))}"):
        batch_norm(tf.constant(X), **argument)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ([2, 3, 3, 4], {"data_format": "HWCN"}, "expected 'NHWC' or 'NCHW'"),
        ([2, 3, 3, None], {}, "known channels"),
        (None, {}, "known channels"),
        ([2, 3, 3, 4], {"is_training": None}, "is_training is None"),
    ],
)
def test_mistakes_are_value_errors(shape, options, message):
    with tf.Graph().as_default(), pytest.raises(ValueError, match=message):
        batch_norm(v1.placeholder(tf.float32, shape), **options)
