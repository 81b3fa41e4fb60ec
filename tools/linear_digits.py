"""What features are worth: a linear classifier on scikit-learn's digits, on trained and on random weights.

usage: python tools/linear_digits.py WEIGHTS [--end-point Mixed_6c] [--size 107]

The last 797 of the 1797 digits are the test. The random network has the same shape,
He-normal kernels and statistics near the usual. The pixels themselves are the third row.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from inception import features, load_weights
from inception.variants import Variant

TEST = 797


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--end-point", default="Mixed_6c")
    parser.add_argument("--size", type=int, default=107)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
    from made import random_weights

    digits = load_digits()
    networks = {
        "trained": load_weights(given.weights),
        "random": random_weights(Variant(num_classes=0)),
    }
    found = {"pixels": digits.images.reshape(len(digits.images), -1)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "digits"
        folder.mkdir()
        for i, image in enumerate(digits.images):
            ink = Image.fromarray((255 - image * (255 / 16)).astype(np.uint8))
            ink.resize((given.size, given.size), Image.Resampling.BICUBIC).save(folder / f"{i:04d}.png")
        for network, weights in networks.items():
            out = Path(name) / network
            summary = features.extract(
                folder, out, weights, end_points=(given.end_point,), picture=f"whole,size={given.size}"
            )
            print(f"{network}: {summary.rows} digits, {summary.images_per_second:.0f} images/s ({summary.engine})")
            found[network] = features.load(out).arrays[given.end_point]
    print(f"right of the {TEST} held-out digits, by a logistic regression on {given.end_point} at {given.size} px")
    train = len(digits.target) - TEST
    for count in (20, 50, 100, 300, train):
        scores = []
        for x in found.values():
            classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            classifier.fit(x[:count], digits.target[:count])
            scores.append(classifier.score(x[train:], digits.target[train:]))
        print(f"{count:>5} to learn from: " + ", ".join(f"{n} {s:.1%}" for n, s in zip(found, scores, strict=True)))


if __name__ == "__main__":
    main()
