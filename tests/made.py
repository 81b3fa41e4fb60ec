"""What tests are made of: weights by chance, with statistics that keep activations in range, pixels and pictures."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inception import images, pictures
from inception.variants import Variant
from inception.weights import Source, Weights

NARROW = Variant(num_classes=7, depth_multiplier=0.1, min_depth=4)
NARROW_AUX = dataclasses.replace(NARROW, aux_logits=True, aux_kernel=(1, 1))
NARROW_NOTOP = dataclasses.replace(NARROW, num_classes=0)
TINY = Variant(num_classes=0, depth_multiplier=0.01, min_depth=2)  # where numbers do not matter
TINY_TORCH = dataclasses.replace(TINY, gamma=True, border="include")


# For tests that trace, freeze or differentiate by TensorFlow's own functions.
on_tensorflow = pytest.mark.skipif(
    os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow", reason="its own code is TensorFlow's"
)


def first(kept: int, cases: Iterable[Any]) -> list[Any]:
    """Cases of a test, of which `make test` runs the first ones, and thorough runs the others."""
    marks = pytest.mark.thorough
    rest = [pytest.param(*case, marks=marks) if isinstance(case, tuple) else pytest.param(case, marks=marks)
            for case in list(cases)[kept:]]  # fmt: skip
    return list(cases)[:kept] + rest


def random_weights(variant: Variant = NARROW, seed: int = 0) -> Weights:
    rng = np.random.default_rng(seed)
    arrays = {name: _values(rng, name, shape).astype(np.float32) for name, shape in variant.shapes().items()}
    picture = pictures.KERAS.at(variant.aux_size)
    return Weights(arrays, variant, Source("made", "made for a test"), picture=picture)


def with_nan(
    variant: Variant = NARROW, name: str = "Mixed_5b/Branch_0/Conv2d_0a_1x1/weights", value: float = math.nan
) -> Weights:
    """Random weights, one number of which is not finite."""
    made = random_weights(variant)
    array = made.arrays[f"InceptionV3/{name}"].copy()
    array.flat[0] = value
    return dataclasses.replace(made, arrays={**made.arrays, f"InceptionV3/{name}": array})


def _values(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("/weights"):
        return rng.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape)
    if name.endswith("moving_variance"):
        return rng.uniform(0.5, 1.5, shape)
    if name.endswith("gamma"):
        return rng.uniform(0.8, 1.2, shape)
    return rng.normal(0, 0.1, shape)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    """Pixels by chance."""
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def photographs(place: Path, count: int = 12, side: int = 200) -> Path:
    """A folder of small photographs: crops of those that scikit-learn brings."""
    datasets, rng = pytest.importorskip("sklearn.datasets"), np.random.default_rng(0)
    place.mkdir(exist_ok=True)
    pictures = datasets.load_sample_images().images
    for i in range(count):
        picture = pictures[i % len(pictures)]
        top, left = rng.integers(0, [picture.shape[0] - side, picture.shape[1] - side])
        Image.fromarray(picture[top : top + side, left : left + side]).save(place / f"{i:02}.png")
    return place


def thirty_pictures(place: Path) -> Path:
    """A folder of 30 JPEGs, each another, in two folders; number 11 is broken."""
    whole = images.test_picture(200)
    for i in range(30):
        path = place / ("even", "odd")[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(whole, 7 * i, 0)[: 80 + i, : 110 - i]).save(path)
    (place / "odd" / "11.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return place


def assert_same(a: Weights, b: Weights) -> None:
    """Bit for bit, in the same order, of the same network."""
    assert list(a.arrays) == list(b.arrays)
    for name in a.arrays:
        assert a.arrays[name].dtype == b.arrays[name].dtype == np.float32
        np.testing.assert_array_equal(a.arrays[name], b.arrays[name], err_msg=name)
    assert a.variant.shapes() == b.variant.shapes()
