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
from inception.variants import KERAS
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
from inception.weights.dialects import keras_config, keras_graph, keras_layers
from inception.weights.formats import keras_archive

TITLE = "Keras HDF5 (legacy)"
_WHOLE = "model_weights/"  # holds them in files of `model.save`
_KERNEL = re.compile(r"conv2d(_\d+)?/kernel")
_BORDER = re.compile(keras_config.border_of(r"average_pooling2d_\d+"))


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a legacy Keras HDF5 file.

    Raises:
        UnsupportedFeature: When it holds no InceptionV3.
        MissingTensor, ShapeMismatch: When it holds part of one.
        CorruptFile: When it is damaged.
    """
    content = hdf5.read(path, attributes=(VARIANT,))
    if any(map(keras_archive.VARIABLE.fullmatch, content.tensors)):
        return keras_archive.gather_values(content, path)
    source = Source(os.fspath(path), TITLE, integrity(content.checksummed))
    model = _model(content, source.where)
    said, picture = written(content.attributes.get(VARIANT), source.path, "keras")
    layers = keras_layers.by_number(model.network, source.where)
    layers = {f"{model.home}{layer}": ours for layer, ours in layers.items()}
    tensors = {f"{model.home}{name}": stored for name, stored in model.network.items()} | model.others
    if said is not None:
        return keras_layers.gather(tensors, source, said, layers, picture)
    kinds = _kinds(content, model)
    like, whole, notes = keras_config.told(kinds, source.where, border=_counts_borders(content))
    if model.home:  # its own layers are not listed, those around it are
        whole = kinds == {"global_average_pooling2d": 1, "dense": 1}
    if keras_layers.LOGITS not in layers.values():
        layers, more = _with_classifier(tensors, whole, layers)
        notes += more
    return keras_layers.gather(tensors, dataclasses.replace(source, notes=notes), like, layers, _picture(content))


def _picture(content: hdf5.Content) -> Picture | str:
    """The way that the name of an input layer says, of a file that Keras wrote; its own where none does."""
    layers = (group.removeprefix(_WHOLE) for group in sorted(content.groups))
    said = (pictures.from_input_name(layer, None) for layer in layers if "/" not in layer)
    return next((picture for picture in said if picture), "keras")


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the layout of the published files, with HDF5's own checksums on data and metadata."""
    order = [layer.name for layer in keras_config.describe(weights.variant).by_depth()]
    arrays = keras_layers.scatter(weights)

    def fill(file: Any) -> None:
        file.attrs["layer_names"] = np.array([name.encode() for name in order])
        file.attrs["backend"] = np.bytes_(b"tensorflow")
        file.attrs["keras_version"] = np.bytes_(b"2.2.4")
        file.attrs[VARIANT] = np.bytes_(variant_json(weights).encode())
        for layer in order:
            group, named = file.create_group(layer), {f"{layer}/{w}:0": a for w, a in arrays.get(layer, {}).items()}
            group.attrs["weight_names"] = np.array([name.encode() for name in named], dtype="S" if named else "S1")
            for name, array in named.items():
                hdf5.create_dataset(group, name, array)

    warn_of_rules(weights, KERAS, os.fspath(path), "Keras's own code")
    with replacing(path) as [temporary]:
        temporary.write_bytes(hdf5.image(fill))
        check_same(read(temporary), weights, os.fspath(path))


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
    kernels = {home: sum(map(bool, map(_KERNEL.fullmatch, arrays))) for home, arrays in homes.items()}
    networks = [home for home, count in kernels.items() if count >= keras_layers.CONVOLUTIONS]
    if len(networks) > 1:
        raise keras_graph.two(sorted(home.removesuffix("/") or "the model itself" for home in networks), where)
    if not networks or networks == [""]:
        return _Model("", {name: stored for arrays in homes.values() for name, stored in arrays.items()}, {})
    others = {name: stored for home, arrays in homes.items() if home != networks[0] for name, stored in arrays.items()}
    return _Model(networks[0], homes[networks[0]], others)


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
    if name in ("avg_pool", keras_layers.AUX_POOL):
        return "global_average_pooling2d"
    kind = re.sub(r"_\d+$", "", name)
    return "zero_padding2d" if _BORDER.fullmatch(name) else kind


def _with_classifier(
    tensors: Mapping[str, Stored], whole: bool, layers: dict[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The layers with a Dense of another name as the classifier where nothing else can be, and what to say of it."""
    dense = [name.removesuffix("/kernel") for name in tensors if name.endswith("/kernel")]
    dense = [name for name in dense if _kind(name, tensors) == "dense" and layers.get(name) is None]
    if keras_layers.LOGITS in dense or (whole and len(dense) == 1):
        head = keras_layers.LOGITS if keras_layers.LOGITS in dense else dense[0]
        return layers | {head: keras_layers.LOGITS}, ()
    return layers, (keras_config.no_classifier(dense),) if dense else ()
