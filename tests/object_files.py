"""Checkpoints of objects, written without TensorFlow: as it writes them, or as an attacker would."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inception.files.tensorflow import object_graph, wire
from inception.files.tensorflow.sstable import masked_crc, write_table
from inception.weights import Weights
from inception.weights.dialects import keras_config, keras_layers

HEADER = wire.encode_integer(1, 1) + wire.encode_data(3, wire.encode_integer(1, 1))


class Object(NamedTuple):
    """children: {name: number}; full_name and key: of a variable, else empty."""

    children: Mapping[str, int] = {}
    full_name: str = ""
    key: str = ""


def graph(objects: Iterable[Object]) -> bytes:
    """A TrackableObjectGraph."""
    return b"".join(wire.encode_data(1, _object(each)) for each in objects)


def _object(each: Object) -> bytes:
    children = (wire.encode_data(1, wire.encode_integer(1, number), wire.encode_data(2, name.encode()))
                for name, number in each.children.items())  # fmt: skip
    texts = enumerate(("VARIABLE_VALUE", each.full_name, each.key), 1)
    value = wire.encode_data(2, *(wire.encode_data(i, text.encode()) for i, text in texts)) if each.key else b""
    return b"".join(children) + value


def write(prefix: Path, arrays: Mapping[str, np.ndarray], text: bytes) -> None:
    """A checkpoint of arrays by their keys, and of the text of a graph."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    length = len(text).to_bytes(4, "little")
    check = masked_crc(length).to_bytes(4, "little")
    string = wire.encode_varint(len(text)) + check + text
    entries, content = [(b"", HEADER)], b""
    values = {name: (1, array.shape, array.tobytes(), array.tobytes()) for name, array in arrays.items()}
    values[object_graph.NAME] = (7, (), string, length + check + text)
    for name in sorted(values, key=str.encode):
        kind, shape, data, checked = values[name]
        entry = (wire.encode_integer(1, kind), wire.encode_data(2, wire.encode_shape(shape)),
                 wire.encode_integer(4, len(content)), wire.encode_integer(5, len(data)),
                 wire.encode_fixed32(6, masked_crc(checked)))  # fmt: skip
        entries.append((name.encode(), b"".join(entry)))
        content += data
    with open(f"{prefix}.index", "wb") as file:
        write_table(file, entries)
    Path(f"{prefix}.data-00000-of-00001").write_bytes(content)


def model_of(weights: Weights) -> tuple[list[Object], dict[str, np.ndarray]]:
    """The graph of Keras 2's model of weights, and the arrays by their keys."""
    of_layer = keras_layers.scatter(weights)
    layers = keras_config.describe(weights.variant).by_depth()
    objects: list[Object] = [Object({f"layer-{i}": 1 + i for i in range(len(layers))})]
    variables: list[Object] = []
    arrays = {}
    for i, layer in enumerate(layers):
        children = {}
        for weight, array in of_layer.get(layer.name, {}).items():
            children[weight] = 1 + len(layers) + len(variables)
            key = f"layer-{i}/{weight}/.ATTRIBUTES/VARIABLE_VALUE"
            variables.append(Object({}, f"{layer.name}/{weight}", key))
            arrays[key] = array
        objects.append(Object(children))
    return objects + variables, arrays


def write_model(weights: Weights, prefix: Path) -> None:
    """What Keras 2's `save_weights(prefix)` writes."""
    objects, arrays = model_of(weights)
    write(prefix, arrays, graph(objects))


def renamed(objects: Sequence[Object], name: str) -> list[Object]:
    """The same graph, all of whose variables have names that number nothing."""
    return [each._replace(full_name=f"{name}/w") if each.key else each for each in objects]
