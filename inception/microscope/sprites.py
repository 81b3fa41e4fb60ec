"""Tiles under each other in one picture file, which a page shows one at a time."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from inception.microscope.pieces import PICTURES, write


def encoded(picture: np.ndarray, quality: int) -> bytes:
    """A picture as a WebP file's bytes; the same bytes for the same pixels."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="WEBP", quality=quality, method=4)
    return file.getvalue()


def put(site: Path, name: str, rows: Sequence[np.ndarray], quality: int) -> str:
    """Writes tiles of one shape, uint8 [h, w, 3], as a column; the file's name."""
    write(site / PICTURES / f"{name}.webp", encoded(np.concatenate(rows), quality))
    return f"{name}.webp"
