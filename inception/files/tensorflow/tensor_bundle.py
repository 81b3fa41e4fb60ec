"""TensorFlow's V2 checkpoint: PREFIX.index lists the tensors, PREFIX.data-00000-of-00001 holds their values.

The index is a table (`sstable`) from name to entry: type, shape, which data file,
offset, size and checksum. Read and written here without TensorFlow.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inception.files.atomic import replacing, taking_turns
from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import MOST_DIMENSIONS, Shape, Stored, check_written, damaged, octets
from inception.files.tensorflow import wire
from inception.files.tensorflow.sstable import masked_crc, read_table, write_table

_LARGEST_INDEX = 16 << 20  # 131,000 entries at most; a training checkpoint has some 2,000
_MOST_SHARDS = 99_999  # the file names have five digits
_LITTLE_ENDIAN = 0
_STRING = 7
_LONGEST_HEAD = 14  # the length of a string, and the checksum of that
_HEADER = b""
_ONLY_WHOLE = "save it unpartitioned, only whole tensors are read"
_Path = str | os.PathLike[str]


def read(prefix: _Path, files: Sequence[_Path] = ()) -> dict[str, Stored]:
    """The tensors of the checkpoint PREFIX.index and PREFIX.data-?????-of-?????, by name.

    The index is read and checked, the data when a tensor is asked for. Strings and
    other types that no weight has are listed too; reading one raises
    `UnsupportedFeature`. A data file that is a link raises `UnsafeFile`.

    Args:
        files: the index and the data files, where they have other names than the prefix would give them.
    """
    index, entries, shards = _opened(prefix, files)
    found = {}
    for key, value in entries.items():
        if key == _HEADER:
            continue
        if key.startswith(b"\0"):
            raise UnsupportedFeature(f"{index}: has a partitioned variable; {_ONLY_WHOLE}")
        name = wire.text(key, index)
        found[name] = _stored(name, wire.Message(value, f"{index}: tensor {name!r}"), shards)
    return found


def string(prefix: _Path, name: str, at_most: int) -> bytes:
    """The one string that the tensor `name` of a checkpoint is, its checksums right.

    Args:
        prefix: the checkpoint, as `read` takes it.
        name: a tensor that `read` lists.
        at_most: `ResourceLimit` is raised for a string of more bytes.
    """
    index, entries, shards = _opened(prefix)
    entry = wire.Message(entries[name.encode()], f"{index}: tensor {name!r}")
    file, offset, size = _place(entry, shards)
    if entry.integer(1) != _STRING or wire.shape(entry.message(2)) != ():
        raise damaged(entry.where, "is not the one string that it should be")
    where, head = f"{file.name}: tensor {name!r}", min(size, _LONGEST_HEAD)
    if size - head > at_most:
        raise ResourceLimit(f"{where}: a string of {size} bytes; expected {at_most} at most")
    content = file.octets(offset, size, where).data
    length, start = wire.read_varint(content[:head], 0, where)
    text, check = content[start + 4 :], content[start : start + 4]
    # The checksums are of the length in four bytes, as which it is not stored.
    octets_of_length = (length & 0xFFFFFFFF).to_bytes(4, "little")
    if len(text) != length or int.from_bytes(check, "little") != masked_crc(octets_of_length):
        raise damaged(where, f"its length {length} is not that of {size} bytes")
    if masked_crc(octets_of_length, check, text) != entry.fixed32(6):
        raise damaged(where, "its checksum is wrong")
    return bytes(text)


# ---- reading


class _Shards(NamedTuple):
    """The number of data files that a checkpoint has, and the file of each number."""

    number: int
    file: Callable[[int], RegularFile]


def _opened(prefix: _Path, files: Sequence[_Path] = ()) -> tuple[str, Mapping[bytes, bytes], _Shards]:
    """The name of the index, its entries, and the data files."""
    index, *given = [os.fspath(file) for file in files or [f"{os.fspath(prefix)}.index"]]
    entries = read_table(index, _LARGEST_INDEX)
    count = _shard_count(entries, index)
    if files and count != len(given):
        raise damaged(index, f"names {count} data files where {len(given)} are given")

    @functools.cache
    def shard(number: int) -> RegularFile:
        path = given[number] if files else _shard_name(prefix, number, count)
        if not os.path.lexists(path):
            raise CorruptFile(f"{path}: is missing; {index} names it, copy both")
        return RegularFile(path, follow_links=False)

    return index, entries, _Shards(count, shard)


def _shard_name(prefix: _Path, number: int, count: int) -> str:
    return f"{os.fspath(prefix)}.data-{number:05d}-of-{count:05d}"


def _shard_count(entries: Mapping[bytes, bytes], where: str) -> int:
    """Checks the header and returns the number of data files."""
    if _HEADER not in entries:
        raise damaged(where, "is a table without the header of a checkpoint index")
    header = wire.Message(entries[_HEADER], f"{where}: header")
    count, byte_order = header.integer(1), header.integer(2)
    if not 1 <= count <= _MOST_SHARDS:
        raise damaged(header.where, f"names {count} data files; expected 1 to {_MOST_SHARDS}")
    if byte_order != _LITTLE_ENDIAN:
        raise UnsupportedFeature(f"{header.where}: is of a big-endian machine; only little-endian is read")
    wire.check_version(header.message(3))
    return count


def _place(entry: wire.Message, shards: _Shards) -> tuple[RegularFile, int, int]:
    """The data file that an index entry points into, the offset and the size, checked against the file."""
    where, number, offset, size = entry.where, entry.integer(3), entry.integer(4), entry.integer(5)
    if 7 in entry:
        raise UnsupportedFeature(f"{where}: is a partitioned variable, stored in slices; {_ONLY_WHOLE}")
    if not 0 <= number < shards.number:
        raise damaged(where, f"is said to be in data file {number} of {shards.number}")
    file = shards.file(number)
    if offset < 0 or size < 0 or offset + size > file.size:
        raise damaged(where, f"claims {size} bytes at {offset} of a data file of {file.size}")
    return file, offset, size


def _stored(name: str, entry: wire.Message, shards: _Shards) -> Stored:
    """One index entry, checked against the data file that it points into."""
    where, sides = entry.where, wire.shape(entry.message(2))
    kind = wire.dtype(entry.integer(1), where)
    file, offset, size = _place(entry, shards)
    if kind is None:
        return unreadable(sides, entry.integer(1), where)
    if size != math.prod(sides) * kind.itemsize:
        raise damaged(where, f"{size} bytes are named for a {kind} tensor of shape {sides}")
    where = f"{file.name}: tensor {name!r}"
    return Stored(sides, kind, functools.partial(_values, file, offset, sides, kind, entry.fixed32(6), where))


def unreadable(sides: Shape, code: int, where: str) -> Stored:
    """A tensor that is listed and, when read, refused for its type."""

    def refuse() -> np.ndarray:
        raise UnsupportedFeature(
            f"{where}: has TensorFlow's type {code} (7 is string, 10 bool, 14 bfloat16); "
            f"only {', '.join(map(str, wire.DTYPES.values()))} are read"
        )

    return Stored(sides, np.dtype(object), refuse)


def _values(file: RegularFile, offset: int, sides: Shape, kind: np.dtype, crc: int, where: str) -> np.ndarray:
    values = file.fetch(offset, sides, kind, where)
    if masked_crc(octets(values)) != crc:
        raise damaged(where, "its checksum is wrong")
    return values


# ---- writing


def write(prefix: _Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint that TensorFlow's Saver and `tf.train.load_checkpoint` read.

    The files are read back and compared before they get their names. A checkpoint of
    the same prefix is replaced in one step: the new values go beside the old ones,
    under the name of the first of two data files if the old name is taken, until the
    new index takes the place of the old; then the old values are removed.

    Raises:
        UnsupportedFeature: For a type or name that a checkpoint cannot hold.
    """
    prefix = os.fspath(prefix)
    tensors = writable(arrays, prefix)
    with taking_turns(Path(f"{prefix}.index")):
        count = 1
        with contextlib.suppress(CheckpointError):
            if os.path.exists(old := f"{prefix}.index") and _shard_count(read_table(old, _LARGEST_INDEX), old) == 1:
                count = 2  # names that the present checkpoint does not use
        shards = [_shard_name(prefix, number, count) for number in range(count)]
        with replacing(*shards, f"{prefix}.index") as [*parts, index]:
            for part in parts:
                part.touch()
            entries = _write_values(parts[0], tensors)
            header = wire.encode_integer(1, count) + wire.encode_data(3, wire.encode_integer(1, 1))
            with open(index, "wb") as table:
                write_table(table, [(_HEADER, header), *entries])
            check_written(read(prefix, [index, *parts]), tensors, prefix)
        folder, name = os.path.split(prefix)
        for file in Path(folder).glob(f"{glob.escape(name)}.data-?????-of-?????"):
            if file.name not in map(os.path.basename, shards):
                file.unlink()


