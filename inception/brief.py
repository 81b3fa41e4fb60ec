"""One line that says what a record holds, for records whose arrays would fill pages."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

_FEW = 3  # items that are shown one by one
_LONGEST = 120


def one_line(record: Any) -> str:
    """The `__repr__` of a dataclass: of arrays their type and shape, of long lists their length."""
    fields = (f"{f.name}={_shown(getattr(record, f.name))}" for f in dataclasses.fields(record) if f.repr)
    return f"{type(record).__name__}({', '.join(fields)})"


def _shown(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"<{value.dtype} {list(value.shape)}>"
    if isinstance(value, Mapping | tuple | list) and len(value) > _FEW:
        return f"<{len(value)} items>"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_shown(each)}" for key, each in value.items()) + "}"
    if isinstance(value, tuple | list):
        return "(" + ", ".join(map(_shown, value)) + ")"
    text = " ".join(repr(value).splitlines())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
