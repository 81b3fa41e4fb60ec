"""The one place that opens HDF5: every dataset of a file by its path, and the root's own texts.

HDF5 can point outside itself (links, external storage, virtual datasets) and name plug-in
filters; nothing of that belongs in a weight file, and all of it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from inception.weights.errors import CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.weights.stored import Stored

if TYPE_CHECKING:
    import h5py

_MOST_OBJECTS = 20_000
_PLAIN_FILTERS = {"gzip", "shuffle", "fletcher32"}


@dataclass(frozen=True)
class Content:
    """tensors: {path: dataset}; attributes: the root's fixed-length texts; checksummed: all data carries Fletcher32."""

    tensors: Mapping[str, Stored]
    attributes: Mapping[str, str]
    checksummed: bool


def read(path: str | os.PathLike[str]) -> Content:
    """Lists an HDF5 file. Raises our exceptions for whatever is wrong with it."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            datasets = dict(_datasets(file, ""))
            tensors = {name: _stored(os.fspath(path), name, dataset) for name, dataset in datasets.items()}
            checksummed = bool(datasets) and all(dataset.fletcher32 for dataset in datasets.values())
            return Content(tensors, _texts(file), checksummed)
    except (OSError, KeyError, RuntimeError, TypeError, UnicodeError) as error:
        raise _damaged(path, error) from error


def _datasets(group: "h5py.Group", prefix: str) -> Iterator[tuple[str, "h5py.Dataset"]]:
    """Every dataset below a group, hard links only, one component at a time."""
    import h5py

    seen: set[object] = set()
    todo = [(prefix, group)]
    while todo:
        prefix, group = todo.pop()
        if group.id in seen:
            continue
        seen.add(group.id)
        if len(seen) > _MOST_OBJECTS:
            raise ResourceLimit(f"{group.file.filename} holds more than {_MOST_OBJECTS} groups; this is no weight file.")
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise UnsafeFile(f"{group.file.filename}: {prefix}{name} is a link to elsewhere; such files are not read.")
            child = group[name]
            if isinstance(child, h5py.Group):
                todo.append((f"{prefix}{name}/", child))
            elif isinstance(child, h5py.Dataset):
                yield f"{prefix}{name}", child


def _stored(path: str, name: str, dataset: "h5py.Dataset") -> Stored:
    if dataset.external or dataset.is_virtual:
        raise UnsafeFile(f"{path}: {name} keeps its values in another file; such files are not read.")
    filters = {dataset.id.get_create_plist().get_filter(i)[3] for i in range(dataset.id.get_create_plist().get_nfilters())}
    named = {f.decode().replace("deflate", "gzip") for f in filters}
    if named - _PLAIN_FILTERS:
        raise UnsupportedFeature(f"{path}: {name} uses the filter {', '.join(sorted(named - _PLAIN_FILTERS))}; expected gzip, shuffle or fletcher32.")
    return Stored(dataset.shape or (), dataset.dtype, lambda: _values(path, name))


def _values(path: str, name: str) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file[name][()]
    except (OSError, KeyError, RuntimeError, TypeError, UnicodeError) as error:
        raise _damaged(path, error) from error


def _texts(file: "h5py.File") -> dict[str, str]:
    texts = {}
    for key in ("inception_variant", "keras_version", "backend"):
        if key in file.attrs:
            value = file.attrs[key]
            texts[key] = value.decode() if isinstance(value, bytes) else str(value)
    return texts


def _damaged(path: str | os.PathLike[str], error: Exception) -> CorruptFile:
    return CorruptFile(f"{os.fspath(path)} is damaged or no HDF5 file ({error}); fetch or copy it again.")
