"""What a network makes of single pictures: predictions, the strongest channels' maps, Grad-CAM of the best classes.

Numbers of maps are kept as bytes, 255 the greatest of a channel, as text in base 64: a page draws them.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception import inference
from inception.microscope import html, sprites
from inception.microscope.pieces import LOOKS, Pieces, address, key_of, write
from inception.microscope.survey import Move
from inception.networks import Network
from inception.pictures import ImageLike
from inception.visualize import pictures
from inception.visualize.gradcam import of_classes

CLASSES, CHANNELS = 5, 32
_WIDE, _SIDE, _THUMB = 720, 48, 150  # pixels of the picture, most places of a map, pixels of the small copy


@dataclass(frozen=True, eq=False)
class Looked:
    """A picture of the user's, once it is read: what it and its page are called, and its pixels."""

    name: str
    page: str
    pixels: np.ndarray


def read(image: ImageLike, network: Network) -> Looked:
    """A picture to look at. ValueError for one that cannot be read."""
    pixels = network.picture.read(image)
    name = os.path.basename(os.fspath(image)) if isinstance(image, str | os.PathLike) else "picture"
    plain = re.sub(r"[^A-Za-z0-9]+", "-", os.path.splitext(name)[0]).strip("-")[:40] or "picture"
    return Looked(name, f"{plain}-{hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()[:8]}", pixels)


def look(
    pieces: Pieces,
    sides: Sequence[tuple[Network, str]],
    looked: Looked,
    points: Sequence[str],
    channels: Mapping[str, Sequence[int]],
    move: Move,
) -> dict[str, Any]:
    """All that a page about a picture shows; a part an end point is kept by itself.

    Args:
        sides: networks of one table, each with its digest; the first is the site's.
        points: end points whose maps are shown.
        channels: channels of them that are shown in any case.
    """
    height, width = looked.pixels.shape[:2]
    part = min(1.0, _WIDE / max(height, width))
    shown = pictures.resize(looked.pixels, max(round(height * part), 1), max(round(width * part), 1))
    small = pictures.resize(looked.pixels, max(round(height * _THUMB / width), 1), _THUMB)
    for end, picture in (("", shown), ("-small", small)):
        write(pieces.site / LOOKS / f"{looked.page}{end}.webp", sprites.encoded(picture, 88))
    found = _Found(pieces, sides, looked, channels)
    said: dict[str, Any] = {"page": looked.page, "name": looked.name, "size": list(shown.shape[:2])}
    window = sides[0][0].picture.window(height, width)
    said["window"] = [n / of for n, of in zip(window, (height, width) * 2, strict=True)]
    said["sides"] = [{"name": html.title(network.name), "points": {}} for network, _ in sides]
    for i, _ in enumerate(sides):
        said["sides"][i]["classes"] = found.classes(i)
    for number, point in enumerate(points):
        for i, piece in enumerate(found.point(point)):
            said["sides"][i]["points"][point] = piece
        move(number + 1, len(points), f"looking at {looked.name}")
    return said


