"""Keras layers that no file links: told by the order of the model that they must have come from.

Such a file has groups for its layers, `layers/<class>_<k>`, k counting the layers of a class
as `model.layers` has them, by depth: `layers/conv2d_92` is not the 93rd convolution that was
made. Where the variables' own names are known and number the layers, those tell them apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import NamedTuple

from inception.files.errors import UnsupportedFeature
from inception.variants import Variant
from inception.weights.dialects import keras_config, keras_graph, keras_layers

_CONV = re.compile(r"(?P<base>.*/)conv2d(_\d+)?")
_LAYER = re.compile(r"(?:.+/)?layers/[^/]+")
_NUMBERED = ("conv2d", "batch_normalization")


class Layers(NamedTuple):
    """names: {group: our name of the layer}; like: the rules; notes: what such a file does not tell."""

    names: dict[str, str]
    like: Variant
    notes: tuple[str, ...]


def told(
    groups: Collection[str], where: str, said: Variant | None = None, called: Mapping[str, str] | None = None
) -> Layers:
    """The network's layers among the groups of a file.

    Args:
        groups: the path of every layer's group, `layers/sequential/layers/conv2d_3`.
        where: the file, for messages.
        said: the variant, where the file itself says it.
        called: {group: the name that its layer had when it was made}, as far as that is known.

    Raises:
        UnsupportedFeature: there are two networks, or layers that cannot be told from the network's.
    """
    called = called or {}
    found = Counter(match["base"] for match in map(_CONV.fullmatch, groups) if match)
    whole_ones = [base for base, count in found.items() if count >= keras_layers.CONVOLUTIONS]
    whole_ones.sort(key=lambda base: (len(base), base))
    if len(whole_ones) > 1:
        raise keras_graph.two([base.removesuffix("/layers/") for base in whole_ones], where)
    base = max(found, key=lambda each: found[each], default="layers/")  # of models within models, the one like ours
    names = _in(groups, base, called, where)
    like, whole, notes = keras_config.Told(said, True, ()) if said else keras_config.told(_census(groups), where)
    dense = sorted(group for group in groups if _LAYER.fullmatch(group) and kind(group) == "dense")
    heads = {group: called[group] for group in dense if called.get(group) in keras_layers.HEADS}
    if heads and len(set(heads.values())) == len(heads):
        names = {group: name for group, name in names.items() if group not in dense} | heads
    elif whole and len(dense) == 1:
        names |= {dense[0]: keras_layers.LOGITS}
    elif dense and not whole:
        names = {group: name for group, name in names.items() if group not in dense}
        notes = (*notes, keras_config.no_classifier(dense))
    return Layers(names, like, notes)


def kind(group: str) -> str:
    """`layers/conv2d_92` -> `conv2d`."""
    return re.sub(r"_\d+$", "", group.rpartition("/")[2])


def _census(groups: Collection[str]) -> Counter[str]:
    """How many layers of each kind there are, in all models within models together."""
    return Counter(kind(group) for group in groups if _LAYER.fullmatch(group) and f"{group}/layers" not in groups)


def _in(groups: Collection[str], base: str, called: Mapping[str, str], where: str) -> dict[str, str]:
    """{group: our layer} in one model; Dense layers that are more than the classifiers stay without names."""
    inside = {path[len(base) :].split("/")[0] for path in groups if path.startswith(base)}
    count = Counter(map(kind, inside))
    aux = count["conv2d"] > keras_layers.CONVOLUTIONS
    model = keras_config.describe(Variant(num_classes=1, aux_logits=aux), count["dropout"])
    weighted = [layer for layer in model.by_depth() if layer.kind in keras_config.WEIGHTED]
    expected = Counter(keras_config.snake_case(layer.kind) for layer in weighted)
    if any(count[each] != expected[each] for each in _NUMBERED):
        has, wants = (f"{each['conv2d']} and {each['batch_normalization']}" for each in (count, expected))
        raise UnsupportedFeature(
            f"{where} has {has} convolutions and batch norms, expected {wants}. Such files do not say how layers are "
            "linked, so which are InceptionV3's cannot be told; save the model as .keras, or the InceptionV3 in it "
            "alone."
        )
    ours = [layer for layer in weighted if layer.kind != "Dense" or count["dense"] == expected["dense"]]
    found = keras_config.groups(keras_config.snake_case(layer.kind) for layer in ours)
    names = {f"{base}{group}": layer.name for group, layer in zip(found, ours, strict=True)}
    by_name = {called.get(group, ""): group for group in names}
    made = {each: keras_layers.in_creation_order(by_name, each) for each in _NUMBERED}
    if all(len(made[each]) == expected[each] for each in _NUMBERED):
        names |= {by_name[layer]: f"{each}_{i}" for each in _NUMBERED for i, layer in enumerate(made[each], 1)}
    return names
