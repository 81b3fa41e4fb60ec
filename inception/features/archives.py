"""Pictures in archives: the encoded members of a ZIP file, and the pixels of a NumPy archive's `arr_0`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from inception.files import npz
from inception.files.archive import Archive

PIXELS = "arr_0"  # numpy.savez's own name, under which diffusion models' samples come
_LARGEST = {".npz": 1 << 30, ".zip": 1 << 29}  # bytes of compressed pixels, and of a picture, that are read whole
_MOST_MEMBERS = 10_000_000

Place = tuple[str, int, str]  # what the dataset calls a picture, its row, and the member or the array that holds it


def members(path: str, endings: tuple[str, ...]) -> Iterator[Place | None]:
    """The members of a ZIP file with these endings; None for others."""
    _opened.cache_clear()  # the file may be another one than the last time
    for name in _opened(path).members:
        if not name.endswith("/"):
            yield (f"{path}#{name}", 0, name) if name.lower().endswith(endings) else None


def encoded(path: str, member: str) -> bytes:
    """A member's bytes, checked."""
    return _opened(path).octets(member).tobytes()


def rows(path: str) -> Iterator[Place]:
    """The pictures of a NumPy archive. ValueError where it has none, uint8 [n, height, width, 3]."""
    _opened.cache_clear()
    _rows.cache_clear()
    archive = _opened(path)
    arrays = npz.listed(archive)
    if PIXELS not in arrays:
        raise ValueError(f"{path} holds {', '.join(arrays) or 'nothing'}; expected {PIXELS}, uint8 pixels.")
    shape, dtype = arrays[PIXELS].shape, arrays[PIXELS].dtype
    if len(shape) != 4 or shape[3] != 3 or 0 in shape or dtype != np.uint8:
        raise ValueError(f"{path}: {PIXELS} is {dtype} of shape {shape}; expected uint8 [n, height, width, 3].")
    for _ in archive.chunks(f"{PIXELS}.npy"):  # the checksum is of the whole, and rows are read one by one
        pass
    width = len(str(shape[0] - 1))
    yield from ((f"{path}#{row:0{width}d}", row, PIXELS) for row in range(shape[0]))


def pixels(path: str, row: int) -> np.ndarray:
    """A picture of a NumPy archive: uint8 [height, width, 3]."""
    return _rows(path)(row)


@functools.lru_cache(maxsize=4)
def _opened(path: str) -> Archive:
    return Archive(path, _LARGEST[path[-4:].lower()], _MOST_MEMBERS)


@functools.lru_cache(maxsize=4)
def _rows(path: str) -> Callable[[int], np.ndarray]:
    return npz.rows(_opened(path), PIXELS)
