"""Feature extraction, then a dense classifier: the network runs once over the pictures, never again.

usage: python examples/feature_extraction.py [--weights FILE] [--count N]

The features are kept in a folder of Parquet files: run it again with other ideas for the
classifier, and no picture is computed twice.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _digits
import keras
import numpy as np

from inception import features

SAMPLE = Path(__file__).parents[1] / "checkpoints" / "sample.h5"


def labelled(found: features.Features) -> tuple[np.ndarray, np.ndarray]:
    """(features, class numbers); the class is the folder that the picture lies in."""
    return found.arrays["Mixed_6e"], np.array([int(Path(path).parent.name) for path in found.paths])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=SAMPLE, help="any weight file; the embedded sample")
    parser.add_argument("--count", type=int, default=200, help="pictures to train with, and as many to test with")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder, found = Path(name), {}
        for i, part in enumerate(("train", "test")):
            pictures = _digits.write(folder / part, given.count, start=i * given.count)
            out = folder / f"{part}-features"
            summary = features.extract(pictures, out, given.weights, end_points=("Mixed_6e",), size=107)
            print(f"{part}: {summary.rows} pictures, {summary.images_per_second:.0f} a second ({summary.engine})")
            found[part] = labelled(features.load(out))

    x, y = found["train"]
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Normalization(), keras.layers.Dropout(0.3),
                              keras.layers.Dense(10, "softmax")])  # fmt: skip
    model.layers[0].adapt(x)
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )
    model.fit(x, y, epochs=30, verbose=0)
    _, accuracy = model.evaluate(*found["test"], verbose=0)
    print(f"a dense classifier on {x.shape[1]} features: {accuracy:.1%} of {given.count} other digits are right")


if __name__ == "__main__":
    main()
