"""TensorFlow's V1 checkpoint: one table file (`sstable`) with the values inside, as slim's of 2016.

Key "" holds the list of tensors; every other key is a name and a slice in an encoding
that sorts like them, and its value is a protobuf message with the numbers. Read and
written here without TensorFlow.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping

import numpy as np

from inception.files.atomic import replacing
from inception.files.errors import UnsupportedFeature
from inception.files.tensor import Shape, Stored, allocate, check_written, damaged, octets
from inception.files.tensorflow import wire
from inception.files.tensorflow.sstable import SSTable, write_table
from inception.files.tensorflow.tensor_bundle import type_code, unreadable, writable

_Path = str | os.PathLike[str]
_LIST = b""
# The TensorProto field in which each type's numbers are. V1 files with float16 exist; TensorFlow reads none.
_FIELDS = {np.dtype("<f4"): 5, np.dtype("<f8"): 6, np.dtype("<i4"): 7, np.dtype("<i8"): 10}
_CONTENT = 4


def read(path: _Path) -> dict[str, Stored]:
    """The tensors of a V1 checkpoint file, by name.

    The whole file is checked, and only the values of the tensors asked for are kept.
    Strings and other types that no weight has are listed too; reading one raises
    `UnsupportedFeature`.
    """
    table = SSTable(path)
    content = table.get(_LIST)
    if content is None:
        raise damaged(table.name, "has no list of its tensors")
    listed = wire.Message(content, f"{table.name}: list of tensors").message(1)
    wire.check_version(listed.message(2))
    found: dict[str, Stored] = {}
    for tensor in listed.messages(1):
        name = tensor.text(1)
        if name in found:
            raise damaged(table.name, f"lists {name!r} twice")
        tensor.where = f"{table.name}: tensor {name!r}"
        found[name] = _stored(table, name, tensor)
    return found


def _stored(table: SSTable, name: str, tensor: wire.Message) -> Stored:
    sides = wire.shape(tensor.message(2))
    code = tensor.integer(3)
    kind = wire.dtype(code, tensor.where)
    if tensor.chunks(4) != [_whole(len(sides))]:
        raise UnsupportedFeature(
            f"{tensor.where}: is a partitioned variable, stored in slices; "
            "save it unpartitioned, only whole tensors are read"
        )
    if kind is None or kind not in _FIELDS:
        return unreadable(sides, code, tensor.where)
    return Stored(sides, kind, functools.partial(_values, table, name, sides, kind, tensor.where))


def _values(table: SSTable, name: str, sides: Shape, kind: np.dtype, where: str) -> np.ndarray:
    content = table.get(_key(name, len(sides)))
    if content is None:
        raise damaged(where, "is listed, and its values are not in the file")
    saved = wire.Message(content, where).message(2)
    if saved.text(1) != name:
        raise damaged(where, f"its values are labelled {saved.text(1)!r}")
    result = allocate(sides, kind, where)
    numbers = _numbers(saved.message(3), kind, result.size)
    if len(numbers) != result.size:
        raise damaged(where, f"has {len(numbers)} values; its shape {sides} expects {result.size}")
    result.reshape(-1)[:] = numbers
    return result


def _numbers(tensor: wire.Message, kind: np.dtype, count: int) -> np.ndarray:
    """The flat numbers of a TensorProto, of type `kind` or, for integers, checked to fit it."""
    field = _FIELDS[kind]
    if field in tensor and kind.kind == "i":
        numbers = wire.integers(tensor.values(field), count, tensor.where)
        if (numbers.astype(kind) != numbers).any():
            raise damaged(tensor.where, f"holds a number too large for {kind}")
        return numbers
    chunks = tensor.chunks(field) or tensor.chunks(_CONTENT)
    content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    if len(content) % kind.itemsize:
        raise damaged(tensor.where, f"has {len(content)} bytes of values, not a whole number of {kind}")
    return np.frombuffer(content, kind)


def _key(name: str, rank: int) -> bytes:
    """The table key of a whole tensor: 0, the name, the rank, then (start 0, length -1) a dimension.

    In TensorFlow's ordered code a number is its byte count and its bytes, a string
    escapes 0 and 255 and ends in 0 1, and the signed 0 and -1 are 0x80 and 0x7f.
    """
    escaped = name.encode().replace(b"\0", b"\0\xff")
    return b"\0" + escaped + b"\0\1" + (bytes([1, rank]) if rank else b"\0") + b"\x80\x7f" * rank


def write(path: _Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes a checkpoint that TensorFlow's Saver and `tf.train.load_checkpoint` read.

    The file is read back and compared before it gets its name. Raises
    `UnsupportedFeature` for a type or name that such a file cannot hold.
    """
    tensors = writable(arrays, os.fspath(path))
    for name, values in tensors.items():
        if values.dtype not in _FIELDS:
            raise UnsupportedFeature(f"{os.fspath(path)}: {name!r} is {values.dtype}; write V2, which has it")
    with replacing(path) as [temporary]:
        with open(temporary, "wb") as file:
            write_table(file, _items(tensors))
        check_written(read(temporary), tensors, os.fspath(path))


def _items(tensors: Mapping[str, np.ndarray]) -> Iterator[tuple[bytes, bytes]]:
    """The table's pairs in key order, which is the order of the names."""
    listed = [wire.encode_data(1, _listed(name, values)) for name, values in tensors.items()]
    version = wire.encode_data(2, wire.encode_integer(1, 1))
    yield _LIST, wire.encode_data(1, *listed, version)
    for name, values in tensors.items():
        head = wire.encode_data(1, name.encode()) + wire.encode_data(2, _whole(values.ndim))
        yield _key(name, values.ndim), wire.encode_data(2, head, wire.encode_data(3, _packed(values)))


def _listed(name: str, values: np.ndarray) -> bytes:
    return b"".join(
        (
            wire.encode_data(1, name.encode()),
            wire.encode_data(2, wire.encode_shape(values.shape)),
            wire.encode_integer(3, type_code(values.dtype)),
            wire.encode_data(4, _whole(values.ndim)),
        )
    )


def _whole(rank: int) -> bytes:
    """The slice that is the whole tensor: an empty extent a dimension."""
    return wire.encode_data(1) * rank


def _packed(values: np.ndarray) -> bytes:
    """The numbers as the one field of a TensorProto in which TensorFlow looks for their type."""
    if values.dtype.kind == "i":
        numbers: bytes | memoryview = b"".join(map(wire.encode_varint, values.ravel().tolist()))
    else:
        numbers = octets(values)
    return wire.encode_data(_FIELDS[values.dtype], numbers)
