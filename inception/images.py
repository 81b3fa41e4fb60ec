"""Pictures to tensors: one recipe a variant, and the scaling of pixel values.

Two recipes for the size, which give different features: "keras" squashes the whole
picture, "slim" first takes the central 87.5 % of each side. Both resize as TensorFlow 1
did (no half-pixel centres, no anti-aliasing), which slim's and the 2015 graph's
published accuracies were measured with.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from inception.variants import KERAS, Variant

RECIPES = ("keras", "slim")
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
_CENTRE = 0.875  # slim's evaluation crop, of each side


def preprocess_input(x: Any, data_format: str | None = None, variant: Variant = KERAS) -> Any:
    """Pixels 0..255 to what the network takes ([-1, 1] for slim and Keras weights): (x - mean) / scale.

    x: numpy array or tensor of any number type, channels last, or first where
    `data_format` is "channels_first". Returns float32 of the same shape and kind (numpy
    for lists); x itself is never changed. Raises ValueError for another `data_format`.
    """
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(f'data_format is {data_format!r}; expected "channels_last" or "channels_first".')
    mean, scale = (np.asarray(values, np.float32) for values in (variant.pixel_mean, variant.pixel_scale))
    if len(set(variant.pixel_mean)) == len(set(variant.pixel_scale)) == 1:
        mean, scale = mean[0], scale[0]
    elif data_format == "channels_first":
        mean, scale = mean.reshape(3, 1, 1), scale.reshape(3, 1, 1)
    return (_float32(x) - mean) / scale


def _float32(x: Any) -> Any:
    if isinstance(x, np.ndarray | np.generic | list | tuple | int | float):
        return np.asarray(x, np.float32)
    if type(x).__module__.startswith("tensorflow."):  # as in a tf.data pipeline, whatever Keras's backend is
        import tensorflow as tf

        return tf.cast(x, tf.float32)
    from keras import ops

    return ops.cast(x, "float32")


def read(path: str | os.PathLike[str]) -> np.ndarray:
    """A picture file as uint8 [height, width, 3]; the first frame, alpha dropped, 16-bit greys scaled down.

    Raises ValueError when it is missing, damaged, of no known format, or larger than
    Pillow's limit for decompression bombs.
    """
    where = os.fspath(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                return _rgb(picture)
    except FileNotFoundError as error:
        raise ValueError(f"The picture {where} does not exist.") from error
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"The picture {where} is too large ({error}); make it smaller first.") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{where} is no picture that is read here; expected {', '.join(FORMATS)}.") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ValueError(f"The picture {where} is damaged ({error}); get it again.") from error


def _rgb(picture: Image.Image) -> np.ndarray:
    """Pillow's own conversion, but for 16-bit greys, which it would clip to white."""
    if picture.mode.startswith("I;16"):
        grey = (np.asarray(picture) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    return np.asarray(picture.convert("RGB"))


def resize(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """TensorFlow 1's bilinear resize of [h, w, c] to float32: sample k lies at k * h / height."""
    rows, columns = (_samples(old, new) for old, new in zip(pixels.shape[:2], (height, width), strict=True))
    pixels = pixels.astype(np.float32)
    low, high, part = rows
    tall = pixels[low], pixels[high]
    low, high, across = columns
    top, bottom = (row[:, low] + (row[:, high] - row[:, low]) * across[:, None] for row in tall)
    return top + (bottom - top) * part[:, None, None]


def _samples(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    place = np.arange(new, dtype=np.float32) * np.float32(old / new)
    low = np.floor(place).astype(np.int64)
    return low, np.minimum(low + 1, old - 1), place - low


def prepare(
    picture: str | os.PathLike[str] | np.ndarray,
    size: int = 299,
    variant: Variant = KERAS,
    recipe: str = "keras",
) -> np.ndarray:
    """A picture (file or uint8 [h, w, 3]) as the network's input: float32 [size, size, 3], scaled for `variant`."""
    if recipe not in RECIPES:
        raise ValueError(f"Unknown recipe {recipe!r}; expected one of {', '.join(RECIPES)}.")
    pixels = picture if isinstance(picture, np.ndarray) else read(picture)
    if recipe == "slim":
        pixels = _centre(pixels)
    return preprocess_input(resize(pixels, size, size), variant=variant)


def _centre(pixels: np.ndarray) -> np.ndarray:
    """The middle of the picture, cut as `tf.image.central_crop` cuts it."""
    height, width = pixels.shape[:2]
    top, left = (int((side - side * _CENTRE) / 2) for side in (height, width))
    return pixels[top : height - top, left : width - left]


def test_picture(size: int = 299) -> np.ndarray:
    """A picture without a file, the same always: soft colours, edges and texture, uint8 [size, size, 3]."""
    y, x = np.mgrid[0:size, 0:size] / size
    rng = np.random.default_rng(1512_00567)
    channels = []
    for _ in range(3):
        waves = sum(np.sin(2 * np.pi * (a * x + b * y + c)) / (1 + a + b) for a, b, c in rng.uniform(0, 9, (6, 3)))
        disc = (x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < 0.05
        channels.append(waves + disc)
    picture = np.stack(channels, -1) + rng.normal(0, 0.1, (size, size, 3))
    picture -= picture.min()
    return (picture * (255 / picture.max())).astype(np.uint8)
