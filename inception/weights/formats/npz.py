"""Our own plain file: NumPy's `.npz` with the canonical names, read without ever unpickling.

A member `InceptionV3/Conv2d_1a_3x3/weights.npy` an array, and the variant's JSON as the
text `inception_variant`, so that `np.load` shows all there is. Members are stored as
they are; ZIP's CRC32 covers every one.
"""

from __future__ import annotations

import os

import numpy as np

from inception.files import npz
from inception.files.archive import Archive
from inception.weights.canonical import VARIANT, Source, Weights, integrity, variant_json, written
from inception.weights.dialects import slim

TITLE = "NumPy archive (canonical names)"


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in an `.npz` of canonical names, with or without a variant written beside them.

    Raises:
        UnsupportedFeature: When it holds other arrays.
        MissingTensor, ShapeMismatch: When it holds part of a network.
        UnsafeFile: For pickled objects.
        CorruptFile: For damage.
    """
    archive = Archive(path)
    tensors = npz.listed(archive)
    said = tensors.pop(VARIANT, None)
    like, picture = written(None if said is None else npz.text(said, VARIANT, archive.name), archive.name)
    return slim.gather(tensors, Source(archive.name, TITLE, integrity(archive.checksummed)), like, picture)


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the arrays under their canonical names, and the variant; read back before it takes its name."""
    npz.write(path, {**weights.arrays, VARIANT: np.array(variant_json(weights))})
