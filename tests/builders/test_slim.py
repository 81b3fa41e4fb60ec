"""What our slim network adds to tf-slim's, what it refuses, and where it can be built."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_slim as slim
from builders import slim_oracle as oracle

from inception.builders.slim import evaluate, inception_v3, inception_v3_arg_scope, inception_v3_base

v1 = tf.compat.v1

ROOT = Path(__file__).parents[2]
NARROW = {"depth_multiplier": 0.1, "min_depth": 4}
FIRST = "Conv2d_1a_3x3"


def placeholder(*size, batch=2):
    return v1.placeholder(tf.float32, [batch, *size, 3])


def plain():
    """No batch norm, and that on purpose: quick to build."""
    return slim.arg_scope(inception_v3_arg_scope(use_batch_norm=False))


def weights(build, size):
    """Random weights for what `build` builds."""
    with tf.Graph().as_default():
        build(placeholder(size, size))
        return oracle.random_values(oracle.shapes())


# --- Sizes -------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "kernel"), [(224, 3), (256, 4)])
def test_auxiliary_variable_is_named_after_its_size(size, kernel):
    with tf.Graph().as_default(), plain():
        logits, end_points = inception_v3(placeholder(size, size), 7, **NARROW)
        scope = f"InceptionV3/AuxLogits/Conv2d_2a_{kernel}x{kernel}"
        assert oracle.shapes()[f"{scope}/weights"] == (kernel, kernel, 12, 76)
        assert logits.shape == end_points["AuxLogits"].shape == [2, 7]


def test_not_square():
    with tf.Graph().as_default(), plain():
        logits, end_points = inception_v3(placeholder(299, 150), 7, **NARROW)
        assert "InceptionV3/AuxLogits/Conv2d_2a_5x1/weights" in oracle.shapes()
        assert end_points["Mixed_7c"].shape.as_list()[:3] == [2, 8, 3]
        assert logits.shape == [2, 7]


def test_large_images_give_maps_of_logits():
    with tf.Graph().as_default(), plain():
        logits, end_points = inception_v3(placeholder(512, 512), 7, spatial_squeeze=False, **NARROW)
        assert logits.shape == [2, 4, 4, 7]
        assert end_points["AuxLogits"].shape == [2, 5, 5, 7]


def test_global_pool_of_images_of_any_size():
    """One row of logits for an image of any size, the mean over the whole map."""
    with tf.Graph().as_default(), plain():
        inputs = placeholder(None, None, batch=None)
        options = {"is_training": False, "create_aux_logits": False, "global_pool": True}
        logits, end_points = inception_v3(inputs, 7, **options, **NARROW)
        assert list(end_points)[18:] == ["global_pool", "PreLogits", "Logits", "Predictions"]
        assert end_points["global_pool"].op.name == "InceptionV3/Logits/GlobalPool"
        assert logits.shape.as_list() == [None, 7]
        with v1.Session() as session:
            oracle.initialize(session, oracle.random_values(oracle.shapes()))
            for size, last in ((120, 2), (400, 11)):
                values = session.run(end_points, {inputs: oracle.images(size, batch=1)})
                assert values["Mixed_7c"].shape[:3] == (1, last, last)
                mean = values["Mixed_7c"].mean((1, 2), keepdims=True)
                np.testing.assert_allclose(values["global_pool"], mean, rtol=1e-4, atol=1e-6)
                assert values["Predictions"].sum() == pytest.approx(1)


@pytest.mark.parametrize(("num_classes", "global_pool"), [(None, False), (0, True)])
def test_no_classes_gives_the_pooled_features(num_classes, global_pool):
    with tf.Graph().as_default() as graph, plain():
        features, end_points = inception_v3(placeholder(75, 107), num_classes, global_pool=global_pool, **NARROW)
        assert list(end_points)[18:] == ["global_pool" if global_pool else "AvgPool_1a"]
        assert list(end_points.values())[-1] is features
        assert features.shape == [2, 1, 1, 203]  # 2048, narrowed convolution by convolution
        assert len(oracle.shapes()) == 2 * 94  # no head
        assert not [op for op in graph.get_operations() if "Dropout" in op.name]


MISTAKES = {
    "74 pixels": (74, {"create_aux_logits": False}, "at least 75x75"),
    "75 pixels with the head": (
        75,
        {},
        "AuxLogits/AvgPool_1a_5x5: a map of 3x3 .* 107x107 with the AuxLogits head",
    ),
    "too large to squeeze": (512, {}, "AuxLogits of a 512x512 image is a map of 5x5.*spatial_squeeze=False"),
    "logits too large to squeeze": (
        400,
        {"create_aux_logits": False},
        "Logits of a 400x400 .* 2x2.*global_pool=True",
    ),
    "depth_multiplier 0": (299, {"depth_multiplier": 0}, "depth_multiplier is 0"),
    "depth_multiplier below": (299, {"depth_multiplier": -0.1}, "depth_multiplier is -0.1"),
    "classes": (299, {"num_classes": -1}, "num_classes is -1"),
    "border": (299, {"border": "torch"}, "border is 'torch'; expected 'exclude' or 'include'"),
    "last_pool": (299, {"last_pool": "mean"}, "last_pool is 'mean'; expected 'avg' or 'max'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_found_before_any_op_is_made(mistake):
    size, options, message = MISTAKES[mistake]
    with tf.Graph().as_default() as graph, plain():
        inputs = placeholder(size, size)
        with pytest.raises(ValueError, match=message):
            inception_v3(inputs, **options)
        assert [op.name for op in graph.get_operations()] == ["Placeholder"]


def test_mistakes_of_the_base():
    with tf.Graph().as_default() as graph, plain():
        for inputs, options, message in [
            (placeholder(74, 74), {}, "at least 75x75"),
            (placeholder(299, 299), {"final_endpoint": "Mixed_8a"}, "Unknown final_endpoint 'Mixed_8a'"),
            (placeholder(299, 299), {"depth_multiplier": 0}, "depth_multiplier is 0"),
            (v1.placeholder(tf.float32, [299, 299, 3]), {}, r"inputs have shape \(299, 299, 3\)"),
            (v1.placeholder(tf.float32, [2, 299, 299, None]), {}, "known number of channels"),
            (v1.placeholder(tf.float32), {}, "inputs have shape <unknown>"),
        ]:
            with pytest.raises(ValueError, match=message):
                inception_v3_base(inputs, **options)
        assert {op.type for op in graph.get_operations()} == {"Placeholder"}
        # 74 pixels are enough for a part of the base.
        assert inception_v3_base(placeholder(74, 74), "Mixed_5b", **NARROW)[0].shape[1:3] == [6, 6]


def test_eager_mode_is_refused():
    with plain(), pytest.raises(ValueError, match=r"inside a tf\.Graph or tf\.compat\.v1\.wrap_function"):
        inception_v3(tf.zeros([1, 299, 299, 3]))


# --- Arg scopes --------------------------------------------------------------------------


def test_forgotten_arg_scope_is_warned_of_once():
    with tf.Graph().as_default(), slim.arg_scope([slim.conv2d], activation_fn=tf.nn.elu):
        with pytest.warns(UserWarning, match="without batch norm.*inception_v3_arg_scope") as found:
            inception_v3(placeholder(75, 75), 7, create_aux_logits=False, **NARROW)
        assert [w.filename for w in found if "batch norm" in str(w.message)] == [__file__]
        with pytest.warns(UserWarning, match="without batch norm") as found:
            inception_v3_base(placeholder(75, 75), FIRST, scope="base")
        assert [w.filename for w in found if "batch norm" in str(w.message)] == [__file__]


def test_no_warning_where_the_scope_decides():
    own = slim.arg_scope([slim.conv2d], normalizer_fn=slim.layer_norm)
    published = slim.arg_scope(inception_v3_arg_scope())
    found = {}
    for name, scope in {"plain": plain(), "own": own, "published": published}.items():
        with tf.Graph().as_default(), scope, warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*batch norm")
            inception_v3_base(placeholder(75, 75), FIRST)
            found[name] = [n.removeprefix(f"InceptionV3/{FIRST}/") for n in oracle.shapes()]
    assert found == {
        "plain": ["weights", "biases"],
        "own": ["weights", "LayerNorm/beta", "LayerNorm/gamma"],
        "published": ["weights", "BatchNorm/beta", "BatchNorm/moving_mean", "BatchNorm/moving_variance"],
    }


def first_unit(scope, around=None, **options):
    """The graph of the first unit, built in an arg scope and one around it."""
    with tf.Graph().as_default() as graph, around or slim.arg_scope([]), slim.arg_scope(scope()):
        inception_v3_base(placeholder(75, 75), FIRST, **options)
    return graph


def fused(graph):
    return [op for op in graph.get_operations() if op.type == "FusedBatchNormV3"]


def test_arguments_of_the_arg_scope():
    def graph(**options):
        return first_unit(lambda: inception_v3_arg_scope(**options))

    moved = f"InceptionV3/{FIRST}/BatchNorm/AssignMovingAvg"
    moved = [f"{moved}/AssignSubVariableOp", f"{moved}_1/AssignSubVariableOp"]
    assert oracle.collections(graph())["update_ops"] == moved
    for name in ("updates_collections", "batch_norm_updates_collections"):
        collections = oracle.collections(graph(**{name: "mine"}))
        assert (collections["mine"], collections.get("update_ops", [])) == (moved, [])
        in_place = graph(**{name: None})
        assert not in_place.get_collection("update_ops")
        ready = in_place.get_operation_by_name(f"InceptionV3/{FIRST}/BatchNorm/Identity")
        assert {op.name for op in ready.control_inputs} >= set(moved)

    assert graph(batch_norm_scale=True).get_collection("trainable_variables")[-1].op.name.endswith("gamma")
    assert fused(graph(batch_norm_epsilon=0.5))[0].get_attr("epsilon") == 0.5
    assert fused(graph(use_fused_batchnorm=False)) == []
    assert len(graph(batch_norm_var_collection="statistics").get_collection("statistics")) == 2
    assert "Elu" in {op.type for op in graph(activation_fn=tf.nn.elu).get_operations()}
    assert "Relu" not in {op.type for op in graph(activation_fn=None).get_operations()}
    losses = graph(weight_decay=0.5).get_collection("regularization_losses")
    assert [x.op.name for x in losses] == [f"InceptionV3/{FIRST}/kernel/Regularizer/l2_regularizer"]
    assert tf.get_static_value(losses[0].op.inputs[0]) == 0.5


def test_the_size_of_the_logits_map_is_that_of_a_users_arg_scope():
    """By the table the map of a 400x400 image is 2x2, which cannot be squeezed; by this scope it is 1x1."""
    with tf.Graph().as_default(), plain(), slim.arg_scope([slim.avg_pool2d], stride=4):
        logits, end_points = inception_v3(placeholder(400, 400), 7, create_aux_logits=False, **NARROW)
        assert end_points["Mixed_7c"].shape[1:3] == [11, 11]
        assert logits.shape == [2, 7]


def test_arg_scopes_of_slims_batch_norm_reach_ours():
    around = slim.arg_scope([slim.batch_norm], scale=True, is_training=False)
    graph = first_unit(inception_v3_arg_scope, around)
    assert {v.op.name.rsplit("/")[-1] for v in graph.get_collection("variables")} >= {"beta", "gamma"}
    assert [op.get_attr("is_training") for op in fused(graph)] == [False]
    assert graph.get_collection("update_ops") == []


# --- Variants ----------------------------------------------------------------------------


def test_border_include_counts_the_zeros_outside():
    """torchvision's rule: the sum over a window is always divided by nine."""

    def build(border):
        def end_points(inputs):
            with plain():
                inception_v3_base(inputs, "Mixed_5b", border=border, **NARROW)
            graph = v1.get_default_graph()
            names = {"in": "MaxPool_5a_3x3/MaxPool", "out": "Mixed_5b/Branch_3/AvgPool_0a_3x3/AvgPool"}
            return {key: graph.get_tensor_by_name(f"InceptionV3/{name}:0") for key, name in names.items()}

        return end_points

    arrays = weights(build("include"), 75)
    include, exclude = (evaluate(build(border), arrays, oracle.images(75)) for border in ("include", "exclude"))
    _, height, width, _ = include["in"].shape
    padded = np.pad(include["in"], [(0, 0), (1, 1), (1, 1), (0, 0)])
    total = sum(padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3))
    rows, columns = np.full(height, 3), np.full(width, 3)
    rows[[0, -1]] = columns[[0, -1]] = 2
    np.testing.assert_allclose(include["out"], total / 9, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(exclude["out"], total / np.outer(rows, columns)[:, :, None], rtol=1e-5, atol=1e-6)


def test_last_pool_max():
    with tf.Graph().as_default(), plain():
        inputs = placeholder(120, 120)
        _, end_points = inception_v3_base(inputs, last_pool="max", **NARROW)
        arrays = oracle.random_values(oracle.shapes())
        with v1.Session() as session:
            oracle.initialize(session, arrays)
            found = session.run(end_points, {inputs: oracle.images(120)})
    # The 2x2 maps lie whole in each 3x3 window. The variable is named as that of the average pool.
    branch = "InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1"
    pooled = found["Mixed_7b"].max((1, 2), keepdims=True)
    by_hand = np.maximum(pooled @ arrays[f"{branch}/weights"][0, 0] + arrays[f"{branch}/biases"], 0)
    last = found["Mixed_7c"][..., -by_hand.shape[-1] :]
    np.testing.assert_allclose(last, np.broadcast_to(by_hand, last.shape), rtol=1e-4, atol=1e-5)


# --- Where it is built -------------------------------------------------------------------


def narrow(inputs, **options):
    with slim.arg_scope(inception_v3_arg_scope(batch_norm_decay=0.75)):
        return inception_v3(inputs, 7, create_aux_logits=False, **options, **NARROW)[1]


def test_is_training_as_a_tensor():
    """One graph for both: fed True it drops out and moves all averages, fed False it does neither."""
    with tf.Graph().as_default():
        inputs, flag = placeholder(75, 75), v1.placeholder(tf.bool, [])
        end_points = narrow(inputs, is_training=flag, dropout_keep_prob=0.5)
        updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        statistics = v1.get_collection("moving_vars")
        assert (len(updates), len(statistics)) == (188, 188)
        found, moved = {}, {}
        with v1.Session() as session:
            values = oracle.random_values(oracle.shapes())
            oracle.initialize(session, values)
            for fed in (False, True):
                feed = {inputs: oracle.images(75), flag: fed}
                found[fed], _ = session.run([end_points, updates], feed)
                moved[fed] = [
                    not np.array_equal(value, values[v.op.name])
                    for v, value in zip(statistics, session.run(statistics), strict=True)
                ]
    assert (sum(moved[False]), sum(moved[True])) == (0, 188)
    assert np.array_equal(found[False]["PreLogits"], found[False]["AvgPool_1a"])
    pooled, dropped = found[True]["AvgPool_1a"], found[True]["PreLogits"]
    np.testing.assert_allclose(dropped[dropped != 0], 2 * pooled[dropped != 0], rtol=1e-5)
    assert 0.3 < (dropped != 0)[pooled != 0].mean() < 0.7
    assert oracle.difference(found[True]["Mixed_5b"], found[False]["Mixed_5b"]) > 0.01


def test_reuse():
    """The second network has the first one's variables, and so its numbers."""
    with tf.Graph().as_default(), plain():
        inputs = placeholder(75, 75)
        options = {"create_aux_logits": False, "is_training": False, "scope": "net"} | NARROW
        first, _ = inception_v3(inputs, 7, **options)
        shapes = oracle.shapes()
        second, _ = inception_v3(inputs, 7, reuse=True, **options)
        assert oracle.shapes() == shapes
        assert all(name.startswith("net/") for name in shapes)
        assert second is not first
        with pytest.raises(ValueError, match="already exists"):
            inception_v3(inputs, 7, **options)
        with v1.Session() as session:
            oracle.initialize(session, oracle.random_values(shapes))
            a, b = session.run([first, second], {inputs: oracle.images(75)})
            assert np.array_equal(a, b)


def test_wrap_function():
    """The same end points as in a tf.Graph, variables that stay, and updates to run."""
    images, kept = oracle.images(75), {}

    def network(inputs):
        end_points = narrow(inputs, is_training=True, dropout_keep_prob=1.0)
        kept["updates"] = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
        return end_points

    wrapped = v1.wrap_function(network, [tf.TensorSpec([2, 75, 75, 3])])
    variables = {v.name.removesuffix(":0"): v for v in wrapped.variables}
    arrays = oracle.random_values({name: tuple(v.shape) for name, v in variables.items()})
    assert len(arrays) == 378
    for name, v in variables.items():
        v.assign(arrays[name])
    found = {name: x.numpy() for name, x in wrapped(tf.constant(images)).items()}
    updates = kept["updates"]
    expected = evaluate(network, arrays, images)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert oracle.difference(found[name], value) <= 1e-5, name

    wrapped.prune(wrapped.inputs[:1], updates)(tf.constant(images))
    moved = [name for name, v in variables.items() if not np.array_equal(v.numpy(), arrays[name])]
    assert sorted(name.rsplit("/")[-1] for name in moved) == ["moving_mean"] * 94 + ["moving_variance"] * 94


TF1 = """
import sys
sys.modules["tf_keras"] = None  # cannot be imported
import json
import numpy as np
import tensorflow.compat.v1 as tf
tf.disable_v2_behavior()
import tf_slim as slim
from inception.builders.slim import inception_v3_base

given = np.load(sys.argv[1])
images, flag = tf.placeholder(tf.float32, [2, 75, 75, 3]), tf.placeholder(tf.bool, [])
with slim.arg_scope([slim.batch_norm], is_training=flag, decay=0.75):
    with slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm):
        net, _ = inception_v3_base(images, "Mixed_5b", depth_multiplier=0.1, min_depth=4)
updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
loss = tf.reduce_sum(tf.square(net))
with tf.control_dependencies(updates):
    step = tf.train.GradientDescentOptimizer(1e-3).minimize(loss)
with tf.Session() as session:
    variables = {v.op.name: v for v in tf.global_variables()}
    session.run(
        [v.initializer for v in variables.values()],
        {v.initializer.inputs[1]: given[name] for name, v in variables.items()},
    )
    feed = {images: given["images"], flag: False}
    output = session.run(net, feed)
    session.run(updates, feed)
    still = [np.array_equal(value, given[n]) for n, value in session.run(variables).items()]
    session.run(step, {**feed, flag: True})
    moved = [not np.array_equal(value, given[n]) for n, value in session.run(variables).items()]
print(json.dumps({"output": output.tolist(), "still": all(still), "moved": sum(moved)}))
"""


def test_tensorflow_1_behaviour_without_tf_keras(tmp_path):
    """Old code: V2 behaviour off, slim's own batch norm in the user's scope, one training step."""

    def build(inputs):
        scope = slim.arg_scope([slim.conv2d], normalizer_fn=slim.batch_norm)
        with slim.arg_scope([slim.batch_norm], is_training=False), scope:
            return inception_v3_base(inputs, "Mixed_5b", **NARROW)[1]

    arrays, images = weights(build, 75), oracle.images(75)
    np.savez(tmp_path / "given.npz", images=images, **arrays)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TF1, str(tmp_path / "given.npz")],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["still"]
    assert found["moved"] == len(arrays) == 12 * 4
    expected = evaluate(build, arrays, images)["Mixed_5b"]
    assert oracle.difference(np.array(found["output"]), expected) <= 1e-5


# --- evaluate ----------------------------------------------------------------------------


def test_evaluate_refuses_arrays_that_do_not_fit():
    def build(inputs):
        with slim.arg_scope(inception_v3_arg_scope()):
            return inception_v3_base(inputs, FIRST, **NARROW)[1]

    arrays, images, unit = weights(build, 75), oracle.images(75), f"InceptionV3/{FIRST}"
    assert list(evaluate(build, arrays, images.astype(np.float64))) == [FIRST]
    misfits = {k: v for k, v in arrays.items() if not k.endswith("beta")}
    misfits |= {"InceptionV3/Logits": np.zeros(1), f"{unit}/weights": np.zeros((3, 3, 3))}
    with pytest.raises(ValueError, match="do not fit") as error:
        evaluate(build, misfits, images)
    assert str(error.value).split(": ")[1].split("; ") == [
        f"{unit}/BatchNorm/beta is missing, expected (4,)",
        f"{unit}/weights is (3, 3, 3), expected (3, 3, 3, 4)",
        "InceptionV3/Logits is (1,), expected none of this name.",
    ]
