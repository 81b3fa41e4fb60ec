"""The numbers behind torch's pickles: tensors, the storages they lie in, and the archives that hold these."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception.files.archive import Archive
from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.tensor import MOST_DIMENSIONS, Shape, Stored, bfloat16, damaged
from inception.files.torch.pickled import State, Unpickler

LONGEST_PICKLE = 1 << 20  # 580 tensors take 110 KB, with an optimizer's 350 KB
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


# What a TorchScript program says of the kind of a list or a dictionary; its first argument is that itself.
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist", "restore_type_tag")


# ---- what a pickle of torch's is made of


@dataclass(frozen=True)
class _Kind:
    """A storage class of torch's: the type of its numbers."""

    dtype: np.dtype
    bfloat16: bool


@dataclass(frozen=True)
class Storage:
    key: str
    kind: _Kind
    size: int


@dataclass(frozen=True)
class Tensor:
    storage: Storage
    offset: int
    shape: Shape
    strides: Shape
    reading: Reading


class Reading:
    """One pickle being read: the storages it names, and the tensors made of them.

    fetch: reads a whole storage into a fresh array; known only when all storages are.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.storages: dict[str, Storage] = {}
        self.fetch: Callable[[Storage], np.ndarray]
        # A storage that tensors share is read once, or two hundred tensors could ask for it two hundred times.
        self.shared = functools.cache(lambda storage: self.fetch(storage))
        self.allowed: dict[str, Any] = {
            "collections.OrderedDict": self._ordered_dict,
            "torch._utils._rebuild_tensor": self._tensor,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_parameter": self._parameter,
            **dict.fromkeys((f"torch.jit._pickle.{name}" for name in _LISTS), _first),
        } | {
            f"torch.{name}Storage": _Kind(np.dtype(code).newbyteorder("<"), name == "BFloat16")
            for name, code in _STORAGES.items()
        }

    def unpickler(self, data: bytes, records: bool = False) -> Unpickler:
        """What reads the pickles in `data`."""
        return Unpickler(data, self.allowed, self.persistent, self.where, records)

    def persistent(self, said: Any) -> Storage:
        """A storage by its persistent id: ("storage", its class, its key, a device, its length)."""
        if not (isinstance(said, tuple) and len(said) in (5, 6) and said[0] == "storage"):
            raise damaged(self.where, "the pickle refers to something that is no storage")
        _, kind, key, _, size, *view = said
        if not (isinstance(kind, _Kind) and isinstance(key, str) and type(size) is int and size >= 0):
            raise damaged(self.where, "the pickle describes a storage in an unknown way")
        if view and view[0] is not None:
            raise UnsupportedFeature(f"{self.where}: has storages inside of others; save it with a newer torch.")
        storage = Storage(key, kind, size)
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
    ) -> Tensor:
        sound = isinstance(storage, Storage) and type(offset) is int and offset >= 0
        for sides in (shape, strides):
            sound = sound and isinstance(sides, tuple) and len(sides) <= MOST_DIMENSIONS
            sound = sound and all(type(side) is int and 0 <= side < 1 << 62 for side in sides)
        if not sound or len(shape) != len(strides):
            raise damaged(self.where, "the pickle describes a tensor in an unknown way")
        return Tensor(storage, offset, shape, strides, self)

    def _parameter(self, data: Any = None, *_: Any) -> Tensor:
        if not isinstance(data, Tensor):
            raise damaged(self.where, "the pickle has a parameter that is no tensor")
        return data


def stored(tensor: Tensor, where: str) -> Stored:
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


def _first(value: Any = None, *_: Any) -> Any:
    return value


# ---- archives


def pickled_in(archive: Archive, root: str, inside: Collection[str], records: bool = False) -> Any:
    """The object in `<root>data.pkl`, its storages being the members `<root>data/<key>`.

    Args:
        archive: the file.
        root: the folder in it, with its slash.
        inside: the names of its members, below `root`.
        records: the pickle may have objects of a program's classes.

    Raises:
        CorruptFile: the storages are not those that the pickle names.
        UnsafeFile: the pickle names more.
        ResourceLimit: it is far longer than that of weights.
    """
    reading = Reading(archive.name)
    data = _pickle_of(archive, f"{root}data.pkl")
    top = reading.unpickler(data, records).load()
    keys = {name.removeprefix("data/") for name in inside if name.startswith("data/")}
    if keys != reading.storages.keys():
        raise damaged(archive.name, f"its pickle names {len(reading.storages)} storages, not the {len(keys)} there are")
    order = _byte_order(archive, f"{root}byteorder")

    def fetch(storage: Storage) -> np.ndarray:
        return archive.octets(f"{root}data/{storage.key}").view(storage.kind.dtype.newbyteorder(order))

    reading.fetch = fetch
    for key, storage in reading.storages.items():
        if archive.members[f"{root}data/{key}"].size != storage.size * storage.kind.dtype.itemsize:
            raise damaged(archive.name, f"storage {key!r} is not of the size that the pickle says")
    return top


def _pickle_of(archive: Archive, name: str) -> bytes:
    if archive.members[name].size > LONGEST_PICKLE:
        raise ResourceLimit(f"{archive.name}: {name} is larger than {LONGEST_PICKLE} bytes; save the state_dict alone.")
    return archive.octets(name).tobytes()


def _byte_order(archive: Archive, name: str) -> Literal["<", ">"]:
    if name not in archive.members:
        return "<"
    order = archive.octets(name).tobytes() if archive.members[name].size < 16 else b""
    if order not in (b"little", b"big"):
        raise damaged(archive.name, f"its byteorder {order!r} is neither little nor big")
    return "<" if order == b"little" else ">"
