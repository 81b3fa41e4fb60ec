"""The way of a picture to the network's input, as data: a `Picture` belongs to weights as their variant does.

Features made by another way are other features, so the way is stored with the weights and
is the only thing here that turns pixels into input. The named ones are the published ways;
one liberty is taken with all of them: pictures are turned as their EXIF orientation says,
which no original does (`upright=False` is the original's).
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception import arguments, images
from inception import resize as operators
from inception.files import inert_json

ImageLike = str | os.PathLike[str] | np.ndarray  # a file, or pixels uint8 [height, width, 3]
Triple = tuple[float, float, float]
_STRIP = 16  # how many times longer than wide a picture may be before its ends go


@dataclass(frozen=True)
class Picture:
    """From a picture to the network's input.

    Attributes:
        size: of the input in pixels: a square's side, or (height, width).
        upright: turn the picture as its EXIF orientation says.
        crop: the part of each side that is kept, from the middle.
        aspect: "squash" makes what is kept as wide as high whatever its shape was; "keep" scales the picture until it
            covers size / crop, and cuts the size out of its middle.
        resize: one of `inception.resize.OPERATORS`.
        rounded: pixels are whole numbers after the resize.
        mean: the input is (pixel - mean) / scale, pixels being 0..255.
        scale: of each channel, as the mean.
        bgr: the channels come in the order blue, green, red.
    """

    size: int | tuple[int, int] = 299
    upright: bool = True
    crop: float = 1.0
    aspect: Literal["squash", "keep"] = "squash"
    resize: str = "tensorflow1"
    rounded: bool = False
    mean: Triple = (127.5, 127.5, 127.5)
    scale: Triple = (127.5, 127.5, 127.5)
    bgr: bool = False

    def __post_init__(self) -> None:
        if not all(type(side) is int and 1 <= side <= 1 << 14 for side in self.sides):
            raise ValueError(f"A picture's size is {self.size!r}; expected pixels, as 299 or (299, 299).")
        if not 0 < self.crop <= 1:
            raise ValueError(f"A picture's crop is {self.crop!r}; expected the part that is kept, above 0 and up to 1.")
        if self.aspect not in ("squash", "keep"):
            raise ValueError(f'A picture\'s aspect is {self.aspect!r}; expected "squash" or "keep".')
        if self.resize not in operators.OPERATORS:
            raise ValueError(f"Unknown resize {self.resize!r}; expected one of {', '.join(operators.OPERATORS)}.")
        if not all(map(math.isfinite, (*self.mean, *self.scale))) or 0 in self.scale:
            raise ValueError(f"Pixels cannot become (pixel - {self.mean}) / {self.scale}.")

    @property
    def sides(self) -> tuple[int, int]:
        """(height, width) of the input."""
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def at(self, size: int | tuple[int, int] | None) -> Picture:
        """The same way to another size; None for this one."""
        sides = arguments.sides("a picture's size", size)
        if sides is None:
            return self
        return dataclasses.replace(self, size=sides[0] if sides[0] == sides[1] else sides)

    # --- Pixels to input ---------------------------------------------------------------

    def input(self, image: ImageLike) -> np.ndarray:
        """A picture as the network takes it: float32 [height, width, 3]. ValueError for one that cannot be read."""
        return self.scaled(self.resized(image))

    def resized(self, image: ImageLike) -> np.ndarray:
        """A picture cut and resized, its pixels still 0..255: float32 [height, width, 3]."""
        pixels = self.read(image)
        height, width = self.sides
        if self.aspect == "squash":
            kept = pixels if self.crop == 1 else _middle_part(pixels, self.crop)
            return operators.resize(kept, height, width, self.resize, rounded=self.rounded)
        pixels = _without_ends(pixels)
        sized = operators.resize(pixels, *self._covering(*pixels.shape[:2]), self.resize, rounded=self.rounded)
        return np.ascontiguousarray(_middle(sized, height, width))

    def read(self, image: ImageLike) -> np.ndarray:
        """A picture file, turned if it is to be, or pixels as they are: uint8 [height, width, 3]."""
        return images.read(image, upright=self.upright) if isinstance(image, str | os.PathLike) else checked(image)

    def _covering(self, height: int, width: int) -> tuple[int, int]:
        """The size at which a picture covers size / crop; the longer side is cut to whole pixels, as torchvision's."""
        tall, wide = (round(side / self.crop) for side in self.sides)
        if tall * width >= wide * height:
            return tall, max(int(tall * width / height), wide)
        return max(int(wide * height / width), tall), wide

    def scaled(self, pixels: Any) -> Any:
        """Pixels 0..255, channels last, of any size, in the network's range: float32, of the same kind."""
        return _scaled(pixels, self, "float32")

    # --- And back ----------------------------------------------------------------------

    def pixels(self, values: np.ndarray) -> np.ndarray:
        """The network's input as uint8 pixels, rounded; values beyond the range become its ends."""
        values = np.asarray(values, np.float32)
        found = values * np.asarray(self.scale, np.float32) + np.asarray(self.mean, np.float32)
        found = np.clip(np.round(found), 0, 255).astype(np.uint8)
        return found[..., ::-1] if self.bgr else found

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The least and the greatest input that a pixel can become: float32 [3] each."""
        black, white = self.scaled(np.zeros(3, np.float32)), self.scaled(np.full(3, 255.0, np.float32))
        return np.minimum(black, white), np.maximum(black, white)

    def window(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right): the part of an upright picture of this size that the network sees, in pixels."""
        if self.aspect == "squash":
            return _part(height, width, self.crop)
        tall, wide = self._covering(height, width)
        rows, columns = self.sides[0] * height / tall, self.sides[1] * width / wide
        top, left = round((height - rows) / 2), round((width - columns) / 2)
        return top, left, max(round(top + rows), top + 1), max(round(left + columns), left + 1)

    # --- As text and as JSON -----------------------------------------------------------

    def __str__(self) -> str:
        """The nearest named way and what differs from it: "slim,size=107"; `named` reads it."""
        fields = {name: fields_of(self, known) for name, known in NAMED.items()}
        name = min(fields, key=lambda each: (len(fields[each]), list(NAMED).index(each)))
        return ",".join([name, *(f"{field}={_text(field, value)}" for field, value in fields[name].items())])

    def json(self) -> dict[str, Any]:
        """The fields as values of JSON; `from_json` reads them."""
        return {field: list(v) if isinstance(v, tuple) else v for field, v in dataclasses.asdict(self).items()}


