"""Features of any number of pictures: decoding in threads beside the engine, whole shards on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inception import inference
from inception.arguments import count_or_none
from inception.features import dataset, jobs, pieces, reading, sources, stores, task
from inception.features.dataset import Place, Shard
from inception.features.jobs import Progress
from inception.features.sources import Item, PictureSource
from inception.features.task import Compiled, Pool, Task
from inception.inference import int8, stored
from inception.networks import network_of
from inception.pictures import Picture, Preprocess

_MOST_THREADS = 8
_WAITING = 4  # threads for one that decodes, where pictures come from a store


class CannotWrite(OSError):
    """The disk is full, or will not take what is written; its text is a sentence."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Attributes:
        out: the folder.
        pictures: in the list.
        rows: with features.
        errors: pictures without.
        computed: pictures of this run; the others were there, in shards or in pieces of them.
        damaged: shards done again because their file was torn.
        changed: shards done again because a picture is not as it was.
        passed_over: files without a picture's ending.
        engine: what computed them.
        seconds: of this run.
        agreement: of the int8 network with the float32 one.
    """

    out: Place
    pictures: int
    rows: int
    errors: int
    computed: int
    damaged: int
    changed: int
    passed_over: int
    engine: str
    seconds: float
    agreement: int8.Agreement | None = None

    @property
    def images_per_second(self) -> float:
        return self.computed / self.seconds if self.seconds else 0.0


def extract(
    source: PictureSource | Sequence[PictureSource],
    out: str | os.PathLike[str],
    weights: Any,
    *,
    end_points: Sequence[str] = ("PreLogits",),
    pool: Pool = "avg",
    picture: str | Picture | None = None,
    engine: str = "auto",
    precision: inference.Precision = "float32",
    least_agreement: float = int8.ENOUGH,
    int8_of: str | os.PathLike[str] | None = None,
    batch: int | None = None,
    threads: int | None = None,
    size: int | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
    column: str | None = None,
    shard_rows: int | None = None,
    workers: int | None = None,
    check: bool = False,
    progress: Progress | None = None,
    also: Mapping[Place, str | Picture] | None = None,
) -> Summary:
    """Writes the features of pictures into a folder of Parquet shards (see `dataset`); run again, it goes on.

    Stopped anywhere, the same call finishes the work: whole shards stay, and of one that was begun
    all but the last seconds (see `pieces`); a damaged one and one whose pictures changed are done
    again. A picture that cannot be read has no row; the errors table says why.

    Args:
        source: pictures, folders, globs, lists of paths, Parquet files (`sources.listed`).
        out: the folder, or its URL in a store; a new one, an empty one, or one with the same extraction.
        weights: whatever `networks.network_of` takes: a path or id, a folder, `Weights`, any Keras model.
        end_points: slim's names ("PreLogits" is the 2048 pooled features, "Mixed_6e" a map, and
            "Mixed_6e:7" its first 7 channels, never pooled); for another Keras model, or for an
            InceptionV3's own layers, names of layers.
        pool: maps [h, w, c] to [c] by "avg" or "max"; "none" keeps them.
        picture: another way of a picture than the network's own (`pictures.named`).
        engine: "openvino", "onnxruntime", "tensorflow", "auto" for the first installed, or "ray" for a
            Ray cluster whose machines see `source` and `out` under the same names.
        precision: "float32", or OpenVINO's "bfloat16", twice as fast on processors that have it, and "int8",
            three times: calibrated on some 200 of the pictures, its agreement with float32 measured on 50 others and
            kept in the metadata, the network in the folder.
        least_agreement: of int8: the share of pictures with the same best class (without classes, the cosine of
            pooled features) below which nothing is extracted.
        int8_of: a folder of features in int8 whose network is taken, for features that will be compared with those.
        batch: images in each run of the engine; results do not depend on it.
        threads: that read and decode pictures; None for one a core, and four where they are in a store.
        size: side of the square images; None for the weights' own.
        preprocess: in place of the picture's scaling: pixels float32 [size, size, 3], 0..255,
            to the network's input; "none" for pixels as they are. Keras models that are no InceptionV3 need it.
        column: of a Parquet source, where it is not plain.
        shard_rows: pictures in a shard; None for 512, fewer for large maps.
        workers: on Ray, processes with an engine each; None for one a CPU.
        check: read every byte of finished shards, not their footers alone.
        progress: called with (done, of how many, errors) as the work goes on.
        also: other ways of a picture, {folder: way}: features by them go into folders of their own, and each
            picture is decoded once for all of them. The summary is of `out`.

    Raises:
        ValueError: for arguments that do not fit, and where `out` has features of something
            else: the sentence names the field.
        OSError: when the disk is full or `out` cannot be written. What is finished stays.
    """
    started = time.perf_counter()
    threads, shard_rows = count_or_none("threads", threads), count_or_none("shard_rows", shard_rows)
    workers = count_or_none("workers", workers)
    listing = sources.listed(source, column)
    place = stores.place(out)
    ways = {place: picture} | {stores.place(folder): way for folder, way in (also or {}).items()}
    for folder in ways:
        dataset.described(folder)  # a folder of other things is refused before a lock is put into it
    if len(ways) > 1:
        weights = network_of(weights, picture=picture, preprocess=preprocess)  # read once
    inner = "auto" if engine == "ray" else engine
    asked = [
        task.task_of(weights, end_points, pool, way, size, inner, batch, preprocess, precision) for way in ways.values()
    ]
    with contextlib.ExitStack() as held, _quiet():
        begun: list[_Begun] = []
        checks: list[Callable[[], None]] = []
        for folder, each in zip(ways, asked, strict=True):
            with _safe(folder):
                if check_lock := held.enter_context(dataset.locked(folder)):
                    checks.append(check_lock)
            given = _Given(listing, shard_rows, threads or _threads(listing), check, least_agreement, int8_of)
            shared = begun[0].compiled if begun and each.precision != "int8" else None
            begun.append(_begun(folder, each, given, shared))
        progress = _while_held(checks, progress)
        with _safe(place):
            if engine == "ray":
                from inception.features import ray

                computed = ray.run([each.job for each in begun], workers, progress)
            else:
                computed = _computed(begun, progress)
            errors, *_ = [dataset.finish(each.job.folder, each.parts) for each in begun]
            for folder in ways:
                pieces.forget(folder)
    states, metadata = begun[0].states, begun[0].job.metadata
    return Summary(
        out=place,
        pictures=len(listing.items),
        rows=len(listing.items) - len(errors),
        errors=len(errors),
        computed=computed,
        damaged=sum(found == "damaged" for found in states.values()),
        changed=sum(found == "changed" for found in states.values()),
        passed_over=listing.passed_over,
        engine=f"ray ({metadata['engine']})" if engine == "ray" else metadata["engine"],
        agreement=_agreement(metadata),
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, eq=False)
class _Begun:
    """One folder's extraction, ready to run; the engine where it had to be built."""

    job: jobs.Job
    parts: list[Shard]
    states: dict[Shard, str]
    compiled: Compiled | None


