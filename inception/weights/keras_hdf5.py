"""Keras's legacy HDF5 weight files: `<layer>/<layer>/<weight>:0`, top or notop, any numbering.

Layers are matched by the order they were made in, which their numbers tell whatever they
start at; the file's own `layer_names` follow the depth of the graph and are not needed to
read. Files of `model.save("x.h5")` hold the same under `model_weights`.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from inception import names
from inception.variants import KERAS
from inception.weights import hdf5, keras_layers
from inception.weights.atomic import replacing
from inception.weights.canonical import (
    VARIANT,
    Integrity,
    Source,
    Weights,
    check_same,
    variant_json,
    warn_of_rules,
    written_picture,
    written_variant,
)

FORMAT = "keras-h5"
TITLE = "Keras HDF5 (legacy)"


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a legacy Keras HDF5 file.

    Raises `UnsupportedFeature` when it holds no InceptionV3, `MissingTensor` or
    `ShapeMismatch` when it holds part of one, `CorruptFile` when it is damaged.
    """
    return gather(hdf5.read(path), path)


def gather(content: hdf5.Content, path: str | os.PathLike[str]) -> Weights:
    """The weights in what a legacy file holds; `path` is its name. Raises as `read` does."""
    tensors = {_plain(name): stored for name, stored in content.tensors.items() if not name.startswith("optimizer_")}
    said = content.attributes.get(VARIANT)
    like = KERAS if said is None else written_variant(said, os.fspath(path))
    integrity: Integrity = "checksum" if content.checksummed else "structure"
    picture = written_picture(said, os.fspath(path), "keras")
    return keras_layers.gather(tensors, Source(os.fspath(path), TITLE, integrity), like, picture)


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the layout of the published files, with HDF5's own checksums on data and metadata."""
    variant = weights.variant
    places = names.keras_variables(variant)
    of_layer: dict[str, list[tuple[str, np.ndarray]]] = {}
    for canonical, (layer, weight) in places.items():
        array = weights.arrays[canonical]
        of_layer.setdefault(layer, []).append((weight, keras_layers.layout(layer, weight).to_file(array)))
    order = names.keras_model_order(variant)

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


def _plain(dataset: str) -> str:
    """`model_weights/conv2d_1/conv2d_1/kernel:0` -> `conv2d_1/kernel`."""
    parts = dataset.split("/")
    return "/".join(parts[-2:]).removesuffix(":0")
