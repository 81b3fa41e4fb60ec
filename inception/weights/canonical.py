"""Weights in their one canonical form: arrays under slim's names, and the variant they belong to."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from inception.variants import SCOPE, Variant
from inception.weights.errors import CheckpointError

Integrity = Literal["digest", "checksum", "structure"]

HEADS = (f"{SCOPE}/Logits/Conv2d_1c_1x1", f"{SCOPE}/AuxLogits/Conv2d_2b_1x1")
# Softmax gives exactly 0 to a logit this far below the others, so the 1000 classes keep their numbers.
BACKGROUND_BIAS = -1e4


@dataclass(frozen=True)
class Source:
    """Where weights came from, and how far their bytes can be trusted.

    integrity: "digest" (the file is a published one, by its hash), "checksum" (the
    format's own checksums were right) or "structure" (the format has none).
    """

    path: str
    format: str
    integrity: Integrity = "structure"
    published: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Weights:
    """InceptionV3's arrays under slim's variable names, and the `Variant` they belong to.

    arrays: {"InceptionV3/Conv2d_1a_3x3/weights": float32 array, HWIO, ...} in creation order.
    """

    arrays: Mapping[str, np.ndarray]
    variant: Variant
    source: Source

    @property
    def parameters(self) -> int:
        """How many numbers the arrays hold, moving statistics included."""
        return sum(array.size for array in self.arrays.values())

    def save(self, path: str | os.PathLike[str], format: str | None = None) -> Path:
        """Writes the weights in the format that the name asks for, or in `format` (see `formats.FORMATS`).

        The target appears whole or not at all. Raises `UnsupportedFeature` for a name of
        no known format.
        """
        from inception.weights import formats

        return formats.save(self, path, format)

    def step(self, name: str) -> Weights:
        """These weights after one named, reported change (see `STEPS`)."""
        if name not in STEPS:
            raise CheckpointError(f"Unknown step {name!r}; expected one of {', '.join(STEPS)}.")
        return STEPS[name](self)


def _changed(weights: Weights, arrays: Mapping[str, np.ndarray], note: str, **fields: object) -> Weights:
    variant = dataclasses.replace(weights.variant, **fields)  # type: ignore[arg-type]
    source = dataclasses.replace(weights.source, published=None, notes=(*weights.source.notes, note))
    return Weights({name: arrays[name] for name in variant.shapes()}, variant, source)


def drop_background(weights: Weights) -> Weights:
    """1001 classes -> 1000: class 0 ("background") leaves both heads. Softmax is then over the rest."""
    if not weights.variant.background:
        raise CheckpointError(
            f"drop-background: {weights.source.path} has no background class "
            f"({weights.variant.num_classes} classes); leave the step out."
        )
    arrays = _with_heads(weights, lambda array: np.ascontiguousarray(array[..., 1:]))
    note = "drop-background: class 0 removed from the heads; probabilities are over the other classes"
    return _changed(weights, arrays, note, num_classes=weights.variant.num_classes - 1, background=False)


def add_background(weights: Weights) -> Weights:
    """1000 classes -> 1001: a class 0 of weight 0 and bias -10000, which softmax gives exactly 0."""
    if weights.variant.background or not weights.variant.num_classes:
        raise CheckpointError(
            f"add-background: {weights.source.path} has "
            + ("a background class already" if weights.variant.background else "no classifier")
            + "; leave the step out."
        )
    arrays = _with_heads(
        weights,
        lambda array: np.concatenate(
            [np.full((*array.shape[:-1], 1), BACKGROUND_BIAS if array.ndim == 1 else 0, array.dtype), array], -1
        ),
    )
    note = f"add-background: a class 0 of weights 0 and bias {BACKGROUND_BIAS:g}; other probabilities are unchanged"
    return _changed(weights, arrays, note, num_classes=weights.variant.num_classes + 1, background=True)


def drop_aux(weights: Weights) -> Weights:
    """The auxiliary head leaves; the other end points keep their numbers."""
    if not weights.variant.aux_logits:
        raise CheckpointError(f"drop-aux: {weights.source.path} has no auxiliary head; leave the step out.")
    return _changed(weights, weights.arrays, "drop-aux: the auxiliary head was removed", aux_logits=False)


def drop_top(weights: Weights) -> Weights:
    """Both classifiers leave; the base stays ("notop")."""
    if not weights.variant.num_classes:
        raise CheckpointError(f"drop-top: {weights.source.path} has no classifier; leave the step out.")
    note = "drop-top: the classifier and the auxiliary head were removed"
    return _changed(weights, weights.arrays, note, num_classes=0, aux_logits=False, background=False)


def _with_heads(weights: Weights, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: change(array) if name.startswith(HEADS) else array for name, array in weights.arrays.items()
    }


STEPS: dict[str, Callable[[Weights], Weights]] = {
    "drop-background": drop_background,
    "add-background": add_background,
    "drop-aux": drop_aux,
    "drop-top": drop_top,
}