def from_json(fields: Mapping[str, Any]) -> Picture:
    """The picture that `Picture.json` wrote; unknown fields are passed over. ValueError for values of other kinds."""
    return inert_json.record(Picture, fields, "A picture's ")


_KINDS: dict[str, type] = {"size": int, "upright": bool, "crop": float, "aspect": str, "resize": str, "rounded": bool,
                           "mean": tuple, "scale": tuple, "bgr": bool}  # fmt: skip


def fields_of(picture: Picture, known: Picture) -> dict[str, Any]:
    """{field: value} of a picture where it differs from another one."""
    mine, theirs = dataclasses.asdict(picture), dataclasses.asdict(known)
    return {name: value for name, value in mine.items() if value != theirs[name]}


# --- The ways there are ----------------------------------------------------------------

_IMAGENET: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "scale": (58.395, 57.12, 57.375)}

KERAS = Picture(crop=299 / 342, aspect="keep", resize="pillow_bicubic", rounded=True)
SLIM = Picture(crop=0.875)
GOOGLE_2015 = Picture(mean=(128.0,) * 3, scale=(128.0,) * 3)
TORCHVISION = Picture(crop=299 / 342, aspect="keep", resize="pillow_bilinear", rounded=True)
TIMM = Picture(crop=299 / 341, aspect="keep", resize="pillow_bicubic", rounded=True)

# What each is, for people. Names are what `named`, `--picture` and the files know.
WORDS: dict[str, str] = {
    "keras": "the shorter side to 342 for 299 (bicubic), the middle square: what the maker of Keras's published "
    "accuracies describes; he resized with OpenCV's bicubic, whose pixels are near these and not these",
    "slim": "the middle 87.5 % of each side, squashed to a square (TensorFlow 1's bilinear)",
    "google_2015": "the whole picture, squashed to a square (TensorFlow 1's bilinear); (x - 128) / 128",
    "torchvision": "the shorter side to 342 for 299 (bilinear, antialiased), the middle square",
    "timm": "the shorter side to 341 for 299 (bicubic), the middle square",
    "gluon": "as timm, scaled by ImageNet's mean and deviation",
    "pytorch_fid": "the whole picture, squashed (bilinear with half-pixel centres, no antialiasing), not turned",
    "whole": "the whole picture, squashed to a square (TensorFlow 1's bilinear)",
    "pixels": "as whole, the pixels 0..255 as they are",
    "unit": "as whole, scaled to [0, 1]",
    "torch": "as whole, scaled by ImageNet's mean and deviation (keras.applications' mode of this name)",
    "caffe": "as whole, blue first, ImageNet's mean taken off (keras.applications' mode of this name)",
}
NAMED: dict[str, Picture] = {
    "keras": KERAS,
    "slim": SLIM,
    "google_2015": GOOGLE_2015,
    "torchvision": TORCHVISION,
    "timm": TIMM,
    "gluon": dataclasses.replace(TIMM, **_IMAGENET),
    "pytorch_fid": Picture(upright=False, resize="bilinear"),
    "whole": Picture(),
    "pixels": Picture(mean=(0.0,) * 3, scale=(1.0,) * 3),
    "unit": Picture(mean=(0.0,) * 3, scale=(255.0,) * 3),
    "torch": Picture(**_IMAGENET),
    "caffe": Picture(mean=(103.939, 116.779, 123.68), scale=(1.0,) * 3, bgr=True),
}


