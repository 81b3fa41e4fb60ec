"""Keras's layers and what they hold: the canonical weights in a set of `layer/weight` arrays.

Where nothing tells how layers are linked, they are matched by the order they were made in,
which their numbers tell whatever they start at: conv2d_95 of a second model in a process is
conv2d_1. What such files cannot say is not guessed from layers that a user may have added.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple

from inception.files.errors import UnsupportedFeature
from inception.files.tensor import Stored
from inception.pictures import Picture
from inception.variants import KERAS, Variant
from inception.weights import plan
from inception.weights.assemble import assemble
from inception.weights.canonical import OtherRules, Source, Weights
from inception.weights.dialects import keras_config, keras_names
from inception.weights.plan import AS_IS, MATRIX, Claim

CONVOLUTIONS = 94  # of the network without its auxiliary head
_HEADS = (keras_names.LOGITS, keras_names.AUX_LOGITS)
_UNSEEN = ("dropout", "input_layer")  # layers of which there may be any number
NO_EPSILON = "batch norm's epsilon and center are not in such a file; taken as Keras's own, 0.001 and True"


def gather(
    tensors: Mapping[str, Stored],
    source: Source,
    like: Variant = KERAS,
    layers: Mapping[str, str] | None = None,
    picture: Picture | str = "keras",
) -> Weights:
    """The weights in {"conv2d_1/kernel": array, ...}; layers of another head become `Weights.extra`.

    like: the variant, as far as shapes cannot tell it. layers: {layer here: our name of it},
    by their numbers where nothing better is known. picture: see `assemble`. Raises
    `UnsupportedFeature` when these are not InceptionV3's layers, `MissingTensor` or
    `ShapeMismatch` when they are not all of them.
    """
    where = f"{source.path} ({source.format})"
    layers = by_number(tensors, where) if layers is None else layers
    for name in tensors:
        layer, _, weight = name.rpartition("/")
        if weight == "bias" and layers.get(layer, "").startswith("conv2d_"):
            # Left aside as an extra, it would be missing from the numbers.
            raise UnsupportedFeature(f"{where}: {layer} has a bias; InceptionV3's convolutions have none.")
    return assemble(_claims(tensors, layers, like), tensors, source, like, picture)


def layout(layer: str, weight: str) -> plan.Layout:
    """Classifiers are Dense layers, so their kernels are matrices; all else is as slim has it."""
    return MATRIX if layer in _HEADS and weight == "kernel" else AS_IS


def by_number(tensors: Mapping[str, Stored], where: str) -> dict[str, str]:
    """{layer in the file: our layer name}: conv2d_95 of a second model in a process is our conv2d_1."""
    found = list(dict.fromkeys(name.rpartition("/")[0] for name in tensors))
    layers = {head: head for head in _HEADS if head in found}
    for kind in ("conv2d", "batch_normalization"):
        made = keras_names.in_creation_order(found, kind)
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


def _claims(tensors: Mapping[str, Stored], layers: Mapping[str, str], like: Variant) -> list[Claim]:
    stored_under = {
        f"{layers[layer]}/{weight}": f"{layer}/{weight}"
        for layer, _, weight in (name.rpartition("/") for name in tensors)
        if layer in layers
    }
    last_aux = stored_under.get("conv2d_96/kernel")
    widest = dataclasses.replace(like, num_classes=1, aux_logits=True, gamma=True)
    if last_aux and len(tensors[last_aux].shape) == 4:
        height, width, *_ = tensors[last_aux].shape
        widest = dataclasses.replace(widest, aux_kernel=(height, width))
    return [
        Claim(stored_under[f"{layer}/{weight}"], canonical, layout(layer, weight))
        for canonical, (layer, weight) in keras_names.variables(widest).items()
        if f"{layer}/{weight}" in stored_under
    ]


# ---- what a list of layers tells that does not say how they are linked


class Told(NamedTuple):
    """like: the rules; whole: the layers are ours and no others, classifier included; notes: what is not told."""

    like: Variant
    whole: bool
    notes: tuple[str, ...]


def told(kinds: Counter[str], where: str, border: bool = False) -> Told:
    """What the number of layers of each kind ("conv2d": 94, ...) tells for certain.

    border: the average pools count their borders, as the layers' names say. A user's own layers can
    only add to ours, so where one variant alone has no more pools and paddings than were found, it is
    that one. Where several have, Keras's rules are taken, with a note and a warning.
    """
    kinds = Counter({kind: count for kind, count in kinds.items() if kind not in _UNSEEN})
    aux = kinds["conv2d"] > CONVOLUTIONS
    borders: tuple[Literal["exclude", "include"], ...] = ("include",) if border else ("exclude", "include")
    lasts: tuple[Literal["avg", "max"], ...] = ("avg", "max")
    variants = [
        dataclasses.replace(KERAS, border=rule, last_pool=last, aux_logits=aux) for rule in borders for last in lasts
    ]
    censuses = {variant: _census(variant) for variant in variants}
    for variant, census in censuses.items():
        if kinds == census or (not aux and kinds in _without_classifier(census)):
            return Told(_rules(variant), kinds == census, (NO_EPSILON,))
    pools = ("zero_padding2d", "average_pooling2d", "max_pooling2d")
    possible = [v for v, census in censuses.items() if all(census[kind] <= kinds[kind] for kind in pools)]
    exact = [v for v in possible if all(censuses[v][kind] == kinds[kind] for kind in pools)]
    chosen = exact or possible
    if len(chosen) == 1:
        return Told(_rules(chosen[0]), False, (NO_EPSILON,))
    like = _rules(variants[0])
    rules = {"border": "the border rule of the average pools", "last_pool": "which pool is last"}
    fields = [field for field in rules if len({getattr(each, field) for each in chosen or variants}) > 1]
    note = (
        f"{' and '.join(rules[field] for field in fields)} cannot be told from the layers that such a file lists; "
        f"taken as {', '.join(f'{field}={getattr(like, field)!r}' for field in fields)}"
    )
    warnings.warn(f"{where}: {note}. Save the model as .keras, which tells.", OtherRules, stacklevel=5)
    return Told(like, False, (NO_EPSILON, note))


def _census(variant: Variant) -> Counter[str]:
    kinds = (keras_config.snake_case(layer.kind) for layer in keras_config.describe(variant).layers.values())
    return Counter(kind for kind in kinds if kind not in _UNSEEN)


def _without_classifier(census: Counter[str]) -> list[Counter[str]]:
    base = census - Counter(("dense", "global_average_pooling2d"))
    return [base, base + Counter(("global_average_pooling2d",)), base + Counter(("global_max_pooling2d",))]


def _rules(variant: Variant) -> Variant:
    return dataclasses.replace(KERAS, border=variant.border, last_pool=variant.last_pool)
