"""The named points of any Keras model: slim's end points where it holds an InceptionV3, layer names everywhere.

A model is opened once: its graph is called again on an image of free size, through
models within models, and what every layer computes is kept under its name. The layers
are the model's own, so their weights are too.
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inception.architecture import END_POINTS
from inception.arguments import nearest
from inception.networks import Network
from inception.weights.dialects import keras_layers

_WIDE = 4  # rows and columns at least of maps that show a place
# Layers and operations that only apply an activation to what comes in.
_ACTIVATIONS = {"Activation", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Relu", "Relu6", "Sigmoid", "Silu",
                "Gelu", "Tanh", "LogSoftmax", "Elu", "LeakyRelu", "Selu", "HardSwish", "HardSilu"}  # fmt: skip
_SAME_IN_INFERENCE = {"Dropout", "SpatialDropout2D", "Identity", "ActivityRegularization", "GaussianNoise"}
_COMMUTE_WITH_RELU = {"Concatenate", "MaxPooling2D"}


@dataclass
class Points:
    """An opened model.

    Attributes:
        image: the symbolic input, of free height and width where the layers allow it.
        named: {name: symbolic tensor} of its layers, in their order.
        outputs: what the model returns; of an InceptionV3 with an auxiliary head the predictions alone.
        size: (height, width) that the model was built for, None where it is free.
    """

    image: Any
    named: dict[str, Any] = field(default_factory=dict)
    outputs: list[Any] = field(default_factory=list)
    size: tuple[int | None, int | None] = (None, None)
    _made: dict[int, tuple[Any, Any, Any]] = field(default_factory=dict)

    @property
    def maps(self) -> list[str]:
        """The names of the points that are maps, [n, height, width, channels]."""
        return [name for name, tensor in self.named.items() if len(tensor.shape) == 4]

    def map_point(self, name: str) -> Any:
        """The maps of that name. ValueError for a name that is not there or has no maps."""
        if name in self.named and len(self.named[name].shape) == 4:
            return self.named[name]
        if name in self.named:
            shape = tuple(self.named[name].shape)
            raise ValueError(f"{name} has the shape {shape}; expected maps, [n, height, width, channels].")
        raise ValueError(_unknown(name, self.maps))

    def before_activation(self, tensor: Any) -> Any:
        """What `tensor` is before its activation: the sums that a ReLU or softmax takes.

        Through dropout, and through concatenations and maximum pools branch by branch (a
        ReLU may be taken before or after these). A tensor without an activation is itself.
        """
        if id(tensor) not in self._made:
            return tensor
        _, layer, inputs = self._made[id(tensor)]
        kind = type(layer).__name__
        if kind in _ACTIVATIONS:
            return inputs
        if kind in _SAME_IN_INFERENCE:
            return self.before_activation(inputs)
        if kind in _COMMUTE_WITH_RELU:
            return layer(_each(self.before_activation, inputs))
        return _unactivated(layer, inputs, tensor)

    def remember(self, name: str, layer: Any, inputs: Any, outputs: Any) -> None:
        """Keeps what a layer computed, under its name unless that is taken (a layer called twice)."""
        if not hasattr(outputs, "shape"):
            return
        self._made[id(outputs)] = outputs, layer, inputs
        self.named.setdefault(name, outputs)


def _unknown(name: str, maps: Sequence[str]) -> str:
    some = ", ".join(maps[-5:])
    return f"The model has no end point or layer {name!r}{nearest(name, maps)}; it has for instance {some}."


def check(network: Network, points: Sequence[str]) -> None:
    """ValueError for a point without maps, before a model is built of weights; names alone can be told here."""
    if network.model is not None or network.loaded is None:
        return
    variant = dataclasses.replace(network.loaded.variant, aux_logits=False)
    layers = keras_layers.layers(variant.table())
    units = [name for layer in layers.values() if layer.startswith("conv2d_") for name in keras_layers.unit(layer)]
    heads = [*keras_layers.HEADS, "avg_pool", keras_layers.AUX_POOL, "AuxLogits", "PreLogits", "Logits", "Predictions"]
    maps = [name for name in (*units, *layers.values(), *END_POINTS) if name not in heads]
    for name in points:
        if name in heads:
            raise ValueError(f"{name} is no map; expected maps, [n, height, width, channels], as Mixed_6e.")
        if name.removesuffix("_border") not in maps:
            raise ValueError(_unknown(name, maps))


def _each(function: Callable[[Any], Any], tensors: Any) -> Any:
    return [function(t) for t in tensors] if isinstance(tensors, list | tuple) else function(tensors)


def _unactivated(layer: Any, inputs: Any, tensor: Any) -> Any:
    """The output of a layer that has an activation of its own (`Conv2D(activation="relu")`) without it."""
    import keras

    linear = keras.activations.linear
    if getattr(layer, "activation", linear) in (linear, None):
        return tensor

    def without(x: Any) -> Any:
        kept, layer.activation = layer.activation, linear
        try:
            return layer(x)
        finally:
            layer.activation = kept

    return keras.layers.Lambda(without, output_shape=tuple(tensor.shape[1:]))(inputs)


# --- Opening ---------------------------------------------------------------------------

_OPENED: weakref.WeakKeyDictionary[Any, Points] = weakref.WeakKeyDictionary()


def open_model(model: Any) -> Points:
    """The points of a Keras model: functional or sequential, compiled or not, with models inside it or not.

    Names are the layers' own; those inside a nested model are "model/layer", and also
    "layer" where no other layer is called so. An InceptionV3 (ours, reloaded, or
    `keras.applications`'), alone or nested, has slim's end points too. ValueError for
    subclassed models, for models with several inputs, and for images whose channels come first.
    """
    if model not in _OPENED:
        _OPENED[model] = _opened(model)
    return _OPENED[model]


def _opened(model: Any) -> Points:
    import keras

    if not getattr(model, "inputs", None):
        raise ValueError(
            f"The model {getattr(model, 'name', model)!r} shows no graph of its layers (subclassed, or not built); "
            "expected a functional or a built sequential Keras model."
        )
    shape = tuple(model.inputs[0].shape)
    if len(model.inputs) != 1 or len(shape) != 4:
        shapes = ", ".join(str(tuple(x.shape)) for x in model.inputs)
        raise ValueError(f"The model {model.name} takes {shapes}; expected one batch of images.")
    if keras.config.image_data_format() == "channels_first":
        raise ValueError('Keras is set to "channels_first"; pictures need keras.config.set_image_data_format('
                         '"channels_last") before the model is built.')  # fmt: skip
    try:
        points = _traced(model, keras.Input((None, None, shape[3]), name="image"))
    except (ValueError, TypeError):  # a layer that must know its size, such as a patch embedding
        points = _traced(model, keras.Input(shape[1:], name="image"))
    points.size = shape[1], shape[2]
    points.named |= {name: t for name, t in _bare(points.named).items() if name not in points.named}
    return points


def _bare(named: dict[str, Any]) -> dict[str, Any]:
    """{the last part of a nested name: tensor}, where it is the only one."""
    last = [name.rpartition("/")[2] for name in named]
    return {name: tensor for name, tensor in zip(last, named.values(), strict=True) if last.count(name) == 1}


def _traced(model: Any, image: Any) -> Points:
    points = Points(image)
    outputs = _run(model, image, "", points)
    given = getattr(model, "output", None)
    # Beside an auxiliary head. Keras lists a dictionary's outputs by their keys' order.
    if isinstance(given, dict) and "predictions" in given:
        main = next(i for i, tensor in enumerate(model.outputs) if tensor is given["predictions"])
        outputs = [outputs[main]]
    points.outputs = outputs
    return points


def _run(model: Any, image: Any, prefix: str, points: Points) -> list[Any]:
    """Calls a model's layers one by one on `image`; remembers what each computes. The model's outputs."""
    import keras

    result: list[Any] = []
    end = keras.layers.Identity()

    def standing_in(layer: Any) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if layer is end:
                result.extend(keras.tree.flatten(arguments[0]))
                return layer(*arguments, **options)
            if _opens(layer) and len(arguments) == 1 and hasattr(arguments[0], "shape"):
                outputs, *_ = _run(layer, arguments[0], f"{prefix}{layer.name}/", points)
            else:
                outputs = layer(*arguments, **options)
            points.remember(prefix + layer.name, layer, arguments[0] if arguments else None, outputs)
            return outputs

        return call

    # A model of its own: cloning a compiled one would compile the clone, with all its losses.
    ended = keras.Model(model.inputs[0], end(list(model.outputs)))
    keras.models.clone_model(ended, input_tensors=image, clone_function=standing_in)
    _slim_names(model, prefix, points)
    return result


def _opens(layer: Any) -> bool:
    """Whether a layer is a model of one input and one output whose layers can be called one by one."""
    import keras

    return isinstance(layer, keras.Model) and all(
        len(getattr(layer, side, None) or ()) == 1 for side in ("inputs", "outputs")
    )


def _slim_names(model: Any, prefix: str, points: Points) -> None:
    from inception.builders.keras import end_points

    try:
        rows = end_points(model)
    except ValueError:
        return
    layers = {id(layer.output): layer.name for layer in model.layers if hasattr(layer, "output")}
    for name, tensor in rows.items():
        layer = layers.get(id(tensor))
        if layer is not None and prefix + layer in points.named:
            points.named.setdefault(prefix + name, points.named[prefix + layer])


def values(points: Points, tensors: dict[str, Any], batch: np.ndarray) -> dict[str, np.ndarray]:
    """What the opened model computes for a batch of inputs: {name: array}, in inference."""
    import keras

    outputs = keras.Model(points.image, tensors)(keras.ops.convert_to_tensor(batch), training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in outputs.items()}


def default_point(points: Points, sides: tuple[int, int]) -> str:
    """The last end point of an InceptionV3, or the last maps of other models that are no pool's, wide enough to show
    a place in pictures of that height and width (`last_wide`).
    """
    import keras

    ends = [name for name in points.maps if name.rpartition("/")[2] in END_POINTS]
    names = ends or [n for n in points.maps if "Pool" not in type(points._made[id(points.named[n])][1]).__name__]
    if not names:
        raise ValueError("The model has no maps, [n, height, width, channels], to look at.")
    model = keras.Model(points.image, {name: points.named[name] for name in names})
    shapes = model.compute_output_shape((1, *sides, 3))
    return last_wide({name: shapes[name][1:] for name in names})


def last_wide(shapes: Mapping[str, Sequence[int | None]]) -> str:
    """The last of {name: (height, width, channels)} in which a place can be told; the last of all where none can."""
    wide = [name for name, (height, width, *_) in shapes.items() if min(height or 0, width or 0) >= _WIDE]
    return (wide or list(shapes))[-1]
