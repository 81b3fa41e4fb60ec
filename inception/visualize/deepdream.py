"""DeepDream: a picture changed, a little at every size, towards what end points respond to.

Two recipes are in use, and both are here as data: `weighted_layers` (Keras: weighted mean
squares of several end points, octaves from small to large, the detail lost by shrinking put
back) and `mean_activation` (TensorFlow: the mean of the maps, sizes by powers of 1.3, values
clipped). Large pictures are cut into tiles, whose seams move at every step, so memory
depends on the tile and not on the picture.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inception import brief
from inception.brief import one_line
from inception.networks import network_of
from inception.pictures import ImageLike, Picture
from inception.visualize import model_points, pictures
from inception.visualize.gradient import Gradient, gradient

DEFAULT_LAYERS = ("Mixed_6a", "Mixed_6c")

Sides = tuple[int, int]


@dataclass(frozen=True)
class Step:
    """A step done, for a progress line.

    Attributes:
        octave: its number, from 1.
        octaves: of how many.
        step: its number, from 1.
        steps: of how many.
        size: (height, width) of the octave.
        loss: before the step.
    """

    octave: int
    octaves: int
    step: int
    steps: int
    size: Sides
    loss: float


@dataclass(frozen=True)
class Octave:
    """What happened at one size.

    Attributes:
        size: (height, width).
        losses: before each step and after the last.
    """

    size: Sides
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Dream:
    """A dreamt picture.

    Attributes:
        image: uint8, of the picture's shape.
        octaves: what happened at each size, in their order.
        weights: what the network is called.
        layers: what it dreamt of.
    """

    image: np.ndarray
    octaves: tuple[Octave, ...]
    weights: str = ""
    layers: tuple[str, ...] = ()

    __repr__ = one_line

    def _repr_html_(self) -> str:
        return brief.card(self.title, brief.image(self.image, self.title))

    @property
    def title(self) -> str:
        return f"DeepDream of {', '.join(self.layers)}"

    def picture(self) -> np.ndarray:
        return self.image

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the picture; the ending (.png, .jpg, .webp) says the format."""
        return pictures.save(self.image, path, self.title, self.weights)


@dataclass(frozen=True)
class DreamRecipe:
    """How to dream.

    Attributes:
        layers: {end point: its weight}.
        loss: the maps of one layer, a tensor [n, h, w, c] -> [n].
        least: rows and columns that the loss needs of a map.
        scale: the gradient -> the number it is divided by.
        sizes: the picture's size -> those to work at, in their order.
        steps: at each.
        rate: of a step, in the network's range.
        lost_detail: put back what shrinking the picture lost.
        clip: keep to the range of pixels after each step.
        stop_at: an octave ends when its loss is above it.
    """

    layers: Mapping[str, float]
    loss: Callable[[Any], Any]
    least: int
    scale: Callable[[np.ndarray], float]
    sizes: Callable[[Sides], list[Sides]]
    steps: int
    rate: float
    lost_detail: bool
    clip: bool
    stop_at: float = math.inf


def weighted_layers(
    layers: Mapping[str, float] | Sequence[str] = DEFAULT_LAYERS,
    *,
    octaves: int = 3,
    octave_scale: float = 1.4,
    steps: int = 20,
    rate: float = 0.01,
    stop_at: float = 15.0,
) -> DreamRecipe:
    """The recipe of Keras's example: weighted mean squares, octaves, lost detail put back.

    Squares run away where they are large already, so an octave ends at the loss `stop_at`.
    """
    return DreamRecipe(
        _weights(layers), _mean_square, 5, lambda slopes: max(float(np.abs(slopes).mean()), 1e-6),
        _shrinking(octaves, octave_scale), steps, rate, lost_detail=True, clip=False, stop_at=stop_at,
    )  # fmt: skip


