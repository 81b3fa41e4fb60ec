"""A Keras model as a graph of layers, out of its configuration, and the InceptionV3 in it, by its links.

A configuration is what `config.json` of a `.keras` file holds and what a model's `get_config`
returns, of Keras 2 and 3. Models within models become one graph. A network is found by going
back from a concatenation, side by side with our own layers: names and numbers mean nothing,
and layers of the user's own, before, behind or beside it, are never taken for the network's.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inception import pictures
from inception.architecture import EPSILON, Border
from inception.files.errors import UnsupportedFeature
from inception.variants import KERAS, Variant, written_epsilon
from inception.weights.dialects import keras_config, keras_layers
from inception.weights.dialects.keras_config import Layer

Graph = Mapping[str, Layer]  # by path: "inception_v3/conv2d_1", or "conv2d_1" where nothing is nested

_DEEPEST = 8  # models within models
_MOST_LAYERS = 10_000
_MOST_SILENT = 100  # in a row
_LAST = "mixed10"
_RULES = ("border", "last_pool", "epsilon")
# They compute nothing at inference.
_SILENT = {"Dropout", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization", "Identity"}
_BEHIND_A_CLASSIFIER = _SILENT | {"Activation", "Softmax", "Flatten", "Reshape"}
_EITHER_POOL = ("AveragePooling2D", "MaxPooling2D")
_KINDS = {"Activation": ("Activation", "ReLU")}  # what else may stand where ours has the first


@dataclass(frozen=True)
class Network:
    """An InceptionV3 in a graph.

    Attributes:
        name: the model that holds it, or its last layer.
        layers: {path: our name of the layer}.
        like: the rules.
        before: the paths of the layers that its input has passed.
        notes: what else there is to say.
    """

    name: str
    layers: Mapping[str, str]
    like: Variant
    before: tuple[str, ...]
    notes: tuple[str, ...]

    def ruling(self, variant: Variant) -> Variant:
        """A variant under the rules that the layers have."""
        return dataclasses.replace(variant, **{field: getattr(self.like, field) for field in _RULES})


# ---- from a configuration to a graph


def of_config(model: Mapping[str, Any]) -> Graph:
    """The layers of a model and of the models in it. KeyError, TypeError or AttributeError for no configuration."""
    graph: dict[str, Layer] = {}
    _add(graph, model, "", 0)
    return graph


def _add(graph: dict[str, Layer], model: Mapping[str, Any], base: str, depth: int) -> tuple[list[str], list[str]]:
    """Adds a model's layers to the graph; the paths of those that take its inputs, and that give its outputs."""
    if depth > _DEEPEST:
        raise TypeError("models nested too deep")
    described = model["config"].get("layers", [])
    if len(graph) + len(described) > _MOST_LAYERS:
        raise TypeError("too many layers")
    layers = {layer_name(layer): layer for layer in described}
    if len(layers) < len(described):
        raise TypeError("two layers of one name")
    starts, ends = {}, {}
    for name, layer in layers.items():
        path = base + name
        if is_model(layer):
            starts[name], ends[name] = _add(graph, layer, f"{path}/", depth + 1)
        else:
            graph[path] = Layer(name, layer["class_name"], (), layer["config"])
            starts[name], ends[name] = [path], [path]
    for name, read in _links(model, layers).items():
        tensors = [ends[source][min(index, len(ends[source]) - 1)] for source, index in read]
        if is_model(layers[name]):
            fed = zip(starts[name], ([tensor] for tensor in tensors), strict=False)
        else:
            fed = zip(starts[name], [tensors], strict=True)
        for path, sources in fed:
            graph[path] = dataclasses.replace(graph[path], inputs=tuple(sources))
    config = model["config"]
    if "input_layers" not in config:  # a Sequential
        order = list(layers)
        return (starts[order[0]], ends[order[-1]]) if order else ([], [])
    takes = [path for name, _ in _references(config["input_layers"]) for path in starts[name]]
    return takes, [ends[name][min(index, len(ends[name]) - 1)] for name, index in _references(config["output_layers"])]


