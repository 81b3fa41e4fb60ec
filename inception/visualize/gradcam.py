"""Where in a picture the evidence for a class lies: Grad-CAM (Selvaraju et al., arXiv 1610.02391).

The maps of an end point, each weighted with the mean slope of the class's logit over it.
The logit is what the classifier computes before its softmax: a softmax that is sure has
no slope left. The model is cut at the end point and its upper part is differentiated, so
any end point will do, whichever model within the model it lies in.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from inception import architecture, brief
from inception.arguments import renamed
from inception.brief import one_line
from inception.files.errors import safe
from inception.inference import compile_inference
from inception.labels import Label
from inception.networks import Network, network_of
from inception.pictures import ImageLike, Picture, Preprocess
from inception.variants import SCOPE
from inception.visualize import model_points, pictures
from inception.visualize.activations import taking
from inception.visualize.gradient import gradient
from inception.visualize.pictures import FAINT, HEAT, INK, PAPER

LAST = "Mixed_7c"  # the end point whose mean the classifier takes
_LONGEST = 60  # characters of a class name
_STRENGTH = 0.65  # how much of a colour at the heat 1 covers the picture


@dataclass(frozen=True)
class GradCam:
    """Where the network looks for a class.

    Attributes:
        heat: float32 [height, width] in [0, 1], of the picture's shape; 1 is where most speaks for the class.
        maps: the same as it was computed, at the end point's size, not scaled.
        photo: uint8 [height, width, 3].
        label: the class's number.
        outputs: the model's output [classes].
        point: the end point.
        weights: what the network is called.

    Where nothing at the end point speaks for the class, heat and maps are zero everywhere, and `empty` says so.
    """

    heat: np.ndarray
    maps: np.ndarray
    photo: np.ndarray
    label: int
    outputs: np.ndarray
    point: str
    weights: str = ""

    __repr__ = one_line

    def _repr_html_(self) -> str:
        return brief.card(self.title, brief.image(self.picture(), self.title))

    @property
    def title(self) -> str:
        return f"Grad-CAM of class {self.label} at {self.point}"

    @property
    def empty(self) -> bool:
        """Whether nothing at the end point speaks for the class: all evidence is against it, or there is none."""
        return not self.maps.any()

    def overlay(self, strength: float = _STRENGTH) -> np.ndarray:
        """The picture with the heat over it: uint8, of the picture's shape."""
        grey = self.photo.mean(axis=2, keepdims=True)
        return _over(0.55 * self.photo + 0.45 * grey, self.heat, strength)

    def picture(self, labels: Sequence[Label] | None = None, top: int = 3) -> np.ndarray:
        """Picture and overlay side by side, with a legend and the best classes below. uint8 [h, w, 3]."""
        return _page(self, labels, top)

    def save(self, path: str | os.PathLike[str], labels: Sequence[Label] | None = None, top: int = 3) -> Path:
        """Writes that picture; the ending (.png, .jpg, .webp) says the format."""
        return pictures.save(self.picture(labels, top), path, self.title, self.weights)


@renamed(point="end_point")
def gradcam(
    model: Any,
    image: ImageLike,
    label: int | None = None,
    end_point: str | None = None,
    picture: str | Picture | None = None,
    size: int | tuple[int, int] | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
) -> GradCam:
    """The heat map of one class.

    Args:
        model: whatever `networks.network_of` takes and has classes; of Keras models a classifier,
            [n, classes], with softmax or sigmoid or neither.
        image: a file, or uint8 [height, width, 3].
        label: the class's number; None is the predicted one.
        end_point: slim's, or a layer with maps; None is `default_point`'s.
        picture, size, preprocess: see `networks.network_of`; models of other families need one of them.
            What a way of a picture cuts off the network does not see: there the heat is zero.

    Raises:
        ValueError: for a model without classes, an unknown point or class, a point that the
            class does not depend on, a gradient that is zero everywhere, and numbers that are not finite.
    """
    return of_classes(model, image, None if label is None else [label], end_point, picture, size, preprocess)[0]


