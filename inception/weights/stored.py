"""A tensor inside a file: what the header says of it, and how to fetch its values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """One tensor of a weight file, not read yet.

    `shape` and `dtype` come from the file's own header, so that a plan can be
    checked before a byte of the values is read. `read()` returns the values as a
    fresh array of that shape and type, or raises `CorruptFile`.
    """

    shape: Shape
    dtype: np.dtype
    read: Callable[[], np.ndarray]
