"""The sorted table (LevelDB's) that both TensorFlow checkpoint versions are written in.

Blocks of key/value pairs in key order, an index block that says where they are, and
a footer that says where the index is. A key is stored as what differs from the key
before it; each block ends in a byte for its compression and a masked CRC32C.

Also here: `masked_crc`, which both versions need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import google_crc32c
import numpy as np

from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import LARGEST, damaged
from inception.files.tensorflow.wire import encode_varint, read_varint

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_FOOTER = 48
_TRAILER = 5
_BLOCK = 256 << 10
_RESTART = 16
_LATEST_START = 1 << 20  # a value begins this early in its block; TensorFlow ends a block after 256 KiB
_LONGEST_KEY = 4096
_ENTRY = 128  # what an entry costs in memory beside its bytes
_MEBIBYTE = 1 << 20


def masked_crc(*parts: bytes | memoryview) -> int:
    """TensorFlow's checksum: CRC32C of the parts in a row, rotated and shifted."""
    crc = 0
    for part in parts:
        for start in range(0, len(part), _MEBIBYTE):
            # The C library takes nothing but bytes; a mebibyte at a time keeps the copy small.
            crc = google_crc32c.extend(crc, bytes(part[start : start + _MEBIBYTE]))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# ---- reading


class _Place(NamedTuple):
    """Where a value is: its block in the file, its start and end in the block."""

    block: int
    size: int
    start: int
    stop: int


class SSTable:
    """A table file, checked from end to end when opened; values are fetched one at a time.

    Raises:
        CorruptFile: For damage.
        UnsupportedFeature: For compressed blocks.
        ResourceLimit: When the keys alone need more than `at_most` bytes.
    """

    def __init__(self, path: str | os.PathLike[str], at_most: int = 16 << 20) -> None:
        self._file = RegularFile(path)
        self.name = self._file.name
        self._places = {key: place for key, _, place in _walk(self._file, at_most, values=False)}

    def get(self, key: bytes) -> memoryview | None:
        """The value of a key, its block read and checked again; None if there is none."""
        place = self._places.get(key)
        if place is None:
            return None
        return _block(self._file, place.block, place.size)[place.start : place.stop]


def read_table(source: str | os.PathLike[str] | bytes, at_most: int = LARGEST) -> dict[bytes, bytes]:
    """All of a table, given as a path or as its bytes. Raises what `SSTable` does.

    `at_most` bounds the bytes of keys and values together, and a little for each.
    """
    file = _InMemory(source) if isinstance(source, bytes) else RegularFile(source)
    return {key: bytes(value) for key, value, _ in _walk(file, at_most)}


class _InMemory:
    """Bytes with the manners of a `RegularFile`."""

    name = "table"

    def __init__(self, content: bytes) -> None:
        self._content, self.size = content, len(content)

    def octets(self, offset: int, size: int, where: str = "") -> np.ndarray:
        return np.frombuffer(self._content, np.uint8)[offset : offset + size].copy()


_File = RegularFile | _InMemory


def _walk(file: _File, at_most: int, values: bool = True) -> Iterator[tuple[bytes, memoryview, _Place]]:
    """Every key and value of a table in order, with its place; keys, with values or not, take `at_most` bytes."""
    end = file.size - _FOOTER
    if end < 0:
        raise damaged(file.name, f"has {file.size} bytes; a table file ends in a footer of {_FOOTER}")
    footer = file.octets(end, _FOOTER).data
    if footer[-8:] != _MAGIC:
        raise damaged(file.name, "does not end as a TensorFlow checkpoint table does")
    meta, position = _handle(footer, 0, end, file.name)
    index, _ = _handle(footer, position, end, file.name)
    _block(file, *meta)
    before: bytes | None = None
    behind = 0
    for _, value, _ in _entries(file, *index):
        (block, size), used = _handle(value, 0, end, file.name)
        if used != len(value) or block < behind:
            raise damaged(file.name, f"its index names a block at byte {block} out of order")
        behind = block + size + _TRAILER
        for key, content, place in _entries(file, block, size):
            if before is not None and key <= before:
                raise damaged(file.name, f"a key in the block at byte {block} is out of order")
            before = key
            at_most -= len(key) + (len(content) if values else 0) + _ENTRY
            if at_most < 0:
                raise ResourceLimit(f"{file.name}: lists more than a checkpoint of a network does; refused")
            yield key, content, place