def mean_activation(
    layers: Mapping[str, float] | Sequence[str] = DEFAULT_LAYERS,
    *,
    powers: Sequence[int] = (-2, -1, 0, 1),
    octave_scale: float = 1.3,
    steps: int = 30,
    rate: float = 0.01,
    lost_detail: bool = True,
) -> DreamRecipe:
    """The recipe of TensorFlow's tutorial: mean activations, sizes by powers of a scale, values clipped.

    Theirs goes up to the power 2 with 50 steps at each, which costs three times as much, and
    puts no lost detail back.
    """
    return DreamRecipe(
        _weights(layers), _mean, 1, lambda slopes: float(slopes.std()) + 1e-8,
        _by_powers(powers, octave_scale), steps, rate, lost_detail=lost_detail, clip=True,
    )  # fmt: skip


def _weights(layers: Mapping[str, float] | Sequence[str]) -> dict[str, float]:
    names = [layers] if isinstance(layers, str) else layers
    weights = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names, 1.0)
    if not weights:
        raise ValueError("No layer to dream of is given; expected end points, such as Mixed_6a.")
    return weights


def _mean_square(maps: Any) -> Any:
    """Without two rows at each border, which see the padding."""
    from keras import ops

    return ops.mean(ops.square(maps[:, 2:-2, 2:-2, :]), axis=(1, 2, 3))


def _mean(maps: Any) -> Any:
    from keras import ops

    return ops.mean(maps, axis=(1, 2, 3))


def _shrinking(octaves: int, scale: float) -> Callable[[Sides], list[Sides]]:
    return lambda size: [(int(size[0] / scale**k), int(size[1] / scale**k)) for k in reversed(range(octaves))]


def _by_powers(powers: Sequence[int], scale: float) -> Callable[[Sides], list[Sides]]:
    return lambda size: [(int(size[0] * scale**k), int(size[1] * scale**k)) for k in powers]


# --- The tool --------------------------------------------------------------------------


def deepdream(
    model: Any,
    image: ImageLike,
    recipe: DreamRecipe | None = None,
    *,
    tile: int = 512,
    picture: str | Picture | None = None,
    seed: int = 0,
    progress: Callable[[Step], None] | None = None,
) -> Dream:
    """The dream of a picture, of the picture's shape.

    Args:
        model: whatever `networks.network_of` takes: a path, `Weights`, any functional or
            sequential Keras model, with models inside it or not.
        image: a file, or uint8 [height, width, 3] of any size.
        recipe: `mean_activation(...)`, the default, or `weighted_layers(...)`, or one of your own.
        tile: pixels; larger pictures are differentiated in pieces of half to one and a half of it
            a side. Memory grows with the tile's area.
        picture: its scaling is what the model takes for pixels (see `networks.network_of`).
        seed: of the places where tiles are cut; a picture of one tile has no chance in it.
        progress: called after each step.

    Sizes that would leave a layer's maps empty are left out. Raises ValueError when that
    leaves none, for an unknown layer, and where the gradient is zero everywhere.
    """
    taken, recipe = network_of(model, picture=picture), recipe or mean_activation()
    span = taken.picture
    opened = model_points.open_model(taken.built(input_shape=(None, None, 3)))
    network = _network(opened, recipe)
    original = span.scaled(span.read(image))
    full = original.shape[0], original.shape[1]
    sizes = [size for size in recipe.sizes(full) if _large_enough(network, size, recipe)]
    _check(network, recipe, full, sizes, tile)
    slope, rng = gradient(_loss(network, recipe)), np.random.default_rng(seed)

    now = before = pictures.resize(original, *sizes[0])
    octaves = []
    for number, size in enumerate(sizes, 1):
        now = pictures.resize(now, *size)

        def report(step: int, loss: float, number: int = number, size: Sides = size) -> None:
            if progress:
                progress(Step(number, len(sizes), step, recipe.steps, size, loss))

        now, losses = _climb(slope, now, recipe, span, tile, rng, report)
        octaves.append(Octave(size, tuple(losses)))
        if recipe.lost_detail:
            whole = pictures.resize(original, *size)
            now = now + whole - pictures.resize(before, *size)
            before = whole
    return Dream(span.pixels(pictures.resize(now, *full)), tuple(octaves), taken.name, tuple(recipe.layers))


