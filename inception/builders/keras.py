"""The Keras builder: a drop-in for `keras.applications.InceptionV3`, from our own table.

Pure Keras 3. Layers are named as in the published HDF5 file, however many models the
process has built; `end_points` gives them slim's names.
"""

from __future__ import annotations

import dataclasses
import functools
import numbers
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import keras
import numpy as np
from keras import layers

from inception import pictures
from inception.architecture import AUX_END_POINT, END_POINTS, Concat, Conv, Ops, Pool, Table, fold, walk
from inception.builders.keras_batch_norm import batch_norm
from inception.files.errors import CheckpointError, ShapeMismatch
from inception.files.tensor import Stored
from inception.pictures import Picture
from inception.variants import KERAS, SCOPE, Variant, named
from inception.weights import Source, Weights, formats, plan, published
from inception.weights.dialects import keras_config, keras_graph, keras_layers

_RULES = ("border", "last_pool", "gamma", "epsilon")  # fields of a variant that are not arguments of the builder
_FIRST_MIXED = "mixed0"
_UNIT = 3  # layers of a convolution: itself, batch norm, ReLU


def InceptionV3(
    include_top: bool = True,
    weights: str | os.PathLike[str] | Weights | None = "imagenet",
    input_tensor: Any = None,
    input_shape: tuple[int | None, int | None, int] | None = None,
    pooling: str | None = None,
    classes: int = 1000,
    classifier_activation: str | Callable[[Any], Any] | None = "softmax",
    name: str = "inception_v3",
    *,
    aux_logits: bool = False,
    depth_multiplier: float = 1.0,
    min_depth: int = 16,
    dropout: float = 0.0,
    final_endpoint: str = "Mixed_7c",
    variant: str | Variant | None = None,
) -> keras.Model:
    """InceptionV3 as a Keras model. Arguments, defaults and names are those of `keras.applications`.

    Args:
        include_top: the classifier on top.
        weights: None (random), "imagenet", the path of any weight file we read, or `Weights`.
            From a file or `Weights`, a classifier or auxiliary head that the model does
            not have is left aside; everything else must fit.
        input_tensor: a Keras tensor to build on, instead of a new input.
        input_shape: (height, width, channels). At least 75x75, 107x107 with `aux_logits`. As in
            `keras.applications`, it is (299, 299, 3) with "imagenet" and top, and sizes may be
            unknown (None) without top; for other sizes with top give
            `input_tensor=keras.Input((None, None, 3))`.
        pooling: without top: None for the last maps, "avg" or "max" for a vector.
        classes: outputs of the classifier.
        classifier_activation: of the classifiers; None for logits. With weights, "softmax" or None.
        name: of the model. Two InceptionV3 stand in one model as layers of it (`one(image)`), each
            by its own name; the names of their layers are the same.
        aux_logits: adds the auxiliary head (slim scope AuxLogits). The model's output is then
            the dictionary {"predictions": ..., "aux_predictions": ...}, in training and inference.
        depth_multiplier, min_depth: the width (see `architecture.table`).
        dropout: the share of pooled features dropped before the classifier (slim drops 0.2).
        final_endpoint: the last row to build, without top.
        variant: the rules that differ between networks of this name (see `Variant`): border,
            last pool, gamma, epsilon. None takes those of the weights, or Keras's; a variant given
            here must be that of the weights. Classes, heads and width come from the arguments.

    Returns:
        A `keras.Model`. `end_points(model)` has its layers under slim's names.

    Raises:
        ValueError: for arguments that do not fit each other, before anything is downloaded, or weights
            that do not fit the model.
    """
    _check_arguments(include_top, weights, pooling, aux_logits, final_endpoint, classes)
    if include_top:
        _check_activation(classifier_activation, weights)
    imagenet = isinstance(weights, str) and weights == "imagenet"
    rules = dataclasses.replace(
        named(variant or KERAS),
        num_classes=classes if include_top else 0,
        aux_logits=aux_logits,
        depth_multiplier=depth_multiplier,
        min_depth=min_depth,
    )
    image = _image(input_tensor, _input_shape(input_shape, include_top, imagenet))
    rules = _for_image(rules, final_endpoint, *_size(image))
    if imagenet:
        _check_imagenet(rules, _rows(rules, final_endpoint))
        weights = published.fetch_imagenet(include_top)
    loaded = weights if weights is None or isinstance(weights, Weights) else formats.load(weights)
    if loaded is not None:
        if variant is None:
            rules = dataclasses.replace(rules, **{field: getattr(loaded.variant, field) for field in _RULES})
        if input_tensor is None:
            image = _saying(image, loaded.picture)
    rows = _rows(rules, final_endpoint)
    variables = {} if loaded is None else _fitting(loaded, rules, rows)
    ops = _Layers(rules, keras_layers.layers(rows), initialize=loaded is None)
    model = keras.Model(_inputs(image), _outputs(ops, rows, image, pooling, classifier_activation, dropout), name=name)
    _reserve_names(model)
    for (layer, variable), array in variables.items():
        target = next(v for v in model.get_layer(layer).weights if v.name == variable)
        target.assign(array.reshape(tuple(target.shape)))
    return model


