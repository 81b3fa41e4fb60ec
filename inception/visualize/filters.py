"""The pictures that most excite channels: gradient ascent from noise.

The ascent climbs the value before the ReLU, so that a channel which is silent at the start
still has a slope (problem of keras-team/keras#18334). A channel whose value stays below zero
after several starts is reported as dead, not drawn.

What is done to the picture before the network sees it, and to the gradient before it is
added, are small functions put one after the other: `jitter`, `blur`, `spectrum`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inception import brief
from inception.arguments import chosen, renamed
from inception.brief import one_line
from inception.networks import network_of
from inception.pictures import ImageLike, Picture
from inception.visualize import model_points, pictures, waves
from inception.visualize.gradient import Gradient, gradient
from inception.visualize.pictures import Section, Tile

Smoothing = Callable[[np.ndarray], np.ndarray]  # [n, h, w, 3] -> the same
Progress = Callable[[int, int], None]  # (channels done, channels)

BATCH = 8
_NOISE = 0.1  # of the range, its standard deviation in the first picture
_CONTRAST = 0.22  # and the greatest that a picture may have: colours stay short of their ends
_TINT = 0.25  # how fast the mean colour grows, beside the largest shapes


@dataclass(frozen=True)
class Filters:
    """What excites channels of one point.

    Attributes:
        point: the end point or layer.
        channels: their numbers [n].
        images: uint8 [n, size, size, 3].
        losses: what is climbed (the `objective`) before the ReLU, [n, steps + 1], from the first noise to the end.
        dead: bool [n], the channels that never came above zero anywhere (their images are their last attempts).
        weights: what the network is called.
        flat: bool [n], those of them that had no gradient at all.
    """

    point: str
    channels: np.ndarray
    images: np.ndarray
    losses: np.ndarray
    dead: np.ndarray
    weights: str = ""
    flat: np.ndarray = field(default_factory=lambda: np.zeros(0, bool), repr=False)

    __repr__ = one_line

    def _repr_html_(self) -> str:
        return brief.card(self.title, brief.image(self.picture(), self.title))

    @property
    def title(self) -> str:
        return f"Filters of {self.point}"

    def section(self) -> Section:
        """The grid's part of a sheet; dead channels are empty cells that say so."""
        count = f"{int(self.dead.sum())} of {len(self.channels)} are dead" if self.dead.any() else "none is dead"
        tiles = [
            Tile(None if dead else image, str(channel))
            for channel, image, dead in zip(self.channels, self.images, self.dead, strict=True)
        ]
        return Section(self.point, f"what excites channels {_span(self.channels)}; {count}", tiles)

    def picture(self, columns: int = 6, cell: int | None = None) -> np.ndarray:
        """The grid of this point: uint8 [h, w, 3]."""
        return pictures.sheet([self.section()], columns, cell or self.images.shape[1])

    def save(self, path: str | os.PathLike[str], columns: int = 6, cell: int | None = None) -> Path:
        """Writes the grid; the ending (.png, .jpg, .webp) says the format."""
        return pictures.save(self.picture(columns, cell), path, self.title, self.weights)


def _span(channels: np.ndarray) -> str:
    whole = len(channels) > 2 and np.array_equal(channels, np.arange(channels[0], channels[-1] + 1))
    return f"{channels[0]} to {channels[-1]}" if whole else ", ".join(map(str, channels))


# --- Smoothings ------------------------------------------------------------------------


def spectrum(power: float = 1.0) -> Smoothing:
    """Divides the gradient's frequencies by f ** power: large shapes grow as fast as fine ones."""

    def smooth(slopes: np.ndarray) -> np.ndarray:
        height, width = slopes.shape[1:3]
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
        weight = 1 / np.maximum(frequency, 2 / max(height, width)) ** power
        weight[0, 0] *= _TINT
        waves = np.fft.rfft2(slopes, axes=(1, 2)) * weight[:, :, None]
        return np.fft.irfft2(waves, s=(height, width), axes=(1, 2)).astype(np.float32)

    return smooth


