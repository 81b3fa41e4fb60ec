"""What each difference between two feature pipelines costs, measured: writes docs/figures/effects.md.

usage: python tools/effects.py WEIGHTS [--out docs/figures/effects.md]

WEIGHTS is a whole InceptionV3, top or notop, of the Keras kind (borders excluded, average as last pool).
Needs scikit-image, whose photographs are cut into pictures of many shapes. The right way is: the whole
picture, TensorFlow 1's bilinear resize to 299x299, RGB in [-1, 1], the mean of Mixed_6c. Each row changes
one thing of that and compares the features.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import inception
from inception import architecture, images, labels, quiet
from inception.pictures import NAMED, preprocess_input
from inception.resize import resize
from inception.variants import KERAS, Variant
from inception.weights import Weights

PHOTOGRAPHS = (
    "astronaut.png", "brick.png", "camera.png", "chelsea.png", "clock_motion.png", "coffee.png", "coins.png",
    "grass.png", "gravel.png", "hubble_deep_field.jpg", "ihc.png", "moon.png", "motorcycle_left.png",
    "retina.jpg", "rocket.jpg", "text.png",
)  # fmt: skip
CROPS = 6  # pictures cut from each photograph
BATCH = 16
SIZE = 299
Prepare = Callable[[np.ndarray], np.ndarray]
Features = Callable[[Prepare], np.ndarray]


def pictures() -> list[np.ndarray]:
    """uint8 [h, w, 3] each: upright and wide ones, 40 to 90 % of their photograph's sides, the same always."""
    import skimage.data

    folder, rng, made = Path(skimage.data.__file__).parent, np.random.default_rng(1512_00567), []
    for name in PHOTOGRAPHS:
        whole = images.read(folder / name)
        for _ in range(CROPS):
            height, width = (int(side * rng.uniform(0.4, 0.9)) for side in whole.shape[:2])
            top, left = (rng.integers(0, a - b) for a, b in zip(whole.shape[:2], (height, width), strict=True))
            made.append(whole[top : top + height, left : left + width])
    return made


# --- From a picture to the network's input ----------------------------------------------


def scaled(change: Callable[[np.ndarray], np.ndarray], size: int = SIZE) -> Prepare:
    """The right resize, then another scaling of the pixels 0..255."""
    return lambda picture: change(resize(picture, size, size)).astype(np.float32)


def resized(change: Callable[[np.ndarray], np.ndarray]) -> Prepare:
    """Another resize to 299x299, then the right scaling."""
    return lambda picture: preprocess_input(change(picture))


def right(picture: np.ndarray) -> np.ndarray:
    return NAMED["whole"].input(picture)


def way(name: str) -> Prepare:
    return NAMED[name].input


def pillow(method: Image.Resampling) -> Prepare:
    return resized(lambda picture: np.asarray(Image.fromarray(picture).resize((SIZE, SIZE), method)))


