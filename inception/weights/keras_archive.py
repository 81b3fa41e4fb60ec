"""Keras 3's files: `.weights.h5`, and `.keras`, a ZIP of the same and two texts in JSON.

Values are at `layers/<class>_<k>/vars/<i>`, k counting the layers of a class as
`model.layers` has them, by depth: `layers/conv2d_92` is not the 93rd convolution that was
made. A `.keras` file names its layers in `config.json`; in a `.weights.h5` the order of the
model that it must have come from tells them apart. The JSON is read as text and nothing
else: no model, and no code, is ever made from it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inception import names
from inception.variants import KERAS, Variant
from inception.weights import hdf5, inert_json, keras_config, keras_hdf5, keras_layers
from inception.weights.archive import Archive
from inception.weights.atomic import replacing
from inception.weights.canonical import (
    VARIANT,
    Source,
    Weights,
    check_same,
    variant_json,
    warn_of_rules,
    written_variant,
)
from inception.weights.errors import CorruptFile, MissingTensor, UnsupportedFeature
from inception.weights.hdf5 import Content
from inception.weights.sstable import RegularFile
from inception.weights.stored import Stored

WEIGHTS_TITLE = "Keras 3 weights"
ARCHIVE_TITLE = "Keras archive"
CONFIG, METADATA, VALUES = "config.json", "metadata.json", "model.weights.h5"
_LONGEST_CONFIG = 16 << 20
_DEEPEST = 8  # models within models
_VARIABLE = re.compile(r"(?P<group>.+)/vars/(?P<index>\d+)")
_CONV = re.compile(r"(?P<base>.*/)conv2d(_\d+)?/vars/0")
_UNIT = re.compile(r"(conv2d|batch_normalization)(_\d+)?")
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
    """The weights in a `.keras`, `.weights.h5` or legacy HDF5 file; its content tells which one it is.

    Raises `UnsupportedFeature` when it holds no InceptionV3, `MissingTensor` or
    `ShapeMismatch` when it holds part of one or more than one, `CorruptFile` when it is
    damaged. Layers around the network become `Weights.extra`.
    """
    if b"".join(RegularFile(path).pieces(0, 2)) == b"PK":
        return _read_archive(path)
    content = hdf5.read(path)
    if not any(_VARIABLE.fullmatch(name) for name in content.tensors):
        return keras_hdf5.gather(content, path)
    source = Source(os.fspath(path), WEIGHTS_TITLE, "checksum" if content.checksummed else "structure")
    return _gather(content, source, None)


def _read_archive(path: str | os.PathLike[str]) -> Weights:
    archive = Archive(path)
    if lacking := [name for name in (METADATA, CONFIG, VALUES) if name not in archive.members]:
        raise UnsupportedFeature(f"{archive.name} is a ZIP file without {', '.join(lacking)}; expected a .keras file.")
    inert_json.parse(archive.octets(METADATA).tobytes(), _LONGEST_CONFIG, f"{archive.name}: {METADATA}")
    model = inert_json.parse(archive.octets(CONFIG).tobytes(), _LONGEST_CONFIG, f"{archive.name}: {CONFIG}")
    content = hdf5.read_pieces(archive.chunks(VALUES), f"{archive.name}: {VALUES}")
    source = Source(os.fspath(path), ARCHIVE_TITLE, "checksum" if archive.checksummed else "structure")
    try:
        layers = dict(_layer_names(model, ""))
    except (KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(f"{archive.name}: {CONFIG} describes no model as Keras does; save it again.") from error
    return _gather(content, source, layers)


def _layer_names(model: Mapping[str, Any], base: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """(group, name) of every layer of a model and of the models in it."""
    layers = model["config"].get("layers", [])
    if depth > _DEEPEST:
        raise TypeError("models nested too deep")
    kinds = [_snake_case(layer["class_name"]) for layer in layers]
    for group, layer in zip(keras_config.groups(kinds), layers, strict=True):
        yield f"{base}layers/{group}", str(layer["config"].get("name", layer.get("name")))
        if isinstance(layer["config"].get("layers"), list):
            yield from _layer_names(layer, f"{base}layers/{group}/", depth + 1)


def _snake_case(kind: str) -> str:
    """MaxPooling2D -> max_pooling2d, by Keras's own rule."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


# ---- from Keras's groups to layers