@dataclass(frozen=True)
class _Given:
    """Arguments that are the same for all folders."""

    listing: sources.Listing
    rows: int | None
    threads: int
    check: bool
    least_agreement: float
    int8_of: str | os.PathLike[str] | None


def _begun(folder: Place, asked: Task, given: _Given, compiled: Compiled | None) -> _Begun:
    before, listing = dataset.described(folder), given.listing
    asked, metadata, compiled = _settled(folder, asked, given, before, compiled)
    if before is not None:
        dataset.check_same(folder, before, metadata)
    with _safe(folder):
        dataset.begin(folder, metadata, [item.path for item in listing.items])
    parts = dataset.shards(len(listing.items), metadata["shard_rows"])
    states = _states(folder, parts, metadata, listing.items, given.check)
    pending = tuple(shard for shard in parts if states[shard] != "done")
    job = jobs.Job(folder, asked, metadata, listing.items, pending, given.threads)
    return _Begun(job, parts, states, compiled)


def _while_held(checks: Sequence[Callable[[], None]], progress: Progress | None) -> Progress | None:
    """Progress that stops the work when another process has taken a folder."""

    def show(done: int, total: int, errors: int) -> None:
        for check in checks:
            check()
        if progress is not None:
            progress(done, total, errors)

    return show if checks else progress


def _computed(begun: Sequence[_Begun], progress: Progress | None) -> int:
    """Runs all together, or one after the other where their shards, engines or decoding differ."""
    tasks = [each.job.task for each in begun]
    together = {
        (each.parts[-1], task.engine, task.int8, task.picture.upright) for each, task in zip(begun, tasks, strict=True)
    }
    groups = [begun] if len(together) == 1 else [[each] for each in begun]
    computed = []
    for group in groups:
        engine = group[0].job.task.engine
        run = next((each.compiled[1] for each in group if each.compiled and each.compiled[0] == engine), None)
        computed.append(jobs.run_here([each.job for each in group], run, progress))
    return computed[0]


def _threads(listing: sources.Listing) -> int:
    return min(task.cores(), _MOST_THREADS) * (_WAITING if _far(listing.items) else 1)


def _far(items: Sequence[Item]) -> bool:
    """Whether pictures are in a store, as far as the first and the last say."""
    return any(stores.is_url(item.path) for item in (items[0], items[-1]))


