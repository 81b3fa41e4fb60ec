"""Precision and recall, density and coverage: who lies in whose balls around the pictures of a set.

A picture's ball reaches to its k-th neighbour of its own set. Squared distances are made a tile of 2048 x 2048 at a
time, never all pairs: with float32 products, and again from the differences in float64 where those cannot decide. So
a count does not depend on rounding: a copy is at no distance, and the edge of a ball is where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception import arguments
from inception.metrics.measured import Array, blocks, pair

_TILE = 2048
_PAIRS = 4096  # whose differences are taken at once
_SPARE = 8  # neighbours beyond the k-th whose order float32 may have mixed up
_COMPARE: dict[str, Callable[..., Array]] = {"<=": np.less_equal, "<": np.less}


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of pictures that are inside the balls of the other set.

    Attributes:
        precision: of the generated pictures.
        recall: of the reference's.
    """

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """How the reference's balls are filled.

    Attributes:
        density: the mean number of balls (over k) that a generated picture is in.
        coverage: the share of balls that have one.
    """

    density: float
    coverage: float


def precision_recall(x: Any, y: Any, *, k: int = 3, compare: str = "<=") -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991).

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d].
        k: the neighbour that a ball reaches to; 3 in the original, ADM, StyleGAN and torch-fidelity, 5 in prdc.
        compare: "<=" as they do, or "<" as prdc, dgm-eval and piq do: is the edge of a ball inside?

    Raises:
        ValueError: on arrays that are not two sets of one width, finite, of more than k rows.
    """
    x, y = _checked(x, y, k, compare)
    radii_x, radii_y = _radii(x, k), _radii(y, k)
    found, recalled = np.zeros(len(x), bool), np.zeros(len(y), bool)
    for tile in _tiles(x, y):
        found[tile.here] |= tile.inside(radii_y[None, tile.there], compare).any(axis=1)
        recalled[tile.there] |= tile.inside(radii_x[tile.here, None], compare).any(axis=0)
    return PrecisionRecall(float(found.mean()), float(recalled.mean()))


def density_coverage(x: Any, y: Any, *, k: int = 5, compare: str = "<") -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797), prdc's.

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d].
        k: the neighbour that a ball reaches to.
        compare: "<" as prdc does (then sets of copies alone score 0), or "<=".

    Raises:
        ValueError: as `precision_recall`.
    """
    x, y = _checked(x, y, k, compare)
    radii, count, covered = _radii(y, k), 0, np.zeros(len(y), bool)
    for tile in _tiles(x, y):
        inside = tile.inside(radii[None, tile.there], compare)
        count += int(np.count_nonzero(inside))
        covered[tile.there] |= inside.any(axis=0)
    return DensityCoverage(count / (k * len(x)), float(covered.mean()))


@dataclass(frozen=True)
class _Tile:
    """Squared distances, float32, of rows `here` of x to rows `there` of y, and what rounding may add to each."""

    x: Array
    y: Array
    here: slice
    there: slice
    distances: Array
    rounding: Array

    def inside(self, radii: Array, compare: str) -> Array:
        """Which of the pairs are within the squared radii."""
        inside = _COMPARE[compare](self.distances, radii.astype(np.float32))
        close = np.abs(self.distances - radii.astype(np.float32)) <= self.rounding
        if close.any():
            rows, columns = np.nonzero(close)
            exact = _exact(self.x[self.here], rows, self.y[self.there], columns)
            inside[rows, columns] = _COMPARE[compare](exact, np.broadcast_to(radii, inside.shape)[rows, columns])
        return inside


def _checked(x: Any, y: Any, k: int, compare: str) -> tuple[Array, Array]:
    if compare not in _COMPARE:
        raise ValueError(f"compare is {compare!r}; expected '<=' or '<'.")
    return pair(x, y, arguments.count("k", k) + 1)


def _radii(rows: Array, k: int) -> Array:
    """The squared distance to the k-th neighbour, itself not counted."""
    kept = min(k + _SPARE, len(rows) - 1)  # and itself
    values, neighbours = np.full((len(rows), kept + 1), np.float32(np.inf)), np.zeros((len(rows), kept + 1), int)
    for tile in _tiles(rows):
        sides = [(tile.here, tile.there, tile.distances)]
        if tile.here != tile.there:
            sides.append((tile.there, tile.here, np.ascontiguousarray(tile.distances.T)))
        for part, others, side in sides:
            found = np.argpartition(side, min(kept, side.shape[1] - 1), axis=1)[:, : kept + 1]
            nearer = np.concatenate([values[part], np.take_along_axis(side, found, axis=1)], axis=1)
            order = np.argpartition(nearer, kept, axis=1)[:, : kept + 1]
            values[part] = np.take_along_axis(nearer, order, axis=1)
            candidates = np.concatenate([neighbours[part], found + others.start], axis=1)
            neighbours[part] = np.take_along_axis(candidates, order, axis=1)
    exact = _exact(rows, np.repeat(np.arange(len(rows)), kept + 1), rows, neighbours.ravel())
    return np.partition(exact.reshape(neighbours.shape), k, axis=1)[:, k]


def _exact(x: Array, rows: Array, y: Array, columns: Array) -> Array:
    """Squared distances of x[rows[i]] to y[columns[i]], float64."""
    values = np.empty(len(rows))
    for part, of_x in blocks(rows, _PAIRS):
        difference = x[of_x].astype(np.float64) - y[columns[part]]
        values[part] = np.einsum("ij,ij->i", difference, difference)
    return values


def _tiles(x: Array, y: Array | None = None) -> Iterator[_Tile]:
    """All pairs of x and y; or of x itself, without the tiles below the diagonal, which are those above it.

    |a|² + |b|² - 2 a·b about a mean, which takes the large part of the norms away.
    """
    other = x if y is None else y
    middle = other.mean(axis=0, dtype=np.float64)
    rounding = np.float32(4 * np.finfo(np.float32).eps * len(middle) ** 0.5)
    for here, a in blocks(x, _TILE):
        a = (a - middle).astype(np.float32)
        squares = np.einsum("ij,ij->i", a, a)[:, None]
        for there, b in blocks(other, _TILE):
            if y is None and there.start < here.start:
                continue
            b = (b - middle).astype(np.float32)
            others = np.einsum("ij,ij->i", b, b)
            distances = a @ b.T
            distances *= -2
            distances += squares
            distances += others
            if y is None and here == there:
                np.fill_diagonal(distances, -np.inf)  # itself is the nearest, whatever rounding says
            yield _Tile(x, other, here, there, distances, rounding * (squares + others))
