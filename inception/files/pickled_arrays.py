"""Dictionaries of NumPy arrays in pickles and in files of torch.save, rebuilt as data.

What NumPy's pickles call (`_reconstruct`, `_frombuffer`, `dtype`, `scalar`) has a stand-in
here that checks sizes and takes numbers alone; every other name is refused unread. A plain
pickle has no checksum: a damaged one may give other values, and nothing else.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception.files import inert_json
from inception.files.archive import Archive
from inception.files.errors import UnsafeFile, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import damaged
from inception.files.torch import state_dict
from inception.files.torch.pickled import Built, Unpickler

_EXPECTED = ("arrays of numbers", "write them as .npz with the program that made the file")
_KINDS = re.compile(r"[fiu][1248]")
_NDARRAY = object()  # the class, which a pickle names and nobody calls
_DEEPEST = 4


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a dictionary in a pickle, or in a file of torch.save, holds.

    Returns:
        Arrays, numbers, texts and None by name, in dictionaries and lists at most three deep.

    Raises:
        UnsafeFile: For a pickle that names anything but arrays.
        UnsupportedFeature: For a file that holds something else than a dictionary.
        CorruptFile, ResourceLimit: For damage, and for more than 256 MiB.
    """
    file = RegularFile(path)
    if file.octets(0, min(4, file.size)).tobytes() != b"PK\3\4":
        return _loaded(file.octets(0, file.size).data, file.name)
    archive = Archive(path)
    pickles = [name for name in archive.members if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise UnsupportedFeature(f"{file.name}: is a ZIP file, not of torch.save nor NumPy; expected data.pkl in it.")
    root = pickles[0].removesuffix("data.pkl")
    if any(name.startswith(f"{root}data/") for name in archive.members):
        return {name: stored.read() for name, stored in state_dict.read(path).tensors.items()}
    return _loaded(archive.octets(pickles[0]).data, file.name)


def _loaded(data: memoryview, where: str) -> dict[str, Any]:
    calls = _Calls(where, len(data))
    machine = Unpickler(data, calls.allowed, calls.persistent, where, expected=_EXPECTED)
    top = machine.load()
    if machine.position != len(data):
        raise damaged(where, f"holds {len(data) - machine.position} bytes behind its pickle")
    if not isinstance(top, dict):
        raise UnsupportedFeature(f"{where}: holds {type(top).__name__} and no dictionary; expected one of arrays.")
    result: dict[str, Any] = _plain(top, where, 0, {})
    return result


def _plain(value: Any, where: str, depth: int, seen: dict[int, Any]) -> Any:
    """The value with arrays in the place of what stood for them; what is there twice is gone through once."""
    if isinstance(value, _Array):
        value = value.values
    if value is None or isinstance(value, str | int | float | bytes | np.ndarray):
        return value
    if depth == _DEEPEST or not isinstance(value, dict | list | tuple):
        raise damaged(where, "the pickle holds an object that is not finished, or is deep inside of others")
    if id(value) not in seen:
        if isinstance(value, dict):
            seen[id(value)] = {str(key): _plain(each, where, depth + 1, seen) for key, each in value.items()}
        else:
            seen[id(value)] = [_plain(each, where, depth + 1, seen) for each in value]
    return seen[id(value)]


# ---- what stands for NumPy's names


@dataclass
class _Kind(Built):
    """A type of numbers; its byte order comes as its state."""

    code: str
    order: Literal["<", ">", "|"] = "<"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.code).newbyteorder(self.order)

    def build(self, state: Any) -> bool:
        sound = isinstance(state, tuple) and len(state) >= 2 and state[1] in ("<", ">", "|")
        if sound:
            self.order = state[1]
        return sound


@dataclass
class _Array(Built):
    """An array, made empty; its values come as its state."""

    calls: _Calls
    values: np.ndarray | None = None

    def build(self, state: Any) -> bool:
        sound = isinstance(state, tuple) and len(state) == 5
        if sound:
            _, shape, kind, fortran, content = state
            self.values = self.calls.array(content, kind, shape, "F" if fortran else "C")
        return sound


class _Calls:
    """The functions that a pickle of arrays may call."""

    def __init__(self, where: str, size: int) -> None:
        self._where = where
        self._left = size  # of the bytes that texts stand for, each written once
        self.allowed: dict[str, Any] = {
            "_codecs.encode": self._encode,  # how protocol 2 writes bytes
            "numpy.ndarray": _NDARRAY,
            "numpy.dtype": self._kind,
        }
        for core in ("numpy.core", "numpy._core"):
            self.allowed |= {
                f"{core}.multiarray._reconstruct": self._empty,
                f"{core}.multiarray.scalar": self._scalar,
                f"{core}.numeric._frombuffer": self._from_buffer,
            }

    def persistent(self, _: Any) -> Any:
        raise UnsafeFile(f"{self._where}: the pickle refers to an object outside of itself; {_EXPECTED[1]}.")

    def array(self, content: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
        sound = isinstance(content, bytes) and isinstance(kind, _Kind) and isinstance(shape, tuple)
        if not sound or not inert_json.is_shape(list(shape)) or order not in ("C", "F"):
            raise damaged(self._where, "the pickle describes an array in an unknown way")
        if math.prod(shape) * kind.dtype.itemsize != len(content) or (0 in shape and len(shape) > 1):
            raise damaged(self._where, f"{shape} of {kind.dtype} do not make {len(content)} bytes")
        return np.frombuffer(content, kind.dtype).reshape(shape, order=order)

    def _from_buffer(self, *said: Any) -> _Array:
        content, kind, shape, order = (*said, None, None, None, None)[:4]
        return _Array(self, self.array(content, kind, shape, order))

    def _scalar(self, kind: Any = None, content: Any = None, *_: Any) -> Any:
        return self.array(content, kind, (), "C").item()

    def _empty(self, cls: Any = None, *_: Any) -> _Array:
        if cls is not _NDARRAY:
            raise UnsafeFile(f"{self._where}: the pickle makes an array of an unknown class; {_EXPECTED[1]}.")
        return _Array(self)

    def _kind(self, code: Any = None, *_: Any) -> _Kind:
        if not isinstance(code, str) or not _KINDS.fullmatch(code) or code == "f1":
            raise UnsafeFile(f"{self._where}: the pickle holds an array of {str(code)[:40]!r}; expected plain numbers.")
        return _Kind(code)

    def _encode(self, value: Any = None, encoding: Any = None, *_: Any) -> bytes:
        if not isinstance(value, str) or encoding != "latin1" or len(value) > self._left:
            raise damaged(self._where, "the pickle writes bytes in an unknown way")
        self._left -= len(value)
        try:
            return value.encode("latin1")
        except UnicodeEncodeError as error:
            raise damaged(self._where, "the pickle writes bytes that are none") from error
