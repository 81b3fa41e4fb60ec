"""Sums of features and of their outer products that come out the same, bit for bit, however the rows were split.

Two things make them so. Rows are multiplied in blocks of 1024 by their place in the whole
list, whatever shards they came in; a block that two shards share waits until its rows are
together. And blocks are added without rounding: each number is cut at fixed binary places
into slices of 32 bits, and slices of one place add up exactly in float64 (the idea of
Demmel and Nguyen's reproducible summation). Exact addition knows no order.

What is kept: three slices under the largest number, 64 bits or more, so that the rounding of
the sums is below float64's own. What is promised: the same bits for the same rows at the same
places, on one machine with one build of NumPy and number of threads; another BLAS may
multiply a block in another order. Memory is 3 * 8 * d * (d + 1) / 2 bytes (50 MB for 2048),
four times that while a block is added, and at most two
blocks of rows for each shard that waits for a neighbour.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

import numpy as np

from inception.files import npz
from inception.files.archive import Archive
from inception.files.tensor import damaged

BLOCK = 1024
_BITS = 32  # of a slice: 2^21 blocks of them, 2^31 rows, add up below 2^53
_SLICES = 3
_LOWEST, _HIGHEST = -31, 29  # places of slices that float64 has room for
_MOST_ROWS = 1 << 31
_SLICE_NAME = re.compile(r"(rows|products)_(-?\d{1,2})")
_EDGE_NAME = re.compile(r"edge_(\d{1,10})")


class Sums:
    """Running sums of rows [n, d]: their number, their sum [d], the sum of their outer products [d, d].

    Raises ValueError for rows of another width, rows that are not finite, and rows that come twice.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.spans: list[tuple[int, int]] = []  # places of the rows that are in, from and up to, sorted and apart
        self._edges: dict[int, np.ndarray] = {}  # rows of blocks that are not whole yet, by the place of the first
        self._rows: dict[int, np.ndarray] = {}  # slices of the sum
        self._products: dict[int, np.ndarray] = {}  # slices of the products' upper triangle, row after row

    @classmethod
    def of(cls, rows: np.ndarray | Iterable[np.ndarray], start: int = 0) -> Sums:
        """The sums of an array [n, d], or of several one after the other; `start` is the first row's place in all."""
        sums = None
        for each in [rows] if isinstance(rows, np.ndarray) else rows:
            if each.ndim != 2 or not each.shape[1]:
                raise ValueError(f"Features are {list(each.shape)}; expected rows of numbers, [n, d].")
            sums = sums or cls(each.shape[1])
            sums.add(each, start)
            start += len(each)
        if sums is None:
            raise ValueError("There are no features; expected at least one array of them.")
        return sums

    @property
    def count(self) -> int:
        """How many rows are in."""
        return sum(stop - start for start, stop in self.spans)

    def add(self, rows: np.ndarray, start: int | None = None) -> None:
        """Takes rows in, whose first has the place `start` among all; else they come behind the last so far."""
        start = (self.spans[-1][1] if self.spans else 0) if start is None else start
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(f"Features are {list(rows.shape)}; expected [n, {self.width}] as those before.")
        if not np.isfinite(rows).all():
            bad = start + int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
            raise ValueError(f"Row {bad} of the features holds NaN or infinity; extract them anew.")
        self._take([(start, start + len(rows))])
        for at in range(start - start % BLOCK, start + len(rows), BLOCK):
            first, last = max(at, start), min(at + BLOCK, start + len(rows))
            self._edges[first] = np.array(rows[first - start : last - start], np.float64, order="C")
            self._close(at)

    def merge(self, other: Sums) -> None:
        """Takes in the sums of other rows; the order of merging changes nothing."""
        if other.width != self.width:
            raise ValueError(f"Features are {other.width} wide; expected {self.width} as those before.")
        self._take(other.spans)
        _merge(self._rows, other._rows)
        _merge(self._products, other._products)
        self._edges |= other._edges
        for at in {first - first % BLOCK for first in other._edges}:
            self._close(at)

    def moments(self) -> tuple[int, np.ndarray, np.ndarray]:
        """(rows, their sum [d], the sum of their outer products [d, d]), float64, symmetric.

        Raises:
            ValueError: While rows are missing between the first and the last.
        """
        if self.count and self.spans != [(0, self.count)]:
            gap = self.spans[0][1] if self.spans[0][0] == 0 else 0
            raise ValueError(f"The features of row {gap} are missing; merge the sums of all shards first.")
        rows, products = dict(self._rows), dict(self._products)
        if self._edges:
            for kept, added in zip((rows, products), _of_block(_joined(self._edges)), strict=True):
                _merge(kept, added)
        outer = np.zeros((self.width, self.width))
        upper = _total(products, self.width * (self.width + 1) // 2)
        for row, end in enumerate(np.cumsum(np.arange(self.width, 0, -1))):
            outer[row, row:] = outer[row:, row] = upper[end - (self.width - row) : end]
        return self.count, _total(rows, self.width), outer

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes all of it into an `.npz`, so that another process goes on; whole or not at all."""
        slices = {"rows": self._rows, "products": self._products}
        arrays = {f"{name}_{place}": values for name, kept in slices.items() for place, values in kept.items()}
        arrays |= {f"edge_{first}": rows for first, rows in sorted(self._edges.items())}
        npz.write(
            path, {"spans": np.array(self.spans, np.int64).reshape(-1, 2), "width": np.int64(self.width)} | arrays
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Sums:
        """What `save` wrote. `CheckpointError` for anything else."""
        archive = Archive(path)
        arrays = {name: stored.read() for name, stored in npz.listed(archive).items()}
        try:
            sums = cls(int(arrays.pop("width")[()]))
            sums.spans = [(int(start), int(stop)) for start, stop in arrays.pop("spans")]
            sums._restore(arrays)
        except (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
            raise damaged(archive.name, "is not what was written of sums") from error
        return sums

    def _restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        sizes = {"rows": self.width, "products": self.width * (self.width + 1) // 2}
        for name, values in arrays.items():
            if edge := _EDGE_NAME.fullmatch(name):
                self._edges[int(edge[1])] = values
                sound = 0 < len(values) < BLOCK and values.shape[1:] == (self.width,)
            else:
                which, place = _SLICE_NAME.fullmatch(name).groups()  # type: ignore[union-attr]
                (self._rows if which == "rows" else self._products)[int(place)] = values
                sound = values.shape == (sizes[which],) and _LOWEST <= int(place) <= _HIGHEST
            if not sound or values.dtype != np.float64:
                raise ValueError(name)

    def _take(self, spans: list[tuple[int, int]]) -> None:
        """Notes places as taken; ValueError where some are already."""
        joined: list[tuple[int, int]] = []
        for start, stop in sorted(self.spans + [span for span in spans if span[0] < span[1]]):
            if joined and start < joined[-1][1]:
                raise ValueError(f"The features of row {start} come twice; give each shard once, at its own place.")
            if joined and start == joined[-1][1]:
                start = joined.pop()[0]
            joined.append((start, stop))
        if joined and not 0 <= joined[0][0] <= joined[-1][1] <= _MOST_ROWS:
            raise ValueError(f"Rows {joined[0][0]} to {joined[-1][1]} of features; expected {_MOST_ROWS} at most.")
        self.spans = joined

    def _close(self, at: int) -> None:
        """Adds the block from `at` on if all of its rows are there."""
        pieces = {first: rows for first, rows in self._edges.items() if at <= first < at + BLOCK}
        if sum(map(len, pieces.values())) == BLOCK:
            for first in pieces:
                del self._edges[first]
            rows, products = _of_block(_joined(pieces))
            _merge(self._rows, rows)
            _merge(self._products, products)


def _joined(pieces: Mapping[int, np.ndarray]) -> np.ndarray:
    return np.concatenate([pieces[first] for first in sorted(pieces)])


def _of_block(block: np.ndarray) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    with np.errstate(over="ignore"):
        products = block.T @ block
    upper = np.concatenate([products[row, row:] for row in range(len(products))])
    return _sliced(block.sum(axis=0)), _sliced(upper)


def _sliced(values: np.ndarray) -> dict[int, np.ndarray]:
    """{place: multiples of 2^(32 place)} which add up to the values, but for what is below the third slice."""
    peak = max(float(values.max()), -float(values.min()))
    highest = int(np.frexp(peak)[1]) // _BITS if peak else _LOWEST - 1
    if not np.isfinite(peak) or highest > _HIGHEST:
        raise ValueError(f"Features are so large that their squares reach {peak:.3g}; scale them down.")
    slices = {}
    for place in range(highest, max(highest - _SLICES, _LOWEST - 1), -1):
        rounder = 1.5 * 2.0 ** (52 + _BITS * place)  # a number so large that float64 ends at this place beside it
        slices[place] = (values + rounder) - rounder
        values = values - slices[place]
    return slices


def _merge(kept: dict[int, np.ndarray], added: Mapping[int, np.ndarray]) -> None:
    """Adds slices to slices, exactly, and lets go of those that are now too low."""
    for place, values in added.items():
        kept[place] = kept[place] + values if place in kept else values
    for place in [place for place in kept if place <= max(kept) - _SLICES]:
        del kept[place]


def _total(slices: Mapping[int, np.ndarray], size: int) -> np.ndarray:
    total = np.zeros(size)
    for place in sorted(slices):
        total += slices[place]
    return total
