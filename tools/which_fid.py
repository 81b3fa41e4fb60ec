"""How far apart the distances called FID are, and what they depend on: writes docs/figures/which-fid*.md.

usage: python tools/which_fid.py WEIGHTS [--pictures N] [--out docs/figures]

WEIGHTS is a whole trained InceptionV3, top or notop. With others than the weights of 2015 the values are no FID; what
a resize does to them is of the same size. Needs scikit-image, whose photographs are cut into two sets of pictures:
the reference, and other parts of the same photographs saved as JPEG of quality 50, which stand for generated ones.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from effects import PHOTOGRAPHS
from PIL import Image

import inception
from inception import features, images, metrics, quiet
from inception.metrics.protocols import FEATURES, PROTOCOLS
from inception.pictures import Picture

SIZES = ("32", "64", "256", "as cut")
COUNTS, REFERENCE = (100, 300, 1000, 3000, 10_000), 20_000
RESIZES = {
    "tensorflow1": ("TF 1", "bilinear without half-pixel centres or anti-aliasing"),
    "affine_grid": ("NVIDIA", "at the same points, with other rounding"),
    "bilinear": ("half-pixel", "bilinear with half-pixel centres, without anti-aliasing"),
    "bilinear_antialias": ("anti-aliased", "bilinear, the filter as wide as a picture shrinks"),
    "pillow_bicubic": ("Pillow", "bicubic, anti-aliased, on floats, clipped to 0..255 and not rounded"),
}
CONTAINERS = {  # of the one network of 2015
    "classify_image_graph_def.pb": ("ttur", "adm"),
    "pt_inception-2015-12-05-6726825d.pth": (
        "pytorch-fid", "clean-legacy-pytorch", "torch-fidelity", "torchmetrics",
    ),
    "inception-2015-12-05.pt": ("clean", "clean-legacy-tensorflow"),
    "inception-2015-12-05.pkl": ("stylegan", "edm"),
}  # fmt: skip


def extracted(
    folder: Path, out: Path, weights: Any, end_points: Sequence[str] = (FEATURES,)
) -> dict[Picture, dict[str, np.ndarray]]:
    """{way of a picture: {end point: rows}} of the pictures of a folder, by every way that the protocols have."""
    ways = {out / each.picture.resize: each.picture for each in PROTOCOLS.values()}
    (first, picture), *others = ways.items()
    features.extract(folder, first, weights, picture=picture, also=dict(others), end_points=end_points)
    return {picture: features.load(place).arrays for place, picture in ways.items()}


def cut(folder: Path, count: int) -> None:
    """folder/SIZE/SIDE/*.png."""
    place, rng = Path(skimage.data.__file__).parent, np.random.default_rng(0)
    photographs = [Image.fromarray(images.read(place / name)) for name in PHOTOGRAPHS]
    for side in ("generated", "reference"):
        for number in range(count):
            whole = photographs[number % len(photographs)]
            width, height = (int(length * rng.uniform(0.4, 0.9)) for length in whole.size)
            left, top = (int(rng.integers(0, a - b)) for a, b in zip(whole.size, (width, height), strict=True))
            part = whole.crop((left, top, left + width, top + height))
            for size in SIZES:
                sized = part.resize((int(size),) * 2, Image.Resampling.LANCZOS) if size.isdigit() else part
                target = folder / size / side / f"{number:04}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                (jpeg(sized) if side == "generated" else sized).save(target)


def jpeg(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


def protocols() -> str:
    """The records as a table, and what its short words mean."""
    rows = []
    for name, each in PROTOCOLS.items():
        [file] = ["ABCD"[i] for i, names in enumerate(CONTAINERS.values()) if name in names]
        words = [file, RESIZES[each.picture.resize][0], f"{each.picture.scale[0]:g}", f"float{each.mean}"]
        rows.append([f"`{name}`", each.source, *words, "n - 1" if each.ddof else "n", each.root])
    table = markdown(["protocol", "tool", "file", "resize", "s", "mean", "divisor", "root"], rows, ":--")
    files = [f"{letter} `{file}`" for letter, file in zip("ABCD", CONTAINERS, strict=True)]
    resizes = [f"*{word}*: {meaning}" for word, meaning in RESIZES.values()]
    said = (
        f"File of the network: {', '.join(files)}.\n\nResize to 299 x 299: {'; '.join(resizes)}.\n\n"
        "Pixels x become (x - s) / s. The mean of the features is taken in the precision that *mean* says, the "
        "covariance's sum is divided by the divisor, and the root is SciPy's `sqrtm` or that of the eigenvalues.\n"
    )
    return f"{table}\n{said}"


def distances(weights: Any, count: int) -> str:
    """A row a way of a picture: the two sets' distance, and that of the reference to itself by TensorFlow 1's way."""
    names: dict[Picture, list[str]] = {}
    for name, each in PROTOCOLS.items():
        names.setdefault(each.picture, []).append(name)
    columns: dict[Picture, list[str]] = {picture: [] for picture in names}
    halves = []
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        cut(place, count)
        for size in SIZES:
            x, y = (
                extracted(place / size / side, place / "f" / size / side, weights)
                for side in ("generated", "reference")
            )
            first = y[PROTOCOLS["ttur"].picture][FEATURES]
            for picture, column in columns.items():
                value = metrics.fid(x[picture][FEATURES], y[picture][FEATURES]).value
                column += [f"{value:.2f}", f"{metrics.fid(y[picture][FEATURES], first).value:.3f}"]
            order = np.random.default_rng(0).permutation(count)
            halves += ["", f"{metrics.fid(first[order[::2]], first[order[1::2]]).value:.2f}"]
            print(size, [column[-2:] for column in columns.values()], file=sys.stderr)
    head = ["protocols", *(text for size in SIZES for text in (title(size), "itself"))]
    rows = [[", ".join(names[picture]), *column] for picture, column in columns.items()]
    return markdown(head, [*rows, ["two halves of the reference", *halves]])


def title(size: str) -> str:
    return f"{size} px" if size.isdigit() else size


def normal(count: int, seed: int, scale: float = 1, shift: float = 0) -> np.ndarray:
    """Rows of a Gaussian of 2048 dimensions, of variance 150 in all, the k-th of which falls as k^-0.8.

    So 2000 rows have the bias that 2000 pictures of CIFAR-10 were reported to have, about 30 (k-diffusion#51).
    """
    spectrum = np.arange(1, 2049) ** -0.8
    deviations = scale * np.sqrt(150 * spectrum / spectrum.sum())
    rows = np.random.default_rng(seed).standard_normal((count, 2048), np.float32) * deviations.astype(np.float32)
    return rows + np.float32(shift)


def bias() -> str:
    """Distances of more and more rows of two Gaussians, whose own distance is known."""
    scale, shift = 1.1, math.sqrt(3.5 / 2048)
    true = 150 * (scale - 1) ** 2 + 2048 * shift**2
    reference, generated = normal(REFERENCE, 2), normal(COUNTS[-1], 1, scale, shift)
    rows = []
    for count in COUNTS:
        x, y = generated[:count], reference[:count]
        kid, beyond = metrics.kid(x, y), metrics.fid_infinity(x, reference)
        assert kid.error is not None
        distances = [metrics.fid(x, each).value for each in (y, reference)] + [beyond.value]
        error = f"{1000 * kid.value:.2f} ± {1000 * kid.error:.2f}"
        rows.append([f"{count:,}", *(f"{value:.2f}" for value in distances), error])
        print(rows[-1], file=sys.stderr)
    head = [
        "pictures n",
        "FID, n against n",
        f"n against {REFERENCE:,}",
        "the same at infinity",
        "1000 KID, n against n",
    ]
    return markdown(head, [*rows, ["all there are", *[f"{true:.2f}"] * 3, ""]])


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], others: str = "--:") -> str:
    rule = [":--", *[others] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *rows)) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--pictures", type=int, default=200, help="of each side")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "figures")
    options = parser.parse_args()
    quiet.import_tensorflow()
    weights = inception.load_weights(options.weights)
    made: dict[str, Callable[[], str]] = {
        "protocols": protocols,
        "bias": bias,
        "distances": lambda: distances(weights, options.pictures),
    }
    for name, make in made.items():
        text = make()
        (options.out / f"which-fid-{name}.md").write_text(text, encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
