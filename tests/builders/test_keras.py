"""The Keras builder: its arguments, names, end points, files and training, on narrow networks."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys
import warnings
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, noise, on_tensorflow, random_weights

from inception import architecture, training
from inception.architecture import END_POINTS
from inception.builders.keras import InceptionV3, end_points, model_of, to_weights
from inception.files.errors import MissingTensor, ShapeMismatch
from inception.networks import network_of
from inception.variants import TORCHVISION
from inception.weights import CheckpointError, Weights
from inception.weights.dialects import keras_config, keras_layers

HEADS = ["PreLogits", "Logits", "Predictions"]
WIDTH = {"depth_multiplier": 0.1, "min_depth": 4}


def narrow(size: int | None = 75, **arguments: Any) -> keras.Model:
    """A narrow network with random weights."""
    defaults = {"weights": None, "classes": 7, "input_shape": (size, size, 3), **WIDTH}
    return InceptionV3(**{**defaults, **arguments})


def narrow_of(weights: Weights, size: int = 75, **arguments: Any) -> keras.Model:
    return model_of(weights, input_shape=(size, size, 3), **arguments)


def batch(size: int = 75, count: int = 2) -> np.ndarray:
    return np.random.default_rng(size).uniform(-1, 1, [count, size, size, 3]).astype(np.float32)


def evaluated(model: keras.Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
    points = end_points(model)
    values = computed(keras.Model(model.input, points), pixels)
    return {name: values[name] for name in points}  # on torch Keras sorts a dictionary


def computed(model: keras.Model, pixels: np.ndarray) -> Any:
    """The outputs as NumPy's, which torch's tensors with gradients do not become by themselves."""
    return keras.tree.map_structure(keras.ops.convert_to_numpy, model(pixels, training=False))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float = 1e-5) -> bool:
    """The same names in the same order, and numbers that differ relatively by no more than `tolerance`."""
    return list(a) == list(b) and all(np.abs(a[n] - b[n]).max() <= tolerance * np.abs(a[n]).max() for n in a)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """The narrow network at 75 pixels, with random weights and statistics."""
    return narrow_of(random_weights(NARROW))


@pytest.fixture(scope="module")
def aux_model() -> keras.Model:
    """The same with the auxiliary head, at 107 pixels."""
    return narrow_of(random_weights(NARROW_AUX), 107)


# --- Names -----------------------------------------------------------------------------


def test_layers_stand_in_the_order_of_weight_files(model, aux_model):
    last_pool = dataclasses.replace(NARROW_NOTOP, last_pool="max")
    built = {NARROW: model, NARROW_AUX: aux_model}
    built |= {variant: narrow_of(random_weights(variant)) for variant in (NARROW_NOTOP, last_pool)}
    for variant, each in built.items():
        described = keras_config.describe(variant).by_depth()
        assert [layer.name for layer in each.layers] == [layer.name for layer in described]


def test_names_are_the_published_ones_however_many_models_there_are(model, aux_model):
    keras.layers.Conv2D(4, 3)(keras.Input((75, 75, 3)))
    again = [layer.name for layer in narrow().layers]
    assert again == [layer.name for layer in model.layers]
    assert keras_layers.in_creation_order(again, "conv2d") == [f"conv2d_{i}" for i in range(1, 95)]
    with_aux = [layer.name for layer in aux_model.layers]
    assert keras_layers.in_creation_order(with_aux, "conv2d") == [f"conv2d_{i}" for i in range(1, 97)]
    assert {"predictions", "aux_predictions"} < set(with_aux)


def test_two_models_stand_in_one():
    """As layers of it, each by its own name."""
    image = keras.Input((75, 75, 3))
    one, two = (narrow(include_top=False, pooling="avg", name=name) for name in ("one", "two"))
    both = keras.Model(image, keras.layers.concatenate([one(image), two(image)]))
    assert both.output_shape == (None, 2 * one.output_shape[1])
    assert len(both.trainable_weights) == 4 * 94
    expected = np.concatenate([computed(each, batch()) for each in (one, two)], axis=1)
    np.testing.assert_array_equal(computed(both, batch()), expected)
    assert list(end_points(both.get_layer("two"))) == [*END_POINTS, "PreLogits"]


# --- End points ------------------------------------------------------------------------


def test_end_points_are_slims_and_logits_are_before_the_softmax(model):
    values = evaluated(model, batch())
    assert list(values) == [*END_POINTS, *HEADS]
    np.testing.assert_allclose(keras.ops.softmax(values["Logits"]), values["Predictions"], rtol=1e-5)
    assert np.abs(values["Logits"].sum(axis=1)).min() > 1e-3
    np.testing.assert_array_equal(values["Predictions"], computed(model, batch()))
    np.testing.assert_allclose(values["Mixed_7c"].mean(axis=(1, 2)), values["PreLogits"], rtol=1e-5)


def test_end_points_with_the_auxiliary_head(aux_model):
    values = evaluated(aux_model, batch(107))
    assert list(values) == [*END_POINTS, "AuxLogits", *HEADS]
    output = computed(aux_model, batch(107))
    assert output.keys() == {"predictions", "aux_predictions"}
    np.testing.assert_allclose(keras.ops.softmax(values["AuxLogits"]), output["aux_predictions"], rtol=1e-5)
    np.testing.assert_array_equal(values["Predictions"], output["predictions"])


def test_without_an_activation_logits_are_the_output():
    model = narrow(107, classifier_activation=None, aux_logits=True)
    points = end_points(model)
    assert points["Logits"] is points["Predictions"] is model.output["predictions"]
    assert points["AuxLogits"] is model.output["aux_predictions"]


@pytest.mark.parametrize(("pooling", "last"), [("avg", ["PreLogits"]), ("max", []), (None, [])])
def test_end_points_of_models_without_top(pooling, last):
    assert list(end_points(narrow(include_top=False, pooling=pooling))) == [*END_POINTS, *last]


def test_end_points_of_reloaded_models(aux_model, tmp_path):
    expected = evaluated(aux_model, batch(107))
    aux_model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert [layer.name for layer in again.layers] == [layer.name for layer in aux_model.layers]
    assert same(expected, evaluated(again, batch(107)), 0)
    np.testing.assert_equal(computed(again, batch(107)), computed(aux_model, batch(107)))

    aux_model.save_weights(tmp_path / "model.weights.h5")
    other = narrow(107, aux_logits=True)
    assert not same(expected, evaluated(other, batch(107)))
    other.load_weights(tmp_path / "model.weights.h5")
    assert same(expected, evaluated(other, batch(107)), 0)


def test_end_points_of_a_model_of_keras_applications_with_any_numbers():
    keras.layers.Conv2D(4, 3)(keras.Input((75, 75, 3)))
    theirs = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3), pooling="avg")
    assert not {"conv2d_1", "conv2d_94"} <= {layer.name for layer in theirs.layers}
    expected = architecture.end_point_shapes(architecture.table(), 75, 75)
    points = end_points(theirs)
    assert {name: points[name].shape[1:] for name in END_POINTS} == expected
    assert points["PreLogits"] is theirs.output
    middle = end_points(keras.Model(theirs.input, theirs.get_layer("mixed3").output))
    assert list(middle) == list(END_POINTS[: END_POINTS.index("Mixed_6a") + 1])
    assert all(output is points[name] for name, output in middle.items())
    with pytest.raises(ValueError, match="no layers of an InceptionV3"):
        end_points(keras.Model(theirs.input, points["Conv2d_2b_3x3"]))


def test_a_users_own_layers_are_not_taken_for_the_networks():
    """Layers before and after, some with the names that Keras gives first: conv2d, activation, max_pooling2d."""
    keras.backend.clear_session()
    image = keras.Input((151, 151, 1))
    x = keras.layers.Conv2D(3, 3)(image)
    x = keras.layers.MaxPooling2D(2, padding="same")(keras.layers.Activation("relu")(x))
    inner = narrow(include_top=False, input_shape=None, input_tensor=x)
    for _ in range(3):
        x = keras.layers.Conv2D(8, 1)(inner.output)
        x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.MaxPooling2D(1)(x))
    outer = keras.Model(image, keras.layers.Dense(5, activation="softmax", name="predictions")(x))
    points = end_points(outer)
    assert list(points) == [*END_POINTS, *HEADS]
    assert all(points[name] is output for name, output in end_points(inner).items())
    assert points["Conv2d_1a_3x3"] is inner.get_layer("activation_1").output
    expected = architecture.end_point_shapes(architecture.table(**WIDTH), 75, 75)
    assert {name: points[name].shape[1:] for name in END_POINTS} == expected


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_keras_gives_a_users_layers_other_names_than_ours(pooling):
    keras.backend.clear_session()
    base = narrow(107, include_top=False, pooling=pooling)
    x = base.get_layer("mixed10").output
    for _ in range(2):
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 1)(x))
        x = keras.layers.Concatenate()([keras.layers.Activation("relu")(x), x])
        x = keras.layers.AveragePooling2D(1)(keras.layers.MaxPooling2D(1)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    whole = keras.Model(base.input, [base.output, x])
    assert {layer.name for layer in whole.layers} > {layer.name for layer in base.layers}


def test_end_points_of_another_network_are_refused(model):
    other = keras.Sequential([model, keras.layers.Dense(3)], name="classifier")
    with pytest.raises(ValueError, match=r"classifier has no layers of an InceptionV3 \(expected conv2d_1"):
        end_points(other)


def test_a_model_of_end_points_warns_of_nothing(model):
    x = keras.layers.Rescaling(2.0)(keras.Input((75, 75, 3)))
    for each in (model, narrow(input_shape=None, input_tensor=x)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            keras.Model(each.input, end_points(each))(batch())
            each(batch())


@on_tensorflow
def test_the_gradient_flows_through_logits(model):
    """And is that of the softmax's logarithm, by the chain rule."""
    network = keras.Model(model.input, end_points(model))
    image = tf.constant(batch())
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(image)
        values = network(image, training=False)
        logit = values["Logits"][:, 3]
        logarithm = tf.math.log(values["Predictions"][:, 3]) + tf.reduce_logsumexp(values["Logits"], axis=1)
    direct, around = (tape.gradient(y, image).numpy() for y in (logit, logarithm))
    assert np.abs(direct).max() > 0
    assert np.abs(direct - around).max() < 1e-5 * np.abs(direct).max()


