"""JSON from files that nobody vouches for: size-capped, no key twice, every failure one of ours.

The result is plain data and is never turned into objects.
"""

from __future__ import annotations

import json
import math
import os
import typing
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, Union

from inception.files.errors import CorruptFile, ResourceLimit, reason
from inception.files.regular import RegularFile
from inception.files.tensor import damaged

T = TypeVar("T")
_LARGEST_SIDE_FILE = 16 << 20


def side_file(path: str | os.PathLike[str], kinds: Mapping[str, Any], advice: str = "write it again") -> dict[str, Any]:
    """The object in a small JSON file that we wrote beside something, with all fields of `kinds`.

    Args:
        kinds: {field: its type}, as `is_a` takes them; other fields are kept as they are.

    Raises:
        CheckpointError: One sentence, which ends in the advice, for anything else than such a file: none, a pipe,
            another text.
    """
    where = os.fspath(path)
    file = RegularFile(path)
    try:
        if file.size > _LARGEST_SIDE_FILE:
            raise ValueError(f"it has {file.size} bytes, {_LARGEST_SIDE_FILE} at most")
        found = parse(b"".join(file.pieces()), _LARGEST_SIDE_FILE, where)
        check_fields(found, kinds)
    except (ValueError, RecursionError, MemoryError) as error:
        raise CorruptFile(f"{where} is not as it was written ({reason(error, where)}); {advice}.") from error
    return found


def check_fields(found: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """ValueError that names the first field of `kinds` that is missing or of another type."""
    for name, kind in kinds.items():
        if name not in found:
            raise ValueError(f"it has no {name}")
        if not is_a(found[name], kind):
            raise ValueError(f"its {name} is {str(found[name])[:40]!r}")


def is_a(value: Any, kind: Any) -> bool:
    """Whether a value of JSON is of a type: str, bool, None, Any, or a union, list or dict of such types.

    int is a whole number from 0 on, float any number, NaN included.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, UnionType):
        return any(is_a(value, part) for part in parts)
    if origin is list:
        return isinstance(value, list) and all(is_a(item, parts[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(is_a(item, parts[1]) for item in value.values())
    if kind is float:
        return type(value) in (int, float)
    if kind is int:
        return type(value) is int and value >= 0
    return kind is Any or type(value) is (type(None) if kind is None else kind)


def record(kind: type[T], fields: Mapping[str, Any], what: str = "") -> T:
    """The dataclass that an object of JSON says, lists as tuples; fields that it does not know are passed over.

    ValueError, which names the field after `what`, for a value of another type, a text that is not among those
    listed, and a number that is not finite or, where it is whole, negative or beyond 31 bits.
    """
    kinds = typing.get_type_hints(kind)
    return kind(**{name: _as(fields[name], kinds[name], what + name) for name in kinds if name in fields})


def _as(value: Any, kind: Any, what: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is UnionType:
        [kind] = [part for part in parts if isinstance(value, list | tuple) == (typing.get_origin(part) is tuple)]
        return _as(value, kind, what)
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(parts):
        return tuple(_as(item, part, what) for item, part in zip(value, parts, strict=True))
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if (origin is typing.Literal and value in parts) or (kind in (bool, str) and type(value) is kind):
        return value
    if kind is int and type(value) is int and 0 <= value < 1 << 31:
        return value
    raise ValueError(f"{what} cannot be {str(value)[:40]!r}")


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
