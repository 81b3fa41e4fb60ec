"""Names of points in models of every build, and what a point is before its activation."""

import functools

import keras
import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, first, random_weights

from inception.builders.keras import InceptionV3, end_points, model_of
from inception.visualize.model_points import default_point, open_model, values

SIDE = 107


@functools.cache
def narrow(variant=NARROW, size=(SIDE, SIDE)):
    return model_of(random_weights(variant), input_shape=(*size, 3))


def batch(side=SIDE, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)


def nested(side=SIDE, compiled=True):
    image = keras.Input((side, side, 3))
    x = narrow(NARROW_NOTOP)(keras.layers.RandomFlip()(image), training=False)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    if compiled:
        model.compile("adam", "categorical_crossentropy", jit_compile=False)
    return model


def flat():
    base = narrow(NARROW_NOTOP)
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(3)(pooled))


def sequential():
    layers = [
        keras.Input((SIDE, SIDE, 3)),
        narrow(NARROW_NOTOP),
        keras.layers.GlobalMaxPooling2D(),
        keras.layers.Dense(3),
    ]
    return keras.Sequential(layers)


def twice_nested():
    image = keras.Input((SIDE, SIDE, 3))
    return keras.Model(image, keras.layers.Activation("softmax")(sequential()(image)))


@pytest.mark.parametrize("make", first(3, [narrow, nested, sequential, flat, twice_nested]))
def test_an_opened_model_computes_what_the_model_computes(make):
    model = make()
    points = open_model(model)
    assert default_point(points, (299, 299)).endswith("Mixed_7c")  # 8 x 8
    assert default_point(points, (SIDE, SIDE)).endswith("Mixed_6e")  # Mixed_7c is 2 x 2 here
    found = values(points, {"output": points.outputs[0], "last": points.named["Mixed_7c"]}, batch())
    np.testing.assert_allclose(found["output"], model.predict(batch(), verbose=0), rtol=1e-5, atol=1e-6)
    assert found["last"].shape[1:3] == (2, 2)


def test_slims_names_are_slims_end_points():
    model = narrow()
    rows = end_points(model)
    points = open_model(model)
    wanted = {name: rows[name] for name in ("Conv2d_2b_3x3", "MaxPool_5a_3x3", "Mixed_6a", "Mixed_7b")}
    expected = keras.Model(model.input, wanted)(batch(), training=False)
    found = values(points, {name: points.named[name] for name in wanted}, batch())
    for name in wanted:
        np.testing.assert_allclose(found[name], keras.ops.convert_to_numpy(expected[name]), rtol=1e-5, atol=1e-6)


def test_logits_lie_before_the_softmax_wherever_it_is():
    model, split = narrow(), twice_nested()
    for each in (model, split):
        points = open_model(each)
        logits = values(points, {"x": points.before_activation(points.outputs[0])}, batch())["x"]
        np.testing.assert_allclose(keras.ops.softmax(logits), each.predict(batch(), verbose=0), rtol=1e-4, atol=1e-6)
        assert not np.allclose(logits.sum(-1), 1)


@pytest.mark.parametrize("name", ["Conv2d_2b_3x3", "Mixed_5b", "Mixed_6a", "Mixed_7c", "activation_5"])
def test_a_relu_of_what_is_before_it_is_the_point_itself(name):
    points = open_model(narrow())
    tensors = {"before": points.before_activation(points.named[name]), "after": points.named[name]}
    found = values(points, tensors, batch())
    assert found["before"].min() < 0
    np.testing.assert_allclose(np.maximum(found["before"], 0), found["after"], rtol=1e-5, atol=1e-5)


def test_a_convolution_with_an_activation_of_its_own():
    image = keras.Input((64, 64, 3))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image))
    points = open_model(model)
    tensors = {"before": points.before_activation(points.named["conv"]), "after": points.named["conv"]}
    found = values(points, tensors, batch(40))
    assert found["before"].min() < 0
    np.testing.assert_allclose(np.maximum(found["before"], 0), found["after"], atol=1e-6)
    assert model.get_layer("conv").activation is keras.activations.relu


def test_the_predictions_of_a_model_with_an_auxiliary_head():
    model = narrow(NARROW_AUX)
    points = open_model(model)
    found = values(points, {"x": points.outputs[0]}, batch())["x"]
    np.testing.assert_allclose(found, model.predict(batch(), verbose=0)["predictions"], rtol=1e-5)


def test_a_reloaded_model_and_what_opening_leaves_unchanged(tmp_path):
    nested(compiled=False).save(tmp_path / "mine.keras")
    model = keras.models.load_model(tmp_path / "mine.keras")
    before = model.get_config()
    points = open_model(model)
    assert open_model(model) is points and model.get_config() == before
    found = values(points, {"x": points.outputs[0], "maps": points.named["Mixed_6e"]}, batch())
    np.testing.assert_allclose(found["x"], model.predict(batch(), verbose=0), rtol=1e-5, atol=1e-6)


def test_a_fixed_size_is_lifted_below_the_head():
    points = open_model(InceptionV3(weights=random_weights(NARROW), classes=7, input_shape=(75, 75, 3),
                                    depth_multiplier=0.1, min_depth=4))  # fmt: skip
    found = values(points, {"x": points.named["Mixed_6a"]}, np.zeros((1, 120, 200, 3), np.float32))
    assert found["x"].shape[1:3] == (5, 10) and points.size == (75, 75)


class Subclassed(keras.Model):
    def call(self, x):
        return x


def two_inputs():
    a, b = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    return keras.Model([a, b], keras.layers.Add()([a, b]))


@pytest.mark.parametrize(
    ("make", "sentence"),
    [(Subclassed, "shows no graph of its layers"), (two_inputs, "expected one batch of images")],
)
def test_models_that_cannot_be_opened_say_why(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_model(make())


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("Mixed_7d", "has no end point or layer 'Mixed_7d'.*Mixed_7"), ("Predictions", "expected maps")],
)
def test_names_that_are_no_maps(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_model(narrow()).map_point(name)
