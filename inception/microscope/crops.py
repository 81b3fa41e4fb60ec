"""The parts of the user's pictures that channels answer most, cut out of them.

Of what a place of the map can see (the receptive field), most that counts lies in the middle, on a part that grows as
the square root (Luo et al., arXiv 1701.04128): so wide is a crop, clipped to what the network sees of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from inception.architecture import Concat, Conv, Ops, Pool, Table, fold
from inception.features import reading
from inception.features.sources import Item, Listing
from inception.microscope import sprites
from inception.microscope.pieces import Pieces, address, key_of
from inception.microscope.survey import Move, Survey
from inception.networks import Network
from inception.visualize import pictures

SIDE = 56  # pixels of a crop
ROWS = 64  # channels in a file
QUALITY = 62
_LEAST, _MOST = 14, 0.75  # pixels of the input, and part of it
_TIMES = 5  # the square root of a receptive field in pixels, so wide is a crop
_AT_ONCE = 3000  # channels whose crops are in memory

_Field = tuple[int, int]  # what a place sees of the input, and how far its neighbour is, in pixels


class _Fields(Ops[_Field]):
    def __init__(self) -> None:
        self.units: dict[str, _Field] = {}

    def conv(self, node: Conv, x: _Field, path: str) -> _Field:
        self.units[path] = x[0] + (max(node.kernel) - 1) * x[1], x[1] * node.stride
        return self.units[path]

    def pool(self, node: Pool, x: _Field, path: str) -> _Field:
        return x[0] + (max(node.kernel) - 1) * x[1], x[1] * node.stride

    def concat(self, node: Concat, xs: list[_Field], path: str) -> _Field:
        return max(x[0] for x in xs), xs[0][1]


def receptive_fields(rows: Table) -> dict[str, int]:
    """{end point or unit of the base: the side of what a place of its map sees, in pixels of the input}."""
    ops = _Fields()
    found = fold(ops, rows.base, (1, 1))
    return {name: side for name, (side, _) in (ops.units | found).items()}


def window(field: int | None, place: np.ndarray, maps: tuple[int, int], sides: tuple[int, int]) -> tuple[float, ...]:
    """(top, left, bottom, right) of a part of the input, as shares of its sides.

    Args:
        field: the receptive field; None for all of the input.
        place: row and column in a map of the size `maps`.
        sides: of the input.
    """
    if field is None:
        return 0.0, 0.0, 1.0, 1.0
    side = min(max(_TIMES * field**0.5, _LEAST), _MOST * min(sides))
    spans = []
    for at, of, whole in zip(place, maps, sides, strict=True):
        first = min(max((at + 0.5) / of * whole - side / 2, 0), whole - side)
        spans.append((first / whole, (first + side) / whole))
    return spans[0][0], spans[1][0], spans[0][1], spans[1][1]


def cut(
    pieces: Pieces,
    network: Network,
    found: Survey,
    listing: Listing,
    shapes: Mapping[str, tuple[int, int]],
    tag: str,
    move: Move,
) -> dict[str, dict[str, Any]]:
    """{end point: its crops}: "files", each with `ROWS` channels, a row each with its crops side by side.

    Args:
        shapes: {end point: height and width of its maps}.
        tag: before the names of files, for a network beside the site's.
    """
    fields = receptive_fields(network.inception.variant.table())
    said, open_points = {}, []
    key = key_of("crops", found.key, SIDE, ROWS, QUALITY, _TIMES)
    for name in found.points:
        kept = pieces.kept(f"{tag}crops-{address(name)}", key)
        if kept is None:
            open_points.append(name)
        else:
            said[name] = kept
    groups: list[list[str]] = []
    for name in open_points:
        size = len(found.points[name].total)
        if not groups or sum(len(found.points[n].total) for n in groups[-1]) + size > _AT_ONCE:
            groups.append([])
        groups[-1].append(name)
    for number, group in enumerate(groups):

        def show(done: int, number: int = number) -> None:
            move(number + done / len(listing.items), len(groups), "cutting crops")

        cuts = _cuts(network, found, group, listing, fields, shapes, show)
        for name in group:
            rows = cuts.pop(name)
            files = [
                sprites.put(
                    pieces.site,
                    f"{tag}crops-{address(name)}-{start // ROWS:03d}",
                    list(rows[start : start + ROWS]),
                    QUALITY,
                )
                for start in range(0, len(rows), ROWS)
            ]
            said[name] = pieces.keep(f"{tag}crops-{address(name)}", key, {"files": files})
    return said


def _cuts(
    network: Network,
    found: Survey,
    group: list[str],
    listing: Listing,
    fields: Mapping[str, int],
    shapes: Mapping[str, tuple[int, int]],
    show: Callable[[int], None],
) -> dict[str, np.ndarray]:
    """{end point: uint8 [channels, SIDE, crops * SIDE, 3]}; grey where there is none. Each picture is decoded once."""
    best = next(iter(found.points.values())).scores.shape[1]
    rows = {name: np.full((len(found.points[name].total), SIDE, best * SIDE, 3), 128, np.uint8) for name in group}
    wanted: dict[int, list[tuple[str, int, int]]] = {}
    for name in group:
        for channel, numbers in enumerate(found.points[name].pictures):
            for i, number in enumerate(numbers):
                if number >= 0:
                    wanted.setdefault(int(number), []).append((name, channel, i))
    for number in sorted(wanted):
        pixels = _decoded(listing.items[number], network)
        if pixels is None:  # gone since
            continue
        top, left, bottom, right = network.picture.window(*pixels.shape[:2])
        known: dict[tuple[float, ...], np.ndarray] = {}  # many channels answer the same place
        for name, channel, i in wanted[number]:
            place = found.points[name].places[channel, i]
            part = window(fields.get(name), place, shapes[name], network.picture.sides)
            if part not in known:
                y, x = top + part[0] * (bottom - top), left + part[1] * (right - left)
                height, width = (part[2] - part[0]) * (bottom - top), (part[3] - part[1]) * (right - left)
                known[part] = _part(pixels, y, x, height, width)
            rows[name][channel, :, i * SIDE : (i + 1) * SIDE] = known[part]
        show(number + 1)
    return rows


def _part(pixels: np.ndarray, y: float, x: float, height: float, width: float) -> np.ndarray:
    tall, wide = max(round(height), 1), max(round(width), 1)
    first, start = (max(min(round(at), whole - side), 0) for at, whole, side in
                    ((y, pixels.shape[0], tall), (x, pixels.shape[1], wide)))  # fmt: skip
    return pictures.resize(np.ascontiguousarray(pixels[first : first + tall, start : start + wide]), SIDE, SIDE)


def _decoded(item: Item, network: Network) -> np.ndarray | None:
    kept: list[np.ndarray] = []

    def keep(pixels: np.ndarray) -> list[np.ndarray]:
        kept.append(np.ascontiguousarray(pixels))
        return []

    reading.read(item, keep, network.picture.upright)
    return kept[0] if kept else None
