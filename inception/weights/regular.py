"""The one way to a file of ours that stands under a name anybody could have taken."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from inception.weights.errors import UnsafeFile


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
