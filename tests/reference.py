"""What the inference engines are held against: the Keras builder's end points, for narrow nets and small images."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from made import NARROW, NARROW_AUX, NARROW_NOTOP, noise

from inception import verify
from inception.pictures import preprocess_input

SMALL = 75
VARIANTS = {
    "narrow": NARROW,
    "aux": NARROW_AUX,
    "notop": NARROW_NOTOP,
    "include": dataclasses.replace(NARROW, border="include", gamma=True, aux_logits=True, aux_kernel=(1, 1)),
    "last_pool": dataclasses.replace(NARROW, last_pool="max", gamma=True),
    "wider": dataclasses.replace(NARROW, depth_multiplier=0.25, min_depth=8),
}


_computed: dict[str, dict[str, np.ndarray]] = {}
_keras_end_points = verify.keras_end_points


def keras_end_points(weights, batch, names=()):
    """`verify.keras_end_points`, computed once for the same weights and images."""
    asked = hashlib.sha256(repr((weights.variant, batch.shape, batch.dtype)).encode())
    for array in (*weights.arrays.values(), batch):
        asked.update(np.ascontiguousarray(array))
    key = asked.hexdigest()
    if key not in _computed:
        _computed[key] = _keras_end_points(weights, batch)
    return {name: _computed[key][name] for name in names or _computed[key]}


def assert_close(found, expected, names):
    assert list(found) == list(names)
    for name in names:
        assert found[name].shape == expected[name].shape, name
        assert np.abs(found[name] - expected[name]).max() <= 1e-5 * np.abs(expected[name]).max(), name


def pixels(count=2, side=SMALL, channels=3):
    return noise(count, side, side, channels, seed=3)


def floats(count=2, side=SMALL, picture="keras"):
    return preprocess_input(pixels(count, side), picture=picture)
