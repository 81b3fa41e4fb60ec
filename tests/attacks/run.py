"""Throws the files of `make.py` at their readers, a forked child each, and says what came of it.

usage: python tests/attacks/run.py FOLDER

Prints a JSON list of [what it tried, answer, seconds of processor time, peak MiB of the child and
its children]; the answer is "refused", "read", or what must never be. The canary, which some
of the files point to, is watched: a last row says whether anything opened it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from features import test_archives

from inception import load_weights
from inception.metrics import statistics_files
from inception.weights import CheckpointError

SECONDS = 120  # on the clock, after which it hangs; a busy machine is slow


READERS = {"statistics": statistics_files.read, "pictures": test_archives.pictures}  # of all others `load_weights`


def answer(path: str, what: str) -> str:
    try:
        READERS.get(what.partition(":")[0], load_weights)(path)
        return "read"
    except ValueError as error:
        ours = isinstance(error, CheckpointError) or (type(error) is ValueError and path in str(error))
        return "refused" if ours else f"FOREIGN {error!r}"
    except BaseException as error:
        return f"FOREIGN {type(error).__name__}: {error}"


def attempt(path: str, what: str) -> tuple[str, float, float]:
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.chdir(Path(path).parent)
        said = answer(path, what)
        peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        os.write(send, json.dumps([said, peak / 1024]).encode()[:60_000])
        os._exit(0)
    os.close(send)
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.alarm(SECONDS)
    _, _, spent = os.wait4(child, 0)  # by its children too
    signal.alarm(0)
    with open(receive, "rb") as pipe:
        text = pipe.read()
    said, peak = json.loads(text) if text else ("CRASH OR HANG", 0)
    return said, spent.ru_utime + spent.ru_stime, peak


def watch(canary: Path) -> int | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK)
    libc.inotify_add_watch(descriptor, os.fsencode(canary), 0x20)  # IN_OPEN
    return int(descriptor)


def opened(descriptor: int | None) -> bool:
    try:
        return descriptor is not None and bool(os.read(descriptor, 4096))
    except BlockingIOError:
        return False


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    descriptor = watch(folder / "canary.h5")
    rows = [[what, *attempt(path, what)] for path, what in json.loads((folder / "attacks.json").read_text())]
    rows.append(["the canary", "OPENED" if opened(descriptor) else "left alone", 0, 0])
    print(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
