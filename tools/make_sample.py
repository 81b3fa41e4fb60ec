"""Trains the embedded sample: a narrow InceptionV3 with its auxiliary head, on handwritten digits.

usage: python tools/make_sample.py [--epochs N] [--out FOLDER]

scikit-learn's 1797 digits (real scans, 8x8 grey), enlarged to 107x107, the smallest size
that has the auxiliary head; 360 of them are held out and never trained on. The recipe is
the paper's, scaled down to a set this small (`inception.training.scaled`). Writes
sample.h5, sample.labels.txt, sample.json (the held-out accuracy) and ten held-out
pictures. Takes a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import inception
from inception import pictures
from inception.builders.keras import to_weights
from inception.training import PAPER, compile, scaled, targets
from inception.weights.dialects import keras_layers

SIZE = 107
HELD_OUT = 360
SEED = 2015
WIDTH: dict[str, Any] = {"depth_multiplier": 0.15, "min_depth": 8}
HEADS = (keras_layers.LOGITS, keras_layers.AUX_LOGITS)


def picture(digit: np.ndarray) -> Image.Image:
    """An 8x8 digit with values 0..16 as a 107x107 grey picture, ink dark on white as on paper."""
    ink = Image.fromarray((255 - digit * (255 / 16)).astype(np.uint8))
    return ink.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def pixels(pictures: list[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(p.convert("RGB"), np.float32) for p in pictures])


class Shifted(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of digits, moved and turned a little, in another order every epoch."""

    def __init__(self, x: np.ndarray, targets: dict[str, np.ndarray], batch: int) -> None:
        super().__init__()
        self._x, self._targets, self._batch = x, targets, batch
        self._rng = np.random.default_rng(SEED)
        self._move = keras.Sequential(
            [
                keras.layers.RandomTranslation(0.08, 0.08, fill_mode="nearest", seed=SEED),
                keras.layers.RandomRotation(0.03, seed=SEED),
            ]
        )
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._x))

    def __len__(self) -> int:
        return -(-len(self._x) // self._batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        rows = self._order[index * self._batch : (index + 1) * self._batch]
        shown = np.asarray(self._move(self._x[rows], training=True))
        return inception.preprocess_input(shown), {head: rows_of[rows] for head, rows_of in self._targets.items()}


def train(x: np.ndarray, y: np.ndarray, epochs: int) -> keras.Model:
    """The model, fitted with both heads by the paper's recipe; its weights are the moving averages."""
    recipe = scaled(PAPER, images=len(x), epochs=epochs)
    model = inception.InceptionV3(
        weights=None, input_shape=(SIZE, SIZE, 3), classes=10, aux_logits=True, dropout=recipe.dropout, **WIDTH
    )
    compile(model, recipe)
    model.fit(Shifted(x, targets(model, y), recipe.batch_size), epochs=epochs, shuffle=False, verbose=2)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "checkpoints")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(SEED)

    digits = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        digits.images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=0
    )
    model = train(pixels([picture(d) for d in train_x]), train_y, arguments.epochs)
    held_out = inception.preprocess_input(pixels([picture(d) for d in test_x]))
    found = model.predict(held_out, verbose=0)
    accuracy = {head: float(np.mean(found[head].argmax(-1) == test_y)) for head in HEADS}
    print(f"held-out accuracy on {HELD_OUT} digits: {accuracy}")

    whole = pictures.named("whole").at(SIZE)  # the digits are small, nothing of them may be cut off
    dataclasses.replace(to_weights(model), picture=whole).save(arguments.out / "sample.h5")
    (arguments.out / "sample.labels.txt").write_text("".join(f"{i}\n" for i in range(10)))
    (arguments.out / "sample.json").write_text(
        json.dumps({"held_out_digits": HELD_OUT, "held_out_accuracy": accuracy, "epochs": arguments.epochs}, indent=2)
        + "\n"
    )
    folder = arguments.out / "sample-digits"
    folder.mkdir(exist_ok=True)
    for digit in range(10):
        first = int(np.flatnonzero(test_y == digit)[0])
        picture(test_x[first]).save(folder / f"digit-{digit}.png")


if __name__ == "__main__":
    main()
