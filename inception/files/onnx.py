"""An ONNX model as data: its nodes, and the values of its initializers. Read without the package onnx.

Of the protobuf only what is asked for is decoded: of a node its operation, what it reads and
gives and single attributes, of a tensor its type and shape. Subgraphs and functions stay
bytes, so no depth of nesting can hurt. Numbers may lie in a second file (`external_data`):
one in the model's own folder, and no link.
"""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from inception.files.errors import ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import MOST_DIMENSIONS, Shape, Stored, allocate, bfloat16, damaged
from inception.files.tensorflow import wire

_MOST_STRUCTURE = 8 << 20  # bytes that are not numbers; exporters write under two megabytes of them
# Fields of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_PRODUCER, _GRAPH, _METADATA = 2, 7, 14
_NODE, _INITIALIZER, _GRAPH_INPUT = 1, 5, 11
_INPUT, _OUTPUT, _OP, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_NAME, _FLOAT, _INTEGER, _TENSOR, _INTEGERS = 1, 2, 3, 5, 8
_DIMS, _TYPE, _TENSOR_NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_BFLOAT16 = 16
_KINDS: dict[int, np.dtype] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8"), _BFLOAT16: np.dtype("<u2")}
_NUMBERS = {1: 4, 11: 10}  # the fields of numbers that are not in one piece
_HEAD = re.compile(rb"\x08[\x02-\x3f](?:[\x12\x1a\x22\x32\x3a\x42\x72][\x00-\xff]|\x28)")
_LONGEST_TEXT = 1 << 16