def layer_name(layer: Mapping[str, Any]) -> str:
    """A layer's name in a configuration; TypeError for one with two."""
    name = layer["config"].get("name", layer.get("name"))
    if not isinstance(name, str) or layer.get("name", name) != name or not isinstance(layer["class_name"], str):
        raise TypeError("a layer of no name, or of two")
    return name


def is_model(layer: Mapping[str, Any]) -> bool:
    """Whether a layer of a configuration is a model itself."""
    return isinstance(layer["config"].get("layers"), list)


def _links(model: Mapping[str, Any], layers: Mapping[str, Any]) -> dict[str, list[tuple[str, int]]]:
    """{layer: the (layer, output) pairs that it reads}; a layer that is called twice reads nothing that is known."""
    if "input_layers" not in model["config"]:  # a Sequential
        order = list(layers)
        return {below: [(above, 0)] for above, below in itertools.pairwise(order)}
    calls = {name: layer.get("inbound_nodes", []) for name, layer in layers.items()}
    return {name: list(_references(nodes[0])) for name, nodes in calls.items() if len(nodes) == 1}


def _references(value: Any) -> Iterator[tuple[str, int]]:
    """(layer, output) of all tensors named somewhere in a value: ["conv2d_1", 0, 0], or Keras 3's `keras_history`."""
    if isinstance(value, Mapping):
        history = value.get("config", {}) if value.get("class_name") == "__keras_tensor__" else value
        for key in ["keras_history"] if "keras_history" in history else sorted(history):
            yield from _references(history[key])
    elif isinstance(value, list | tuple):
        if len(value) >= 3 and isinstance(value[0], str) and type(value[1]) is type(value[2]) is int and value[2] >= 0:
            yield value[0], value[2]
        else:
            for each in value:
                yield from _references(each)


# ---- the network in it


def network(graph: Graph, where: str) -> Network | None:
    """The one InceptionV3 in a graph, or None. `UnsupportedFeature` for two, and for one that computes otherwise."""
    found = [places for path, layer in graph.items() if layer.kind == "Concatenate" if (places := _places(graph, path))]
    if len(found) > 1:
        raise two([_name(places) for places in found], where)
    return _described(graph, found[0], where) if found else None


def two(networks: list[str], where: str) -> UnsupportedFeature:
    """The refusal of more than one network."""
    return UnsupportedFeature(
        f"{where} holds {len(networks)} InceptionV3 ({' and '.join(networks)}); "
        "save each by itself, or give one of them."
    )


def no_links(where: str) -> UnsupportedFeature:
    """The refusal of layers that would do, but for how they are linked."""
    return UnsupportedFeature(
        f"{where} has as many convolutions as an InceptionV3, but they are not linked as its are: "
        "it is another network, or one of its layers is called twice."
    )


@functools.cache
def _ours() -> Mapping[str, Layer]:
    return keras_config.describe(dataclasses.replace(KERAS, aux_logits=True)).layers


@functools.cache
def _last_pool() -> str:
    """Our name of the pool in the last branch of Mixed_7c, three layers before the branch's end."""
    name = _ours()[_LAST].inputs[-1]
    for _ in range(3):
        name = _ours()[name].inputs[0]
    return name


def _places(graph: Graph, last: str, ours: str = _LAST) -> dict[str, str] | None:
    """{our layer: path} of everything that `ours` depends on, if `last` is made like it."""
    places: dict[str, str] = {}
    todo = [(ours, last)]
    while todo:
        name, path = todo.pop()
        path = _heard(graph, path)
        if name in places:
            if places[name] != path:
                return None
            continue
        places[name] = path
        layer, wanted = graph[path], _ours()[name]
        if wanted.kind == "InputLayer":
            continue
        kinds = _EITHER_POOL if name == _last_pool() else _KINDS.get(wanted.kind, (wanted.kind,))
        sources = layer.inputs
        if border := _border(graph, wanted, layer):
            places[keras_config.border_of(name)] = border
            sources = graph[border].inputs
        if layer.kind not in kinds or len(sources) != len(wanted.inputs):
            return None
        todo.extend(zip(wanted.inputs, sources, strict=True))
    return places


