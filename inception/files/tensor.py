"""A tensor inside a file: what the header says of it, and how to fetch its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from inception.files.errors import CorruptFile, ResourceLimit

Shape = tuple[int, ...]
LARGEST = 1 << 28  # bytes in one piece: a classifier of 32,000 classes
MOST_DIMENSIONS = 8


@dataclass(frozen=True)
class Stored:
    """One tensor of a weight file, not read yet.

    Attributes:
        shape: from the file's own header, so that a plan can be checked before a byte of the values is read.
        dtype: from there too.
        read: a function of nothing: the values as a fresh array of that shape and type, or `CorruptFile`.
    """

    shape: Shape
    dtype: np.dtype
    read: Callable[[], np.ndarray]


def damaged(where: str, found: str) -> CorruptFile:
    """The error for bytes that contradict their format."""
    return CorruptFile(f"{where}: {found}; the file is damaged, fetch or copy it again")


def allocate(sides: Shape, kind: np.dtype, where: str, at_most: int = LARGEST) -> np.ndarray:
    """An empty array, refused with `ResourceLimit` when it is larger than one piece of a file may be."""
    # A side of 0 is counted as 1: numpy refuses (0, 2^62) with an error of its own.
    size = math.prod(max(side, 1) for side in sides) * kind.itemsize
    if size > at_most:
        raise ResourceLimit(f"{where}: asks for {size} bytes; expected {at_most} at most")
    try:
        return np.empty(sides, kind)
    except MemoryError as error:
        raise ResourceLimit(f"{where}: there is not enough memory for its {size} bytes; free some") from error


def octets(values: np.ndarray) -> memoryview:
    """The bytes of a C-ordered array, not copied."""
    return values.reshape(-1).view(np.uint8).data


def check_written(found: Mapping[str, Stored], tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Raises `CorruptFile` unless a file just written holds the very bits that it should."""
    wrong = sorted(found.keys() ^ tensors.keys())
    for name, values in tensors.items():
        if name not in wrong:
            back = found[name].read()
            if (back.shape, back.dtype) != (values.shape, values.dtype) or octets(back) != octets(values):
                wrong.append(name)
    if wrong:
        shown = ", ".join(wrong[:4])
        raise CorruptFile(f"{where}: {shown} did not read back as written; nothing was saved, check the disk")


def bfloat16(upper_halves: np.ndarray) -> np.ndarray:
    """float32 from the uint16 that are its upper halves."""
    return (upper_halves.astype(np.uint32) << 16).view(np.float32)
