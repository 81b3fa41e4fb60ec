"""One picture to a row's beginnings, or to the reason why it has no row."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inception import images
from inception.features.sources import Item, stored

Stamp = tuple[int, int]  # bytes and nanoseconds of the last change of a file
MISSING: Stamp = (-1, -1)
_MOST_BYTES = 1 << 29  # of a file; an uncompressed picture of Pillow's most pixels has as many
Tensors = Callable[[np.ndarray], Sequence[np.ndarray]]  # uint8 [h, w, 3] to the input of each network


@dataclass(frozen=True)
class Read:
    """A picture that was read, or (with a `reason`) was not.

    Attributes:
        stamp: size and time of the file as it was when it was read.
        tensors: the input of each network that is asked.
    """

    path: str
    stamp: Stamp
    reason: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    tensors: Sequence[np.ndarray] = ()


def stamp_of(item: Item) -> Stamp:
    """Size and time of an item's file as it is now; `MISSING` where there is none."""
    try:
        status = os.stat(item.file or item.path)
    except (OSError, ValueError):
        return MISSING
    return status.st_size, status.st_mtime_ns


def read(item: Item, tensors: Tensors, upright: bool = True) -> Read:
    """An item decoded and made ready for the network. Never raises for what a file holds."""
    stamp = stamp_of(item)
    try:
        content = _content(item, stamp)
        pixels = images.decode(content, item.path, upright=upright) if isinstance(content, bytes) else content
        ready = tensors(pixels)
    except Exception as error:  # whatever a file does to a decoder, the run goes on and the errors table says so
        return Read(item.path, stamp, reason=_sentence(error))
    height, width = pixels.shape[:2]
    digest = hashlib.sha256(content if isinstance(content, bytes) else content.data).hexdigest()
    return Read(item.path, stamp, "", digest, width, height, ready)


def _content(item: Item, stamp: Stamp) -> bytes | np.ndarray:
    content: bytes | np.ndarray | None
    if item.row >= 0:
        content = stored(item)
        if content is None:
            raise ValueError(f"The picture {item.path} is null.")
    else:
        content = _file(item.path, stamp)
    if not len(content):
        raise ValueError(f"The picture {item.path} is empty.")
    return content


def _file(path: str, stamp: Stamp) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{path} is a folder, no picture.")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file.")  # opening a pipe would wait for ever
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"The picture {path} has {status.st_size:,} bytes, {_MOST_BYTES:,} at most.")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise ValueError(f"The picture {path} does not exist.") from error
    except OSError as error:
        raise ValueError(f"The picture {path} cannot be read ({error.strerror}).") from error


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:500] if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"[:500]
