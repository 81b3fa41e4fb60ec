"""How records whose arrays would fill pages show themselves: one line in a shell, a table or a picture in a notebook.

The HTML has no colours of its own, so that it reads on a light page and on a dark one; what files call things is
escaped in it.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from inception.files.errors import LONGEST_NAME, safe

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


# --- HTML ------------------------------------------------------------------------------


def text(foreign: object) -> str:
    """Somebody else's words as a part of no markup."""
    return escape(safe(foreign, LONGEST_NAME))


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """A table that scrolls by itself where the page is narrow; the first cell of a row is its name."""
    head = "".join(f"<th>{text(cell)}</th>" for cell in header)
    lines = (
        f"<tr><th scope=row>{text(name)}</th>{''.join(f'<td>{text(cell)}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return (
        '<div class="scroll" style="overflow-x:auto"><table cellpadding="4" style="text-align:left">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def image(pixels: np.ndarray, alt: str) -> str:
    """A picture, uint8 [h, w, 3 or 4], inside the page and no wider than it."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="WEBP", quality=88)
    source = f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
    size = f'width="{pixels.shape[1]}" height="{pixels.shape[0]}" style="max-width:100%;height:auto"'
    return f'<img src="{source}" {size} alt="{text(alt)}">'


def card(title: object, *parts: str) -> str:
    """What a notebook shows of a record: a heading, and HTML below it."""
    return f"<div><p><b>{text(title)}</b></p>{''.join(parts)}</div>"
