"""safetensors files; ours carry a SHA-256 for every tensor.

Read and written here without the package of that name: a file is a length, a JSON header
and raw values, and the package would raise its own exceptions, take headers of 100 MB,
load tensors before their digests are looked at, and be one more thing to install.

In `__metadata__` a file of ours has a digest a tensor, and one of the header itself, so
that a damaged name, shape or text is found as well.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception.files import inert_json
from inception.files.atomic import replacing
from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import Shape, Stored, bfloat16, check_written, damaged, octets

_LARGEST_HEADER = 1 << 20  # a training checkpoint's has 300 KB; the format allows 100 MB
_DTYPES: dict[str, np.dtype] = {
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
}
_METADATA = "__metadata__"
_TENSOR_DIGEST = "sha256:"  # before a tensor's name
_HEADER_DIGEST = "inception_sha256"


@dataclass(frozen=True)
class Content:
    """What is in a file. metadata: texts; checksummed: it has our digests, and its header's is right."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[str, str]
    checksummed: bool


def read(path: str | os.PathLike[str]) -> Content:
    """Lists a file; values are read, and compared with their digests, when asked for."""
    tensors, metadata = _contents(RegularFile(path))
    return Content(tensors, metadata, _HEADER_DIGEST in metadata)


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes arrays and texts, with our digests; read back before the file takes its name."""
    # The widest types first: then every tensor is aligned.
    arrays = dict(sorted(arrays.items(), key=lambda item: -item[1].itemsize))
    with replacing(path) as [temporary]:
        with open(temporary, "wb") as file:
            header = _encoded(_header(arrays, metadata))
            file.write(len(header).to_bytes(8, "little") + header)
            for array in arrays.values():
                file.write(octets(np.ascontiguousarray(array)))
        check_written(_contents(RegularFile(temporary))[0], arrays, os.fspath(path))


# ---- reading


def _contents(file: RegularFile) -> tuple[dict[str, Stored], dict[str, str]]:
    """(tensors, metadata); the header's own digest, if it has one, has been compared."""
    length = int.from_bytes(file.octets(0, 8).tobytes(), "little")
    if length > _LARGEST_HEADER:
        raise ResourceLimit(f"{file.name}: names {length} bytes of header; expected {_LARGEST_HEADER} at most")
    text = file.octets(8, length, f"{file.name}: header").tobytes()
    header = inert_json.parse(text, _LARGEST_HEADER, f"{file.name}: header")
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(file.name, f"{_METADATA} is not made of texts")
    said = metadata.pop(_HEADER_DIGEST, None)
    if said is not None and said != _digest_of({_METADATA: metadata, **header}):
        raise damaged(file.name, "its header's digest is wrong")
    places = {name: _place(entry, f"{file.name}: tensor {name[:200]!r}") for name, entry in header.items()}
    position = 0
    for name, (_, _, start, stop) in sorted(places.items(), key=lambda item: item[1][2:]):
        if start != position:
            raise damaged(file.name, f"tensor {name!r} starts at byte {start}; expected {position}, no gap, no overlap")
        position = stop
    if 8 + length + position != file.size:
        raise damaged(file.name, f"its header asks for a file of {8 + length + position} bytes, it has {file.size}")
    tensors = {
        name: _stored(file, name, dtype, shape, 8 + length + start, metadata.get(f"{_TENSOR_DIGEST}{name}"))
        for name, (dtype, shape, start, _) in places.items()
    }
    return tensors, metadata if said is None else {**metadata, _HEADER_DIGEST: said}


def _place(entry: Any, where: str) -> tuple[str, Shape, int, int]:
    """A header entry, checked: (dtype, shape, first byte, byte after the last)."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged(where, "is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    sound = isinstance(dtype, str) and inert_json.is_shape(shape) and inert_json.is_shape(offsets)
    if not sound or len(offsets) != 2:
        raise damaged(where, "its dtype, shape or data_offsets are of a wrong kind")
    if dtype not in _DTYPES:
        raise UnsupportedFeature(f"{where}: is of type {dtype[:20]!r}; only {', '.join(_DTYPES)} are read")
    if offsets[1] - offsets[0] != math.prod(shape) * _DTYPES[dtype].itemsize:
        raise damaged(where, f"{offsets[1] - offsets[0]} bytes are named for {dtype} of shape {shape}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _stored(file: RegularFile, name: str, dtype: str, shape: Shape, start: int, digest: str | None) -> Stored:
    kind = np.dtype(np.float32) if dtype == "BF16" else _DTYPES[dtype]
    return Stored(shape, kind, functools.partial(_values, file, name, dtype, shape, start, digest))


def _values(file: RegularFile, name: str, dtype: str, shape: Shape, start: int, digest: str | None) -> np.ndarray:
    where = f"{file.name}: tensor {name!r}"
    values = file.fetch(start, shape, _DTYPES[dtype], where)
    if digest is not None and hashlib.sha256(octets(values)).hexdigest() != digest:
        raise damaged(where, "its digest is wrong")
    return bfloat16(values) if dtype == "BF16" else values


# ---- writing


def _header(arrays: Mapping[str, np.ndarray], said: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"format": "pt", **said}  # "pt" is what torch's readers want to see
    header: dict[str, Any] = {_METADATA: metadata}
    position = 0
    for name, array in arrays.items():
        dtype = next(code for code, known in _DTYPES.items() if known == array.dtype)
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
        metadata[f"{_TENSOR_DIGEST}{name}"] = hashlib.sha256(octets(np.ascontiguousarray(array))).hexdigest()
    metadata[_HEADER_DIGEST] = _digest_of(header)
    return header


def _encoded(header: Mapping[str, Any]) -> bytes:
    """Padded with spaces, so that the values begin at a multiple of eight."""
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _digest_of(header: Mapping[str, Any]) -> str:
    """Of all that a header says, however it is spelled; the digest itself left out."""
    return hashlib.sha256(json.dumps(header, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
