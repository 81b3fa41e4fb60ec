"""Pictures out: resizing, colouring, sheets of tiles with titles, and writing a file whole.

Every picture here is uint8 [height, width, 3], RGB.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from inception.files import atomic
from inception.files.errors import safe

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
PAPER, INK, FAINT = (255, 255, 255), (28, 30, 34), (120, 126, 134)
_DEAD, _STROKE = (232, 233, 236), (178, 181, 188)
_CAPTION = 16  # pixels of height

# Anchors from dark to light, spread evenly: matplotlib's viridis (CC0), and a blue-to-red scale for heat.
VIRIDIS = ((68, 1, 84), (72, 40, 120), (62, 74, 137), (49, 104, 142), (38, 130, 142), (31, 158, 137),
           (53, 183, 121), (109, 205, 89), (180, 222, 44), (253, 231, 37))  # fmt: skip
HEAT = ((30, 40, 130), (35, 110, 220), (40, 190, 220), (90, 215, 130), (235, 225, 60), (250, 150, 40), (215, 40, 25))


def resize(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear, centres aligned, averaging when it shrinks: [h, w] or [h, w, c], its kind of number kept."""
    if values.shape[:2] == (height, width):
        return values
    if values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
    planes = np.moveaxis(values.astype(np.float32).reshape(*values.shape[:2], -1), 2, 0)
    sized = [Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR) for plane in planes]
    return np.stack([np.asarray(plane) for plane in sized], axis=-1).reshape(height, width, *values.shape[2:])


def colour(values: np.ndarray, anchors: Sequence[tuple[int, int, int]] = VIRIDIS) -> np.ndarray:
    """Numbers 0..1 of any shape as colours: uint8 [..., 3]."""
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, places, [anchor[c] for anchor in anchors]) for c in range(3)]
    return np.round(np.stack(channels, axis=-1)).astype(np.uint8)


def save(picture: np.ndarray, path: str | os.PathLike[str]) -> Path:
    """Writes a picture whole or not at all, in place of an old one; the ending says the format. The path."""
    kind, path = check_target(path), Path(path)
    with atomic.replacing(path) as (temporary,):
        Image.fromarray(picture).save(temporary, format=kind, **({"quality": 92} if kind != "PNG" else {}))
    return path


def check_target(
    path: str | os.PathLike[str], overwrite: bool = True, sources: Sequence[str | os.PathLike[str]] = ()
) -> str:
    """Pillow's name of the format that a path to write says. ValueError for other endings, and as `atomic` has it."""
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise ValueError(f"{path} has no ending of a picture; expected one of {', '.join(ENDINGS)}.")
    atomic.check_target(path, overwrite, sources)
    return ENDINGS[path.suffix.lower()]


# --- Sheets ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet; None is a channel that is dead, drawn as an empty, crossed cell."""

    picture: np.ndarray | None
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A heading, a line below it, and tiles side by side."""

    title: str
    note: str
    tiles: Sequence[Tile]


def grid(
    tiles: Sequence[Tile], columns: int, cell: int, gap: int = 3, paper: tuple[int, int, int] = PAPER
) -> np.ndarray:
    """Tiles in rows of square cells of `cell` pixels, captions below them. uint8 [h, w, 3]."""
    captions = _CAPTION if any(tile.caption for tile in tiles) else 0
    columns = max(1, min(columns, len(tiles)))
    rows = -(-len(tiles) // columns)
    page = Image.new("RGB", (columns * (cell + gap) - gap, rows * (cell + captions + gap) - gap), paper)
    for i, tile in enumerate(tiles):
        x, y = i % columns * (cell + gap), i // columns * (cell + captions + gap)
        page.paste(_dead(cell) if tile.picture is None else Image.fromarray(resize(tile.picture, cell, cell)), (x, y))
        if tile.caption:
            ImageDraw.Draw(page).text((x, y + cell + 1), tile.caption, FAINT, font(11))
    return np.asarray(page)


def sheet(sections: Sequence[Section], columns: int, cell: int, gap: int = 3) -> np.ndarray:
    """Sections under each other, each a heading and its grid. uint8 [h, w, 3]."""
    margin, head, between = 14, 46, 10
    grids = [grid(section.tiles, columns, cell, gap) for section in sections]
    width = 2 * margin + max(420, *(each.shape[1] for each in grids))
    height = 2 * margin + sum(head + each.shape[0] for each in grids) + between * (len(grids) - 1)
    page = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(page)
    top = margin
    for section, each in zip(sections, grids, strict=True):
        pen.text((margin, top), safe(section.title), INK, font(18))
        pen.text((margin, top + 23), section.note, FAINT, font(12))
        page.paste(Image.fromarray(each), (margin, top + head))
        top += head + each.shape[0] + between
    return np.asarray(page)


def _dead(cell: int) -> Image.Image:
    """An empty, crossed cell that says so where there is room."""
    page = Image.new("RGB", (cell, cell), _DEAD)
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, cell - 1, cell - 1), None, _STROKE)
    pen.line((0, 0, cell - 1, cell - 1), _STROKE)
    pen.line((0, cell - 1, cell - 1, 0), _STROKE)
    left, top, right, bottom = pen.textbbox((cell / 2, cell / 2), "dead", font(12), anchor="mm")
    if right - left < cell - 12:
        pen.rectangle((left - 3, top - 2, right + 3, bottom + 2), _DEAD)
        pen.text((cell / 2, cell / 2), "dead", FAINT, font(12), anchor="mm")
    return page


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)