def model_of(weights: Weights, **arguments: Any) -> keras.Model:
    """The model that weights describe, with them in it; `arguments` are the other ones of `InceptionV3`."""
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


def _check_arguments(
    include_top: bool, weights: Any, pooling: str | None, aux_logits: bool, final_endpoint: str, classes: int
) -> None:
    if not isinstance(weights, str | os.PathLike | Weights | None):
        found = repr(weights) if isinstance(weights, bool | int | float) else f"a {type(weights).__name__}"
        raise ValueError(f'weights is {found}; expected None, "imagenet", the path of a weight file, or Weights.')
    if pooling not in (None, "avg", "max"):
        raise ValueError(f'pooling is {pooling!r}; expected None, "avg" or "max".')
    if include_top and classes < 1:
        raise ValueError(f"classes is {classes}; expected at least 1, or include_top=False for no classifier.")
    if include_top and final_endpoint in END_POINTS[:-1]:
        raise ValueError(f"final_endpoint={final_endpoint!r} leaves no place for a classifier; give include_top=False.")
    if aux_logits and not include_top:
        raise ValueError("aux_logits=True needs include_top=True: the auxiliary head is a second classifier.")


def _check_activation(activation: Any, weights: Any) -> None:
    allowed = keras.activations.softmax, keras.activations.linear
    if keras.activations.get(activation) not in allowed and weights is not None:
        raise ValueError(
            f"classifier_activation is {activation!r}; with weights and include_top=True expected "
            '"softmax", which they were trained with, or None for logits.'
        )


def _input_shape(given: Any, include_top: bool, imagenet: bool) -> tuple[int | None, ...]:
    """The shape of the input, with the conditions of `keras.applications`."""
    size = 299 if include_top else None
    usual = (3, size, size) if _channels_first() else (size, size, 3)
    if given is None:
        return usual
    shape = tuple(given) if isinstance(given, tuple | list) else ()
    if len(shape) != 3 or not all(n is None or isinstance(n, numbers.Integral) for n in shape):
        raise ValueError(f"input_shape is {given}; expected three numbers, as in (299, 299, 3).")
    if include_top and imagenet and shape != usual:
        raise ValueError(
            f'input_shape is {shape}; weights="imagenet" with include_top=True takes {usual}. Leave input_shape out, '
            f"give include_top=False or, for images of another size, input_tensor=keras.Input({shape})."
        )
    if include_top and None in shape:
        raise ValueError(
            f"input_shape is {shape}; include_top=True needs every number of it. For images of any size "
            f"give include_top=False or input_tensor=keras.Input({shape})."
        )
    return shape


def _check_imagenet(rules: Variant, rows: Table) -> None:
    """ValueError for a model that Keras's ImageNet file, not yet there, will not fit."""
    given = 'weights="imagenet"'
    if rules.channels != KERAS.channels:
        raise ValueError(f"{given} takes images of 3 channels; the input has {rules.channels}. Give weights=None.")
    _check_fit(KERAS, KERAS.shapes(), rules, rows, given)


def _image(input_tensor: Any, shape: tuple[int | None, ...]) -> Any:
    """The Keras tensor to build on."""
    if input_tensor is None:
        return layers.Input(shape=shape, name="input_1")
    refuse_keras_2(input_tensor, "input_tensor")
    if not keras.utils.is_keras_tensor(input_tensor) or len(input_tensor.shape) != 4:
        found = f"a {type(input_tensor).__name__} of shape {getattr(input_tensor, 'shape', None)}"
        raise ValueError(f"input_tensor is {found}; expected a Keras tensor of images, as keras.Input returns it.")
    return input_tensor