def of_classes(
    model: Any,
    image: ImageLike,
    labels: Sequence[int] | None = None,
    end_point: str | None = None,
    picture: str | Picture | None = None,
    size: int | tuple[int, int] | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
) -> list[GradCam]:
    """`gradcam` for several classes of one picture, in one pass."""
    network = network_of(model, picture=picture, size=size, preprocess=preprocess)
    name = end_point or default_point(network)
    if network.model is None and network.labels is not None and name == LAST:
        return _at_the_last_maps(network, network.picture.read(image), labels)
    import keras

    model = network.built()
    opened = model_points.open_model(model)
    classes = _classes(model, opened)
    tensor = opened.map_point(name)
    network = taking(opened, network)
    photo = network.picture.read(image)
    inputs = network.input(photo)[None]
    window = network.picture.window(*photo.shape[:2])
    arrays = model_points.values(opened, {"maps": tensor, "outputs": opened.outputs[0]}, inputs)
    outputs = arrays["outputs"][0]
    wanted = _wanted(outputs, labels, f"the model {model.name}")
    head = _head(opened, tensor, name)

    def logits(maps: Any, images: Any, of: Any) -> Any:
        every = head([maps, images], training=False)
        return keras.ops.sum(every * keras.ops.one_hot(of, classes), axis=1)

    maps, images = (np.repeat(array, len(wanted), axis=0) for array in (arrays["maps"], inputs))
    _, slopes = gradient(logits, compiled=False)(maps, images, wanted)
    return [
        _heat(m, s, photo, window, int(c), outputs, name, network.name)
        for m, s, c in zip(maps, slopes, wanted, strict=True)
    ]


def default_point(network: Network) -> str:
    """The end point where none is said: the last one whose maps, of pictures of the network's size, show a place.

    Mixed_7c at 299 pixels; Mixed_6e where pictures are small, for a map of 2 x 2 says nothing of where.
    """
    if network.model is None:
        shapes = architecture.end_point_shapes(network.inception.variant.table(), *network.picture.sides)
        return model_points.last_wide(shapes)
    opened = model_points.open_model(network.model)
    return model_points.default_point(opened, taking(opened, network).picture.sides)


def _at_the_last_maps(network: Network, photo: np.ndarray, labels: Sequence[int] | None) -> list[GradCam]:
    """From the inference engine: a logit is a weighted mean of these maps, so its slope is the classifier's kernel."""
    window = network.picture.window(*photo.shape[:2])
    run = compile_inference(network, end_points=(LAST, "Predictions"), image_size=network.picture.sides)
    maps, outputs = (array[0] for array in run.prepared(network.input(photo)[None]).values())
    kernel = network.inception.arrays[f"{SCOPE}/Logits/Conv2d_1c_1x1/weights"][0, 0] / np.prod(maps.shape[:2])
    wanted = _wanted(outputs, labels, network.name)
    slopes = (np.broadcast_to(kernel[:, c], maps.shape) for c in wanted)
    return [
        _heat(maps, s, photo, window, int(c), outputs, LAST, network.name) for s, c in zip(slopes, wanted, strict=True)
    ]


def _wanted(outputs: np.ndarray, labels: Sequence[int] | None, name: str) -> np.ndarray:
    """The classes asked for, or the best one. ValueError for one that is not there."""
    wanted = np.asarray([int(outputs.argmax())] if labels is None else labels, np.int64)
    if not wanted.size or wanted.min() < 0 or wanted.max() >= len(outputs):
        raise ValueError(f"The class is {wanted.tolist()}; {name} has the classes 0 to {len(outputs) - 1}.")
    return wanted


