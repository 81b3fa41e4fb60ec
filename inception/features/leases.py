"""The lock of a folder in a store, where no lock dies with its holder: a file that its holder keeps fresh.

The file `_lock` says who holds the folder, and how often it was renewed. It is made by a conditional PUT, which fails
where one is there. The holder renews it every `BEAT` seconds, and reads it first: who does not find itself in it any
more stops. A lock is stale when its holder was a process of this machine that is gone, and when it was not renewed for
`STALE` seconds while the next one watched it. A stale one is removed and made anew. Where a store ignores conditions,
the last to write has the lock, and the other one stops at its next beat.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from inception.features.stores import Store

BEAT, STALE = 10.0, 45.0  # seconds


@contextlib.contextmanager
def holding(lock: Store, busy: str) -> Iterator[Callable[[], None]]:
    """Holds the lock; what it yields raises ValueError, saying `busy`, when another one has taken it.

    Raises:
        ValueError: Says `busy`, when another one holds it, after one of its beats at most.
    """
    me = {"token": secrets.token_hex(8), "machine": _machine(), "pid": os.getpid()}
    _take(lock, me, busy)
    lost, done = threading.Event(), threading.Event()

    def beat() -> None:
        beats = 0
        while not done.wait(BEAT):
            with contextlib.suppress(OSError):  # the store does not answer: the writing stops by itself
                if _holder(lock).get("token") != me["token"]:
                    lost.set()
                    return
                beats += 1
                lock.write_bytes(_text(me | {"beats": beats}))

    def check() -> None:
        if lost.is_set():
            raise ValueError(busy)

    thread = threading.Thread(target=beat, name="lease", daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(OSError):
            if _holder(lock).get("token") == me["token"]:
                lock.remove()


def _take(lock: Store, me: dict[str, Any], busy: str) -> None:
    for attempt in itertools.count():
        with contextlib.suppress(Exception):  # there is one, or the answer got lost, or the store knows no conditions
            lock.create(_text(me | {"beats": 0}))
        there = _holder(lock)
        if there.get("token") == me["token"]:
            return
        if there:
            if not _gone(there):
                _watch(lock, there, busy)
            lock.remove()
        elif attempt >= 2:
            lock.write_bytes(_text(me | {"beats": 0}))  # without a condition


def _watch(lock: Store, there: dict[str, Any], busy: str) -> None:
    """Waits until the lock is stale or gone. ValueError when it was renewed."""
    end = time.monotonic() + STALE
    while time.monotonic() < end:
        time.sleep(min(BEAT / 10, 1))
        now = _holder(lock)
        if not now:
            return
        if now != there:
            raise ValueError(busy)


def _holder(lock: Store) -> dict[str, Any]:
    """What the lock says; nothing where there is none, or not one of ours."""
    try:
        found = json.loads(lock.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        found = None
    return found if isinstance(found, dict) and found else {"token": "of somebody else"}


def _gone(there: dict[str, Any]) -> bool:
    """Whether the holder was a process that can be seen from here, and is not there any more."""
    pid = there.get("pid")
    if there.get("machine") != _machine() or not isinstance(pid, int) or pid <= 0 or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


def _machine() -> str:
    """The same in all processes that see each other's numbers: the machine since it was started, and the container."""
    said = [socket.gethostname()]
    with contextlib.suppress(OSError):
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            said.append(file.read())
        said.append(str(os.stat("/proc/self/ns/pid").st_ino))
    return hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]


def _text(holder: dict[str, Any]) -> bytes:
    return json.dumps(holder).encode()
