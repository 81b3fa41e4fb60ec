"""A lock that a process holds on an open file and loses when it dies, on Windows and elsewhere."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    import msvcrt

    def locks(descriptor: int) -> bool:
        """Takes the lock of an open file without waiting; False while another holds it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

else:
    import fcntl

    def locks(descriptor: int) -> bool:
        """Takes the lock of an open file without waiting; False while another holds it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
