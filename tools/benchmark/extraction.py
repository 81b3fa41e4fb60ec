"""What features cost at each precision: `features.extract` beside the bare engine, and what becomes of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmark import contenders, workers

PICTURES, SIDES = 2000, (600, 400)
_CALIBRATED = 128  # pictures that the bare int8 engine is calibrated on
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry", "retina", "hubble_deep_field")


class Cost(NamedTuple):
    """Images a second: of the extraction once it runs, with its start, of the bare engine; megabytes at most."""

    steady: float
    whole: float
    bare: float
    memory: float


def pictures(folder: Path, count: int) -> float:
    """JPEGs of 600 x 400 pixels, cut at random places from well-known photographs, of qualities 80 to 95; kB of one."""
    import skimage.data
    import sklearn.datasets

    rng = np.random.default_rng(2015)
    originals = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    originals += list(sklearn.datasets.load_sample_images().images)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        whole = originals[i % len(originals)]
        height = int(rng.integers(200, min(whole.shape[0], whole.shape[1] * 2 // 3) + 1))
        width = height * 3 // 2
        top, left = int(rng.integers(whole.shape[0] - height + 1)), int(rng.integers(whole.shape[1] - width + 1))
        cut = Image.fromarray(whole[top : top + height, left : left + width]).resize(SIDES)
        cut.save(folder / f"{i:05d}.jpg", quality=int(rng.integers(80, 96)))
    return sum(path.stat().st_size for path in folder.iterdir()) / count / 1000


def extraction(weights: str, folder: str, out: str, precision: Any) -> Cost:
    """In this process: the bare engine on batches made before, the extraction, the bare engine."""
    from inception import features, inference
    from inception.features import task

    network, paths = contenders.load(weights), sorted(map(str, Path(folder).glob("*.jpg")))
    sample = [network.picture.input(path) for path in paths[:: max(1, len(paths) // _CALIBRATED)]]
    bare = inference.compile_inference(
        network, end_points=("PreLogits",), precision=precision, batch=task.BATCH, image_size=299,
        calibration=np.stack(sample) if precision == "int8" else None,
    )  # fmt: skip
    ready = np.resize(np.stack(sample), (task.BATCH, 299, 299, 3))
    speeds: list[float] = []
    marks: list[tuple[float, int]] = []

    def engine_alone() -> None:
        bare(ready)
        rounds, start = max(4, len(paths) // 4 // task.BATCH), time.perf_counter()
        for _ in range(rounds):
            bare(ready)
        speeds.append(rounds * task.BATCH / (time.perf_counter() - start))

    engine_alone()
    start = time.perf_counter()
    summary = features.extract(
        folder, out, network, precision=precision, least_agreement=0,
        progress=lambda done, total, errors: marks.append((time.perf_counter(), done)),
    )  # fmt: skip
    seconds = time.perf_counter() - start
    engine_alone()
    (began, first), (ended, last) = marks[0], marks[-1]
    steady = (last - first) / (ended - began)
    return Cost(steady, summary.rows / seconds, float(np.mean(speeds)), workers.peak_memory())


class Kept(NamedTuple):
    """What is left of float32's features: cosine, its mean and least; nearest neighbours kept; and what FID becomes."""

    cosine: float
    least: float
    neighbours: float
    fid: float
    to_float32: float


def kept(exact: np.ndarray, other: np.ndarray) -> Kept:
    """Of features [n, 2048] in float32 and in another precision; FID of the even pictures against the odd ones."""
    from inception import metrics

    cosines = np.sum(_directions(exact) * _directions(other), axis=1)
    neighbours = np.mean(_nearest(exact) == _nearest(other))
    halves, apart = metrics.fid(other[::2], other[1::2]), metrics.fid(exact, other)
    return Kept(float(cosines.mean()), float(cosines.min()), float(neighbours), halves.value, apart.value)


def _directions(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _nearest(rows: np.ndarray) -> np.ndarray:
    alike = _directions(rows) @ _directions(rows).T
    np.fill_diagonal(alike, -1)
    return alike.argmax(axis=1)
