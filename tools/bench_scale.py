"""What a run over very many pictures costs beside the pictures: listing, start, resume, memory, and each picture.

usage: python tools/bench_scale.py [--pictures N] [--extract]

A few real files stand under N names (hard links, a thousand in a folder); the network is tiny. Without --extract the
finished dataset is made up, of the shards that an extraction would have written, and only resumed.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

STEP = """
import resource, sys, time
sys.path.insert(0, "tests")
started = time.process_time(), time.perf_counter()
{work}
cpu, wall = time.process_time() - started[0], time.perf_counter() - started[1]
print(f"{{cpu:.2f}} {{wall:.2f}} {{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}} {{said}}")
"""
IMPORTS = (
    "from inception.features import sources, dataset; from inception import features, extras\nimport onnxruntime\n"
)
LIST = "said = len(sources.listed({source!r}).items)"
RUN = """
from made import random_weights
from inception.variants import Variant
weights = random_weights(Variant(num_classes=5, depth_multiplier=0.02, min_depth=3))
begun = []
def progress(done, total, errors):
    if not begun:
        begun.append(time.process_time() - started[0])
        if {stop}:
            raise SystemExit
try:
    summary = features.extract({source!r}, {out!r}, weights, size=75, engine="onnxruntime", batch=32, progress=progress)
    said = f"computed {{summary.computed}}"
except SystemExit:
    said = "stopped behind the first batch"
"""


def pictures(folder: Path, count: int) -> None:
    """`count` names of a few small JPEGs; a file has 65,000 names at most."""
    rng = np.random.default_rng(0)
    files = [folder / f"file-{i}.jpg" for i in range(8 + count // 60_000)]
    folder.mkdir()
    for file in files:
        Image.fromarray(rng.integers(0, 255, (20, 20, 3), np.uint8)).resize((90, 90)).save(file)
    for start in range(0, count, 1000):
        place = folder / f"{start // 1000:04d}"
        place.mkdir()
        for i in range(start, min(start + 1000, count)):
            os.link(files[i % len(files)], place / f"{i:07d}.jpg")
    for file in files:
        file.unlink()


def made_up(source: str, out: Path, begun: Path) -> None:
    """The dataset of `source` with zeros in its rows, under the description of a run that was only begun."""
    from inception.features import dataset, reading, sources

    metadata, items = dataset.described(begun), sources.listed(source).items
    assert metadata is not None
    out.mkdir()
    dataset.begin(out, metadata, [item.path for item in items])
    shapes: dict[str, Any] = metadata["shapes"]
    for shard in dataset.shards(len(items), metadata["shard_rows"]):
        named = items[shard.start : shard.stop]
        reads = [reading.Read(item.path, reading.stamp_of(item), "", "0" * 64, 90, 90) for item in named]
        columns = {name: np.zeros((len(shard), *shape), np.float32) for name, shape in shapes.items()}
        dataset.write(out, shard, metadata, reads, columns)


def measured(work: str) -> str:
    """CPU seconds, wall seconds, largest memory in MB, what was said, of work in a process of its own."""
    program = IMPORTS + STEP.format(work=work)
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--extract", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "pictures", Path(place) / "out"
        pictures(folder, given.pictures)
        source = str(folder)
        print(f"{given.pictures:,} names; CPU s, wall s, MB at most")
        print("imports:", measured("said = ''"))
        print("listing a folder:", measured(LIST.format(source=source)))
        begun = f"{place}/begun"
        print("start:", measured(RUN.format(stop=True, source=source, out=begun)))
        if given.extract:
            print("extraction:", measured(RUN.format(stop=False, source=source, out=str(out))))
        else:
            made_up(source, out, Path(begun))
        print("resume of a finished one:", measured(RUN.format(stop=False, source=source, out=str(out))))
        shards = sorted(out.glob("part-*"))
        shards[len(shards) // 2].unlink()
        print("resume without one shard:", measured(RUN.format(stop=False, source=source, out=str(out))))
        print(f"{len(shards)} shards; this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
