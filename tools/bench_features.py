"""`inception features` beside the bare engine, and its memory: 2,000 JPEGs cut from well-known photographs.

usage: python tools/bench_features.py [--pictures N] [--engine NAME] [--weights FILE] [--batch N]

Each row is a process of its own. The bare engine gets the same batches, ready made, before
and after the extraction; the ratio is of pictures a second, start-up left out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket", "immunohistochemistry", "retina", "hubble_deep_field")


def photographs() -> list[np.ndarray]:
    """Those that scikit-image and scikit-learn bring, uint8 RGB."""
    import skimage.data
    import sklearn.datasets

    return [getattr(skimage.data, name)() for name in PHOTOGRAPHS] + list(sklearn.datasets.load_sample_images().images)


def make(folder: Path, count: int) -> None:
    """JPEGs of 299 to 500 pixels a side, cut at random places, of qualities 80 to 95."""
    rng = np.random.default_rng(2015)
    originals = photographs()
    for i in range(count):
        whole = originals[i % len(originals)]
        height, width = (min(int(side), int(rng.integers(299, 501))) for side in whole.shape[:2])
        top, left = int(rng.integers(whole.shape[0] - height + 1)), int(rng.integers(whole.shape[1] - width + 1))
        cut = Image.fromarray(whole[top : top + height, left : left + width])
        cut.save(folder / f"{i:05d}.jpg", quality=int(rng.integers(80, 96)))


def peak() -> int:
    """The most memory this process had at once, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measured(folder: str, pictures: int, weights: str, engine: str, batch: int | None, bare: bool) -> dict[str, Any]:
    """In this process: the bare engine, the extraction, the bare engine; the memory of the extraction."""
    from inception import features, inference
    from inception.features import task

    batch = batch or task.BATCH
    found = sorted(str(path) for path in Path(folder).glob("*.jpg"))[:pictures]
    speeds, marks = [], []
    ready = np.random.default_rng(0).uniform(-1, 1, (batch, 299, 299, 3)).astype(np.float32)

    def engine_alone(images: int) -> None:
        network = inference.compile_inference(
            weights, end_points=("PreLogits",), engine=engine, batch=batch, image_size=299
        )
        network(ready)
        start, rounds = time.perf_counter(), max(1, images // batch)
        for _ in range(rounds):
            network(ready)
        speeds.append(rounds * batch / (time.perf_counter() - start))

    def mark(done: int, total: int, errors: int) -> None:
        marks.append((time.perf_counter(), done))

    if bare:
        engine_alone(pictures // 4)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        summary = features.extract(found, out, weights, engine=engine, batch=batch, progress=mark)
        seconds, memory = time.perf_counter() - start, peak()
    if bare:
        engine_alone(pictures // 4)
    (began, first), (ended, last) = marks[0], marks[-1]
    return {
        "engine": summary.engine,
        "rows": summary.rows,
        "memory": memory,
        "whole": summary.rows / seconds,
        "steady": (last - first) / (ended - began),
        "bare": speeds,
    }


def child(*arguments: Any) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps(arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(answer.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--weights", help="a weight file; random weights of the full network where none is given")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(*json.loads(given.child))))
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), given.pictures)
        size = sum(path.stat().st_size for path in Path(folder).iterdir()) / given.pictures / 1000
        weights = given.weights or random_weights(Path(folder) / "random.npz")
        print(f"{given.pictures} JPEGs of {size:.0f} kB on average", flush=True)
        child(folder, 16, weights, given.engine, given.batch, False)  # to warm up
        few = child(folder, given.pictures // 10, weights, given.engine, given.batch, False)
        print(f"{few['rows']:>6} pictures: peak memory {few['memory']} MB", flush=True)
        many = child(folder, given.pictures, weights, given.engine, given.batch, True)
        print(f"{many['rows']:>6} pictures: peak memory {many['memory']} MB")
    bare = float(np.mean(many["bare"]))
    print(f"engine {many['engine']}: bare {many['bare'][0]:.2f} before and {many['bare'][1]:.2f} after, images/s")
    print(f"features: {many['steady']:.2f} images/s, {many['whole']:.2f} with start-up")
    print(f"ratio: {many['steady'] / bare:.3f}, {many['whole'] / bare:.3f} with start-up")


def random_weights(path: Path) -> str:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    import made

    from inception.variants import Variant

    made.random_weights(Variant(num_classes=0)).save(path)
    return str(path)


if __name__ == "__main__":
    main()