def _classes(model: Any, opened: model_points.Points) -> int:
    shapes = [tuple(tensor.shape) for tensor in opened.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2 or not shapes[0][1]:
        raise ValueError(
            f"The model {model.name} gives {', '.join(map(str, shapes))}; Grad-CAM needs one output of class scores, "
            "[n, classes]: a model with its classifier."
        )
    return int(shapes[0][1])


def _head(opened: model_points.Points, tensor: Any, name: str) -> Any:
    """The model from the maps on. It takes the image too, for what goes around the maps."""
    import keras

    return keras.Model([tensor, opened.image], opened.before_activation(opened.outputs[0]))


def _heat(
    maps: np.ndarray,
    slopes: np.ndarray,
    photo: np.ndarray,
    window: tuple[int, int, int, int],
    label: int,
    outputs: np.ndarray,
    name: str,
    weights: str,
) -> GradCam:
    for what, values in (("The output", outputs), ("The map", maps), ("The gradient", slopes)):
        if not np.isfinite(values).all():
            raise ValueError(f"{what} for class {label} at {name} is not finite; check the model's weights.")
    if not slopes.any():
        raise ValueError(
            f"The gradient of class {label} at {name} is zero everywhere, so there is nothing to show; "
            "choose an end point that the class is computed from, or check that the model has its weights."
        )
    evidence = np.maximum((maps * slopes.mean(axis=(0, 1))).sum(axis=2), 0)
    top, left, bottom, right = window
    heat = np.zeros(photo.shape[:2], np.float32)
    heat[top:bottom, left:right] = pictures.resize(evidence / (evidence.max() or 1), bottom - top, right - left)
    return GradCam(np.clip(heat, 0, 1), evidence, photo, label, outputs, name, weights)


def _over(picture: np.ndarray, heat: np.ndarray, strength: float = _STRENGTH) -> np.ndarray:
    """Heat in colours over a picture, the more the hotter: uint8 [h, w, 3]."""
    part = (strength * heat**0.8)[:, :, None]
    return np.round(picture * (1 - part) + pictures.colour(heat, HEAT) * part).astype(np.uint8)


# --- The page --------------------------------------------------------------------------

_WIDTH, _GAP, _BAR = 420, 14, 12


def _page(cam: GradCam, labels: Sequence[Label] | None, top: int) -> np.ndarray:
    height, width = cam.photo.shape[:2]
    wide = min(_WIDTH, max(round(_WIDTH * width / height), 60)) if height > width else _WIDTH
    tall = max(round(wide * height / width), 1)
    best = np.argsort(-cam.outputs, kind="stable")[:top]
    rows = [*best, *([cam.label] if cam.label not in best else [])]
    page = Image.new("RGB", (3 * _GAP + 2 * max(wide, 300), _GAP + tall + 58 + 22 * len(rows) + _GAP), PAPER)
    pen = ImageDraw.Draw(page)
    right = 2 * _GAP + max(wide, 300)
    for picture, x in ((cam.photo, _GAP), (cam.overlay(), right)):
        page.paste(Image.fromarray(picture).resize((wide, tall), Image.Resampling.LANCZOS), (x, _GAP))
    below = _GAP + tall + 10
    point = safe(cam.point, _LONGEST)
    if cam.empty:
        pen.text((right, below), f"Nothing at {point} speaks for this class:", INK, pictures.font(14))
        pen.text((right, below + 23), "its map is zero everywhere. Try another end point.", FAINT, pictures.font(12))
    else:
        _legend(page, pen, right, below, max(wide, 300))
    pen.text((_GAP, below), f"Grad-CAM of {_name(cam.label, labels)}", INK, pictures.font(17))
    where = f"at {point}, {' x '.join(map(str, cam.maps.shape))}"
    pen.text((_GAP, below + 23), where, FAINT, pictures.font(12))
    for i, number in enumerate(rows):
        y = below + 52 + 22 * i
        strong = INK if number == cam.label else FAINT
        pen.text((_GAP, y), f"{cam.outputs[number]:.4g}".rjust(8), strong, pictures.font(14))
        pen.text((_GAP + 74, y), _name(int(number), labels), strong, pictures.font(14))
    return np.asarray(page)


def _legend(page: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, width: int) -> None:
    scale = np.broadcast_to(np.linspace(0, 1, width), (_BAR, width))
    page.paste(Image.fromarray(_over(np.full((_BAR, width, 3), 235.0), scale)), (x, y + 4))
    pen.text((x, y + 20), "0, nothing", FAINT, pictures.font(12))
    words = "most evidence, 1"
    pen.text((x + width - pen.textlength(words, pictures.font(12)), y + 20), words, FAINT, pictures.font(12))


def _name(number: int, labels: Sequence[Label] | None) -> str:
    if labels is None or labels[number].name == str(number):
        return f"class {number}"
    return f"{safe(labels[number].name, _LONGEST)} ({number})"