@dataclass(frozen=True)
class Node:
    """One operation: what it is, the values it reads and those it gives, by their names."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    _attributes: Mapping[str, wire.Message]

    def integer(self, key: str, absent: int = 0) -> int:
        """An attribute that is a whole number."""
        return self._attributes[key].integer(_INTEGER) if key in self._attributes else absent

    def integers(self, key: str) -> list[int]:
        """An attribute that lists a few whole numbers; empty where it is absent."""
        said = self._attributes.get(key)
        values = wire.integers(said.values(_INTEGERS), 2 * MOST_DIMENSIONS, said.where) if said else ()
        return [int(value) for value in values]

    def number(self, key: str, absent: float) -> float:
        """An attribute in single precision."""
        said = self._attributes.get(key)
        return float(np.uint32(said.fixed32(_FLOAT)).view(np.float32)) if said else absent


@dataclass(frozen=True)
class Model:
    """A model file.

    Attributes:
        tensors: its initializers and constants of a floating-point type, by name.
        metadata: the texts that its writer added.
        size: in bytes, that of a second file included.
    """

    path: str
    size: int
    producer: str
    metadata: Mapping[str, str]
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Stored]


def is_model(head: bytes) -> bool:
    """Whether a file's first bytes are a ModelProto's: the version of its format, then a field that it has."""
    return _HEAD.match(head) is not None


def read(path: str | os.PathLike[str]) -> Model:
    """The model in an `.onnx` file; values are read when asked for.

    Raises:
        UnsupportedFeature: the file holds no graph.
        CorruptFile: the bytes contradict the format.
        UnsafeFile: its numbers are said to lie outside its folder.
        ResourceLimit: it has far more than a file of weights needs.
    """
    file = RegularFile(path)
    content = file.octets(0, file.size).data
    top = wire.Message(content, file.name)
    if _GRAPH not in top:
        raise UnsupportedFeature(f"{file.name} is no ONNX model with a graph in it; export the network again.")
    graph = top.message(_GRAPH)
    reading = _Reading(file.name)
    nodes = tuple(reading.node(chunk) for chunk in graph.chunks(_NODE))
    for chunk in graph.chunks(_INITIALIZER):
        reading.tensor(chunk)
    given = reading.names | {wire.text(entry.data(1), file.name) for entry in graph.messages(_GRAPH_INPUT)} | {""}
    for node in nodes:
        for value in node.inputs:
            if value not in given:
                raise damaged(file.name, f"{node.op[:50]} reads {value[:200]!r}, which nothing before it gives")
        given |= set(node.outputs)
    size = file.size + sum(other.size for other in reading.files.values())
    pairs = dict(_pair(chunk, file.name) for chunk in top.chunks(_METADATA))
    return Model(file.name, size, top.text(_PRODUCER), pairs, nodes, reading.tensors)


def _pair(chunk: memoryview, where: str) -> tuple[str, str]:
    if len(chunk) > _LONGEST_TEXT:
        return "", ""  # labels and such, which are no business of a reader of weights
    entry = wire.Message(chunk, where)
    return entry.text(1), entry.text(2)


class _Reading:
    """The tensors of one model, with what is left of the room for all that is not numbers."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.tensors: dict[str, Stored] = {}
        self.files: dict[str, RegularFile] = {}
        self._room = _MOST_STRUCTURE
        self.names: set[str] = set()

    def _take_room(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ResourceLimit(f"{self.where}: has more than {_MOST_STRUCTURE} bytes beside its numbers; refused")

    def node(self, chunk: memoryview) -> Node:
        message = wire.Message(chunk, self.where)
        inputs, outputs = (tuple(wire.text(name, self.where) for name in message.chunks(n)) for n in (_INPUT, _OUTPUT))
        said = [wire.Message(entry, self.where) for entry in message.chunks(_ATTRIBUTE)]
        attributes = {entry.text(_NAME): entry for entry in said}
        domain = message.text(_DOMAIN)
        op = message.text(_OP) if domain in ("", "ai.onnx") else f"{domain}.{message.text(_OP)}"
        self._take_room(len(chunk))
        if op == "Constant" and "value" in attributes and outputs:
            value = attributes["value"].data(_TENSOR)
            self._room += len(value)
            self.tensor(value, outputs[0])
        return Node(op, inputs, outputs, attributes)

    def tensor(self, chunk: memoryview, name: str | None = None) -> None:
        message = wire.Message(chunk, self.where)
        name = message.text(_TENSOR_NAME) if name is None else name
        where = f"{self.where}: tensor {name[:200]!r}"
        if name in self.names:
            raise damaged(where, "is there twice")
        self.names.add(name)
        code = message.integer(_TYPE)
        field = _NUMBERS.get(code, _RAW) if _RAW not in message else _RAW
        pieces = message.chunks(field) if field == _RAW or code in _NUMBERS else []
        self._take_room(len(chunk) - sum(map(len, pieces)))
        kind = _KINDS.get(code)
        if kind is None:
            return  # axes, shapes and other whole numbers
        read: Callable[[], np.ndarray]
        sides = _shape(message, where)
        size = math.prod(sides) * kind.itemsize
        if message.integer(_LOCATION):
            read = self._elsewhere(message, sides, kind, where)
        elif sum(map(len, pieces)) != size:
            raise damaged(where, f"has {sum(map(len, pieces))} bytes of numbers; its shape {sides} expects {size}")
        else:
            read = functools.partial(_values, pieces, sides, kind, where)
        if code == _BFLOAT16:
            halves = read
            self.tensors[name] = Stored(sides, np.dtype(np.float32), lambda: bfloat16(halves()))
        else:
            self.tensors[name] = Stored(sides, kind, read)

    def _elsewhere(self, message: wire.Message, sides: Shape, kind: np.dtype, where: str) -> Callable[[], np.ndarray]:
        """How to read a tensor of another file, which must lie in the model's own folder."""
        said = dict(_pair(chunk, where) for chunk in message.chunks(_EXTERNAL))
        place, expected = said.get("location", ""), math.prod(sides) * kind.itemsize
        if not place or place in (".", "..") or set(place) & set("/\\:\0"):
            raise UnsafeFile(f"{where}: lies in {place[:200]!r}; expected a file in the model's own folder")
        numbers = [said.get("offset", "0"), said.get("length", str(expected))]
        if not all(re.fullmatch("[0-9]{1,18}", number) for number in numbers) or int(numbers[1]) != expected:
            raise damaged(where, f"{numbers[1][:20]!r} bytes from {numbers[0][:20]!r} on do not fit its shape {sides}")
        if place not in self.files:
            self.files[place] = RegularFile(os.path.join(os.path.dirname(self.where), place), follow_links=False)
        file = self.files[place]
        if int(numbers[0]) + expected > file.size:
            raise damaged(where, f"ends behind the {file.size} bytes of {place}")
        return functools.partial(file.fetch, int(numbers[0]), sides, kind, where)


def _shape(message: wire.Message, where: str) -> Shape:
    sides = tuple(int(side) for side in wire.integers(message.values(_DIMS), MOST_DIMENSIONS, where))
    if any(side < 0 for side in sides):
        raise damaged(where, f"its shape {sides} has a negative side")
    return sides


def _values(pieces: list[memoryview], sides: Shape, kind: np.dtype, where: str) -> np.ndarray:
    result = allocate(sides, kind, where)
    result.reshape(-1)[:] = np.frombuffer(pieces[0] if len(pieces) == 1 else b"".join(pieces), kind)
    return result
