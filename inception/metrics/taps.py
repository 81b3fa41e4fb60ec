"""What a protocol compares, computed by the network: pooled features, logits without bias, and sFID's values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inception import features
from inception.features.sources import PictureSource
from inception.metrics.protocols import FEATURES
from inception.pictures import Picture
from inception.variants import SCOPE
from inception.weights import Weights


def extracted(
    source: PictureSource | Sequence[PictureSource],
    out: str | os.PathLike[str],
    weights: Any,
    picture: Picture,
    end_points: Sequence[str] = (FEATURES,),
    **options: Any,
) -> Path:
    """A folder of features of pictures; run again, it goes on. Options are those of `features.extract`."""
    return features.extract(source, out, weights, end_points=end_points, picture=picture, **options).out


def logits(pooled: np.ndarray, weights: Weights) -> np.ndarray:
    """Pooled features [n, 2048] times the classifier's kernel, without its bias: float32 [n, 1008].

    Raises:
        ValueError: For weights without a classifier.
    """
    if not weights.variant.num_classes:
        raise ValueError(f"{weights.source.path} has no classifier, so no Inception Score; give weights with top.")
    kernel = weights.arrays[f"{SCOPE}/Logits/Conv2d_1c_1x1/weights"]
    return np.asarray(pooled @ kernel.reshape(kernel.shape[-2:]), np.float32)


def spatial(maps: np.ndarray) -> np.ndarray:
    """sFID's values of each picture in ADM's order, rows, columns, channels: [n, 17, 17, 7] to [n, 2023]."""
    return maps.reshape(len(maps), -1)
