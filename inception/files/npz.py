"""NumPy's `.npz`, read without ever unpickling: the arrays of plain numbers and texts in it.

Members are stored as they are; ZIP's CRC32 covers every one.
"""

from __future__ import annotations

import functools
import io
import math
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inception.files import inert_json
from inception.files.archive import Archive
from inception.files.atomic import replacing
from inception.files.errors import UnsafeFile, UnsupportedFeature
from inception.files.tensor import MOST_DIMENSIONS, Stored, check_written, damaged

_LONGEST_HEADER = 4096
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_LONGEST_TEXT = 4 * 4096


def write(path: str | os.PathLike[str], arrays: Mapping[str, Any]) -> None:
    """Writes arrays under their names, as `numpy.savez` does; read back before the file takes its name."""
    with replacing(path) as [temporary]:
        # NumPy 1's own function leaves the archive open where the disk is full, and Python complains of that later.
        with zipfile.ZipFile(temporary, "w") as file:
            for name, array in arrays.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
        check_written(listed(Archive(temporary)), arrays, os.fspath(path))


def listed(archive: Archive) -> dict[str, Stored]:
    """The arrays of plain numbers and texts in a NumPy archive, by name; none is read yet."""
    strange = [name for name in archive.members if not name.endswith(".npy")]
    if strange:
        raise UnsupportedFeature(f"{archive.name}: holds {strange[0]!r}; expected a NumPy archive, .npy members alone.")
    return {member.removesuffix(".npy"): _stored(archive, member) for member in archive.members}


def rows(archive: Archive, name: str) -> Callable[[int], np.ndarray]:
    """A function of a number that reads that row alone of an array, however many there are.

    An array that is compressed is read whole the first time, if it is no larger than the archive's `largest`.
    """
    member = f"{name}.npy"
    start, shape, fortran, dtype = _described(archive, member)
    if fortran or not shape:
        raise UnsupportedFeature(f"{archive.name}: {member} is not stored row by row; save it with numpy.savez")
    if archive.members[member].deflated:
        return _values(archive, member, start, shape, False, dtype).__getitem__
    size = math.prod(shape[1:]) * dtype.itemsize
    return lambda row: archive.part(member, start + row * size, size).view(dtype).reshape(shape[1:])


def _stored(archive: Archive, member: str) -> Stored:
    start, shape, fortran, dtype = _described(archive, member)
    return Stored(shape, dtype, functools.partial(_values, archive, member, start, shape, fortran, dtype))


def _described(archive: Archive, member: str) -> tuple[int, tuple[int, ...], bool, np.dtype]:
    """(first byte of the values, shape, ...) by an array's header, which must explain its size to the byte."""
    where, size = f"{archive.name}: {member}", archive.members[member].size
    start = io.BytesIO(archive.head(member, 2 * _LONGEST_HEADER))
    shape, fortran, dtype = _header(start, where)
    if dtype.hasobject:
        raise UnsafeFile(f"{where}: holds pickled Python objects, which may be code; such files are not read")
    if dtype.kind not in "fiuSU" or dtype.subdtype or len(shape) > MOST_DIMENSIONS:
        raise UnsupportedFeature(f"{where}: is a {dtype} array of {len(shape)} dimensions; expected plain numbers")
    if not inert_json.is_shape(list(shape)) or start.tell() + math.prod(shape) * dtype.itemsize != size:
        raise damaged(where, f"{shape} of {dtype} do not make a member of {size} bytes")
    return start.tell(), shape, fortran, dtype


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
