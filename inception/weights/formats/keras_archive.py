"""Keras 3's files: `.weights.h5`, and `.keras`, a ZIP of the same and two texts in JSON.

Values are at `layers/<class>_<k>/vars/<i>`, k counting the layers of a class as
`model.layers` has them, by depth: `layers/conv2d_92` is not the 93rd convolution that was
made. A `.keras` file says in `config.json` how its layers are linked, which tells them
(`keras_graph`); in a `.weights.h5` the order of the model that it must have come from tells
them apart. The JSON is read as text and nothing else: no model, and no code, is ever made
from it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception import pictures
from inception.files import hdf5, inert_json
from inception.files.archive import Archive
from inception.files.atomic import replacing
from inception.files.errors import CorruptFile, MissingTensor, UnsupportedFeature
from inception.files.hdf5 import Content
from inception.files.regular import RegularFile
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
from inception.weights.dialects import keras_config, keras_graph, keras_layers, keras_order

WEIGHTS_TITLE = "Keras 3 weights"
ARCHIVE_TITLE = "Keras archive"
CONFIG, METADATA, VALUES = "config.json", "metadata.json", "model.weights.h5"
_LONGEST_CONFIG = 16 << 20
VARIABLE = re.compile(r"(?P<group>.+)/vars/(?P<index>\d+)")
# Keras's order of a layer's variables: what can be trained first. Keyed by how many there are.
_WEIGHTS: dict[str, dict[int, tuple[str, ...]]] = {
    "conv2d": {1: ("kernel",)},
    "batch_normalization": {
        3: ("beta", "moving_mean", "moving_variance"),
        4: ("gamma", "beta", "moving_mean", "moving_variance"),
    },
    "dense": {2: ("kernel", "bias")},
}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the date that Keras gives members


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a `.keras` or `.weights.h5` file; its content tells which one it is.

    Raises:
        UnsupportedFeature: When it holds no InceptionV3.
        MissingTensor, ShapeMismatch: When it holds part of one or more than one.
        CorruptFile: When it is damaged. Layers around the network become `Weights.extra`.
    """
    if RegularFile(path).octets(0, 2).tobytes() == b"PK":
        return _read_archive(path)
    return gather_values(hdf5.read(path, attributes=(VARIANT,)), path)


def _read_archive(path: str | os.PathLike[str]) -> Weights:
    archive = Archive(path)
    if lacking := [name for name in (METADATA, CONFIG, VALUES) if name not in archive.members]:
        raise UnsupportedFeature(f"{archive.name} is a ZIP file without {', '.join(lacking)}; expected a .keras file.")
    inert_json.parse(archive.octets(METADATA).tobytes(), _LONGEST_CONFIG, f"{archive.name}: {METADATA}")
    model = inert_json.parse(archive.octets(CONFIG).tobytes(), _LONGEST_CONFIG, f"{archive.name}: {CONFIG}")
    content = hdf5.read_pieces(archive.chunks(VALUES), f"{archive.name}: {VALUES}", (VARIANT,))
    source = Source(os.fspath(path), ARCHIVE_TITLE, integrity(archive.checksummed))
    try:
        graph, paths = keras_graph.of_config(model), {group: path for group, path, _ in _layers(model)}
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CorruptFile(f"{archive.name}: {CONFIG} describes no model as Keras does; save it again.") from error
    if "layers" not in model["config"]:  # of a model that is a class
        return gather_values(content, path, source)
    where = source.where
    network = keras_graph.network(graph, where)
    layers = network.layers if network else {}
    if empty := [path for group, path in paths.items() if path in layers and f"{group}/vars/0" not in content.tensors]:
        raise MissingTensor(f"{where} has no values for {', '.join(empty[:6])}; save it again.")
    tensors = _by_layer(content, paths, set(layers), where)
    return gather_linked(network, tensors, source, model, content.attributes.get(VARIANT))


def gather_linked(
    network: keras_graph.Network | None,
    tensors: Mapping[str, Stored],
    source: Source,
    model: Mapping[str, Any],
    text: str | None = None,
) -> Weights:
    """The weights in the layers of a model whose configuration says how they are linked.

    Args:
        network: what `keras_graph.network` says of the configuration.
        tensors: {path of the layer in the configuration, with the weight's name: array}.
        source: the file.
        model: the configuration.
        text: what `variant_json` wrote into the file, if it did.
    """
    if network is None:
        keras_layers.gather(tensors, source)  # says what is missing, if anything is
        raise keras_graph.no_links(source.where)
    said, picture = written(text, source.where)
    like = network.like if said is None else network.ruling(said)
    if isinstance(picture, str):
        picture = _picture(model)
    source = dataclasses.replace(source, notes=network.notes)
    return keras_layers.gather(tensors, source, like, network.layers, picture)


def _picture(model: Mapping[str, Any]) -> Picture:
    """What the inputs of a model, then of the models in it, say: the first one's shape the size, a name the way."""
    layers = sorted(_layers(model), key=lambda each: each[1].count("/"))
    inputs = [layer for _, _, layer in layers if layer["class_name"] == "InputLayer"]
    configs = [layer["config"] for layer in inputs]  # Keras 2 calls the shape batch_input_shape
    shapes = [config.get("batch_shape", config.get("batch_input_shape")) for config in configs]
    shapes = [shape for shape in shapes if isinstance(shape, list) and len(shape) == 4]
    size = None
    if shapes and inert_json.is_shape(sides := shapes[0][1:3]) and all(sides):
        size = sides[0] if sides[0] == sides[1] else tuple(sides)
    said = (pictures.from_input_name(keras_graph.layer_name(layer), size) for layer in inputs)
    return next((picture for picture in said if picture), pictures.KERAS.at(size))


