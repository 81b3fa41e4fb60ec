"""A network without its classifier, its blocks by name, and the model with a new classifier on it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inception.architecture import END_POINTS, Conv, walk
from inception.arguments import nearest
from inception.inference import plan as plans
from inception.networks import Network, classifier, network_of
from inception.pictures import Picture, Preprocess
from inception.variants import Variant
from inception.weights import Weights
from inception.weights.dialects import keras_layers

if TYPE_CHECKING:
    import keras

BatchNorm = Literal["frozen", "train"]


@dataclass(frozen=True, eq=False)
class Trunk:
    """A network that ends in features, for a classifier to be put on.

    Attributes:
        base: pictures [n, height, width, 3] to features [n, channels].
        blocks: {block: the names of its layers}, from the picture upwards.
        network: what to give `features.extract`, with `end_point` as the end point; it brings pictures in.
        weights: InceptionV3's; None for another Keras model.
    """

    base: keras.Model
    blocks: dict[str, tuple[str, ...]]
    network: Network
    end_point: str
    weights: Weights | None
    digest: str

    @property
    def whole(self) -> bool:
        """Whether it is a whole InceptionV3, which every weight format can hold."""
        return self.weights is not None and self.end_point == "PreLogits"

    def from_block(self, block: str) -> frozenset[str]:
        """The layers of a block and of everything above it. ValueError for an unknown block."""
        check_block(block, self.blocks)
        above = list(self.blocks)[list(self.blocks).index(block) :]
        return frozenset(layer for name in above for layer in self.blocks[name])


def check_block(block: str, blocks: Iterable[str]) -> None:
    """ValueError for a block that there is not."""
    known = list(blocks)
    if block not in known:
        shown = ", ".join(known if len(known) <= 24 else [*known[:2], "...", *known[-12:]])
        raise ValueError(f"There is no block {block!r} to unfreeze{nearest(block, known)}; expected one of {shown}.")


def check_end_point(end_point: str | None) -> None:
    """ValueError for a name that is no row of InceptionV3."""
    if end_point not in (None, "PreLogits", *END_POINTS):
        near = nearest(end_point, END_POINTS)
        raise ValueError(f"Unknown end_point {end_point!r}{near}; expected one of {', '.join(END_POINTS)}.")


def last_row(end_point: str | None) -> str:
    """The row that a network cut at an end point ends in."""
    return "Mixed_7c" if end_point in (None, "PreLogits") else str(end_point)


def trunk_of(
    weights: Any,
    size: int | None = None,
    picture: str | Picture | None = None,
    end_point: str | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
) -> Trunk:
    """The network to put a classifier on: InceptionV3 up to `end_point`, or any Keras model.

    Args:
        weights: whatever `networks.network_of` takes, with its arguments. A Keras InceptionV3 counts as its weights.

    Raises:
        ValueError: For arguments that do not fit, and for weights that are not finite.
    """
    network = network_of(weights, picture=picture, size=size, preprocess=preprocess)
    if network.weights is None:
        if end_point is not None:
            raise ValueError("end_point is for InceptionV3; give the Keras model cut where it is to end.")
        return _other(network)
    if preprocess is not None:
        raise ValueError("preprocess is for other models; InceptionV3's pixels are scaled as its weights need it.")
    check_end_point(end_point)
    return _of_weights(network, end_point or "PreLogits")


def _of_weights(network: Network, end_point: str) -> Trunk:
    from inception.builders.keras import model_of

    weights = network.inception
    weights = weights.step("drop-extra") if weights.extra else weights
    weights = weights.step("drop-top") if weights.variant.num_classes else weights
    plans.plan(weights, (end_point,))  # refuses what is not finite
    last = last_row(end_point)
    shape = (*network.picture.sides, weights.variant.channels)
    base = model_of(weights, input_shape=shape, pooling="avg", final_endpoint=last)
    return Trunk(
        base,
        inception_blocks(weights.variant, last),
        dataclasses.replace(network, loaded=weights, model=None, labels=None),
        end_point,
        weights,
        _digest(list(weights.arrays.values())),
    )


def inception_blocks(variant: Variant, last: str = "Mixed_7c") -> dict[str, tuple[str, ...]]:
    """{row of the table: its layers that have variables, batch norms too}, in order."""
    rows = dataclasses.replace(variant, num_classes=0, aux_logits=False).table().up_to(last)
    layers = keras_layers.layers(rows)
    blocks: dict[str, tuple[str, ...]] = {}
    for place in walk(rows):
        if isinstance(place.node, Conv):
            layer = layers[place.path]
            row = place.path.split("/")[0]
            blocks[row] = (*blocks.get(row, ()), layer, keras_layers.unit(layer)[0])
    return blocks


def _other(network: Network) -> Trunk:
    import keras

    model: Any = network.model
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(f"{model.name} is no model of one input and one output; build it with keras.Model(...).")
    shape, made = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    if any(own not in (None, side) for own, side in zip(shape[1:3], network.picture.sides, strict=True)):
        raise ValueError(f"{model.name} takes {shape}; it cannot get pictures of {network.picture.sides}.")
    layers = [layer for layer in model.layers if layer.weights]
    if len(made) == 4:
        pooled = keras.layers.GlobalAveragePooling2D(name="pooled_features")(model.outputs[0])
        model = keras.Model(model.inputs[0], pooled, name=model.name)
    elif len(made) != 2:
        raise ValueError(f"{model.name} makes {made}; expected maps [n, h, w, c] or features [n, c].")
    if model.layers[-1].output is not model.outputs[0]:  # so that the features have a layer's name
        named = keras.layers.Identity(name="features")(model.outputs[0])
        model = keras.Model(model.inputs[0], named, name=model.name)
    blocks: dict[str, tuple[str, ...]] = {layer.name: (layer.name,) for layer in layers}
    network = dataclasses.replace(network, model=model)
    return Trunk(model, blocks, network, model.layers[-1].name, None, _digest(model.get_weights()))


def _digest(arrays: Sequence[np.ndarray]) -> str:
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(np.ascontiguousarray(array, np.float32).tobytes())
    return whole.hexdigest()


# --- Augmentation ----------------------------------------------------------------------

AUGMENTATIONS = ("flip", "shift", "rotate", "zoom")


def augmentation(wanted: Sequence[Any], seed: int, network: Network) -> list[Any]:
    """New Keras layers, active in training alone: names of `AUGMENTATIONS`, or layers of one's own.

    Layers of one's own see pixels of 0..255, whatever the network takes. ValueError for those
    that cannot be made again, mix pictures, or expect other values.
    """
    import keras
    from keras import layers

    makers = {
        "flip": lambda name, seed: layers.RandomFlip("horizontal", seed=seed, name=name),
        "shift": lambda name, seed: layers.RandomTranslation(0.1, 0.1, "nearest", seed=seed, name=name),
        "rotate": lambda name, seed: layers.RandomRotation(0.03, "nearest", seed=seed, name=name),
        "zoom": lambda name, seed: layers.RandomZoom(0.1, fill_mode="nearest", seed=seed, name=name),
    }
    own = [each for each in wanted if isinstance(each, keras.layers.Layer)]
    shape = (*network.picture.sides, 3)
    unknown = [each for each in wanted if each not in own and each not in makers]
    if unknown:
        raise ValueError(f"Unknown augmentation {unknown[0]!r}; expected some of {', '.join(makers)}, or Keras layers.")
    scaling = _scaling(network) if own else {}
    return [
        makers[each](f"augment_{each}", seed + 1 + i)
        if each in makers
        else on_pixels()(_again(each, seed + 1 + i, shape), shape, **scaling)
        for i, each in enumerate(wanted)
    ]


def _again(layer: Any, seed: int, shape: tuple[int, ...]) -> Any:
    """A new layer as a user's; chance without a seed gets one. Mixed pictures would keep the labels of one."""
    import keras

    if mixed := [kind(each) for each in below(layer) if kind(each) in ("MixUp", "CutMix")]:
        raise ValueError(f"The augmentation {mixed[0]} mixes pictures of several classes; leave it out.")
    for each in below(layer):
        if tuple(getattr(each, "value_range", (0, 255))) != (0, 255):
            raise ValueError(
                f"The augmentation {each.name} has the value_range {tuple(each.value_range)}; layers of one's own see "
                "pixels of 0 to 255 here, which is its default."
            )
    try:
        again = keras.models.clone_model(keras.Sequential([keras.Input(shape), layer]), recursive=True).layers[0]
    except (NotImplementedError, TypeError) as error:
        raise ValueError(f"The augmentation {layer.name} cannot be made anew; give it get_config: {error}") from error
    for each, number in zip(below(again), itertools.count(seed, 1000), strict=False):
        if getattr(each, "seed", 0) is None:
            for variable in each.variables:
                if variable.name == "seed_generator_state":
                    variable.assign([number, 0])
    return again


