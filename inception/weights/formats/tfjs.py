"""TensorFlow.js layers models, by the names of Keras's layers."""

from __future__ import annotations

import os

from inception.files import tfjs
from inception.weights.canonical import Source, Weights
from inception.weights.dialects import keras_layers

TITLE = "TensorFlow.js layers model"


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of a TensorFlow.js layers model, given as its `model.json`.

    Raises:
        UnsupportedFeature: When it is no InceptionV3 of Keras's layers.
        MissingTensor, ShapeMismatch: When it is part of one or has another head.
        UnsafeFile: For shards outside of its folder.
        CorruptFile: For damage.
    """
    return keras_layers.gather(tfjs.read(path), Source(os.fspath(path), TITLE))
