"""The values of an HDF5 dataset, from the bytes of the file: no HDF5 library here, every length is checked.

In the library, chunks that are shorter than they should be crash the process or hand out
uninitialised memory, and a packed one may grow without bound.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from inception.files.errors import ResourceLimit
from inception.files.hdf5.worker import DEFLATE, FLETCHER32, SHUFFLE
from inception.files.regular import RegularFile
from inception.files.tensor import LARGEST, Shape, allocate, damaged


@dataclass(frozen=True)
class Piece:
    """A run of bytes of the file; mask: a bit for each filter that was left out."""

    start: int
    size: int
    mask: int = 0


@dataclass(frozen=True)
class Dataset:
    """Where a dataset's values are, as the file's metadata says.

    Attributes:
        chunk: the shape of its chunks, None where the values lie in the file as they are, in one piece.
        filters: (HDF5's number, setting) in the order of writing.
        pieces: the chunks in the order of their places.
        crc: the CRC32 of the values, in our own files.
    """

    shape: Shape
    dtype: np.dtype
    chunk: Shape | None
    filters: tuple[tuple[int, int], ...]
    pieces: tuple[Piece, ...]
    crc: int | None

    @property
    def unpacked(self) -> int:
        """Bytes of all pieces with their filters undone."""
        return len(self.pieces) * math.prod(self.shape if self.chunk is None else self.chunk) * self.dtype.itemsize

    def has_all_pieces(self) -> bool:
        """As many pieces as the shape asks for."""
        if not math.prod(self.shape):
            return not self.pieces
        if self.chunk is None:
            return len(self.pieces) == 1
        sides = zip(self.shape, self.chunk, strict=True)
        return all(self.chunk) and len(self.pieces) == math.prod(-(-length // side) for length, side in sides)


def read(file: RegularFile, dataset: Dataset, where: str) -> np.ndarray:
    """The values; `CorruptFile` when bytes are missing, left over or against a checksum."""
    if dataset.chunk is None:
        values = _plain(file, dataset, where)
    else:
        values = allocate(dataset.shape, dataset.dtype, where)
        for piece, place in zip(dataset.pieces, _places(dataset.shape, dataset.chunk), strict=True):
            target = values[place]
            chunk = _chunk(file, dataset, piece, f"{where} at {tuple(side.start for side in place)}")
            target[...] = chunk[tuple(map(slice, target.shape))]
    if dataset.crc is not None and zlib.crc32(values.data if values.size else b"") != dataset.crc:
        raise damaged(where, "its checksum is wrong")
    return values


def checksummed(file: RegularFile, dataset: Dataset, where: str) -> bool:
    """Whether a checksum of the values is there that says something.

    HDF5's own does not where it is zero: of data that is zeros, and of a lost sector.
    """
    if dataset.crc is not None or not dataset.pieces:
        return True
    if not dataset.filters or dataset.filters[-1][0] != FLETCHER32:
        return False
    last = 1 << (len(dataset.filters) - 1)
    sums = (file.octets(piece.start + piece.size - 4, 4, where) for piece in dataset.pieces)
    return all(not piece.mask & last and each.any() for piece, each in zip(dataset.pieces, sums, strict=True))


def _plain(file: RegularFile, dataset: Dataset, where: str) -> np.ndarray:
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    if not size:
        return np.empty(dataset.shape, dataset.dtype)
    [piece] = dataset.pieces
    if piece.size != size:
        raise damaged(where, f"stores {piece.size} of {size} bytes")
    return file.fetch(piece.start, dataset.shape, dataset.dtype, where)


def _places(shape: Shape, chunk: Shape) -> Iterator[tuple[slice, ...]]:
    starts = (range(0, length, side) for length, side in zip(shape, chunk, strict=True))
    for start in itertools.product(*starts):
        yield tuple(slice(at, at + side) for at, side in zip(start, chunk, strict=True))


def _chunk(file: RegularFile, dataset: Dataset, piece: Piece, where: str) -> np.ndarray:
    """One chunk, its filters undone in reverse."""
    assert dataset.chunk is not None
    size = math.prod(dataset.chunk) * dataset.dtype.itemsize
    # Deflate makes data that cannot be packed longer by less than this.
    least, most = (1, min(size + size // 100 + 1024, LARGEST)) if dataset.filters else (size, size)
    if not least <= piece.size <= most:
        raise damaged(where, f"stores {piece.size} of {size} bytes")
    data = file.octets(piece.start, piece.size, where)
    for i, (code, setting) in reversed(list(enumerate(dataset.filters))):
        if piece.mask >> i & 1:
            continue
        if code == FLETCHER32:
            # Ours comes after; then this one is superfluous.
            data = _without_sum(data, where, compare=dataset.crc is None)
        elif code == DEFLATE:
            data = _inflated(data, size + 4 * len(dataset.filters), where)
        elif code == SHUFFLE:
            data = _unshuffled(data, setting, dataset.dtype.itemsize, where)
    if len(data) != size:
        raise damaged(where, f"stores {len(data)} of {size} bytes")
    return data.view(dataset.dtype).reshape(dataset.chunk)


def _without_sum(data: np.ndarray, where: str, compare: bool) -> np.ndarray:
    if len(data) < 4:
        raise damaged(where, f"stores {len(data)} bytes, less than its checksum has")
    body, said = data[:-4], int.from_bytes(data[-4:].tobytes(), "little")
    if compare and fletcher32(body) != said:
        raise damaged(where, "its checksum is wrong")
    return body


def fletcher32(data: np.ndarray) -> int:
    """HDF5's checksum of uint8: two sums of big-endian 16-bit words, the second one of the first one's steps."""
    if len(data) % 2:
        data = np.append(data, np.uint8(0))
    words = data.view(">u2")
    count, width = len(words), 1024
    table = np.zeros((-(-count // width), width), np.float32)  # exact: sums below 2**53 are taken in float64
    table.reshape(-1)[:count] = words
    rows, columns = table.sum(1, dtype=np.float64), table.sum(0, dtype=np.float64)
    total = int(rows.sum())
    indexed = sum(i * width * int(row) for i, row in enumerate(rows)) + int(columns @ np.arange(width))
    sums = (total, count * total - indexed)
    first, second = (each % 65535 or (65535 if each else 0) for each in sums)
    return second << 16 | first


def _inflated(data: np.ndarray, at_most: int, where: str) -> np.ndarray:
    inflater = zlib.decompressobj()
    try:
        result = inflater.decompress(data.data, at_most)
    except zlib.error as error:
        raise damaged(where, f"cannot be decompressed ({error})") from error
    if not inflater.eof and len(result) >= at_most:
        raise ResourceLimit(f"{where}: unpacks to more than the {at_most} bytes it can have")
    if not inflater.eof or inflater.unused_data:
        raise damaged(where, "its compressed data does not end where it should")
    return np.frombuffer(result, np.uint8)


def _unshuffled(data: np.ndarray, setting: int, itemsize: int, where: str) -> np.ndarray:
    if setting != itemsize or len(data) % itemsize:
        raise damaged(where, f"is shuffled in steps of {setting} where its numbers have {itemsize} bytes")
    return np.ascontiguousarray(data.reshape(itemsize, -1).T).reshape(-1)