def refuse_keras_2(given: Any, what: str) -> None:
    """ValueError for a model or a tensor of Keras 2: with TF_USE_LEGACY_KERAS=1, `tf.keras` is that."""
    if any(each.__module__.startswith("tf_keras.") for each in type(given).__mro__):
        legacy = os.environ.get("TF_USE_LEGACY_KERAS", "").lower() in ("1", "true")
        which = "tf.keras is Keras 2 here, because TF_USE_LEGACY_KERAS is set" if legacy else "tf_keras is Keras 2"
        raise ValueError(
            f"{what} is of Keras 2 ({which}); expected one of Keras 3: make it with `import keras`, "
            "or give the path of weights saved as .h5."
        )


def _saying(image: Any, picture: Picture) -> Any:
    """The same new input, its name saying how pictures are brought to it."""
    size = side_of(image)
    return layers.Input(shape=tuple(image.shape)[1:], name=pictures.input_name(picture.at(size), size))


def side_of(image: Any) -> int | tuple[int, int] | None:
    """A square's side, (height, width), or None where either is free."""
    height, width, _ = _size(image)
    if height is None or width is None:
        return None
    return height if height == width else (height, width)


def picture_of(model: keras.Model) -> Picture:
    """The way of a picture that the name of a model's input says, or Keras's, at the model's own size."""
    inputs: list[Any] = list(getattr(model, "inputs", None) or ())
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return pictures.KERAS
    size = side_of(inputs[0])
    return pictures.from_input_name(inputs[0].name, size) or pictures.KERAS.at(size)


def _inputs(image: Any) -> Any:
    """What the model takes: the image, or the inputs that a given tensor was computed from."""
    sources = keras.utils.get_source_inputs(image)
    return sources[0] if len(sources) == 1 else sources


def _reserve_names(model: keras.Model) -> None:
    """So that layers which a user adds are not given our names: Keras counts names, and does not know of ours."""
    last: dict[str, int] = {}
    for layer in model.layers:
        kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", layer.name).groups()  # type: ignore[union-attr]
        last[kind] = max(last.get(kind, 0), int(number or 0))
    for kind, number in last.items():
        while keras.backend.get_uid(kind) <= number:
            pass


def _channels_first() -> bool:
    return keras.config.image_data_format() == "channels_first"


def _size(x: Any) -> tuple[int | None, int | None, int | None]:
    """(height, width, channels) of a map, whichever way its axes are ordered."""
    shape = tuple(x.shape)[1:]
    return (shape[1], shape[2], shape[0]) if _channels_first() else shape


def _rows(rules: Variant, final_endpoint: str) -> Table:
    return rules.table() if final_endpoint == END_POINTS[-1] else rules.table().up_to(final_endpoint)


def _for_image(
    rules: Variant, final_endpoint: str, height: int | None, width: int | None, channels: int | None
) -> Variant:
    """The rules with what the image decides: its channels, and the auxiliary kernel that its size leaves room for."""
    if channels is None:
        raise ValueError("The input has an unknown number of channels; say it, as in (299, 299, 3).")
    places = walk(_rows(rules, final_endpoint), height, width, channels)
    kernels = [p.node.kernel for p in places if isinstance(p.node, Conv) and p.path.startswith("AuxLogits/Conv2d_2a")]
    return dataclasses.replace(rules, channels=channels, aux_kernel=kernels[0] if kernels else rules.aux_kernel)


# --- The fold --------------------------------------------------------------------------