def _scaling(network: Network) -> dict[str, Any]:
    """How the network's values come from pixels: {low, span: of each channel, backwards: whether they are BGR}.

    ValueError for a `preprocess` that does not scale and shift channels.
    """
    black, white, colour = (
        network.input(np.full((*network.picture.sides, 3), value, np.uint8)) for value in (0, 255, (10, 100, 200))
    )
    low, span = black[0, 0].astype(np.float64), white[0, 0].astype(np.float64) - black[0, 0]
    for order in (1, -1):
        expected = low + span * np.array((10, 100, 200))[::order] / 255
        if np.all(span > 0) and np.allclose(colour, expected, rtol=0, atol=1e-4 * np.max(span)):
            return {"low": low.tolist(), "span": span.tolist(), "backwards": order < 0}
    raise ValueError(
        "preprocess does more than scale the channels of a picture, so layers of one's own cannot see its pixels; "
        f"use augmentations by name: {', '.join(AUGMENTATIONS)}."
    )


@functools.cache
def on_pixels() -> type:
    """The Keras layer that shows pixels to a layer of one's own; it gives back its very input in inference."""
    import keras

    class OnPixels(keras.layers.Layer):  # type: ignore[misc]
        def __init__(
            self, own: Any, shape: tuple[int, ...], low: list[float], span: list[float], backwards: bool
        ) -> None:
            super().__init__(name=f"augment_{own.name}")
            self.own, self.low, self.span, self.backwards = own, low, span, backwards
            if (made := own(keras.Input(shape), training=True).shape[1:]) != shape:
                raise ValueError(f"The augmentation {own.name} makes {made} of {shape}; expected the same shape.")

        def call(self, x: Any, training: bool = False) -> Any:
            if not training:
                return x
            low, span = (keras.ops.convert_to_tensor(each, x.dtype) for each in (self.low, self.span))
            changed = self._turned(self.own(self._turned((x - low) / span * 255), training=True))
            return changed / 255 * span + low

        def _turned(self, x: Any) -> Any:
            return keras.ops.flip(x, -1) if self.backwards else x

    return OnPixels


