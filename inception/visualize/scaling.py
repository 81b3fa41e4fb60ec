"""What a network takes for pixels, and the way back to a picture.

A picture is uint8 [height, width, 3], RGB. A network sees (pixel - mean) / scale, some in
the order BGR. Everything in this folder works in the network's range and comes back
through `Scaling.picture`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inception.variants import Variant


@dataclass(frozen=True)
class Scaling:
    """input = (pixel - mean) / scale for pixels 0..255; `bgr` turns the channels round first."""

    mean: tuple[float, ...] = (127.5, 127.5, 127.5)
    scale: tuple[float, ...] = (127.5, 127.5, 127.5)
    bgr: bool = False

    def network(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels 0..255, [..., 3], as the network's float32 input."""
        pixels = np.asarray(pixels, np.float32)
        pixels = pixels[..., ::-1] if self.bgr else pixels
        return (pixels - _float32(self.mean)) / _float32(self.scale)

    def picture(self, values: np.ndarray) -> np.ndarray:
        """The network's input as uint8 pixels, rounded; values beyond the range become its ends."""
        pixels = np.asarray(values, np.float32) * _float32(self.scale) + _float32(self.mean)
        pixels = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
        return pixels[..., ::-1] if self.bgr else pixels

    @property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """The inputs that black and white pixels become: float32 [3] each."""
        black, white = self.network(np.zeros(3)), self.network(np.full(3, 255.0))
        return np.minimum(black, white), np.maximum(black, white)


def _float32(numbers: tuple[float, ...]) -> np.ndarray:
    return np.asarray(numbers, np.float32)


# The modes of `keras.applications`, and two for networks that scale inside themselves.
NAMED = {
    "tf": Scaling(),
    "caffe": Scaling((103.939, 116.779, 123.68), (1.0, 1.0, 1.0), bgr=True),
    "torch": Scaling((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "unit": Scaling((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "pixels": Scaling((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
}


def named(scaling: str | Scaling | Variant) -> Scaling:
    """A `Scaling` by name, of a weight file's variant, or as it is. ValueError for an unknown name."""
    if isinstance(scaling, Scaling):
        return scaling
    if isinstance(scaling, Variant):
        return Scaling(scaling.pixel_mean, scaling.pixel_scale)
    if scaling not in NAMED:
        raise ValueError(f"Unknown scaling {scaling!r}; expected one of {', '.join(NAMED)}, or a Scaling.")
    return NAMED[scaling]
