"""The work of an extraction, shard by shard: the same on one machine and in a worker of Ray's."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np

from inception.features import dataset, pieces, reading
from inception.features.dataset import Place, Shard
from inception.features.reading import Read
from inception.features.sources import Item
from inception.features.task import Run, Task

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")
Progress = Callable[[int, int, int], None]  # pictures done in this run, of how many, without a row
Show = Callable[[int, int], None]  # of these, pictures of the shard that is being computed, and without a row

SECONDS = 2.0  # of work in a piece of a shard: a kill costs that and a batch; writing one takes 0.02 s


@dataclass(frozen=True, eq=False)
class Job:
    """An extraction that is ready to run: where, of what, and which shards are still to do."""

    folder: Place
    task: Task
    metadata: dict[str, Any]
    items: tuple[Item, ...]
    pending: tuple[Shard, ...]
    threads: int


class Engine:
    """Computes batches in threads of its own, `streams` at a time.

    A picture that is decoded holds up one of them then. Were a batch divided among all cores, all would wait for
    the one that decodes.
    """

    def __init__(self, run: Run, streams: int) -> None:
        self.ahead = streams if streams > 1 else 0  # batches on their way while the next is filled
        self._run = run
        self._pool = ThreadPoolExecutor(streams, thread_name_prefix="compute")

    def submit(self, batch: np.ndarray) -> Future[dict[str, np.ndarray]]:
        return self._pool.submit(self._run, batch)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def run_here(jobs: Sequence[Job], run: Run | None, progress: Progress | None = None) -> int:
    """Computes and writes the pending shards of jobs on the same pictures, decoding ahead in threads.

    The jobs differ in their folder and their way of a picture: each picture is decoded once, and one engine runs for
    each way. Returns how many pictures were computed; the others of these shards were in pieces.
    """
    pending = sorted({shard for job in jobs for shard in job.pending}, key=lambda shard: shard.index)
    if not pending:
        return 0
    run = run or jobs[0].task.compiled()[1]
    items = jobs[0].items
    total = sum(map(len, pending))
    done = failed = computed = 0
    decode = ThreadPoolExecutor(jobs[0].threads, thread_name_prefix="decode")
    engine = Engine(run, jobs[0].task.streams)
    try:
        # Decoding is ahead of computing: the one that comes to a shard first looks for its pieces, for both.
        ahead, works = itertools.tee(Work(shard, items[shard.start : shard.stop], jobs, engine) for shard in pending)
        reads = reads_of(jobs, itertools.chain.from_iterable(work.left for work in ahead), decode)
        for work in works:

            def show(now: int, without: int, before: tuple[int, int] = (done, failed)) -> None:
                if progress is not None:
                    progress(before[0] + now, total, before[1] + without)

            failed += work.finish(reads, show)
            done += len(work.shard)
            computed += len(work.left)
    finally:
        decode.shutdown(wait=True, cancel_futures=True)
        engine.close()
    return computed


def reads_of(jobs: Sequence[Job], items: Iterable[Item], pool: ThreadPoolExecutor) -> Iterator[Read]:
    """The pictures in their order, each as the networks of the jobs take it, decoded ahead in the pool's threads."""
    inputs = [job.task.network.input for job in jobs]
    task = jobs[0].task
    read = partial(reading.read, tensors=lambda pixels: [make(pixels) for make in inputs], upright=task.picture.upright)
    return in_order(pool, read, items, ahead=2 * task.batch + jobs[0].threads)


