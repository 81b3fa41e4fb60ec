"""InceptionV3 for TensorFlow: one table of the network, two builders, every checkpoint.

Names are loaded when they are first used, so `import inception` brings in neither
TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from inception import moved  # noqa: F401

__version__ = "0.2.0"

if TYPE_CHECKING:
    from inception.builders.keras import InceptionV3, end_points
    from inception.builders.slim import inception_v3, inception_v3_arg_scope, inception_v3_base
    from inception.inference import compile_inference
    from inception.labels import decode_predictions
    from inception.networks import Network, network_of
    from inception.pictures import Picture, preprocess_input
    from inception.variants import Variant
    from inception.weights import CheckpointError, Weights
    from inception.weights.formats import load as load_weights

_HOME = {
    "compile_inference": "inception.inference",
    "InceptionV3": "inception.builders.keras",
    "end_points": "inception.builders.keras",
    "inception_v3": "inception.builders.slim",
    "inception_v3_base": "inception.builders.slim",
    "inception_v3_arg_scope": "inception.builders.slim",
    "Network": "inception.networks",
    "network_of": "inception.networks",
    "Picture": "inception.pictures",
    "preprocess_input": "inception.pictures",
    "decode_predictions": "inception.labels",
    "Variant": "inception.variants",
    "CheckpointError": "inception.weights",
    "Weights": "inception.weights",
    "load_weights": "inception.weights.formats:load",
}

_ROOMS = (
    "features",
    "metrics",
    "microscope",
    "training",
    "visualize",
)  # `inception.features.extract` without another import

__all__ = [
    "CheckpointError",
    "InceptionV3",
    "Network",
    "Picture",
    "Variant",
    "Weights",
    "compile_inference",
    "decode_predictions",
    "end_points",
    "inception_v3",
    "inception_v3_arg_scope",
    "inception_v3_base",
    "load_weights",
    "network_of",
    "preprocess_input",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"inception.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'inception' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    value = getattr(importlib.import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, *(name for name in globals() if name.startswith("__"))})