# --- Arguments -------------------------------------------------------------------------


@pytest.mark.parametrize("final_endpoint", END_POINTS)
def test_final_endpoint_is_the_last(model, final_endpoint):
    cut = narrow(include_top=False, final_endpoint=final_endpoint)
    expected = architecture.end_point_shapes(architecture.table(**WIDTH), 75, 75)[final_endpoint]
    assert cut.output_shape == (None, *expected)
    points = end_points(cut)
    assert list(points) == list(END_POINTS[: END_POINTS.index(final_endpoint) + 1])
    assert points[final_endpoint] is cut.output


def test_final_endpoint_takes_its_part_of_the_weights(model):
    expected = evaluated(model, batch())
    arguments = {"weights": to_weights(model), "include_top": False, "final_endpoint": "Mixed_6a", **WIDTH}
    cut = InceptionV3(input_shape=(75, 75, 3), pooling="avg", **arguments)
    found = evaluated(cut, batch())
    assert list(found) == [*END_POINTS[:11], "PreLogits"]
    assert same({name: expected[name] for name in END_POINTS[:11]}, {n: found[n] for n in END_POINTS[:11]}, 0)
    np.testing.assert_allclose(found["PreLogits"], expected["Mixed_6a"].mean(axis=(1, 2)), rtol=1e-5)


