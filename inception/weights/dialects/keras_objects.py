"""Keras's layers in the graph of objects that TensorFlow 2 keeps with a checkpoint.

A model of Keras 2 has its layers as children `layer-0`, `layer-1`, ... in the order of
`model.layers`, one of Keras 3 in a list, `_operations`; models lie in models, and in whatever
objects a user has made. Both are told here as a `.weights.h5` of the same model would have
them (`keras_order`): `layers/conv2d_92/kernel`. What is exported has no layers, but a list of
its variables, whose names tell which belong together.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from inception.files.errors import ResourceLimit
from inception.files.tensor import Stored
from inception.files.tensorflow.object_graph import Node
from inception.weights.dialects import keras_config

_MEMBER = re.compile(r"(?:layer-)?(\d{1,6})")
_LONGEST_PLACE = 500
_MOST_LAYERS = 10_000


class _Step(NamedTuple):
    """A node to go to: its place, its path (see `Objects`), and whether a model has it as a layer."""

    number: int
    place: str
    path: str
    is_layer: bool


@dataclass
class Objects:
    """What a graph of objects holds of Keras.

    Attributes:
        tensors: {"layers/conv2d_92/kernel": array}.
        groups: the layers' places, "layers/conv2d_92".
        called: {place: the name its variables say}.
        paths: {place: the name that the model's configuration has for it, "inception_v3/conv2d_1"}.
        models: the nodes of the outermost models.
    """

    tensors: dict[str, Stored] = field(default_factory=dict)
    groups: set[str] = field(default_factory=set)
    called: dict[str, str] = field(default_factory=dict)
    paths: dict[str, str] = field(default_factory=dict)
    models: list[int] = field(default_factory=list)

    def add(self, place: str, name: str, weights: Mapping[str, Stored]) -> None:
        """Adds a layer, whose variables say that it was made with this name."""
        self.groups.add(place)
        self.tensors |= {f"{place}/{weight}": stored for weight, stored in weights.items()}
        self.called[place] = name


def of_graph(
    nodes: Sequence[Node], tensors: Mapping[str, Stored], said: Mapping[int, Mapping[str, Any]], where: str
) -> Objects:
    """The layers in a graph of objects; values that are no layer's (an optimizer's, counters, copies) are not in it.

    Args:
        nodes: the graph, its root first.
        tensors: the checkpoint, by its keys.
        said: {number of a node: what Keras says of it}, `name` and `class_name`, where there is such a list.
        where: the file, for messages.

    Raises:
        ResourceLimit: there are more layers, or deeper ones, than a model can have.
    """
    found = _Walk(nodes, tensors, said, where).walked()
    return found if any(name.endswith("/kernel") for name in found.tensors) else _listed(nodes, tensors)


class _Walk:
    """A way through the graph that meets every object once, however many lead to it, in circles too."""

    def __init__(
        self, nodes: Sequence[Node], tensors: Mapping[str, Stored], said: Mapping[int, Mapping[str, Any]], where: str
    ) -> None:
        self._nodes, self._tensors, self._said, self._where = nodes, tensors, said, where
        self._found = Objects()
        self._todo = deque([_Step(0, "", "", False)])
        self._met = {0}
        # Many objects may have one and the same long list.
        self._listed, self._kind = functools.cache(self._listed), functools.cache(self._kind)  # type: ignore[method-assign]

    def walked(self) -> Objects:
        while self._todo:
            step = self._todo.popleft()
            if max(len(step.place), len(step.path)) > _LONGEST_PLACE or len(self._found.groups) > _MOST_LAYERS:
                what = f"{len(self._found.groups)} layers, the next at {step.place[:60]}"
                raise ResourceLimit(
                    f"{self._where}: has more layers, or deeper ones, than a model can have ({what}...)."
                )
            if (members := self._members(step.number)) is None:
                self._object(step)
            else:
                self._model(step, members)
        return self._found

    def _go(self, *steps: _Step) -> None:
        for step in steps:
            if step.number not in self._met:
                self._met.add(step.number)
                self._todo.append(step)

    def _model(self, step: _Step, members: Sequence[int]) -> None:
        if not step.is_layer:
            self._found.models.append(step.number)
        for group, member in zip(keras_config.groups(map(self._kind, members)), members, strict=True):
            name = str(self._said.get(member, {}).get("name", group))
            place = _joined(step.place, f"layers/{group}")
            self._found.groups.add(place)
            self._go(_Step(member, place, _joined(step.path, name) if step.is_layer else name, True))

    def _object(self, step: _Step) -> None:
        children = self._nodes[step.number].children
        weights = self._weights(step.number)
        if weights and (step.is_layer or "kernel" in weights):
            names = (_split(self._nodes[child])[0] for child in children.values() if self._nodes[child].key)
            self._found.add(step.place, next(names).split("/")[-1], weights)
            if step.is_layer:
                self._found.paths[step.place] = step.path
        for name, child in children.items():
            if not self._nodes[child].key:
                self._go(_Step(child, _joined(step.place, name), "", False))

    def _members(self, number: int) -> Sequence[int] | None:
        """The layers of a model in its own order; None for what is no model."""
        return self._listed(self._nodes[number].children.get("_functional", number))  # of a Sequential of Keras 3

    def _listed(self, number: int) -> Sequence[int] | None:
        children = self._nodes[number].children
        if "_operations" in children:
            return _in_order(self._nodes[children["_operations"]].children)
        return _in_order(children, "layer-") if any(name.startswith("layer-") for name in children) else None

    def _kind(self, number: int) -> str:
        """The class of a layer, as Keras spells it in names of groups."""
        if name := self._said.get(number, {}).get("class_name"):
            return keras_config.snake_case(str(name)[:_LONGEST_PLACE])
        return "functional" if self._members(number) is not None else _kind_of(self._weights(number))

    def _weights(self, number: int) -> dict[str, Stored]:
        """A layer's own arrays: {"kernel": ...}, which Keras 3 calls `_kernel`."""
        children = ((name, self._nodes[child].key) for name, child in self._nodes[number].children.items())
        return {name.lstrip("_"): self._tensors[key] for name, key in children if key in self._tensors}


