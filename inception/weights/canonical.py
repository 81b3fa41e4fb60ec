"""Weights in their one canonical form: arrays under slim's names, and the variant they belong to."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inception import architecture, brief, pictures
from inception.arguments import nearest
from inception.files import inert_json
from inception.files.errors import CheckpointError, CorruptFile, reason
from inception.pictures import Picture
from inception.variants import Variant
from inception.weights.steps import STEPS

Integrity = Literal["digest", "checksum", "structure"]

VARIANT = "inception_variant"  # the name under which our own files say their variant
_LONGEST_VARIANT = 4096


def integrity(checksummed: bool) -> Integrity:
    """What vouches for a file, by whether its container has checksums on all of it."""
    return "checksum" if checksummed else "structure"


@dataclass(frozen=True)
class Source:
    """Where weights came from, and how far their bytes can be trusted.

    Attributes:
        path: of the file.
        format: what kind of file it is.
        integrity: "digest" (the file is a published one, by its hash), "checksum" (the format's own checksums were
            right) or "structure" (the format has none).
        published: the id of the published file that it is.
        notes: sentences on what was done in reading it.
        assumed: a sentence on what the file does not say, where families that differ in it share its names.
    """

    path: str
    format: str
    integrity: Integrity = "structure"
    published: str | None = None
    notes: tuple[str, ...] = ()
    assumed: str = ""

    @property
    def where(self) -> str:
        """What sentences call it."""
        return f"{self.path} ({self.format})"


@dataclass(frozen=True)
class Weights:
    """InceptionV3's arrays under slim's variable names, and what belongs to them.

    Attributes:
        arrays: {"InceptionV3/Conv2d_1a_3x3/weights": float32 array, HWIO, ...} in creation order.
        variant: which InceptionV3 they are of.
        source: where they came from.
        extra: what else a fine-tuned file holds, under the file's own names: the layers of another head, say. They are
            of no use to the network and stay behind at `save` only by name (the step drop-extra).
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

    def _repr_html_(self) -> str:
        """What a notebook shows: the blocks, for pictures of the weights' own size."""
        variant, sides = self.variant, self.picture.sides
        height, width = sides if min(sides) >= architecture.MIN_SIZE_AUX else (None, None)
        rows = [
            (b.name, " × ".join("?" if side is None else str(side) for side in b.output_shape), f"{b.parameters:,}")
            for b in architecture.blocks(variant.table(), height, width, variant.channels, variant.gamma)
        ]
        total = ("all", "", f"{self.parameters:,}")
        return brief.card(self, brief.table(("block", "output", "parameters"), [*rows, total]))

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
            raise CheckpointError(f"Unknown step {name!r}{nearest(name, STEPS)}; expected one of {', '.join(STEPS)}.")
        return STEPS[name](self)


def variant_json(weights: Any) -> str:
    """The variant and the picture of weights (or of a plan of them), for a file to carry."""
    return json.dumps(dataclasses.asdict(weights.variant) | {"picture": weights.picture.json()})


def written(text: str | None, where: str, way: str = "") -> tuple[Variant | None, Picture | str]:
    """The variant and the picture that `variant_json` wrote; None without a text, `way` without a picture in it.

    Fields that this version does not know are passed over. Raises `CorruptFile`, naming `where`, for any other text.
    """
    if text is None:
        return None, way
    try:
        fields = inert_json.parse(text.encode(), _LONGEST_VARIANT, where)
        variant = inert_json.record(Variant, fields)
        variant.table()  # refuses a width of zero
        picture = fields.get("picture")
        return variant, pictures.from_json(picture) if isinstance(picture, dict) else way
    except (ValueError, TypeError, OverflowError) as error:
        told = reason(error, where)
        raise CorruptFile(f"{where}: {VARIANT} is not a variant's JSON ({told}); write the file again.") from error


# ---- doubts


class DoubtfulWeights(UserWarning):
    """Weights that were read as the file has them, and that cannot be meant so."""


class UnverifiedFile(UserWarning):
    """A file whose format has no checksums, and that is no published one."""


class AssumedPicture(UserWarning):
    """A file that does not say how pictures are brought to its network, of a family that has several ways."""


class OtherRules(UserWarning):
    """Weights written for code that runs another network on them unless it is told."""


def doubts(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A sentence for each array with numbers that are not finite, negative variances or a kernel of zeros.

    Of single flipped bits this finds one in twenty, so it is no substitute for a checksum; what it finds for certain
    is a network that was never filled, or that diverged.
    """
    for name, array in arrays.items():
        wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
        if wrong:
            yield f"{name} has {wrong} values that are not finite"
        elif name.endswith("/moving_variance") and array.size and array.min() < 0:
            yield f"{name} has negative variances"
        elif name.endswith("/weights") and array.size and not array.any():
            yield f"{name} is a kernel of zeros"


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