def _heard(graph: Graph, path: str) -> str:
    """The layer whose values those of `path` are: back over dropout, and over the inputs of models within models."""
    for _ in range(_MOST_SILENT):  # a damaged file may have a ring of them
        if not graph[path].inputs or graph[path].kind not in {"InputLayer", *_SILENT}:
            break
        path = graph[path].inputs[0]
    return path


def _border(graph: Graph, wanted: Layer, layer: Layer) -> str | None:
    """The zero padding that makes a pool count its border, where ours is of padding SAME and theirs is not."""
    if wanted.arguments.get("padding") != "same" or layer.arguments.get("padding") != "valid":
        return None
    path = _heard(graph, layer.inputs[0]) if wanted.kind == "AveragePooling2D" and layer.inputs else ""
    return path if path and graph[path].kind == "ZeroPadding2D" else None


def _name(places: Mapping[str, str]) -> str:
    path = places[_LAST]
    return path.rpartition("/")[0] or path


def _described(graph: Graph, places: dict[str, str], where: str) -> Network:
    notes: list[str] = []
    aux = [found for path in graph if (found := _aux(graph, path, places))]
    if len(aux) == 1:
        places |= aux[0]
    if head := classifier(graph, places[_LAST]):
        places[keras_layers.LOGITS] = head
        if (activation := _activation(graph[head])) not in ("softmax", "linear"):
            notes.append(f"the classifier's activation is {activation}; Predictions are the softmax of its logits")
    before = tuple(_upstream(graph, places[pictures.INPUT]))
    if before:
        notes.append(f"the model has layers of its own before the network: {', '.join(before[:4])}")
    like = _rules(graph, places, where)
    for name, path in places.items():
        _check(name, graph[path], path, where, after_padding=keras_config.border_of(name) in places)
    weighted = {path: name for name, path in places.items() if _ours_kind(name) in keras_config.WEIGHTED}
    return Network(_name(places), weighted, like, before, tuple(notes))


def _ours_kind(name: str) -> str:
    return _ours()[name].kind if name in _ours() else "ZeroPadding2D"


def _readers(graph: Graph) -> Mapping[str, list[str]]:
    """{path: the layers that read it}."""
    readers: dict[str, list[str]] = defaultdict(list)
    for path, layer in graph.items():
        for source in layer.inputs:
            readers[source].append(path)
    return readers


def _aux(graph: Graph, path: str, base: Mapping[str, str]) -> dict[str, str] | None:
    """The auxiliary head that ends in the layer `path`, if it starts in the network."""
    if graph[path].kind != "Dense" or not (places := _places(graph, path, keras_layers.AUX_LOGITS)):
        return None
    return places if all(places[name] == base[name] for name in places.keys() & base.keys()) else None


def classifier(graph: Graph, last: str) -> str | None:
    """The one Dense on the global average of the last maps with nothing to learn behind it; of more, ours by name."""
    readers = _readers(graph)
    pools = [path for path in _direct(graph, readers, last) if graph[path].kind == "GlobalAveragePooling2D"]
    dense = [
        path
        for pool in pools
        for path in _direct(graph, readers, pool)
        if graph[path].kind == "Dense" and graph[path].arguments.get("use_bias", True)
        if all(graph[below].kind in _BEHIND_A_CLASSIFIER for below in _downstream(readers, path))
    ]
    if len(dense) > 1:
        dense = [path for path in dense if graph[path].name == keras_layers.LOGITS]
    return dense[0] if len(dense) == 1 else None


def _direct(graph: Graph, readers: Mapping[str, list[str]], path: str) -> list[str]:
    """What reads a layer's values as they are."""
    passed = {"InputLayer", *_SILENT}
    met = _closure(readers.get(path, ()), lambda below: readers.get(below, ()) if graph[below].kind in passed else ())
    return [below for below in met if graph[below].kind not in passed]


def _downstream(readers: Mapping[str, list[str]], path: str) -> set[str]:
    return _closure(readers.get(path, ()), lambda below: readers.get(below, ()))