def _joined(base: str, name: str) -> str:
    return f"{base}/{name}" if base else name


def _in_order(children: Mapping[str, int], prefix: str = "") -> list[int]:
    numbered = ((_MEMBER.fullmatch(name), child) for name, child in children.items() if name.startswith(prefix))
    inside = dict(sorted((int(match[1]), child) for match, child in numbered if match))
    return list(dict.fromkeys(inside.values()))


def _split(node: Node) -> tuple[str, str]:
    """The layer and the weight of a variable called `conv2d_5/kernel:0`."""
    layer, _, weight = node.full_name.removesuffix(":0").rpartition("/")
    return layer, weight


def _kind_of(weights: Mapping[str, Stored]) -> str:
    """The class of a layer by its arrays."""
    if {"moving_mean", "moving_variance"} <= weights.keys():
        return "batch_normalization"
    if "kernel" in weights and weights.keys() <= {"kernel", "bias"}:
        return {4: "conv2d", 2: "dense"}.get(len(weights["kernel"].shape), "layer")
    return "layer"


def _listed(nodes: Sequence[Node], tensors: Mapping[str, Stored]) -> Objects:
    """The layers of an exported model: its variables in the order of the model, by their names."""
    found = Objects()
    for copy, layers in enumerate(_copies(nodes, tensors)):
        groups = keras_config.groups(map(_kind_of, layers.values()))
        for group, (name, weights) in zip(groups, layers.items(), strict=True):
            found.add(f"{f'copy_{copy}/' if copy else ''}layers/{group}", name.split("/")[-1], weights)
    return found


def _copies(nodes: Sequence[Node], tensors: Mapping[str, Stored]) -> Iterable[dict[str, dict[str, Stored]]]:
    """{layer: {weight: array}}; names that come again are another network's, whose layers have the same names."""
    copies: list[dict[str, dict[str, Stored]]] = []
    counts: Counter[str] = Counter()
    for node in _exported(nodes):
        if node.key in tensors and node.full_name:
            layer, weight = _split(node)
            if counts[node.full_name] == len(copies):
                copies.append({})
            copies[counts[node.full_name]].setdefault(layer, {})[weight] = tensors[node.key]
            counts[node.full_name] += 1
    return copies


def _exported(nodes: Sequence[Node]) -> Iterator[Node]:
    if "variables" in nodes[0].children:
        for child in _in_order(nodes[nodes[0].children["variables"]].children):
            yield nodes[child]