# --- The model with a classifier -------------------------------------------------------


def with_classifier(trunk: Trunk, classes: int, augment: Sequence[Any], dropout: float, seed: int) -> keras.Model:
    """A new model: augmentation, the network's own layers, dropout, and a softmax over the classes; all flat.

    The layers are copies under the same names, so the network stays as it is.
    """
    import keras

    first = {op.name for op in trunk.base.operations if _reads(op, trunk.base.inputs[0])}
    augmented: list[Any] = []

    def call(layer: Any, *arguments: Any, **keywords: Any) -> Any:
        if augment and layer.name in first:
            if not augmented:
                x = arguments[0]
                for each in augment:
                    x = each(x, training=False)  # `fit` says True; Keras's own default, for `model(x)`, is True as well
                augmented.append(x)
            arguments = (augmented[0], *arguments[1:])
        return layer(*arguments, **keywords)

    base = keras.models.clone_model(trunk.base, call_function=call)
    for layer in trunk.base.layers:
        if layer.weights:
            base.get_layer(layer.name).set_weights(layer.get_weights())
    features = base.outputs[0]
    if dropout:
        features = keras.layers.Dropout(dropout, seed=seed, name="dropout")(features)
    return keras.Model(base.inputs[0], classifier(classes, seed)(features), name=trunk.base.name)


def _reads(operation: Any, tensor: Any) -> bool:
    import keras

    if isinstance(operation, keras.layers.InputLayer):
        return False
    return any(each is tensor for each in keras.tree.flatten(operation.input))


def freeze(model: keras.Model, unfrozen: frozenset[str], batch_norm: BatchNorm) -> None:
    """Only the classifier and the `unfrozen` layers train; batch norm in them as `batch_norm` says.

    A frozen batch norm is one of inference: its statistics, and its beta too, stay as they are.
    """
    for layer in model.layers:
        layer.trainable = layer.name in unfrozen or layer.name == keras_layers.LOGITS
        for each in below(layer):
            if kind(each) == "BatchNormalization":
                each.trainable = layer.trainable and batch_norm == "train"


def in_bfloat16(model: keras.Model) -> None:
    """Lets a model's layers compute in bfloat16, with variables in float32; the classifier stays in float32."""
    for layer in model.layers:
        if layer.name != keras_layers.LOGITS:
            for each in below(layer):
                each.dtype_policy = "mixed_bfloat16"


def below(layer: Any) -> Iterator[Any]:
    """A layer, and those of the model that it is."""
    yield layer
    for each in getattr(layer, "layers", []):
        yield from below(each)


def kind(layer: Any) -> str:
    return type(layer).__name__


def in_training(model: keras.Model) -> keras.Model:
    """The same layers, of which batch norm, called for inference, does what it does in training.

    Dropout, augmentation, and whatever else is of chance sleep.
    """
    import keras

    class InTraining(keras.layers.Layer):  # type: ignore[misc]
        def __init__(self, own: Any) -> None:
            super().__init__(name=own.name)
            self.own = own

        def call(self, x: Any, mask: Any = None) -> Any:
            return self.own(x, training=True, mask=mask)

    def awake(layer: Any) -> Any:
        return InTraining(layer) if isinstance(layer, keras.layers.BatchNormalization) else layer

    return keras.models.clone_model(model, clone_function=awake, recursive=True)
