"""The Keras builder: a drop-in for `keras.applications.InceptionV3`, from our own table.

Pure Keras 3. Layers are named as in the published HDF5 file, however many models the
process has built; `end_points` gives them slim's names.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers

from inception import names
from inception.architecture import AUX_END_POINT, END_POINTS, Concat, Conv, Ops, Pool, Table, fold, walk
from inception.variants import KERAS, SCOPE, Variant, named
from inception.weights import Source, Weights, formats, keras_layers, plan, published
from inception.weights.errors import CheckpointError, ShapeMismatch
from inception.weights.stored import Stored

_EPSILON = 1e-3
_BORDER = "_border"  # ends the name of the zero padding before an average pool that counts its border
_MAX_POOLS = ("MaxPool_3a_3x3", "MaxPool_5a_3x3", "Mixed_6a", "Mixed_7a")  # rows with one, unless last_pool is "max"


def InceptionV3(
    include_top: bool = True,
    weights: str | os.PathLike[str] | Weights | None = "imagenet",
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable | None = "softmax",
    name: str = "inception_v3",
    *,
    aux_logits: bool = False,
    depth_multiplier: float = 1.0,
    min_depth: int = 16,
    dropout: float = 0.0,
    final_endpoint: str = "Mixed_7c",
    variant: str | Variant = KERAS,
) -> keras.Model:
    """InceptionV3 as a Keras model. Arguments, defaults and names are those of `keras.applications`.

    Args:
        include_top: the classifier on top.
        weights: None (random), "imagenet", the path of any weight file we read, or `Weights`.
            From a file or `Weights`, a classifier or auxiliary head that the model does
            not have is left aside; everything else must fit.
        input_tensor: a Keras tensor to build on, instead of a new input.
        input_shape: (height, width, channels); unknown sizes are None. At least 75x75,
            107x107 with `aux_logits`.
        pooling: without top: None for the last maps, "avg" or "max" for a vector.
        classes: outputs of the classifier.
        classifier_activation: of the classifiers; None for logits.
        name: of the model.
        aux_logits: adds the auxiliary head (slim scope AuxLogits). The model's output is then
            the dictionary {"predictions": ..., "aux_predictions": ...}, in training and inference.
        depth_multiplier, min_depth: the width (see `architecture.table`).
        dropout: the share of pooled features dropped before the classifier (slim drops 0.2).
        final_endpoint: the last row to build, without top.
        variant: the rules that differ between networks of this name (see `Variant`): border,
            last pool, gamma. Classes, heads and width come from the arguments. Weights that
            state their own rules must agree with these.

    Returns:
        A `keras.Model`. `end_points(model)` has its layers under slim's names.

    Raises:
        ValueError: for arguments that do not fit each other, or weights that do not fit the model.
    """
    final_endpoint = _checked(include_top, pooling, aux_logits, final_endpoint, classes)
    rules = dataclasses.replace(
        named(variant),
        num_classes=classes if include_top else 0,
        aux_logits=aux_logits,
        depth_multiplier=depth_multiplier,
        min_depth=min_depth,
    )
    loaded = _weights(weights, include_top, classes)
    image = _input(input_tensor, input_shape, include_top)
    rules = _for_image(rules, final_endpoint, *_size(image))
    rows = _rows(rules, final_endpoint)
    outputs = _network(rows, image, rules, pooling, classifier_activation, dropout)
    inputs = keras.utils.get_source_inputs(input_tensor) if input_tensor is not None else image
    model = keras.Model(inputs, outputs, name=name)
    if loaded is not None:
        load_into(model, loaded, rules, rows)
    return model


def model_of(weights: Weights, **arguments: Any) -> keras.Model:
    """The model that a set of weights describes: its classes, heads, width and rules; the rest as `InceptionV3` takes it."""
    variant = weights.variant
    return InceptionV3(
        weights=weights,
        include_top=bool(variant.num_classes),
        classes=variant.num_classes,
        aux_logits=variant.aux_logits,
        depth_multiplier=variant.depth_multiplier,
        min_depth=variant.min_depth,
        variant=variant,
        **arguments,
    )


def _checked(include_top: bool, pooling: str | None, aux_logits: bool, final_endpoint: str, classes: int) -> str:
    if pooling not in (None, "avg", "max"):
        raise ValueError(f'pooling is {pooling!r}; expected None, "avg" or "max".')
    if include_top and classes < 1:
        raise ValueError(f"classes is {classes}; expected at least 1, or include_top=False for no classifier.")
    if final_endpoint != END_POINTS[-1] and include_top:
        raise ValueError(f"final_endpoint={final_endpoint!r} leaves no place for a classifier; give include_top=False.")
    if aux_logits and not include_top:
        raise ValueError("aux_logits=True needs include_top=True: the auxiliary head is a second classifier.")
    return final_endpoint


def _weights(weights: Any, include_top: bool, classes: int) -> Weights | None:
    """The weights asked for, read before anything is built."""
    if weights is None or isinstance(weights, Weights):
        return weights
    if weights == "imagenet":
        if include_top and classes != 1000:
            raise ValueError(f'weights="imagenet" with include_top=True has 1000 classes; received classes={classes}.')
        return formats.load(published.fetch_imagenet(include_top))
    return formats.load(weights)


def _input(input_tensor: Any, input_shape: Any, include_top: bool) -> Any:
    if input_tensor is not None:
        return input_tensor if keras.utils.is_keras_tensor(input_tensor) else layers.Input(tensor=input_tensor)
    if input_shape is None:
        size = 299 if include_top else None
        input_shape = (3, size, size) if _channels_first() else (size, size, 3)
    if len(input_shape) != 3:
        raise ValueError(f"input_shape is {tuple(input_shape)}; expected three numbers, as in (299, 299, 3).")
    return layers.Input(shape=tuple(input_shape), name="input_1")


def _channels_first() -> bool:
    return keras.config.image_data_format() == "channels_first"


def _size(x: Any) -> tuple[int | None, int | None, int]:
    """(height, width, channels) of a map, whichever way its axes are ordered."""
    shape = tuple(x.shape)[1:]
    return (shape[1], shape[2], shape[0]) if _channels_first() else shape


def _rows(rules: Variant, final_endpoint: str) -> Table:
    return rules.table() if final_endpoint == END_POINTS[-1] else rules.table().up_to(final_endpoint)


def _for_image(rules: Variant, final_endpoint: str, height: int | None, width: int | None, channels: int) -> Variant:
    """The rules with what the image decides: its channels, and the auxiliary kernel that its size leaves room for."""
    places = walk(_rows(rules, final_endpoint), height, width, channels)
    kernels = [p.node.kernel for p in places if isinstance(p.node, Conv) and p.path.startswith("AuxLogits/Conv2d_2a")]
    return dataclasses.replace(rules, channels=channels, aux_kernel=kernels[0] if kernels else rules.aux_kernel)


class _Layers(Ops[Any]):
    """The three node kinds as Keras layers, under the published file's names."""

    def __init__(self, rules: Variant, layer_names: dict[str, str]) -> None:
        self._rules = rules
        self._names = layer_names
        self._axis = 1 if _channels_first() else 3

    def conv(self, node: Conv, x: Any, path: str) -> Any:
        name = self._names[path]
        stddev = node.stddev and keras.initializers.TruncatedNormal(stddev=node.stddev)
        x = layers.Conv2D(
            node.depth,
            node.kernel,
            strides=node.stride,
            padding=node.padding.lower(),
            use_bias=False,
            kernel_initializer=stddev or "glorot_uniform",
            name=name,
        )(x)
        normalization, activation = names.keras_unit(name)
        x = layers.BatchNormalization(
            axis=self._axis, epsilon=_EPSILON, scale=self._rules.gamma, name=normalization
        )(x)
        return layers.Activation("relu", name=activation)(x)

    def pool(self, node: Pool, x: Any, path: str) -> Any:
        kind = layers.MaxPooling2D if node.kind == "max" else layers.AveragePooling2D
        name, padding = self._names[path], node.padding
        if node.kind == "avg" and padding == "SAME" and self._rules.border == "include":
            x = layers.ZeroPadding2D([(side // 2, side // 2) for side in node.kernel], name=f"{name}{_BORDER}")(x)
            padding = "VALID"
        return kind(node.kernel, strides=node.stride, padding=padding.lower(), name=name)(x)

    def concat(self, node: Concat, xs: list[Any], path: str) -> Any:
        return layers.Concatenate(axis=self._axis, name=self._names[path])(xs)


def _network(
    rows: Table, image: Any, rules: Variant, pooling: str | None, activation: Any, dropout: float
) -> Any:
    ops = _Layers(rules, names.keras_layers(rows))
    base = fold(ops, rows.base, image)
    last = base[rows.base[-1].name]
    if not rows.logits:
        if pooling is None:
            return last
        kind = layers.GlobalAveragePooling2D if pooling == "avg" else layers.GlobalMaxPooling2D
        return kind(name=f"global_{'average' if pooling == 'avg' else 'max'}_pooling2d")(last)
    features = layers.GlobalAveragePooling2D(name="avg_pool")(last)
    if dropout:
        features = layers.Dropout(dropout, name="dropout")(features)
    predictions = _classifier(rows.logits[-1], features, activation, names.KERAS_LOGITS)
    if not rows.aux_logits:
        return predictions
    *body, classifier = rows.aux_logits
    aux = list(fold(ops, body, base[AUX_END_POINT], "AuxLogits").values())[-1]
    aux = layers.GlobalAveragePooling2D(name=names.KERAS_AUX_POOL)(aux)
    return {
        names.KERAS_LOGITS: predictions,
        names.KERAS_AUX_LOGITS: _classifier(classifier, aux, activation, names.KERAS_AUX_LOGITS),
    }


def _classifier(node: Any, features: Any, activation: Any, name: str) -> Any:
    stddev = node.stddev and keras.initializers.TruncatedNormal(stddev=node.stddev)
    return layers.Dense(
        node.depth, activation=activation, kernel_initializer=stddev or "glorot_uniform", name=name
    )(features)


# --- Weights ---------------------------------------------------------------------------


def load_into(model: keras.Model, weights: Weights, rules: Variant, rows: Table) -> None:
    """Puts `weights` into a model built here. What the model lacks of heads and last rows is left aside.

    Raises `ShapeMismatch` or `MissingTensor` when the rest does not fit, `CheckpointError`
    when the weights belong to other rules (border, last pool) than the model was built with.
    """
    where = weights.source.path
    for field in ("border", "last_pool"):
        theirs, ours = getattr(weights.variant, field), getattr(rules, field)
        if theirs != ours:
            raise CheckpointError(
                f"{where} belongs to a network with {field}={theirs!r}, the model is built with {ours!r}; "
                "pass the weights' own variant to InceptionV3."
            )
    targets = {
        f"{SCOPE}/{place.path}/{variable}": shape
        for place in walk(rows, channels=rules.channels)
        for variable, shape in place.variables(rules.gamma).items()
    }
    _check_heads(weights, rules, where)
    found = {name: array.shape for name, array in weights.arrays.items() if _wanted(name, targets)}
    plan.match(targets, [plan.Claim(name, name) for name in found], found, where)
    places = names.keras_variables(dataclasses.replace(rules))
    for name in targets:
        layer, weight = places[name]
        variable = next(v for v in model.get_layer(layer).weights if v.name == weight)
        variable.assign(weights.arrays[name].reshape(tuple(variable.shape)))


def _check_heads(weights: Weights, rules: Variant, where: str) -> None:
    found = weights.variant
    if rules.num_classes and found.num_classes != rules.num_classes:
        has = f"{found.num_classes} classes" if found.num_classes else "no classifier"
        hint = "; convert it with --step drop-background" if found.num_classes == rules.num_classes + 1 == 1001 else ""
        classes = f"classes={found.num_classes}, or " if found.num_classes else ""
        raise ShapeMismatch(
            f"{where} has {has}, the model {rules.num_classes}; "
            f"pass {classes}include_top=False for the base alone{hint}."
        )
    if rules.aux_logits and found.aux_logits and found.aux_kernel != rules.aux_kernel:
        theirs, ours = (f"{k[0]}x{k[1]}" for k in (found.aux_kernel, rules.aux_kernel))
        raise ShapeMismatch(
            f"The auxiliary head's last kernel is {theirs} in {where} (made for {found.image_size}-pixel images) "
            f"and {ours} in the model; build it with input_shape=({found.image_size}, {found.image_size}, 3)."
        )
    if rules.aux_logits and not found.aux_logits:
        raise CheckpointError(f"{where} has no auxiliary head; build the model with aux_logits=False.")


def _wanted(name: str, targets: dict[str, tuple[int, ...]]) -> bool:
    """Heads, and rows beyond `final_endpoint`, are left aside when the model does not have them; nothing else is."""
    if name in targets:
        return True
    top = name.split("/")[1]
    return any(target.split("/")[1] == top for target in targets)


# --- End points ------------------------------------------------------------------------


def end_points(model: keras.Model) -> dict[str, Any]:
    """{slim's end point: Keras tensor} of an InceptionV3, built here, reloaded, or from `keras.applications`.

    The rows of the base, then as far as the model has them `AuxLogits`, `PreLogits` (pooled
    features after dropout, [n, channels]), `Logits` and `Predictions`. Logits are before the
    softmax, as in slim. Build a model of them with `keras.Model(model.input, end_points(model))`.

    Raises:
        ValueError: when the model has not the layers of an InceptionV3.
    """
    in_order = {
        kind: names.in_creation_order([layer.name for layer in model.layers], kind)
        for kind in ("conv2d", "batch_normalization", "activation", "max_pooling2d")
    }
    points: dict[str, Any] = {}
    layer_of = {}
    for path, layer in names.keras_layers(KERAS.table().up_to(END_POINTS[-1])).items():
        if path in END_POINTS:
            layer_of[path] = layer
    for point, layer in layer_of.items():
        kind, _, number = layer.rpartition("_")
        if kind == "conv2d":
            kind = "activation"
        if kind in in_order:
            made = in_order[kind]
            layer = made[int(number) - 1] if int(number) <= len(made) else ""
        found = next((each for each in model.layers if each.name == layer), None)
        if found is None:
            break
        points[point] = found.output
    if not points:
        raise ValueError(f"{model.name} has no layers of an InceptionV3 (expected conv2d_1 ... mixed10); give such a model.")
    return points | _head_points(model)


def _head_points(model: keras.Model) -> dict[str, Any]:
    by_name = {layer.name: layer for layer in model.layers}
    points = {}
    if names.KERAS_AUX_LOGITS in by_name:
        points["AuxLogits"] = _logits(by_name[names.KERAS_AUX_LOGITS])
    if names.KERAS_LOGITS in by_name:
        head = by_name[names.KERAS_LOGITS]
        points |= {"PreLogits": head.input, "Logits": _logits(head), "Predictions": head.output}
    elif "avg_pool" in by_name or "global_average_pooling2d" in by_name:
        points["PreLogits"] = by_name.get("avg_pool", by_name.get("global_average_pooling2d")).output
    return points


def _logits(head: layers.Dense) -> Any:
    """What a classifier computes before its activation, as a tensor of the same graph."""
    if head.activation is keras.activations.linear:
        return head.output
    return keras.ops.add(keras.ops.matmul(head.input, head.kernel), head.bias)


def to_weights(model: keras.Model) -> Weights:
    """The canonical weights of an InceptionV3 model: built here, reloaded, or from `keras.applications`.

    Raises `MissingTensor` or `ShapeMismatch` when the model's layers are not those of an
    InceptionV3. Border rule and last pool are read from the layers that are there.
    """
    tensors = {
        f"{layer.name}/{variable.name}": Stored(tuple(variable.shape), np.dtype("float32"), functools.partial(_value, variable))
        for layer in model.layers
        for variable in layer.weights
        if variable.name in ("kernel", "bias", "beta", "gamma", "moving_mean", "moving_variance")
    }
    kinds = [layer.name for layer in model.layers if isinstance(layer, layers.MaxPooling2D)]
    rules = dataclasses.replace(
        KERAS,
        border="include" if any(layer.name.endswith(_BORDER) for layer in model.layers) else "exclude",
        last_pool="max" if len(kinds) > len(_MAX_POOLS) else "avg",
    )
    return keras_layers.gather(tensors, Source(model.name, "Keras model", "checksum"), rules)


def _value(variable: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)
