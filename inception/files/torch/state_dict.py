"""The state_dict in a file of torch's, read without torch: the ZIP of PyTorch 1.6 and later, and the pickles before it.

Alone, or as `{"state_dict": ...}` or `{"model": ...}` in a training checkpoint. Its pickle
is interpreted as data (`pickled`), so a file can run nothing. torch itself neither compares
the ZIP's checksums nor bounds what a pickle may ask for; here both is done. The old files
have no checksums. Writing needs torch.
"""

from __future__ import annotations

import functools
import io
import math
import os
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception.files.archive import Archive
from inception.files.atomic import replacing
from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import MOST_DIMENSIONS, Shape, Stored, bfloat16, check_written, damaged
from inception.files.torch.pickled import State, Unpickler

Layout = Literal["zip", "legacy"]
MAGIC = bytes.fromhex("8a0a") + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # as a pickled number

_LONGEST_PICKLE = 1 << 20  # 580 tensors take 110 KB, with an optimizer's 350 KB
_LEGACY_PROTOCOL = 1001
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_OTHER_MEMBERS = re.compile(r"version|byteorder|\..*")
_STORAGES = {
    "Float": "f4",
    "Double": "f8",
    "Half": "f2",
    "BFloat16": "u2",
    "Long": "i8",
    "Int": "i4",
    "Short": "i2",
    "Char": "i1",
    "Byte": "u1",
    "Bool": "?",
}


@dataclass(frozen=True)
class Content:
    """A state_dict. metadata: what its `_metadata` says of the module at the root; layout: "zip" or "legacy"."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[Any, Any]
    layout: Layout
    checksummed: bool


def read(path: str | os.PathLike[str]) -> Content:
    """Lists a state_dict; values are read when asked for.

    Raises:
        UnsafeFile: When the pickle holds more.
        UnsupportedFeature: Where there is no state_dict or the file is a TorchScript program.
        CorruptFile: For damage.
    """
    state, layout, checksummed = _state(path)
    metadata = getattr(state, "attributes", {}).get("_metadata")
    root = metadata.get("") if isinstance(metadata, dict) else None
    return Content(_tensors(state, os.fspath(path)), root if isinstance(root, dict) else {}, layout, checksummed)


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes a state_dict, with more in its `_metadata`, where torch passes over it; read back before it has its name.

    Raises:
        UnsupportedFeature: When torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UnsupportedFeature(
            f"{os.fspath(path)}: writing .pth needs torch, which is not installed; "
            "install it, or write .safetensors, which torch users load as well."
        ) from error
    whole = {key: array if array.flags.forc else array.copy() for key, array in arrays.items()}  # no gaps, no way back
    state: Any = OrderedDict(
        (key, torch.from_numpy(np.require(array, requirements="W"))) for key, array in whole.items()
    )
    state._metadata = OrderedDict({"": {"version": 1, **metadata}})
    memory = io.BytesIO()  # under a disk that fills up, torch raises whatever it finds
    torch.save(state, memory)
    with replacing(path) as [temporary]:
        temporary.write_bytes(memory.getbuffer())
        check_written(_tensors(_state(temporary)[0], os.fspath(temporary)), arrays, os.fspath(path))


# ---- what a pickle of torch's is made of


@dataclass(frozen=True)
class _Kind:
    """A storage class of torch's: the type of its numbers."""

    dtype: np.dtype
    bfloat16: bool


@dataclass(frozen=True)
class _Storage:
    key: str
    kind: _Kind
    size: int


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: Shape
    strides: Shape
    reading: _Reading


