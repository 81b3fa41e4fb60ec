"""The manual's drawings and tables that come from the code: writes docs/figures/, or checks it.

usage: python tools/figures.py [--check]

network.svg and blocks.svg are drawn from the table in `inception.architecture`; vocabularies.md and
convolutions.md are the names of its places; formats.md is measured: a network with every odd rule is
written in every format and read again.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

import inception
from inception import architecture, pictures
from inception.architecture import Concat, Conv, Node
from inception.microscope.anatomy import names
from inception.microscope.drawing import MARGIN, WIDTH, Drawing, network, size, window
from inception.variants import GOOGLE_2015, KERAS, SCOPE, SLIM, TORCHVISION, Variant
from inception.weights import Source, UnsupportedFeature, Weights
from inception.weights.dialects import graph_names, keras_config, keras_layers, slim_2016_03, torch_names
from inception.weights.formats import FORMATS

HERE = Path(__file__).resolve().parents[1] / "docs" / "figures"
ROWS = SLIM.table()

# --- Drawings ----------------------------------------------------------------------------

BLOCKS = (
    (("Mixed_5b", "Mixed_5c", "Mixed_5d"), "figure 5 of the paper"),
    (("Mixed_6a",), "figure 10: half the size"),
    (("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), "figure 6, n = 7"),
    (("Mixed_7a",), "half the size"),
    (("Mixed_7b", "Mixed_7c"), "figure 7"),
)


def blocks_svg() -> str:
    """The branches of every kind of Mixed row; a depth that differs between the rows is a range."""
    drawing, y = Drawing("The branches of the Mixed rows"), 12.0
    rows = {row.name: row for row in ROWS.base}
    shapes = architecture.end_point_shapes(ROWS, 299, 299)
    for points, note in BLOCKS:
        first = rows[points[0]]
        assert isinstance(first, Concat)
        columns = [list(zip(*(chips(rows[p].branches[i]) for p in points), strict=True))  # type: ignore[union-attr]
                   for i in range(len(first.branches))]  # fmt: skip
        title = ", ".join(p if p == points[0] else p.removeprefix("Mixed_") for p in points)
        drawing.text(MARGIN, y + 20, title, "bold")
        drawing.text(WIDTH - MARGIN, y + 20, note, "soft", "end")
        y = _block(drawing, y + 32, columns, between([size(shapes[p]) for p in points]))
    return drawing.svg(y)


Chip = tuple[str, str, int | None]  # kind, window, depth


def chips(branch: Sequence[Node]) -> list[Chip]:
    made: list[Chip] = []
    for node in branch:
        if isinstance(node, Concat):
            pair = [b[0] for b in node.branches]
            depths = [n.depth for n in pair if isinstance(n, Conv)]
            made.append(("conv", "+".join(window(n) for n in pair if isinstance(n, Conv)), sum(depths)))
        elif isinstance(node, Conv):
            made.append(("conv", window(node), node.depth))
        else:
            made.append((node.kind, f"{node.kind} {window(node)}", None))
    return made


def between(values: Sequence[str]) -> str:
    """One text for several, the numbers that differ as a range: 35 × 35 × 256 to 288."""
    return values[0] if len(set(values)) == 1 else f"{values[0]} to {values[-1].split(' × ')[-1]}"


def _block(drawing: Drawing, y: float, columns: list[list[tuple[Chip, ...]]], result: str) -> float:
    gap, height, step = 8, 24, 31
    wide = (WIDTH - 2 * MARGIN - 3 * gap) / 4
    left = MARGIN + (4 - len(columns)) * (wide + gap) / 2
    bottom = y + max(map(len, columns)) * step + 8
    centres = [left + i * (wide + gap) + wide / 2 for i in range(len(columns))]
    drawing.line((centres[0], y), (centres[-1], y))
    for centre, column in zip(centres, columns, strict=True):
        drawing.line((centre, y), (centre, bottom))
        for j, same in enumerate(column):
            top = y + 8 + j * step
            depths = [chip[2] for chip in same if chip[2] is not None]
            depth = "" if not depths else f" · {min(depths)}" + (f"–{max(depths)}" if len(set(depths)) > 1 else "")
            drawing.rect(centre - wide / 2, top, wide, height, same[0][0], 5)
            drawing.text(centre, top + 16, same[0][1] + depth, "chip", "middle")
    drawing.rect(centres[0] - wide / 2, bottom, centres[-1] - centres[0] + wide, 22, "mixed", 5)
    drawing.text(WIDTH / 2, bottom + 15, f"joined: {result}", "chip", "middle")
    return bottom + 40


# --- Names -------------------------------------------------------------------------------

# Table 1 of the paper, by our rows. Its stem is another one after the first pool: three convolutions, no pool.
PAPER = {
    "Conv2d_1a_3x3": "conv 3×3 / 2", "Conv2d_2a_3x3": "conv 3×3 / 1", "Conv2d_2b_3x3": "conv padded 3×3 / 1",
    "MaxPool_3a_3x3": "pool 3×3 / 2",
    "Conv2d_3b_1x1": "conv 3×3 / 1, to 71×71×80", "Conv2d_4a_3x3": "conv 3×3 / 2, to 35×35×192",
    "MaxPool_5a_3x3": "conv 3×3 / 1, to 35×35×288",
    "Mixed_5b": "3 × figure 5", "Mixed_5c": "3 × figure 5", "Mixed_5d": "3 × figure 5",
    "Mixed_6a": "figure 10", "Mixed_6b": "5 × figure 6, with 6a", "Mixed_6c": "5 × figure 6, with 6a",
    "Mixed_6d": "5 × figure 6, with 6a", "Mixed_6e": "5 × figure 6, with 6a",
    "Mixed_7a": "its result, 8×8×1280", "Mixed_7b": "2 × figure 7", "Mixed_7c": "2 × figure 7",
    "AuxLogits": "figure 8", "PreLogits": "pool 8×8", "Logits": "linear", "Predictions": "softmax",
}  # fmt: skip
_SIZES = {"AuxLogits": "1000", "PreLogits": "2048", "Logits": "1000", "Predictions": "1000"}


def vocabularies() -> str:
    """A row an end point: slim's name, the paper's, Keras's layer, the node of 2015."""
    sizes = {name: "×".join(map(str, shape)) for name, shape in architecture.end_point_shapes(ROWS, 299, 299).items()}
    known = names(SLIM) | {"Predictions": ("Predictions", keras_layers.LOGITS, "", "softmax")}
    lines = ["| slim, and here | size | the paper's Table 1 | Keras | graph of 2015 |", "|---|---|---|---|---|"]
    for name, size_text in (sizes | _SIZES).items():
        _, layer, _, node = known[name]
        layer = "" if name == "Logits" else f"`{layer}`" + (" (ours)" if name == "AuxLogits" else "")
        lines.append(f"| `{name}` | {size_text} | {PAPER[name]} | {layer} | {f'`{node}`' if node else ''} |")
    return "\n".join([*lines, ""])


