"""The work of an extraction, shard by shard: the same on one machine and in a worker of Ray's."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception.features import dataset, reading
from inception.features.dataset import Shard
from inception.features.reading import Read
from inception.features.sources import Item
from inception.features.task import Run, Task

Progress = Callable[[int, int, int], None]  # pictures done in this run, of how many, without a row
Show = Callable[[int, int], None]  # of these, pictures of the shard that is being computed, and without a row


@dataclass(frozen=True, eq=False)
class Job:
    """An extraction that is ready to run: where, of what, and which shards are still to do."""

    folder: Path
    task: Task
    metadata: dict[str, Any]
    items: tuple[Item, ...]
    pending: tuple[Shard, ...]
    threads: int


def run_here(jobs: Sequence[Job], run: Run | None, progress: Progress | None = None) -> int:
    """Computes and writes the pending shards of jobs on the same pictures, decoding ahead in threads.

    The jobs differ in their folder and their way of a picture: each picture is decoded once, and one engine runs for
    each way. Returns how many pictures that were.
    """
    pending = sorted({shard for job in jobs for shard in job.pending}, key=lambda shard: shard.index)
    if not pending:
        return 0
    run = run or jobs[0].task.compiled()[1]
    items = itertools.chain.from_iterable(jobs[0].items[shard.start : shard.stop] for shard in pending)
    total = sum(map(len, pending))
    pool = ThreadPoolExecutor(jobs[0].threads, thread_name_prefix="decode")
    done = failed = 0
    try:
        reads = reads_of(jobs, items, pool)
        for shard in pending:

            def show(now: int, without: int, before: tuple[int, int] = (done, failed)) -> None:
                if progress is not None:
                    progress(before[0] + now, total, before[1] + without)

            failed += write_shard(shard, reads, jobs, run, show)
            done += len(shard)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return done


def reads_of(jobs: Sequence[Job], items: Iterable[Item], pool: ThreadPoolExecutor) -> Iterator[Read]:
    """The pictures in their order, each as the networks of the jobs take it, decoded ahead in the pool's threads."""
    inputs = [job.task.network.input for job in jobs]
    task = jobs[0].task
    read = partial(reading.read, tensors=lambda pixels: [make(pixels) for make in inputs], upright=task.picture.upright)
    return _in_order(pool, read, items, ahead=2 * task.batch + jobs[0].threads)


def write_shard(
    shard: Shard,
    reads: Iterator[Read],
    jobs: Sequence[Job],
    run: Run,
    show: Show = lambda now, without: None,
) -> int:
    """Computes a shard from the next reads, for the jobs that lack it, and writes it into the folder of each.

    Returns how many of its pictures have no row. A batch never reaches into the next shard, so its rows do not depend
    on what was there before.
    """
    parts = {i: _Part(job, len(shard), run) for i, job in enumerate(jobs) if shard in job.pending}
    rows: list[Read] = []
    failed = 0
    for read in itertools.islice(reads, len(shard)):
        rows.append(dataclasses.replace(read, tensors=()))
        for i, part in parts.items() if read.tensors else ():
            part.take(read.tensors[i])
        failed += bool(read.reason)
        if len(rows) % jobs[0].task.batch == 0:
            show(len(rows), failed)
    for part in parts.values():
        part.flush()
        dataset.write(part.job.folder, shard, part.job.metadata, rows, part.columns)
    show(len(rows), failed)
    return failed


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Read], items: Iterable[Item], ahead: int
) -> Iterator[Read]:
    """The function's results in the order of the items, at most `ahead` of them waiting."""
    waiting: deque[Future[Read]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


class _Part:
    """A shard of one job: a column an end point, filled a batch at a time with a row a picture that was read."""

    def __init__(self, job: Job, count: int, run: Run) -> None:
        shapes = job.metadata["shapes"]
        self.job = job
        self._run = run
        self._whole = {name: np.empty((count, *shape), np.float32) for name, shape in shapes.items()}
        self._waiting: list[np.ndarray] = []
        self._filled = 0

    @property
    def columns(self) -> dict[str, np.ndarray]:
        """The rows so far."""
        return {name: values[: self._filled] for name, values in self._whole.items()}

    def take(self, tensor: np.ndarray) -> None:
        """The next picture, as the network takes it."""
        self._waiting.append(tensor)
        if len(self._waiting) == self.job.task.batch:
            self.flush()

    def flush(self) -> None:
        """Computes what waits."""
        if not self._waiting:
            return
        for name, values in self._run(np.stack(self._waiting)).items():
            column = self._whole[name]
            if values.shape[1:] != column.shape[1:]:
                raise ValueError(
                    f"{self.job.folder / dataset.EXTRACTION} says {list(column.shape[1:])} of {name}, which is "
                    f"{list(values.shape[1:])}; delete that file and run the same extraction again."
                )
            column[self._filled : self._filled + len(values)] = values
        self._filled += len(self._waiting)
        self._waiting.clear()
