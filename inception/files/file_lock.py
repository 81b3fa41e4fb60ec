"""A lock that a process holds on an open file and loses when it dies: filelock's, on Windows and elsewhere."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from inception.files import regular


def held(lock: str | os.PathLike[str]) -> int | None:
    """The lock file made, opened and locked; None while another holds it, or when its holder has just removed it.

    Raises:
        UnsafeFile: for a link, or whatever else is no regular file.
        OSError: where no file can be made, or the disk has no locks.
    """
    from filelock import lock_descriptor

    descriptor = regular.opened(lock, os.O_RDWR)
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
