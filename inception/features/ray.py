"""The same extraction on a Ray cluster: Ray Data hands shards to actors, each with an engine of its own.

Every machine must see the pictures and the folder of features under the same names, as
all do in a store. An actor writes its shard whole, under the name that a single machine
would give it; Ray starts a killed one anew and gives its shard to another, which goes on
from its pieces. Its engine has as many threads, and as many decode for it, as it has CPUs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from inception import extras
from inception.features import jobs
from inception.features.dataset import Shard
from inception.features.jobs import Job, Progress
from inception.features.sources import Item

ON_GPU = ("tensorflow", "keras")  # engines that take a GPU where there is one


def run(jobs: Sequence[Job], workers: int | None = None, progress: Progress | None = None) -> int:
    """Computes and writes the pending shards of each job on the cluster. Returns how many pictures of the first."""
    if not any(job.pending for job in jobs):
        return 0
    with _cluster() as ray:
        computed, *_ = [_run(ray, job, workers, progress) for job in jobs]
    return computed


@contextlib.contextmanager
def _cluster() -> Iterator[Any]:
    """Ray, connected; what is started here ends here, or it would print of its workers when an answer is printed."""
    ray = extras.load("ray")
    if ray.is_initialized():
        yield ray
        return
    ray.init(logging_level="error", log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def _run(ray: Any, job: Job, workers: int | None, progress: Progress | None) -> int:
    if not job.pending:
        return 0
    data = extras.load("ray.data")
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    found = [(int(each.get("CPU", 0)), int(each.get("GPU", 0))) for each in machines]
    count, cpus, gpus = shares(found, workers, len(job.pending), job.task.engine in ON_GPU)
    # What is shipped with every actor: the questions, not the list of a million pictures.
    task = dataclasses.replace(job.task, threads=cpus)
    shipped = ray.put(dataclasses.replace(job, items=(), pending=(), task=task, threads=min(job.threads, cpus)))
    shards = data.from_items([_packed(job, shard) for shard in job.pending], override_num_blocks=len(job.pending))
    results = shards.map_batches(
        Worker, fn_constructor_args=(shipped,), batch_size=1, compute=data.ActorPoolStrategy(size=count),
        num_cpus=cpus, num_gpus=gpus,
    )  # fmt: skip
    done = failed = computed = 0
    total = sum(map(len, job.pending))
    with _silent(data):
        for row in results.iter_rows():
            done, failed = done + int(row["pictures"]), failed + int(row["errors"])
            computed += int(row["computed"])
            if progress is not None:
                progress(done, total, failed)
    return computed


def shares(
    machines: Sequence[tuple[int, int]], workers: int | None, most: int, on_gpu: bool
) -> tuple[int, int, int | None]:
    """How many actors there are, and the CPUs and GPUs of each.

    Args:
        machines: (CPUs, GPUs) of each.
        workers: how many are asked for; None for one a CPU, or one a GPU.
        most: as many as there is work for.
        on_gpu: the engine computes on a GPU where there is one, and then takes one.
    """
    with_gpu = [(cpus, gpus) for cpus, gpus in machines if on_gpu and cpus and gpus]
    places = [min(cpus, gpus) for cpus, gpus in with_gpu] or [cpus for cpus, _ in machines]
    actors = max(min(workers or sum(places), sum(places), most), 1)
    for cpus in range(max(each for each, _ in machines), 1, -1):  # as many for each as leave room for all
        if sum(min(each // cpus, gpus if with_gpu else each) for each, gpus in with_gpu or machines) >= actors:
            return actors, cpus, 1 if with_gpu else None
    return actors, 1, 1 if with_gpu else None


@contextlib.contextmanager
def _silent(data: Any) -> Iterator[None]:
    """Ray Data's plans and bars stay off the terminal; the extraction has a bar of its own."""
    context, log = data.DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        context.enable_progress_bars, log.level = before


def _packed(job: Job, shard: Shard) -> dict[str, str]:
    items = [dataclasses.astuple(item) for item in job.items[shard.start : shard.stop]]
    return {"shard": json.dumps([dataclasses.astuple(shard), items])}


class Worker:
    """An actor: one engine, and threads that decode for it."""

    def __init__(self, shipped: Any) -> None:
        self._job: Job = extras.load("ray").get(shipped)
        run = self._job.task.compiled()[1]
        self._decode = ThreadPoolExecutor(self._job.threads)
        self._engine = jobs.Engine(run, self._job.task.streams)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[int]]:
        done: dict[str, list[int]] = {"pictures": [], "errors": [], "computed": []}
        for packed in batch["shard"]:
            place, found = json.loads(packed)
            shard = Shard(*place)
            job = dataclasses.replace(self._job, pending=(shard,))
            work = jobs.Work(shard, [Item(*item) for item in found], [job], self._engine)
            errors = work.finish(jobs.reads_of([job], work.left, self._decode))
            done["pictures"].append(len(found))
            done["errors"].append(errors)
            done["computed"].append(len(work.left))
        return done
