"""Counts and picture sizes as callers give them: of any integer kind, in any sequence, refused when they are none."""

from __future__ import annotations

import operator
from typing import Any


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number (int, np.int64, ...) of at least `least`. ValueError, which names the argument, for others."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} is {value!r}; expected a whole number, at least {least}.") from None
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected at least {least}.")
    return number


def count_or_none(name: str, value: Any, least: int = 1) -> int | None:
    """`count`, or None as it is."""
    return None if value is None else count(name, value, least)


def sides(name: str, value: Any) -> tuple[int, int] | None:
    """(height, width) of a side, of two in any sequence, or None as it is. ValueError for others."""
    if value is None:
        return None
    if not hasattr(value, "__len__"):
        side = count(name, value)
        return side, side
    if isinstance(value, str) or len(value) != 2:
        raise ValueError(f"{name} is {value!r}; expected a side, or (height, width).")
    height, width = (count(name, side) for side in value)
    return height, width
