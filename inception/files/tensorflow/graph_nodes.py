"""A frozen graph as data: its nodes, and the values of its constants. TensorFlow's GraphDef, read without TensorFlow.

Nothing of the file is imported or run. Of a node only its name, operation, inputs and the
attributes asked for are decoded, of a constant its type and shape; functions and
whatever else is nested in it stay bytes, so no depth of nesting can hurt. All that is
not numbers must fit in a few megabytes, which bounds the work.
"""

from __future__ import annotations

import functools
import hashlib
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from inception.files.errors import CorruptFile, ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import Shape, Stored, allocate, damaged
from inception.files.tensorflow import wire
from inception.files.tensorflow.tensor_bundle import unreadable

SIDE_FILE = ".sha256"  # beside a graph that we wrote, in the words of sha256sum
_MOST_STRUCTURE = 3 << 20  # bytes that are not numbers; a network of 100 convolutions has under one megabyte
_ENTRY = 32  # what an input or attribute is counted as, beside its bytes
_MOST_NODES = 1 << 16
_MOST_ATTRIBUTES = 64
_MOST_REPEATED = 128 << 20  # bytes of tensors beyond those in the file: a constant may say one number for all
_LONGEST_NAME = 1024
# Fields of GraphDef, NodeDef, AttrValue and TensorProto.
_NODE, _VERSION, _VERSIONS = 1, 3, 4
_NAME, _OP, _INPUT, _ATTR = 1, 2, 3, 5
TEXT, INTEGER, FLOAT, BOOL, _TYPE, _TENSOR = 2, 3, 4, 5, 6, 8
_DTYPE, _SHAPE, _CONTENT, _STRINGS = 1, 2, 4, 8
_NUMBERS = {np.dtype("<f4"): 5, np.dtype("<f8"): 6, np.dtype("<f2"): 13}
_HALF = np.dtype("<f2")


@dataclass(frozen=True)
class Node:
    """One operation of a graph."""

    name: str
    op: str
    _inputs: list[memoryview]
    _attributes: list[memoryview]
    _where: str

    @property
    def entries(self) -> int:
        """How many inputs and attributes it has."""
        return len(self._inputs) + len(self._attributes)

    @functools.cached_property
    def inputs(self) -> tuple[str, ...]:
        """The nodes that it reads, in order; ones that it only waits for are left out."""
        names = (wire.text(data, self._where) for data in self._inputs)
        return tuple(name.removesuffix(":0") for name in names if not name.startswith("^"))

    def attribute(self, key: str) -> wire.Message:
        """The value of an attribute; one that is absent reads as 0 or empty."""
        entries = (wire.Message(entry, self._where) for entry in self._attributes)
        values = [entry.data(2) for entry in entries if entry.text(1) == key]
        if len(values) > 1:
            raise damaged(self._where, f"has the attribute {key} {len(values)} times")
        return wire.Message(values[0] if values else b"", f"{self._where}, {key}")

    def number(self, key: str, absent: float) -> float:
        """A float attribute."""
        data = self.attribute(key).data(FLOAT)
        if len(data) not in (0, 4):
            raise damaged(self._where, f"its {key} has {len(data)} bytes; expected 4")
        return float(np.frombuffer(data, "<f4")[0]) if len(data) else absent

    def text(self, key: str) -> str:
        """A string attribute."""
        return self.attribute(key).text(TEXT)

    def tensor(self) -> wire.Message:
        """What a constant says of its value."""
        return self.attribute("value").message(_TENSOR)


@dataclass(frozen=True)
class Graph:
    """A GraphDef file.

    Attributes:
        constants: every Const by name; those of no float type refuse to be read.
        whole: the version that is written behind the nodes is there.
        checksummed: the file has the digest that its side file names.
    """

    path: str
    size: int
    nodes: Mapping[str, Node]
    constants: Mapping[str, Stored]
    whole: bool
    checksummed: bool

    def check_room(self, names: Iterable[str]) -> None:
        """Refuses tensors that are, all together, far larger than the file: it may say one number for many."""
        wanted = sum(math.prod(self.constants[n].shape) * self.constants[n].dtype.itemsize for n in names)
        if wanted > self.size + _MOST_REPEATED:
            raise ResourceLimit(f"{self.path}: its tensors take {wanted} bytes from a file of {self.size}; refused")

    def string(self, name: str) -> str | None:
        """The one text in a constant of strings; None where there is no such node."""
        node = self.nodes.get(name)
        return None if node is None or node.op != "Const" else node.tensor().text(_STRINGS)


def read(path: str | os.PathLike[str]) -> Graph:
    """The graph in a `.pb` file.

    Raises:
        UnsupportedFeature: For a SavedModel or a MetaGraph.
        CorruptFile: For damage (or for a file that its side file does not fit).
        ResourceLimit: For one too large.
    """
    file = RegularFile(path)
    content = memoryview(file.octets(0, file.size))  # type: ignore[arg-type]
    checksummed = _checked(file.name, content)
    _refuse_relatives(bytes(content[:64]), file.name)
    top = wire.Message(content, file.name)
    nodes: dict[str, Node] = {}
    constants: dict[str, Stored] = {}
    room = _MOST_STRUCTURE
    if len(top.values(_NODE)) > _MOST_NODES:
        raise ResourceLimit(f"{file.name}: has more than {_MOST_NODES} nodes; refused")
    for chunk in top.chunks(_NODE):
        node = _node(chunk, file.name)
        if node.name in nodes:
            raise damaged(file.name, f"has two nodes called {node.name!r}")
        nodes[node.name] = node
        numbers = 0
        if node.op == "Const":
            constants[node.name], numbers = _constant(node)
        room -= len(chunk) - numbers + _ENTRY * node.entries
        if room < 0:
            raise ResourceLimit(
                f"{file.name}: its nodes take more than {_MOST_STRUCTURE} bytes beside their numbers; refused"
            )
    whole = _VERSIONS in top or _VERSION in top
    return Graph(file.name, file.size, nodes, constants, whole, checksummed)


