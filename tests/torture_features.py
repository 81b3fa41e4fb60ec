"""Feature extraction killed, torn and fed with damaged pictures; what comes out must be what an undisturbed run gives.

usage: python tests/torture_features.py [--extractions N] [--kills N] [--tails N] [--mutations N] [--long N]
                                        [--commands N] [--ray N]

kills: every extraction is killed (SIGKILL) many times, half of them at random moments, half
inside the writing of a shard or a piece of one, and each time the same command follows. tails: the last shard
is cut, or its end zeroed, at a random place. mutations: damaged pictures. long: memory over
many pictures. commands: `inception metrics` and `inception statistics` killed so often at random
moments in 1, 3 and 7 shards, and (ray) on Ray with a worker killed. The network is tiny: it is
the bookkeeping that is tortured.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from made import TINY, random_weights
from PIL import Image
from torture import KINDS, damaged

from inception import features, images
from inception.features import dataset, jobs, pieces
from inception.files import atomic
from inception.pictures import KERAS
from inception.variants import GOOGLE_2015
from inception.weights import Weights
from inception.weights.formats import save

ENGINE = "onnxruntime"


def pictures(folder: Path, count: int, side: int = 90) -> Path:
    """Small JPEGs, every one another."""
    folder.mkdir()
    whole = images.test_picture(300)
    rng = np.random.default_rng(count)
    for i in range(count):
        top, left = rng.integers(0, 300 - side, 2)
        Image.fromarray(whole[top : top + side, left : left + side]).save(folder / f"{i:06d}.jpg")
    return folder


def bytes_of(folder: Path) -> dict[str, str]:
    """{file: SHA-256} of everything that an extraction wrote."""
    names = sorted(path for path in folder.iterdir() if path.name != dataset.LOCK)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in names}


# --- Kills -----------------------------------------------------------------------------


def kill_inside_a_write(after: int) -> None:
    """Makes this process kill itself at one of the steps of writing: in the bytes, at a flush, at a rename."""
    steps = 0

    def step(function: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return counted

    class Torn:
        """A file that lets half of a write through before the kill."""

        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: Any) -> int:
            nonlocal steps
            steps += 1
            if steps == after:
                self._file.write(bytes(data)[: len(data) // 2])
                self._file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return int(self._file.write(data))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def __enter__(self) -> Torn:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

    def torn_open(path: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
        file = open(path, mode, *more, **named)  # noqa: SIM115
        return Torn(file) if mode == "wb" else file

    vars(dataset)["open"] = torn_open
    atomic.flush = step(atomic.flush)
    os.replace = step(os.replace)


def in_a_child(work: Callable[[], object], seconds: float | None) -> int:
    """Runs `work` in a forked process, killed after so many seconds; its exit status, -9 where it was killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed(place: Path, source: Path, weights: Weights, seed: int, kills: int, counts: Counter[str]) -> bool:
    """One extraction under fire; whether its files are those of an undisturbed run."""
    chance = random.Random(seed)
    options = {"engine": ENGINE, "size": 75, "shard_rows": chance.choice([8, 24, 512]), "batch": chance.choice([4, 8])}
    whole, out = place / "whole", place / "out"
    started = time.perf_counter()
    features.extract(str(source), whole, weights, **options)
    seconds = time.perf_counter() - started

    def extraction(steps: int) -> None:
        if steps:
            kill_inside_a_write(steps)
        features.extract(str(source), out, weights, **options)

    for i in range(kills):
        inside = chance.randrange(1, 40) if i % 2 else 0
        moment = chance.uniform(0, 0.05 + 2 * seconds / kills)
        status = in_a_child(partial(extraction, inside), None if inside else moment)
        counts["inside a write" if inside else "anywhere"] += status == -signal.SIGKILL
        counts["finished before the kill"] += status == 0
        counts["failed"] += status not in (0, -signal.SIGKILL)
        counts["pieces seen"] += (out / pieces.PIECES).exists()
        counts["temporary files seen"] += any(".tmp-" in name for name in os.listdir(out)) if out.exists() else 0
    features.extract(str(source), out, weights, **options)
    same = bytes_of(out) == bytes_of(whole) and rows_equal(out, whole)
    shutil.rmtree(whole)
    shutil.rmtree(out)
    return same


def rows_equal(a: Path, b: Path) -> bool:
    one, other = features.load(a), features.load(b)
    equal = [one.paths == other.paths, one.errors == other.errors, one.sha256 == other.sha256]
    return all(equal) and all(np.array_equal(one.arrays[name], other.arrays[name]) for name in other.arrays)


def torture_kills(place: Path, extractions: int, kills: int) -> int:
    source, weights = pictures(place / "pictures", 1200), random_weights(TINY)
    jobs.SECONDS = 0.05  # the network is tiny, and its pieces are
    counts: Counter[str] = Counter()
    bad = sum(not killed(place, source, weights, seed, kills, counts) for seed in range(extractions))
    print(
        f"kills: {extractions} extractions x {kills}: {dict(counts)}; {bad} differ from an undisturbed run", flush=True
    )
    return bad + counts["failed"]


