"""The pictures that the examples use where no folder is given: scikit-learn's handwritten digits, a folder each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits


def write(folder: Path, count: int, start: int = 0, size: int = 64) -> Path:
    """Writes `count` digits as PNG files into folders 0 to 9."""
    digits = load_digits()
    for i in range(start, start + count):
        ink = (255 - digits.images[i] * (255 / 16)).astype(np.uint8)
        target = folder / str(digits.target[i]) / f"{i:04d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(ink).resize((size, size), Image.Resampling.BICUBIC).save(target)
    return folder