def named(way: str | Picture | None, own: Picture = KERAS) -> Picture:
    """A way by name ("slim"), by fields of another one ("slim,size=107", "upright=false"), or as it is.

    Args:
        own: what fields alone change, and whose size a name keeps.

    Raises:
        ValueError: For unknown names and fields.
    """
    if way is None or isinstance(way, Picture):
        return own if way is None else way
    first, *rest = [part.strip() for part in way.split(",")]
    if "=" in first:
        picture, rest = own, [first, *rest]
    elif first in NAMED:
        picture = NAMED[first].at(own.size)
    else:
        raise ValueError(
            f"Unknown way of a picture {first!r}{arguments.nearest(first, NAMED)}; expected one of {', '.join(NAMED)}, "
            "and fields as in slim,size=107."
        )
    return dataclasses.replace(picture, **dict(map(_field, rest))) if rest else picture


def _field(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    kind = _KINDS.get(name)
    words = {"true": True, "yes": True, "false": False, "no": False}
    try:
        if kind is None or not equals:
            raise ValueError
        if kind is bool:
            return name, words[value.lower()]
        if kind is tuple:
            numbers = [float(each) for each in value.split(":")]
            first, second, third = numbers * 3 if len(numbers) == 1 else numbers
            return name, (first, second, third)
        if name == "size" and "x" in value:
            return name, tuple(int(each) for each in value.split("x"))
        return name, kind(value)
    except (ValueError, KeyError):
        raise ValueError(f"{text!r} is no field of a picture's way; expected some of {', '.join(_KINDS)}, as in "
                         "size=299, crop=0.875, upright=false or mean=123.7:116.3:103.5.") from None  # fmt: skip


def _text(field: str, value: Any) -> str:
    if isinstance(value, tuple):
        return ("x" if field == "size" else ":").join(f"{each:.17g}" for each in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.17g}" if isinstance(value, float) else str(value)


# A Keras model keeps the names of its layers through saving, cutting and nesting, and nothing else of ours.
INPUT, _MARK = "input_1", "--"


def input_name(picture: Picture, size: int | tuple[int, int] | None) -> str:
    """The name of a Keras input layer of that size that says the way: input_1 for Keras's, input_1--slim, ..."""
    if picture == KERAS.at(size):
        return INPUT
    fields = (part.partition("=") for part in str(picture).split(","))
    words = (name + (f"-{value.replace('-', 'neg').replace(':', '_')}" if value else "") for name, _, value in fields)
    return _MARK.join([INPUT, *words])


def from_input_name(name: str, size: int | tuple[int, int] | None) -> Picture | None:
    """The way that an input layer's name says; None for a name that says none."""
    head, *words = name.split(_MARK)
    if head != INPUT or not words or words[0] not in NAMED:
        return None
    parts = [word.partition("-") for word in words[1:]]
    values = {k: v.replace("neg", "-").replace("_", ":" if _KINDS.get(k) is tuple else "_") for k, _, v in parts}
    try:
        return named(",".join([words[0], *(f"{field}={value}" for field, value in values.items())]), KERAS.at(size))
    except ValueError:
        return None


# --- Cutting ---------------------------------------------------------------------------


def checked(pixels: Any) -> np.ndarray:
    """Pixels as they are, once they are uint8 [height, width, 3]; ValueError says what was found instead."""
    if not isinstance(pixels, np.ndarray) or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        shape, kind = getattr(pixels, "shape", None), getattr(pixels, "dtype", type(pixels).__name__)
        raise ValueError(
            f"The picture is {kind} of shape {shape}; expected a file or pixels 0..255, uint8 [height, width, 3]."
        )
    if not pixels.size:
        raise ValueError(f"The picture has the shape {pixels.shape} and no pixel.")
    return pixels


def _part(height: int, width: int, crop: float) -> tuple[int, int, int, int]:
    """The middle of a picture, cut as `tf.image.central_crop` cuts it."""
    top, left = int((height - height * crop) / 2), int((width - width * crop) / 2)
    return top, left, height - top, width - left


def _middle_part(pixels: np.ndarray, crop: float) -> np.ndarray:
    top, left, bottom, right = _part(pixels.shape[0], pixels.shape[1], crop)
    return pixels[top:bottom, left:right]


def _without_ends(pixels: np.ndarray) -> np.ndarray:
    """A strip of 1 x 60000 pixels would become 342 x 20 million: what lies far from the middle goes first."""
    longest = _STRIP * min(pixels.shape[:2])
    return _middle(pixels, *(min(side, longest) for side in pixels.shape[:2]))


def _middle(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    top, left = (round((old - new) / 2) for old, new in zip(pixels.shape[:2], (height, width), strict=True))
    return pixels[top : top + height, left : left + width]


# --- Scaling ---------------------------------------------------------------------------


def preprocess_input(x: Any, data_format: str | None = None, picture: str | Picture = KERAS) -> Any:
    """Pixels 0..255 to what the network takes ([-1, 1] for slim and Keras weights): (x - mean) / scale.

    Args:
        x: numpy array or tensor of any number type, channels last, or first where `data_format` is "channels_first".

    Returns:
        The same shape and kind (numpy for lists), in the type of x where that is a float, as Keras does, otherwise in
        Keras's `floatx` (float32). x itself is never changed.

    Raises:
        ValueError: For another `data_format`.
    """
    if data_format not in (None, "channels_last", "channels_first"):
        raise ValueError(f'data_format is {data_format!r}; expected "channels_last" or "channels_first".')
    kept = _float_type(x)
    wide = "float32" if kept in ("float16", "bfloat16") else kept  # in halves, a mean and a scale would be rounded
    return _cast(_scaled(x, named(picture), wide, data_format == "channels_first"), kept)


def _scaled(x: Any, picture: Picture, dtype: str, first: bool = False) -> Any:
    mean, scale = (np.asarray(values, dtype) for values in (picture.mean, picture.scale))
    if len(set(picture.mean)) == len(set(picture.scale)) == 1:
        mean, scale = mean[0], scale[0]
    elif first:
        mean, scale = mean.reshape(3, 1, 1), scale.reshape(3, 1, 1)
    x = _cast(x, dtype)
    if picture.bgr:
        x = x[..., ::-1, :, :] if first else x[..., ::-1]
    return (x - mean) / scale


def _float_type(x: Any) -> str:
    """The float type that numbers have; Keras's own, where Keras is in use, for whole numbers and lists."""
    dtype = getattr(x, "dtype", None)
    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    if "float" in name and not (isinstance(x, np.ndarray) and name == "bfloat16"):  # which Keras takes for no float
        return name
    keras = sys.modules.get("keras")
    return "float32" if keras is None else str(keras.config.floatx())


def _cast(x: Any, dtype: str) -> Any:
    if isinstance(x, np.ndarray | np.generic | list | tuple | int | float):
        return np.asarray(x, dtype)
    if type(x).__module__.startswith("tensorflow."):  # as in a tf.data pipeline, whatever Keras's backend is
        import tensorflow as tf

        return tf.cast(x, dtype)
    from keras import ops

    return ops.cast(x, dtype)


OVERSHOOT = 0.5  # of the range, on either side: no resize overshoots farther, and pixels 0..255 lie far beyond


class SuspiciousRange(UserWarning):
    """Values that a network of this range takes without an error, and that look like another range."""


def check_range(
    x: np.ndarray, picture: Picture = KERAS, what: str = "images", *, beyond: float = 0.01, stacklevel: int = 2
) -> None:
    """Refuses scaled images outside the range that a network was trained with, most often pixels never scaled.

    Args:
        beyond: how far outside values may lie, as a part of the range.
        stacklevel: of the warning.

    Raises:
        ValueError: For values beyond the range; warns (`SuspiciousRange`) of values that all lie in 0..1 where the
            range is [-1, 1]: most often pixels divided by 255.
    """
    low, high = (float(end) for end in (picture.limits[0].min(), picture.limits[1].max()))
    slack = beyond * (high - low)
    least, most = float(np.min(x)), float(np.max(x))
    if not (low - slack <= least and most <= high + slack):
        raise ValueError(
            f"The {what} have values from {least:g} to {most:g}; these weights take {low:g} to {high:g}. "
            "Give pixels 0..255 to inception.preprocess_input first."
        )
    if low < 0 <= least < most <= 1:
        warnings.warn(
            f"The {what} have values from {least:g} to {most:g}, none below 0; these weights take {low:g} to {high:g}. "
            "Were pixels divided by 255? inception.preprocess_input scales them.",
            SuspiciousRange,
            stacklevel=stacklevel,
        )


Preprocess = Callable[[np.ndarray], np.ndarray]  # float32 [height, width, 3], 0..255, to a network's input
