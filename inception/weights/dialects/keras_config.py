"""The Keras model of a variant as plain data: its layers, their order in weight files, its `config.json`.

What a mere list of layers tells of the variant stands here too; what it cannot say is not
guessed from layers that a user may have added. Nothing here imports Keras; a test compares
all of it with the models that `builders.keras` builds.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from inception import pictures
from inception.architecture import AUX_END_POINT, Concat, Conv, Ops, Pool, fold
from inception.pictures import Picture
from inception.variants import KERAS, Variant
from inception.weights.canonical import OtherRules
from inception.weights.dialects import keras_layers

_UNSEEN = ("dropout", "input_layer")  # layers of which there may be any number
NO_EPSILON = "batch norm's epsilon and center are not in such a file; taken as Keras's own, 0.001 and True"
WEIGHTED = ("Conv2D", "BatchNormalization", "Dense")
_CHANNELS_LAST: dict[str, Any] = {"data_format": "channels_last"}


@dataclass(frozen=True)
class Layer:
    """A layer: its name, its Keras class, the layers it reads, its arguments, the rank of what it makes."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    arguments: Mapping[str, Any]
    rank: int = 4


@dataclass(frozen=True)
class Model:
    """layers: {name: layer} in creation order; outputs: {name of the output: layer}, in Keras's order."""

    layers: Mapping[str, Layer]
    outputs: Mapping[str, str]

    def by_depth(self) -> list[Layer]:
        """The layers as `model.layers` and weight files have them; creation order is another one.

        Keras sorts layers by their longest way to an output, farthest first, and layers of one
        depth by when a walk from the outputs, inputs first to last, meets them.
        """
        depth: dict[str, int] = {}
        for layer in reversed(list(self.layers.values())):
            depth.setdefault(layer.name, 0)
            for below in layer.inputs:
                depth[below] = max(depth.get(below, 0), depth[layer.name] + 1)
        met: dict[str, int] = {}
        todo = list(self.outputs.values())[::-1]
        while todo:
            if (name := todo.pop()) not in met:
                met[name] = len(met)
                todo.extend(reversed(self.layers[name].inputs))
        return sorted(self.layers.values(), key=lambda layer: (-depth[layer.name], met[layer.name]))


def describe(variant: Variant, dropouts: int = 0, picture: Picture = pictures.KERAS) -> Model:
    """The model that the Keras builder makes of a variant.

    Args:
        dropouts: how many dropout layers lie before the classifier. They move the layers of the auxiliary head in
            Keras's order.
        picture: the input layer's name and size say it.
    """
    rows = variant.table()
    layers = _Layers(variant, keras_layers.layers(rows))
    shape = _batch_shape(variant, picture)
    image = layers.add(pictures.input_name(picture, shape[1]), "InputLayer", (), batch_shape=shape)
    base = fold(layers, rows.base, image)
    last = base[rows.base[-1].name]
    outputs = {last: last}
    if rows.logits:
        features = layers.add("avg_pool", "GlobalAveragePooling2D", (last,), 2, **_CHANNELS_LAST)
        for i in range(dropouts):
            features = layers.add(f"dropout_{i}" if i else "dropout", "Dropout", (features,), 2, rate=0.2)
        outputs = {keras_layers.LOGITS: layers.classifier(rows.logits[-1], features, keras_layers.LOGITS)}
    if rows.aux_logits:
        *body, classifier = rows.aux_logits
        aux = list(fold(layers, body, base[AUX_END_POINT], "AuxLogits").values())[-1]
        aux = layers.add(keras_layers.AUX_POOL, "GlobalAveragePooling2D", (aux,), 2, **_CHANNELS_LAST)
        outputs = {keras_layers.AUX_LOGITS: layers.classifier(classifier, aux, keras_layers.AUX_LOGITS)} | outputs
    return Model(layers.made, outputs)


