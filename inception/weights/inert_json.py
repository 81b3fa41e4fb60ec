"""JSON from files that nobody vouches for: size-capped, no key twice, every failure one of ours.

The result is plain data and is never turned into objects.
"""

from __future__ import annotations

import json
from typing import Any

from inception.weights.errors import ResourceLimit
from inception.weights.wire import damaged


def parse(text: bytes, at_most: int, where: str) -> dict[str, Any]:
    """The object that `text` is. `ResourceLimit` beyond `at_most` bytes, otherwise `CorruptFile`; both name `where`."""
    if len(text) > at_most:
        raise ResourceLimit(f"{where}: {len(text)} bytes of JSON; expected {at_most} at most")
    try:
        value = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError, MemoryError) as error:
        raise damaged(where, f"its JSON cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise damaged(where, "its JSON is no object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)[:100]!r} is there more than once")
    return found


def is_shape(value: Any, most_dimensions: int = 8) -> bool:
    """A list of a few whole numbers, none negative."""
    few = isinstance(value, list) and len(value) <= most_dimensions
    return few and all(type(side) is int and 0 <= side < 1 << 62 for side in value)


def is_number(value: Any) -> bool:
    """A number that float32 has, neither infinite nor NaN."""
    return type(value) in (int, float) and -3e38 < value < 3e38