# --- Torn tails ------------------------------------------------------------------------


def torture_tails(place: Path, cases: int) -> int:
    """Cuts and zeroed ends of the last shard, at random places and at every one of the last bytes."""
    source, weights = pictures(place / "pictures", 20), random_weights(TINY)
    options: dict[str, Any] = {"engine": ENGINE, "size": 75, "shard_rows": 8}
    out, chance = place / "out", random.Random(0)
    features.extract(str(source), out, weights, **options)
    truth, kept = bytes_of(out), features.load(out)
    last = out / sorted(name for name in truth if name.startswith("part-"))[-1]
    sound = last.read_bytes()
    bad = healed = 0
    for case in range(cases):
        at = len(sound) - 1 - case // 2 if case < 40 else chance.randrange(len(sound))
        last.write_bytes(sound[:at] + (bytes(len(sound) - at) if case % 2 else b""))
        summary = features.extract(str(source), out, weights, **options)
        healed += summary.damaged
        bad += summary.damaged != 1 or summary.computed > 8 or bytes_of(out) != truth
    bad += not np.array_equal(features.load(out).arrays["PreLogits"], kept.arrays["PreLogits"])
    print(f"tails: {cases} cuts and zeroed ends of {len(sound)} bytes: {healed} healed, {bad} wrong", flush=True)
    return bad


# --- Damaged pictures ------------------------------------------------------------------


def encoded(folder: Path) -> dict[str, bytes]:
    """A picture in every format that is read here."""
    picture = Image.fromarray(images.test_picture(96))
    saves: dict[str, dict[str, Any]] = {
        "a.jpg": {}, "b.jpg": {"progressive": True}, "c.png": {}, "d.gif": {}, "e.bmp": {}, "f.webp": {},
        "g.webp": {"lossless": True}, "h.tiff": {}, "i.tiff": {"compression": "tiff_lzw"},
        "j.tiff": {"compression": "jpeg"},
    }  # fmt: skip
    for name, options in saves.items():
        picture.save(folder / name, **options)
    return {name: (folder / name).read_bytes() for name in saves}


