"""The second half of `make torture`: writers killed at random moments, and writers whose disk is full.

usage: python tests/torture_writers.py [--kills N] [--sizes N] [--writers N] [--only FORMAT]

An old file stands at the target; a forked child overwrites it with another network's
weights and is killed (SIGKILL), or may write only so many bytes a file (EFBIG, as a quota
or a full disk). Afterwards the target must be read as the old network or the new one,
whole, and after the next write nothing temporary may be left beside it. In the end many
children write two networks to one target at the same time; all must succeed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from made import random_weights

from inception import load_weights
from inception.variants import Variant
from inception.weights import CheckpointError, Weights

NET = Variant(num_classes=3, depth_multiplier=0.05, min_depth=4)
FILES = ("x.h5", "x.weights.h5", "x.keras", "x.ckpt", "x.v1.ckpt", "x.pb", "x.safetensors", "x.npz", "x.pth")


def same(a: Weights, b: Weights) -> bool:
    return list(a.arrays) == list(b.arrays) and all(np.array_equal(a.arrays[n], b.arrays[n]) for n in a.arrays)


def state(path: Path, old: Weights, new: Weights) -> str:
    """What stands at the target: "old", "new", or what must never be."""
    try:
        found = load_weights(path)
    except CheckpointError as error:
        return f"BROKEN: {error}"
    return "old" if same(found, old) else "new" if same(found, new) else "MIXED"


def write_in_child(path: Path, new: Weights, limit: int | None) -> int:
    child = os.fork()
    if child:
        return child
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        new.save(path)
        os._exit(0)
    except (OSError, CheckpointError):
        os._exit(1)
    except BaseException:
        os._exit(3)


def left_over(path: Path) -> dict[str, int]:
    """What unfinished writers left once another has finished: nothing. A checkpoint may change its number of shards."""
    names = sorted(file.name for file in path.parent.iterdir())
    strange = [name for name in names if ".tmp-" in name or not name.startswith(path.name)]
    shards = {name.rpartition("-of-")[2] for name in names if ".data-" in name}
    return {f"LEFT {names}": 1} if strange or len(shards) > 1 else {}


def kills(name: str, count: int, rng: random.Random) -> dict[str, int]:
    """{"old" | "new" | what must never be: how often} after `count` kills at random times."""
    old, new = random_weights(NET, 1), random_weights(NET, 2)
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        old.save(path)  # the first one also imports what the format needs
        started = time.perf_counter()
        old.save(path)
        took = time.perf_counter() - started
        for _ in range(count):
            child = write_in_child(path, new, None)
            time.sleep(rng.uniform(0, 1.3 * took))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            said = state(path, old, new)
            found[said] = found.get(said, 0) + 1
            old.save(path)
            found |= left_over(path)
    return found


def full_disk(name: str, count: int) -> dict[str, int]:
    """The same with `count` limits on how large a file may become, from nothing to a little too small."""
    old, new = random_weights(NET, 1), random_weights(NET, 2)
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        old.save(path)
        size = max(file.stat().st_size for file in Path(folder).iterdir())
        for limit in np.linspace(0, size - 1, count).astype(int):
            _, status = os.waitpid(write_in_child(path, new, int(limit)), 0)
            said = state(path, old, new)
            if os.waitstatus_to_exitcode(status) != 1:
                said = f"exit {os.waitstatus_to_exitcode(status)} with {said}"
            found[said] = found.get(said, 0) + 1
        old.save(path)
        found |= left_over(path)
    return found


def crowd(name: str, count: int) -> dict[str, int]:
    """{what came of it: how often} where `count` processes write one target at the same time."""
    old, new = random_weights(NET, 1), random_weights(NET, 2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        old.save(path)
        children = [write_in_child(path, (old, new)[i % 2], None) for i in range(count)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        found = {state(path, old, new): 1} | left_over(path)
    return found | {f"exit {code}": codes.count(code) for code in set(codes)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of each format")
    parser.add_argument("--sizes", type=int, default=40, help="of each format")
    parser.add_argument("--writers", type=int, default=64, help="of one target, at the same time")
    parser.add_argument("--only", help="one format's file name")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rng, bad = random.Random(0), 0
    for name in FILES:
        if arguments.only not in (None, name) or (name == "x.pth" and not importlib.util.find_spec("torch")):
            continue
        killed, full = kills(name, arguments.kills, rng), full_disk(name, arguments.sizes)
        many = crowd(name, arguments.writers)
        bad += sum(n for said, n in many.items() if said not in ("old", "new", "exit 0"))
        bad += sum(n for said, n in killed.items() if said not in ("old", "new"))
        bad += sum(n for said, n in full.items() if said != "old")
        print(f"{name:<14} killed: {killed}   full disk: {full}   many: {many}", flush=True)
    print(f"{bad} broken")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
