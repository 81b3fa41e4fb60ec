"""Picture files to pixels.

JPEGs are decoded accurately, as TensorFlow does when told INTEGER_ACCURATE;
its default, a rough transform, gives pixels that differ by 1 of 255 on average.
"""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF")
_LARGE = 1 << 24  # pixels: larger pictures are decoded one at a time, whatever the number of threads
_one_at_a_time = threading.Lock()


def read(path: str | os.PathLike[str], *, upright: bool = False) -> np.ndarray:
    """A picture file as uint8 [height, width, 3]; `decode` says how.

    Raises ValueError when it is missing, damaged, of no known format, or larger than
    Pillow's limit for decompression bombs.
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

    upright: turn it as its EXIF orientation says; otherwise it comes as it is stored, as
    TensorFlow and Keras read it. where: its name in errors. Raises ValueError for a picture
    that is damaged or cut, of no known format, of 32-bit pixels, or a decompression bomb.
    """
    try:
        with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture, formats=FORMATS) as opened:
            return _pixels(opened, where, upright)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"The picture {where} is too large ({error}); make it smaller first.") from error
    except UnidentifiedImageError as error:
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
    if pixels <= _LARGE:
        rgb = _rgb(picture, where)
    else:
        with _one_at_a_time:
            rgb = _rgb(picture, where)
    return np.ascontiguousarray(_turned(rgb, _orientation(picture))) if upright else rgb


def _rgb(picture: Image.Image, where: str) -> np.ndarray:
    """Pillow's own conversion, but for 16-bit greys, which it would clip to white."""
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        grey = (np.asarray(picture) >> 8).astype(np.uint8)
        return np.stack([grey] * 3, axis=-1)
    if picture.mode in ("I", "F"):
        raise _Refused(f"The picture {where} has 32-bit pixels, and nothing says which is white; save it as 8-bit.")
    return np.asarray(picture.convert("RGB"))


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none, or none that can be read."""
    try:
        found = picture.getexif().get(0x0112, 1)
    except _DAMAGE:
        return 1
    return found if found in range(1, 9) else 1


def _turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Stored pixels as they are to be seen."""
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