def convolutions() -> str:
    """The 94 convolutions in creation order under every name they have."""
    layers, nodes = keras_layers.layers(KERAS.table()), graph_names.nodes(GOOGLE_2015.table())
    by_depth = [layer.name for layer in keras_config.describe(KERAS).by_depth() if layer.kind == "Conv2D"]
    torch, older = torch_names.keys(TORCHVISION), slim_2016_03.scopes()
    head = "| slim | kernel | Keras layer | in `.weights.h5` | graph of 2015 | torchvision, timm | slim of 2016-03 |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for place in architecture.convolutions(KERAS.table()):
        kernel = "×".join(map(str, place.variables()["weights"]))
        layer, index = layers[place.path], by_depth.index(layers[place.path])
        key = torch[f"{SCOPE}/{place.path}/weights"][0].removesuffix(".conv.weight")
        cells = [place.path, kernel, layer, f"conv2d_{index}".removesuffix("_0"), nodes[place.path], key]
        lines.append("| " + " | ".join(f"`{cell}`" if i != 1 else cell for i, cell in enumerate(cells))
                     + f" | `{older[place.path]}` |")  # fmt: skip
    return "\n".join([*lines, ""])


# --- Formats -----------------------------------------------------------------------------


def odd_weights() -> Weights:
    """A tiny network with every rule that differs: gamma, border, last pool, epsilon, pixels, background."""
    like = dataclasses.replace(
        GOOGLE_2015, num_classes=12, border="include", epsilon=0.01, depth_multiplier=0.01, min_depth=2
    )
    rng = np.random.default_rng(0)
    arrays = {name: rng.uniform(0.5, 1.5, shape).astype(np.float32) for name, shape in like.shapes().items()}
    return Weights(arrays, like, Source("odd", "made"), picture=pictures.GOOGLE_2015)


def formats() -> str:
    """What each format keeps of a network: its arrays to the bit, its rules, and how damage shows."""
    weights = odd_weights()
    head = "| format | endings | arrays after a round trip | rules kept | damage to a file of ours |"
    lines = [head, "|---|---|---|---|---|"]
    for name in FORMATS:
        try:
            lines.append(_round_trip(weights, name))
        except UnsupportedFeature:  # its package is not here, so its row stays what it is
            there = (HERE / "formats.md").read_text(encoding="utf-8").splitlines()
            lines += [line for line in there if line.startswith(f"| {name} |")]
    return "\n".join([*lines, ""])


def _round_trip(weights: Weights, name: str) -> str:
    form = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = inception.load_weights(weights.save(f"{folder}/x{form.endings[0]}", name))
    equal = all(np.array_equal(again.arrays[key], array) for key, array in weights.arrays.items())
    endings = ", ".join(f"`{ending}`" for ending in form.endings)
    found = {"checksum": "found, by checksums", "structure": "found only where the structure breaks"}
    arrays, rules = "bit-equal" if equal else "differ", kept(weights, again)
    return f"| {name} | {endings} | {arrays} | {rules} | {found[again.source.integrity]} |"


def kept(before: Weights, after: Weights) -> str:
    lost = [field.name for field in dataclasses.fields(Variant)
            if getattr(before.variant, field.name) != getattr(after.variant, field.name)]  # fmt: skip
    lost += ["picture"] if before.picture != after.picture else []
    return "all" if not lost else "all but " + ", ".join(f"`{name}`" for name in lost)


FIGURES: dict[str, Callable[[], str]] = {
    "network.svg": lambda: network(architecture.table()),
    "blocks.svg": blocks_svg,
    "vocabularies.md": vocabularies,
    "convolutions.md": convolutions,
    "formats.md": formats,
}


def outdated(folder: Path = HERE) -> Iterator[str]:
    """The figures that are not what the code makes today."""
    for name, make in FIGURES.items():
        there = None
        with contextlib.suppress(FileNotFoundError):
            there = (folder / name).read_text(encoding="utf-8")
        if there != make():
            yield name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something is outdated")
    if parser.parse_args().check:
        old = list(outdated())
        sys.exit(f"docs/figures is outdated: {', '.join(old)}; run python tools/figures.py" if old else 0)
    HERE.mkdir(parents=True, exist_ok=True)
    for name, make in FIGURES.items():
        (HERE / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