class _Layers(Ops[Any]):
    """The three node kinds as Keras layers, under the published file's names."""

    def __init__(self, rules: Variant, layer_names: dict[str, str], initialize: bool) -> None:
        self._rules = rules
        self._names = layer_names
        self._initialize = initialize
        self._axis = 1 if _channels_first() else 3

    def conv(self, node: Conv, x: Any, path: str) -> Any:
        name = self._names[path]
        convolution = layers.Conv2D(
            node.depth,
            node.kernel,
            strides=node.stride,
            padding=node.padding.lower(),
            use_bias=False,
            kernel_initializer=_initializer(node),
            name=name,
        )
        normalization, activation = keras_layers.unit(name)
        x = self._first_call(convolution, x)
        rules = self._rules
        x = batch_norm(self._axis, epsilon=rules.epsilon, scale=rules.gamma, name=normalization)(x)
        return layers.Activation("relu", name=activation)(x)

    def pool(self, node: Pool, x: Any, path: str) -> Any:
        kind = layers.MaxPooling2D if node.kind == "max" else layers.AveragePooling2D
        name, padding = self._names[path], node.padding
        if borders := node.borders(self._rules.border):
            x = layers.ZeroPadding2D(borders, name=keras_config.border_of(name))(x)
            padding = "VALID"
        return kind(node.kernel, strides=node.stride, padding=padding.lower(), name=name)(x)

    def concat(self, node: Concat, xs: list[Any], path: str) -> Any:
        return layers.Concatenate(axis=self._axis, name=self._names[path])(xs)

    def classifier(self, node: Conv, features: Any, activation: Any, name: str) -> Any:
        dense = layers.Dense(node.depth, activation=activation, kernel_initializer=_initializer(node), name=name)
        return self._first_call(dense, features)

    def _first_call(self, layer: Any, x: Any) -> Any:
        """Calls a new layer; where weights follow, no random kernel is drawn. Its config keeps the initializer."""
        if self._initialize:
            return layer(x)
        initializer, layer.kernel_initializer = layer.kernel_initializer, keras.initializers.Zeros()
        y = layer(x)
        layer.kernel_initializer = initializer
        return y


def _initializer(node: Conv) -> Any:
    return "glorot_uniform" if node.stddev is None else keras.initializers.TruncatedNormal(stddev=node.stddev)


def _outputs(ops: _Layers, rows: Table, image: Any, pooling: str | None, activation: Any, dropout: float) -> Any:
    base = fold(ops, rows.base, image)
    last = base[rows.base[-1].name]
    if not rows.logits:
        return _pooled(last, pooling)
    features = layers.GlobalAveragePooling2D(name="avg_pool")(last)
    if dropout:
        features = layers.Dropout(dropout, name="dropout")(features)
    predictions = ops.classifier(cast(Conv, rows.logits[-1]), features, activation, keras_layers.LOGITS)
    if not rows.aux_logits:
        return predictions
    *body, classifier = rows.aux_logits
    *_, aux = fold(ops, body, base[AUX_END_POINT], "AuxLogits").values()
    aux = layers.GlobalAveragePooling2D(name=keras_layers.AUX_POOL)(aux)
    return {
        keras_layers.LOGITS: predictions,
        keras_layers.AUX_LOGITS: ops.classifier(cast(Conv, classifier), aux, activation, keras_layers.AUX_LOGITS),
    }


def _pooled(maps: Any, pooling: str | None) -> Any:
    if pooling is None:
        return maps
    if pooling == "avg":
        return layers.GlobalAveragePooling2D(name="global_average_pooling2d")(maps)
    return layers.GlobalMaxPooling2D(name="global_max_pooling2d")(maps)


# --- Weights ---------------------------------------------------------------------------


def _fitting(weights: Weights, rules: Variant, rows: Table) -> dict[tuple[str, str], np.ndarray]:
    """{(layer, variable): array} for a model of these rules and rows; heads and last rows it lacks are left aside.

    Raises:
        ShapeMismatch, MissingTensor: When the rest does not fit.
        CheckpointError: When the weights belong to other rules (border, last pool, gamma, epsilon) than the model's.
    """
    shapes = {name: array.shape for name, array in weights.arrays.items()}
    targets = _check_fit(weights.variant, shapes, rules, rows, weights.source.path)
    places = keras_layers.variables(rules)
    return {places[name]: weights.arrays[name] for name in targets}


def _check_fit(
    theirs: Variant, shapes: Mapping[str, tuple[int, ...]], rules: Variant, rows: Table, where: str
) -> list[str]:
    """The names of the arrays that the model takes, all there and of its shapes; raises as `_fitting` says."""
    _check_rules(theirs, rules, where)
    _check_heads(theirs, rules, where)
    targets = {
        f"{SCOPE}/{place.path}/{variable}": shape
        for place in walk(rows, channels=rules.channels)
        for variable, shape in place.variables(rules.gamma).items()
    }
    tops = {name.split("/")[1] for name in targets}
    found = {name: shape for name, shape in shapes.items() if name.split("/")[1] in tops}
    plan.match(targets, [plan.Claim(name, name) for name in found], found, where)
    return list(targets)