def is_graph(head: bytes) -> bool:
    """Whether a file's first kilobyte starts a GraphDef, or a relative of it that `read` has a sentence for."""
    if _SAVED_MODEL.match(head) or _META_GRAPH.match(head):
        return True
    start = _FIRST_NODE.match(head)
    if start is None:
        return False
    length, _ = wire.read_varint(memoryview(start[1]), 0, "")
    return _FIRST_OP.match(head[start.end() + length :]) is not None


# A message's length takes one to five bytes, that of a node's name one or two.
_FIRST_NODE = re.compile(rb"\n[\x80-\xff]{0,4}[\0-\x7f]\n([\x80-\xff]?[\x01-\x7f])(?=[A-Za-z0-9._])")
_FIRST_OP = re.compile(rb"\x12[\1-\x40][A-Za-z_]")
_SAVED_MODEL = re.compile(rb"\x08\x01\x12[\x80-\xff]{0,4}[\0-\x7f][\n\x12]")
_META_GRAPH = re.compile(rb"\n[\x80-\xff]{0,4}[\0-\x7f]\x12")


def _refuse_relatives(head: bytes, where: str) -> None:
    if _SAVED_MODEL.match(head):
        values = os.path.join(os.path.dirname(where), "variables", "variables")
        raise UnsupportedFeature(
            f"{where} is a SavedModel, which keeps its weights beside it; "
            f"give the checkpoint {values} where slim made it, or the Keras file where Keras did."
        )
    if _META_GRAPH.match(head):
        raise UnsupportedFeature(
            f"{where} is a MetaGraph, which has no weights; give the checkpoint that belongs to it, without `.meta`."
        )


def _checked(where: str, content: memoryview) -> bool:
    """Whether there is a side file; `CorruptFile` where it names another digest."""
    if not os.path.lexists(where + SIDE_FILE):
        return False
    side = RegularFile(where + SIDE_FILE, follow_links=False)
    text = side.octets(0, min(side.size, 4096)).tobytes()
    named = re.match(rb"\s*([0-9a-fA-F]{64})\b", text)
    if named is None:
        raise CorruptFile(f"{side.name}: does not start with a SHA-256 digest; remove it to read the graph without.")
    if named[1].decode().lower() != hashlib.sha256(content).hexdigest():
        raise CorruptFile(f"{where}: is not the file that {side.name} was made for; fetch or copy both again.")
    return True


def _node(chunk: memoryview, where: str) -> Node:
    message = wire.Message(chunk, where)
    name, op = message.data(_NAME), message.data(_OP)
    if not 0 < len(name) <= _LONGEST_NAME or not 0 < len(op) <= _LONGEST_NAME:
        raise damaged(where, f"a node's name has {len(name)} bytes and its operation's {len(op)}")
    if len(message.values(_ATTR)) > _MOST_ATTRIBUTES:
        raise ResourceLimit(f"{where}: a node has more than {_MOST_ATTRIBUTES} attributes; refused")
    text = wire.text(name, where)
    inputs, attributes = message.chunks(_INPUT), message.chunks(_ATTR)
    return Node(text, wire.text(op, where), inputs, attributes, f"{where}: node {text!r}")


# ---- constants


def _constant(node: Node) -> tuple[Stored, int]:
    """A constant, and how many bytes of its node are its numbers."""
    tensor = node.tensor()
    code = tensor.integer(_DTYPE)
    kind = wire.dtype(code, tensor.where)
    sides = wire.shape(tensor.message(_SHAPE))
    if node.attribute("dtype").integer(_TYPE) not in (0, code):
        raise damaged(tensor.where, "the node and its value are of different types")
    if kind is None or kind not in _NUMBERS:
        return unreadable(sides, code, tensor.where), sum(map(len, tensor.chunks(_CONTENT)))
    chunks = _numbers(tensor, sides, kind)
    return Stored(sides, kind, functools.partial(_values, chunks, sides, kind, tensor.where)), sum(map(len, chunks))


def _numbers(tensor: wire.Message, sides: Shape, kind: np.dtype) -> list[memoryview]:
    """The bytes of a tensor's numbers, whose length fits its shape."""
    where, expected = tensor.where, math.prod(sides) * kind.itemsize
    if _CONTENT in tensor and _NUMBERS[kind] in tensor:
        raise damaged(where, "has its numbers in two forms")
    if _NUMBERS[kind] not in tensor:
        content = tensor.data(_CONTENT)
        if len(content) not in (0, expected):
            raise damaged(where, f"has {len(content)} bytes of numbers; its shape {sides} expects {expected}")
        return [content]
    if kind == _HALF:
        raise UnsupportedFeature(f"{where}: has its float16 numbers one by one; expected them as content")
    chunks = tensor.chunks(_NUMBERS[kind])
    size = sum(map(len, chunks))
    if any(len(chunk) % kind.itemsize for chunk in chunks) or size > expected:
        raise damaged(where, f"has {size} bytes of numbers; its shape {sides} expects {expected} at most")
    return chunks


def _values(chunks: list[memoryview], sides: Shape, kind: np.dtype, where: str) -> np.ndarray:
    """A fresh array. As TensorFlow has it, the last number stands for those that are missing, and none for zeros."""
    result = allocate(sides, kind, where)
    flat = result.reshape(-1)
    numbers = np.frombuffer(chunks[0] if len(chunks) == 1 else b"".join(chunks), kind)
    flat[: len(numbers)] = numbers
    flat[len(numbers) :] = numbers[-1] if len(numbers) else 0
    return result
