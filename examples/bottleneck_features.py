"""Bottleneck features three ways, from the same pictures and the same weights, and why they differ.

usage: python examples/bottleneck_features.py [--weights FILE] [--size SIDE] [--count N]

1. Keras's generator: `image_dataset_from_directory`, then `predict`. What most tutorials do.
2. Our reader: `inception.features.extract`, the whole picture in TensorFlow 1's resize.
3. The 2015 way: the picture goes through the resize and the scaling of Google's graph,
   one picture at a time, as `retrain.py` filled its folder of bottlenecks.

The network is the same in all three. What differs is what happens to a picture before it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

import inception
from inception import features
from inception.resize import resize

SAMPLE = Path(__file__).parents[1] / "checkpoints" / "sample.h5"


def photographs(folder: Path, count: int, size: int) -> list[Path]:
    """Cuts of two photographs that scikit-learn brings, wider than high, larger than the network's input."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(2015)
    originals, paths = load_sample_images().images, []
    for i in range(count):
        height, width = size + 40 + i, min(size + 120 + 7 * i, 600)
        whole = originals[i % 2]
        top, left = rng.integers(0, whole.shape[0] - height), rng.integers(0, whole.shape[1] - width + 1)
        paths.append(folder / "photographs" / f"{i:02d}.jpg")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(whole[top : top + height, left : left + width]).save(paths[-1], quality=90)
    return paths


def keras_generator(folder: Path, model: keras.Model, size: int) -> np.ndarray:
    """The tutorials' way. TensorFlow 2's bilinear resize, sampled at the middles of pixels."""
    pictures = keras.utils.image_dataset_from_directory(
        folder, labels=None, image_size=(size, size), batch_size=8, shuffle=False, verbose=False
    )
    return np.asarray(model.predict(pictures.map(inception.preprocess_input), verbose=0))


def own_reader(folder: Path, weights: str, picture: str) -> np.ndarray:
    """Ours: TensorFlow 1's bilinear resize, which slim's published accuracies were measured with."""
    with tempfile.TemporaryDirectory() as out:
        features.extract(folder, out, weights, picture=picture)
        return features.load(out).arrays["PreLogits"]


def the_2015_way(paths: list[Path], model: keras.Model, size: int, decoder: str = "INTEGER_FAST") -> np.ndarray:
    """DecodeJpeg, Cast, ResizeBilinear, Sub 128, Mul 1/128, as the nodes of the graph; a batch of one."""
    rows = []
    for path in paths:
        pixels = tf.cast(tf.io.decode_jpeg(path.read_bytes(), channels=3, dct_method=decoder), tf.float32)
        resized = tf.compat.v1.image.resize_bilinear(pixels[None], (size, size))
        rows.append(np.asarray(model((resized - 128) * 0.0078125, training=False))[0])
    return np.stack(rows)


def apart(a: np.ndarray, b: np.ndarray) -> str:
    """How far two sets of features are from each other."""
    relative = np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)
    return f"{relative.mean():9.5%} on average, {relative.max():9.5%} at most"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default=str(SAMPLE), help="any weight file; the embedded sample")
    parser.add_argument("--size", type=int, default=107, help="side of the network's input")
    parser.add_argument("--count", type=int, default=12)
    given = parser.parse_args()
    whole = inception.load_weights(given.weights)
    base = whole.step("drop-top") if whole.variant.num_classes else whole
    model = inception.InceptionV3(
        weights=base, include_top=False, pooling="avg", input_shape=(given.size, given.size, 3),
        depth_multiplier=base.variant.depth_multiplier, min_depth=base.variant.min_depth, variant=base.variant,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        paths = photographs(Path(name), given.count, given.size)
        by_keras = keras_generator(Path(name), model, given.size)
        ours = own_reader(Path(name), given.weights, f"whole,size={given.size}")
        ours_2015 = own_reader(Path(name), given.weights, f"google_2015,size={given.size}")
        by_2015 = the_2015_way(paths, model, given.size)
        accurate = the_2015_way(paths, model, given.size, "INTEGER_ACCURATE")
        first, fast = np.asarray(Image.open(paths[0])), np.asarray(tf.io.decode_jpeg(paths[0].read_bytes()))

    print(f"{len(ours)} pictures, {ours.shape[1]} features each; relative distances of the features:")
    print(f"  Keras's generator from our reader       {apart(by_keras, ours)}")
    print(f"  the 2015 way from our reader            {apart(by_2015, ours)}")
    print(f"  the 2015 way from picture google_2015   {apart(by_2015, ours_2015)}")
    print(f"  the same, JPEGs decoded accurately      {apart(accurate, ours_2015)}")

    half_pixel = tf.image.resize(first[None].astype(np.float32), (given.size, given.size))[0]
    change = np.abs(half_pixel - resize(first, given.size, given.size)).mean()
    shift = (first.shape[0] / given.size - 1) / 2
    white = float(inception.preprocess_input([255], picture="google_2015")[0])
    print("\nWhy they differ:")
    decoding = np.abs(first.astype(int) - fast)
    print("  the decoder  TensorFlow decodes JPEG with a fast, rough transform unless it is told INTEGER_ACCURATE;")
    print(
        f"               here a pixel differs by {decoding.mean():.1f} of 255 on average, by {decoding.max()} at most."
    )
    print("  the resize   Keras samples at the middles of pixels, TensorFlow 1 at their upper left corners. Here that")
    print(f"               moves the picture by {shift:.2f} pixels; a pixel changes by {change:.1f} of 255 on average.")
    print("  the scale    Keras and slim divide by 127.5, and white is 1; the graph of 2015 divides by 128, and")
    print(f"               white is {white:.7f}: every value is up to 1/128 away.")
    print("  the batch    One picture at a time or eight: no difference beyond rounding, as the last line shows.")
    print("Take one way for training and for use; picture= says which, and the folder of features remembers it.")


if __name__ == "__main__":
    main()