def test_dropout_is_at_work_in_training_only(model):
    assert "dropout" not in {layer.name for layer in model.layers}
    dropping = narrow(dropout=0.5)
    around = keras.Model(dropping.input, [dropping.get_layer("avg_pool").output, end_points(dropping)["PreLogits"]])
    before, after = map(keras.ops.convert_to_numpy, around(batch(), training=False))
    np.testing.assert_array_equal(before, after)
    before, after = map(keras.ops.convert_to_numpy, around(batch(), training=True))
    kept = after != 0
    np.testing.assert_allclose(after[kept], 2 * before[kept], rtol=1e-6)
    assert 0.3 < kept.sum() / (before != 0).sum() < 0.7


@pytest.mark.parametrize(
    ("multiplier", "min_depth", "first", "last"),
    [(1.0, 16, 32, 2048), (2.0, 16, 64, 4096), (0.5, 16, 16, 1024), (0.1, 16, 16, 203), (0.1, 40, 40, 240)],
)
def test_the_width(multiplier, min_depth, first, last):
    arguments = {"weights": None, "include_top": False, "depth_multiplier": multiplier, "min_depth": min_depth}
    assert InceptionV3(final_endpoint="Conv2d_1a_3x3", **arguments).output_shape[-1] == first
    rows = architecture.table(depth_multiplier=multiplier, min_depth=min_depth)
    if multiplier <= 1:
        assert InceptionV3(**arguments).output_shape[-1] == last
    assert architecture.end_point_shapes(rows)["Mixed_7c"][-1] == last


