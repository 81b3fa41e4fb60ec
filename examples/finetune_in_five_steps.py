"""Fine-tuning in five steps, by hand; and the one call that does the same and more.

usage: python examples/finetune_in_five_steps.py [--weights FILE] [--unfreeze Mixed_7c] [--count N] [--epochs N]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _digits
import keras
import numpy as np

import inception
from inception import pictures
from inception.builders.keras import model_of, to_weights
from inception.training import finetune
from inception.training.folders import read
from inception.training.network import inception_blocks

SAMPLE = Path(__file__).parents[1] / "checkpoints" / "sample.h5"
SIZE = 75
WHOLE = pictures.named("whole").at(SIZE)  # the whole picture, squashed


def inputs_of(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    pictures = read(folder)
    return np.stack([WHOLE.input(path) for path in pictures.paths]), pictures.labels


def compile(model: keras.Model, rate: float) -> None:
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=SAMPLE, help="any weight file; the embedded sample")
    parser.add_argument("--unfreeze", default="Mixed_7c", help="the first block that trains")
    parser.add_argument("--count", type=int, default=80, help="pictures")
    parser.add_argument("--epochs", type=int, default=1, help="of the blocks")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as name:
        pictures = _digits.write(Path(name) / "digits", given.count)
        x, y = inputs_of(pictures)

        print("1. The network without its classifier, for pictures of the size at hand.")
        loaded = inception.load_weights(given.weights)
        loaded = loaded.step("drop-top") if loaded.variant.num_classes else loaded
        base = model_of(loaded, input_shape=(SIZE, SIZE, 3), pooling="avg")

        print("2. A new classifier on it.")
        head = keras.Sequential(
            [keras.Input(base.output_shape[1:]), keras.layers.Dense(10, "softmax", name="predictions")]
        )

        print("3. The classifier learns alone, from features that are computed once.")
        compile(head, 0.01)
        features = base.predict(x, verbose=0)
        history = head.fit(features, y, epochs=20, verbose=0).history
        print(f"   loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")

        print(f"4. {given.unfreeze} and all above it learn with it, at a low rate. Batch norm stays as it is:")
        print("   its statistics are of millions of pictures, those of a small batch would ruin them.")
        blocks = inception_blocks(loaded.variant)
        open_blocks = list(blocks)[list(blocks).index(given.unfreeze) :]
        unfrozen = {layer for block in open_blocks for layer in blocks[block]}
        for layer in base.layers:
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = layer.name in unfrozen and not is_norm
        model = keras.Model(base.inputs, head.get_layer("predictions")(base.outputs[0]), name="inception_v3")
        compile(model, 1e-4)
        history = model.fit(x, y, batch_size=16, epochs=given.epochs, verbose=0).history
        print(f"   {len(model.trainable_variables)} arrays train; loss {history['loss'][-1]:.3f}")

        print("5. Any format keeps the result.")
        saved = to_weights(model).save(Path(name) / "digits.ckpt")
        after = inception.load_weights(saved).arrays
        same = sum(np.array_equal(after[key], array) for key, array in loaded.arrays.items())
        print(f"   {same} of {len(loaded.arrays)} arrays of the network are bit-equal to those before")

        print("The same in one call, with a held-out part, augmentation, early stopping, resuming and pictures:")
        result = finetune(pictures, given.weights, Path(name) / "out", size=SIZE, head_epochs=20,
                          head_learning_rate=0.01, augment=("shift", "rotate"))  # fmt: skip
        print(f"   {result.accuracy:.1%} of {len(result.evaluation.pictures)} held-out digits are right; "
              f"{', '.join(sorted(path.name for path in result.out.iterdir()))}")  # fmt: skip


if __name__ == "__main__":
    main()