def in_order(
    pool: ThreadPoolExecutor, function: Callable[[_Given], _Made], items: Iterable[_Given], ahead: int
) -> Iterator[_Made]:
    """The function's results in the order of the items, at most `ahead` of them waiting."""
    waiting: deque[Future[_Made]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class Work:
    """A shard, and the jobs that lack it, each begun with the pieces that a killed run left.

    A batch never reaches into the next shard, and a piece ends with a batch: rows do not depend on what was there.
    A piece has what is computed, up to `Engine.ahead` batches less than what was read.

    Attributes:
        left: the pictures that are still to be read.
    """

    def __init__(self, shard: Shard, items: Sequence[Item], jobs: Sequence[Job], engine: Engine) -> None:
        self.shard = shard
        self._parts = {i: _Part(job, shard, items, engine) for i, job in enumerate(jobs) if shard in job.pending}
        self._first = min(self._parts.values(), key=lambda part: len(part.reads))
        self.left = items[len(self._first.reads) :]

    def finish(self, reads: Iterator[Read], show: Show = lambda now, without: None) -> int:
        """Computes what is left from the next reads, and writes the shard. Returns how many of it have no row."""
        first, kept = self._first, time.monotonic()
        for read in itertools.islice(reads, len(self.left)):
            at, before = len(first.reads), first.done
            for i, part in self._parts.items():
                part.take(at, read, i)
            if first.done == before:
                continue
            show(first.done, first.failed)
            if time.monotonic() - kept > SECONDS and len(first.reads) < len(self.shard):
                for part in self._parts.values():
                    part.keep()
                kept = time.monotonic()
        for part in self._parts.values():
            part.write()
        show(first.done, first.failed)
        return first.failed


class _Part:
    """A shard of one job: a column an end point, filled a batch at a time with a row a picture that was read.

    Attributes:
        reads: the pictures so far, without their tensors.
        done: how many of them are computed, or cannot be read.
    """

    def __init__(self, job: Job, shard: Shard, items: Sequence[Item], engine: Engine) -> None:
        self.job = job
        self.reads: list[Read] = []
        self._waiting: list[np.ndarray] = []  # tensors of the last of them, less than a batch
        self._running: deque[tuple[int, Future[dict[str, np.ndarray]]]] = deque()  # (pictures so far, their last rows)
        self._shard = shard
        self._engine = engine
        self._whole = {
            name: np.empty((len(shard), *shape), np.float32) for name, shape in job.metadata["shapes"].items()
        }
        self.done = self._rows = 0
        self._batches = job.metadata | {"batch": job.task.batch}
        for reads, columns in pieces.kept(job.folder, shard, self._batches, items):
            self.reads += reads
            self._fill(len(self.reads), columns)
        self._kept = self.done, self._rows

    @property
    def failed(self) -> int:
        """How many of those that are done have no row."""
        return self.done - self._rows

    def take(self, at: int, read: Read, job: int) -> None:
        """The shard's next picture, its tensors one a job; passed over where a piece has it."""
        if at < len(self.reads):
            return
        self.reads.append(dataclasses.replace(read, tensors=()))
        if read.tensors:
            self._waiting.append(read.tensors[job])
        if len(self._waiting) == self.job.task.batch:
            self._compute(self._engine.ahead)
        if not (self._waiting or self._running):
            self.done = len(self.reads)

    def keep(self) -> None:
        """Writes a piece of what is computed since the last one."""
        reads, row = self._kept
        if reads < self.done:
            columns = {name: values[row : self._rows] for name, values in self._whole.items()}
            start = self._shard.start + reads
            pieces.keep(self.job.folder, self._shard, start, self._batches, (self.reads[reads : self.done], columns))
            self._kept = self.done, self._rows

    def write(self) -> None:
        """Computes what waits, and writes the shard."""
        self._compute(ahead=0)
        self.done = len(self.reads)
        columns = {name: values[: self._rows] for name, values in self._whole.items()}
        dataset.write(self.job.folder, self._shard, self.job.metadata, self.reads, columns)
        pieces.forget(self.job.folder, self._shard)

    def _compute(self, ahead: int) -> None:
        """Gives what waits to the engine, and takes its results until at most `ahead` are to come."""
        if self._waiting:
            self._running.append((len(self.reads), self._engine.submit(np.stack(self._waiting))))
            self._waiting.clear()
        while len(self._running) > ahead:
            done, promised = self._running.popleft()
            results = promised.result()
            self._check(results)
            self._fill(done, results)

    def _check(self, results: Mapping[str, np.ndarray]) -> None:
        for name, values in results.items():
            expected = self._whole[name].shape[1:]
            if values.shape[1:] != expected:
                raise ValueError(
                    f"{self.job.folder / dataset.EXTRACTION} says {list(expected)} of {name}, which is "
                    f"{list(values.shape[1:])}; delete that file and run the same extraction again."
                )

    def _fill(self, done: int, columns: Mapping[str, np.ndarray]) -> None:
        for name, values in columns.items():
            self._whole[name][self._rows : self._rows + len(values)] = values
        self.done, self._rows = done, self._rows + len(values)