def _layers(model: Mapping[str, Any], base: str = "", prefix: str = "") -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(group, path in the graph, layer) of every layer of a model and of the models in it."""
    layers = model["config"].get("layers", [])
    kinds = [keras_config.snake_case(layer["class_name"]) for layer in layers]
    for group, layer in zip(keras_config.groups(kinds), layers, strict=True):
        group, path = f"{base}layers/{group}", f"{prefix}{keras_graph.layer_name(layer)}"
        yield group, path, layer
        if keras_graph.is_model(layer):
            yield from _layers(layer, f"{group}/", f"{path}/")


def _by_layer(content: Content, layers: Mapping[str, str], ours: Collection[str], where: str) -> dict[str, Stored]:
    """{"conv2d_85/kernel": array} from `layers/conv2d_92/vars/0`; what has no such name keeps its path.

    Args:
        layers: {group: layer}.
        ours: the layers that are InceptionV3's.
    """
    tensors: dict[str, Stored] = {}
    for path, stored in content.tensors.items():
        if "/seed_generator/" in path:  # state of a dropout layer
            continue
        name = _named(path, content, layers, ours, where)
        if name in tensors:
            raise CorruptFile(f"{where} has two layers called {name.rpartition('/')[0]}; save it again.")
        tensors[name] = stored
    return tensors


def _named(path: str, content: Content, layers: Mapping[str, str], ours: Collection[str], where: str) -> str:
    variable = VARIABLE.fullmatch(path)
    layer = layers.get(variable["group"]) if variable else None
    if not variable or layer is None:
        return path
    count = sum(f"{variable['group']}/vars/{i}" in content.tensors for i in range(8))
    weights = _WEIGHTS.get(keras_order.kind(variable["group"]), {}).get(count, ())
    if not weights and layer in ours:
        # Left aside as an extra, a bias would be missing from the numbers.
        raise UnsupportedFeature(f"{where}: {layer} has {count} arrays; InceptionV3's convolutions have no bias.")
    index = int(variable["index"])
    return f"{layer}/{weights[index]}" if index < len(weights) else path


# ---- a `.weights.h5`, which neither names layers nor says how they are linked


def gather_values(content: Content, path: str | os.PathLike[str], source: Source | None = None) -> Weights:
    """The weights in what a `.weights.h5` holds; `path` is its name. Raises as `read` does."""
    source = source or Source(os.fspath(path), WEIGHTS_TITLE, integrity(content.checksummed))
    said, picture = written(content.attributes.get(VARIANT), source.where, "keras")
    names, like, notes = keras_order.told(content.groups, source.where, said)
    ours = set(names.values())
    tensors = _by_layer(content, names, ours, source.where)
    source = dataclasses.replace(source, notes=notes)
    return keras_layers.gather(tensors, source, like, {layer: layer for layer in ours}, picture)


# ---- writing


def write(path: str | os.PathLike[str], weights: Weights, *, model: bool = True) -> None:
    """Writes a `.keras` archive, or (`model=False`) a `.weights.h5`, with checksums on all data and metadata.

    `keras.saving.load_model` (Keras 3.4 and later) makes the first into the model, without
    this package; the second is for `load_weights` of a model that is there.
    """
    values = hdf5.image(functools.partial(_fill, weights))
    if not model:
        warn_of_rules(weights, KERAS, os.fspath(path), "Keras's own code")
    with replacing(path) as [temporary]:
        if model:  # whose layers say all rules but the pixels
            _pack(temporary, values, keras_config.config(weights.variant, weights.picture))
        else:
            temporary.write_bytes(values)
        check_same(read(temporary), weights, os.fspath(path))


def _pack(path: Path, values: memoryview, config: dict[str, Any]) -> None:
    metadata = {"keras_version": "3.0.0", "date_saved": "1980-01-01@00:00:00"}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(METADATA, _EPOCH), json.dumps(metadata))
        archive.writestr(zipfile.ZipInfo(CONFIG, _EPOCH), json.dumps(config))
        with archive.open(zipfile.ZipInfo(VALUES, _EPOCH), "w") as member:
            member.write(values)


def _fill(weights: Weights, file: Any) -> None:
    layers = keras_config.describe(weights.variant, picture=weights.picture).by_depth()
    of_layer = keras_layers.scatter(weights)
    group_names = keras_config.groups(keras_config.snake_case(layer.kind) for layer in layers)
    file.attrs[VARIANT] = np.bytes_(variant_json(weights).encode())
    _group(file, "vars", "inception_v3")
    for group, made in zip(group_names, layers, strict=True):
        variables = _group(file, f"layers/{group}/vars", made.name)
        arrays = of_layer.get(made.name, {})
        for i, weight in enumerate(_WEIGHTS.get(keras_config.snake_case(made.kind), {}).get(len(arrays), ())):
            hdf5.create_dataset(variables, str(i), arrays[weight])


def _group(file: Any, path: str, name: str) -> Any:
    group = file.create_group(path)
    group.attrs["name"] = np.bytes_(name.encode())
    return group
