"""The places of a network as its table has them: shapes, counts, and their names in the four vocabularies."""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from inception import architecture
from inception.architecture import Concat, Conv, MapShape, Pool
from inception.inference import plan as plans
from inception.variants import SCOPE, Variant
from inception.weights.dialects import graph_names, keras_layers, torch_names

VOCABULARIES = ("slim", "Keras", "torch", "graph of 2015")
_HEADS = {  # Keras, torch, the graph of 2015; empty where a vocabulary has no such place
    "AuxLogits": (keras_layers.AUX_LOGITS, "AuxLogits", ""),
    "PreLogits": ("avg_pool", "avgpool", "pool_3"),
    "Logits": (keras_layers.LOGITS, "fc", "softmax/logits"),
}


@dataclass(frozen=True)
class Unit:
    """A convolution or pool inside an end point: its slim scope, its other names, window, and what comes out."""

    path: str
    names: tuple[str, ...]
    node: Conv | Pool
    shape: MapShape
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Point:
    """An end point: a row of the base, or a head.

    Attributes:
        name: slim's, and here.
        names: in the order of `VOCABULARIES`.
        node: the row; None for a head.
        shape: of its maps (height, width, channels); (1, 1, channels) for a head.
        units: the convolutions and pools in it, in creation order.
    """

    name: str
    names: tuple[str, ...]
    node: architecture.Node | None
    shape: MapShape
    units: tuple[Unit, ...]

    @property
    def parameters(self) -> int:
        return sum(unit.parameters for unit in self.units)

    @property
    def multiply_adds(self) -> int:
        return sum(unit.multiply_adds for unit in self.units)

    @property
    def channels(self) -> int:
        return self.shape[2]


def points(variant: Variant, sides: tuple[int, int], units: Collection[str] = ()) -> list[Point]:
    """The end points of a network for pictures of (height, width), from the picture to the classes.

    Args:
        units: scopes of convolutions inside Mixed rows (`plan.units`) that stand as end points too, before their row.
    """
    rows = variant.table()
    places = architecture.walk(rows, *sides, variant.channels)
    named, (layers, torch, nodes) = names(variant), _vocabularies(variant)

    def unit(place: architecture.Place) -> Unit:
        assert isinstance(place.node, Conv | Pool)
        key = torch.get(f"{SCOPE}/{place.path}/weights", ("",))[0].removesuffix(".weight").removesuffix(".conv")
        known = (layers.get(place.path, ""), key, nodes.get(place.path, ""))
        counts = place.parameters(variant.gamma), place.multiply_adds or 0
        return Unit(place.path, (place.path, *known), place.node, place.output_shape, *counts)

    def inside(name: str) -> tuple[Unit, ...]:
        below = [p for p in places if p.path == name or p.path.startswith(f"{name}/")]
        return tuple(unit(p) for p in below if not isinstance(p.node, Concat))

    shapes = architecture.end_point_shapes(rows, *sides)
    found = []
    for row in rows.base:
        within = inside(row.name)
        alone = [u for u in within if u.path in units and u.path != row.name]
        found += [
            Point(u.path, (u.path, keras_layers.unit(u.names[1])[1], *u.names[2:]), u.node, u.shape, (u,))
            for u in alone
        ]
        found.append(Point(row.name, named[row.name], row, shapes[row.name], within))
    depth, classes = shapes[rows.base[-1].name][2], variant.num_classes
    for name in (name for name in plans.available(variant) if name in _HEADS):
        kind = {"PreLogits": Pool, "Logits": Conv}.get(name, object)
        own = tuple(u for u in inside("Logits" if name == "PreLogits" else name) if isinstance(u.node, kind))
        found.append(Point(name, named[name], None, (1, 1, depth if name == "PreLogits" else classes), own))
    return found


@functools.lru_cache(maxsize=2)
def _vocabularies(variant: Variant) -> tuple[dict[str, str], dict[str, tuple[str, Any]], dict[str, str]]:
    """What Keras's layers, torch's tensors, and the nodes of the graph of 2015 are called, by their scopes."""
    rows = variant.table()
    return keras_layers.layers(rows), torch_names.keys(variant), graph_names.nodes(rows)


def names(variant: Variant) -> dict[str, tuple[str, ...]]:
    """{end point: its names in the order of `VOCABULARIES`}; empty where one has no name for it."""
    rows = variant.table()
    layers, torch, nodes = _vocabularies(variant)
    found: dict[str, tuple[str, ...]] = {}
    for row in rows.base:
        layer = keras_layers.unit(layers[row.name])[1] if isinstance(row, Conv) else layers[row.name]
        inside = next((node for place, node in nodes.items() if place.startswith(f"{row.name}/")), "")
        node = f"{inside.split('/')[0]}/join" if isinstance(row, Concat) else nodes[row.name]
        module = next((key for key, _ in torch.values() if key.startswith(f"{row.name}.")), "").split(".")[0]
        found[row.name] = (row.name, layer, module, node)
    return found | {name: (name, *others) for name, others in _HEADS.items()}
