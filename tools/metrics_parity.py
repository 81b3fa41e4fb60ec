"""Every protocol's numbers beside the tool's own, of the same pictures: writes docs/figures/metrics-parity.md.

usage: python tools/metrics_parity.py [--pictures N] [--rows N] [--out docs/figures/metrics-parity.md]

Needs the environment of `make peers`. One random network in the shape of 2015 goes to every tool (`metric_peers`): our
`.pth` to those of torch, the graph of 2015 to TensorFlow.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import metric_peers as peers  # first: torch comes before TensorFlow
import numpy as np
from bench_metrics import features as synthetic
from effects import pictures
from made import random_weights
from metric_peers import LOGITS, MAPS, POOLED, Features
from PIL import Image

from inception import features, metrics
from inception.metrics import taps
from inception.metrics.protocols import FEATURES, PROTOCOLS, SPATIAL, Protocol
from inception.variants import GOOGLE_2015
from inception.weights import Weights

SIZES = ("32", "64", "256", "299", "512", "mixed")
SIDES = ("generated", "reference")
Sets = dict[tuple[str, str], Features]  # by side and size


def cut(folder: Path, count: int) -> None:
    """folder/SIDE/SIZE/*.png: parts of photographs, `count` a side, at every size."""
    made = pictures()
    order = np.random.default_rng(0).permutation(len(made))
    for side, part in zip(SIDES, (order[:count], order[-count:]), strict=True):
        for size in SIZES:
            place = folder / side / size
            place.mkdir(parents=True)
            for index in part:
                image = Image.fromarray(made[index])
                image = image if size == "mixed" else image.resize((int(size),) * 2, Image.Resampling.LANCZOS)
                image.save(place / f"{index:03}.png")


def our_features(folder: Path, out: Path, weights: Weights) -> dict[str, Features]:
    """Of a folder, for each protocol."""
    ways = {out / each.picture.resize: each.picture for each in PROTOCOLS.values()}
    (first, picture), *others = ways.items()
    features.extract(folder, first, weights, picture=picture, also=dict(others), end_points=(FEATURES, SPATIAL))
    made = {}
    for place, picture in ways.items():
        arrays = features.load(place).arrays
        logits = taps.logits(arrays[FEATURES], weights)
        made[picture] = {POOLED: arrays[FEATURES], LOGITS: logits, MAPS: taps.spatial(arrays[SPATIAL])}
    return {name: made[each.picture] for name, each in PROTOCOLS.items()}


def ours(protocol: Protocol, metric: str, x: Features, y: Features, size: int) -> Sequence[float]:
    """A metric under a protocol; KID in subsets of `size`."""
    if metric in ("FID", "sFID"):
        part = POOLED if metric == "FID" else MAPS
        return [metrics.fid(x[part], y[part], ddof=protocol.ddof).value]
    if metric == "KID":
        assert protocol.kid is not None
        measured = metrics.kid(x[POOLED], y[POOLED], dataclasses.replace(protocol.kid, size=size, count=peers.SUBSETS))
    elif metric == "IS":
        assert protocol.splits is not None
        measured = metrics.inception_score(x[LOGITS], protocol.splits)
    else:
        assert protocol.balls is not None
        near = metrics.precision_recall(x[POOLED], y[POOLED], k=protocol.balls.k, compare=protocol.balls.compare)
        return [near.precision, near.recall]
    return [measured.value]


def everything(count: int) -> tuple[dict[str, Sets], dict[str, Sets]]:
    """The features of all pictures under each protocol: ours, the tools'."""
    weights = random_weights(GOOGLE_2015)
    mine: dict[str, Sets] = {name: {} for name in PROTOCOLS}
    theirs: dict[str, Sets] = {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        cut(place, count)
        keys = [(side, size) for side in SIDES for size in SIZES]
        for side, size in keys:
            for name, made in our_features(place / side / size, place / "f" / side / size, weights).items():
                mine[name][side, size] = made
        tools = peers.tools(weights, Path(weights.save(place / "pt_inception.pth")))
        for name, tool in tools.items():
            shared = next((other for other in theirs if tools[other] is tool), None)
            theirs[name] = theirs[shared] if shared else {key: tool(place.joinpath(*key)) for key in keys}
            print(f"{name}: features", file=sys.stderr)
    return mine, theirs


def feature_rows(mine: dict[str, Sets], theirs: dict[str, Sets]) -> list[list[str]]:
    rows = []
    for name, tool in theirs.items():
        for part in next(iter(tool.values())):
            apart = [
                max(relative(mine[name.strip("*")][side, size][part], tool[side, size][part]) for side in SIDES)
                for size in SIZES
            ]
            rows.append([name, part, *(f"{value:.0e}" for value in apart)])
    return rows


def relative(a: np.ndarray, b: np.ndarray) -> float:
    """The largest |a - b| / |b| of a picture."""
    return float((np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)).max())


def metric_rows(mine: dict[str, Sets], theirs: dict[str, Sets], few: int, rows: int) -> list[list[str]]:
    """Of the few pictures of all sizes together, each by its own features; and of the same synthetic rows.

    "KID, float64": of the tool whose features are cast to that first.
    """
    same = [synthetic(rows, 2048, seed, shift) for seed, shift in ((1, 0.01), (2, 0.0))]
    alike = [{POOLED: each, LOGITS: 5 * each[:, :1008], MAPS: each[:, :2023]} for each in same]
    table, sizes = [], (min(1000, few), min(1000, rows))
    for name, tool in theirs.items():
        protocol = PROTOCOLS[name.strip("*")]
        pairs = [(both(mine[protocol.name]), both(tool)), (alike, alike)]
        for metric in peers.own(0)[name]:
            found = [
                ours(protocol, metric, left[0], left[1], size) for (left, _), size in zip(pairs, sizes, strict=True)
            ]
            for wide in (False, True) if metric == "KID" else (False,):
                line = [name, f"{metric}, float64" if wide else metric]
                for value, (_, right), size in zip(found, pairs, sizes, strict=True):
                    fed = [{POOLED: side[POOLED].astype(np.float64)} for side in right] if wide else right
                    line += compared(value, peers.own(size)[name][metric](*fed))
                table.append(line)
                print(line, file=sys.stderr)
    return table


def both(sets: Sets) -> list[Features]:
    parts = next(iter(sets.values()))
    return [{part: np.concatenate([sets[side, size][part] for size in SIZES]) for part in parts} for side in SIDES]


def compared(mine: Sequence[float], own: Sequence[float]) -> list[str]:
    """What is printed of two values, and how far they are apart; of counts, whether they are equal."""
    if len(mine) == 2:
        equal = np.allclose(mine, own, rtol=0, atol=1e-6)
        return [" ".join(f"{value:.3f}" for value in values) for values in (mine, own)] + [
            "equal" if equal else "**no**"
        ]
    return [f"{mine[0]:.6g}", f"{own[0]:.6g}", f"{abs(mine[0] - own[0]) / abs(own[0]):.0e}"]


def exact(x: np.ndarray, y: np.ndarray) -> float:
    """FID of few pictures from the definition in 40 digits: the singular values of the centred rows' products."""
    from mpmath import mp

    mp.dps = 40
    a, b = (np.array(z, np.longdouble) for z in (x, y))
    middle = a.mean(axis=0) - b.mean(axis=0)
    a, b = ((z - z.mean(axis=0)) / np.sqrt(np.longdouble(len(z) - 1)) for z in (a, b))
    product = mp.matrix(
        [[mp.mpf(float(v)) + mp.mpf(float(v - np.longdouble(float(v)))) for v in row] for row in a @ b.T]
    )
    squares = float(middle @ middle + np.sum(a**2) + np.sum(b**2))
    return squares - 2 * float(sum(mp.svd_r(product, compute_uv=False)))


def markdown(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    rule = ["---", "---", *["--:"] * (len(head) - 2)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows)) + "\n"


def figure(mine: dict[str, Sets], theirs: dict[str, Sets], rows: int) -> str:
    sizes = [f"{size} px" if size.isdigit() else size for size in SIZES]
    parts = [markdown(["protocol", "features", *sizes], feature_rows(mine, theirs))]
    if rows:
        few = sum(len(mine["ttur"][SIDES[0], size][POOLED]) for size in SIZES)
        values = [f"ours, {few} pictures", "the tool's", "apart", f"ours, {rows:,} rows", "the tool's", "apart"]
        parts += [markdown(["protocol", "metric", *values], metric_rows(mine, theirs, few, rows)), singular(theirs)]
    return "\n".join(parts)


def singular(theirs: dict[str, Sets]) -> str:
    """Who is right where the covariances are singular."""
    x, y = (side[POOLED] for side in both(theirs["pytorch-fid"]))
    right = exact(x, y)
    said = [
        f"{name} {abs(value - right) / right:.0e}"
        for name, value in {
            "ours": metrics.fid(x, y).value,
            "pytorch-fid": peers.pytorch_fid_distance({POOLED: x}, {POOLED: y})[0],
            "torch-fidelity": peers.torch_fidelity_distance({POOLED: x}, {POOLED: y})[0],
        }.items()
    ]
    return (
        f"FID of pytorch-fid's own features of the {len(x)} pictures is {right:.10g} in 40 digits; "
        f"away from that, relative: {', '.join(said)}.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=12, help="of each size and side, at most 48")
    parser.add_argument("--rows", type=int, default=3000, help="of features that both functions get; 0: features alone")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs/figures/metrics-parity.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with redirect_stdout(StringIO()):
        text = figure(*everything(options.pictures), options.rows)
    options.out.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
