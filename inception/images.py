"""Picture files to pixels.

JPEGs are decoded accurately, as TensorFlow does when told INTEGER_ACCURATE;
its default, a rough transform, gives pixels that differ by 1 of 255 on average.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import threading
import zlib
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from PIL import Image, ImagePalette, TiffImagePlugin, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
_LARGE = 1 << 24  # pixels: larger pictures are decoded one at a time, whatever the number of threads
_one_at_a_time = threading.Lock()


def read(path: str | os.PathLike[str], *, upright: bool = False) -> np.ndarray:
    """A picture file as uint8 [height, width, 3]; `decode` says how.

    Raises:
        ValueError: When it is missing, damaged, of no known format, or larger than Pillow's limit for decompression
            bombs.
    """
    where = os.fspath(path)
    try:
        with open(path, "rb") as file:
            return decode(file, where, upright=upright)
    except FileNotFoundError as error:
        raise ValueError(f"The picture {where} does not exist.") from error
    except OSError as error:
        raise ValueError(f"The picture {where} cannot be read ({error.strerror}).") from error


def decode(picture: bytes | IO[bytes], where: str, *, upright: bool = False) -> np.ndarray:
    """An encoded picture as uint8 [height, width, 3]: the first frame, alpha dropped, 16 bits scaled to 8.

    Args:
        upright: turn it as its EXIF orientation says; otherwise it comes as it is stored, as TensorFlow and Keras read
            it. A turned picture of more than 16 million pixels comes as a view.
        where: its name in errors.

    Raises:
        ValueError: For a picture that is damaged or cut, of no known format, of 32-bit, signed or otherwise doubtful
            pixels, or a decompression bomb.
    """
    file = io.BytesIO(picture) if isinstance(picture, bytes) else picture
    try:
        with Image.open(file, formats=FORMATS) as opened:
            return _pixels(opened, where, upright)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"The picture {where} is too large ({error}); make it smaller first.") from error
    except UnidentifiedImageError as error:
        file.seek(0)
        if file.read(4) in _TIFF:
            raise ValueError(f"{where} is a TIFF of a kind that is not read here; save it with 8 bits.") from error
        raise ValueError(f"{where} is no picture that is read here; expected {', '.join(FORMATS)}.") from error
    except _Refused:
        raise
    except _DAMAGE as error:
        raise ValueError(f"The picture {where} is damaged ({error}); get it again.") from error


class _Refused(ValueError):
    """A sound picture that is not read here."""


# What Pillow raises for damaged files, as found by damaging some.
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, ArithmeticError, LookupError,
           TypeError, AttributeError, AssertionError, RuntimeError, MemoryError)  # fmt: skip


def _pixels(picture: Image.Image, where: str, upright: bool) -> np.ndarray:
    """What `decode` returns. Pillow itself only warns between its limit and twice that."""
    pixels, most = picture.width * picture.height, Image.MAX_IMAGE_PIXELS
    if most and pixels > most:
        raise _Refused(f"The picture {where} is too large ({pixels:,} pixels, {most:,} at most); make it smaller.")
    said = _orientation(picture) if picture.format == "TIFF" else 1
    with _one_at_a_time if pixels > _LARGE else contextlib.nullcontext():
        rgb = _rgb(picture, where)
    left = _orientation(picture)
    if upright:
        rgb = _turned(rgb, left)
    elif said != left:  # Pillow turns TIFFs by itself
        rgb = _turned(rgb, {6: 8, 8: 6}.get(said, said))
    return rgb if pixels > _LARGE else np.ascontiguousarray(rgb)


def _rgb(picture: Image.Image, where: str) -> np.ndarray:
    """Pillow's conversion, but for what it would clip or invert; in strips, for it takes four bytes a pixel."""
    tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    deep = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG")
    doubt = "" if deep and not tags else _doubt(picture.mode, tags)
    if doubt:
        raise _Refused(f"The picture {where} {doubt}; save it as 8-bit.")
    if picture.mode in ("P", "PA") and max(tags.get(_COLOURS, (256,))) < 256:  # bytes where 16 bits should be
        picture.palette = ImagePalette.raw("RGB;L", bytes(tags[_COLOURS]))
    picture.info.pop("transparency", None)
    picture.load()
    surplus = max(tags.get(_BITS, (16,))) - 8  # bits of a deep grey that go
    inverted = deep and tags.get(_PHOTOMETRIC) == 0  # Pillow itself inverts the others
    whole = np.empty((picture.height, picture.width, 3), np.uint8)
    rows = max(_STRIP // picture.width, 1)
    for top in range(0, picture.height, rows):
        part = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
        if deep:
            pixels = (np.asarray(part) >> surplus).astype(np.uint8)[..., None]
        else:
            part = part.convert("LA") if part.mode == "La" else part
            pixels = np.asarray(part if part.mode == "RGB" else part.convert("RGB"))
        whole[top : top + rows] = 255 - pixels if inverted else pixels
    return whole


_STRIP = 1 << 20  # pixels
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANES, _COLOURS, _SAMPLES = 258, 259, 262, 284, 320, 339  # a TIFF's tags


def _doubt(mode: str, tags: Mapping[int, Any]) -> str:
    """What of the pixels cannot be told, or (of some TIFFs) is read wrongly by Pillow."""
    bits = max(tags.get(_BITS, (32,)))
    if mode in ("I", "F") and bits >= 32:
        return "has 32-bit pixels, and nothing says which is white"
    if 2 in tags.get(_SAMPLES, ()):
        return "has signed pixels, and nothing says which is white"
    if tags and _PHOTOMETRIC not in tags and mode[0] in "1LI" and tags.get(_COMPRESSION) != 6:  # 6: YCbCr always
        return "does not say whether 0 is black or white"
    if tags.get(_COMPRESSION) == 1 and tags.get(_PLANES) == 2 and bits == 16:
        return "has its 16-bit colours one after the other"
    return ""


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        found = picture.getexif().get(0x0112, 1)
    except _DAMAGE:
        return 1
    return found if found in range(1, 9) else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels turned upright."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    rows = -1 if orientation in (3, 4, 7, 8) else 1
    columns = -1 if orientation in (2, 3, 6, 7) else 1
    return pixels[::rows, ::columns]


def test_picture(size: int = 299) -> np.ndarray:
    """A picture without a file, the same always: soft colours, edges and texture, uint8 [size, size, 3]."""
    y, x = np.mgrid[0:size, 0:size] / size
    rng = np.random.default_rng(1512_00567)
    channels = []
    for _ in range(3):
        waves = sum(np.sin(2 * np.pi * (a * x + b * y + c)) / (1 + a + b) for a, b, c in rng.uniform(0, 9, (6, 3)))
        disc = (x - rng.uniform(0.3, 0.7)) ** 2 + (y - rng.uniform(0.3, 0.7)) ** 2 < 0.05
        channels.append(waves + disc)
    picture = np.stack(channels, -1) + rng.normal(0, 0.1, (size, size, 3))
    picture -= picture.min()
    return (picture * (255 / picture.max())).astype(np.uint8)