def _upstream(graph: Graph, path: str) -> list[str]:
    """The layers, inputs and dropout aside, that a layer and those before it are."""
    met = _closure([path], lambda above: graph[above].inputs)
    return [each for each in graph if each in met and graph[each].kind not in {"InputLayer", *_SILENT}]


def _closure(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    met: set[str] = set()
    todo = list(start)
    while todo:
        if (path := todo.pop()) not in met:
            met.add(path)
            todo.extend(following(path))
    return met


# ---- what its layers say


def _rules(graph: Graph, places: Mapping[str, str], where: str) -> Variant:
    norms = {path: graph[path].arguments for name, path in places.items() if _ours_kind(name) == "BatchNormalization"}
    if uncentered := [path for path, arguments in norms.items() if not arguments.get("center", True)]:
        raise UnsupportedFeature(f"{where}: {uncentered[0]} has center=False; InceptionV3's batch norms have a beta.")
    epsilons = {path: arguments.get("epsilon", EPSILON) for path, arguments in norms.items()}
    if strange := [path for path, value in epsilons.items() if type(value) not in (int, float) or not 0 <= value < 1e9]:
        raise UnsupportedFeature(f"{where}: {strange[0]} has an epsilon that is no number of at least 0.")
    epsilon = _one({path: written_epsilon(value) for path, value in epsilons.items()}, "epsilon", where)
    gamma = _one({path: bool(each.get("scale", True)) for path, each in norms.items()}, "scale", where)
    pools = [name for name in places if _ours_kind(name) == "AveragePooling2D" and _is_same(name)]
    counted = {places[name]: keras_config.border_of(name) in places for name in pools}
    last_pool: Literal["avg", "max"] = "max" if graph[places[_last_pool()]].kind == "MaxPooling2D" else "avg"
    if last_pool == "max":
        counted.pop(places[_last_pool()])
    border: Border = "include" if _one(counted, "a zero padding before it", where) else "exclude"
    return dataclasses.replace(KERAS, border=border, last_pool=last_pool, epsilon=epsilon, gamma=gamma)


def _is_same(name: str) -> bool:
    return _ours()[name].arguments.get("padding") == "same"


def _one(values: Mapping[str, Any], what: str, where: str) -> Any:
    """What all layers have; `UnsupportedFeature`, naming two, where they differ."""
    (first, value), *others = values.items()
    for path, other in others:
        if other != value:
            raise UnsupportedFeature(
                f"{where}: {first} has {what}={value}, {path} has {what}={other}; expected the same in all."
            )
    return value


def _check(name: str, layer: Layer, path: str, where: str, after_padding: bool) -> None:
    """Refuses a layer that computes something else than ours in its place."""
    expected = dict(_EXPECTED.get(layer.kind, {}))
    if name in _ours():
        ours = _ours()[name].arguments
        expected |= {key: ours[key] for key in ("strides", "padding", "pool_size") if key in ours}
    if after_padding:
        expected["padding"] = "valid"
    for key, wanted in expected.items():
        found = _activation(layer) if key == "activation" else layer.arguments.get(key, wanted)
        if _plain(found) != _plain(wanted):
            raise UnsupportedFeature(f"{where}: {path} has {key}={found}; InceptionV3 has {wanted} there.")


_EXPECTED: dict[str, dict[str, Any]] = {
    "Conv2D": {"dilation_rate": (1, 1), "groups": 1, "activation": "linear"},
    "Activation": {"activation": "relu"},
    "ReLU": {"max_value": None, "negative_slope": 0, "threshold": 0},
    "ZeroPadding2D": {"padding": ((1, 1), (1, 1))},
}


def _plain(value: Any) -> Any:
    """Lists as tuples."""
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _activation(layer: Layer) -> str:
    """The name of a layer's activation; that of one written as an object is its class."""
    said = layer.arguments.get("activation")
    if isinstance(said, Mapping):
        said = said.get("registered_name") or said.get("config") or said.get("class_name")
    return "linear" if said is None else str(said)
