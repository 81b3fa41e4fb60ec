"""Kernels by name: looked at, edited, swapped, and saved again, in slim's names and in Keras's.

usage: python examples/edit_kernel.py [--weights FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np

import inception
from inception.builders.keras import model_of, to_weights
from inception.classify import classify

CHECKPOINTS = Path(__file__).parents[1] / "checkpoints"
FIRST = "InceptionV3/Conv2d_1a_3x3/weights"  # slim's name; Keras calls the layer conv2d_1


def show(what: str, pictures: list[Path], weights: inception.Weights) -> None:
    scores = classify(pictures, weights)
    print(f"{what:<52} {' '.join(str(best) for best in scores.argmax(-1))}   sureness {scores.max(-1).mean():.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=CHECKPOINTS / "sample.h5", help="any weight file with a classifier")
    given = parser.parse_args()
    pictures = sorted((CHECKPOINTS / "sample-digits").glob("*.png"))
    weights = inception.load_weights(given.weights)
    kernel = weights.arrays[FIRST]
    print(f"{FIRST}: {kernel.shape}, height x width x colours in x kernels out")
    show("as it was", pictures, weights)

    # Edit: the first layer sees grey, whatever the colour. Arrays are replaced, never changed in place.
    grey = np.broadcast_to(kernel.mean(axis=2, keepdims=True), kernel.shape).astype(np.float32)
    show("blind to colour", pictures, dataclasses.replace(weights, arrays={**weights.arrays, FIRST: grey}))

    # Edit: one kernel out of all, switched off.
    without = kernel.copy()
    without[..., 0] = 0
    show(
        "its first kernel switched off",
        pictures,
        dataclasses.replace(weights, arrays={**weights.arrays, FIRST: without}),
    )

    # Swap: the kernel of another file, for a layer of the same shape. Here, the same one turned upside down.
    turned = np.ascontiguousarray(kernel[::-1])
    swapped = dataclasses.replace(weights, arrays={**weights.arrays, FIRST: turned})
    show("upside down", pictures, swapped)

    # The same by Keras's name, in a model that is there.
    model = model_of(weights)
    model.get_layer("conv2d_1").set_weights([turned])
    same = to_weights(model).arrays[FIRST]
    print(f"through Keras's layer conv2d_1: the same array, {np.array_equal(same, turned)}")

    with tempfile.TemporaryDirectory() as folder:
        saved = swapped.save(Path(folder) / "edited.ckpt")
        back = inception.load_weights(saved)
        changed = [name for name in weights.arrays if not np.array_equal(weights.arrays[name], back.arrays[name])]
        print(
            f"saved as a slim checkpoint: {', '.join(changed)} differs, {len(weights.arrays) - 1} arrays are as before"
        )


if __name__ == "__main__":
    main()
