"""Keras's layers and what they hold: the canonical weights in a set of `layer/weight` arrays.

A file's and a model's layers are matched by the order they were made in, which their
numbers tell whatever they start at: conv2d_95 of a second model in a process is conv2d_1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from inception import names
from inception.pictures import Picture
from inception.variants import KERAS, Variant
from inception.weights import plan
from inception.weights.assemble import assemble
from inception.weights.canonical import Source, Weights
from inception.weights.errors import UnsupportedFeature
from inception.weights.plan import AS_IS, MATRIX, Claim
from inception.weights.stored import Stored

_HEADS = (names.KERAS_LOGITS, names.KERAS_AUX_LOGITS)


def gather(
    tensors: Mapping[str, Stored], source: Source, like: Variant = KERAS, picture: Picture | str = "keras"
) -> Weights:
    """The weights in {"conv2d_1/kernel": array, ...}; layers of another head become `Weights.extra`.

    like: the variant, as far as shapes cannot tell it. picture: see `assemble`. Raises `UnsupportedFeature` when
    these are not InceptionV3's layers, `MissingTensor` or `ShapeMismatch` when they are
    not all of them.
    """
    where = f"{source.path} ({source.format})"
    layers = _canonical_layers(tensors, where)
    for name in tensors:
        layer, _, weight = name.partition("/")
        if weight == "bias" and layers.get(layer, "").startswith("conv2d_"):
            # Left aside as an extra, it would be missing from the numbers.
            raise UnsupportedFeature(f"{where}: {layer} has a bias; InceptionV3's convolutions have none.")
    return assemble(_claims(tensors, layers, like), tensors, source, like, picture)


def layout(layer: str, weight: str) -> plan.Layout:
    """Classifiers are Dense layers, so their kernels are matrices; all else is as slim has it."""
    return MATRIX if layer in _HEADS and weight == "kernel" else AS_IS


def _canonical_layers(tensors: Mapping[str, Stored], where: str) -> dict[str, str]:
    """{layer in the file: our layer name}: conv2d_95 of a second model in a process is our conv2d_1."""
    found = list(dict.fromkeys(name.split("/")[0] for name in tensors))
    layers = {head: head for head in _HEADS if head in found}
    for kind in ("conv2d", "batch_normalization"):
        made = names.in_creation_order(found, kind)
        layers |= {layer: f"{kind}_{i}" for i, layer in enumerate(made, 1)}
        if kind == "conv2d" and not made:
            raise UnsupportedFeature(_not_ours(found, where))
    return layers


def _not_ours(found: list[str], where: str) -> str:
    if any(name.startswith("convolution2d_") for name in found):
        return (
            f"{where} is a Keras 1 file (layers {found[0]}, ...), whose layer scheme is not read; "
            "fetch the v0.5 file, or load and save it with Keras 2 first."
        )
    shown = ", ".join(found[:4]) or "none"
    return f"{where} has none of InceptionV3's convolutions (layers found: {shown}); expected conv2d_1 to conv2d_94."


def _claims(tensors: Mapping[str, Stored], layers: Mapping[str, str], like: Variant) -> list[Claim]:
    stored_under = {
        f"{layers[layer]}/{weight}": f"{layer}/{weight}"
        for layer, _, weight in (name.partition("/") for name in tensors)
        if layer in layers
    }
    last_aux = stored_under.get("conv2d_96/kernel")
    widest = dataclasses.replace(like, num_classes=1, aux_logits=True, gamma=True)
    if last_aux and len(tensors[last_aux].shape) == 4:
        height, width, *_ = tensors[last_aux].shape
        widest = dataclasses.replace(widest, aux_kernel=(height, width))
    return [
        Claim(stored_under[f"{layer}/{weight}"], canonical, layout(layer, weight))
        for canonical, (layer, weight) in names.keras_variables(widest).items()
        if f"{layer}/{weight}" in stored_under
    ]
