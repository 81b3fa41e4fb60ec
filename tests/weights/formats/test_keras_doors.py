"""One network in, whichever way Keras holds it: a model, `.keras`, `.weights.h5`, legacy `.h5`; one answer out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from made import NARROW, NARROW_NOTOP, assert_same, first, noise, random_weights

from inception import load_weights
from inception.inference import compile_inference
from inception.weights import CheckpointError, UnsupportedFeature
from inception.weights.canonical import OtherRules

keras = pytest.importorskip("keras")

from inception import verify  # noqa: E402
from inception.builders.keras import end_points, model_of, to_weights  # noqa: E402

SHAPE = (75, 75, 3)
FILES = (".keras", ".weights.h5", ".h5")
CANNOT_SAY_EPSILON = "batch norm's epsilon and center are not in such a file; taken as Keras's own, 0.001 and True"


def built(**rules):
    weights = random_weights(dataclasses.replace(NARROW, **rules))
    return weights, model_of(weights, input_shape=SHAPE)


def own_layers(**rules):
    """A padding and a pool in front of the network, a pool behind it, as a user may have them."""
    weights = random_weights(dataclasses.replace(NARROW_NOTOP, **rules))
    image = keras.Input((148, 148, 3))
    x = keras.layers.MaxPooling2D(2)(keras.layers.ZeroPadding2D(1)(image))
    network = model_of(weights, input_tensor=x)
    return weights, keras.Model(image, keras.layers.MaxPooling2D(1)(network.output))


def head(*, nested=False):
    """A classifier by the name of `mine` on the pooled base."""
    weights = random_weights(dataclasses.replace(NARROW, num_classes=3))
    base = model_of(weights.step("drop-top"), input_shape=SHAPE)
    image = keras.Input(SHAPE) if nested else base.input
    maps = base(image) if nested else base.output
    pooled = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(maps))
    mine = keras.layers.Dense(3, "softmax", name="mine")
    model = keras.Model(image, mine(pooled))
    scope = "InceptionV3/Logits/Conv2d_1c_1x1"
    mine.set_weights([weights.arrays[f"{scope}/weights"][0, 0], weights.arrays[f"{scope}/biases"]])
    return weights, model


CASES = {
    "include": lambda: built(border="include"),
    "epsilon": lambda: built(epsilon=1e-5),
    "plain": built,
    "max": lambda: built(last_pool="max"),
    "gamma": lambda: built(gamma=True),
    "own layers": own_layers,
    "own head": head,
    "own head, nested": lambda: head(nested=True),
}


def saved(model, path):
    (model.save_weights if path.name.endswith(".weights.h5") else model.save)(path)
    return path


@pytest.mark.parametrize("case", first(2, CASES))
def test_one_network_through_every_door(case, tmp_path):
    weights, model = CASES[case]()
    doors = {"model": to_weights(model)}
    doors |= {ending: load_weights(saved(model, tmp_path / f"x{ending}")) for ending in FILES}
    for door, found in doors.items():
        assert_same(found, weights)
        assert not found.extra, door
        silent = door in (".weights.h5", ".h5")
        expected = dataclasses.replace(weights.variant, epsilon=1e-3) if silent else weights.variant
        assert found.variant == expected, door
        assert (CANNOT_SAY_EPSILON in found.source.notes) == silent, door


def test_layers_that_leave_the_rules_open_are_said(tmp_path):
    """Two more pools and a padding than ours: of a network that counts borders, a `.weights.h5` cannot tell."""
    weights, model = own_layers(border="include")
    open_rules = "cannot be told from the layers that such a file lists; taken as"
    assert to_weights(model).variant == load_weights(saved(model, tmp_path / "x.keras")).variant == weights.variant
    with pytest.warns(OtherRules, match=open_rules):
        found = load_weights(saved(model, tmp_path / "x.weights.h5"))
    assert found.variant.border == "exclude" and any(open_rules in note for note in found.source.notes)
    with pytest.warns(OtherRules, match=f"which pool is last {open_rules}"):  # the paddings have our names
        assert load_weights(saved(model, tmp_path / "x.h5")).variant == weights.variant


def test_a_network_within_a_legacy_file_does_not_say_its_rules(tmp_path):
    _, model = head(nested=True)
    with pytest.warns(OtherRules, match="the border rule of the average pools and which pool is last cannot be told"):
        load_weights(saved(model, tmp_path / "x.h5"))


def test_a_dense_whose_place_a_file_cannot_tell_is_kept_aside_and_said(tmp_path):
    _, base = own_layers()
    pooled = keras.layers.GlobalAveragePooling2D()(base.layers[-2].output)  # mixed10, past the pool behind it
    model = keras.Model(base.input, keras.layers.Dense(3, name="mine")(pooled))
    assert to_weights(model).variant.num_classes == load_weights(saved(model, tmp_path / "x.keras")).variant.num_classes
    assert to_weights(model).variant.num_classes == 3
    for ending in (".weights.h5", ".h5"):
        found = load_weights(saved(model, tmp_path / f"x{ending}"))
        assert len(found.extra) == 2 and found.variant.num_classes == 0
        assert any("is the classifier is not in such a file" in note for note in found.source.notes)


def test_two_networks_are_refused_by_name(tmp_path):
    base = built()[1]
    image = keras.Input(SHAPE)
    one, two = (keras.Model(each.input, each.output, name=name) for each, name in ((base, "one"), (built()[1], "two")))
    model = keras.Model(image, keras.layers.Average()([one(image), two(image)]))
    with pytest.raises(UnsupportedFeature, match=r"holds 2 InceptionV3 \(one and two\)"):
        to_weights(model)
    names = {".keras": "one and two", ".h5": "one and two", ".weights.h5": "layers/functional and layers/functional_1"}
    for ending, both in names.items():
        with pytest.raises(UnsupportedFeature, match=rf"holds 2 InceptionV3 \({both}\)"):
            load_weights(saved(model, tmp_path / f"x{ending}"))
    with pytest.raises(ValueError, match="of a model that contains one, give that layer"):
        end_points(model)


def test_a_model_that_is_a_class_or_has_a_layer_that_no_text_describes():
    class Strange(keras.layers.Layer):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, x):
            return x

    class Whole(keras.Model):
        def __init__(self, base):
            super().__init__()
            self.base = base

        def call(self, x):
            return self.base(x)

    weights, base = built()
    image = keras.Input(SHAPE)
    for model in (Whole(base), keras.Model(image, base(Strange(object())(image)))):
        assert_same(to_weights(model), weights)


def test_layers_before_the_network_are_named():
    weights, base = built()
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Rescaling(1 / 127.5, -1, name="scaled"), base])
    found = to_weights(model)
    assert_same(found, weights)
    assert found.source.notes == ("the model has layers of its own before the network: scaled",)


def test_a_classifier_of_any_name_has_its_end_points():
    _, model = head()
    points = end_points(model)
    assert points["Predictions"] is model.output
    assert list(points)[-3:] == ["PreLogits", "Logits", "Predictions"]


def test_a_changed_batch_norm_is_refused(tmp_path):
    _, model = built()
    model.get_layer("batch_normalization_3").epsilon = 1e-5
    for door in (to_weights, lambda model: load_weights(saved(model, tmp_path / "x.keras"))):
        with pytest.raises(UnsupportedFeature, match="batch_normalization_3 has epsilon=1e-05"):
            door(model)


# ---- epsilon, everywhere


def test_every_builder_has_the_weights_own_epsilon():
    plain = random_weights(dataclasses.replace(NARROW, last_pool="avg"))
    weights = dataclasses.replace(plain, variant=dataclasses.replace(plain.variant, epsilon=0.1))
    pixels = noise(*SHAPE)
    keras_values, slim_values = (verify.end_points(weights, pixels, builder) for builder in ("keras", "slim"))
    run = compile_inference(weights, engine="tensorflow", end_points=("PreLogits",))(pixels[None])
    expected = keras_values["PreLogits"]
    for values in (slim_values["PreLogits"], run["PreLogits"][0]):
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    other = verify.end_points(plain, pixels, "keras")["PreLogits"]
    assert np.abs(other - expected).max() > 0.01 * np.abs(expected).max()
    assert verify.reasons(plain, weights) == ["batch norm's epsilon: 0.001 in a, 0.1 in b"]


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".h5", ".npz", ".safetensors"])
def test_our_own_files_keep_the_epsilon(tmp_path, ending):
    weights = random_weights(dataclasses.replace(NARROW, epsilon=1e-5))
    weights.save(tmp_path / f"x{ending}")
    found = load_weights(tmp_path / f"x{ending}")
    assert found.variant == weights.variant
    assert_same(found, weights)


def test_a_file_that_cannot_say_the_epsilon_warns_of_it(tmp_path):
    weights = random_weights(dataclasses.replace(NARROW, epsilon=1e-5))
    with pytest.warns(OtherRules, match="need epsilon=1e-05"):
        weights.save(tmp_path / "x.ckpt")


def test_a_model_of_another_epsilon_refuses_the_weights():
    weights = random_weights(dataclasses.replace(NARROW, epsilon=1e-5))
    with pytest.raises(CheckpointError, match=r"epsilon=1e-05, the model is built with epsilon=0\.001"):
        from inception.builders.keras import InceptionV3

        InceptionV3(weights=weights, variant="keras", classes=7, input_shape=SHAPE, depth_multiplier=0.1, min_depth=4)


@pytest.mark.parametrize("epsilon", [-1e-3, float("nan"), float("inf")])
def test_an_epsilon_that_is_none_is_refused(epsilon):
    with pytest.raises(ValueError, match="epsilon is .*; expected a number of at least 0"):
        dataclasses.replace(NARROW, epsilon=epsilon)
