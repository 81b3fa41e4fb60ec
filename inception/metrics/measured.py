"""What a metric gives back, and what it asks of the arrays it is given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
LARGEST = 1e15  # of features: its square is a float32


@dataclass(frozen=True)
class Measured:
    """A value and what is known of its error.

    Attributes:
        value: the metric.
        error: a standard error, or the deviation over subsets or splits that the peer prints; None where there is none.

    Raises:
        ValueError: for NaN and infinity, which are no measurement.
    """

    value: float
    error: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.value) or not math.isfinite(self.error or 0):
            raise ValueError(f"The number comes out as {self.value}: the features are too large; scale both sets.")

    def __float__(self) -> float:
        return self.value


def samples(name: str, rows: Any, least: int = 2, width: int | None = None, largest: float = LARGEST) -> Array:
    """The rows as an array [n, d] of real numbers, every one finite.

    Args:
        name: what a sentence calls them.
        rows: what `numpy.asarray` takes.
        least: the rows that the metric needs.
        width: d, where another set gives it.
        largest: size of a number.

    Raises:
        ValueError: on other shapes and types, too few rows, NaN and infinity, and larger numbers.
    """
    array = np.asarray(rows)
    if array.ndim != 2 or array.dtype.kind not in "fiu" or array.shape[1] == 0:
        found = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name}: {found}; expected real numbers of shape [pictures, features].")
    if width is not None and array.shape[1] != width:
        raise ValueError(f"{name}: {array.shape[1]} features a picture, the other set has {width}; use one network.")
    if len(array) < least:
        raise ValueError(f"{name}: {len(array)} rows; expected at least {least} for this metric.")
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name}: NaN or infinity in row {int(np.argmin(np.isfinite(array).all(axis=1)))}; leave it out."
        )
    if (size := max(abs(float(array.min())), abs(float(array.max())))) > largest:
        raise ValueError(f"{name}: a number as large as {size:g}; expected at most {largest:g}: scale both sets.")
    return array


def pair(x: Any, y: Any, least: int = 2) -> tuple[Array, Array]:
    """Two sets of one width, x the generated one and y the reference: `samples` of each."""
    first = samples("x", x, least)
    return first, samples("y", y, least, first.shape[1])


def blocks(rows: Array, size: int) -> Iterator[tuple[slice, Array]]:
    """The rows in pieces of `size`, as views."""
    for start in range(0, len(rows), size):
        yield (part := slice(start, min(start + size, len(rows)))), rows[part]