def test_input_shape_and_input_tensor(model):
    stem = {"include_top": False, "final_endpoint": "Conv2d_1a_3x3"}
    assert narrow(input_shape=None).input_shape == (None, 299, 299, 3)
    assert narrow(input_shape=None, **stem).input_shape == (None, None, None, 3)
    assert narrow(input_shape=(None, 80, 1), **stem).get_layer("conv2d_1").kernel.shape == (3, 3, 1, 4)
    image = keras.Input((90, 80, 3))
    on_input = narrow(input_shape=(299, 299, 3), input_tensor=image, **stem)
    assert on_input.input is image
    behind = narrow(input_tensor=keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image), **stem)
    assert behind.input is image
    assert behind.layers[1].name.startswith("rescaling")
    np.testing.assert_allclose(
        keras.Model(behind.input, behind.layers[1].output)(np.full((1, 90, 80, 3), 255.0)), 1.0, rtol=1e-6
    )


def test_unknown_sizes_take_every_size(model, aux_model):
    any_size = model_of(random_weights(NARROW), input_tensor=keras.Input((None, None, 3)))
    assert (any_size.input_shape, any_size.output_shape) == ((None, None, None, 3), (None, 7))
    assert same(evaluated(model, batch(75)), evaluated(any_size, batch(75)), 1e-6)
    assert any_size(batch(107)).shape == (2, 7)


# --- Weights ---------------------------------------------------------------------------


def test_heads_that_the_model_lacks_are_left_aside(aux_model):
    weights = random_weights(NARROW_AUX)
    values = evaluated(aux_model, batch(107))
    without_aux = narrow(107, weights=weights)
    assert same({n: v for n, v in values.items() if n != "AuxLogits"}, evaluated(without_aux, batch(107)), 0)
    notop = narrow(107, weights=weights, include_top=False, pooling="avg")
    assert same({n: values[n] for n in (*END_POINTS, "PreLogits")}, evaluated(notop, batch(107)), 0)


def test_weights_from_a_file_of_another_format(model, tmp_path):
    path = to_weights(model).save(tmp_path / "weights.ckpt")
    assert same(evaluated(model, batch()), evaluated(narrow(weights=str(path)), batch()), 0)


@pytest.mark.parametrize("rules", [{}, {"gamma": True, "border": "include"}, {"last_pool": "max", "aux_logits": True}])
def test_weights_come_back_bit_for_bit_with_their_rules(rules):
    variant = dataclasses.replace(NARROW, aux_kernel=(1, 1), **rules)
    weights = random_weights(variant)
    found = to_weights(narrow_of(weights, 107))
    assert found.variant == dataclasses.replace(variant, aux_kernel=found.variant.aux_kernel)
    assert list(found.arrays) == list(weights.arrays)
    assert all(np.array_equal(found.arrays[name], array) for name, array in weights.arrays.items())


def test_a_users_own_pool_does_not_count_as_the_last():
    inner = narrow(107, include_top=False)
    outer = keras.Model(inner.input, keras.layers.MaxPooling2D(2)(inner.output))
    assert to_weights(outer).variant.last_pool == "avg"