def torture_mutations(place: Path, cases: int) -> int:
    """One extraction over damaged pictures: every one has a row with what Pillow reads in it, or a reason."""
    (place / "sound").mkdir()
    (place / "damaged").mkdir()
    sound, rng = encoded(place / "sound"), np.random.default_rng(0)
    expected: dict[str, str] = {}
    for case in range(cases):
        name, content = list(sound.items())[case % len(sound)]
        kind = KINDS[case // len(sound) % len(KINDS)]
        at = int(rng.integers(len(content)) if case % 3 else rng.integers(min(len(content), 256)))
        path = place / "damaged" / f"{case:05d}.{kind}.{name}"
        path.write_bytes(damaged(content, kind, at))
        must_fail = kind == "cut" and name[-4:] in (".jpg", ".png") and at < len(content) - 16
        expected[str(path)] = "error" if must_fail else "any"
    weights = random_weights(TINY)
    summary = features.extract(str(place / "damaged"), place / "out", weights, engine=ENGINE, size=75)
    found = features.load(place / "out")
    reasons = dict(found.errors)
    bad = len(found) + len(reasons) != cases or set(found.paths) | set(reasons) != set(expected)
    bad += sum(wanted == "error" and path not in reasons for path, wanted in expected.items())
    bad += sum(not reason for reason in reasons.values())
    again = [np.asarray(Image.open(path).convert("RGB")) for path in found.paths]
    tensors = np.stack([KERAS.at(75).input(picture) for picture in again])
    from inception import compile_inference

    direct = compile_inference(weights, end_points=("PreLogits",), engine=ENGINE, batch=8, image_size=75)(tensors)
    bad += int((np.abs(direct["PreLogits"] - found.arrays["PreLogits"]).max(1) > 1e-5).sum())
    kinds = Counter(Path(path).name.split(".")[1] for path in reasons)
    print(
        f"mutations: {cases} pictures, {summary.rows} rows, {summary.errors} listed {dict(kinds)}; {bad} wrong",
        flush=True,
    )
    return int(bad)


# --- Memory ----------------------------------------------------------------------------


def torture_long(place: Path, count: int) -> int:
    """The memory of a long run: links to few pictures under many names."""
    few = sorted(pictures(place / "few", 50, 40).iterdir())
    many = place / "many"
    many.mkdir()
    for i in range(count):
        os.link(few[i % len(few)], many / f"{i:07d}.jpg")
    marks: list[tuple[int, int]] = []

    def mark(done: int, total: int, errors: int) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        marks.append((done, pages * resource.getpagesize() // 1024))

    started = time.perf_counter()
    features.extract(str(many), place / "out", random_weights(TINY), engine=ENGINE, size=75, progress=mark)
    seconds = time.perf_counter() - started
    early = max(memory for done, memory in marks if done <= count // 20)
    growth = (max(memory for _, memory in marks) - early) / 1024
    started = time.perf_counter()
    again = features.extract(str(many), place / "out", random_weights(TINY), engine=ENGINE, size=75)
    resume = time.perf_counter() - started
    print(f"long: {count} pictures in {seconds:.0f} s; memory after the first twentieth {early / 1024:.0f} MB, "
          f"growth {growth:.0f} MB; a run with nothing to do {resume:.1f} s", flush=True)  # fmt: skip
    return int(growth > 50) + again.computed


# --- Commands --------------------------------------------------------------------------

COMMANDS = {
    "metrics": ["generated", "reference", "--metric", "fid,kid,pr,sfid", "--json"],
    "statistics": ["generated", "out.npz", "--force"],
}


def two_sides(place: Path, count: int) -> Path:
    """Two folders of pictures, and a network that is narrow in all but its table."""
    for name, side in (("generated", 30), ("reference", 40)):
        pictures(place / name, count, side)
    narrow = dataclasses.replace(GOOGLE_2015, depth_multiplier=0.02, min_depth=3)
    save(random_weights(narrow), place / "w.safetensors")
    return place


def command(place: Path, verb: str, work: str, *more: object, engine: str = ENGINE, **options: Any) -> Any:
    words = [*COMMANDS[verb], "--weights", "w.safetensors", "--engine", engine, "--work", work, *map(str, more)]
    whole = [sys.executable, "-m", "inception", verb, *words]
    return subprocess.Popen(whole, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def outcome(place: Path, verb: str, child: Any) -> bytes:
    """What a command that may end wrote."""
    said, complained = child.communicate()
    if child.returncode:
        raise RuntimeError(complained.decode())
    return (place / "out.npz").read_bytes() if verb == "statistics" else said


def killed_command(place: Path, verb: str, rows: int, kills: int, seconds: float, chance: random.Random) -> bytes:
    """What the command wrote in the end."""
    work, options = f"work-{verb}-{rows}", ["--shard-rows", rows]
    for _ in range(kills):
        child = command(place, verb, work, *options)
        time.sleep(chance.uniform(0, seconds))
        child.kill()
        child.communicate()
    return outcome(place, verb, command(place, verb, work, *options))


def workers_of(process: int) -> list[int]:
    """The processes of a driver of Ray's that hold one of our actors, by the title that Ray gives them."""
    parents, titled = {}, []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if (entry / "cmdline").read_bytes().startswith(b"ray::MapWorker(MapBatches(Worker))"):
                titled.append(int(entry.name))

    def descends(child: int) -> bool:
        return child == process or (child in parents and descends(parents[child]))

    return sorted(filter(descends, titled))


def torture_commands(place: Path, kills: int) -> int:
    count, chance, bad = 210, random.Random(0), 0
    two_sides(place, count)
    for verb in COMMANDS:
        started = time.perf_counter()
        truth = outcome(place, verb, command(place, verb, f"whole-{verb}"))
        seconds = time.perf_counter() - started
        same = [killed_command(place, verb, count // n, kills, seconds, chance) == truth for n in (1, 3, 7)]
        bad += same.count(False)
        print(f"commands: {verb}, {seconds:.1f} s, {kills} kills in each of 1, 3 and 7 shards: {same}", flush=True)
    return bad


def torture_ray(place: Path, count: int) -> int:
    two_sides(place, count)
    truth = outcome(place, "metrics", command(place, "metrics", "whole", engine="auto"))  # Ray's workers choose alike
    options = ["--shard-rows", 2, "--workers", 2]
    child, dead = command(place, "metrics", "work", *options, engine="ray"), []
    while child.poll() is None and not dead:
        if (place / "work").exists() and len(list((place / "work").glob("*/part-*"))) > 1:
            dead = workers_of(child.pid)[:1]
            for worker in dead:
                os.kill(worker, signal.SIGKILL)
        time.sleep(0.01)
    same = outcome(place, "metrics", child) == truth
    print(f"ray: {count} pictures a side, {len(dead)} worker killed: {same}", flush=True)
    return int(not same) + int(not dead)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extractions", type=int, default=10)
    parser.add_argument("--kills", type=int, default=20, help="of each extraction")
    parser.add_argument("--tails", type=int, default=500)
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--long", type=int, default=20000)
    parser.add_argument("--commands", type=int, default=20, help="kills of each")
    parser.add_argument("--ray", type=int, default=200, help="pictures of each side")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    parts = {
        "kills": lambda place: torture_kills(place, given.extractions, given.kills) if given.extractions else 0,
        "tails": lambda place: torture_tails(place, given.tails) if given.tails else 0,
        "mutations": lambda place: torture_mutations(place, given.mutations) if given.mutations else 0,
        "long": lambda place: torture_long(place, given.long) if given.long else 0,
        "commands": lambda place: torture_commands(place, given.commands) if given.commands else 0,
        "ray": lambda place: torture_ray(place, given.ray) if given.ray else 0,
    }
    bad, started = 0, time.perf_counter()
    for name, part in parts.items():
        with tempfile.TemporaryDirectory(prefix=name) as folder:
            bad += part(Path(folder))
    print(f"{'FAILED' if bad else 'passed'}, {time.perf_counter() - started:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
