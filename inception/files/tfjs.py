"""TensorFlow.js layers models: `model.json` and the shards beside it, float32 or quantized.

The JSON names the weights in the order in which they lie in the shards, which are read
as one long run of bytes. A quantized value q stands for `q * scale + min`, reckoned in
double precision as TensorFlow.js does. The topology is not looked at; nothing has a
checksum.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from inception.files import inert_json
from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile, shard_in
from inception.files.tensor import Shape, Stored, allocate, damaged

_LARGEST_JSON = 4 << 20  # that of 200 layers has 200 KB
_MOST_SHARDS = 1000
_DTYPES = {"float32": "<f4", "float16": "<f2", "uint8": "|u1", "uint16": "<u2"}
_QUANTIZED = ("uint8", "uint16", "float16")


def read(path: str | os.PathLike[str]) -> dict[str, Stored]:
    """The weights of a layers model, given as its `model.json`, by name; values are read when asked for.

    Raises:
        UnsafeFile: For shards outside of its folder.
        UnsupportedFeature: For other JSON.
        CorruptFile: For damage.
    """
    where = os.fspath(path)
    file = RegularFile(path)
    if file.size > _LARGEST_JSON:
        raise ResourceLimit(f"{where}: {file.size} bytes of JSON; expected {_LARGEST_JSON} at most")
    text = file.octets(0, file.size).tobytes()
    model = inert_json.parse(text, _LARGEST_JSON, where)
    groups = model.get("weightsManifest")
    if not isinstance(groups, list) or model.get("format") == "graph-model":
        kind = "a TensorFlow.js graph model" if isinstance(groups, list) else "JSON without a weightsManifest"
        raise UnsupportedFeature(f"{where}: is {kind}; expected the model.json of a TensorFlow.js layers model.")
    tensors: dict[str, Stored] = {}
    for group in groups:
        for name, stored in _group(group, Path(path).parent, where):
            if name in tensors:
                raise damaged(where, f"names the weight {name[:100]!r} twice")
            tensors[name] = stored
    return tensors


class _Shards:
    """Files in a row, read as if they were one."""

    def __init__(self, paths: Any, folder: Path, where: str) -> None:
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise damaged(where, "its list of shards is not made of names")
        if len(paths) > _MOST_SHARDS:
            raise ResourceLimit(f"{where}: names {len(paths)} shards; expected {_MOST_SHARDS} at most")
        self._files = [RegularFile(shard_in(folder, path, where), follow_links=False) for path in paths]
        self.size = sum(file.size for file in self._files)

    def fetch(self, start: int, shape: Shape, dtype: np.dtype, where: str) -> np.ndarray:
        """A fresh array of the bytes from `start` on, from as many files as they lie in."""
        result = allocate(shape, dtype, where)
        octets = result.reshape(-1).view(np.uint8)
        done = 0
        for file in self._files:
            take = min(len(octets) - done, file.size - start)
            if take > 0:
                octets[done : done + take] = file.octets(start, take, where)
                done, start = done + take, 0
            else:
                start -= file.size
            if done == len(octets):
                return result
        raise damaged(where, f"its shards end {len(octets) - done} bytes too early")


def _group(group: Any, folder: Path, where: str) -> Iterator[tuple[str, Stored]]:
    """The weights of one group of shards, which they fill to the last byte."""
    entries = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(entries, list):
        raise damaged(where, "has a group of shards without weights")
    shards = _Shards(group.get("paths"), folder, where)
    position = 0
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise damaged(where, "has a weight without a name")
        stored, size = _stored(entry, shards, position, f"{where}: weight {name[:200]!r}")
        position += size
        yield name, stored
    if position != shards.size:
        raise damaged(where, f"describes {position} bytes where its shards have {shards.size}")


def _stored(entry: dict[str, Any], shards: _Shards, start: int, where: str) -> tuple[Stored, int]:
    """One weight, and how many bytes it takes."""
    quantization = entry.get("quantization") or {}
    if not inert_json.is_shape(entry.get("shape")) or not isinstance(quantization, dict):
        raise damaged(where, "its shape or quantization is of a wrong kind")
    kind = quantization.get("dtype") if quantization else entry.get("dtype")
    if entry.get("dtype") != "float32" or kind not in (_QUANTIZED if quantization else ("float32",)):
        raise UnsupportedFeature(
            f"{where}: is {str(entry.get('dtype'))[:20]} stored as {str(kind)[:20]}; "
            f"expected float32, plain or as {', '.join(_QUANTIZED)}."
        )
    dtype, shape = np.dtype(_DTYPES[str(kind)]), tuple(entry["shape"])
    numbers: list[Any] = [quantization.get(key) for key in ("scale", "min")] if dtype.kind == "u" else [1, 0]
    scale, least = numbers
    if not (inert_json.is_number(scale) and inert_json.is_number(least)):
        raise damaged(where, f"its scale {scale!r:.40} and min {least!r:.40} are no numbers that weights can have")
    fetch = functools.partial(shards.fetch, start, shape, dtype, where)
    size = math.prod(shape) * dtype.itemsize
    if dtype.kind != "u":
        return Stored(shape, dtype, fetch), size
    return Stored(shape, np.dtype(np.float32), lambda: _dequantized(fetch(), scale, least)), size


def _dequantized(values: np.ndarray, scale: float, least: float) -> np.ndarray:
    with np.errstate(over="ignore"):
        return (values * np.float64(scale) + np.float64(least)).astype(np.float32)