def test_weights_that_follow_leave_no_trace_in_the_configuration(aux_model):
    """They spare the random kernels; the configuration keeps the initializers for who builds from it."""
    assert aux_model.get_config() == narrow(107, aux_logits=True).get_config()
    again = keras.Model.from_config(aux_model.get_config())
    deviation = again.get_layer("conv2d_96").kernel.numpy().std()
    assert 0.5 * 0.01 < deviation < 1.5 * 0.01  # slim's
    assert again.get_layer("aux_predictions").kernel_initializer.stddev == 0.001


# --- Training and files ----------------------------------------------------------------


def test_the_configuration_makes_the_same_network():
    model = narrow(107, aux_logits=True, dropout=0.2, variant=TORCHVISION)
    again = keras.Model.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    again.set_weights(model.get_weights())
    assert same(evaluated(model, batch(107)), evaluated(again, batch(107)), 0)


def test_fit_lowers_the_losses_of_both_heads():
    keras.utils.set_random_seed(0)
    model = narrow(107, aux_logits=True, dropout=0.1)
    crossentropy = "sparse_categorical_crossentropy"
    model.compile(
        keras.optimizers.Adam(1e-2),
        loss={"predictions": crossentropy, "aux_predictions": crossentropy},
        loss_weights={"predictions": 1.0, "aux_predictions": 0.4},
        run_eagerly=True,  # to trace the step takes longer than the steps
    )
    labels = np.arange(8) % 7
    targets = {"predictions": labels, "aux_predictions": labels}
    history = model.fit(batch(107, 8), targets, batch_size=8, epochs=4, verbose=0).history
    for loss in ("predictions_loss", "aux_predictions_loss", "loss"):
        assert history[loss][-1] < 0.9 * history[loss][0], history
    predicted = model.predict(batch(107, 8), batch_size=4, verbose=0)
    assert {name: value.shape for name, value in predicted.items()} == dict.fromkeys(targets, (8, 7))
    np.testing.assert_allclose(predicted["predictions"].sum(axis=1), 1, rtol=1e-5)


def test_frozen_layers_keep_weights_and_statistics_in_training():
    """Bit for bit, with trainable=False alone; the other layers learn, and their statistics move."""
    model = narrow_of(random_weights(NARROW))
    for layer in model.layers[: model.layers.index(model.get_layer("mixed7")) + 1]:
        layer.trainable = False
    before = to_weights(model).arrays
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    model.fit(batch(75, 4), np.arange(4), verbose=0)
    after = to_weights(model).arrays
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.split("/")[1] in ("Mixed_7a", "Mixed_7b", "Mixed_7c", "Logits")}