def _network(opened: model_points.Points, recipe: DreamRecipe) -> Any:
    import keras

    return keras.Model(opened.image, [opened.map_point(name) for name in recipe.layers])


def _loss(network: Any, recipe: DreamRecipe) -> Callable[[Any], Any]:
    def loss(images: Any) -> Any:
        maps = network(images, training=False)
        maps = maps if isinstance(maps, list | tuple) else [maps]
        return sum(weight * recipe.loss(m) for weight, m in zip(recipe.layers.values(), maps, strict=True))

    return loss


def _large_enough(network: Any, size: Sides, recipe: DreamRecipe) -> bool:
    """Whether each layer has maps that the loss can be taken of."""
    if min(size) < 1:
        return False
    try:
        shapes = network.compute_output_shape((1, *size, 3))
    except ValueError:  # a kernel larger than its map
        return False
    shapes = shapes if isinstance(shapes, list) else [shapes]
    return all(min(shape[1:3]) >= recipe.least for shape in shapes)


def _check(network: Any, recipe: DreamRecipe, full: Sides, sizes: list[Sides], tile: int) -> None:
    layers = ", ".join(recipe.layers)
    if not sizes:
        raise ValueError(
            f"A picture of {full[1]} x {full[0]} pixels is too small to dream of {layers}; "
            "give a larger one, or a lower end point."
        )
    if max(max(size) for size in sizes) > tile and not _large_enough(network, (tile // 2, tile // 2), recipe):
        raise ValueError(f"Tiles of {tile} pixels are too small to dream of {layers}; give larger ones.")


def _climb(
    slope: Gradient,
    image: np.ndarray,
    recipe: DreamRecipe,
    span: Picture,
    tile: int,
    rng: np.random.Generator,
    report: Callable[[int, float], None],
) -> tuple[np.ndarray, list[float]]:
    """One octave: the image after its steps, and the losses before each and after the last."""
    losses: list[float] = []
    for step in range(1, recipe.steps + 1):
        loss, slopes = tiled(slope, image, tile, rng)
        losses.append(loss)
        if not slopes.any() or not np.isfinite(loss):
            raise ValueError(
                f"The gradient of {', '.join(recipe.layers)} is zero everywhere in this picture, so there is nothing "
                "to dream of; choose other end points, or check that the model has its weights."
            )
        report(step, loss)
        if loss > recipe.stop_at:
            return image, losses
        image = image + np.float32(recipe.rate / recipe.scale(slopes)) * slopes
        image = np.clip(image, *span.limits) if recipe.clip else image
    losses.append(tiled(slope, image, tile, rng)[0])
    return image, losses


def tiled(slope: Gradient, image: np.ndarray, tile: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """The loss and its gradient for an image [h, w, 3], piece by piece; the pieces are cut anew at each call."""
    rows, columns = (_cuts(side, tile, rng) for side in image.shape[:2])
    slopes, total = np.empty_like(image), 0.0
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            losses, piece = slope(image[None, top:bottom, left:right])
            share = (bottom - top) * (right - left) / (image.shape[0] * image.shape[1])
            total += share * float(losses[0])
            slopes[top:bottom, left:right] = share * piece[0]
    return total, slopes


def _cuts(side: int, tile: int, rng: np.random.Generator) -> list[int]:
    """Where to cut a side: a random first cut, then every tile; no piece under half a tile or over one and a half."""
    if side <= tile:
        return [0, side]
    cuts = list(range(int(rng.integers(tile // 2, tile + 1)), side, tile))
    if side - cuts[-1] < tile // 2:
        cuts.pop()
    return [0, *cuts, side]