def _check_rules(found: Variant, rules: Variant, where: str) -> None:
    for field in _RULES:
        theirs, ours = getattr(found, field), getattr(rules, field)
        if theirs != ours:
            raise CheckpointError(
                f"{where} belongs to a network with {field}={theirs!r}, the model is built with {field}={ours!r}; "
                "leave the argument variant out, or pass the weights' own."
            )


def _check_heads(found: Variant, rules: Variant, where: str) -> None:
    if rules.num_classes and found.num_classes != rules.num_classes:
        has = f"{found.num_classes} classes" if found.num_classes else "no classifier"
        drop = found.background and found.num_classes == rules.num_classes + 1
        hint = ", or convert it with --step drop-background" if drop else ""
        classes = f"classes={found.num_classes}, or " if found.num_classes else ""
        raise ShapeMismatch(
            f"{where} has {has}, the model has {rules.num_classes} classes; "
            f"pass {classes}include_top=False for the base alone{hint}."
        )
    if rules.aux_logits and not found.aux_logits:
        raise CheckpointError(f"{where} has no auxiliary head; build the model with aux_logits=False.")
    if rules.aux_logits and found.aux_kernel != rules.aux_kernel:
        theirs, ours = (f"{k[0]}x{k[1]}" for k in (found.aux_kernel, rules.aux_kernel))
        raise ShapeMismatch(
            f"The auxiliary head's last kernel is {theirs} in {where} (made for {found.aux_size}-pixel images) "
            f"and {ours} in the model; build it with input_shape=({found.aux_size}, {found.aux_size}, 3)."
        )


# --- End points ------------------------------------------------------------------------


def end_points(model: keras.Model) -> dict[str, Any]:
    """{slim's end point: Keras tensor} of an InceptionV3, built here, reloaded, or from `keras.applications`.

    The rows of the base, then as far as the model has them `AuxLogits`, `PreLogits` (pooled
    features after dropout, [n, channels]), `Logits` and `Predictions`. Logits are before the
    softmax, as in slim. Build a model of them with `keras.Model(model.input, end_points(model))`.
    To train from logits give InceptionV3 classifier_activation=None: where Logits are computed
    beside a softmax, a model of Logits alone does not count the classifier among its weights.

    Raises:
        ValueError: when the model has not the layers of an InceptionV3, or is one of Keras 2.
    """
    refuse_keras_2(model, f"The model {getattr(model, 'name', '')}")
    by_name = {layer.name: layer for layer in model.layers}
    points = {row: by_name[name].output for row, name in _row_layers().items() if name in by_name}
    if _FIRST_MIXED in by_name:
        points |= _stem(model)
    elif keras_layers.in_creation_order(by_name, "conv2d")[:1] != ["conv2d_1"]:
        points = {}
    if not points:
        raise ValueError(
            f"The model {model.name} has no layers of an InceptionV3 (expected conv2d_1 to mixed10); "
            "of a model that contains one, give that layer, as in end_points(model.get_layer(name))."
        )
    base = {row: points[row] for row in END_POINTS if row in points}
    *_, last = base.values()
    return base | _head_points(model, by_name, last)


def _row_layers() -> dict[str, str]:
    """{row of the base: the layer it ends in}, by the names that are given here."""
    rows = KERAS.table().base
    made = keras_layers.layers(Table(rows))
    return {row.name: keras_layers.unit(made[row.name])[1] if isinstance(row, Conv) else made[row.name] for row in rows}


def _stem(model: keras.Model) -> dict[str, Any]:
    """The rows before the first Mixed, whatever their layers are called.

    In `keras.applications` their numbers depend on what the process has built before, and
    layers that a user adds may have any. The rows are one chain, so they are found by
    going back from the first Mixed.
    """
    x = _before(model, model.get_layer(_FIRST_MIXED).input[0], _UNIT)
    points: dict[str, Any] = {}
    for row in reversed([row for row in KERAS.table().base if not isinstance(row, Concat)]):
        points[row.name] = x
        x = _before(model, x, _UNIT if isinstance(row, Conv) else 1)
    return points


def _before(model: keras.Model, x: Any, steps: int) -> Any:
    """The tensor that x was made from, so many layers before it."""
    for _ in range(steps):
        x = _source(model, x).input
    return x