def _handle(view: memoryview, position: int, end: int, where: str) -> tuple[tuple[int, int], int]:
    """A block's offset and size, inside the file's first `end` bytes, and the position after them."""
    offset, position = read_varint(view, position, where)
    size, position = read_varint(view, position, where)
    if offset + size + _TRAILER > end:
        raise damaged(where, f"a block of {size} bytes at byte {offset} is named; the footer begins at {end}")
    return (offset, size), position


def _block(file: _File, offset: int, size: int) -> memoryview:
    """The content of a block whose checksum is right."""
    where = f"{file.name}: block at byte {offset}"
    whole = file.octets(offset, size + _TRAILER, where).data
    if masked_crc(whole[: size + 1]) != int.from_bytes(whole[size + 1 :], "little"):
        raise damaged(where, "its checksum is wrong")
    if whole[size] != 0:
        method = {1: "Snappy"}.get(whole[size], f"method {whole[size]}")
        raise UnsupportedFeature(f"{where}: is compressed ({method}); only uncompressed checkpoints are read")
    return whole[:size]


def _entries(file: _File, offset: int, size: int) -> Iterator[tuple[bytes, memoryview, _Place]]:
    """The keys and values of one block."""
    where = f"{file.name}: block at byte {offset}"
    view = _block(file, offset, size)
    end = size - 4 - 4 * int.from_bytes(view[-4:], "little")
    if size < 4 or end < 0:
        raise damaged(where, f"has {size} bytes, too few for its list of restarts")
    position, key = 0, b""
    while position < end:
        if position >= _LATEST_START:
            raise UnsupportedFeature(f"{where}: goes on after byte {_LATEST_START}, as TensorFlow's never do")
        shared, position = read_varint(view, position, where)
        added, position = read_varint(view, position, where)
        length, position = read_varint(view, position, where)
        start = position + added
        if shared > len(key) or shared + added > _LONGEST_KEY or start + length > end:
            raise damaged(where, f"the entry at byte {position} does not fit (key {shared} + {added} bytes)")
        key = key[:shared] + bytes(view[position:start])
        position = start + length
        yield key, view[start:position], _Place(offset, size, start, position)


# ---- writing


def write_table(file: BinaryIO, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes pairs, given in ascending order of distinct keys, as a table from the start of `file`.

    Takes one pair at a time, so a generator keeps the memory at one block.
    """
    before: bytes | None = None
    block, index = _Block(_RESTART), _Block(1)
    for key, value in items:
        if before is not None and key <= before:
            raise ValueError(f"keys must ascend; {key!r} came after {before!r}")
        before = key
        block.add(key, value)
        if block.size >= _BLOCK:
            index.add(key, block.write(file))
            block = _Block(_RESTART)
    if before is not None and block.size:
        index.add(before, block.write(file))
    handles = _Block(1).write(file) + index.write(file)
    file.write(handles.ljust(_FOOTER - len(_MAGIC), b"\0") + _MAGIC)


class _Block:
    """A block being filled; every `restart`th key is written whole."""

    def __init__(self, restart: int) -> None:
        self._restart = restart
        self.size, self._count, self._key = 0, 0, b""
        self._parts: list[bytes] = []
        self._restarts = [0]

    def add(self, key: bytes, value: bytes) -> None:
        shared = 0
        if self._count % self._restart:
            pairs = zip(key, self._key, strict=False)
            shared = next((at for at, (one, other) in enumerate(pairs) if one != other), len(self._key))
        elif self._count:
            self._restarts.append(self.size)
        numbers = b"".join(map(encode_varint, (shared, len(key) - shared, len(value))))
        self._parts += [numbers, key[shared:], value]
        self.size += len(numbers) + len(key) - shared + len(value)
        self._count, self._key = self._count + 1, key

    def write(self, file: BinaryIO) -> bytes:
        """Appends the block to the file and returns its handle."""
        restarts = [*self._restarts, len(self._restarts)]
        parts = [*self._parts, b"".join(number.to_bytes(4, "little") for number in restarts)]
        handle = encode_varint(file.tell()) + encode_varint(sum(map(len, parts)))
        compression = b"\0"
        file.writelines([*parts, compression, masked_crc(*parts, compression).to_bytes(4, "little")])
        return handle
