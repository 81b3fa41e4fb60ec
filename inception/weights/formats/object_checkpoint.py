"""TensorFlow 2's checkpoints of objects, alone and in a SavedModel: what Keras 2 saves, and what Keras 3 exports.

`model.save_weights("x")`, `tf.train.Checkpoint(...)`, `model.save("folder")`, `model.export("folder")`.
A SavedModel of Keras 2 says in its metadata how layers are linked, which tells them
(`keras_graph`); in all others the names of variables and the order of layers do.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inception.files import inert_json
from inception.files.errors import CorruptFile, UnsupportedFeature
from inception.files.tensor import Stored
from inception.files.tensorflow import object_graph, tensor_bundle
from inception.weights.canonical import Source, Weights
from inception.weights.dialects import keras_graph, keras_layers, keras_objects, keras_order, slim
from inception.weights.dialects.keras_objects import Objects
from inception.weights.formats import keras_archive

TITLE = "TensorFlow checkpoint of objects"
SAVED_MODEL_TITLE = "SavedModel"


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a SavedModel, given as its folder.

    Raises:
        UnsupportedFeature: it has no variables, or no InceptionV3 in them.
        MissingTensor, ShapeMismatch: it has a part of one.
        CorruptFile: it is damaged.
    """
    folder = Path(path)
    prefix = folder / "variables" / "variables"
    if not Path(f"{prefix}.index").is_file():
        raise UnsupportedFeature(
            f"{folder} is a SavedModel without {prefix.relative_to(folder)}.index: its values, if it has any, are "
            "constants of its graph, which is not read; give the weights that it was made of."
        )
    source = Source(os.fspath(folder), SAVED_MODEL_TITLE, "checksum")
    return gather(tensor_bundle.read(prefix), os.fspath(prefix), source, object_graph.metadata(folder))


def is_of_objects(tensors: Mapping[str, Stored]) -> bool:
    """Whether a checkpoint was made of objects, and not of variables by their names."""
    return object_graph.NAME in tensors and all(
        "/.ATTRIBUTES/" in name for name in tensors if name != object_graph.NAME
    )


def gather(
    tensors: Mapping[str, Stored],
    prefix: str,
    source: Source | None = None,
    metadata: Mapping[int, bytes] | None = None,
) -> Weights:
    """The weights in the tensors of a checkpoint. Raises as `read` does.

    Args:
        tensors: what `tensor_bundle.read(prefix)` lists.
        prefix: the checkpoint.
        source: the file, where it is not the checkpoint itself.
        metadata: {number of an object: the JSON that a SavedModel has of it}.
    """
    source = source or Source(prefix, TITLE, "checksum")
    if object_graph.NAME not in tensors:  # a SavedModel of TensorFlow 1
        return slim.gather_trained(tensors, source)
    graph = tensor_bundle.string(prefix, object_graph.NAME, object_graph.LARGEST)
    nodes = object_graph.nodes(graph, f"{prefix}: {object_graph.NAME}")
    by_name = {n.full_name.removesuffix(":0"): tensors[n.key] for n in reversed(nodes) if n.key in tensors}
    if slim.has_network(by_name):
        return slim.gather_trained(by_name, source)
    said = {number: _json(text, source.path) for number, text in (metadata or {}).items()}
    objects = keras_objects.of_graph(nodes, tensors, said, source.path)
    model = said.get(objects.models[0], {}) if len(objects.models) == 1 else {}
    weights = _linked(objects, model, source) if _has_layers(model) else _unlinked(objects, source)
    if left := len(tensors) - 1 - len(objects.tensors):
        note = f"{left} values that are no layer's (of an optimizer, counters, copies) left out"
        source = dataclasses.replace(weights.source, notes=(*weights.source.notes, note))
        weights = dataclasses.replace(weights, source=source)
    return weights


def _has_layers(model: Mapping[str, Any]) -> bool:
    config = model.get("config")
    return isinstance(config, dict) and isinstance(config.get("layers"), list)


def _linked(objects: Objects, model: Mapping[str, Any], source: Source) -> Weights:
    try:
        graph = keras_graph.of_config(model)
    except (LookupError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CorruptFile(f"{source.path}: its metadata describe no model as Keras does; save it again.") from error
    network = keras_graph.network(graph, source.where)
    tensors = {}
    for name, stored in objects.tensors.items():
        place, _, weight = name.rpartition("/")
        path = f"{objects.paths.get(place, place)}/{weight}"
        if path in tensors:
            raise CorruptFile(f"{source.path} has two layers called {path.rpartition('/')[0]}; save it again.")
        tensors[path] = stored
    weights = keras_archive.gather_linked(network, tensors, source, model)
    note = "the rules are from the metadata, which have no checksum as the values have"
    source = dataclasses.replace(weights.source, notes=(*weights.source.notes, note))
    return dataclasses.replace(weights, source=source)


def _unlinked(objects: Objects, source: Source) -> Weights:
    names, like, notes = keras_order.told(objects.groups, source.where, None, objects.called)
    tensors = {}
    for name, stored in objects.tensors.items():
        place, _, weight = name.rpartition("/")
        tensors[f"{names.get(place, place)}/{weight}"] = stored
    layers = {layer: layer for layer in names.values()}
    return keras_layers.gather(tensors, dataclasses.replace(source, notes=notes), like, layers)


def _json(text: bytes, where: str) -> dict[str, Any]:
    """What the metadata say of an object; tuples, which Keras writes as objects of their own, are lists."""
    what = f"{where}: its metadata"
    try:
        return {
            key: _plain(value) for key, value in inert_json.parse(text, object_graph.LARGEST_METADATA, what).items()
        }
    except RecursionError as error:
        raise CorruptFile(f"{what} nest too deep; save it again.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("class_name") == "__tuple__" and isinstance(value.get("items"), list):
            return _plain(value["items"])
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
