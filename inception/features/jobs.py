"""The work of an extraction, shard by shard: the same on one machine and in a worker of Ray's."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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


def run_here(job: Job, run: Run | None, progress: Progress | None = None) -> int:
    """Computes and writes the pending shards, decoding ahead in threads. Returns how many pictures that were."""
    if not job.pending:
        return 0
    run = run or job.task.compiled()[1]
    items = itertools.chain.from_iterable(job.items[shard.start : shard.stop] for shard in job.pending)
    total = sum(map(len, job.pending))
    pool = ThreadPoolExecutor(job.threads, thread_name_prefix="decode")
    done = failed = 0
    try:
        reads = reads_of(job, items, pool)
        for shard in job.pending:

            def show(now: int, without: int, before: tuple[int, int] = (done, failed)) -> None:
                if progress is not None:
                    progress(before[0] + now, total, before[1] + without)

            failed += write_shard(shard, reads, job, run, show)
            done += len(shard)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return done


def reads_of(job: Job, items: Iterable[Item], pool: ThreadPoolExecutor) -> Iterator[Read]:
    """The pictures as the network takes them, in their order, decoded ahead in the threads of the pool."""
    read = partial(reading.read, tensor=job.task.network.input, upright=job.task.picture.upright)
    return _in_order(pool, read, items, ahead=2 * job.task.batch + job.threads)


def write_shard(
    shard: Shard,
    reads: Iterator[Read],
    job: Job,
    run: Run,
    show: Show = lambda now, without: None,
) -> int:
    """Computes a shard from the next reads and writes it. Returns how many of its pictures have no row."""
    rows, columns = _computed(itertools.islice(reads, len(shard)), len(shard), job, run, show)
    dataset.write(job.folder, shard, job.metadata, rows, columns)
    return sum(bool(row.reason) for row in rows)


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


def _computed(
    reads: Iterable[Read], count: int, job: Job, run: Run, show: Show
) -> tuple[list[Read], dict[str, np.ndarray]]:
    """One shard: its reads (their tensors gone) and a column an end point, a row a picture that was read.

    A batch never reaches into the next shard, so its rows do not depend on what was there before.
    """
    shapes = job.metadata["shapes"]
    columns = {name: np.empty((count, *shape), np.float32) for name, shape in shapes.items()}
    rows: list[Read] = []
    waiting: list[np.ndarray] = []
    filled = 0

    def flush() -> None:
        nonlocal filled
        if waiting:
            for name, values in run(np.stack(waiting)).items():
                if values.shape[1:] != columns[name].shape[1:]:
                    raise ValueError(
                        f"{job.folder / dataset.EXTRACTION} says {shapes[name]} of {name}, which is "
                        f"{list(values.shape[1:])}; delete that file and run the same extraction again."
                    )
                columns[name][filled : filled + len(waiting)] = values
            filled += len(waiting)
            waiting.clear()
        show(len(rows), len(rows) - filled)

    for read in reads:
        rows.append(dataclasses.replace(read, tensor=None))
        if read.tensor is not None:
            waiting.append(read.tensor)
        if len(waiting) == job.task.batch:
            flush()
    flush()
    return rows, {name: values[:filled] for name, values in columns.items()}
