"""Weights of any InceptionV3: read, checked, changed by name, written."""

from inception.files.errors import (
    CheckpointError,
    CorruptFile,
    MissingTensor,
    ResourceLimit,
    ShapeMismatch,
    UnsafeFile,
    UnsupportedFeature,
)
from inception.weights.canonical import Source, Weights
from inception.weights.formats import load
from inception.weights.steps import STEPS

__all__ = [
    "STEPS",
    "CheckpointError",
    "CorruptFile",
    "MissingTensor",
    "ResourceLimit",
    "ShapeMismatch",
    "Source",
    "UnsafeFile",
    "UnsupportedFeature",
    "Weights",
    "load",
]
