"""One picture to a row's beginnings, or to the reason why it has no row."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inception import images
from inception.features.sources import MOST_BYTES, Item, stored
from inception.features.stores import MISSING, Stamp, Store, Unreachable, is_url

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
    """Size and time of an item's file as it is now, in a store as it was listed; `MISSING` where there is none."""
    if item.stamp is not None:
        return item.stamp
    name = item.file or item.path
    if is_url(name):
        return Store(name).stamp()
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return MISSING
    return status.st_size, status.st_mtime_ns


def read(item: Item, tensors: Tensors, upright: bool = True) -> Read:
    """An item decoded and made ready for the network. Never raises for what a file holds.

    Raises:
        Unreachable: For a store that does not answer, which says nothing about the picture.
    """
    stamp = stamp_of(item)
    try:
        content = _content(item, stamp)
        pixels = images.decode(content, item.path, upright=upright) if isinstance(content, bytes) else content
        ready = tensors(pixels)
    except Unreachable:
        raise
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
        content = _stored(item.path, stamp) if is_url(item.path) else _file(item.path)
    if not len(content):
        raise ValueError(f"The picture {item.path} is empty.")
    return content


def _stored(url: str, stamp: Stamp) -> bytes:
    try:
        if stamp[0] > MOST_BYTES:
            raise ValueError(f"The picture {url} has {stamp[0]:,} bytes, {MOST_BYTES:,} at most.")
        return Store(url).part(0, stamp[0]) if stamp[0] >= 0 else Store(url).part(0, MOST_BYTES)
    except FileNotFoundError as error:
        raise ValueError(f"The picture {url} does not exist.") from error


def _file(path: str) -> bytes:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise ValueError(f"{path} is a folder, no picture.")
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no regular file.")  # opening a pipe would wait for ever
        if status.st_size > MOST_BYTES:
            raise ValueError(f"The picture {path} has {status.st_size:,} bytes, {MOST_BYTES:,} at most.")
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise ValueError(f"The picture {path} does not exist.") from error
    except OSError as error:
        raise ValueError(f"The picture {path} cannot be read ({error.strerror}).") from error


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:500] if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"[:500]
