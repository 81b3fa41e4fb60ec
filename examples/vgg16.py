"""Not InceptionV3: the same functions with another Keras model, here VGG16.

usage: python examples/vgg16.py [--count N] [--imagenet]

VGG16 wants other pixels than InceptionV3 (blue first, minus a mean), so its own function
for that is given with it. Without --imagenet its weights are random: nothing is
downloaded, and little is learned.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _digits
import keras

from inception import features
from inception.training import evaluate, finetune

SIZE = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=40, help="pictures")
    parser.add_argument("--imagenet", action="store_true", help="Keras's trained weights, which it downloads")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    weights = "imagenet" if given.imagenet else None
    vgg = keras.applications.VGG16(include_top=False, weights=weights, input_shape=(SIZE, SIZE, 3), pooling="avg")
    pixels = keras.applications.vgg16.preprocess_input
    with tempfile.TemporaryDirectory() as name:
        pictures, out = _digits.write(Path(name) / "digits", given.count), Path(name) / "out"

        # Feature extraction: end points are names of layers.
        features.extract(pictures, Path(name) / "features", vgg, end_points=("block4_pool", "block5_pool"),
                         preprocess=pixels)  # fmt: skip
        for layer, array in features.load(Path(name) / "features").arrays.items():
            print(f"{layer}: {array.shape}")

        # Fine-tuning: a layer's name says from where on the network learns.
        result = finetune(pictures, vgg, out, unfreeze="block5_conv3", preprocess=pixels, epochs=1, head_epochs=5,
                          augment=("shift",), batch_size=16)  # fmt: skip
        print(f"{len(result.history)} epochs, {result.accuracy:.1%} of {len(result.evaluation.pictures)} are right")

        # Other families' files are loaded by Keras, as it loads all its models.
        model = keras.saving.load_model(out / "model.keras")
        found = evaluate(pictures, model, preprocess=pixels, labels=out / "model.labels.txt")
        print(f"all pictures: {found.top1:.1%} right")
        unchanged = model.get_layer("block5_conv2").get_weights()[0] == vgg.get_layer("block5_conv2").get_weights()[0]
        print(f"below block5_conv3 nothing changed: {bool(unchanged.all())}")


if __name__ == "__main__":
    main()
