"""Keras's legacy HDF5 weight files: `<layer>/<layer>/<weight>:0`, top or notop, any numbering.

Layers are matched by the order they were made in, which their numbers tell whatever they
start at; the file's own `layer_names` follow the depth of the graph and are not needed to
read. Files of `model.save("x.h5")` hold the same under `model_weights`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from inception import pictures
from inception.files import hdf5
from inception.files.atomic import replacing
from inception.files.tensor import Stored
from inception.pictures import Picture
from inception.variants import KERAS, Variant
from inception.weights.canonical import (
    VARIANT,
    Source,
    Weights,
    check_same,
    integrity,
    variant_json,
    warn_of_rules,
    written,
)
from inception.weights.dialects import keras_config, keras_graph, keras_layers, keras_names

TITLE = "Keras HDF5 (legacy)"
_WHOLE = "model_weights/"  # holds them in files of `model.save`
_BORDER = re.compile(keras_config.border_of(r"average_pooling2d_\d+"))


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a legacy Keras HDF5 file.

    Raises `UnsupportedFeature` when it holds no InceptionV3, `MissingTensor` or
    `ShapeMismatch` when it holds part of one, `CorruptFile` when it is damaged.
    """
    return gather(hdf5.read(path, attributes=(VARIANT,)), path)


def gather(content: hdf5.Content, path: str | os.PathLike[str]) -> Weights:
    """The weights in what a legacy file holds; `path` is its name. Raises as `read` does."""
    source = Source(os.fspath(path), TITLE, integrity(content.checksummed))
    where = f"{source.path} ({source.format})"
    model = _model(content, where)
    said, picture = written(content.attributes.get(VARIANT), source.path, "keras")
    layers = keras_layers.by_number(model.network, where)
    layers = {f"{model.home}{layer}": ours for layer, ours in layers.items()}
    tensors = {f"{model.home}{name}": stored for name, stored in model.network.items()} | model.others
    if said is not None:
        return keras_layers.gather(tensors, source, said, layers, picture)
    kinds = _kinds(content, model)
    like, whole, notes = keras_layers.told(kinds, where, border=_counts_borders(content))
    if model.home:  # its own layers are not listed, those around it are
        whole = kinds == {"global_average_pooling2d": 1, "dense": 1}
    found = _with_classifier(tensors, source, notes, whole, like, layers)
    return keras_layers.gather(tensors, *found, _picture(content))


def _picture(content: hdf5.Content) -> Picture | str:
    """The way that the name of an input layer says, of a file that Keras wrote; its own where none does."""
    layers = (group.removeprefix(_WHOLE) for group in sorted(content.groups))
    said = (pictures.from_input_name(layer, None) for layer in layers if "/" not in layer)
    return next((picture for picture in said if picture), "keras")


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the layout of the published files, with HDF5's own checksums on data and metadata."""
    variant = weights.variant
    places = keras_names.variables(variant)
    of_layer: dict[str, list[tuple[str, np.ndarray]]] = {}
    for canonical, (layer, weight) in places.items():
        array = weights.arrays[canonical]
        of_layer.setdefault(layer, []).append((weight, keras_layers.layout(layer, weight).to_file(array)))
    order = keras_names.model_order(variant)

    def fill(file: Any) -> None:
        file.attrs["layer_names"] = np.array([name.encode() for name in order])
        file.attrs["backend"] = np.bytes_(b"tensorflow")
        file.attrs["keras_version"] = np.bytes_(b"2.2.4")
        file.attrs[VARIANT] = np.bytes_(variant_json(weights).encode())
        for layer in order:
            _write_layer(file.create_group(layer), layer, of_layer.get(layer, []))

    warn_of_rules(weights, KERAS, os.fspath(path), "Keras's own code")
    with replacing(path) as [temporary]:
        temporary.write_bytes(hdf5.image(fill))
        check_same(read(temporary), weights, os.fspath(path))


def _write_layer(group: Any, layer: str, arrays: list[tuple[str, np.ndarray]]) -> None:
    names_ = [f"{layer}/{weight}:0" for weight, _ in arrays]
    group.attrs["weight_names"] = np.array([name.encode() for name in names_], dtype="S" if names_ else "S1")
    for name, (_, array) in zip(names_, arrays, strict=True):
        hdf5.create_dataset(group, name, array)


