"""The metrics' functions beside the peers' from the same features: CPU seconds, memory beyond the features, values.

usage: python tools/bench_metrics.py [--pictures N] [--width D] [--rounds N] [--section NAME]

Every run is a process of its own with one thread, and the contenders take turns. Peers that
are not installed are left out. The features are synthetic, non-negative and correlated. The
section "whole command" is from pictures to FID with two threads, by the command of each.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from benchmark import tables, workers

SIDES = ("generated", "reference")
Run = Callable[[np.ndarray, np.ndarray], Any]  # generated, reference -> what is printed


def ours(name: str, **options: Any) -> Run:
    from inception import metrics

    return lambda x, y: getattr(metrics, name)(x, y, **options)


def our_kid(subsets: bool) -> Run:
    from inception.metrics import Subsets, kid

    return lambda x, y: kid(x, y, Subsets(count=20, seed=2020, smaller=False) if subsets else None)


def our_score() -> Run:
    from inception.metrics.inception_score import TORCH_FIDELITY, inception_score

    return lambda x, y: inception_score(logits(x), TORCH_FIDELITY)


def both_balls() -> Run:
    from inception.metrics import density_coverage, precision_recall

    return lambda x, y: (precision_recall(x, y, k=5, compare="<"), density_coverage(x, y))


def pytorch_fid() -> Run:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return lambda x, y: calculate_frechet_distance(*moments(x), *moments(y))


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.mean(x, axis=0), np.cov(x, rowvar=False)


def torch_fidelity_fid() -> Run:
    import torch
    from torch_fidelity import metric_fid as peer

    statistics = peer.fid_features_to_statistics
    return lambda x, y: peer.fid_statistics_to_metric(
        statistics(torch.from_numpy(x)), statistics(torch.from_numpy(y)), False
    )


def torch_fidelity_of(module: str, function: str, **options: Any) -> Run:
    import importlib

    import torch

    torch.set_num_threads(1)
    peer = getattr(importlib.import_module(f"torch_fidelity.{module}"), function)
    return lambda x, y: peer(torch.from_numpy(x), torch.from_numpy(y), verbose=False, **options)


def torch_fidelity_score() -> Run:
    import torch
    from torch_fidelity.metric_isc import isc_features_to_metric

    torch.set_num_threads(1)
    return lambda x, y: isc_features_to_metric(torch.from_numpy(logits(x)))


def torchmetrics_kid() -> Run:
    import torch
    from torchmetrics.image.kid import poly_mmd

    torch.set_num_threads(1)

    def run(x: np.ndarray, y: np.ndarray) -> float:
        sets = [torch.from_numpy(z) for z in (x, y)]
        return float(np.mean([poly_mmd(*(z[torch.randperm(len(z))[:1000]] for z in sets)).item() for _ in range(20)]))

    return run


def clean_fid_kid() -> Run:
    from cleanfid.fid import kernel_distance

    return lambda x, y: kernel_distance(y, x, num_subsets=20)


def prdc() -> Run:
    from prdc import compute_prdc

    return lambda x, y: compute_prdc(y, x, 5)


def logits(x: np.ndarray) -> np.ndarray:
    return 5 * x[:, :1008]


# section: pictures (None: as asked), then contenders, ours first
SECTIONS: dict[str, tuple[int | None, dict[str, Callable[[], Run]]]] = {
    "FID": (
        None,
        {"ours": lambda: ours("fid"), "pytorch-fid": pytorch_fid, "torch-fidelity": torch_fidelity_fid},
    ),
    "FID, 500 pictures": (
        500,
        {"ours": lambda: ours("fid"), "pytorch-fid": pytorch_fid, "torch-fidelity": torch_fidelity_fid},
    ),
    "KID, 20 subsets": (
        None,
        {
            "ours": lambda: our_kid(True),
            "torch-fidelity": lambda: torch_fidelity_of("metric_kid", "kid_features_to_metric", kid_subsets=20),
            "torchmetrics": torchmetrics_kid,
            "clean-fid": clean_fid_kid,
        },
    ),
    "KID, all pairs": (None, {"ours": lambda: our_kid(False)}),
    "precision, recall": (
        None,
        {
            "ours": lambda: ours("precision_recall"),
            "torch-fidelity": lambda: torch_fidelity_of("metric_prc", "prc_features_to_metric"),
        },
    ),
    "precision, recall, density, coverage": (None, {"ours": both_balls, "prdc": prdc}),
    "Inception Score": (None, {"ours": our_score, "torch-fidelity": torch_fidelity_score}),
}


def features(count: int, width: int, seed: int, shift: float) -> np.ndarray:
    mixing = np.random.default_rng(9).standard_normal((width // 8, width), dtype=np.float32) / 16
    rng = np.random.default_rng(seed)
    hidden = rng.standard_normal((count, width // 8), dtype=np.float32) @ mixing
    return np.maximum(hidden + 0.2 + shift + 0.1 * rng.standard_normal((count, width), dtype=np.float32), 0)


def measured(section: str, contender: str, count: int, width: int) -> dict[str, Any]:
    """In this process."""
    x, y = features(count, width, 1, 0.01), features(count, width, 2, 0)
    run = SECTIONS[section][1][contender]()
    x[:20] @ y[:20].T  # what BLAS takes for itself
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the peak starts anew
    before, start = workers.peak_memory(), time.process_time()
    value = run(x, y)
    seconds = time.process_time() - start
    return {"seconds": seconds, "megabytes": workers.peak_memory() - before, "value": str(value)}


def child(*arguments: Any) -> dict[str, Any] | None:
    command = [sys.executable, "-W", "ignore", __file__, "--child", json.dumps(arguments)]
    alone = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | alone)
    if answer.returncode:
        print(f"{arguments[1]}: {(answer.stderr.splitlines() or ['died'])[-1]}", file=sys.stderr)
        return None
    return dict(json.loads(answer.stdout.splitlines()[-1]))


WHOLE = "whole command"
PEER_FILE = "hub/checkpoints/pt_inception-2015-12-05-6726825d.pth"  # in torch's own cache, where pytorch-fid looks


def prepared(folder: Path, count: int, size: int) -> None:
    """Random weights in the shape of 2015, and parts of photographs as PNG in folder/generated and folder/reference."""
    from effects import pictures
    from made import random_weights
    from PIL import Image

    from inception.variants import GOOGLE_2015

    for name in ("hub/checkpoints", *SIDES):
        (folder / name).mkdir(parents=True)
    random_weights(GOOGLE_2015).save(folder / PEER_FILE)
    photographs, rng = [image for image in pictures() if min(image.shape[:2]) > size], np.random.default_rng(0)
    for side, number in itertools.product(SIDES, range(count)):
        photograph = photographs[rng.integers(len(photographs))]
        top, left = (rng.integers(0, length - size) for length in photograph.shape[:2])
        part = photograph[top : top + size, left : left + size]
        Image.fromarray(part).save(folder / side / f"{number:05}.png")


def commands(folder: Path) -> dict[str, list[str]]:
    """{contender: what it is called with}, ours before the one that it is compared with."""
    generated, reference, weights = (str(folder / name) for name in (*SIDES, PEER_FILE))
    ours = ["-m", "inception", "metrics", generated, reference, "--weights", weights]
    ours += ["--json", "--threads", "2", "--protocol"]
    fidelity = [
        "-m",
        "torch_fidelity.fidelity",
        "--input1",
        generated,
        "--input2",
        reference,
        "--fid",
        "--cpu",
        "--json",
    ]
    return {
        "ours, pytorch-fid": [*ours, "pytorch-fid"],
        "pytorch-fid": ["-m", "pytorch_fid", generated, reference, "--device", "cpu"],
        "ours, torch-fidelity": [*ours, "torch-fidelity"],
        "torch-fidelity": [*fidelity, "--feature-extractor-weights-path", weights],
    }


def run_whole(arguments: list[str], folder: Path) -> tuple[float, float, float]:
    """(seconds, CPU seconds, FID) of a command."""
    environment = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "2") | {"TORCH_HOME": str(folder)}
    command = [sys.executable, "-W", "ignore", *arguments]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    [value] = re.findall(r"(?:FID: +|\"value\": |distance\": )([-+.\de]+)", answer.stdout)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, float(value)


def whole(count: int, rounds: int, size: int = 64) -> tables.Section:
    """From pictures to FID, a whole command each."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepared(folder, count, size)
        runs: dict[str, list[tuple[float, float, float]]] = {name: [] for name in commands(folder)}
        for _, (name, arguments) in itertools.product(range(rounds), commands(folder).items()):
            runs[name].append(run_whole(arguments, folder))
            print(name, runs[name][-1], file=sys.stderr)
    rows, mine = [], (1.0, 1.0)
    for name, each in runs.items():
        wall, cpu = (median(run[i] for run in each) for i in (0, 1))
        mine = (wall, cpu) if name.startswith("ours") else mine
        ratios = f"{wall / mine[0]:.2f}", f"{cpu / mine[1]:.2f}"
        rows.append((name, f"{wall:.0f}", ratios[0], f"{cpu:.0f}", ratios[1], f"{each[0][2]:.8g}"))
    title = f"{WHOLE}: FID of {count} and {count} pictures of {size} x {size}, two threads, median of {rounds}"
    return tables.Section(WHOLE, title, "", ("", "s", "of ours", "CPU s", "of ours", "FID"), rows, {"runs": runs})


def compared(section: str, count: int, width: int, rounds: int) -> tables.Section:
    pictures, contenders = SECTIONS[section]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name in contenders:
            if answer := child(section, name, pictures or count, width):
                runs[name].append(answer)
    runs = {name: each for name, each in runs.items() if each}
    seconds = {name: median(run["seconds"] for run in each) for name, each in runs.items()}
    rows = [
        (
            name,
            f"{seconds[name]:.3f}",
            f"{seconds[name] / seconds['ours']:.1f}",
            f"{max(run['megabytes'] for run in each):.0f}",
            each[0]["value"],
        )
        for name, each in runs.items()
    ]
    title = f"{section}: {pictures or count} x {width} on each side"
    return tables.Section(section, title, "", ("", "CPU s", "of ours", "MB", "value"), rows, {"runs": runs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--section", action="append", choices=[*SECTIONS, WHOLE])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measured(*json.loads(given.child))))
        return
    for section in given.section or SECTIONS:
        made = (
            whole(given.pictures // 10, given.rounds)
            if section == WHOLE
            else compared(section, given.pictures, given.width, given.rounds)
        )
        print(made.markdown(), flush=True)


if __name__ == "__main__":
    main()