class _Found:
    """The parts of a page, computed when they are not there."""

    def __init__(
        self,
        pieces: Pieces,
        sides: Sequence[tuple[Network, str]],
        looked: Looked,
        channels: Mapping[str, Sequence[int]],
    ) -> None:
        self._pieces, self._sides, self._looked, self._channels = pieces, sides, looked, channels
        self._built: dict[int, Network] = {}
        self._classes: dict[int, list[list[Any]]] = {}

    def classes(self, side: int) -> list[list[Any]]:
        """[number, name, score] of the best; none of a network without a classifier."""
        network, weights = self._sides[side]
        if network.labels is None:
            return []
        name, key = f"look-{self._looked.page}-classes-{side}", key_of("classes", weights, CLASSES)
        kept = self._pieces.kept(name, key)
        if kept is None:
            scores = self._run(side, ("Predictions",))["Predictions"]
            best = np.argsort(-scores, kind="stable")[:CLASSES]
            kept = self._pieces.keep(
                name, key, {"best": [[int(c), network.labels[c].name, round(float(scores[c]), 5)] for c in best]}
            )
        return list(kept["best"])

    def point(self, point: str) -> list[dict[str, Any]]:
        """What each network shows at an end point: the same channels of all, so that they can be compared."""
        digests = [weights for _, weights in self._sides]
        key = key_of("look", digests, CHANNELS, CLASSES, _SIDE, list(self._channels.get(point, ())))
        name = f"look-{self._looked.page}-{address(point)}"
        kept = self._pieces.kept(name, key)
        if kept is None:
            maps = [self._run(side, (point,))[point] for side in range(len(self._sides))]
            share = CHANNELS // len(maps)
            wanted = dict.fromkeys(self._channels.get(point, ()))
            for each in maps:
                wanted |= dict.fromkeys(np.argsort(-each.mean((0, 1)), kind="stable")[:share].tolist())
            parts = [_maps(each, sorted(wanted)) | self._cams(i, point, each) for i, each in enumerate(maps)]
            kept = self._pieces.keep(name, key, {"sides": parts})
        return list(kept["sides"])

    def _run(self, side: int, end_points: Sequence[str]) -> dict[str, np.ndarray]:
        network = self._sides[side][0]
        run = inference.compile_inference(network, end_points=end_points, image_size=network.picture.sides)
        return {name: values[0] for name, values in run.prepared(network.input(self._looked.pixels)[None]).items()}

    def _cams(self, side: int, point: str, maps: np.ndarray) -> dict[str, Any]:
        """Grad-CAM of the best classes at an end point, where a map is small enough to be differentiated quickly."""
        network = self._sides[side][0]
        if network.labels is None or max(maps.shape[:2]) > _SIDE:
            return {"cams": []}
        if side not in self._built:
            self._built[side] = dataclasses.replace(network, model=network.built())
        numbers = [number for number, _, _ in self.classes(side)]
        try:
            found = of_classes(self._built[side], self._looked.pixels, numbers, point)
        except ValueError:  # a gradient that is zero everywhere, or not finite
            return {"cams": []}
        cams = []
        for cam in found:
            top = float(cam.maps.max())
            cams.append({"class": cam.label, "map": _bytes(cam.maps, top) if top > 0 else ""})
        return {"cams": cams}


def _maps(maps: np.ndarray, wanted: Sequence[int]) -> dict[str, Any]:
    """Channels of a map [h, w, channels], reduced to `_SIDE` places where they are more, each place their greatest."""
    step = -(-max(maps.shape[:2]) // _SIDE)
    planes = maps[:, :, list(wanted)]
    height, width = planes.shape[:2]
    if step > 1:
        planes = np.pad(planes, [(0, -height % step), (0, -width % step), (0, 0)], mode="edge")
        planes = planes.reshape(planes.shape[0] // step, step, planes.shape[1] // step, step, -1).max((1, 3))
    tops, means = planes.max((0, 1)), maps[:, :, list(wanted)].mean((0, 1))
    text = "".join(_bytes(planes[:, :, i], float(top)) for i, top in enumerate(tops))
    return {
        "shape": list(maps.shape),
        "side": list(planes.shape[:2]),
        "channels": [int(c) for c in wanted],
        "tops": [float(f"{v:.5g}") for v in tops],
        "means": [float(f"{v:.5g}") for v in means],
        "maps": text,
    }


def _bytes(plane: np.ndarray, top: float) -> str:
    """A plane as text, 255 its greatest value; values below zero are 0."""
    scaled = np.round(np.clip(plane / (top or 1), 0, 1) * 255).astype(np.uint8)
    size = -(-scaled.size // 3) * 3  # planes follow each other without padding between
    return base64.b64encode(np.pad(scaled.ravel(), (0, size - scaled.size)).tobytes()).decode("ascii")
