"""The pictures that most excite channels, a batch of channels a piece, all end points in turn.

In turn, so that a run that is short of time has some of every end point; the channels of one are taken evenly spread,
so that its branches all have some.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception.architecture import Concat
from inception.microscope import sprites
from inception.microscope.anatomy import Point
from inception.microscope.pieces import Pieces, address, key_of
from inception.microscope.survey import Move
from inception.networks import Network
from inception.visualize.filters import BATCH, Ascent, Filters, batches

QUALITY = 78
# By an end point's beginning: pixels, and how far a step moves the picture: anywhere where there is but texture to see,
# for the mean over a picture that has no border then; little where a channel answers whole things.
_SIZES = {"Conv2d": (64, 2), "Mixed_5": (96, 2), "Mixed_6": (144, 18), "Mixed_7": (176, 18), "Logits": (176, 18)}


@dataclass(frozen=True)
class Wanted:
    """The channels of an end point that shall have a picture, and how it is made."""

    point: str
    layer: str  # its name in the Keras model
    channels: tuple[int, ...]
    ascent: Ascent
    cost: float  # of a channel, about, in multiply-adds

    @property
    def parts(self) -> list[tuple[int, ...]]:
        return [self.channels[i : i + BATCH] for i in range(0, len(self.channels), BATCH)]


def spread(count: int, of: int) -> list[int]:
    """So many of the numbers below `of`, evenly spread, and those of a smaller count the first of them."""
    bits = max(of - 1, 1).bit_length()
    turned = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(1 << bits))
    return [number for number in turned if number < of][:count]


def wanted(
    chosen: Sequence[Point], points: Sequence[Point], dead: Mapping[str, np.ndarray], channels: int, ascent: Ascent
) -> list[Wanted]:
    """What shall be drawn of the chosen end points of a network's: of each so many channels that are not dead.

    Pools have none, for their channels are those before them.

    Args:
        ascent: its size is the greatest; early end points need less.
    """
    found, before = [], 0
    for point in points:
        before += point.multiply_adds if "/" not in point.name else 0
        if point not in chosen or not point.parameters or point.name == "AuxLogits":
            continue
        size, part = next(known for start, known in _SIZES.items() if point.name.startswith(start))
        size = min(size, ascent.size)
        anywhere = part if ascent.objective == "mean" else 18
        how = dataclasses.replace(ascent, size=size, jitter_pixels=max(size // anywhere, 1))
        alive = [c for c in spread(point.channels, point.channels) if not dead[point.name][c]][:channels]
        layer = point.name if isinstance(point.node, Concat) else point.names[1]
        found.append(Wanted(point.name, layer, tuple(alive), how, float(before) * how.size**2 * how.steps))
    return [each for each in found if each.channels]


def excite(
    pieces: Pieces,
    network: Network,
    plan: Sequence[Wanted],
    *,
    weights: str,
    seed: int,
    tag: str = "",
    move: Move,
    late: Callable[[], bool],
) -> dict[str, list[dict[str, Any]]]:
    """{end point: pieces}: "files" (one), the "channels" whose pictures it holds, their "values", which are "dead".

    Args:
        tag: before the names of files, for a network beside the site's.
        late: whether to begin no other batch.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {each.point: {} for each in plan}
    open_parts: dict[str, list[int]] = {}
    total = sum(each.cost * len(each.channels) for each in plan)
    done = 0.0
    for each in plan:
        for i, part in enumerate(each.parts):
            kept = pieces.kept(_name(tag, each, i), _key(weights, each, part, seed))
            if kept is None:
                open_parts.setdefault(each.point, []).append(i)
            else:
                found[each.point][i] = kept
                total -= each.cost * len(part)
    runs: dict[str, _Run] = {}
    if open_parts and not late():
        network = dataclasses.replace(network, model=network.built(input_shape=(None, None, 3)))
        runs = {e.point: _Run(network, e, open_parts[e.point], seed) for e in plan if e.point in open_parts}
    while runs and not late():
        for each in plan:
            if each.point not in runs or late():
                continue
            step = runs[each.point].next()
            if step is None:
                del runs[each.point]
                continue
            i, result = step
            name = _name(tag, each, i)
            file = sprites.put(pieces.site, name, list(result.images), QUALITY)
            said = {
                "files": [file],
                "channels": result.channels.tolist(),
                "values": [float(f"{value:.5g}") for value in result.losses[:, -1]],
                "dead": result.dead.tolist(),
            }
            found[each.point][i] = pieces.keep(name, _key(weights, each, each.parts[i], seed), said)
            done += each.cost * len(result.channels)
            move(100 * done / total, 100, f"exciting channels of {each.point}")
    return {point: [parts[i] for i in sorted(parts)] for point, parts in found.items()}


def _name(tag: str, each: Wanted, part: int) -> str:
    return f"{tag}excite-{address(each.point)}-{part:03d}"


def _key(weights: str, each: Wanted, part: Sequence[int], seed: int) -> str:
    how = {name: value for name, value in dataclasses.asdict(each.ascent).items() if name != "smoothing"}
    return key_of("excite", weights, each.point, list(part), how, seed, QUALITY)


class _Run:
    """The open batches of an end point, computed one after the other by one traced function."""

    def __init__(self, network: Network, each: Wanted, parts: list[int], seed: int) -> None:
        self._parts = iter(parts)
        channels = [channel for part in parts for channel in each.parts[part]]
        self._batches: Iterator[tuple[Filters, int]] = batches(network, each.layer, channels, each.ascent, seed=seed)

    def next(self) -> tuple[int, Filters] | None:
        """(number of the batch, what it came to); None after the last."""
        part = next(self._parts, None)
        return None if part is None else (part, next(self._batches)[0])