class _Reading:
    """One pickle being read: the storages it names, and the tensors made of them.

    fetch: reads a whole storage into a fresh array; known only when all storages are.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.storages: dict[str, _Storage] = {}
        self.fetch: Callable[[_Storage], np.ndarray]
        # A storage that tensors share is read once, or two hundred tensors could ask for it two hundred times.
        self.shared = functools.cache(lambda storage: self.fetch(storage))
        self.allowed: dict[str, Any] = {
            "collections.OrderedDict": self._ordered_dict,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
        } | {
            f"torch.{name}Storage": _Kind(np.dtype(code).newbyteorder("<"), name == "BFloat16")
            for name, code in _STORAGES.items()
        }

    def persistent(self, said: Any) -> _Storage:
        """A storage by its persistent id: ("storage", its class, its key, a device, its length)."""
        if not (isinstance(said, tuple) and len(said) in (5, 6) and said[0] == "storage"):
            raise damaged(self.where, "the pickle refers to something that is no storage")
        _, kind, key, _, size, *view = said
        if not (isinstance(kind, _Kind) and isinstance(key, str) and type(size) is int and size >= 0):
            raise damaged(self.where, "the pickle describes a storage in an unknown way")
        if view and view[0] is not None:
            raise UnsupportedFeature(f"{self.where}: has storages inside of others; save it with a newer torch.")
        storage = _Storage(key, kind, size)
        if self.storages.setdefault(key, storage) != storage:
            raise damaged(self.where, f"storage {key[:100]!r} is described in two ways")
        return storage

    def _ordered_dict(self, *pairs: Any) -> State:
        if not pairs:
            return State()
        if (
            len(pairs) > 1
            or not isinstance(pairs[0], list)
            or not all(
                isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str | int)
                for pair in pairs[0]
            )
        ):
            raise damaged(self.where, "the pickle makes a dictionary of something else than pairs")
        state = State(pairs[0])
        if len(state) != len(pairs[0]):
            raise damaged(self.where, "the pickle sets a key twice")
        return state

    def _tensor(
        self, storage: Any = None, offset: Any = None, shape: Any = None, strides: Any = None, *_: Any
    ) -> _Tensor:
        sound = isinstance(storage, _Storage) and type(offset) is int and offset >= 0
        for sides in (shape, strides):
            sound = sound and isinstance(sides, tuple) and len(sides) <= MOST_DIMENSIONS
            sound = sound and all(type(side) is int and 0 <= side < 1 << 62 for side in sides)
        if not sound or len(shape) != len(strides):
            raise damaged(self.where, "the pickle describes a tensor in an unknown way")
        return _Tensor(storage, offset, shape, strides, self)

    def _parameter(self, data: Any = None, *_: Any) -> _Tensor:
        if not isinstance(data, _Tensor):
            raise damaged(self.where, "the pickle has a parameter that is no tensor")
        return data


# ---- from objects to tensors


def _state(path: str | os.PathLike[str]) -> tuple[State | dict[Any, Any], Layout, bool]:
    """(the state_dict, the kind of file, whether it has checksums)."""
    file = RegularFile(path)
    if file.octets(0, min(4, file.size)).tobytes() == b"PK\3\4":
        archive = Archive(path)
        return _unwrapped(_zipped(archive), file.name), "zip", archive.checksummed
    return _unwrapped(_legacy(file), file.name), "legacy", False


def _unwrapped(top: Any, where: str) -> State | dict[Any, Any]:
    """The dictionary of tensors: the object itself, or what a training checkpoint calls so."""
    if isinstance(top, dict) and not any(isinstance(value, _Tensor) for value in top.values()):
        top = next((top[key] for key in _WRAPPERS if isinstance(top.get(key), dict)), top)
    if not isinstance(top, dict) or not any(isinstance(value, _Tensor) for value in top.values()):
        names = ", ".join(map(str, list(top)[:4]))[:200] if isinstance(top, dict) else type(top).__name__
        raise UnsupportedFeature(
            f"{where}: holds {names or 'nothing'} and no state_dict; "
            f"expected one, alone or under {', '.join(_WRAPPERS)}."
        )
    return top


def _tensors(state: Mapping[Any, Any], where: str) -> dict[str, Stored]:
    strange = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, _Tensor))]
    if strange:
        raise UnsupportedFeature(f"{where}: {str(strange[0])[:100]!r} is no tensor; expected a state_dict.")
    return {key: _stored(tensor, f"{where}: tensor {key[:200]!r}") for key, tensor in state.items()}


def _stored(tensor: _Tensor, where: str) -> Stored:
    """A tensor whose place in its storage is checked: inside, and dense in some order of its axes."""
    storage, shape, size = tensor.storage, tensor.shape, math.prod(tensor.shape)
    if tensor.offset + size > storage.size:
        raise damaged(where, f"{shape} from {tensor.offset} on is outside of a storage of {storage.size}")
    axes = sorted(range(len(shape)), key=lambda axis: -tensor.strides[axis])
    step = 1
    for axis in reversed(axes):
        if size and shape[axis] != 1 and tensor.strides[axis] != step:
            raise UnsupportedFeature(
                f"{where}: {shape} lies in steps of {tensor.strides}, with gaps or overlaps; save it as .contiguous()."
            )
        step *= shape[axis]

    def values() -> np.ndarray:
        if size == storage.size:
            part = tensor.reading.fetch(storage)
        else:
            part = tensor.reading.shared(storage)[tensor.offset : tensor.offset + size].copy()
        found = part.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes))
        return bfloat16(np.ascontiguousarray(found)) if storage.kind.bfloat16 else found

    return Stored(shape, np.dtype(np.float32) if storage.kind.bfloat16 else storage.kind.dtype, values)


# ---- the two kinds of file


def _zipped(archive: Archive) -> Any:
    """The object in `<root>/data.pkl`, its storages being the members `<root>/data/<key>`."""
    roots = [name.removesuffix("data.pkl") for name in archive.members if re.fullmatch(r"[^/]+/data\.pkl", name)]
    root = roots[0] if len(roots) == 1 else ""
    inside = {name.removeprefix(root) for name in archive.members if name.startswith(root)}
    if "constants.pkl" in inside or any(name.startswith("code/") for name in inside):
        raise UnsupportedFeature(
            f"{archive.name}: is a TorchScript program; in torch, save the state_dict() of torch.jit.load(...) instead."
        )
    keys = {name.removeprefix("data/") for name in inside if name.startswith("data/")}
    strange = [n for n in inside if n != "data.pkl" and not n.startswith("data/") and not _OTHER_MEMBERS.fullmatch(n)]
    if not root or len(inside) != len(archive.members) or strange:
        shown = ", ".join(strange or list(archive.members))[:200]
        raise UnsupportedFeature(f"{archive.name}: is not of torch.save (found {shown}); expected data.pkl and data/.")
    reading = _Reading(archive.name)
    top = _unpickler(_pickle_of(archive, f"{root}data.pkl"), reading).load()
    if keys != reading.storages.keys():
        raise damaged(archive.name, f"its pickle names {len(reading.storages)} storages, not the {len(keys)} there are")
    order = _byte_order(archive, f"{root}byteorder")

    def fetch(storage: _Storage) -> np.ndarray:
        return archive.octets(f"{root}data/{storage.key}").view(storage.kind.dtype.newbyteorder(order))

    reading.fetch = fetch
    for key, storage in reading.storages.items():
        if archive.members[f"{root}data/{key}"].size != storage.size * storage.kind.dtype.itemsize:
            raise damaged(archive.name, f"storage {key!r} is not of the size that the pickle says")
    return top


def _pickle_of(archive: Archive, name: str) -> bytes:
    if archive.members[name].size > _LONGEST_PICKLE:
        raise ResourceLimit(
            f"{archive.name}: {name} is larger than {_LONGEST_PICKLE} bytes; save the state_dict alone."
        )
    return archive.octets(name).tobytes()


def _byte_order(archive: Archive, name: str) -> Literal["<", ">"]:
    if name not in archive.members:
        return "<"
    order = archive.octets(name).tobytes() if archive.members[name].size < 16 else b""
    if order not in (b"little", b"big"):
        raise damaged(archive.name, f"its byteorder {order!r} is neither little nor big")
    return "<" if order == b"little" else ">"


def _legacy(file: RegularFile) -> Any:
    """The fourth of five pickles; behind them, each storage with its length before it."""
    head = file.octets(0, min(file.size, _LONGEST_PICKLE)).tobytes()
    if MAGIC not in head[:32]:
        raise UnsupportedFeature(f"{file.name}: is no file of torch.save; expected its mark in the first bytes.")
    reading = _Reading(file.name)
    pickles = _unpickler(head, reading)
    _, protocol, system = pickles.load(), pickles.load(), pickles.load()
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsupportedFeature(
            f"{file.name}: is not of protocol {_LEGACY_PROTOCOL} and little-endian; save it with a newer torch."
        )
    top, keys = pickles.load(), pickles.load()
    named = sorted(reading.storages)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != named:
        raise damaged(file.name, "its list of storages is not the one that its pickle names")
    places, position = {}, pickles.position
    for storage in (reading.storages[key] for key in keys):
        length = int(file.fetch(position, (1,), np.dtype("<i8"), file.name)[0])
        if length != storage.size:
            raise damaged(file.name, f"storage {storage.key!r} has {length} numbers; its pickle says {storage.size}")
        places[storage.key] = position + 8
        position += 8 + storage.size * storage.kind.dtype.itemsize
    if position != file.size:
        raise damaged(file.name, f"its storages end at byte {position}, the file at {file.size}")

    def fetch(storage: _Storage) -> np.ndarray:
        where = f"{file.name}: storage {storage.key!r}"
        return file.fetch(places[storage.key], (storage.size,), storage.kind.dtype, where)

    reading.fetch = fetch
    return top


def _unpickler(data: bytes, reading: _Reading) -> Unpickler:
    return Unpickler(data, reading.allowed, reading.persistent, reading.where)
