"""What batch norm does to fine-tuning, measured: writes docs/figures/batch_norm.md.

usage: python tools/batch_norm.py WEIGHTS [--out docs/figures/batch_norm.md]

WEIGHTS is an InceptionV3 whose layers up to Mixed_6c are trained. A new classifier learns to tell which of 16
photographs (scikit-image's) a small crop is from. The kernels below it are frozen in every run; what differs is
batch norm: its own statistics, or each batch's, and how fast those move the statistics that are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import inception
from inception import images, pictures, quiet
from inception.weights import Weights

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png",
    "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
SIZE, CROPS, TESTS = 107, 24, 8  # pixels of a crop; crops of each photograph to learn from, and to test with
BATCH, EPOCHS, RATE = 16, 4, 1e-3
WAYS = {  # momentum of the moving statistics; None: frozen
    "frozen statistics (the default here)": None,
    "batch statistics, moving slowly: 0.9997, slim's": 0.9997,
    "batch statistics, 0.99: Keras's": 0.99,
}


def crops() -> tuple[np.ndarray, np.ndarray]:
    """(pictures in the network's range, the numbers of their photographs), those to test with last in each."""
    import skimage.data

    folder, rng = Path(skimage.data.__file__).parent, np.random.default_rng(0)
    made = []
    for name in PHOTOGRAPHS:
        whole = images.read(folder / name)
        for _ in range(CROPS + TESTS):
            side = rng.integers(60, 140)
            top, left = (rng.integers(0, a - side) for a in whole.shape[:2])
            made.append(pictures.named("whole").at(SIZE).input(whole[top : top + side, left : left + side]))
    return np.stack(made), np.repeat(np.arange(len(PHOTOGRAPHS)), CROPS + TESTS)


def run(weights: Weights, momentum: float | None, pictures: np.ndarray, labels: np.ndarray) -> list[float]:
    """Accuracy on the crops to test with: in training mode, mixed and one photograph a batch; in inference mode."""
    import keras

    keras.utils.set_random_seed(0)
    base = inception.InceptionV3(
        include_top=False, weights=weights, input_shape=(SIZE, SIZE, 3), final_endpoint="Mixed_6c", pooling="avg"
    )
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization) and momentum is not None:
            layer.momentum = momentum
    head = keras.Sequential([keras.layers.Dense(len(PHOTOGRAPHS), activation="softmax")])
    head.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy", jit_compile=False)
    test = np.arange(len(labels)) % (CROPS + TESTS) >= CROPS
    learn, rng = np.flatnonzero(~test), np.random.default_rng(0)
    for _ in range(EPOCHS):
        for batch in batches(rng.permutation(learn)):
            features = base(pictures[batch], training=momentum is not None)
            head.train_on_batch(features, labels[batch])
    kept = base.get_weights()
    found = []
    for order, training in ((rng.permutation(np.flatnonzero(test)), True), (np.flatnonzero(test), True),
                            (np.flatnonzero(test), False)):  # fmt: skip
        base.set_weights(kept)
        right = [np.asarray(head(base(pictures[b], training=training and momentum is not None))).argmax(1) == labels[b]
                 for b in batches(order, TESTS)]  # fmt: skip
        found.append(float(np.concatenate(right).mean()))
    return found


def batches(order: np.ndarray, size: int = BATCH) -> Iterator[np.ndarray]:
    return (order[i : i + size] for i in range(0, len(order), size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "figures" / "batch_norm.md")
    options = parser.parse_args()
    quiet.import_tensorflow()
    weights: Any = inception.load_weights(options.weights)
    pictures, labels = crops()
    head = "| batch norm while the classifier learns | as it was trained, mixed batches | the same, one class a batch "
    lines = [head + "| `training=False`, as it is used |", "|---|--:|--:|--:|"]
    for way, momentum in WAYS.items():
        shares = run(weights, momentum, pictures, labels)
        lines.append(f"| {way} | " + " | ".join(f"{100 * share:.0f} %" for share in shares) + " |")
        print(lines[-1], flush=True)
    options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
