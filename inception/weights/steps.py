"""Changes of weights by name: each is asked for, and says in the notes what it did."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from inception.files.errors import CheckpointError
from inception.variants import SCOPE

if TYPE_CHECKING:
    from inception.weights.canonical import Weights

HEADS = (f"{SCOPE}/Logits/Conv2d_1c_1x1", f"{SCOPE}/AuxLogits/Conv2d_2b_1x1")
# Softmax gives exactly 0 to a logit this far below the others, so the 1000 classes keep their numbers.
BACKGROUND_BIAS = -1e4


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


def fold_gamma(weights: Weights) -> Weights:
    """Batch norm's scale goes into the kernels and moving means; at inference the numbers are the same.

    Kernel and mean are multiplied by gamma for each output channel, whatever its sign;
    beta and variance stay. In training they would not be: batch variances scale too.
    """
    if not weights.variant.gamma:
        raise CheckpointError(f"fold-gamma: {weights.source.path} has no gamma; leave the step out.")
    arrays = dict(weights.arrays)
    for name in weights.arrays:
        scope, mark, _ = name.rpartition("BatchNorm/gamma")
        if mark:
            for scaled in (f"{scope}weights", f"{scope}BatchNorm/moving_mean"):
                arrays[scaled] = arrays[scaled] * arrays[name]
    note = "fold-gamma: gamma multiplied into kernels and moving means; for inference only"
    return _changed(weights, arrays, note, gamma=False)


def drop_extra(weights: Weights) -> Weights:
    """Arrays beyond InceptionV3 (another head's) leave."""
    if not weights.extra:
        raise CheckpointError(f"drop-extra: {weights.source.path} has nothing beyond InceptionV3; leave the step out.")
    return _noted(weights, f"drop-extra: removed {', '.join(weights.extra)}", extra={})


def _with_heads(weights: Weights, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {name: change(array) if name.startswith(HEADS) else array for name, array in weights.arrays.items()}


def _changed(weights: Weights, arrays: Mapping[str, np.ndarray], note: str, **fields: object) -> Weights:
    variant = dataclasses.replace(weights.variant, **fields)  # type: ignore[arg-type]
    return _noted(weights, note, arrays={name: arrays[name] for name in variant.shapes()}, variant=variant)


def _noted(weights: Weights, note: str, **fields: object) -> Weights:
    source = dataclasses.replace(weights.source, published=None, notes=(*weights.source.notes, note))
    return dataclasses.replace(weights, source=source, **fields)  # type: ignore[arg-type]


STEPS: dict[str, Callable[[Weights], Weights]] = {
    "drop-background": drop_background,
    "add-background": add_background,
    "drop-aux": drop_aux,
    "drop-top": drop_top,
    "drop-extra": drop_extra,
    "fold-gamma": fold_gamma,
}
