"""Keras 3's weights in shards: a `.weights.json`, and the `.weights.h5` it names, each with some of the layers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inception.files import hdf5, inert_json
from inception.files.errors import CorruptFile, ResourceLimit
from inception.files.hdf5 import Content
from inception.files.regular import RegularFile, shard_in
from inception.files.tensor import Stored, damaged
from inception.weights.canonical import Source, Weights, integrity
from inception.weights.formats import keras_archive

TITLE = "Keras 3 weights in shards"
_LARGEST_JSON = 4 << 20  # an InceptionV3's has 20 KB
_MOST_SHARDS = 256


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights of `model.save_weights("x.weights.json", max_shard_size=...)`, given as the JSON.

    Raises:
        UnsafeFile: it names shards outside of its folder, or one is a link.
        CorruptFile: a shard is missing, or damaged.
        UnsupportedFeature, MissingTensor, ShapeMismatch: as for a `.weights.h5`.
    """
    content = _together(list(_shards(Path(path))), os.fspath(path))
    return keras_archive.gather_values(content, path, Source(os.fspath(path), TITLE, integrity(content.checksummed)))


def _shards(path: Path) -> Iterator[Content]:
    file = RegularFile(path)
    if file.size > _LARGEST_JSON:
        raise ResourceLimit(f"{path}: {file.size} bytes of JSON; expected {_LARGEST_JSON} at most")
    text = file.octets(0, file.size).tobytes()
    for name in _named(inert_json.parse(text, _LARGEST_JSON, file.name), file.name):
        shard = shard_in(path.parent, name, file.name)
        if not os.path.lexists(shard):
            raise CorruptFile(f"{shard}: is missing; {path} names it, copy all of them")
        RegularFile(shard, follow_links=False)  # refuses a link, which HDF5's reader would follow
        yield hdf5.read(shard)


def _named(model: dict[str, Any], where: str) -> list[str]:
    """The names of the shards, each once."""
    places = model.get("weight_map")
    values = list(places.values()) if isinstance(places, dict) else [None]
    names: list[Any] = [name for value in values for name in (value if isinstance(value, list) else [value])]
    if not names or not all(isinstance(name, str) for name in names):
        raise damaged(where, "its weight_map does not say which shard has which layer")
    names = list(dict.fromkeys(names))
    if len(names) > _MOST_SHARDS:
        raise ResourceLimit(f"{where}: names {len(names)} shards; expected {_MOST_SHARDS} at most")
    return names


def _together(shards: list[Content], where: str) -> Content:
    """What the shards hold as if they were one file."""
    tensors: dict[str, Stored] = {}
    for shard in shards:
        if twice := sorted(tensors.keys() & shard.tensors.keys()):
            raise damaged(where, f"two of its shards have {twice[0]}")
        tensors |= shard.tensors
    groups = frozenset().union(*(shard.groups for shard in shards))
    return Content(tensors, {}, all(shard.checksummed for shard in shards), groups)
