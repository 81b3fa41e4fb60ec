"""Our own plain file: NumPy's `.npz` with the canonical names, read without ever unpickling.

A member `InceptionV3/Conv2d_1a_3x3/weights.npy` an array, and the variant's JSON as the
text `inception_variant`, so that `np.load` shows all there is. Members are stored as
they are; ZIP's CRC32 covers every one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from inception.files import npz
from inception.files.archive import Archive
from inception.files.errors import UnsupportedFeature
from inception.files.tensor import Stored
from inception.pictures import Picture
from inception.variants import KERAS, SCOPE, Variant
from inception.weights.assemble import assemble
from inception.weights.canonical import (
    VARIANT,
    Integrity,
    Source,
    Weights,
    variant_json,
    written,
)
from inception.weights.plan import Claim

TITLE = "NumPy archive (canonical names)"


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in an `.npz` of canonical names, with or without a variant written beside them.

    Raises `UnsupportedFeature` when it holds other arrays, `MissingTensor` or
    `ShapeMismatch` when it holds part of a network, `UnsafeFile` for pickled objects,
    `CorruptFile` for damage.
    """
    archive = Archive(path)
    tensors = npz.listed(archive)
    said = tensors.pop(VARIANT, None)
    like, picture = written(None if said is None else npz.text(said, VARIANT, archive.name), archive.name)
    integrity: Integrity = "checksum" if archive.checksummed else "structure"
    return gather(tensors, Source(archive.name, TITLE, integrity), like, picture)


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the arrays under their canonical names, and the variant; read back before it takes its name."""
    npz.write(path, {**weights.arrays, VARIANT: np.array(variant_json(weights))})


def has_canonical_names(tensors: Mapping[str, Stored]) -> bool:
    """Whether any of these is a variable of slim's."""
    return any(name.startswith(f"{SCOPE}/") for name in tensors)


def gather(
    tensors: Mapping[str, Stored], source: Source, like: Variant | None = None, picture: Picture | str = ""
) -> Weights:
    """The weights in tensors of canonical names, every one used once.

    `like` and `picture` are what the file itself says, if it does. Raises what `read` does.
    """
    where = f"{source.path} ({source.format})"
    if not has_canonical_names(tensors):
        shown = ", ".join(list(tensors)[:4]) or "nothing"
        raise UnsupportedFeature(f"{where} has no arrays under {SCOPE}/ (found {shown}); expected slim's names.")
    claims = [Claim(name, name) for name in tensors if name.startswith(f"{SCOPE}/")]
    return assemble(claims, tensors, source, like or KERAS, picture or "keras")