def _gather(content: Content, source: Source, layer_names: Mapping[str, str] | None) -> Weights:
    where = f"{source.path} ({source.format})"
    found = Counter(match["base"] for match in map(_CONV.fullmatch, content.tensors) if match)
    base = max(found, key=lambda each: found[each], default="layers/")  # of models within models, the one like ours
    if layer_names is None:
        layer_names = _names_by_depth(content, base, where)
    ours = {group: name for group, name in layer_names.items() if group.startswith(base) and _UNIT.fullmatch(name)}
    if empty := [name for group, name in ours.items() if f"{group}/vars/0" not in content.tensors]:
        raise MissingTensor(f"{where} has no values for {', '.join(empty[:6])}; save it again.")
    tensors: dict[str, Stored] = {}
    for path, stored in content.tensors.items():
        if "/seed_generator/" in path:  # state of a dropout layer
            continue
        name = _named(path, base, content, layer_names, where)
        if name in tensors:
            raise CorruptFile(f"{where} has two layers called {name.split('/')[0]}; save it again.")
        tensors[name] = stored
    said = content.attributes.get(VARIANT)
    like = _rules(content, base) if said is None else written_variant(said, where)
    return keras_layers.gather(tensors, source, like)


def _named(path: str, base: str, content: Content, layer_names: Mapping[str, str], where: str) -> str:
    """`layers/conv2d_92/vars/0` -> `conv2d_85/kernel`; what is not the base's own keeps its path."""
    variable = _VARIABLE.fullmatch(path)
    if not variable or not path.startswith(base) or "/" in variable["group"][len(base) :]:
        return path
    kind = re.sub(r"_\d+$", "", variable["group"][len(base) :])
    count = sum(f"{variable['group']}/vars/{i}" in content.tensors for i in range(8))
    weights = _WEIGHTS.get(kind, {}).get(count, ())
    name = layer_names.get(variable["group"], "")
    if not weights and _UNIT.fullmatch(name):
        # Left aside as an extra, a bias would be missing from the numbers.
        raise UnsupportedFeature(f"{where}: {name} has {count} arrays; InceptionV3's convolutions have no bias.")
    if not name or int(variable["index"]) >= len(weights):
        return path
    return f"{name}/{weights[int(variable['index'])]}"


def _names_by_depth(content: Content, base: str, where: str) -> dict[str, str]:
    """{group: layer name} by the model's order; Dense layers that are more than the classifiers stay without names."""
    groups = {path[len(base) :].split("/")[0] for path in (*content.groups, *content.tensors) if path.startswith(base)}
    count = Counter(re.sub(r"_\d+$", "", group) for group in groups)
    aux = count["conv2d"] > 94
    model = keras_config.describe(Variant(num_classes=1, aux_logits=aux), count["dropout"])
    weighted = [layer for layer in model.by_depth() if layer.kind in keras_config.WEIGHTED]
    expected = Counter(_snake_case(layer.kind) for layer in weighted)
    if any(count[kind] != expected[kind] for kind in ("conv2d", "batch_normalization")):
        has, wants = (f"{each['conv2d']} and {each['batch_normalization']}" for each in (count, expected))
        raise UnsupportedFeature(
            f"{where} has {has} convolutions and batch norms, expected {wants}. Such files do not name their layers, "
            "so which are InceptionV3's cannot be told; save the model as .keras, or the InceptionV3 in it alone."
        )
    ours = [layer for layer in weighted if layer.kind != "Dense" or count["dense"] == expected["dense"]]
    found = keras_config.groups(_snake_case(layer.kind) for layer in ours)
    return {f"{base}{group}": layer.name for group, layer in zip(found, ours, strict=True)}


def _rules(content: Content, base: str) -> Variant:
    """What the layers without weights tell: a border before average pools, a maximum pool in Mixed_7c."""
    groups = [re.sub(r"_\d+$", "", path[len(base) :]) for path in content.groups if path.startswith(base)]
    return dataclasses.replace(
        KERAS,
        border="include" if "zero_padding2d" in groups else "exclude",
        last_pool="max" if groups.count("max_pooling2d") > 4 else "avg",
    )


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
            _pack(temporary, values, keras_config.config(weights.variant))
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
    layers = keras_config.describe(weights.variant).by_depth()
    of_layer: dict[str, dict[str, np.ndarray]] = {}
    for canonical, (layer, weight) in names.keras_variables(weights.variant).items():
        array = keras_layers.layout(layer, weight).to_file(weights.arrays[canonical])
        of_layer.setdefault(layer, {})[weight] = array
    group_names = keras_config.groups(_snake_case(layer.kind) for layer in layers)
    file.attrs[VARIANT] = np.bytes_(variant_json(weights.variant).encode())
    _group(file, "vars", "inception_v3")
    for group, made in zip(group_names, layers, strict=True):
        variables = _group(file, f"layers/{group}/vars", made.name)
        arrays = of_layer.get(made.name, {})
        for i, weight in enumerate(_WEIGHTS.get(_snake_case(made.kind), {}).get(len(arrays), ())):
            hdf5.create_dataset(variables, str(i), arrays[weight])


def _group(file: Any, path: str, name: str) -> Any:
    group = file.create_group(path)
    group.attrs["name"] = np.bytes_(name.encode())
    return group
