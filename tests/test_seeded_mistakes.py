"""Twenty mistakes that converters of Keras 3 files make: verify finds each of them."""

import re

import numpy as np
import pytest
from made import NARROW, first, random_weights

from inception import images, load_weights, verify
from inception.weights import Weights
from inception.weights.dialects import keras_config, keras_layers

PIXELS = images.test_picture(75)
UNIT = "InceptionV3/Mixed_6c/Branch_1/Conv2d_0b_1x7"
STEM = "InceptionV3/Conv2d_2a_3x3"
HEAD = "InceptionV3/Logits/Conv2d_1c_1x1"


def changed(name, change):
    return lambda arrays: arrays | {name: np.ascontiguousarray(change(arrays[name]))}


def everywhere(ending, change):
    return lambda arrays: {n: change(a) if n.endswith(ending) else a for n, a in arrays.items()}


def swapped(a, b, fix=lambda array: array):
    return lambda arrays: arrays | {a: fix(arrays[b]), b: fix(arrays[a])}


def depth_order(kinds):
    """The k-th layer of a `.weights.h5` taken for the k-th one made, wherever its shape allows."""

    def mistake(arrays):
        places = {place: name for name, place in keras_layers.variables(NARROW).items()}
        wrong = dict(arrays)
        order = [layer.name for layer in keras_config.describe(NARROW).by_depth()]
        for kind in kinds:
            by_depth = [layer for layer in order if re.fullmatch(rf"{kind}_\d+", layer)]
            for k, layer in enumerate(by_depth, 1):
                for weight in ("kernel", "beta", "moving_mean", "moving_variance"):
                    target, source = places.get((f"{kind}_{k}", weight)), places.get((layer, weight))
                    if target and source and arrays[target].shape == arrays[source].shape:
                        wrong[target] = arrays[source]
        return wrong

    return mistake


def rotated(ending):
    """The arrays of one shape, each one place further."""

    def mistake(arrays):
        group = [n for n in arrays if re.fullmatch(ending, n)]
        return arrays | {n: arrays[group[i - 1]] for i, n in enumerate(group)}

    return mistake


MISTAKES = {
    "input and output channels transposed": changed(f"{STEM}/weights", lambda a: a.swapaxes(2, 3)),
    "height and width transposed": changed(f"{STEM}/weights", lambda a: a.swapaxes(0, 1)),
    "kernels flipped, as true convolutions": changed(f"{STEM}/weights", lambda a: a[::-1, ::-1]),
    "BGR for RGB": changed("InceptionV3/Conv2d_1a_3x3/weights", lambda a: a[:, :, ::-1]),
    "mean and variance swapped": swapped(f"{UNIT}/BatchNorm/moving_mean", f"{UNIT}/BatchNorm/moving_variance", np.abs),
    "beta and mean swapped": swapped(f"{UNIT}/BatchNorm/beta", f"{UNIT}/BatchNorm/moving_mean"),
    "epsilon of 1e-5": everywhere("moving_variance", lambda a: a - np.float32(1e-3 - 1e-5)),
    "epsilon of 1e-2": everywhere("moving_variance", lambda a: a + np.float32(9e-3)),
    "a deviation for a variance": changed(f"{UNIT}/BatchNorm/moving_variance", np.sqrt),
    "the mean's sign": changed(f"{UNIT}/BatchNorm/moving_mean", np.negative),
    "beta left at zero": changed(f"{UNIT}/BatchNorm/beta", np.zeros_like),
    "depth order for all layers": depth_order(["conv2d", "batch_normalization"]),
    "depth order for convolutions": depth_order(["conv2d"]),
    "depth order for batch norms": depth_order(["batch_normalization"]),
    "convolutions of one shape off by one": rotated(r"InceptionV3/Mixed_6[cde]/Branch_0/Conv2d_0a_1x1/weights"),
    "1x3 branches of two blocks swapped": swapped(
        *(f"InceptionV3/Mixed_7c/Branch_{i}/Conv2d_{n}_1x3/weights" for i, n in ((1, "0b"), (2, "0c")))
    ),
    "kernels rounded to float16": everywhere("weights", lambda a: a.astype(np.float16).astype(np.float32)),
    "one channel of the last block lost": changed(
        "InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1/BatchNorm/beta", lambda a: np.where(np.arange(a.size) == 0, 1, a)
    ),
    "classes off by one": changed(f"{HEAD}/weights", lambda a: np.roll(a, 1, -1)),
    "the classifier's biases forgotten": changed(f"{HEAD}/biases", np.zeros_like),
}


@pytest.fixture(scope="module")
def right(tmp_path_factory):
    """Weights out of a Keras 3 file, and what they compute."""
    path = tmp_path_factory.mktemp("keras3") / "x.weights.h5"
    random_weights(NARROW).save(path)
    weights = load_weights(path)
    return weights, verify.end_points(weights, PIXELS, "keras")


@pytest.mark.parametrize("mistake", first(6, MISTAKES))
def test_verify_finds_it(right, mistake):
    weights, expected = right
    wrong = Weights(MISTAKES[mistake](dict(weights.arrays)), weights.variant, weights.source)
    rows = verify.differences(expected, verify.end_points(wrong, PIXELS, "keras"))
    assert max(row.relative for row in rows) > 1e-5
    assert verify.reasons(weights, wrong)


def test_there_are_twenty_and_the_right_one_passes(right):
    weights, expected = right
    assert len(MISTAKES) == 20
    rows = verify.differences(expected, verify.end_points(weights, PIXELS, "slim"))
    assert max(row.relative for row in rows) < 1e-5
