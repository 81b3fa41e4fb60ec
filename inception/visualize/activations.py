"""What the channels of end points see in a picture."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from inception import brief
from inception.arguments import renamed
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
        photo: the part of the picture that the network sees, in its own proportions: uint8 [h, w, 3].
        weights: what the network is called.
    """

    maps: dict[str, np.ndarray]
    dead: dict[str, np.ndarray]
    photo: np.ndarray
    weights: str = ""

    __repr__ = one_line

    def _repr_html_(self) -> str:
        return brief.card(self.title, brief.image(self.picture(32, 8), self.title))

    @property
    def title(self) -> str:
        return f"Activations of {', '.join(self.maps)}"

    def order(self, name: str) -> np.ndarray:
        """The channels of a point by their mean, the strongest first: [channels]."""
        return np.argsort(-self.maps[name].mean(axis=(0, 1)), kind="stable")

    def note(self, name: str, channels: int) -> str:
        """A line on what `tiles` shows of a point."""
        height, width, depth = self.maps[name].shape
        which = f"all {depth} channels" if channels >= depth else f"the strongest {channels} of {depth} channels"
        dead = int(self.dead[name].sum())
        silent = "none is dead for this picture" if not dead else f"{dead} of {depth} are dead for this picture"
        return f"{height} x {width}, {which}; {silent}"

    def picture(self, channels: int = 64, columns: int = 16, cell: int = 56) -> np.ndarray:
        """The picture, and beside it so many channels of each point at most: uint8 [h, w, 3].

        The strongest come first (`order`), with their numbers, each on its own scale. `cell` is the longer side of a
        channel in pixels; its proportions are the picture's.
        """
        sections = [
            Section(name, self.note(name, channels), self.tiles(name, channels, cell), self.photo) for name in self.maps
        ]
        return pictures.sheet(sections, columns, pictures.fitted(self.photo.shape, cell), gap=2)

    def tiles(self, name: str, channels: int = 64, cell: int = 56) -> list[Tile]:
        """So many channels of one point at most as tiles, the strongest first; dead ones are empty."""
        maps, dead, sides = self.maps[name], self.dead[name], pictures.fitted(self.photo.shape, cell)
        best = self.order(name)[:channels]
        return [Tile(None if dead[c] else _tile(maps[:, :, c], *sides), str(c)) for c in best]

    def save(self, path: str | os.PathLike[str], channels: int = 64, columns: int = 16, cell: int = 56) -> Path:
        """Writes the grid; the ending (.png, .jpg, .webp) says the format."""
        return pictures.save(self.picture(channels, columns, cell), path, self.title, self.weights)


def _tile(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """One channel in colours: its least value dark, its 99.5th percentile light; a small map's places stay plain."""
    low, high = float(plane.min()), float(np.percentile(plane, 99.5))
    high = high if high > low else float(plane.max())
    scaled = np.clip((plane - low) / ((high - low) or 1), 0, 1) ** _GAMMA
    if plane.shape[0] < height and plane.shape[1] < width:
        rows, columns = (np.arange(side) * n // side for side, n in zip((height, width), plane.shape, strict=True))
        scaled = scaled[rows][:, columns]
    return pictures.colour(scaled)


@renamed(points="end_points")
def activations(
    model: Any,
    image: ImageLike,
    end_points: Sequence[str] | None = None,
    picture: str | Picture | None = None,
    size: int | tuple[int, int] | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
) -> Activations:
    """The maps that a network computes for a picture at named end points.

    Args:
        model: whatever `networks.network_of` takes: a path, `Weights`, any functional or
            sequential Keras model, with models inside it or not.
        image: a file, or uint8 [height, width, 3].
        end_points: slim's end points or names of layers (`model_points.open_model(model).maps`
            lists them). None takes some of an InceptionV3's, or the last maps of other models.
        picture, size, preprocess: see `networks.network_of`; models of other families need one of them.

    Raises:
        ValueError: for an unknown point, one without maps, or a picture that cannot be read.
    """
    network = network_of(model, picture=picture, size=size, preprocess=preprocess)
    opened = model_points.open_model(network.built())
    network = taking(opened, network)
    if end_points is None:
        sides = network.picture.sides
        some = [name for name in DEFAULT_POINTS if name in opened.maps]
        end_points = some or [model_points.default_point(opened, sides)]
    tensors = {name: opened.map_point(name) for name in end_points}
    if not tensors:
        raise ValueError("No end point is asked for; give at least one name.")
    photo = network.picture.read(image)
    top, left, bottom, right = network.picture.window(*photo.shape[:2])
    arrays = model_points.values(opened, tensors, network.input(photo)[None])
    maps = {name: arrays[name][0] for name in end_points}
    dead = {name: ~array.any(axis=(0, 1)) for name, array in maps.items()}
    return Activations(maps, dead, photo[top:bottom, left:right], network.name)


def taking(opened: model_points.Points, network: Network) -> Network:
    """The network with pictures of the size that its opened model takes. ValueError where these are not RGB."""
    if opened.image.shape[-1] != 3:
        raise ValueError(f"The model takes images of {opened.image.shape[-1]} channels; these tools show RGB pictures.")
    height, width = network.picture.sides
    own = opened.size[0] or height, opened.size[1] or width
    return dataclasses.replace(network, picture=network.picture.at(own))