def groups(kinds: Iterable[str]) -> list[str]:
    """The name that a Keras 3 weight file gives each layer, from the classes: conv2d, conv2d_1, activation, ..."""
    found: list[str] = []
    counts: Counter[str] = Counter()
    for kind in kinds:
        found.append(f"{kind}_{counts[kind]}" if counts[kind] else kind)
        counts[kind] += 1
    return found


def snake_case(kind: str) -> str:
    """MaxPooling2D -> max_pooling2d, by Keras's own rule."""
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def border_of(pool: str) -> str:
    """The name of the zero padding before an average pool that counts its border."""
    return f"{pool}_border"


def config(variant: Variant, picture: Picture = pictures.KERAS) -> dict[str, Any]:
    """What `config.json` of a `.keras` file says of the model."""
    model = describe(variant, picture=picture)
    image = next(iter(model.layers))
    outputs: Any = {name: [layer, 0, 0] for name, layer in sorted(model.outputs.items(), reverse=True)}
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "inception_v3",
            "trainable": True,
            "layers": [_layer_config(layer, model.layers) for layer in model.by_depth()],
            "input_layers": [image, 0, 0],
            "output_layers": outputs if variant.aux_logits else next(iter(outputs.values())),
        },
        "registered_name": "Functional",
    }


class _Layers(Ops[str]):
    """The three node kinds as described layers; values of the fold are layer names."""

    def __init__(self, variant: Variant, layer_names: Mapping[str, str]) -> None:
        self._variant = variant
        self._names = layer_names
        self.made: dict[str, Layer] = {}

    def add(self, name: str, kind: str, inputs: tuple[str, ...], rank: int = 4, **arguments: Any) -> str:
        self.made[name] = Layer(name, kind, inputs, arguments, rank)
        return name

    def conv(self, node: Conv, x: str, path: str) -> str:
        layer = self.add(
            self._names[path],
            "Conv2D",
            (x,),
            filters=node.depth,
            kernel_size=node.kernel,
            strides=(node.stride, node.stride),
            padding=node.padding.lower(),
            use_bias=False,
            **_CHANNELS_LAST,
            **_initializer(node),
        )
        normalization, activation = keras_layers.unit(layer)
        rules: dict[str, Any] = {"epsilon": self._variant.epsilon, "scale": self._variant.gamma}
        x = self.add(normalization, "BatchNormalization", (layer,), axis=3, **rules)
        return self.add(activation, "Activation", (x,), activation="relu")

    def pool(self, node: Pool, x: str, path: str) -> str:
        name, padding = self._names[path], node.padding
        if borders := node.borders(self._variant.border):
            x = self.add(border_of(name), "ZeroPadding2D", (x,), padding=borders, **_CHANNELS_LAST)
            padding = "VALID"
        return self.add(
            name,
            "MaxPooling2D" if node.kind == "max" else "AveragePooling2D",
            (x,),
            pool_size=node.kernel,
            strides=(node.stride, node.stride),
            padding=padding.lower(),
            **_CHANNELS_LAST,
        )

    def concat(self, node: Concat, xs: list[str], path: str) -> str:
        return self.add(self._names[path], "Concatenate", tuple(xs), axis=3)

    def classifier(self, node: Any, x: str, name: str) -> str:
        return self.add(name, "Dense", (x,), 2, units=node.depth, activation="softmax", **_initializer(node))


def _initializer(node: Conv) -> dict[str, Any]:
    if node.stddev is None:
        return {}
    arguments = {"mean": 0.0, "stddev": node.stddev, "seed": None}
    return {"kernel_initializer": _object("keras.initializers", "TruncatedNormal", arguments)}


def _batch_shape(variant: Variant, picture: Picture) -> list[int | None]:
    """One image size for a classifier, as the Keras builder has it; any size for the base alone."""
    height, width = picture.sides if variant.num_classes else (None, None)
    return [None, height, width, variant.channels]