# ---- which layers there are


class _Model(NamedTuple):
    """home: "" or the model ("inception_v3/") that holds the network; network, others: {layer/weight: array}."""

    home: str
    network: dict[str, Stored]
    others: dict[str, Stored]


def _model(content: hdf5.Content, where: str) -> _Model:
    """The arrays by layers; those of a model within the model apart, where they are the network's."""
    homes: dict[str, dict[str, Stored]] = {}
    for name, stored in content.tensors.items():
        if not name.startswith("optimizer_"):
            owner, *inner = name.removeprefix(_WHOLE).removesuffix(":0").split("/")
            layer = "/".join([owner, *inner][-2:])
            homes.setdefault("" if layer.split("/")[0] == owner else f"{owner}/", {})[layer] = stored
    networks = [home for home, arrays in homes.items() if sum(map(_is_kernel, arrays)) >= keras_layers.CONVOLUTIONS]
    if len(networks) > 1:
        raise keras_graph.two(sorted(home.removesuffix("/") or "the model itself" for home in networks), where)
    if not networks or networks == [""]:
        return _Model("", {name: stored for arrays in homes.values() for name, stored in arrays.items()}, {})
    others = {name: stored for home, arrays in homes.items() if home != networks[0] for name, stored in arrays.items()}
    return _Model(networks[0], homes[networks[0]], others)


def _is_kernel(name: str) -> bool:
    return bool(re.fullmatch(r"conv2d(_\d+)?/kernel", name))


def _listed(content: hdf5.Content) -> set[str]:
    """The names of all layers, of those without arrays too."""
    groups = {group.removeprefix(_WHOLE) for group in content.groups if group != _WHOLE[:-1]}
    return {group for group in groups if "/" not in group} - {"top_level_model_weights"}


def _counts_borders(content: hdf5.Content) -> bool:
    """Whether all zero paddings are there, by name, that our builder puts before average pools."""
    model = keras_config.describe(dataclasses.replace(KERAS, border="include", last_pool="max"))
    return {name for name in model.layers if _BORDER.fullmatch(name)} <= _listed(content)


def _kinds(content: hdf5.Content, model: _Model) -> Counter[str]:
    """How many layers of each kind the file lists, by their names; a Dense layer also by its arrays."""
    arrays = model.network | model.others
    kinds = Counter(_kind(name, arrays) for name in _listed(content) if f"{name}/" != model.home)
    return Counter({kind: count for kind, count in kinds.items() if kind not in ("input", "input_layer", "dropout")})


def _kind(name: str, arrays: Mapping[str, Stored]) -> str:
    kernel = arrays.get(f"{name}/kernel")
    if kernel is not None and len(kernel.shape) == 2 and f"{name}/bias" in arrays:
        return "dense"
    if re.fullmatch(r"mixed\d+(_\d+)?", name):
        return "concatenate"
    if name in ("avg_pool", keras_names.AUX_POOL):
        return "global_average_pooling2d"
    kind = re.sub(r"_\d+$", "", name)
    return "zero_padding2d" if _BORDER.fullmatch(name) else kind


def _with_classifier(
    tensors: Mapping[str, Stored],
    source: Source,
    notes: tuple[str, ...],
    whole: bool,
    like: Variant,
    layers: dict[str, str],
) -> tuple[Source, Variant, dict[str, str]]:
    """What `gather` takes, with a Dense layer of another name as the classifier where nothing else can be."""
    if keras_names.LOGITS not in layers.values():
        dense = [name.removesuffix("/kernel") for name in tensors if name.endswith("/kernel")]
        dense = [name for name in dense if _kind(name, tensors) == "dense" and layers.get(name) is None]
        if keras_names.LOGITS in dense or (whole and len(dense) == 1):
            layers = layers | {keras_names.LOGITS if keras_names.LOGITS in dense else dense[0]: keras_names.LOGITS}
        elif dense:
            notes = (*notes, f"whether a Dense layer ({', '.join(dense[:3])}) is the classifier is not in such a file")
    return dataclasses.replace(source, notes=notes), like, layers
