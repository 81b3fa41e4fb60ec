"""Which format a file is, from its content; which one to write, from its name."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from inception.weights import published
from inception.weights.canonical import Weights
from inception.weights.errors import CheckpointError, UnsupportedFeature

_HDF5 = b"\x89HDF\r\n\x1a\n"
_TABLE_END = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a TensorFlow table file


@dataclass(frozen=True)
class Format:
    """A format we write: the module that does it, the endings that ask for it, the options it passes."""

    module: str
    endings: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()


FORMATS: dict[str, Format] = {
    "keras-h5": Format("keras_hdf5", (".h5", ".hdf5")),
    "slim": Format("slim_checkpoint", (".ckpt",)),
    "slim-v1": Format("slim_checkpoint", (".v1.ckpt",), (("version", 1),)),
}


def load(path: str | os.PathLike[str], *, moving_averages: bool = False) -> Weights:
    """Weights from any file we read; its content tells the format, its hash whether it is a published one.

    path: a file, a checkpoint's prefix, or a folder with a `checkpoint` file in it.
    moving_averages: of a training checkpoint, take the averages of the variables.
    Raises `CheckpointError` (a ValueError) with one sentence for anything else.
    """
    place = _checkpoint_in(path)
    module = recognise(place)
    options = {"moving_averages": True} if moving_averages else {}
    if moving_averages and module.__name__ != f"{__package__}.slim_checkpoint":
        raise CheckpointError(f"{place} is no TensorFlow checkpoint, so it has no moving averages; leave them out.")
    weights: Weights = module.read(place, **options)
    known = published.recognise(place)
    if known is None:
        return weights
    source = dataclasses.replace(weights.source, integrity="digest", published=known.id)
    return Weights(weights.arrays, known.variant_of(weights.variant), source)


def recognise(path: str) -> ModuleType:
    """The module that reads a file. `CheckpointError` for a missing file, `UnsupportedFeature` for a strange one."""
    if Path(f"{path}.index").exists() or path.endswith(".index") or re.search(r"\.data-\d{5}-of-\d{5}$", path):
        return _module("slim_checkpoint")
    if not Path(path).is_file():
        raise CheckpointError(f"{path} does not exist; give the path of a weight file, or the prefix of a checkpoint.")
    with open(path, "rb") as file:
        head = file.read(8)
        file.seek(max(0, os.path.getsize(path) - 8))
        tail = file.read(8)
    if head == _HDF5:
        return _module("keras_hdf5")
    if tail == _TABLE_END:
        return _module("slim_checkpoint")
    raise UnsupportedFeature(
        f"{path} is of no format that is read here (it starts with {head!r}); "
        "expected a Keras HDF5 file or a TensorFlow checkpoint, whole and not packed."
    )


def save(weights: Weights, path: str | os.PathLike[str], format: str | None = None) -> Path:
    """Writes `weights` to `path` in the format its ending names, or in `format`."""
    target = Path(path)
    name = format or format_of(target)
    if name not in FORMATS:
        raise UnsupportedFeature(f"Unknown format {name!r}; expected one of {', '.join(FORMATS)}.")
    if not target.parent.is_dir():
        raise CheckpointError(f"The folder {target.parent} does not exist; make it first.")
    _module(FORMATS[name].module).write(target, weights, **dict(FORMATS[name].options))
    return target


def format_of(path: Path) -> str:
    """The format that a file name asks for: by its longest known ending, `x.ckpt-100` counting as `.ckpt`."""
    name = re.sub(r"\.ckpt-\d+$", ".ckpt", path.name)
    endings = {ending: key for key, f in FORMATS.items() for ending in f.endings if name.endswith(ending)}
    if not endings:
        known = ", ".join(ending for f in FORMATS.values() for ending in f.endings)
        raise UnsupportedFeature(f"{path.name} has no ending that names a format; expected one of {known}.")
    return endings[max(endings, key=len)]


def _checkpoint_in(path: str | os.PathLike[str]) -> str:
    """A training folder stands for the newest checkpoint that its `checkpoint` file names."""
    state = Path(path) / "checkpoint"
    if not state.is_file():
        return os.fspath(path)
    with open(state, "rb") as file:
        line = re.search(rb'^model_checkpoint_path: "([^"]+)"', file.read(65_536))
    if line is None:
        raise CheckpointError(f"{state} names no checkpoint; give the checkpoint's own path.")
    return os.fspath(Path(path) / Path(line[1].decode(errors="replace")).name)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")
