"""The TensorFlow engine: a graph without variables, batches in pieces, and every operation as NumPy computes it."""

import numpy as np
import pytest
import tensorflow as tf
from made import NARROW_NOTOP, random_weights
from reference import floats

from inception.inference import plan as plans
from inception.inference import tensorflow as engine


@pytest.fixture(scope="module")
def plan():
    return plans.plan(random_weights(NARROW_NOTOP), ("Conv2d_2a_3x3", "MaxPool_3a_3x3"))


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 9])
def test_pieces_make_the_batch_again_in_its_order(count):
    sizes = []

    def call(images):
        sizes.append(len(images))
        return [images * 2, images.sum((1, 2))]

    images = np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3)
    twice, sums = engine._in_pieces(call, 2)(images)
    np.testing.assert_array_equal(twice, images * 2)
    np.testing.assert_array_equal(sums, images.sum((1, 2)))
    assert max(sizes) <= 3 and sum(sizes) == count  # two pieces at least, or the whole batch at once


def test_the_input_is_what_the_plan_takes(plan):
    spec = engine.spec_of(plan, 4, (75, 80))
    assert (spec.shape.as_list(), spec.dtype, spec.name) == ([4, 75, 80, 3], tf.float32, plans.IMAGES)
    pixels = plans.plan(random_weights(NARROW_NOTOP), ("PreLogits",), pixels=True)
    assert engine.spec_of(pixels).dtype == tf.uint8 and engine.spec_of(pixels).shape.as_list() == [None] * 3 + [3]


def test_the_graph_holds_constants_alone_and_gives_what_eager_mode_does(plan):
    graph = tf.Graph()
    with graph.as_default():
        engine.outputs_of(plan, tf.compat.v1.placeholder(tf.float32, [None, None, None, 3]))
    kinds = {operation.type for operation in graph.get_operations()}
    assert "Conv2D" in kinds and not {kind for kind in kinds if "Var" in kind}
    images = floats(2)
    expected = engine.outputs_of(plan, tf.constant(images))
    for name, array in zip(plan.end_points, engine.frozen(plan)(images), strict=True):
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5 * scale, err_msg=name)


def test_threads_that_come_too_late_are_refused():
    tf.constant(1.0) + 1  # TensorFlow has its threads now
    with pytest.raises(ValueError, match="threads=77 comes too late for TensorFlow"):
        engine._set_threads(77)


OPERATIONS = engine._Tensors()
X = np.random.default_rng(0).normal(size=(1, 4, 4, 2)).astype(np.float32)


@pytest.mark.parametrize("relu", [False, True])
def test_scale(relu):
    rng = np.random.default_rng(1)
    scale, offset = rng.normal(size=(2, 2)).astype(np.float32)
    kind = type("Scale", (), {"scale": scale, "offset": offset, "relu": relu})
    expected = X * scale + offset
    np.testing.assert_allclose(OPERATIONS.scale(kind, X), np.maximum(expected, 0) if relu else expected, rtol=1e-6)
    assert OPERATIONS.scale(type("Scale", (), {"scale": None, "offset": None, "relu": False}), X) is X


def test_windows_with_borders_count_the_zeros_outside():
    fields = {"kernel": (3, 3), "stride": 1, "padding": "SAME"}
    inside = OPERATIONS.window(type("Window", (), fields | {"kind": "avg", "borders": None}), X)
    counted = OPERATIONS.window(type("Window", (), fields | {"kind": "avg", "borders": ((1, 1), (1, 1))}), X)
    np.testing.assert_allclose(inside[0, 0, 0], X[0, :2, :2].mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(counted[0, 0, 0], X[0, :2, :2].sum((0, 1)) / 9, rtol=1e-5)
    largest = OPERATIONS.window(type("Window", (), fields | {"kind": "max", "borders": None}), X)
    np.testing.assert_array_equal(largest[0, 0, 0], X[0, :2, :2].max((0, 1)))
