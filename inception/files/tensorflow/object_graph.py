"""The graph of objects that TensorFlow 2 keeps with a checkpoint, and what a SavedModel says of each.

A checkpoint of objects has a tensor of text, `NAME`: a list of nodes, the root first, with
their children by name and, of a variable, the key that its value has in the checkpoint.
A SavedModel lists the same nodes in the same order. Nodes may have many parents, and the
graph may have circles: nothing here walks it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from inception.files.errors import ResourceLimit
from inception.files.regular import RegularFile
from inception.files.tensor import damaged
from inception.files.tensorflow import wire

NAME = "_CHECKPOINTABLE_OBJECT_GRAPH"
LARGEST = 8 << 20  # bytes; that of 300 layers in a SavedModel, optimizer included, has 300 KB
LARGEST_METADATA = 16 << 20
_LARGEST_MODEL = 128 << 20  # a saved_model.pb, whose functions may hold constants
_MOST_CHILDREN = 1 << 18
_VALUE = "VARIABLE_VALUE"


class Node(NamedTuple):
    """children: {name: number of the node}; key: the variable's value in the checkpoint, or ""; full_name: its name."""

    children: Mapping[str, int]
    key: str
    full_name: str


def nodes(text: bytes, where: str) -> list[Node]:
    """The nodes of a TrackableObjectGraph. `CorruptFile` or `ResourceLimit`, naming `where`, for anything else."""
    messages = list(wire.Message(text, where).messages(1))
    left = _MOST_CHILDREN
    found: list[Node] = []
    for message in messages:
        references = [(child.text(2), child.integer(1)) for child in message.messages(1)]
        left -= len(references)
        if left < 0:
            raise ResourceLimit(f"{where}: its objects have more than {_MOST_CHILDREN} children; refused")
        children = dict(references)
        if len(children) < len(references) or not all(0 <= child < len(messages) for child in children.values()):
            raise damaged(where, f"object {len(found)} has two children of one name, or one that is not there")
        values = [attribute for attribute in message.messages(2) if attribute.text(1) == _VALUE]
        if len(values) > 1:
            raise damaged(where, f"object {len(found)} has two values")
        key, name = (values[0].text(3), values[0].text(2)) if values else ("", "")
        found.append(Node(children, key, name))
    if not found:
        raise damaged(where, "lists no objects")
    return found


def metadata(folder: str | os.PathLike[str]) -> dict[int, bytes]:
    """{number of a node: the JSON that Keras says of it} in a SavedModel.

    From `keras_metadata.pb`, or from `saved_model.pb` itself, where TensorFlow 2.4 and
    earlier keep it; empty for a SavedModel that Keras 2 did not write.
    """
    beside = os.path.join(folder, "keras_metadata.pb")
    found: Iterable[tuple[int, memoryview]]
    if os.path.lexists(beside):
        found = ((node.integer(2), node.data(5)) for node in _message(beside).messages(1))
    else:
        found = _in_the_model(os.path.join(folder, "saved_model.pb"))
    texts = {number: bytes(text) for number, text in found if text}
    if (size := sum(map(len, texts.values()))) > LARGEST_METADATA:
        raise ResourceLimit(f"{os.fspath(folder)}: {size} bytes of metadata; expected {LARGEST_METADATA} at most")
    return texts


def _in_the_model(path: str) -> Iterator[tuple[int, memoryview]]:
    for graph in _message(path).messages(2):
        for number, node in enumerate(graph.message(7).messages(1)):
            if 4 in node:  # a user's object
                yield number, node.message(4).data(3)


def _message(path: str) -> wire.Message:
    file = RegularFile(path)
    if file.size > _LARGEST_MODEL:
        raise ResourceLimit(f"{path}: has {file.size} bytes; expected {_LARGEST_MODEL} at most")
    return wire.Message(file.octets(0, file.size).data, path)