def half_pixel(picture: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    return tf.image.resize(picture, (SIZE, SIZE)).numpy()


def centre(shorter: int) -> Prepare:
    """The shorter side to `shorter` pixels, then the middle 299x299: the picture's proportions stay."""

    def cut(picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        sides = [max(shorter, round(side * shorter / min(height, width))) for side in (height, width)]
        large = resize(picture, *sides)
        top, left = ((side - SIZE) // 2 for side in sides)
        return large[top : top + SIZE, left : left + SIZE]

    return resized(cut)


def jpeg(quality: int, decode: Callable[[bytes], np.ndarray]) -> Prepare:
    def saved(picture: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
        return right(decode(buffer.getvalue()))

    return saved


def pillow_decoded(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def tensorflow_decoded(data: bytes) -> np.ndarray:
    import tensorflow as tf

    return tf.io.decode_jpeg(data).numpy()


def imagenet_normalised(x: np.ndarray) -> np.ndarray:
    return (x / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)


def caffe(x: np.ndarray) -> np.ndarray:
    return x[..., ::-1] - (103.939, 116.779, 123.68)


# --- The networks ------------------------------------------------------------------------


class Lab:
    """The pictures, and the right network with its variations."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights.step("drop-top") if weights.variant.num_classes else weights
        self.pictures = pictures()

    def features(self, end_point: str = "Mixed_6c", pool: str = "avg", **options: Any) -> Features:
        """A function of how pictures are prepared: features [pictures, channels], of a network made with `options`."""
        rules = {name: options.pop(name) for name in ("border", "last_pool") if name in options}
        weights = dataclasses.replace(self.weights, variant=dataclasses.replace(self.weights.variant, **rules))
        weights = options.pop("weights", weights)
        options = {"engine": "tensorflow"} | options
        run = inception.compile_inference(weights, end_points=(end_point,), **options)
        return lambda prepare: self._batches(prepare, lambda batch: pooled(run(batch)[end_point], pool))

    def keras(self, batch: int = BATCH, training: bool = False) -> Features:
        """The Keras builder's model; `training`: every batch is normalised by its own statistics, as when it learns."""
        import keras

        model = inception.InceptionV3(include_top=False, weights=self.weights, final_endpoint="Mixed_6c", pooling="avg")
        return lambda prepare: self._batches(
            prepare, lambda images: keras.ops.convert_to_numpy(model(images, training=training)), batch
        )

    def _batches(self, prepare: Prepare, run: Callable[[np.ndarray], np.ndarray], size: int = BATCH) -> np.ndarray:
        inputs = [prepare(picture) for picture in self.pictures]
        batches = (np.stack(inputs[i : i + size]) for i in range(0, len(inputs), size))
        return np.concatenate([run(batch) for batch in batches])

    def calibration(self) -> np.ndarray:
        return np.stack([right(picture) for picture in self.pictures])


def pooled(maps: np.ndarray, pool: str) -> np.ndarray:
    if maps.ndim == 2:
        return maps
    return maps.mean((1, 2)) if pool == "avg" else maps.max((1, 2))


def random_weights(like: Variant) -> Weights:
    import keras

    from inception.builders.keras import to_weights

    keras.utils.set_random_seed(0)
    return to_weights(inception.InceptionV3(include_top=False, weights=None, input_shape=(SIZE, SIZE, like.channels)))


# --- Figures -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Row:
    """relative: the mean over the pictures of |wrong - right| / |right|; cosine: their mean; same: the share
    of pictures whose nearest other picture, among features made the right way, is still the same one."""

    change: str
    relative: float
    cosine: float
    same: float | None = None

    def __str__(self) -> str:
        same = "" if self.same is None else f"{100 * self.same:.0f} %"
        return f"| {self.change} | {number(self.relative)} | {cosine_text(self.cosine)} | {same} |"


def number(share: float) -> str:
    """A share in percent; a power of ten where it is rounding alone, a multiple where it is many times as much."""
    if share < 5e-5:
        return "0" if share == 0 else f"{share:.0e}".replace("e-0", "e-")
    if share > 2:
        return f"{share:.0f} times"
    return f"{100 * share:.2g} %" if share < 0.095 else f"{100 * share:.0f} %"


def cosine_text(cosine: float) -> str:
    return f"{cosine:.4f}" if cosine < 0.99995 else "1"


def compare(change: str, expected: np.ndarray, found: np.ndarray, index: np.ndarray | None = None) -> Row:
    """`index`: the features that a search looks in; its own are left out. None: `expected`."""
    norms = np.linalg.norm(expected, axis=1), np.linalg.norm(found, axis=1)
    relative = np.linalg.norm(found - expected, axis=1) / norms[0]
    cosine = (expected * found).sum(1) / (norms[0] * norms[1])
    gallery = expected if index is None else index
    same = np.mean(nearest(expected, gallery) == nearest(found, gallery))
    return Row(change, float(relative.mean()), float(cosine.mean()), float(same))


def nearest(features: np.ndarray, index: np.ndarray) -> np.ndarray:
    """For each picture the most similar other one, by cosine."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, index))
    return np.argmax(a @ b.T - 9 * np.eye(len(a)), axis=1)


def scale_rows(right_ones: np.ndarray) -> list[Row]:
    """How far apart features of other pictures are, to read the rest by."""
    photograph = np.arange(len(right_ones)) // CROPS
    here, there = np.nonzero(photograph[:, None] == photograph)
    pairs: dict[str, Any] = {"another crop of the same photograph": (here[here != there], there[here != there])}
    pairs["another photograph"] = np.nonzero(photograph[:, None] != photograph)
    return [dataclasses.replace(compare(n, right_ones[a], right_ones[b]), same=None) for n, (a, b) in pairs.items()]


def groups(lab: Lab) -> dict[str, list[Row]]:
    """The table, a part at a time. `run` is the right network."""
    run = lab.features()
    expected = run(right)

    def changed(*rows: tuple[str, Prepare]) -> list[Row]:
        return [compare(what, expected, run(prepare)) for what, prepare in rows]

    def network(what: str, features: Features, reference: np.ndarray = expected) -> Row:
        return compare(what, reference, features(right))

    whole, max_pool = lab.features("PreLogits")(right), lab.features("PreLogits", last_pool="max")
    random = lab.features(weights=random_weights(KERAS))(right)
    jpeg_right = run(jpeg(90, pillow_decoded))
    return {
        "To read the rest by": scale_rows(expected),
        "Weights": [compare("random ones, nothing trained", expected, random)],
        "Pixel values": changed(
            ("(x - 128) / 128, as the graph of 2015", scaled(lambda x: (x - 128) / 128)),
            ("x / 255: [0, 1]", scaled(lambda x: x / 255)),
            ("ImageNet's mean and deviation (torch's habit)", scaled(imagenet_normalised)),
            ("scaled twice", scaled(lambda x: (x / 127.5 - 1) / 127.5 - 1)),
            ("not scaled: 0..255", scaled(lambda x: x)),
            ("VGG's: BGR, mean subtracted, 0..255", scaled(caffe)),
            ("BGR for RGB (OpenCV), else right", scaled(lambda x: x[..., ::-1] / 127.5 - 1)),
        ),
        "Resize to 299x299": changed(
            ("bilinear with half-pixel centres (`tf.image.resize`)", resized(half_pixel)),
            ("bilinear with anti-aliasing (Pillow)", pillow(Image.Resampling.BILINEAR)),
            ("bicubic with anti-aliasing (Pillow)", pillow(Image.Resampling.BICUBIC)),
            ("nearest pixel (`keras.utils.load_img`'s default)", pillow(Image.Resampling.NEAREST)),
            ("to 224x224", scaled(preprocess_input, 224)),
        ),
        "Which part of the picture": changed(
            ("the central 87.5 % of each side (slim)", way("slim")),
            ("shorter side to 299, centre crop (Keras's author)", centre(299)),
            ("shorter side to 342 by Pillow, centre crop (torchvision)", way("torchvision")),
        ),
        "JPEG": [
            compare("decoded by `tf.io.decode_jpeg` instead of Pillow", jpeg_right, run(jpeg(90, tensorflow_decoded))),
            compare("saved again with quality 75", expected, run(jpeg(75, pillow_decoded))),
        ],
        "Pooling": [
            network("maximum instead of mean", lab.features(pool="max")),
            network("one row earlier, Mixed_6b", lab.features("Mixed_6b")),
        ],
        "Rules of the network": [
            network("average pools that count the border (torchvision, timm)", lab.features(border="include")),
            network("the same, at PreLogits", lab.features("PreLogits", border="include"), whole),
            network("maximum as last pool (2015, FID), at PreLogits", max_pool, whole),
        ],
        "Batch norm in training mode": [
            network("batches of 16", lab.keras(16, training=True)),
            network("batches of 2", lab.keras(2, training=True)),
        ],
        "Another engine, batch or precision": [
            network("the Keras builder instead of the TensorFlow engine", lab.keras()),
            network("the same, in batches of 1", lab.keras(1)),
            network("ONNX Runtime", lab.features(engine="onnxruntime")),
            network("OpenVINO", lab.features(engine="openvino")),
            network("OpenVINO, int8", lab.features(engine="openvino", precision="int8", calibration=lab.calibration())),
        ],
    }


def last_channels(lab: Lab) -> int:
    """How many of the 2048 pooled channels the last pool reaches."""
    a, b = (lab.features("PreLogits", last_pool=kind)(right) for kind in ("avg", "max"))
    return int((np.abs(a - b).max(0) > 1e-5 * np.abs(a).max()).sum())


def class_orders() -> str:
    """How far a label table of one kind goes with another kind's scores."""
    keras, slim, graph = (labels.imagenet(n) or () for n in (1000, 1001, 1008))
    at_slim = sum(a.wnid == b.wnid for a, b in zip(keras, slim, strict=False))
    at_graph = sum(a.wnid == b.wnid for a, b in zip(slim, graph, strict=False) if a.wnid)
    return (
        f"Of the 1000 classes, {at_slim} have the same index with and without a background class, and {at_graph} "
        "have the same index in slim's order and in that of 2015."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("weights")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "figures" / "effects.md")
    options = parser.parse_args()
    quiet.import_tensorflow()
    lab = Lab(inception.load_weights(options.weights))
    lines = [
        f"| instead of the right one | relative difference | cosine | same neighbour of {len(lab.pictures)} |",
        "|---|--:|--:|--:|",
    ]
    for title, rows in groups(lab).items():
        lines += [f"| **{title}** | | | |", *map(str, rows)]
        print(f"{title}\n" + "\n".join(map(str, rows)), flush=True)
    channels = architecture.end_point_shapes(KERAS.table())["Mixed_7c"][-1]
    reach = f"The last pool reaches {last_channels(lab)} of the {channels} pooled channels; the others stay the same."
    text = "\n".join([*lines, "", reach, class_orders(), ""])
    options.out.write_text(text, encoding="utf-8")
    print(f"{os.fspath(options.out)}\n{text}")


if __name__ == "__main__":
    main()
