"""Precision and recall, density and coverage: who lies in whose balls around the pictures of a set.

A picture's ball reaches to its k-th neighbour of its own set. Distances are squared, float64, and made a block of rows
at a time, of 256 MB, never all pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception import arguments
from inception.metrics.measured import Array, blocks, pair

_COLUMNS = 4096
_BYTES = 1 << 28  # of a block of distances
_COMPARE: dict[str, Callable[..., Array]] = {"<=": np.less_equal, "<": np.less}


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of n1 generated and n2 reference pictures inside the other set's balls."""

    precision: float
    recall: float


@dataclass(frozen=True)
class DensityCoverage:
    """Mean number of the reference's balls (over k) that a generated picture is in; share of balls that have one."""

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
    x, y, inside = _checked(x, y, k, compare)
    radii_x, radii_y = _radii(x, k), _radii(y, k)
    found, recalled = np.zeros(len(x), bool), np.zeros(len(y), bool)
    for part, distances in _distances(x, y):
        found[part] = inside(distances, radii_y).any(axis=1)
        recalled |= inside(distances, radii_x[part, None]).any(axis=0)
    return PrecisionRecall(float(found.mean()), float(recalled.mean()))


def density_coverage(x: Any, y: Any, *, k: int = 5, compare: str = "<") -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797), prdc's.

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d].
        k: the neighbour that a ball reaches to.
        compare: "<" as prdc does (then a set beside its exact copy scores less than 1), or "<=".

    Raises:
        ValueError: as `precision_recall`.
    """
    x, y, inside = _checked(x, y, k, compare)
    radii, count, nearest = _radii(y, k), 0, np.full(len(y), np.inf)
    for _, distances in _distances(x, y):
        count += int(np.count_nonzero(inside(distances, radii)))
        np.minimum(nearest, distances.min(axis=0), out=nearest)
    return DensityCoverage(count / (k * len(x)), float(inside(nearest, radii).mean()))


def _checked(x: Any, y: Any, k: int, compare: str) -> tuple[Array, Array, Callable[..., Array]]:
    if compare not in _COMPARE:
        raise ValueError(f"compare is {compare!r}; expected '<=' or '<'.")
    return (*pair(x, y, arguments.count("k", k) + 1), _COMPARE[compare])


def _radii(rows: Array, k: int) -> Array:
    """The squared distance to the k-th neighbour, itself not counted."""
    radii = np.empty(len(rows))
    for part, distances in _distances(rows, rows):
        np.fill_diagonal(distances[:, part], 0)
        distances.partition(k, axis=1)
        radii[part] = distances[:, k]
    return radii


def _distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Squared distances of some rows of x to all of y, and which rows they are.

    |a|² + |b|² - 2 a·b about the mean of y, which takes the large part of the norms away. What rounding cannot tell
    from 0 is 0, so that a copy is at no distance from its original.
    """
    middle = y.mean(axis=0, dtype=np.float64)
    rounding = 4 * np.finfo(np.float64).eps * len(middle) ** 0.5
    for part, a in blocks(x, max(1, min(_COLUMNS // 4, _BYTES // (8 * len(y))))):
        a = a - middle
        squares = np.einsum("ij,ij->i", a, a)[:, None]
        distances = np.empty((len(a), len(y)))
        for there, b in blocks(y, _COLUMNS):
            b = b - middle
            norms = squares + np.einsum("ij,ij->i", b, b)
            product = a @ b.T
            product *= -2
            product += norms
            product[product < rounding * norms] = 0
            distances[:, there] = product
        yield part, distances