def blur(sigma: float) -> Smoothing:
    """A Gaussian of `sigma` pixels over each picture, its borders joined."""

    def smooth(values: np.ndarray) -> np.ndarray:
        height, width = values.shape[1:3]
        square = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width)[None] ** 2
        waves = np.fft.rfft2(values, axes=(1, 2)) * np.exp(-2 * (np.pi * sigma) ** 2 * square)[:, :, None]
        return np.fft.irfft2(waves, s=(height, width), axes=(1, 2)).astype(np.float32)

    return smooth


def jitter(slope: Gradient, pixels: int, rng: np.random.Generator) -> Gradient:
    """The gradient of a picture moved by up to so many pixels, moved back: no channel can count on a place."""
    if not pixels:
        return slope

    def moved(images: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        by = tuple(int(n) for n in rng.integers(-pixels, pixels + 1, 2))
        losses, slopes = slope(np.roll(images, by, axis=(1, 2)), *others)
        return losses, np.roll(slopes, (-by[0], -by[1]), axis=(1, 2))

    return moved


# --- The tool --------------------------------------------------------------------------


@dataclass(frozen=True)
class Ascent:
    """How a picture is made that excites a channel.

    Attributes:
        size: of the square picture, in pixels.
        steps: of the ascent.
        rate: of a step: of "pixels" a share of the range from black to white, of "waves" Adam's.
        restarts: starts at most for a channel that stays below zero; the best is kept.
        jitter_pixels: how far each step moves the picture, its borders joined; 0 for none. None is anywhere, which
            leaves no border in the picture: it may be laid as a tile; for an objective that is a place, an eighth.
        smoothing: of the gradient of "pixels"; None divides by frequency (`spectrum()`), `lambda g: g` is none.
        blur_sigma: pixels, a blur of "pixels" in every fourth step of the first half; 0 for none.
        objective: what is climbed: the channel's "mean" over the picture, its value in the "centre", its "maximum".
        parameterisation: what is moved: the "pixels", or the "waves" of decorrelated colours (see `waves`).
    """

    size: int = 160
    steps: int = 96
    rate: float = 0.06
    restarts: int = 3
    jitter_pixels: int | None = None
    smoothing: Smoothing | None = None
    blur_sigma: float = 0.6
    objective: str = "mean"
    parameterisation: str = "pixels"

    def __post_init__(self) -> None:
        for name, known in (("objective", OBJECTIVES), ("parameterisation", PARAMETERISATIONS)):
            chosen(name, getattr(self, name), known)

    @property
    def jitter(self) -> int:
        """Pixels that a step moves the picture at most."""
        if self.jitter_pixels is not None:
            return self.jitter_pixels
        return self.size // (2 if self.objective == "mean" else 8)


OBJECTIVES = ("mean", "centre", "maximum")
PARAMETERISATIONS = ("pixels", "waves")


@renamed(point="end_point")
def filters(
    model: Any,
    end_point: str,
    channels: int | Sequence[int] = 24,
    *,
    picture: str | Picture | None = None,
    seed: int = 0,
    start: ImageLike | None = None,
    progress: Progress | None = None,
    **ascent: Any,
) -> Filters:
    """The pictures that most excite channels of an end point or layer.

    Args:
        model: whatever `networks.network_of` takes: a path, `Weights`, any functional or
            sequential Keras model, with models inside it or not.
        end_point: slim's end point, or the name of a layer that has maps, or scores of classes ("predictions").
        channels: so many from the first, or their numbers.
        picture: its scaling is what the model takes for pixels (see `networks.network_of`).
        seed: the same seed gives the same pictures.
        start: a picture to begin with under fainter noise, instead of grey ("pixels" only).
        progress: called with (channels done, channels).
        ascent: the fields of `Ascent`: size, steps, rate, ...

    Raises:
        ValueError: for an unknown point or channel, and when no channel has any gradient.
    """
    parts = []
    for part, total in batches(model, end_point, channels, Ascent(**ascent), picture=picture, seed=seed, start=start):
        parts.append(part)
        if progress:
            progress(sum(len(each.channels) for each in parts), total)
    joined = {name: np.concatenate([getattr(p, name) for p in parts]) for name in ("channels", "images", "losses")}
    if all(part.flat.all() for part in parts):
        raise ValueError(
            f"No channel of {end_point} has a gradient: nothing in a picture of {parts[0].images.shape[1]} pixels "
            "changes them. Choose another end point or size, or check that the model has its weights."
        )
    return Filters(end_point, dead=np.concatenate([part.dead for part in parts]), weights=parts[0].weights, **joined)


def batches(
    model: Any,
    end_point: str,
    channels: int | Sequence[int],
    ascent: Ascent,
    *,
    picture: str | Picture | None = None,
    seed: int = 0,
    start: ImageLike | None = None,
) -> Iterator[tuple[Filters, int]]:
    """(some of the channels, how many there are in all), a batch at a time; arguments as those of `filters`.

    A channel's picture does not depend on the batches before.
    """
    network = network_of(model, picture=picture)
    opened = model_points.open_model(network.built(input_shape=(None, None, 3)))
    scores = opened.named.get(end_point)
    answer = scores if scores is not None and len(scores.shape) == 2 else opened.map_point(end_point)
    tensor = opened.before_activation(answer)
    wanted = _channels(channels, int(tensor.shape[-1]), end_point)
    values, height = _of_channels(opened, tensor, ascent.objective), _highest(opened, tensor)
    slope, size = gradient(values), ascent.size
    _check_room(opened, tensor, size, end_point)
    span = network.picture
    ground = None if start is None else span.scaled(pictures.resize(span.read(start), size, size))

    def climb(batch: np.ndarray, attempt: int) -> _Climb:
        moved = jitter(slope, ascent.jitter, np.random.default_rng([seed, attempt]))
        if ascent.parameterisation == "waves":
            images, losses, flat = waves.climb(moved, batch, span, size, ascent.steps, ascent.rate, [seed, attempt])
        else:
            images, losses, flat = _ascent(
                moved, _first(span, batch, size, [seed, attempt], ground), batch, span, ascent
            )
        return _Climb(images, losses, height(images, batch), flat)

    for first in range(0, len(wanted), BATCH):
        batch = wanted[first : first + BATCH]
        best = _best_of(climb, batch, ascent.restarts)
        dead = (best.tops <= 0) | best.flat
        yield (
            Filters(end_point, batch, span.pixels(best.images), best.losses, dead, network.name, best.flat),
            len(wanted),
        )


def _check_room(opened: model_points.Points, tensor: Any, size: int, point: str) -> None:
    """ValueError for a picture whose maps there have no place at all: TensorFlow ends the process over it."""
    import keras

    try:
        left = keras.Model(opened.image, tensor).compute_output_shape((1, size, size, opened.image.shape[-1]))
    except ValueError:  # a convolution that finds no place is refused by Keras itself
        left = (1, 0)
    if 0 in left:
        raise ValueError(f"size is {size}; a picture of so many pixels leaves no map at {point}, take a larger one.")


def _channels(channels: int | Sequence[int], depth: int, point: str) -> np.ndarray:
    wanted = np.arange(min(channels, depth)) if isinstance(channels, int) else np.asarray(channels, np.int64)
    if not wanted.size or wanted.ndim != 1 or wanted.min() < 0 or wanted.max() >= depth:
        raise ValueError(f"channels is {channels}; {point} has the channels 0 to {depth - 1}.")
    return wanted


def _planes(opened: model_points.Points, tensor: Any) -> Callable[[Any, Any], Any]:
    """(images, channel of each) -> the maps of those channels, [n, h, w]; of scores, maps of one place."""
    import keras
    from keras import ops

    network = keras.Model(opened.image, tensor)

    def planes(images: Any, channels: Any) -> Any:
        chosen = ops.one_hot(channels, tensor.shape[-1])
        answers = network(images, training=False)
        answers = answers if len(answers.shape) == 4 else answers[:, None, None, :]
        return ops.sum(answers * chosen[:, None, None, :], axis=3)

    return planes


def _of_channels(opened: model_points.Points, tensor: Any, objective: str) -> Callable[[Any, Any], Any]:
    """What is climbed of each image's channel."""
    planes = _planes(opened, tensor)

    def value(images: Any, channels: Any) -> Any:
        from keras import ops

        maps = planes(images, channels)
        if objective == "centre":
            height, width = ops.shape(maps)[1:3]
            return maps[:, height // 2, width // 2]
        return ops.mean(maps, axis=(1, 2)) if objective == "mean" else ops.max(maps, axis=(1, 2))

    return value


def _highest(opened: model_points.Points, tensor: Any) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The greatest value of each image's channel: above zero it passes the ReLU somewhere."""
    planes = _planes(opened, tensor)

    def highest(images: np.ndarray, channels: np.ndarray) -> np.ndarray:
        from keras import ops

        maps = planes(ops.convert_to_tensor(images), ops.convert_to_tensor(channels))
        return ops.convert_to_numpy(maps).max(axis=(1, 2))

    return highest


# --- The ascent ------------------------------------------------------------------------


@dataclass
class _Climb:
    """A start for each channel of a batch, and how it ended; flat: it never had a gradient."""

    images: np.ndarray
    losses: np.ndarray
    tops: np.ndarray
    flat: np.ndarray


def _first(
    span: Picture, channels: np.ndarray, size: int, seeds: Sequence[int], ground: np.ndarray | None
) -> np.ndarray:
    """Noise on grey, or on a picture; each channel has its own, whichever others are asked for with it."""
    low, high = span.limits
    strength = _NOISE if ground is None else _NOISE / 3
    rows = [np.random.default_rng([*seeds, int(c)]).normal(0, strength, (size, size, 3)) for c in channels]
    middle = (low + high) / 2 if ground is None else ground
    return (middle + np.stack(rows) * (high - low)).astype(np.float32)


def _ascent(
    slope: Gradient, images: np.ndarray, channels: np.ndarray, span: Picture, how: Ascent
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images climbed, the losses on the way [n, steps + 1], and which never had a gradient."""
    low, high = span.limits
    smooth, soften = how.smoothing or spectrum(), blur(how.blur_sigma) if how.blur_sigma else None
    flat = np.ones(len(channels), bool)
    losses = []
    for step in range(how.steps):
        loss, slopes = slope(images, channels)
        losses.append(loss)
        flat &= ~slopes.any(axis=(1, 2, 3))
        slopes = smooth(slopes)
        size = np.sqrt(np.mean(np.square(slopes), axis=(1, 2, 3), keepdims=True))
        pace = how.rate * (1 - 0.8 * step / how.steps)
        images = images + pace * (high - low) * slopes / np.maximum(size, np.finfo(np.float32).tiny)
        if soften and step % 4 == 3 and step < how.steps / 2:
            images = soften(images)
        images = _within(images, low, high)
    losses.append(slope(images, channels)[0])
    return images, np.stack(losses, axis=1), flat


def _within(images: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Images of no more than the greatest contrast, and within the range."""
    middle = (low + high) / 2
    away = (images - middle) / (high - low)
    contrast = np.sqrt(np.mean(np.square(away), axis=(1, 2, 3), keepdims=True))
    away *= np.minimum(1, _CONTRAST / np.maximum(contrast, _CONTRAST))
    return np.clip(middle + away * (high - low), low, high).astype(np.float32)


def _best_of(climb: Callable[[np.ndarray, int], _Climb], channels: np.ndarray, restarts: int) -> _Climb:
    """The first start of every channel, or the best of several where a channel stays below zero."""
    best = climb(channels, 0)
    for start in range(1, restarts):
        below = np.flatnonzero((best.tops <= 0) | best.flat)
        if not below.size:
            break
        again = climb(channels[below], start)
        better = again.losses[:, -1] > best.losses[below, -1]
        for name in ("images", "losses", "tops"):
            getattr(best, name)[below[better]] = getattr(again, name)[better]
        best.flat[below] &= again.flat
    return best
