"""An extraction from S3 into S3 killed many times, the store answering 503: the disk's rows, a calm run's bytes.

usage: python tests/torture_stores.py [--pictures N] [--kills N] [--every N]

Half of the kills come at random moments, half at a PUT, before it or just behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import s3_server
from made import TINY, random_weights
from torture_features import in_a_child, pictures

from inception import features
from inception.features import dataset, jobs
from inception.features.stores import Store

OPTIONS: dict[str, Any] = {"engine": "onnxruntime", "size": 75, "batch": 8}


def kill_at_a_put(after: int) -> None:
    """This process kills itself at one of its PUTs: before the odd ones, behind the even ones."""
    count, real = 0, Store.write_bytes

    def write_bytes(store: Store, content: bytes) -> None:
        nonlocal count
        count += 1
        if count == after and count % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        real(store, content)
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)

    Store.write_bytes = write_bytes  # type: ignore[method-assign]


def extracted(source: str, out: str, options: dict[str, Any], puts: int = 0, seconds: float | None = None) -> int:
    """The exit status of an extraction in a process of its own, -9 where it was killed."""

    def work() -> None:
        if puts:
            kill_at_a_put(puts)
        jobs.SECONDS = 0.3
        features.extract(source, out, random_weights(TINY), **options)

    return in_a_child(work, seconds)


def content(out: Store) -> dict[str, bytes]:
    """All files of a folder in the store but the lock."""
    return {name: (out / name).read_bytes() for name in out.entries() if name != dataset.LOCK}


def rows(folder: Any, source: str) -> dict[str, tuple[str, bytes]]:
    """{a picture's name below the source: digest of the picture, features} and those without."""
    found = features.load(folder)
    pairs = zip(found.paths, found.sha256, found.arrays["PreLogits"], strict=True)
    there = {path.removeprefix(source): (digest, row.tobytes()) for path, digest, row in pairs}
    return there | {path.removeprefix(source): ("", b"") for path, _ in found.errors}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    chance, counts = random.Random(given.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as place, s3_server.served(given.every) as address:
        os.environ |= s3_server.environment(address)
        local = pictures(Path(place) / "pictures", given.pictures)
        (local / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
        source, out, calm = (Store(f"s3://{s3_server.BUCKET}/{name}") for name in ("photos", "out", "calm"))

        def upload() -> None:
            with ThreadPoolExecutor(16) as pool:
                list(pool.map(lambda path: (source / path.name).write_bytes(path.read_bytes()), local.iterdir()))

        assert in_a_child(upload, None) == 0  # s3fs's threads are not for a process that forks again
        options = OPTIONS | {"shard_rows": max(16, given.pictures // 20)}
        started = time.perf_counter()
        assert extracted(str(local), f"{place}/out", options) == 0
        print(f"on the disk: {time.perf_counter() - started:.1f} s")
        started = time.perf_counter()
        assert extracted(source.url, calm.url, options) == 0
        seconds = time.perf_counter() - started
        print(f"in the store: {seconds:.1f} s")
        for i in range(given.kills):
            if i % 2:
                status = extracted(source.url, out.url, options, puts=chance.randrange(1, 8))
            else:
                wait = chance.uniform(0.1, 1) * min(seconds, 2 + 2 * seconds / given.kills)
                status = extracted(source.url, out.url, options, seconds=wait)
            counts["killed at a PUT" if i % 2 else "killed anywhere"] += status == -signal.SIGKILL
            counts["finished before the kill"] += status == 0
            counts["failed"] += status not in (0, -signal.SIGKILL)
        status = extracted(source.url, out.url, options)
        same = status == 0 and content(out) == content(calm)
        equal = rows(f"{place}/out", f"{local}/") == rows(out.url, f"{source}/")
        counts["rows"] = int(np.sum([len(part) for part in features.scan(out.url)]))
        with urllib.request.urlopen(f"{address}/counted") as answer:
            requests, refused = json.load(answer)
        print(f"{given.pictures + 1} pictures, {dict(counts)}; {requests} requests, of which {refused} got 503")
        print(f"bytes of the run that was not killed: {same}; rows of the disk's: {equal}")
        return 0 if same and equal and not counts["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
