"""Pictures in, class scores out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from inception import images
from inception.weights import CheckpointError, Weights

_BATCH = 16


def classify(
    pictures: Sequence[str | os.PathLike[str] | np.ndarray], weights: Weights, recipe: str = "keras"
) -> np.ndarray:
    """The classifier's probabilities for each picture (a file, or uint8 [h, w, 3]): [pictures, classes].

    Raises `CheckpointError` for weights without a classifier, ValueError for a picture
    that cannot be read.
    """
    if not weights.variant.num_classes:
        raise CheckpointError(f"{weights.source.path} has no classifier; give weights with top.")
    size = weights.variant.image_size
    inputs = [images.prepare(picture, size, weights.variant, recipe) for picture in pictures]

    from inception.builders.keras import model_of

    weights = weights.step("drop-aux") if weights.variant.aux_logits else weights
    model = model_of(weights, input_shape=(size, size, 3))
    batches = (np.stack(inputs[i : i + _BATCH]) for i in range(0, len(inputs), _BATCH))
    return np.concatenate([np.asarray(model(batch, training=False)) for batch in batches])
