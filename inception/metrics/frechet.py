"""The Fréchet distance of two Gaussians: FID, sFID, MIFID, FID at infinity, and their errors.

|m1 - m2|² + tr S1 + tr S2 - 2 tr sqrt(S1 S2) (Dowson and Landau 1982; Heusel et al. 2017, arXiv:1706.08500).

With S1 = A'A and S2 = B'B the last trace is the nuclear norm of A B': real and not negative, whatever the ranks. A is
a Cholesky factor, the rows of an `eigh` where the matrix is singular, or, of few pictures, the centred pictures
themselves, and then no matrix of d x d is made. Everything is float64; nothing is added to a diagonal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception import arguments
from inception.metrics.measured import LARGEST, Array, Measured, blocks, pair, samples

_ROWS = 1 << 14  # of a block in float64
_EPS = float(np.finfo(np.float64).eps)
_SQUARES_DO = 1e-10  # the relative error of a nuclear norm at which the singular values are worth their time


@dataclass(frozen=True)
class Gaussian:
    """Mean [d], trace of the covariance, and the covariance [d, d] or, of few pictures, a root of it [r, d]."""

    mean: Array
    trace: float
    covariance: Array | None
    rows: Array | None = None

    @functools.cached_property
    def root(self) -> Array:
        """[r, d], whose `root.T @ root` is the covariance."""
        if self.rows is not None:
            return self.rows
        assert self.covariance is not None
        return _root(self.covariance)


def fid(x: Any, y: Any, *, ddof: int = 1, groups: int = 0, seed: int = 0) -> Measured:
    """The Fréchet distance of two sets of features; sFID where the features are spatial ([n, 2023], ADM's).

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d].
        ddof: the covariance is divided by n - ddof; 0 as StyleGAN does, 1 as everybody else.
        groups: the error is the jackknife's that leaves out one of so many groups, in each set; 0 measures none. It
            costs a distance for each group of each set.
        seed: of the draw of the groups.

    Returns:
        The distance, in squared units of the features, and its standard error. Neither knows of the bias, which falls
        like 1/n: `fid_infinity` does.

    Raises:
        ValueError: on arrays that are not two sets of one width, finite, of two rows or more.
    """
    x, y = pair(x, y)
    a, b = _of_rows(x, ddof), _of_rows(y, ddof)
    value = _distance(a, b)
    if not arguments.count("groups", groups, 0):
        return Measured(value)
    variances = [_variance(rows, other, ddof, groups, seed) for rows, other in ((x, b), (y, a))]
    return Measured(value, math.sqrt(sum(variances)))


def frechet_distance(mean1: Any, covariance1: Any, mean2: Any, covariance2: Any) -> float:
    """The Fréchet distance of two Gaussians given by their moments.

    Of fewer pictures than features `fid` of the features themselves is exacter: a covariance has forgotten its rank.

    Args:
        mean1: [d].
        covariance1: [d, d], symmetric.
        mean2: [d].
        covariance2: [d, d], symmetric.

    Raises:
        ValueError: on other shapes, on numbers that are not finite, and on a matrix that is not symmetric or has
            eigenvalues that are clearly negative.
    """
    first, second = _of_moments("first", mean1, covariance1), _of_moments("second", mean2, covariance2)
    if len(first.mean) != len(second.mean):
        raise ValueError(f"Moments of {len(first.mean)} features and of {len(second.mean)}; use one network.")
    return _distance(first, second)


def fid_infinity(x: Any, y: Any, *, points: int = 15, ddof: int = 1, seed: int = 0) -> Measured:
    """FID at infinitely many generated pictures, as dgm-eval extrapolates it (Chong and Forsyth, arXiv:1911.07023).

    FID of `points` random subsets of x, from min(5000, n/10) to n rows, against the whole of y; a straight line
    through them over 1/size; its value at 0. The line is straight where there are more rows than features. Of fewer it
    is bent, and its end may even lie above the distance itself.

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d]; its own bias remains.
        points: subsets, three or more.
        ddof: as in `fid`.
        seed: of the draws.

    Returns:
        The intercept and the standard error that least squares give it. The subsets overlap, so it is a lower bound.
    """
    x, y = pair(x, y)
    arguments.count("points", points, 3)
    sizes = np.linspace(min(5000, max(len(x) // 10, 2)), len(x), points).astype(int)
    if len(set(sizes)) < 3:
        raise ValueError(f"x: {len(x)} rows are too few to draw three sizes of; expected at least 4.")
    reference, rng = _of_rows(y, ddof), np.random.default_rng(seed)
    values = [_distance(_of_rows(rng.choice(x, size, replace=False), ddof), reference) for size in sizes]
    design = np.stack([np.ones(points), 1 / sizes], axis=1)
    line, *_ = np.linalg.lstsq(design, values, rcond=None)
    spread = np.sum((values - design @ line) ** 2) / (points - 2)
    return Measured(float(line[0]), math.sqrt(spread * np.linalg.inv(design.T @ design)[0, 0]))


def mifid(x: Any, y: Any, *, ddof: int = 1) -> Measured:
    """FID that punishes copies of the reference (Bai et al., arXiv:2106.03062), as torchmetrics defines it.

    FID / (d + 1e-14), where d is the mean over the reference of 1 minus the absolute cosine to the nearest generated
    picture, and 1 where that is 0.1 or more. Rows that sum to 0 count for FID alone; FID of 1e-8 or less gives 0.

    Args:
        x: features of generated pictures, [n1, d].
        y: features of the reference, [n2, d].
        ddof: as in `fid`.
    """
    x, y = pair(x, y)
    value = fid(x, y, ddof=ddof).value
    generated, reference = (_directions(name, rows) for name, rows in (("x", x), ("y", y)))
    nearest = [np.abs(block @ generated.T).max(axis=1) for _, block in blocks(reference, _ROWS // 16)]
    away = 1 - float(np.concatenate(nearest).mean())
    return Measured(0.0 if value <= 1e-8 else value / ((away if away < 0.1 else 1.0) + 1e-14))


def _directions(name: str, rows: Array) -> Array:
    rows = rows[rows.sum(axis=1) != 0].astype(np.float64)
    if not len(rows):
        raise ValueError(f"{name}: every row sums to 0, and has no direction; MIFID needs one that has.")
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _variance(rows: Array, other: Gaussian, ddof: int, groups: int, seed: int) -> float:
    """The jackknife's variance of the distance to `other`, one group of the rows left out at a time."""
    arguments.count("groups", groups, 2)
    if len(rows) < groups + 2:
        raise ValueError(f"{len(rows)} rows in {groups} groups; expected at least {groups + 2} rows.")
    group = np.random.default_rng(seed).permutation(len(rows)) % groups
    values = np.array([_distance(_of_rows(rows[group != left_out], ddof), other) for left_out in range(groups)])
    return float((groups - 1) * values.var())


