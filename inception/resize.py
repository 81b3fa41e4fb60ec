"""Pictures to another size: the resize operators that InceptionV3's networks and metrics were measured with.

Two of them give pixels of the same picture that differ by up to 100 of 255, so the operator
belongs to the weights, or to the metric. All work on [h, w, c] arrays of any channel count,
forget the aspect, and take h and w each on its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

OPERATORS: dict[str, str] = {
    "tensorflow1": "TensorFlow 1's bilinear, no half-pixel centres, no antialias: slim, the 2015 graph, TTUR's FID, "
    "IS, KID, ADM, torch-fidelity, torchmetrics before 1.8",
    "affine_grid": "the same sample places through torch's affine_grid and grid_sample, other rounding: NVIDIA's "
    "detector, clean-fid's legacy_tensorflow",
    "bilinear": "half-pixel bilinear, no antialias: torch's F.interpolate, tf.image.resize; pytorch-fid, dgm-eval, "
    "MLPerf, clean-fid's legacy_pytorch",
    "bilinear_antialias": "half-pixel bilinear whose triangle widens when it shrinks: torch's and TensorFlow's "
    "antialias=True; torchmetrics from 1.8",
    "pillow_bilinear": "Pillow's BILINEAR, antialiased: torchvision and jax-fid (rounded)",
    "pillow_bicubic": "Pillow's BICUBIC, antialiased: timm (rounded), clean-fid and dgm-eval --clean_resize (not)",
}
_ROWS = 32  # of the result at a time, so that what lies between stays in the processor's cache
_STRIP = 1 << 20  # pixels handed to Pillow at a time


def resize(
    pixels: np.ndarray, height: int, width: int, how: str = "tensorflow1", *, rounded: bool = False
) -> np.ndarray:
    """Pixels 0..255 [h, w, c] to float32 [height, width, c] by one of `OPERATORS`.

    Args:
        pixels: uint8 or float32, views without a copy.
        rounded: whole numbers come out, rounded half to even; for Pillow's operators, what the Pillow that is installed
            makes of 8-bit pictures (whole numbers between its two passes, too), where it otherwise works on float
            channels and what comes out is clipped to 0..255.

    Raises:
        ValueError: For an unknown operator and for shapes without pixels.
    """
    if how not in OPERATORS:
        raise ValueError(f"Unknown resize operator {how!r}; expected one of {', '.join(OPERATORS)}.")
    if pixels.ndim != 3 or 0 in pixels.shape or min(height, width) < 1:
        raise ValueError(
            f"Pixels of shape {pixels.shape} cannot be resized to {height} x {width}; "
            "expected [height, width, channels] and sizes of 1 or more."
        )
    if how in _PILLOW:
        return _by_pillow(pixels, height, width, _PILLOW[how], rounded)
    if how in _PLACES:
        sides = zip(pixels.shape[:2], (height, width), strict=True)
        rows, columns = (_neighbours(_PLACES[how](*pair), pair[0]) for pair in sides)
        resized = _between_neighbours(pixels, rows, columns)
    else:
        tall = _filtered(pixels, height)
        resized = np.ascontiguousarray(_filtered(tall.swapaxes(0, 1), width).swapaxes(0, 1))
    return np.clip(np.rint(resized), 0, 255) if rounded else resized


# --- Two neighbours ----------------------------------------------------------------------

Neighbours = tuple[np.ndarray, np.ndarray, np.ndarray]  # indices below and above, and the part of the upper one


def _tensorflow1(old: int, new: int) -> np.ndarray:
    return np.arange(new, dtype=np.float32) * np.float32(old / new)


def _half_pixel(old: int, new: int) -> np.ndarray:
    return np.maximum((np.arange(new) + 0.5) * np.float32(old / new) - 0.5, 0).astype(np.float32)


def _affine_grid(old: int, new: int) -> np.ndarray:
    """In torch's steps, each rounded to float32 as torch rounds it: that moves a place by up to 1e-4 of a pixel."""
    one, step = np.float32(1), float(np.float32(2 / max(new - 1, 1)))
    line = (np.arange(new) * step - 1).astype(np.float32)
    line = np.where(np.arange(new) < new // 2, line, -line[::-1]) if new > 1 else np.zeros(1, np.float32)
    grid = line * np.float32(new - 1) / np.float32(new) + np.float32(1 / old - 1 / new)
    return np.clip((grid + one).astype(float) * (old / 2) - 0.5, 0, old - 1).astype(np.float32)


_PLACES: dict[str, Callable[[int, int], np.ndarray]] = {
    "tensorflow1": _tensorflow1,
    "affine_grid": _affine_grid,
    "bilinear": _half_pixel,
}


def _neighbours(places: np.ndarray, old: int) -> Neighbours:
    low = np.minimum(np.floor(places).astype(np.int64), old - 1)
    return low, np.minimum(low + 1, old - 1), places - low.astype(np.float32)


def _between_neighbours(pixels: np.ndarray, rows: Neighbours, columns: Neighbours) -> np.ndarray:
    """First across, then down, as TensorFlow does."""
    low, high, down = rows
    left, right, across = columns
    channels = pixels.shape[2]
    left, right = (((side * channels)[:, None] + np.arange(channels)).ravel() for side in (left, right))
    across, down = np.repeat(across, channels), down[:, None]
    result = np.empty((len(low), len(left)), np.float32)
    for start in range(0, len(low), _ROWS):
        part = slice(start, start + _ROWS)
        needed, where = np.unique(np.concatenate([low[part], high[part]]), return_inverse=True)
        flat = pixels[needed].reshape(len(needed), -1)
        wide = _mixed(flat.take(left, 1).astype(np.float32), flat.take(right, 1).astype(np.float32), across)
        upper, lower = np.split(where, 2)
        result[part] = _mixed(wide[upper], wide[lower], down[part])
    return result.reshape(len(low), -1, channels)


def _mixed(a: np.ndarray, b: np.ndarray, part: np.ndarray) -> np.ndarray:
    """a + (b - a) * part, in b's memory."""
    b -= a
    b *= part
    b += a
    return b


# --- A wide triangle ---------------------------------------------------------------------


def _filtered(pixels: np.ndarray, new: int) -> np.ndarray:
    """[h, w, c] to float32 [new, w, c]: each row a weighted sum of those that its triangle covers."""
    indices, weights = _triangle(len(pixels), new)
    result = np.zeros((new, *pixels.shape[1:]), np.float32)
    for start in range(0, new, _ROWS):
        part = slice(start, start + _ROWS)
        for index, weight in zip(indices[:, part], weights[:, part], strict=True):
            result[part] += pixels[index] * weight[:, None, None]
    return result


def _triangle(old: int, new: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices and weights [taps, new], in float32 as torch has them."""
    scale, half = np.float32(old / new), np.float32(0.5)
    reach = max(scale, np.float32(1))
    centres = (np.arange(new, dtype=np.float32) + half) * scale
    first = np.maximum((centres - reach + half).astype(np.int64), 0)
    end = np.minimum((centres + reach + half).astype(np.int64), old)
    indices = first + np.arange((end - first).max())[:, None]
    far = np.abs((indices.astype(np.float32) - centres + half) * (1 / reach))
    weights = np.maximum(1 - far, 0) * (indices < end)
    return np.minimum(indices, old - 1), weights / weights.sum(0)


# --- Pillow ------------------------------------------------------------------------------

_PILLOW = {"pillow_bilinear": Image.Resampling.BILINEAR, "pillow_bicubic": Image.Resampling.BICUBIC}


def _by_pillow(pixels: np.ndarray, height: int, width: int, resample: Image.Resampling, rounded: bool) -> np.ndarray:
    colour = rounded and pixels.shape[2] == 3  # other counts go channel by channel: a fourth one is no alpha here
    planes = [pixels] if colour else [pixels[..., i] for i in range(pixels.shape[2])]
    resized = [np.asarray(_pillow_of(plane, rounded).resize((width, height), resample)) for plane in planes]
    return np.clip(resized[0] if colour else np.stack(resized, -1), 0, 255).astype(np.float32)


def _pillow_of(plane: np.ndarray, whole: bool) -> Image.Image:
    """A plane or three as Pillow's picture, filled in strips, so that a large one is never held three times.

    (Resizing in strips would give other bits: which of its two passes Pillow takes first depends on its version.)
    """
    height, width = plane.shape[:2]
    strip = max(_STRIP // width, 1)
    picture = Image.new("F" if not whole else "L" if plane.ndim == 2 else "RGB", (width, height), None)
    for start in range(0, height, strip):
        part = plane[start : start + strip]
        if not whole:
            part = part.astype(np.float32)
        elif part.dtype != np.uint8:
            part = np.clip(np.rint(part), 0, 255).astype(np.uint8)
        picture.paste(Image.fromarray(part), (0, start))
    return picture
