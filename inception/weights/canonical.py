"""Weights in their one canonical form: arrays under slim's names, and the variant they belong to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import typing
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inception import pictures
from inception.files.errors import CheckpointError, CorruptFile, ShapeMismatch
from inception.files.tensor import Stored
from inception.pictures import Picture
from inception.variants import SCOPE, Variant

Integrity = Literal["digest", "checksum", "structure"]

HEADS = (f"{SCOPE}/Logits/Conv2d_1c_1x1", f"{SCOPE}/AuxLogits/Conv2d_2b_1x1")
# Softmax gives exactly 0 to a logit this far below the others, so the 1000 classes keep their numbers.
BACKGROUND_BIAS = -1e4
VARIANT = "inception_variant"  # the name under which our own files say their variant
_LONGEST_VARIANT = 4096


def integrity(checksummed: bool) -> Integrity:
    """What vouches for a file, by whether its container has checksums on all of it."""
    return "checksum" if checksummed else "structure"


@dataclass(frozen=True)
class Source:
    """Where weights came from, and how far their bytes can be trusted.

    integrity: "digest" (the file is a published one, by its hash), "checksum" (the
    format's own checksums were right) or "structure" (the format has none). assumed: a
    sentence on what the file does not say, where families that differ in it share its names.
    """

    path: str
    format: str
    integrity: Integrity = "structure"
    published: str | None = None
    notes: tuple[str, ...] = ()
    assumed: str = ""


@dataclass(frozen=True)
class Weights:
    """InceptionV3's arrays under slim's variable names, and the `Variant` they belong to.

    arrays: {"InceptionV3/Conv2d_1a_3x3/weights": float32 array, HWIO, ...} in creation order.
    extra: what else a fine-tuned file holds, under the file's own names: the layers of
        another head, say. They are of no use to the network and stay behind at `save`
        only by name (the step drop-extra).
    picture: how a picture becomes the input that they were trained with.
    """

    arrays: Mapping[str, np.ndarray]
    variant: Variant
    source: Source
    extra: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    picture: Picture = pictures.KERAS

    def __repr__(self) -> str:
        heads = f"{self.variant.num_classes} classes" if self.variant.num_classes else "no classifier"
        extra = f", {len(self.extra)} extra" if self.extra else ""
        return (
            f"Weights({self.source.path!r}, {self.source.format}: {heads}, {len(self.arrays)} arrays{extra}, "
            f"{self.parameters:,} parameters)"
        )

    @property
    def parameters(self) -> int:
        """How many numbers the arrays hold, moving statistics included."""
        return sum(array.size for array in self.arrays.values())

    def save(self, path: str | os.PathLike[str], format: str | None = None, *, overwrite: bool = True) -> Path:
        """Writes the weights in the format that the name asks for, or in `format` (see `formats.FORMATS`).

        The target appears whole or not at all; a file that is there is replaced, unless
        overwrite=False refuses it. Raises `UnsupportedFeature` for a name of no known format,
        ValueError for a target that is no regular file.
        """
        from inception.weights import formats

        return formats.save(self, path, format, overwrite=overwrite)

    def step(self, name: str) -> Weights:
        """These weights after one named, reported change (see `STEPS`)."""
        if name not in STEPS:
            raise CheckpointError(f"Unknown step {name!r}; expected one of {', '.join(STEPS)}.")
        return STEPS[name](self)


def variant_json(weights: Any) -> str:
    """The variant and the picture of weights (or of a plan of them), for a file to carry."""
    return json.dumps(dataclasses.asdict(weights.variant) | {"picture": weights.picture.json()})


def written_variant(text: str, where: str) -> Variant:
    """The variant that `variant_json` wrote; `CorruptFile`, naming `where`, for any other text.

    Fields that this version does not know are passed over.
    """
    with _said(text, where) as fields:
        return _variant(fields)


def written(text: str | None, where: str, way: str = "") -> tuple[Variant | None, Picture | str]:
    """The variant and the picture that `variant_json` wrote; None without a text, `way` without a picture in it.

    Raises as `written_variant` does.
    """
    if text is None:
        return None, way
    with _said(text, where) as fields:
        said = fields.get("picture")
        return _variant(fields), pictures.from_json(said) if isinstance(said, dict) else way


def _variant(fields: Mapping[str, Any]) -> Variant:
    kinds = typing.get_type_hints(Variant)
    variant = Variant(**{name: _typed(fields[name], kind, name) for name, kind in kinds.items() if name in fields})
    variant.table()  # refuses a width of zero
    return variant


@contextlib.contextmanager
def _said(text: str, where: str) -> Iterator[dict[str, Any]]:
    try:
        if len(text) > _LONGEST_VARIANT:
            raise ValueError(f"{len(text)} characters; expected {_LONGEST_VARIANT} at most")
        fields = json.loads(text)
        if not isinstance(fields, dict):
            raise ValueError("no object")
        yield fields
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CorruptFile(f"{where}: {VARIANT} is not a variant's JSON ({error}); write the file again.") from error


def usual_picture(way: str, variant: Variant) -> Picture:
    """The published way of that name, at the size that the auxiliary head was built for."""
    return pictures.NAMED[way].at(variant.aux_size)


def _typed(value: Any, kind: Any, name: str) -> Any:
    """A value of JSON as the field's type has it: numbers finite, texts among those listed, lists as tuples."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(_typed(item, part, name) for item, part in zip(value, parts, strict=True))
    if typing.get_origin(kind) is Literal and value in parts:
        return value
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind in (int, bool) and type(value) is kind and (kind is bool or 0 <= value < 1 << 31):
        return value
    raise ValueError(f"{name} cannot be {str(value)[:40]!r}")


def check_floats(tensors: Mapping[str, Stored], where: str) -> None:
    """`ShapeMismatch` for a tensor of whole numbers or of text, which no weight is."""
    strange = [f"{name} is {stored.dtype}" for name, stored in tensors.items() if stored.dtype.kind != "f"]
    if strange:
        raise ShapeMismatch(f"{where}: {', '.join(strange[:3])}; expected floating-point numbers, not quantized.")


def _changed(weights: Weights, arrays: Mapping[str, np.ndarray], note: str, **fields: object) -> Weights:
    variant = dataclasses.replace(weights.variant, **fields)  # type: ignore[arg-type]
    source = dataclasses.replace(weights.source, published=None, notes=(*weights.source.notes, note))
    return Weights({name: arrays[name] for name in variant.shapes()}, variant, source, weights.extra, weights.picture)


class OtherRules(UserWarning):
    """Weights written for code that runs another network on them unless it is told."""


def warn_of_rules(weights: Weights, theirs: Variant, path: str, reader: str, way: str = "keras") -> None:
    """Warns of the rules that a format cannot say and in which `reader`, its own code, runs another network."""
    mine, usual = (
        {"border": v.border, "last_pool": v.last_pool, "epsilon": v.epsilon, "mean": p.mean, "scale": p.scale}
        for v, p in ((weights.variant, weights.picture), (theirs, pictures.NAMED[way]))
    )
    rules = [name for name in mine if mine[name] != usual[name]]
    if rules:
        wanted = ", ".join(f"{name}={mine[name]!r} ({reader} has {usual[name]!r})" for name in rules)
        warnings.warn(
            f"{path}: these weights need {wanted}. Such a file cannot say so: change the code that loads it "
            "(border='exclude' is count_include_pad=False in torch's average pools).",
            OtherRules,
            stacklevel=6,
        )


def check_same(found: Weights, expected: Weights, where: str) -> None:
    """Raises `CorruptFile` unless a file just written holds the very arrays that it should."""
    wrong = sorted(found.arrays.keys() ^ expected.arrays.keys()) or [
        name for name, array in expected.arrays.items() if found.arrays[name].tobytes() != array.tobytes()
    ]
    if wrong:
        shown = ", ".join(wrong[:4])
        raise CorruptFile(f"{where}: {shown} did not read back as written; nothing was saved, check the disk.")


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
    note = f"drop-extra: removed {', '.join(weights.extra)}"
    source = dataclasses.replace(weights.source, published=None, notes=(*weights.source.notes, note))
    return dataclasses.replace(weights, source=source, extra={})


def _with_heads(weights: Weights, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    return {name: change(array) if name.startswith(HEADS) else array for name, array in weights.arrays.items()}


STEPS: dict[str, Callable[[Weights], Weights]] = {
    "drop-background": drop_background,
    "add-background": add_background,
    "drop-aux": drop_aux,
    "drop-top": drop_top,
    "drop-extra": drop_extra,
    "fold-gamma": fold_gamma,
}
