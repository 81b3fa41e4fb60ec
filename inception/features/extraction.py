"""Features of any number of pictures: decoding in threads beside the engine, whole shards on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from inception import inference
from inception.arguments import count_or_none
from inception.features import dataset, jobs, pieces, reading, sources, task
from inception.features.dataset import Shard
from inception.features.jobs import Progress
from inception.features.sources import Item, PictureSource
from inception.features.task import Compiled, Pool, Task
from inception.networks import network_of
from inception.pictures import Picture, Preprocess

_MOST_THREADS = 8


class CannotWrite(OSError):
    """The disk is full, or will not take what is written; its text is a sentence."""

    def __str__(self) -> str:
        return str(self.strerror)


@dataclass(frozen=True)
class Summary:
    """What an extraction did.

    Attributes:
        pictures: in the list.
        rows, errors: with and without features.
        computed: pictures of this run; the others were there, in shards or in pieces of them.
        damaged, changed: shards done again because their file was torn, or because a picture is not as it was.
        passed_over: files without a picture's ending.
    """

    out: Path
    pictures: int
    rows: int
    errors: int
    computed: int
    damaged: int
    changed: int
    passed_over: int
    engine: str
    seconds: float

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
    batch: int | None = None,
    threads: int | None = None,
    size: int | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
    column: str | None = None,
    shard_rows: int | None = None,
    workers: int | None = None,
    check: bool = False,
    progress: Progress | None = None,
    also: Mapping[Path, str | Picture] | None = None,
) -> Summary:
    """Writes the features of pictures into a folder of Parquet shards (see `dataset`); run again, it goes on.

    Stopped anywhere, the same call finishes the work: whole shards stay, and of one that was begun
    all but the last seconds (see `pieces`); a damaged one and one whose pictures changed are done
    again. A picture that cannot be read has no row; the errors table says why.

    Args:
        source: pictures, folders, globs, lists of paths, Parquet files (`sources.listed`).
        out: the folder; a new one, an empty one, or one with the same extraction.
        weights: whatever `networks.network_of` takes: a path or id, a folder, `Weights`, any Keras model.
        end_points: slim's names ("PreLogits" is the 2048 pooled features, "Mixed_6e" a map, and
            "Mixed_6e:7" its first 7 channels, never pooled); for another Keras model, or for an
            InceptionV3's own layers, names of layers.
        pool: maps [h, w, c] to [c] by "avg" or "max"; "none" keeps them.
        picture: another way of a picture than the network's own (`pictures.named`).
        engine: "openvino", "onnxruntime", "tensorflow", "auto" for the first installed, or "ray" for a
            Ray cluster whose machines see `source` and `out` under the same names.
        batch: images in each run of the engine; results do not depend on it.
        threads: that decode pictures.
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
    ways = {Path(out): picture} | {Path(folder): way for folder, way in (also or {}).items()}
    for folder in ways:
        dataset.described(folder)  # a folder of other things is refused before a lock is put into it
    if len(ways) > 1:
        weights = network_of(weights, picture=picture, preprocess=preprocess)  # read once
    inner = "auto" if engine == "ray" else engine
    asked = [task.task_of(weights, end_points, pool, way, size, inner, batch, preprocess) for way in ways.values()]
    with contextlib.ExitStack() as held, _quiet():
        begun: list[_Begun] = []
        for folder, each in zip(ways, asked, strict=True):
            with _safe(folder):
                held.enter_context(dataset.locked(folder))
            compiled = begun[0].compiled if begun else None
            begun.append(_begun(folder, each, listing, shard_rows, threads or _threads(), check, compiled))
        with _safe(Path(out)):
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
        out=Path(out),
        pictures=len(listing.items),
        rows=len(listing.items) - len(errors),
        errors=len(errors),
        computed=computed,
        damaged=sum(found == "damaged" for found in states.values()),
        changed=sum(found == "changed" for found in states.values()),
        passed_over=listing.passed_over,
        engine=f"ray ({metadata['engine']})" if engine == "ray" else metadata["engine"],
        seconds=time.perf_counter() - started,
    )


