"""Our own plain file: NumPy's `.npz` with the canonical names, read without ever unpickling.

A member `InceptionV3/Conv2d_1a_3x3/weights.npy` an array, and the variant's JSON as the
text `inception_variant`, so that `np.load` shows all there is. Members are stored as
they are; ZIP's CRC32 covers every one.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from inception.pictures import Picture
from inception.variants import KERAS, SCOPE, Variant
from inception.weights import inert_json
from inception.weights.archive import Archive
from inception.weights.assemble import assemble
from inception.weights.atomic import replacing
from inception.weights.canonical import (
    VARIANT,
    Integrity,
    Source,
    Weights,
    variant_json,
    written,
)
from inception.weights.errors import UnsafeFile, UnsupportedFeature
from inception.weights.plan import Claim
from inception.weights.stored import Stored
from inception.weights.tensor_bundle import check_written
from inception.weights.wire import MOST_DIMENSIONS, damaged

FORMAT = "npz"
TITLE = "NumPy archive (canonical names)"
_LONGEST_HEADER = 4096
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LONGEST_TEXT = 4 * 4096


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in an `.npz` of canonical names, with or without a variant written beside them.

    Raises `UnsupportedFeature` when it holds other arrays, `MissingTensor` or
    `ShapeMismatch` when it holds part of a network, `UnsafeFile` for pickled objects,
    `CorruptFile` for damage.
    """
    archive = Archive(path)
    tensors = listed(archive)
    said = tensors.pop(VARIANT, None)
    like, picture = written(None if said is None else text(said, VARIANT, archive.name), archive.name)
    integrity: Integrity = "checksum" if archive.checksummed else "structure"
    return gather(tensors, Source(archive.name, TITLE, integrity), like, picture)


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the arrays under their canonical names, and the variant; read back before it takes its name."""
    arrays: dict[str, Any] = {**weights.arrays, VARIANT: np.array(variant_json(weights))}
    with replacing(path) as [temporary]:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        check_written(listed(Archive(temporary)), arrays, os.fspath(path))


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


def listed(archive: Archive) -> dict[str, Stored]:
    """The arrays of plain numbers and texts in a NumPy archive, by name; none is read yet."""
    strange = [name for name in archive.members if not name.endswith(".npy")]
    if strange:
        raise UnsupportedFeature(f"{archive.name}: holds {strange[0]!r}; expected a NumPy archive, .npy members alone.")
    return {member.removesuffix(".npy"): _stored(archive, member) for member in archive.members}


def _stored(archive: Archive, member: str) -> Stored:
    """An array by its header, which must explain the member's size to the byte."""
    where, size = f"{archive.name}: {member}", archive.members[member].size
    start = io.BytesIO(archive.head(member, 2 * _LONGEST_HEADER))
    shape, fortran, dtype = _header(start, where)
    if dtype.hasobject:
        raise UnsafeFile(f"{where}: holds pickled Python objects, which may be code; such files are not read")
    if dtype.kind not in "fiuSU" or dtype.subdtype or len(shape) > MOST_DIMENSIONS:
        raise UnsupportedFeature(f"{where}: is a {dtype} array of {len(shape)} dimensions; expected plain numbers")
    if not inert_json.is_shape(list(shape)) or start.tell() + math.prod(shape) * dtype.itemsize != size:
        raise damaged(where, f"{shape} of {dtype} do not make a member of {size} bytes")
    return Stored(shape, dtype, functools.partial(_values, archive, member, start.tell(), shape, fortran, dtype))


def _header(start: io.BytesIO, where: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        version = np.lib.format.read_magic(start)
        reader = _HEADERS.get(version)
        if reader:
            shape, fortran, dtype = reader(start, max_header_size=_LONGEST_HEADER)
            return shape, fortran, dtype
    except Exception as error:  # NumPy evaluates headers as Python literals, and nonsense raises a dozen types there
        raise damaged(where, f"its .npy header cannot be read ({_first_line(error)})") from error
    raise UnsupportedFeature(f"{where}: is of .npy version {version}; expected 1.0 or 2.0")


def _values(
    archive: Archive, member: str, start: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> np.ndarray:
    values = archive.octets(member)[start:].view(dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def text(stored: Stored, name: str, where: str, at_most: int = _LONGEST_TEXT) -> str:
    """A text of at most so many bytes, which NumPy keeps as an array of no dimension. `CorruptFile` for another."""
    if stored.shape or stored.dtype.kind not in "SU" or stored.dtype.itemsize > at_most:
        raise damaged(where, f"{name} is a {stored.dtype} array of shape {stored.shape} where a text belongs")
    try:
        value = stored.read()[()]
        return value.decode() if isinstance(value, bytes) else str(value)
    except ValueError as error:
        raise damaged(where, f"{name} is no text ({_first_line(error)})") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
