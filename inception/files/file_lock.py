"""A lock that a process holds on an open file and loses when it dies, on Windows and elsewhere."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from inception.files import regular

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError(*error.args) from error

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class NoLocks(OSError):
    """The disk has no locks."""


def locks(descriptor: int) -> bool:
    """Takes the lock of an open file without waiting; False while another holds it. `NoLocks` where there are none."""
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    except OSError as error:
        raise NoLocks(*error.args) from error
    return True


def held(lock: str | os.PathLike[str]) -> int | None:
    """The lock file made, opened and locked; None while another holds it, or when its holder has just removed it."""
    descriptor = regular.opened(lock, os.O_RDWR)
    try:
        # A holder removes the file as it goes; a lock on the removed one is worth nothing.
        if locks(descriptor) and os.fstat(descriptor).st_nlink:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


@contextlib.contextmanager
def holding(lock: str | os.PathLike[str], busy: str) -> Iterator[None]:
    """Holds the lock file, which stays, for this process. ValueError, saying `busy`, while another one has it."""
    descriptor = regular.opened(lock, os.O_RDWR)
    try:
        if not locks(descriptor):
            raise ValueError(busy)
        yield
    finally:
        os.close(descriptor)
