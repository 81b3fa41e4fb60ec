"""`make demo`: the main job on something real, in under a minute.

Finds ImageNet's weights or takes the embedded sample, converts Keras -> slim -> Keras,
proves both builders equal at every end point, names real pictures, and saves one picture
of what it saw to demo-output/.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console

from inception import images, labels, quiet, verify
from inception.classify import classify
from inception.cli.weights import differences_table
from inception.weights import Weights, load
from inception.weights.published import cached, find

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "demo-output"
SAMPLE = ROOT / "checkpoints" / "sample.h5"
TOLERANCE = 1e-5
say = Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print


def main() -> None:
    started = time.perf_counter()
    OUT.mkdir(exist_ok=True)
    quiet.import_tensorflow()
    source = find_weights()
    weights = load(source)

    say("\n[bold]1. Keras -> slim -> Keras[/bold]")
    slim = convert(weights, OUT / "inception_v3.ckpt")
    back = convert(slim, OUT / "inception_v3.h5")
    equal = sum(np.array_equal(weights.arrays[name], back.arrays[name]) for name in weights.arrays)
    say(f"   {equal} of {len(weights.arrays)} arrays are bit-equal after the round trip")

    say("\n[bold]2. The same picture through the Keras and the slim builder[/bold]")
    rows = verify.compare(weights, slim)
    say(differences_table(rows, TOLERANCE))
    worst = max(row.relative for row in rows)
    say(f"   largest relative difference {worst:.1e} (allowed {TOLERANCE:g})")

    say("\n[bold]3. What the pictures show[/bold]")
    pictures = sorted((ROOT / "checkpoints" / "sample-digits").glob("*.png"))
    scores = classify(pictures, weights)
    names = labels.labels_for(source, weights.variant.num_classes)
    for picture, row in zip(pictures, scores, strict=True):
        best = labels.top(row, names, 1)[0]
        say(f"   {picture.name:<14}{best[0].name:<20}{best[1]:7.1%}  {'#' * round(best[1] * 30)}")
    saved = contact_sheet(pictures, [labels.top(row, names, 1)[0] for row in scores])
    say(f"\nPicture: {saved.relative_to(ROOT)}   ({time.perf_counter() - started:.0f} s)")
    if equal != len(weights.arrays) or worst > TOLERANCE:
        raise SystemExit("demo: the builders or the round trip differ; see the tables above.")


def find_weights() -> Path:
    """ImageNet's file where Keras keeps it, else the sample, saying which and why."""
    known = cached(found) if (found := find("imagenet")) else None
    if known is not None:
        say(f"Weights: ImageNet, from {known}")
        return known
    say(
        f"Weights: the embedded sample, {SAMPLE.relative_to(ROOT)} (a narrow InceptionV3 with its auxiliary head, "
        "trained on handwritten digits);\n         ImageNet's file is not in Keras's cache. "
        "`inception classify` with the default weights fetches it."
    )
    return SAMPLE


def convert(weights: Weights, target: Path) -> Weights:
    began = time.perf_counter()
    written = weights.save(target)
    read = load(written)
    say(f"   {weights.source.format} -> {read.source.format}: {len(read.arrays)} arrays, "
        f"{read.parameters:,} values, {time.perf_counter() - began:.2f} s")  # fmt: skip
    return read


def contact_sheet(pictures: list[Path], found: list[tuple[labels.Label, float]]) -> Path:
    """The inputs in two rows, each with its prediction below."""
    side, line, columns = 107, 22, 5
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 12) + 12, rows * (side + line + 12) + 12), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (picture, (label, score)) in enumerate(zip(pictures, found, strict=True)):
        left, top = 12 + i % columns * (side + 12), 12 + i // columns * (side + line + 12)
        sheet.paste(Image.fromarray(images.read(picture)).resize((side, side)), (left, top))
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline="silver")
        draw.text((left, top + side + 3), f"{label.name}  {score:.1%}", fill="black", font_size=15)
    target = OUT / "predictions.png"
    sheet.save(target)
    return target


if __name__ == "__main__":
    main()
