"""Pictures out: resizing, colouring, sheets of tiles with titles, and writing a file whole.

Every picture here is uint8 [height, width, 3], RGB.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageDraw, ImageFont, PngImagePlugin

import inception
from inception.files import atomic
from inception.files.errors import safe

ENDINGS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
PAPER, INK, FAINT = (255, 255, 255), (28, 30, 34), (120, 126, 134)
_DEAD, _STROKE = (232, 233, 236), (178, 181, 188)
CAPTION = 16  # pixels of height, of the words below a tile
_BESIDE = 200  # pixels, the longer side of a picture beside a grid

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


def save(picture: np.ndarray, path: str | os.PathLike[str], title: str = "", weights: str = "") -> Path:
    """Writes a picture whole or not at all, in place of an old one; the ending says the format. The path.

    The file says what it is (`said`): a PNG under the format's own keywords, others in their EXIF.
    """
    kind, path = check_target(path), Path(path)
    with atomic.replacing(path) as (temporary,):
        Image.fromarray(picture).save(temporary, format=kind, **_options(kind, said(title, weights)))
    return path


def said(title: str, weights: str = "") -> dict[str, str]:
    """What a picture's file says of itself: title, weights, the command that made it, and this version."""
    words = {"Title": title, "Source": os.path.basename(weights), "Comment": _command()}
    words = {name: safe(value) for name, value in words.items() if value}
    return words | {"Software": f"inception {inception.__version__}"}


def _command() -> str:
    """The command line, where it is one of ours."""
    program = Path(sys.argv[0])
    ours = program.stem == "inception" or program.parts[-2:] == ("inception", "__main__.py")
    return shlex.join(["inception", *sys.argv[1:]]) if ours else ""


def _options(kind: str, words: dict[str, str]) -> dict[str, Any]:
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        for name, value in words.items():
            info.add_text(name, value)
        return {"pnginfo": info}
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = words.pop("Software")
    exif[ExifTags.Base.ImageDescription] = "; ".join(words.values())
    return {"quality": 92, "exif": exif}


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
    """A heading, a line below it, and tiles side by side; left of them a picture, where there is one."""

    title: str
    note: str
    tiles: Sequence[Tile]
    beside: np.ndarray | None = None


def fitted(shape: Sequence[int], most: int) -> tuple[int, int]:
    """(height, width) of the same proportions whose longer side is `most` pixels."""
    longest = max(shape[:2])
    return max(round(most * shape[0] / longest), 1), max(round(most * shape[1] / longest), 1)


def grid(
    tiles: Sequence[Tile],
    columns: int,
    cell: int | tuple[int, int],
    gap: int = 3,
    paper: tuple[int, int, int] = PAPER,
    ink: tuple[int, int, int] = FAINT,
) -> np.ndarray:
    """Tiles in rows of cells, squares of `cell` pixels or (height, width), captions below them. uint8 [h, w, 3]."""
    height, width = (cell, cell) if isinstance(cell, int) else cell
    row = height + gap + (CAPTION if any(tile.caption for tile in tiles) else 0)
    columns = max(1, min(columns, len(tiles)))
    page = Image.new("RGB", (columns * (width + gap) - gap, -(-len(tiles) // columns) * row - gap), paper)
    for i, tile in enumerate(tiles):
        x, y = i % columns * (width + gap), i // columns * row
        shown = tile.picture
        page.paste(_dead(height, width) if shown is None else Image.fromarray(resize(shown, height, width)), (x, y))
        if tile.caption:
            ImageDraw.Draw(page).text((x, y + height + 1), tile.caption, ink, font(11))
    return np.asarray(page)


def sheet(sections: Sequence[Section], columns: int, cell: int | tuple[int, int], gap: int = 3) -> np.ndarray:
    """Sections under each other, each a heading and its grid. uint8 [h, w, 3]."""
    margin, head, between = 14, 46, 10
    grids = [_beside(section.beside, grid(section.tiles, columns, cell, gap), margin) for section in sections]
    width = 2 * margin + max(
        420, *(each.shape[1] for each in grids), *(int(font(12).getlength(each.note)) + 1 for each in sections)
    )
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


def _beside(picture: np.ndarray | None, of: np.ndarray, gap: int) -> np.ndarray:
    """A grid with a picture left of it."""
    if picture is None:
        return of
    height, width = fitted(picture.shape, _BESIDE)
    page = np.full((max(height, of.shape[0]), width + gap + of.shape[1], 3), PAPER, np.uint8)
    page[:height, :width] = resize(picture, height, width)
    page[: of.shape[0], width + gap :] = of
    return page


def _dead(height: int, width: int) -> Image.Image:
    """An empty, crossed cell that says so where there is room."""
    page = Image.new("RGB", (width, height), _DEAD)
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, width - 1, height - 1), None, _STROKE)
    pen.line((0, 0, width - 1, height - 1), _STROKE)
    pen.line((0, height - 1, width - 1, 0), _STROKE)
    left, top, right, bottom = pen.textbbox((width / 2, height / 2), "dead", font(12), anchor="mm")
    if right - left < width - 12 and bottom - top < height - 12:
        pen.rectangle((left - 3, top - 2, right + 3, bottom + 2), _DEAD)
        pen.text((width / 2, height / 2), "dead", FAINT, font(12), anchor="mm")
    return page


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: the same on every machine."""
    return ImageFont.load_default(size)