def _layer_config(layer: Layer, layers: Mapping[str, Layer]) -> dict[str, Any]:
    tensors = [
        {
            "class_name": "__keras_tensor__",
            "config": {"shape": [None] * layers[name].rank, "dtype": "float32", "keras_history": [name, 0, 0]},
        }
        for name in layer.inputs
    ]
    arguments = [tensors] if layer.kind == "Concatenate" else tensors
    return {
        **_object("keras.layers", layer.kind, {"name": layer.name, "dtype": "float32", **layer.arguments}),
        "name": layer.name,
        "inbound_nodes": [{"args": arguments, "kwargs": {}}] if tensors else [],
    }


def _object(module: str, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": arguments, "registered_name": None}


# ---- what a list of layers tells that does not say how they are linked


class Told(NamedTuple):
    """like: the rules; whole: the layers are ours and no others, classifier included; notes: what is not told."""

    like: Variant
    whole: bool
    notes: tuple[str, ...]


def told(kinds: Counter[str], where: str, border: bool = False) -> Told:
    """What the number of layers of each kind ("conv2d": 94, ...) tells for certain.

    Args:
        border: the average pools count their borders, as the layers' names say. A user's own layers can only add to
            ours, so where one variant alone has no more pools and paddings than were found, it is that one. Where
            several have, Keras's rules are taken, with a note and a warning.
    """
    kinds = Counter({kind: count for kind, count in kinds.items() if kind not in _UNSEEN})
    aux = kinds["conv2d"] > keras_layers.CONVOLUTIONS
    borders: tuple[Literal["exclude", "include"], ...] = ("include",) if border else ("exclude", "include")
    lasts: tuple[Literal["avg", "max"], ...] = ("avg", "max")
    variants = [
        dataclasses.replace(KERAS, border=rule, last_pool=last, aux_logits=aux) for rule in borders for last in lasts
    ]
    censuses = {variant: _census(variant) for variant in variants}
    for variant, census in censuses.items():
        if kinds == census or (not aux and kinds in _without_classifier(census)):
            return Told(_ruled(variant), kinds == census, (NO_EPSILON,))
    pools = ("zero_padding2d", "average_pooling2d", "max_pooling2d")
    possible = [v for v, census in censuses.items() if all(census[kind] <= kinds[kind] for kind in pools)]
    exact = [v for v in possible if all(censuses[v][kind] == kinds[kind] for kind in pools)]
    chosen = exact or possible
    if len(chosen) == 1:
        return Told(_ruled(chosen[0]), False, (NO_EPSILON,))
    like = _ruled(variants[0])
    rules = {"border": "the border rule of the average pools", "last_pool": "which pool is last"}
    fields = [field for field in rules if len({getattr(each, field) for each in chosen or variants}) > 1]
    note = (
        f"{' and '.join(rules[field] for field in fields)} cannot be told from the layers that such a file lists; "
        f"taken as {', '.join(f'{field}={getattr(like, field)!r}' for field in fields)}"
    )
    warnings.warn(f"{where}: {note}. Save the model as .keras, which tells.", OtherRules, stacklevel=5)
    return Told(like, False, (NO_EPSILON, note))


def no_classifier(dense: list[str]) -> str:
    """The note on Dense layers of which none need be the classifier."""
    return f"whether a Dense layer ({', '.join(dense[:3])}) is the classifier is not in such a file"


def _census(variant: Variant) -> Counter[str]:
    kinds = (snake_case(layer.kind) for layer in describe(variant).layers.values())
    return Counter(kind for kind in kinds if kind not in _UNSEEN)


def _without_classifier(census: Counter[str]) -> list[Counter[str]]:
    base = census - Counter(("dense", "global_average_pooling2d"))
    return [base, base + Counter(("global_average_pooling2d",)), base + Counter(("global_max_pooling2d",))]


def _ruled(variant: Variant) -> Variant:
    return dataclasses.replace(KERAS, border=variant.border, last_pool=variant.last_pool)
