"""Regular files alone: how a file is read, and how one of ours is opened and locked to be written.

A lock is one that a process holds on an open file and loses when it dies: filelock's, on Windows and elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import stat
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

import numpy as np

from inception.files.errors import CheckpointError, CorruptFile, UnsafeFile
from inception.files.tensor import Shape, allocate, damaged


def opened(path: str | os.PathLike[str], flags: int) -> int:
    """A descriptor of the regular file of this name, made if need be.

    `UnsafeFile` for anything else: no link is followed, and no pipe waited for.
    """
    careful = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    try:
        descriptor = os.open(path, flags | os.O_CREAT | careful, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise _strange(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _strange(path)
    return descriptor


def put(path: Path, content: bytes) -> None:
    """Writes a file anew by a descriptor that `opened` gives."""
    with os.fdopen(opened(path, os.O_WRONLY), "wb") as file:
        file.truncate(0)
        file.write(content)


def _strange(path: str | os.PathLike[str]) -> UnsafeFile:
    return UnsafeFile(f"{os.fspath(path)} is a link or no regular file, and is not written to; move it away.")


# --- Locks -----------------------------------------------------------------------------


def held(lock: str | os.PathLike[str]) -> int | None:
    """The lock file made, opened and locked; None while another holds it, or when its holder has just removed it.

    Raises:
        UnsafeFile: for a link, or whatever else is no regular file.
        OSError: where no file can be made, or the disk has no locks.
    """
    from filelock import lock_descriptor

    descriptor = opened(lock, os.O_RDWR)
    try:
        # A holder removes the file as it goes; a lock on the removed one is worth nothing.
        if lock_descriptor(descriptor, blocking=False) and os.fstat(descriptor).st_nlink:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextlib.contextmanager
def holding(lock: str | os.PathLike[str], busy: str) -> Iterator[None]:
    """Holds the lock file, which stays, for this process. ValueError, saying `busy`, while another one has it."""
    if (descriptor := held(lock)) is None:
        raise ValueError(busy)
    try:
        yield
    finally:
        os.close(descriptor)


# --- Reading ---------------------------------------------------------------------------


_MEBIBYTE = 1 << 20
Identity = tuple[int, ...]
_IDENTITIES: ContextVar[dict[str, Identity] | None] = ContextVar("identities", default=None)


@contextlib.contextmanager
def one_version() -> Iterator[None]:
    """In it every `RegularFile` of a path has to be the file that the first one was: none is replaced between two."""
    token = _IDENTITIES.set({})
    try:
        yield
    finally:
        _IDENTITIES.reset(token)


def shard_in(folder: Path, name: str, where: str) -> Path:
    """The path of a shard that the file `where` names; `UnsafeFile` for what is not a file's name beside it."""
    if name in ("", ".", "..") or set(name) & set("/\\:\0"):
        raise UnsafeFile(f"{where}: names the shard {name[:100]!r}, which is not a file beside it; not read.")
    return folder / name


class RegularFile:
    """A file read by byte ranges, opened anew for each so that none stays open.

    Refused with `UnsafeFile` when it is a pipe, a device or, on request, a link;
    with `CorruptFile` when it changes between two reads, or within `one_version`.
    """

    def __init__(self, path: str | os.PathLike[str], *, follow_links: bool = True) -> None:
        self.name = os.fspath(path)
        # A pipe would make a plain open wait for ever; O_NONBLOCK means nothing to a regular file.
        self._flags = getattr(os, "O_NONBLOCK", 0) | (0 if follow_links else getattr(os, "O_NOFOLLOW", 0))
        self._seen: Identity | None = None
        with self._opened() as file:
            self.size = os.fstat(file.fileno()).st_size

    def fetch(self, offset: int, shape: Shape, dtype: np.dtype, where: str) -> np.ndarray:
        """A fresh array of the bytes from `offset` on; `where` names the place in errors."""
        size = math.prod(shape) * dtype.itemsize
        if not 0 <= offset <= self.size - size:
            raise damaged(where, f"expected {size} bytes from {offset} on in a file of {self.size}")
        result = allocate(shape, dtype, where)
        with self._opened() as file:
            file.seek(offset)
            got = file.readinto(result.reshape(-1).view(np.uint8))  # type: ignore[attr-defined]
        if got != size:
            raise damaged(where, f"{got} of {size} bytes could be read from {offset} on")
        return result

    def octets(self, offset: int, size: int, where: str = "") -> np.ndarray:
        """`size` bytes from `offset` on as fresh uint8; `where`, or else the file's name, names the place in errors."""
        return self.fetch(offset, (size,), np.dtype(np.uint8), where or self.name)

    def pieces(self, start: int = 0, size: int | None = None) -> Iterator[bytes]:
        """`size` bytes from `start` on, or all of them, a mebibyte at a time."""
        stop = self.size if size is None else min(start + size, self.size)
        for at in range(start, stop, _MEBIBYTE):
            yield self.octets(at, min(_MEBIBYTE, stop - at)).tobytes()

    def _changed(self) -> CorruptFile:
        return CorruptFile(f"{self.name}: was changed while it was being read; read it again")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[BinaryIO]:
        try:
            with open(self.name, "rb", opener=lambda name, flags: os.open(name, flags | self._flags)) as file:
                state = os.fstat(file.fileno())
                if not stat.S_ISREG(state.st_mode):
                    raise UnsafeFile(f"{self.name}: is not a regular file; give the path of one")
                identity = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
                shared = _IDENTITIES.get()
                first = identity if shared is None else shared.setdefault(os.path.abspath(self.name), identity)
                if self._seen not in (None, identity) or first != identity:
                    raise self._changed()
                self._seen = identity
                yield file
        except FileNotFoundError as error:
            if self._seen or os.path.abspath(self.name) in (_IDENTITIES.get() or {}):
                raise self._changed() from error
            raise CheckpointError(f"{self.name}: there is no such file; check the path") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnsafeFile(f"{self.name}: is a link; put the file itself in its place") from error
            raise CheckpointError(f"{self.name}: cannot be read ({error.strerror})") from error