@dataclass(frozen=True, eq=False)
class _Begun:
    """One folder's extraction, ready to run; the engine where it had to be built."""

    job: jobs.Job
    parts: list[Shard]
    states: dict[Shard, str]
    compiled: Compiled | None


def _begun(
    folder: Path,
    asked: Task,
    listing: sources.Listing,
    rows: int | None,
    threads: int,
    check: bool,
    compiled: Compiled | None,
) -> _Begun:
    before = dataset.described(folder)
    asked, metadata, compiled = _settled(asked, listing, before, rows, compiled)
    if before is not None:
        dataset.check_same(folder, before, metadata)
    with _safe(folder):
        dataset.begin(folder, metadata, [item.path for item in listing.items])
    parts = dataset.shards(len(listing.items), metadata["shard_rows"])
    states = _states(folder, parts, metadata, listing.items, check)
    pending = tuple(shard for shard in parts if states[shard] != "done")
    job = jobs.Job(folder, asked, metadata, listing.items, pending, threads)
    return _Begun(job, parts, states, compiled)


def _computed(begun: Sequence[_Begun], progress: Progress | None) -> int:
    """Runs all together, or one after the other where their shards, engines or decoding differ."""
    together = {(each.parts[-1], each.job.task.engine, each.job.task.picture.upright) for each in begun}
    groups = [begun] if len(together) == 1 else [[each] for each in begun]
    computed = []
    for group in groups:
        engine = group[0].job.task.engine
        run = next((each.compiled[1] for each in group if each.compiled and each.compiled[0] == engine), None)
        computed.append(jobs.run_here([each.job for each in group], run, progress))
    return computed[0]


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_THREADS)


def _settled(
    asked: Task,
    listing: sources.Listing,
    before: Mapping[str, Any] | None,
    rows: int | None,
    compiled: Compiled | None,
) -> tuple[Task, dict[str, Any], Compiled | None]:
    """The task with its engine chosen, what is written down of it, and the engine where it had to be built.

    What a folder has already settles what is open here: its engine and the size of its shards.

    Args:
        compiled: the engine that was built for another way of a picture, whose network is the same.
    """
    if before is not None:
        found, shapes, usual = (before.get(name) for name in ("engine", "shapes", "shard_rows"))
        engine = str(found) if asked.engine == "auto" else asked.engine
        if asked.layers:
            engine = "keras"
        elif engine not in inference.ENGINES:
            engine = "auto"  # a word that `check_same` then refuses
    else:
        compiled = compiled or asked.compiled()
        engine = compiled[0]
        shapes = task.shapes_of(compiled[1], asked.picture)
        usual = task.shard_rows(shapes)
    pictures = {"count": len(listing.items), "digest": listing.digest}
    more = {"engine": engine, "shapes": shapes, "shard_rows": rows or usual, "pictures": pictures}
    return dataclasses.replace(asked, engine=engine), asked.metadata() | more, compiled


def _states(
    folder: Path, parts: Sequence[Shard], metadata: Mapping[str, Any], items: Sequence[Item], check: bool
) -> dict[Shard, str]:
    """What is there of each shard. The newest is read whole: it is the one that a power cut can have torn."""
    there = [shard for shard in parts if (folder / shard.name).exists()]
    newest = max(there, key=lambda shard: (folder / shard.name).stat().st_mtime_ns, default=None)
    states = dict.fromkeys(parts, "missing")
    for shard in there:
        inputs = dataset.digest_of([reading.stamp_of(item) for item in items[shard.start : shard.stop]])
        states[shard] = dataset.state(folder, shard, metadata, inputs, whole=check or shard is newest)
    return states


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Pillow's warnings are either errors of ours or of no use to a user with a million pictures."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


@contextlib.contextmanager
def _safe(folder: Path) -> Iterator[None]:
    """Says of a full disk and the like that nothing is lost."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        after = "finished shards stay; when there is room, run the same extraction again to go on."
        raise CannotWrite(error.errno, f"{folder} cannot be written ({error.strerror}); {after}") from error