def _source(model: keras.Model, x: Any) -> Any:
    for layer in model.layers:
        if layer.output is x:
            return layer
    raise ValueError(f"The layers of the model {model.name} are not linked as those of an InceptionV3.")


def _head_points(model: keras.Model, by_name: dict[str, Any], last: Any) -> dict[str, Any]:
    points: dict[str, Any] = {}
    if keras_layers.AUX_LOGITS in by_name:
        points["AuxLogits"] = _logits(by_name[keras_layers.AUX_LOGITS])
    head = by_name.get(keras_layers.LOGITS) or by_name.get(_classifier(model, last) or "")
    if isinstance(head, layers.Dense):
        return points | {"PreLogits": head.input, "Logits": _logits(head), "Predictions": head.output}
    for layer in by_name.values():
        if isinstance(layer, layers.GlobalAveragePooling2D) and layer.input is last:
            points["PreLogits"] = layer.output
    return points


def _classifier(model: keras.Model, last: Any) -> str | None:
    """The name of the classifier on a last map, whatever the user called it."""
    [source] = [layer.name for layer in model.layers if layer.output is last]
    graph = graph_of(model)
    return keras_graph.classifier(graph, source) if source in graph else None


def _logits(head: layers.Dense) -> Any:
    """What a classifier computes before its activation, as a tensor of the same graph."""
    if head.activation is keras.activations.linear:
        return head.output
    return keras.ops.add(keras.ops.matmul(head.input, head.kernel), head.bias)


def to_weights(model: keras.Model) -> Weights:
    """The canonical weights of the InceptionV3 that a model is or contains: of ours, reloaded, or Keras's own.

    The network is found by how its layers are linked, so layers of the user's own do not
    count, in front of it, behind it or around it; a Dense on its pooled features is the
    classifier, whatever its name. The rules are what its layers say, the picture what the name of
    the input says (`pictures.input_name`); Keras's where that says none, also where layers before
    the network scale the pixels (a note names those).

    Raises:
        CheckpointError: `UnsupportedFeature` for two networks in one model, and for layers that compute
            otherwise; `MissingTensor` or `ShapeMismatch` when there is no whole InceptionV3.
    """
    refuse_keras_2(model, f"The model {model.name}")
    source = Source(model.name, "Keras model", "checksum")
    where = source.where
    found = list(_inside(model, where))
    if len(found) > 1:
        raise keras_graph.two([network.name for _, network in found], where)
    holder, network = found[0] if found else (model, None)
    tensors = {
        f"{path}/{v.name}": Stored(tuple(v.shape), np.dtype("float32"), functools.partial(_value, v))
        for path, layer in _by_path(holder)
        for v in layer.weights
        if v.name in ("kernel", "bias", "beta", "gamma", "moving_mean", "moving_variance")
    }
    if network is None:
        keras_layers.gather(tensors, source)  # says what is missing, if anything is
        raise keras_graph.no_links(where)
    source = dataclasses.replace(source, notes=network.notes)
    return keras_layers.gather(tensors, source, network.like, network.layers, picture_of(model))


def check_finite(model: keras.Model) -> None:
    """ValueError that names the first weight with NaN or infinity: layers make plausible numbers of them."""
    for variable in model.weights:
        if not np.isfinite(_value(variable)).all():
            raise ValueError(
                f"The model {model.name} has weights that are not finite (NaN or infinity) in {variable.path}; "
                "get its file again, or train it again."
            )


def _inside(model: keras.Model, where: str) -> Iterator[tuple[keras.Model, keras_graph.Network]]:
    """The networks in a model, each with the outermost model that says how it is linked."""
    network = keras_graph.network(graph_of(model), where)
    if network is not None:
        yield model, network
        return
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _inside(layer, where)


def graph_of(model: keras.Model) -> keras_graph.Graph:
    """A model's layers and their links; of one that is no graph, or has layers that no text can describe, none."""
    try:
        plain = keras.Model(model.inputs, model.outputs, name=model.name)  # also of subclasses, which say less
        return keras_graph.of_config({"config": plain.get_config()})
    except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        return {}


def _by_path(model: keras.Model, base: str = "") -> Iterator[tuple[str, Any]]:
    """(path in the graph, layer) of all layers that are no models."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _by_path(layer, f"{base}{layer.name}/")
        else:
            yield f"{base}{layer.name}", layer


def _value(variable: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable)
