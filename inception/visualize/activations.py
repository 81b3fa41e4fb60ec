"""What the channels of end points see in a picture."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inception.brief import one_line
from inception.networks import Network, network_of
from inception.pictures import ImageLike, Picture, Preprocess
from inception.visualize import model_points, pictures
from inception.visualize.pictures import Section, Tile

DEFAULT_POINTS = ("Conv2d_2b_3x3", "Mixed_5b", "Mixed_6a", "Mixed_6e", "Mixed_7c")
_GAMMA = 0.7  # brightens the small values, which most are


@dataclass(frozen=True)
class Activations:
    """What the channels of end points show of one picture.

    Attributes:
        maps: {point: float32 [h, w, channels]}.
        dead: {point: bool [channels]}; a channel is dead for a picture when it is zero everywhere.
    """

    maps: dict[str, np.ndarray]
    dead: dict[str, np.ndarray]

    __repr__ = one_line

    def picture(self, channels: int = 64, columns: int = 16, cell: int = 56) -> np.ndarray:
        """The grid: up to so many channels of each point, in their order, each on its own scale. uint8 [h, w, 3]."""
        sections = []
        for name, maps in self.maps.items():
            height, width, depth = maps.shape
            shown = min(channels, depth)
            which = f"all {depth} channels" if shown == depth else f"the first {shown} of {depth} channels"
            note = f"{height} x {width}, {which}; {int(self.dead[name].sum())} of {depth} are dead for this picture"
            sections.append(Section(name, note, self.tiles(name, channels, cell)))
        return pictures.sheet(sections, columns, cell, gap=2)

    def tiles(self, name: str, channels: int = 64, cell: int = 56) -> list[Tile]:
        """Up to so many channels of one point as tiles; dead ones are empty."""
        maps, dead = self.maps[name], self.dead[name]
        return [Tile(None if dead[c] else _tile(maps[:, :, c], cell)) for c in range(min(channels, maps.shape[2]))]

    def save(self, path: str | os.PathLike[str], channels: int = 64, columns: int = 16, cell: int = 56) -> Path:
        """Writes the grid; the ending (.png, .jpg, .webp) says the format."""
        return pictures.save(self.picture(channels, columns, cell), path)


def _tile(plane: np.ndarray, cell: int) -> np.ndarray:
    """One channel in colours: its least value dark, its 99.5th percentile light; small maps stay squares."""
    low, high = float(plane.min()), float(np.percentile(plane, 99.5))
    high = high if high > low else float(plane.max())
    scaled = np.clip((plane - low) / ((high - low) or 1), 0, 1) ** _GAMMA
    if max(plane.shape) < cell:
        scaled = scaled[np.arange(cell) * plane.shape[0] // cell][:, np.arange(cell) * plane.shape[1] // cell]
    return pictures.colour(scaled)


def activations(
    model: Any,
    image: ImageLike,
    points: Sequence[str] | None = None,
    picture: str | Picture | None = None,
    size: int | tuple[int, int] | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
) -> Activations:
    """The maps that a network computes for a picture at named end points.

    Args:
        model: whatever `networks.network_of` takes: a path, `Weights`, any functional or
            sequential Keras model, with models inside it or not.
        image: a file, or uint8 [height, width, 3].
        points: slim's end points or names of layers (`model_points.open_model(model).maps`
            lists them). None takes some of an InceptionV3's, or the last maps of other models.
        picture, size, preprocess: see `networks.network_of`; models of other families need one of them.

    Raises:
        ValueError: for an unknown point, one without maps, or a picture that cannot be read.
    """
    network = network_of(model, picture=picture, size=size, preprocess=preprocess)
    opened = model_points.open_model(network.built())
    if points is None:
        points = [name for name in DEFAULT_POINTS if name in opened.maps] or [model_points.default_point(opened)]
    tensors = {name: opened.map_point(name) for name in points}
    if not tensors:
        raise ValueError("No end point is asked for; give at least one name.")
    arrays = model_points.values(opened, tensors, network_input(opened, network, image)[None])
    maps = {name: arrays[name][0] for name in points}
    return Activations(maps, {name: ~array.any(axis=(0, 1)) for name, array in maps.items()})


def network_input(opened: model_points.Points, network: Network, image: ImageLike) -> np.ndarray:
    """A picture as an opened model takes it: float32 [height, width, 3]."""
    if opened.image.shape[-1] != 3:
        raise ValueError(f"The model takes images of {opened.image.shape[-1]} channels; these tools show RGB pictures.")
    height, width = network.picture.sides
    own = opened.size[0] or height, opened.size[1] or width
    return dataclasses.replace(network, picture=network.picture.at(own)).input(image)