def _settled(
    folder: Place, asked: Task, given: _Given, before: Mapping[str, Any] | None, compiled: Compiled | None
) -> tuple[Task, dict[str, Any], Compiled | None]:
    """The task with its engine chosen, what is written down of it, and the engine where it had to be built.

    What a folder has already settles what is open here: its engine, its int8 network and the size of its shards.

    Args:
        compiled: the engine that was built for another way of a picture, whose network is the same.
    """
    said: Any = None
    if before is not None:
        found, shapes, usual = (before.get(name) for name in ("engine", "shapes", "shard_rows"))
        engine = str(found) if asked.engine == "auto" else asked.engine
        if asked.layers:
            engine = "keras"
        elif engine not in inference.ENGINES:
            engine = "auto"  # a word that `check_same` then refuses
        said = before.get("int8") if asked.precision == "int8" else None
        if said:
            asked = dataclasses.replace(asked, int8=(Path(str(folder)) / dataset.INT8, said["network"]))
    else:
        if asked.precision == "int8":
            if not isinstance(folder, Path):
                raise ValueError(f"{folder} is in a store, and a network in int8 is kept beside its features; give a "
                                 "folder on a disk, and copy it.")  # fmt: skip
            with _safe(folder):
                asked, said = _int8(folder, asked, given)
        compiled = compiled or asked.compiled()
        engine = compiled[0]
        shapes = task.shapes_of(compiled[1], asked.picture)
        usual = task.shard_rows(shapes)
    pictures = {"count": len(given.listing.items), "digest": given.listing.digest}
    more = {"engine": engine, "shapes": shapes, "shard_rows": given.rows or usual, "pictures": pictures}
    more |= {"int8": said} if said else {}
    return dataclasses.replace(asked, engine=engine), asked.metadata() | more, compiled


def _agreement(metadata: Mapping[str, Any]) -> int8.Agreement | None:
    fields = [field.name for field in dataclasses.fields(int8.Agreement)]
    return int8.Agreement(*(metadata["int8"][name] for name in fields)) if "int8" in metadata else None


def _int8(folder: Path, asked: Task, given: _Given) -> tuple[Task, dict[str, Any]]:
    """The task with its int8 network, which is in the folder then, and what is written down of it."""
    target, other = folder / dataset.INT8, Path(given.int8_of or folder)
    if other == folder:
        return asked.calibrated(target, _sample(asked, given), given.least_agreement)
    said, now = dataset.described(other) or {}, asked.metadata()
    if "int8" not in said:
        raise ValueError(f"{other} has no features in int8, whose network could be taken.")
    for field in ("inception", "weights", "network", "end_points", "picture", "preprocess"):
        dataset.check_same(other, said, said | {field: now[field]})
    stored.copy(other / dataset.INT8, target, said["int8"]["network"])
    return dataclasses.replace(asked, int8=(target, said["int8"]["network"])), said["int8"]


def _sample(asked: Task, given: _Given) -> list[np.ndarray]:
    """Pictures evenly spread over the list, as the network gets them, to calibrate and to measure int8 with."""
    read = partial(reading.read, tensors=lambda pixels: [asked.network.input(pixels)], upright=asked.picture.upright)
    with ThreadPoolExecutor(given.threads) as pool:
        return [found.tensors[0] for found in pool.map(read, int8.spread(given.listing.items)) if not found.reason]


def _states(
    folder: Place, parts: Sequence[Shard], metadata: Mapping[str, Any], items: Sequence[Item], check: bool
) -> dict[Shard, str]:
    """What is there of each shard. The newest is read whole: it is the one that a power cut can have torn."""
    changed = dataset.changes(folder)
    there = [shard for shard in parts if shard.name in changed]
    newest = max(there, key=lambda shard: changed[shard.name], default=None)
    states = dict.fromkeys(parts, "missing")
    with ThreadPoolExecutor(dataset.REQUESTS) as pool:  # stores answer many at a time

        def state(shard: Shard) -> str:
            inputs = dataset.digest_of([reading.stamp_of(item) for item in items[shard.start : shard.stop]])
            return dataset.state(folder, shard, metadata, inputs, whole=check or shard is newest)

        far = isinstance(folder, stores.Store) or _far(items)
        states |= zip(there, (pool.map if far else map)(state, there), strict=True)
    return states


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings are either errors of ours or of no use to a user with a million pictures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextlib.contextmanager
def _safe(folder: Place) -> Iterator[None]:
    """Says of a full disk and the like that nothing is lost."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        after = "finished shards stay; when there is room, run the same extraction again to go on."
        raise CannotWrite(error.errno, f"{folder} cannot be written ({error.strerror}); {after}") from error
