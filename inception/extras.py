"""Packages that only some users need: imported where they are used, named in one line when they are missing."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from typing import Any

# module: the extra of ours that brings it
EXTRAS = {
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
    "pyarrow": "features",
    "matplotlib": "pictures",
    "sklearn": "pictures",
    "ray": "ray",
    "fsspec": "stores",
    "s3fs": "stores",
}


class MissingPackage(ModuleNotFoundError):
    """A package that an extra brings is not installed; the message names that extra."""


def load(module: str) -> Any:
    """The module (dots allowed). MissingPackage that names the extra to install when it is not there."""
    package = module.partition(".")[0]
    try:
        with _untold() if package in ("openvino", "nncf") else contextlib.nullcontext():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        message = f"The package {package} is not installed; pip install 'inception-v3[{EXTRAS[package]}]' brings it."
        raise MissingPackage(message, name=package) from error


@contextlib.contextmanager
def _untold() -> Iterator[None]:
    """No openvino_telemetry: by it OpenVINO and NNCF tell Google of their use, and the process's end waits for that."""
    module = "openvino_telemetry"
    hidden = sys.modules.setdefault(module, None) is None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hidden:
            sys.modules.pop(module, None)


def installed(module: str) -> bool:
    """Whether the module can be imported; it is not imported here."""
    return importlib.util.find_spec(module) is not None
