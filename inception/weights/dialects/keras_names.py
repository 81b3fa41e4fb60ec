"""From a place in the table to its name in each vocabulary.

slim's names are the table's own (`Place.path`), so they need no rule here. Keras
counts layers of a class in creation order, which is the table's order; the published
HDF5 files count from 1.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from inception.architecture import AUX_END_POINT, END_POINTS, Concat, Conv, Ops, Pool, Table, fold, walk
from inception.variants import SCOPE, Variant

AUX_LOGITS = "aux_predictions"
AUX_POOL = "aux_avg_pool"  # ours: brings the auxiliary head's last map to a vector at any image size
LOGITS = "predictions"
_HEADS = {"Logits/Conv2d_1c_1x1": LOGITS, "AuxLogits/Conv2d_2b_1x1": AUX_LOGITS}


def layers(rows: Table) -> dict[str, str]:
    """{place: layer name} of the Keras model, as the published HDF5 file names its layers.

    A convolution's batch norm and ReLU are `batch_normalization_N` and `activation_N`
    with the convolution's own N (`unit`). Mixed_5b..7c are mixed0..mixed10.
    """
    layers: dict[str, str] = {}
    counts: Counter[str] = Counter()

    def numbered(kind: str) -> str:
        counts[kind] += 1
        return f"{kind}_{counts[kind]}"

    for place in walk(rows):
        node = place.node
        if place.path in _HEADS:
            layers[place.path] = _HEADS[place.path]
        elif isinstance(node, Conv):
            layers[place.path] = numbered("conv2d")
        elif place.path.startswith("Logits/"):
            layers[place.path] = "avg_pool"
        elif isinstance(node, Pool):
            layers[place.path] = numbered("max_pooling2d" if node.kind == "max" else "average_pooling2d")
        else:
            layers[place.path] = _concat(place.path, node, numbered)
    return layers


def _concat(path: str, node: Concat, numbered: Callable[[str], str]) -> str:
    """mixed0..mixed10 for the rows; the first inner concat of Mixed_7b and 7c is mixed9_0 and mixed9_1."""
    if node.name:
        return f"mixed{_MIXED_ROWS.index(node.name)}"
    if path.endswith("/Branch_1"):
        return {"Mixed_7b": "mixed9_0", "Mixed_7c": "mixed9_1"}[path.split("/")[0]]
    return numbered("concatenate")


_MIXED_ROWS = [point for point in END_POINTS if point.startswith("Mixed_")]


def unit(conv_layer: str) -> tuple[str, str]:
    """The names of the batch norm and the ReLU that follow a convolution: conv2d_7 -> (..., ...)."""
    number = conv_layer.removeprefix("conv2d")
    return f"batch_normalization{number}", f"activation{number}"


def variables(variant: Variant) -> dict[str, tuple[str, str]]:
    """{canonical variable: (layer, weight)} of a Keras model: ("conv2d_1", "kernel"), ("predictions", "bias")."""
    table: dict[str, tuple[str, str]] = {}
    by_place = layers(variant.table())
    for place in walk(variant.table(), channels=variant.channels):
        for variable in place.variables(variant.gamma):
            layer = by_place[place.path]
            if variable.startswith("BatchNorm/"):
                target = unit(layer)[0], variable.removeprefix("BatchNorm/")
            else:
                target = layer, {"weights": "kernel", "biases": "bias"}[variable]
            table[f"{SCOPE}/{place.path}/{variable}"] = target
    return table


def model_order(variant: Variant) -> list[str]:
    """The layers of the Keras model in the order of `model.layers`: by depth below the outputs.

    Keras sorts layers by their longest way to an output, farthest first, and layers of
    one depth by when a walk from the outputs, inputs first to last, meets them. Weight
    files list layers so; creation order is another one.
    """
    graph = _LayerGraph(variant)
    return by_depth(graph.inputs, graph.outputs)


def by_depth(inputs: Mapping[str, Sequence[str]], outputs: Sequence[str]) -> list[str]:
    """Layers in Keras's order; `inputs` is {layer: the layers it reads}, made in the order of its keys."""
    depth: dict[str, int] = {}
    for layer in reversed(list(inputs)):
        depth.setdefault(layer, 0)
        for below in inputs[layer]:
            depth[below] = max(depth.get(below, 0), depth[layer] + 1)
    met: dict[str, int] = {}
    todo = list(reversed(outputs))
    while todo:
        layer = todo.pop()
        if layer not in met:
            met[layer] = len(met)
            todo.extend(reversed(inputs[layer]))
    return sorted(inputs, key=lambda layer: (-depth[layer], met[layer]))


class _LayerGraph(Ops[str]):
    """{layer: the layers it reads} of the Keras model, in creation order; values of the fold are layer names."""

    def __init__(self, variant: Variant) -> None:
        rows = variant.table()
        self._names = layers(rows)
        self.inputs: dict[str, list[str]] = {"input_1": []}
        base = fold(self, rows.base, "input_1")
        self.outputs = [base[rows.base[-1].name]]
        if rows.logits:
            self.outputs = list(fold(self, rows.logits, self.outputs[0], "Logits").values())[-1:]
        if rows.aux_logits:
            aux = list(fold(self, rows.aux_logits, base[AUX_END_POINT], "AuxLogits").values())[-1]
            self.outputs.insert(0, aux)

    def _layer(self, name: str, *inputs: str) -> str:
        self.inputs[name] = list(inputs)
        return name

    def conv(self, node: Conv, x: str, path: str) -> str:
        if self._names[path] == AUX_LOGITS:
            x = self._layer(AUX_POOL, x)
        layer = self._layer(self._names[path], x)
        if not node.batch_norm:
            return layer
        normalization, activation = unit(layer)
        return self._layer(activation, self._layer(normalization, layer))

    def pool(self, node: Pool, x: str, path: str) -> str:
        return self._layer(self._names[path], x)

    def concat(self, node: Concat, xs: list[str], path: str) -> str:
        return self._layer(self._names[path], *xs)


def in_creation_order(layers: Iterable[str], kind: str) -> list[str]:
    """The layers called `kind`, `kind_1`, ... by their number: the order they were made in.

    The numbers themselves mean nothing: a second model in a process starts at
    `conv2d_95`, newer Keras at plain `conv2d`.
    """
    found = [(re.fullmatch(rf"{kind}(?:_(\d+))?", name), name) for name in layers]
    return [name for _, name in sorted((int(m.group(1) or -1), name) for m, name in found if m)]