# --- Refusals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"input_shape": (74, 299, 3)}, ["at least 75x75", "too small"]),
        ({"input_shape": (75, 75, 3), "aux_logits": True}, ["107x107 with the AuxLogits head", "too small"]),
        ({"input_shape": (106, 106, 3), "aux_logits": True}, ["107x107"]),
        ({"input_shape": (75, 75)}, ["input_shape is (75, 75)", "three numbers"]),
        ({"input_tensor": np.zeros((1, 75, 75, 3))}, ["ndarray of shape (1, 75, 75, 3)", "a Keras tensor of images"]),
        ({"input_tensor": keras.Input((75, 75))}, ["KerasTensor of shape (None, 75, 75)", "a Keras tensor of images"]),
        ({"pooling": "mean", "include_top": False}, ["pooling is 'mean'", 'expected None, "avg" or "max"']),
        ({"classes": 0}, ["classes is 0", "include_top=False"]),
        ({"final_endpoint": "Mixed_6e"}, ["final_endpoint='Mixed_6e' leaves no place", "include_top=False"]),
        ({"final_endpoint": "Mixed_8a"}, ["Unknown final_endpoint 'Mixed_8a'", "Mixed_7c"]),
        ({"final_endpoint": "mixed3", "include_top": False}, ["Unknown final_endpoint 'mixed3'", "Mixed_6a"]),
        ({"aux_logits": True, "include_top": False}, ["needs include_top=True", "second classifier"]),
        ({"variant": "slimm"}, ["Unknown variant 'slimm'", "keras, slim", "torchvision"]),
        ({"depth_multiplier": 0}, ["depth_multiplier is 0", "greater than zero"]),
        ({"depth_multiplier": -1.0}, ["depth_multiplier is -1.0", "greater than zero"]),
        ({"input_shape": 299}, ["input_shape is 299", "three numbers"]),
        ({"input_shape": (299, 299, "3")}, ["input_shape is (299, 299, '3')", "three numbers"]),
        ({"input_shape": (None, None, 3)}, ["(None, None, 3); include_top=True needs", "keras.Input((None, None, 3))"]),
        ({"input_shape": (299, 299, None)}, ["(299, 299, None); include_top=True needs every number"]),
        ({"input_shape": (299, 299, None), "include_top": False}, ["number of channels"]),
        ({"input_tensor": keras.Input((299, 299, None))}, ["number of channels"]),
        ({"classifier_activation": "softmaxx"}, ["softmaxx"]),
        ({"weights": 5}, ["weights is 5", "path"]),
        ({"weights": "imagenett"}, ["imagenett does not exist", "path of a weight file"]),
        ({"weights": "/nowhere/inception.h5"}, ["/nowhere/inception.h5 does not exist", "path of a weight file"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_argument_gets_a_sentence(arguments, words):
    with pytest.raises(ValueError) as caught:
        InceptionV3(**{"weights": None, **arguments})
    for word in words:
        assert word in str(caught.value)


def replaced(**fields: Any) -> Weights:
    return random_weights(dataclasses.replace(NARROW, **fields))


MISFITS = {
    "classes": (
        replaced(),
        {"classes": 5},
        ShapeMismatch,
        ["7 classes, the model has 5", "classes=7", "include_top=False"],
    ),
    "notop": (replaced(num_classes=0), {}, ShapeMismatch, ["no classifier", "include_top=False"]),
    "background": (
        replaced(num_classes=1001, background=True),
        {"classes": 1000},
        ShapeMismatch,
        ["has 1001 classes", "classes=1001", "--step drop-background"],
    ),
    "border": (
        replaced(border="include"),
        {"variant": "keras"},
        CheckpointError,
        ["border='include'", "border='exclude'", "leave the argument variant out"],
    ),
    "last_pool": (
        replaced(last_pool="max"),
        {"variant": "keras"},
        CheckpointError,
        ["last_pool='max'", "last_pool='avg'", "leave the argument variant out"],
    ),
    "gamma": (
        replaced(gamma=True),
        {"variant": "keras"},
        CheckpointError,
        ["gamma=True", "gamma=False", "leave the argument variant out"],
    ),
    "variant": (replaced(), {"variant": "torchvision"}, CheckpointError, ["border='exclude'", "border='include'"]),
    "aux": (replaced(), {"aux_logits": True}, CheckpointError, ["no auxiliary head", "aux_logits=False"]),
    "aux_kernel": (
        replaced(aux_logits=True),
        {"aux_logits": True},
        ShapeMismatch,
        ["5x5 in made (made for 299-pixel images)", "1x1 in the model", "input_shape=(299, 299, 3)"],
    ),
    "width": (
        replaced(),
        {"depth_multiplier": 0.2},
        ShapeMismatch,
        ["Conv2d_1a_3x3/weights is 3x3x3x4, expected 3x3x3x6"],
    ),
    "grey": (replaced(), {"input_shape": (107, 107, 1)}, ShapeMismatch, ["1 of another", "3x3x3x4, expected 3x3x1x4"]),
}


@pytest.mark.parametrize("rules", [{"border": "include", "gamma": True}, {"last_pool": "max"}])
def test_without_a_variant_the_model_takes_the_weights_own(rules):
    weights = replaced(**rules)
    again = to_weights(narrow(107, weights=weights))
    assert_same(again, weights)
    assert {field: getattr(again.variant, field) for field in rules} == rules


@pytest.mark.parametrize(("weights", "arguments", "error", "words"), MISFITS.values(), ids=MISFITS)
def test_weights_that_do_not_fit_get_a_sentence(weights, arguments, error, words):
    with pytest.raises(error) as caught:
        narrow(107, weights=weights, **arguments)
    for word in ("made", *words):
        assert word in str(caught.value)


def test_weights_with_a_missing_array_are_refused():
    weights = random_weights(NARROW)
    missing = "InceptionV3/Mixed_6b/Branch_0/Conv2d_0a_1x1/BatchNorm/beta"
    part = dataclasses.replace(weights, arrays={n: a for n, a in weights.arrays.items() if n != missing})
    with pytest.raises(MissingTensor, match=f"1 not in the file: {missing}"):
        narrow(weights=part)


class Fetched(Exception):
    """A download was begun."""


@pytest.fixture
def no_download(monkeypatch):
    """Stops ours and Keras's where they begin."""

    def fetch(*_: Any, **__: Any) -> None:
        raise Fetched

    monkeypatch.setattr("inception.weights.published.fetch_imagenet", fetch)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", fetch)


AT_75 = keras.Input((75, 75, 3))
IMAGENET = [  # arguments, the words of ours where Keras raises a ValueError, None where it goes on to the download
    ({}, None),
    ({"input_shape": (299, 299, 3)}, None),
    ({"input_shape": (150, 150, 3)}, ["(150, 150, 3)", "takes (299, 299, 3)", "keras.Input((150, 150, 3))"]),
    ({"input_shape": (None, None, 3)}, ["(None, None, 3)", "takes (299, 299, 3)"]),
    ({"input_shape": (299, 299, 1)}, ["(299, 299, 1)", "takes (299, 299, 3)"]),
    ({"input_shape": (3, 299, 299)}, ["(3, 299, 299)", "takes (299, 299, 3)"]),
    ({"input_shape": (150, 150, 3), "input_tensor": AT_75}, ["takes (299, 299, 3)"]),
    ({"input_tensor": AT_75}, None),
    ({"input_tensor": keras.Input((None, None, 3))}, None),
    ({"include_top": False}, None),
    ({"include_top": False, "input_shape": (75, 139, 3)}, None),
    ({"include_top": False, "input_shape": (None, None, 3)}, None),
    ({"include_top": False, "input_shape": (74, 299, 3)}, ["at least 75x75"]),
    ({"include_top": False, "input_shape": (75, 75, 1)}, ["3 channels", "has 1"]),
    ({"include_top": False, "input_shape": (75, 75, 4)}, ["3 channels", "has 4"]),
    ({"include_top": False, "input_shape": (75, 75)}, ["three numbers"]),
    ({"include_top": False, "classes": 10}, None),
    ({"classes": 10}, ["1000 classes, the model has 10"]),
    ({"classifier_activation": None}, None),
    ({"classifier_activation": "linear"}, None),
    ({"classifier_activation": keras.activations.softmax}, None),
    ({"classifier_activation": "sigmoid"}, ["classifier_activation is 'sigmoid'", '"softmax"', "None for logits"]),
    ({"classifier_activation": keras.activations.relu}, ["classifier_activation is <function relu"]),
    ({"classifier_activation": "softmaxx"}, ["softmaxx"]),
    ({"classifier_activation": "sigmoid", "include_top": False}, None),
]


@pytest.mark.parametrize(("arguments", "words"), IMAGENET, ids=map(str, range(len(IMAGENET))))
def test_imagenet_is_refused_where_keras_refuses_it_and_before_the_download(arguments, words, no_download):
    with pytest.raises(Fetched if words is None else ValueError) as caught:
        InceptionV3(weights="imagenet", **arguments)
    for word in words or ():
        assert word in str(caught.value)


QUICK = [row for row in IMAGENET if row[1] and "classifier_activation" not in row[0]]  # refused before a layer is made


@pytest.mark.parametrize("arguments", [row[0] for row in QUICK] + [{"classifier_activation": "sigmoid"}], ids=str)
def test_keras_itself_does_so(arguments, no_download):
    with pytest.raises(ValueError):
        keras.applications.InceptionV3(weights="imagenet", **arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth_multiplier": 0.5}, ["Conv2d_1a_3x3/weights is 3x3x3x32, expected 3x3x3x16"]),
        ({"aux_logits": True}, ["no auxiliary head"]),
        ({"variant": "torchvision"}, ["border='exclude'", "border='include'"]),
        ({"include_top": False, "input_tensor": keras.Input((75, 75, 4))}, ["3 channels", "has 4"]),
    ],
    ids=str,
)
def test_what_no_imagenet_file_can_fit_is_refused_before_the_download(arguments, words, no_download):
    with pytest.raises(ValueError) as caught:
        InceptionV3(**arguments)
    for word in ('weights="imagenet"', *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("weights", [None, "file"])
def test_another_activation_is_for_new_classifiers(weights, tmp_path):
    """As in Keras: of one that has learned with softmax it would make other numbers."""
    if weights is None:
        assert narrow(classifier_activation="sigmoid").layers[-1].activation is keras.activations.sigmoid
        return
    path = random_weights(NARROW).save(tmp_path / "weights.h5")
    for given in (path, str(path), random_weights(NARROW)):
        with pytest.raises(ValueError, match="classifier_activation is 'sigmoid'; with weights and include_top=True"):
            narrow(weights=given, classifier_activation="sigmoid")
    narrow(weights=path, classifier_activation="sigmoid", include_top=False)


@pytest.mark.parametrize("said", [None, "1"])
def test_keras_2_is_called_so(said, monkeypatch):
    """With the variable set, `tf.keras` is Keras 2, and a user who never heard of that gives us its models."""
    if said:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", said)
    else:
        monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    keras_2 = pytest.importorskip("tf_keras")
    image = keras_2.Input((75, 75, 3))
    theirs = keras_2.Model(image, keras_2.layers.Conv2D(4, 3)(image), name="old")
    which = "tf.keras is Keras 2 here, because TF_USE_LEGACY_KERAS is set" if said else "tf_keras is Keras 2"
    for call, what in [
        (lambda: narrow(input_tensor=image), "input_tensor"),
        (lambda: to_weights(theirs), "The model old"),
        (lambda: end_points(theirs), "The model old"),
        (lambda: network_of(theirs), "The model"),
        (lambda: training.compile(theirs), "The model old"),
    ]:
        with pytest.raises(ValueError, match=rf"{what} is of Keras 2 \({which}\); expected one of Keras 3"):
            call()


# --- Other backends --------------------------------------------------------------------

ON_ANOTHER_BACKEND = """
import dataclasses, sys
sys.modules["tensorflow"] = None  # as where it is not installed; Keras takes it wherever it finds it
import keras, numpy as np
from inception import InceptionV3, end_points, load_weights, preprocess_input
from inception.builders.keras import model_of, to_weights

folder, backend = sys.argv[1:]
assert keras.backend.backend() == backend
pixels = keras.ops.convert_to_tensor(np.load(f"{folder}/pixels.npy"))
image = preprocess_input(pixels)
assert type(image) is type(pixels) and keras.backend.standardize_dtype(image.dtype) == "float32"
weights = load_weights(f"{folder}/weights.h5")
model = model_of(weights, input_shape=(107, 107, 3))
for each in (model, keras.models.load_model(f"{folder}/model.keras")):
    again = to_weights(each)
    assert again.variant == weights.variant
    assert all(np.array_equal(again.arrays[name], array) for name, array in weights.arrays.items())
network = keras.Model(model.input, end_points(model))
network.compile(jit_compile=backend == "jax")  # whose single operations are slow to compile
np.savez(f"{folder}/values.npz", **network.predict_on_batch(image))
own = dataclasses.replace(weights.picture, mean=(1.0, 2.0, 3.0))
scaled = [preprocess_input(x, picture=own) for x in (pixels, np.load(f"{folder}/pixels.npy"))]
np.testing.assert_allclose(keras.ops.convert_to_numpy(scaled[0]), scaled[1], rtol=1e-6)
print("DONE")
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_another_backend_gives_the_same_numbers(backend, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    weights = random_weights(dataclasses.replace(NARROW_AUX, border="include", gamma=True))
    weights.save(tmp_path / "weights.h5")
    model = narrow_of(weights, 107)
    model.save(tmp_path / "model.keras")
    pixels = noise(2, 107, 107, 3)
    np.save(tmp_path / "pixels.npy", pixels)
    command = [sys.executable, "-c", ON_ANOTHER_BACKEND, str(tmp_path), backend]
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.endswith("DONE\n"), done.stderr[-3000:]
    expected = evaluated(model, pixels.astype(np.float32) / 127.5 - 1)
    with np.load(tmp_path / "values.npz") as values:
        assert same(expected, {name: values[name] for name in expected})