def _write_values(path: Path, tensors: Mapping[str, np.ndarray]) -> list[tuple[bytes, bytes]]:
    """Writes the values one behind the other; returns the index entries."""
    entries = []
    with open(path, "wb") as file:
        for name, values in tensors.items():
            content = octets(values)
            entry = (
                wire.encode_integer(1, type_code(values.dtype)),
                wire.encode_data(2, wire.encode_shape(values.shape)),
                wire.encode_integer(4, file.tell()),
                wire.encode_integer(5, len(content)),
                wire.encode_fixed32(6, masked_crc(content)),
            )
            entries.append((name.encode(), b"".join(entry)))
            file.write(content)
    return entries


def writable(arrays: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """The arrays as a checkpoint stores them: by name, little-endian, in C order."""
    found = {}
    for name, array in arrays.items():
        values = np.asarray(array, np.asarray(array).dtype.newbyteorder("<"), order="C")
        if not type_code(values.dtype) or values.ndim > MOST_DIMENSIONS:
            raise UnsupportedFeature(
                f"{where}: {name!r} is a {values.dtype} array of {values.ndim} dimensions; "
                f"expected {', '.join(map(str, wire.DTYPES.values()))} of at most {MOST_DIMENSIONS}"
            )
        try:
            sound = bool(name.encode()) and "\0" not in name
        except UnicodeEncodeError:
            sound = False
        if not sound:
            raise UnsupportedFeature(f"{where}: a tensor cannot be named {name!r}; expected UTF-8 text without NUL")
        found[name] = values
    return {name: found[name] for name in sorted(found, key=str.encode)}


def type_code(kind: np.dtype) -> int:
    """The DataType number of an array type; 0, which is none, if it is not among `DTYPES`."""
    return next((code for code, known in wire.DTYPES.items() if known == kind), 0)
