"""Packages that only some users need: imported where they are used, named in one line when they are missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

EXTRAS = {"onnx": "onnx", "onnxruntime": "onnx", "openvino": "openvino", "nncf": "openvino"}


def load(module: str) -> Any:
    """The module. ModuleNotFoundError that names the extra to install when it is not there."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        message = f"The package {module} is not installed; pip install 'inception-v3[{EXTRAS[module]}]' brings it."
        raise ModuleNotFoundError(message, name=module) from error


def installed(module: str) -> bool:
    """Whether the module can be imported; it is not imported here."""
    return importlib.util.find_spec(module) is not None