def _distance(a: Gaussian, b: Gaussian) -> float:
    """Not negative: what rounding leaves below 0 is 0."""
    difference = a.mean - b.mean
    return max(float(difference @ difference) + a.trace + b.trace - 2 * _trace_of_root(a, b), 0.0)


def _trace_of_root(a: Gaussian, b: Gaussian) -> float:
    """The sum of the singular values of A B': roots of eigenvalues where rounding lets them be."""
    if not a.root.size or not b.trace:  # no variance at all
        return 0.0
    if b.covariance is not None and len(a.root) == len(b.covariance):
        total = _sum_of_roots(_congruent(a.root, b.covariance))
    else:
        product = a.root @ b.root.T
        wide = product if product.shape[0] <= product.shape[1] else product.T
        total = _sum_of_roots(wide @ wide.T)
    return float(np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()) if total is None else total


def _sum_of_roots(squares: Array) -> float | None:
    """Of the eigenvalues; None where rounding, eps times the largest, hurts the roots of small ones too much."""
    values = np.linalg.eigvalsh(squares)
    if values[0] <= 0:
        return None
    total, error = float(np.sqrt(values).sum()), _EPS * values[-1] * math.sqrt((1 / values).sum())
    return total if error < _SQUARES_DO * total else None


def _congruent(root: Array, covariance: Array) -> Array:
    """The lower blocks of root @ covariance @ root.T, which `eigvalsh` reads, without the zeros of an upper root."""
    product = np.zeros_like(covariance)
    parts = [part for part, _ in blocks(root, -(-len(root) // 8))]
    for part in parts:
        right = covariance[part.start :, part.start :] @ root[part, part.start :].T
        for below in parts:
            if below.start >= part.start:
                product[below, part] = root[below, below.start :] @ right[below.start - part.start :]
    return product


def _of_rows(rows: Array, ddof: int) -> Gaussian:
    arguments.count("ddof", ddof, 0)
    if len(rows) <= ddof:
        raise ValueError(f"{len(rows)} rows and ddof {ddof}; expected more rows than that.")
    count, width = rows.shape
    mean = rows.mean(axis=0, dtype=np.float64)
    if count > width:
        covariance = sum(part.T @ part for part in _centred(rows, mean)) / (count - ddof)
        return Gaussian(mean, float(np.trace(covariance)), covariance)
    centred = np.concatenate(list(_centred(rows, mean)))
    # Centred rows sum to 0, so one too many spans them. This is a reflection that turns the first into that sum.
    root = (centred[1:] + centred[0] / (math.sqrt(count) - 1)) / math.sqrt(count - ddof)
    return Gaussian(mean, float(np.sum(root**2)), None, root)


def _centred(rows: Array, mean: Array) -> Iterator[Array]:
    for _, block in blocks(rows, _ROWS):
        yield block - mean


def _of_moments(name: str, mean: Any, covariance: Any) -> Gaussian:
    covariance = samples(f"{name} covariance", covariance, 1, largest=LARGEST**2).astype(np.float64)
    (mean,) = samples(f"{name} mean", np.reshape(mean, (1, -1)), 1, covariance.shape[1]).astype(np.float64)
    if len(covariance) != len(mean):
        raise ValueError(f"{name} covariance: shape {covariance.shape}; expected ({len(mean)}, {len(mean)}).")
    if np.abs(covariance - covariance.T).max() > 1e-5 * np.abs(covariance).max():  # float32's rounding passes
        raise ValueError(f"{name} covariance: not symmetric; expected a covariance matrix.")
    return Gaussian(mean, float(np.trace(covariance)), covariance)


def _root(covariance: Array) -> Array:
    """Upper, by Cholesky; by `eigh` where the matrix is singular, without the directions that rounding made."""
    rounding = len(covariance) * _EPS
    try:
        root = np.linalg.cholesky(covariance).T
    except np.linalg.LinAlgError:
        pass
    else:
        pivots = np.diagonal(root) ** 2
        if pivots.min() > rounding * pivots.max():
            return root
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-5 * max(values[-1], 0.0):
        raise ValueError(
            f"A covariance has an eigenvalue of {values[0]:g} beside {values[-1]:g}; expected none below 0."
        )
    kept = values > rounding * values[-1]
    return np.asarray(np.linalg.qr((vectors[:, kept] * np.sqrt(values[kept])).T, mode="r"))
