"""Programs that are timed: each in a process of its own, which waits while another one runs.

So threads, memory and start-up time of one do not mix with another's, and runs can be
interleaved (A B C A B C ...), which a shared machine's good and bad minutes then reach alike.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Runner = Callable[[np.ndarray], np.ndarray]  # images -> the end point that is compared
Contender = Callable[[], Callable[[int], Runner]]  # made once a process; then a runner for each batch size

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
_SPAWN = multiprocessing.get_context("spawn")


@dataclass
class Times:
    """Seconds of one contender's runs at one batch size."""

    batch: int
    seconds: list[float] = field(default_factory=list)

    @property
    def throughput(self) -> float:
        """Images a second, the median over the rounds."""
        return self.batch / statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Images a second: the slowest and the fastest quarter's edge."""
        slow, _, fast = statistics.quantiles([self.batch / each for each in self.seconds], n=4, method="inclusive")
        return slow, fast


class Worker:
    """A contender in its own process. `first_result` is from the process's start to its first output."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self._ours, self._theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(self._theirs, contender), daemon=True)
        self._environment = {name: str(threads) for name in _THREADS} | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        self.first_result: float | None = None

    def prepare(self, images: np.ndarray, warm: bool = True) -> np.ndarray:
        """Makes the runner for these images, warms it up by a second run, and returns its first output."""
        started = time.perf_counter()
        if self._process.pid is None:
            os.environ.update(self._environment)  # before the process imports NumPy
            self._process.start()
            self._theirs.close()
        output: np.ndarray = self._ask("prepare", images)
        if self.first_result is None:
            self.first_result = time.perf_counter() - started
        if warm:
            self.run(1)
        return output

    def run(self, repeats: int) -> float:
        """Seconds of one run, the mean of `repeats` in a row."""
        seconds: float = self._ask("run", repeats)
        return seconds

    def peak_memory(self) -> float:
        """Megabytes, the most that the process held so far."""
        megabytes: float = self._ask("memory", None)
        return megabytes

    def close(self) -> None:
        self._ours.close()
        if self._process.pid is None:
            return
        self._process.join(30)
        if self._process.is_alive():
            self._process.kill()

    def _ask(self, what: str, value: Any) -> Any:
        self._ours.send((what, value))
        try:
            error, answer = self._ours.recv()
        except EOFError as dead:
            raise RuntimeError(f"A benchmark process died while it was asked to {what}.") from dead
        if error:
            raise RuntimeError(error)
        return answer


def alone(run: Callable[[], Sequence[float]], threads: int) -> list[float]:
    """What a function returns, called once in a process of its own."""
    worker = Worker(_Once(run), threads)
    try:
        return [float(each) for each in worker.prepare(np.zeros(0), warm=False)]
    finally:
        worker.close()


@dataclass(frozen=True)
class _Once:
    """A function as a contender whose run is that."""

    run: Callable[[], Sequence[float]]

    def __call__(self) -> Callable[[int], Runner]:
        return lambda batch: lambda images: np.array(self.run())


def _serve(pipe: Connection, contender: Contender) -> None:
    make: Callable[[int], Runner] | None = None
    run: Runner | None = None
    images = np.zeros(0)
    while True:
        try:
            what, value = pipe.recv()
        except EOFError:
            return
        try:
            if what == "prepare":
                make = make or contender()
                images, run = value, make(len(value))
                pipe.send((None, np.asarray(run(images))))
            elif what == "run":
                assert run is not None
                start = time.perf_counter()
                for _ in range(value):
                    run(images)
                pipe.send((None, (time.perf_counter() - start) / value))
            else:
                pipe.send((None, peak_memory()))
        except Exception as error:  # the parent tells which contender it was
            pipe.send((f"{type(error).__name__}: {error}", None))


# --- Whole processes -------------------------------------------------------------------

_PEAK = "open('/proc/self/status').read().split('VmHWM:')[1].split()[0]"
_HEAD = f"import atexit; atexit.register(lambda: print('PEAK', {_PEAK}))"


@dataclass(frozen=True)
class Process:
    """What one process needed from its start to its end; cpu: seconds of all its threads and children; peak: MB."""

    seconds: float
    cpu: float
    peak: float


def processes(scripts: Mapping[str, str], rounds: int) -> dict[str, list[Process]]:
    """Each script in a Python process of its own, in turn. Compiled files are written, as of an installed package."""
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": ""}
    runs: dict[str, list[Process]] = {name: [] for name in scripts}
    for _ in range(rounds):
        for name, code in scripts.items():
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [sys.executable, "-W", "ignore", "-c", f"{_HEAD}\n{code}"]
            run = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            runs[name].append(Process(seconds, cpu, int(run.stdout.split("PEAK ")[1]) / 1024))
    return runs


def peak_memory() -> float:
    """Megabytes that this process held at most. (getrusage would count what its parent held when it was started.)"""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def interleave(workers: Mapping[str, Worker], batch: int, seconds: float) -> dict[str, Times]:
    """Each worker in turn, a quarter of a second or a run, until `seconds` are over and at least five rounds done."""
    repeats = {name: max(1, round(0.25 / worker.run(1))) for name, worker in workers.items()}
    times = {name: Times(batch) for name in workers}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values())).seconds) < 5:
        for name, worker in workers.items():
            times[name].seconds.append(worker.run(repeats[name]))
    return times
