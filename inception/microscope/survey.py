"""One pass over the user's pictures: how strongly every channel answers, and which pictures it answers most, and where.

Pictures are read and decoded ahead as an extraction of features does, and one engine computes all end points. What is
known so far is kept every few seconds, at the end of a batch, so that a run that was stopped goes on from there and
comes to the very same numbers.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from inception import inference
from inception.brief import one_line
from inception.features import jobs, reading
from inception.features.sources import Listing
from inception.files import safetensors
from inception.files.errors import CheckpointError
from inception.microscope.pieces import DATA, key_of
from inception.networks import Network

Move = Callable[[float, float, str], None]  # done, of how many, words
SECONDS = 5.0  # of work that a kill costs


@dataclass(eq=False)
class Seen:
    """What an end point's channels answered.

    Attributes:
        total: the sum over pictures of each channel's mean over the map [channels].
        most: the greatest value [channels].
        on: on how many pictures the channel is above zero somewhere [channels].
        scores: the greatest values of different pictures, the first the greatest [channels, best].
        pictures: which pictures they are of; -1 for none [channels, best].
        places: where in the map, row and column [channels, best, 2].
    """

    total: np.ndarray
    most: np.ndarray
    on: np.ndarray
    scores: np.ndarray
    pictures: np.ndarray
    places: np.ndarray

    __repr__ = one_line

    @classmethod
    def nothing(cls, channels: int, best: int) -> Seen:
        least = np.full(channels, -np.inf)
        none = np.full((channels, best), -1, np.int64)
        scores, places = np.full((channels, best), -np.inf, np.float32), np.zeros((channels, best, 2), np.int64)
        return cls(np.zeros(channels), least, np.zeros(channels), scores, none, places)

    def add(self, values: np.ndarray, numbers: np.ndarray) -> None:
        """Takes a batch: maps [n, h, w, channels] or heads [n, channels], and the numbers of its pictures."""
        maps = values.reshape(len(values), -1, values.shape[-1])
        width = values.shape[2] if values.ndim == 4 else 1
        self.total += maps.mean(1, dtype=np.float64).sum(0)
        where = maps.argmax(1)
        tops = np.take_along_axis(maps, where[:, None], 1)[:, 0]
        self.most = np.maximum(self.most, tops.max(0))
        self.on += (tops > 0).sum(0)
        best = self.scores.shape[1]
        scores = np.concatenate([self.scores, tops.T.astype(np.float32)], 1)
        keep = np.argsort(-scores, axis=1, kind="stable")[:, :best]
        pictures = np.concatenate([self.pictures, np.broadcast_to(numbers, (len(tops.T), len(numbers)))], 1)
        places = np.concatenate([self.places, np.stack([where.T // width, where.T % width], -1)], 1)
        self.scores, self.pictures = (np.take_along_axis(a, keep, 1) for a in (scores, pictures))
        self.places = np.take_along_axis(places, keep[..., None], 1)


@dataclass(frozen=True, eq=False)
class Survey:
    """What all end points answered to `count` pictures; `unread` of the list could not be read.

    Attributes:
        names: of the pictures, in the list's order.
        key: of what it depends on.
    """

    points: dict[str, Seen]
    count: int
    unread: int
    names: tuple[str, ...]
    key: str

    __repr__ = one_line


@dataclass(frozen=True)
class How:
    """How pictures are seen.

    Attributes:
        best: pictures that are kept of each channel.
        batch, engine, precision: of the engine.
        move: called with (done, of how many, words).
        late: whether to stop, then with the pictures so far.
    """

    best: int
    batch: int
    engine: str
    precision: inference.Precision
    move: Move
    late: Callable[[], bool]


def survey(
    network: Network, end_points: Sequence[str], listing: Listing, site: Path, *, weights: str, tag: str, how: How
) -> Survey:
    """The survey of a list of pictures, gone on with where a run before was stopped.

    Args:
        weights: the digest of the network.
        tag: before the names of files, for a network beside the site's.
    """
    best, batch = how.best, how.batch
    stamps = [reading.stamp_of(item) for item in listing.items]
    paths = [item.path for item in listing.items]
    names = tuple(os.path.basename(p) for p in paths)
    key = key_of("survey", weights, paths, stamps, best, batch, how.precision, str(network.picture))
    path, part = site / DATA / f"{tag}survey.safetensors", site / DATA / f"{tag}survey-part.safetensors"
    done, read, known = _kept(path, key)
    missing = [name for name in end_points if name not in known]
    if not missing:
        return Survey(known, read, done - read, names, key)
    part_key = key_of(key, missing)
    done, read, points = _kept(part, part_key)
    run = inference.compile_inference(
        network,
        end_points=tuple(missing),
        engine=how.engine,  # type: ignore[arg-type]
        precision=how.precision,
        batch=batch,
        image_size=network.picture.sides,
    )
    waiting: list[tuple[int, np.ndarray]] = []
    upright = network.picture.upright
    one = partial(reading.read, tensors=lambda pixels: [network.input(pixels)], upright=upright)
    threads = min(os.cpu_count() or 1, 8)
    pool, kept = ThreadPoolExecutor(threads, thread_name_prefix="decode"), time.monotonic()
    try:
        reads = jobs.in_order(pool, one, listing.items[done:], ahead=2 * batch + threads)
        for number, found in enumerate(reads, done):
            if found.tensors:
                waiting.append((number, found.tensors[0]))
            last = number + 1 == len(paths)
            if waiting and (len(waiting) == batch or last):
                for name, values in run.prepared(np.stack([tensor for _, tensor in waiting])).items():
                    if name not in points:
                        points[name] = Seen.nothing(values.shape[-1], best)
                    points[name].add(values, np.array([n for n, _ in waiting]))
                read += len(waiting)
                waiting.clear()
            if not waiting:
                done = number + 1
                how.move(done, len(paths), "seeing pictures")
                stop = not last and how.late()
                if stop or (not last and time.monotonic() - kept > SECONDS):
                    _keep(part, part_key, done, read, points)
                    kept = time.monotonic()
                if stop:
                    break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if done < len(paths) and known:  # the end points that are done, until the others are
        done, read, known = _kept(path, key)
        return Survey(known, read, done - read, names, key)
    if done < len(paths):
        return Survey(points, read, done - read, names, key_of(part_key, done))
    _keep(path, key, done, read, known | points)
    part.unlink(missing_ok=True)
    return Survey(known | points, read, done - read, names, key)


def _keep(path: Path, key: str, done: int, read: int, points: dict[str, Seen]) -> None:
    arrays = {
        f"{name}|{field.name}": np.ascontiguousarray(getattr(seen, field.name))
        for name, seen in points.items()
        for field in fields(Seen)
    }
    safetensors.write(path, arrays, {"key": key, "done": str(done), "read": str(read)})


def _kept(path: Path, key: str) -> tuple[int, int, dict[str, Seen]]:
    """(pictures of the list that are done, those that were read, what they showed), as far as it was kept."""
    if not path.is_file():
        return 0, 0, {}
    try:
        content = safetensors.read(path)
        if content.metadata.get("key") != key or not content.checksummed:
            return 0, 0, {}
        found: dict[str, dict[str, np.ndarray]] = {}
        for name, stored in content.tensors.items():
            point, _, field = name.partition("|")
            found.setdefault(point, {})[field] = stored.read().copy()
    except CheckpointError:
        return 0, 0, {}
    points = {name: Seen(**values) for name, values in found.items()}
    return int(content.metadata["done"]), int(content.metadata["read"]), points
