"""What trained weights are worth on other pictures: a linear classifier on their features, and fine-tuning.

usage: python tools/transfer.py WEIGHTS [--end-point Mixed_6c] [--unfreeze Mixed_6a] [--size 75]
                                [--precision float32 bfloat16]

400 of scikit-learn's digits to learn from, 800 others to test with. The same linear
classifier on features of random weights, then on those of WEIGHTS; then `finetune`, whose
folder is evaluated on the 800. In the end it counts the arrays that fine-tuning left bit
for bit as they were. Takes about two minutes on two cores.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import inception
from inception import features
from inception.builders.keras import to_weights
from inception.training import evaluate, finetune
from inception.training.network import trunk_of
from inception.weights import Weights

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import _digits

TRAIN, TEST, FIRST_TEST = 400, 800, 900


def linear(weights: Weights, root: Path, name: str, end_point: str, size: int) -> float:
    """Accuracy on the test digits of a logistic regression on pooled features."""
    sets = []
    for part in ("train", "test"):
        out = root / f"{name}-{part}"
        features.extract(root / part, out, weights, end_points=(end_point,), size=size)
        found = features.load(out)
        sets.append((found.arrays[end_point], [Path(path).parent.name for path in found.paths]))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    return float(model.fit(*sets[0]).score(*sets[1]))


def bit_equal(weights: Weights, out: Path, end_point: str, unfreeze: str, size: int) -> str:
    """How many arrays are as before, below the unfrozen block and in it; Keras reads the result."""
    network, model = trunk_of(weights, size, end_point=end_point), keras.saving.load_model(out / "model.keras")
    unfrozen = network.from_block(unfreeze)
    same: dict[bool, list[bool]] = {False: [], True: []}
    for layer in network.base.layers:
        for before, after in zip(layer.get_weights(), model.get_layer(layer.name).get_weights(), strict=True):
            same[layer.name in unfrozen].append(np.array_equal(before, after))
    return (f"bit-equal arrays: {sum(same[False])} of {len(same[False])} below {unfreeze}, "
            f"{sum(same[True])} of {len(same[True])} from it on (all of batch norm's, no kernel)")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights")
    parser.add_argument("--end-point", default="Mixed_6c")
    parser.add_argument("--unfreeze", default="Mixed_6a")
    parser.add_argument("--size", type=int, default=75)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--precision", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    given = parser.parse_args()
    keras.utils.set_random_seed(1)
    real = inception.load_weights(given.weights)
    random = to_weights(inception.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3)))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _digits.write(root / "train", TRAIN)
        _digits.write(root / "test", TEST, start=FIRST_TEST)
        for name, weights in (("random", random), ("real", real)):
            accuracy = linear(weights, root, name, given.end_point, given.size)
            print(f"linear classifier on {given.end_point} of {name} weights: {accuracy:.2%} of {TEST}", flush=True)
        for precision in given.precision:
            out = root / precision
            finetune(root / "train", real, out, size=given.size, end_point=given.end_point, unfreeze=given.unfreeze,
                     augment=("shift", "rotate", "zoom"), epochs=given.epochs, learning_rate=3e-4, head_epochs=60,
                     early_stopping=None, precision=precision)  # fmt: skip
            right = evaluate(root / "test", out).top1
            print(f"fine-tuned from {given.unfreeze} on in {precision}: {right:.2%} of {TEST}", flush=True)
            print(bit_equal(real, out, given.end_point, given.unfreeze, given.size), flush=True)


if __name__ == "__main__":
    main()
