"""KID: the squared maximum mean discrepancy under (x·y/d + 1)³ (Binkowski et al. 2018, arXiv:1801.01401).

Unbiased: pairs of a picture with itself are left out within a set, and none between sets. Products have the precision
of the features (float32 at least), sums are float64. The rounding of so many pairs averages out: KID of float32
features is right to about 1e-10 of the kernel's values. Few pairs, which have no average, have float64 products.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception import arguments
from inception.metrics.measured import Array, Measured, blocks, pair

_BLOCK = 1024
_FEW = 1 << 16  # pairs


@dataclass(frozen=True)
class Subsets:
    """Which rows a peer compares, and what it prints beside the mean.

    Attributes:
        size: rows of a subset; of consecutive blocks the most there may be.
        count: subsets drawn, without replacement in each; None for consecutive blocks of all rows.
        seed: of `numpy.random.RandomState`. Peers that draw unseeded give the same after `numpy.random.seed`.
        first: the set drawn first, "x" (generated) or "y" (reference).
        smaller: sets of fewer rows than `size` are taken whole; else they are refused.
    """

    size: int = 1000
    count: int | None = 100
    seed: int = 0
    first: str = "x"
    smaller: bool = True

    def __post_init__(self) -> None:
        arguments.count("size", self.size, 2)
        arguments.count_or_none("count", self.count)
        arguments.count("seed", self.seed, 0)
        if self.first not in ("x", "y"):
            raise ValueError(f"first is {self.first!r}; expected 'x' (generated) or 'y' (reference).")


# torch-fidelity's input 1 and clean-fid's second set are the generated one.
TORCH_FIDELITY = Subsets(seed=2020, smaller=False)
CLEAN_FID = STYLEGAN = Subsets()
DGM_EVAL = Subsets(first="y")
MMD_GAN = Subsets(count=50)
TF_GAN = Subsets(size=1024, count=None)


def kid(x: Any, y: Any, subsets: Subsets | None = None) -> Measured:
    """Kernel Inception Distance.

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d].
        subsets: as a peer draws them (`TORCH_FIDELITY`, `CLEAN_FID`, ...); None for all pairs, the value that every
            draw estimates.

    Returns:
        The value, slightly negative where the sets are alike. Its error is the jackknife's standard error over all
        pairs; the deviation over drawn subsets (ddof 0, as the peers print it); the standard error of the mean over
        consecutive blocks, None of a single one.

    Raises:
        ValueError: on arrays that are not two sets of one width, finite, with the rows that the subsets need.
    """
    x, y = pair(x, y, 3 if subsets is None else 2 if subsets.smaller else subsets.size)
    if subsets is None:
        return _discrepancy(x, y)
    chosen = _drawn if subsets.count else _consecutive
    values = np.array([_discrepancy(x[i], y[j], error=False).value for i, j in chosen(len(x), len(y), subsets)])
    if subsets.count:
        return Measured(float(values.mean()), float(values.std()))
    count = len(values)
    return Measured(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(count) if count > 1 else None)


def seeded(subsets: Subsets, seed: int) -> Subsets:
    """The same draw from another seed."""
    return dataclasses.replace(subsets, seed=seed)


def _drawn(n1: int, n2: int, subsets: Subsets) -> Iterator[tuple[Array, Array]]:
    random, size = np.random.RandomState(subsets.seed), min(n1, n2, subsets.size)
    for _ in range(subsets.count or 0):
        first, second = (
            random.choice(n, size, replace=False) for n in ((n1, n2) if subsets.first == "x" else (n2, n1))
        )
        yield (first, second) if subsets.first == "x" else (second, first)


def _consecutive(n1: int, n2: int, subsets: Subsets) -> Iterator[tuple[slice, slice]]:
    """As many blocks in both sets, of sizes that differ by one at most, the larger ones last."""
    count = -(-max(n1, n2) // subsets.size)
    if min(n1, n2) < 2 * count:
        raise ValueError(f"{n1} and {n2} rows in {count} blocks; expected two rows or more of each set in a block.")
    edges = [np.cumsum([0] + [n // count + (i >= count - n % count) for i in range(count)]) for n in (n1, n2)]
    for i in range(count):
        yield slice(edges[0][i], edges[0][i + 1]), slice(edges[1][i], edges[1][i + 1])


def _discrepancy(x: Array, y: Array, error: bool = True) -> Measured:
    """Over all pairs. The jackknife leaves out one row at a time, which sums over rows of the kernel make exact."""
    n, m = len(x), len(y)
    (inner_x, _), (inner_y, _), (between_x, between_y) = _kernel_sums(x), _kernel_sums(y), _kernel_sums(x, y)
    total_x, total_y, total = inner_x.sum(), inner_y.sum(), between_x.sum()
    value = total_x / (n * (n - 1)) + total_y / (m * (m - 1)) - 2 * total / (n * m)
    if not error:
        return Measured(float(value))
    without = [
        (whole - 2 * inner) / ((rows - 1) * (rows - 2)) - 2 * (total - between) / ((rows - 1) * others)
        for whole, inner, between, rows, others in (
            (total_x, inner_x, between_x, n, m),
            (total_y, inner_y, between_y, m, n),
        )
    ]
    variance = sum((len(each) - 1) * each.var() for each in without)
    return Measured(float(value), math.sqrt(variance))


def _kernel_sums(x: Array, y: Array | None = None) -> tuple[Array, Array]:
    """Sums over the rows and the columns of the kernel of x and y; or of x itself, without its diagonal."""
    other = x if y is None else y
    kind = np.promote_types(np.float64 if len(x) * len(other) < _FEW else np.float32, np.result_type(x, other))
    rows, columns = np.zeros(len(x)), np.zeros(len(other))
    for here, a in blocks(x, _BLOCK):
        a = a.astype(kind, copy=False)
        for there, b in blocks(other, _BLOCK):
            if y is None and there.start < here.start:  # the same numbers as above the diagonal
                continue
            diagonal = y is None and there == here
            kernel = a @ (a if diagonal else b.astype(kind, copy=False)).T
            kernel *= kind.type(1 / x.shape[1])
            kernel += kind.type(1)
            kernel *= kernel * kernel
            if diagonal:
                np.fill_diagonal(kernel, 0)
            else:
                columns[there] += kernel.sum(axis=0, dtype=np.float64)
            rows[here] += kernel.sum(axis=1, dtype=np.float64)
    return (rows + columns,) * 2 if y is None else (rows, columns)
