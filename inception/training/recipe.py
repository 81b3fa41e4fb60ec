"""The paper's training recipe as data, and `compile`, which gives it to a Keras model.

    model = inception.InceptionV3(weights=None, classes=1000, aux_logits=True, dropout=PAPER.dropout)
    compile(model, PAPER)
    model.fit(images, targets(model, labels), batch_size=PAPER.batch_size, epochs=PAPER.epochs)

Sources: sections 7 and 8 of the paper (arXiv 1512.00567); what it leaves out (auxiliary
weight, weight decay, averages, batch norm) is from the code that was published with it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from inception.arguments import count
from inception.training.network import below, kind
from inception.weights.dialects import keras_layers

if TYPE_CHECKING:
    import keras

_KEEP_LOGITS = {"Identity", "Reshape", "Flatten", "Squeeze", "Permute", "Dropout", "AveragePooling2D",
                "GlobalAveragePooling2D"}  # layers and `keras.ops`, after which logits are logits  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """One way to train InceptionV3 from scratch.

    Attributes:
        images: of the training set.
        batch_size: of one step, over all devices.
        epochs: how long the training is.
        learning_rate: at the start.
        rate_decay: what it is multiplied by every `epochs_per_decay` epochs, in stairs.
        epochs_per_decay: between two such falls.
        rms_decay: of RMSProp, whose mean of squares starts at 1, as in TensorFlow 1 (see `optimizer`).
        momentum: of RMSProp.
        epsilon: of RMSProp; the 1 stands inside the square root.
        label_smoothing: the part of each target that is spread evenly over all classes.
        aux_weight: of the auxiliary head's loss, the classifier's being 1.
        weight_decay: each kernel adds weight_decay * sum(kernel ** 2) / 2 to the loss (slim's `l2_regularizer`).
        clip_norm: gradients are scaled down together to at most this norm.
        moving_average: of the trained variables after every step; `fit` leaves the averages in the model when it ends.
            None for none.
        batch_norm_momentum: how much of its statistics batch norm keeps at each step.
        dropout: for the builder: `InceptionV3(dropout=recipe.dropout)`; slim's keep probability of 0.8.
    """

    images: int = 1_281_167
    batch_size: int = 32
    epochs: int = 100
    learning_rate: float = 0.045
    rate_decay: float = 0.94
    epochs_per_decay: float = 2.0
    rms_decay: float = 0.9
    momentum: float = 0.9
    epsilon: float = 1.0
    label_smoothing: float = 0.1
    aux_weight: float = 0.4
    weight_decay: float = 4e-5
    clip_norm: float = 2.0
    moving_average: float | None = 0.9999
    batch_norm_momentum: float = 0.9997
    dropout: float = 0.2

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every image is seen once."""
        return math.ceil(self.images / self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.steps_per_epoch * self.epochs

    @property
    def steps_per_decay(self) -> int:
        """Steps between two falls of the learning rate."""
        return max(1, round(self.epochs_per_decay * self.steps_per_epoch))

    def rate(self, step: int) -> float:
        """The learning rate of a step, the first being 0."""
        return self.learning_rate * self.rate_decay ** (step // self.steps_per_decay)


PAPER = Recipe()


def scaled(recipe: Recipe, images: int, epochs: int, batch_size: int | None = None) -> Recipe:
    """The recipe for another set and length: the same shape of training, in fewer steps.

    The learning rate falls as far over the whole training as it did. The two averages keep
    their length, but not beyond a tenth of the training (half-life), for an average longer
    than the training would still hold the random start. ValueError for no images or epochs.
    """
    if images < 1 or epochs < 1:
        raise ValueError(f"images is {images} and epochs is {epochs}; expected at least 1 of each.")
    shorter = dataclasses.replace(
        recipe,
        images=images,
        epochs=epochs,
        batch_size=recipe.batch_size if batch_size is None else count("batch_size", batch_size),
        epochs_per_decay=epochs * recipe.epochs_per_decay / recipe.epochs,
    )
    wanted, stairs = ((each.steps - 1) // each.steps_per_decay for each in (recipe, shorter))
    if stairs:  # a fall takes a step at least: fewer falls are deeper
        shorter = dataclasses.replace(shorter, rate_decay=recipe.rate_decay ** (wanted / stairs))
    longest, average = longest_memory(shorter.steps), recipe.moving_average
    return dataclasses.replace(
        shorter,
        moving_average=None if average is None else min(average, longest),
        batch_norm_momentum=min(recipe.batch_norm_momentum, longest),
    )


def longest_memory(steps: int) -> float:
    """The momentum of a moving average that forgets half within a tenth of a training; 0.5 for very few steps."""
    return max(0.5, 0.5 ** (10 / max(steps, 1)))


def compile(
    model: keras.Model, recipe: Recipe = PAPER, *, metrics: tuple[str, ...] = ("accuracy",), jit_compile: bool = False
) -> None:
    """Compiles a Keras model with the recipe; then plain `fit` trains it, and its history shows each head's loss.

    Args:
        model: an InceptionV3 of the Keras builder with or without its auxiliary head, or any model that ends in
            classifiers, nested and Sequential ones too. Targets are one-hot (`targets` makes them). Kernels get their
            weight decay and batch norm its momentum here. Compile again after changing what is trainable. In the scope
            of a `tf.distribute` strategy the losses of several devices are those of one with the same global batch, but
            for two things that each device does with its own part of it, as in the paper: batch norm takes its
            statistics (unless its layers have `synchronized = True`), and gradients longer than `clip_norm` are clipped
            before they are averaged.

    Raises:
        ValueError: For a model without a classifier, or whose end may be logits or probabilities.
    """
    import keras

    from inception.builders.keras import refuse_keras_2

    refuse_keras_2(model, f"The model {model.name}")
    heads = _heads(model)
    losses = {head: _loss(model.name, end, recipe) for head, end in heads.items()}
    for layer in below(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = recipe.batch_norm_momentum
        elif isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
            _decay(layer, recipe.weight_decay)
    several = len(heads) > 1
    model.compile(
        optimizer(recipe, model.trainable_variables),
        loss=losses if several else next(iter(losses.values())),
        loss_weights=dict.fromkeys(heads, 1.0) | {keras_layers.AUX_LOGITS: recipe.aux_weight} if several else None,
        metrics={head: list(metrics) for head in heads} if several else list(metrics),
        jit_compile=jit_compile,
    )


def optimizer(recipe: Recipe, variables: list[Any]) -> keras.optimizers.Optimizer:
    """Keras's RMSprop, built for `variables`, with the numbers of TensorFlow 1's.

    Per step, with ms starting at 1 and mom at 0:

        ms  = rms_decay * ms + (1 - rms_decay) * gradient ** 2
        mom = momentum * mom + rate * gradient / sqrt(ms + epsilon)
        variable = variable - mom

    Keras 3 computes the same, but starts ms at 0: with an epsilon of 1, its first steps are
    up to 1.41 times as long. So the slots are set to 1 here. (Keras 2 had epsilon outside the root.)
    """
    import keras

    rmsprop = keras.optimizers.RMSprop(
        keras.optimizers.schedules.ExponentialDecay(
            recipe.learning_rate, recipe.steps_per_decay, recipe.rate_decay, staircase=True
        ),
        rho=recipe.rms_decay,
        momentum=recipe.momentum,
        epsilon=recipe.epsilon,
        global_clipnorm=recipe.clip_norm / _devices(),  # Keras clips each device's part of the sum
        use_ema=recipe.moving_average is not None,
        ema_momentum=recipe.moving_average or 0.0,
    )
    rmsprop.build(variables)
    for slot in rmsprop.variables:
        if slot.path.endswith("velocity"):
            slot.assign(np.ones(slot.shape, np.float32))
    return rmsprop


def _devices() -> int:
    """How many devices share a batch in the `tf.distribute` scope that is open here."""
    import keras

    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def targets(model: keras.Model, labels: Any) -> Any:
    """What `fit` takes as y: class numbers [n] as one-hot rows [n, classes], for each head of the model.

    An array for a model of one output, {head: array} for one with the auxiliary head.

    Raises:
        ValueError: For class numbers that the model does not have.
    """
    heads = _heads(model)
    labels = np.asarray(labels)
    classes = int(next(iter(heads.values())).shape[-1])
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not np.isin(labels, np.arange(classes)).all():
        raise ValueError(
            f"The labels are {labels.dtype} of shape {labels.shape}; expected one class number a picture, "
            f"0 to {classes - 1}."
        )
    rows = np.eye(classes, dtype=np.float32)[labels]
    return rows if len(heads) == 1 else dict.fromkeys(heads, rows)


def _heads(model: keras.Model) -> dict[str, Any]:
    """{output: its tensor} of a model that ends in classifiers."""
    import keras

    if isinstance(model, keras.Sequential) and not model.built:
        raise ValueError(f"The model {model.name} has no layer yet that knows its shape; start it with keras.Input.")
    ends = model.outputs if isinstance(model, keras.Sequential) else model.output
    if not isinstance(ends, dict):
        named = [_maker(end)[0].name for end in model.outputs] if len(model.outputs) == 1 else model.output_names
        ends = dict(zip(named, model.outputs, strict=True)) if len(set(named)) == len(named) else {}
    strange = [name for name, end in ends.items() if len(end.shape) != 2]
    if strange or not ends:
        raise ValueError(
            f"The model {model.name} ends in {', '.join(strange) or 'outputs of one name'}, which is no classifier; "
            "build it with include_top=True."
        )
    return dict(ends)


def _loss(model: str, end: Any, recipe: Recipe) -> Any:
    """The loss of a head. ValueError where nobody can tell whether it gives logits or probabilities."""
    import keras

    tensor = end
    while (logits := _are_logits(tensor)) is None:
        operation, inputs = _maker(tensor)
        if hasattr(operation, "outputs") and hasattr(operation, "layers"):
            tensor = operation.outputs[tensor._keras_history.tensor_index]
        elif kind(operation) in _KEEP_LOGITS or kind(operation) == "Activation":
            tensor = inputs[0]
        else:
            raise ValueError(
                f"The model {model} ends in the layer {operation.name} ({kind(operation)}), which may give logits or "
                'probabilities; put keras.layers.Activation("softmax") after it if they are logits.'
            )
    return keras.losses.CategoricalCrossentropy(from_logits=logits, label_smoothing=recipe.label_smoothing)


def _are_logits(tensor: Any) -> bool | None:
    """Whether they are, where the layer that makes them says it."""
    import keras

    layer, _ = _maker(tensor)
    activation = getattr(layer, "activation", None)
    if kind(layer) == "Softmax" or activation not in (None, keras.activations.linear):
        return False
    return True if activation is not None and kind(layer) != "Activation" else None


def _maker(tensor: Any) -> tuple[Any, Any]:
    """The layer (or `keras.ops` operation) that makes a tensor, and what it makes it of."""
    history = tensor._keras_history
    return history.operation, history.operation._inbound_nodes[history.node_index].input_tensors


def _decay(layer: Any, weight_decay: float) -> None:
    """Keras reads the penalty from the variable; the layer's own word for it goes into saved files."""
    import keras

    penalty = keras.regularizers.L2(weight_decay / 2) if weight_decay else None
    layer.kernel_regularizer = penalty
    layer.kernel.regularizer = penalty
