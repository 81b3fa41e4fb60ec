"""Keras's layers: what ours are called and hold, and the canonical weights in a set of `layer/weight` arrays.

Keras counts layers of a class in creation order, which is the table's order; the published
HDF5 files count from 1. Where nothing tells how layers are linked, they are matched by that
order, which their numbers tell whatever they start at: conv2d_95 of a second model in a
process is conv2d_1.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from inception.architecture import END_POINTS, Conv, Pool, Table, walk
from inception.files.errors import UnsupportedFeature
from inception.files.tensor import Stored
from inception.pictures import Picture
from inception.variants import KERAS, SCOPE, Variant
from inception.weights.canonical import Source, Weights
from inception.weights.plan import AS_IS, MATRIX, Claim, Layout, assemble

CONVOLUTIONS = 94  # of the network without its auxiliary head
AUX_LOGITS = "aux_predictions"
AUX_POOL = "aux_avg_pool"  # ours: brings the auxiliary head's last map to a vector at any image size
LOGITS = "predictions"
HEADS = (LOGITS, AUX_LOGITS)
_NAMED = {
    "Logits/AvgPool_1a_8x8": "avg_pool",
    "Logits/Conv2d_1c_1x1": LOGITS,
    "AuxLogits/Conv2d_2b_1x1": AUX_LOGITS,
    "Mixed_7b/Branch_1": "mixed9_0",  # the first inner concat
    "Mixed_7c/Branch_1": "mixed9_1",
} | {row: f"mixed{i}" for i, row in enumerate(point for point in END_POINTS if point.startswith("Mixed_"))}


# ---- names


def layers(rows: Table) -> dict[str, str]:
    """{place: layer name} of the Keras model, as the published HDF5 file names its layers.

    A convolution's batch norm and ReLU are `batch_normalization_N` and `activation_N`
    with the convolution's own N (`unit`). Mixed_5b..7c are mixed0..mixed10.
    """
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for place in walk(rows):
        node, pools = place.node, {"max": "max_pooling2d", "avg": "average_pooling2d"}
        if place.path not in _NAMED:
            kind = "conv2d" if isinstance(node, Conv) else pools[node.kind] if isinstance(node, Pool) else "concatenate"
            counts[kind] += 1
            names[place.path] = f"{kind}_{counts[kind]}"
        else:
            names[place.path] = _NAMED[place.path]
    return names


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


def in_creation_order(layers: Iterable[str], kind: str) -> list[str]:
    """The layers called `kind`, `kind_1`, ... by their number: the order they were made in.

    The numbers themselves mean nothing: a second model in a process starts at
    `conv2d_95`, newer Keras at plain `conv2d`.
    """
    found = [(re.fullmatch(rf"{kind}(?:_(\d+))?", name), name) for name in layers]
    return [name for _, name in sorted((int(m.group(1) or -1), name) for m, name in found if m)]


# ---- arrays


def gather(
    tensors: Mapping[str, Stored],
    source: Source,
    like: Variant = KERAS,
    layers: Mapping[str, str] | None = None,
    picture: Picture | str = "keras",
) -> Weights:
    """The weights in {"conv2d_1/kernel": array, ...}; layers of another head become `Weights.extra`.

    Args:
        like: the variant, as far as shapes cannot tell it.
        layers: {layer here: our name of it}, by their numbers where nothing better is known.
        picture: see `assemble`.

    Raises:
        UnsupportedFeature: When these are not InceptionV3's layers.
        MissingTensor, ShapeMismatch: When they are not all of them.
    """
    layers = by_number(tensors, source.where) if layers is None else layers
    stored_under: dict[str, str] = {}
    for name in tensors:
        layer, _, weight = name.rpartition("/")
        if weight == "bias" and layers.get(layer, "").startswith("conv2d_"):
            # Left aside as an extra, it would be missing from the numbers.
            raise UnsupportedFeature(f"{source.where}: {layer} has a bias; InceptionV3's convolutions have none.")
        if layer in layers:
            stored_under[f"{layers[layer]}/{weight}"] = name
    widest = dataclasses.replace(like, num_classes=1, aux_logits=True, gamma=True)
    last_aux = tensors.get(stored_under.get("conv2d_96/kernel", ""))
    if last_aux and len(last_aux.shape) == 4:
        widest = dataclasses.replace(widest, aux_kernel=last_aux.shape[:2])
    claims = [
        Claim(stored_under[f"{layer}/{weight}"], canonical, _layout(layer, weight))
        for canonical, (layer, weight) in variables(widest).items()
        if f"{layer}/{weight}" in stored_under
    ]
    return assemble(claims, tensors, source, like, picture)


def scatter(weights: Weights) -> dict[str, dict[str, np.ndarray]]:
    """{layer: {weight: array}} as Keras has them."""
    arrays: dict[str, dict[str, np.ndarray]] = {}
    for canonical, (layer, weight) in variables(weights.variant).items():
        arrays.setdefault(layer, {})[weight] = _layout(layer, weight).to_file(weights.arrays[canonical])
    return arrays


def _layout(layer: str, weight: str) -> Layout:
    """Classifiers are Dense layers, so their kernels are matrices; all else is as slim has it."""
    return MATRIX if layer in HEADS and weight == "kernel" else AS_IS


def by_number(tensors: Iterable[str], where: str) -> dict[str, str]:
    """{layer in the file: our layer name}: conv2d_95 of a second model in a process is our conv2d_1."""
    found = list(dict.fromkeys(name.rpartition("/")[0] for name in tensors))
    layers = {head: head for head in HEADS if head in found}
    for kind in ("conv2d", "batch_normalization"):
        made = in_creation_order(found, kind)
        layers |= {layer: f"{kind}_{i}" for i, layer in enumerate(made, 1)}
        if kind == "conv2d" and not made:
            raise UnsupportedFeature(_not_ours(found, where))
    return layers


def _not_ours(found: list[str], where: str) -> str:
    found = [layer.split("/")[0] for layer in found]
    if any(name.startswith("convolution2d_") for name in found):
        return (
            f"{where} is a Keras 1 file (layers {found[0]}, ...), whose layer scheme is not read; "
            "fetch the v0.5 file, or load and save it with Keras 2 first."
        )
    shown = ", ".join(dict.fromkeys(found[:4])) or "none"
    return f"{where} has none of InceptionV3's convolutions (layers found: {shown}); expected conv2d_1 to conv2d_94."
