"""Two sets of weights, each through its own builder, compared end point by end point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from inception import images
from inception.variants import Variant
from inception.weights import CheckpointError, Weights

Builder = Literal["keras", "slim"]


@dataclass(frozen=True)
class Difference:
    """One end point of two networks: how far `b` is from `a`.

    absolute: the largest difference of two numbers; relative: the same over the largest
    number of `a`; cosine: of the two arrays as vectors.
    """

    end_point: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    cosine: float


def own_builder(weights: Weights) -> Builder:
    """The builder that a file's format comes from: slim's for TensorFlow checkpoints, Keras's for the rest."""
    return "slim" if "slim" in weights.source.format else "keras"


def end_points(weights: Weights, pixels: np.ndarray, builder: Builder) -> dict[str, np.ndarray]:
    """Every end point of a picture (0..255, [h, w, 3]) under slim's names, without batch axis, pooled ones as vectors."""
    batch = images.preprocess_input(pixels, variant=weights.variant)[None]
    run = _slim_end_points if builder == "slim" else _keras_end_points
    values = run(weights, batch)
    return {name: value[0].reshape(-1) if _is_vector(value) else value[0] for name, value in values.items()}


def _is_vector(value: np.ndarray) -> bool:
    return value.ndim == 2 or value.shape[1:3] == (1, 1)


def _keras_end_points(weights: Weights, batch: np.ndarray) -> dict[str, np.ndarray]:
    import keras

    from inception.builders.keras import end_points, model_of

    model = model_of(weights, input_shape=batch.shape[1:], pooling="avg")
    values = keras.Model(model.input, end_points(model))(batch, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in values.items()}


def _slim_end_points(weights: Weights, batch: np.ndarray) -> dict[str, np.ndarray]:
    from inception.builders.slim import evaluate, inception_v3_of

    return evaluate(lambda inputs: inception_v3_of(weights.variant, inputs), weights.arrays, batch)


def compare(
    a: Weights,
    b: Weights,
    pixels: np.ndarray | None = None,
    builders: tuple[Builder, Builder] | None = None,
) -> list[Difference]:
    """The same picture through both: a row for each end point that both have, in the network's order.

    pixels: 0..255, [h, w, 3]; `images.test_picture` where none is given. builders: for a
    and b; each file's own where none are given. Raises `CheckpointError` when the
    classifiers do not list the same classes.
    """
    if pixels is None:
        pixels = images.test_picture(a.variant.image_size)
    first, second = builders or (own_builder(a), own_builder(b))
    left, right = end_points(a, pixels, first), end_points(b, pixels, second)
    return list(_differences(_foreground(left, a.variant, b.variant), _foreground(right, b.variant, a.variant)))


_CLASSIFIERS = ("AuxLogits", "Logits", "Predictions")


def _foreground(values: dict[str, np.ndarray], own: Variant, other: Variant) -> dict[str, np.ndarray]:
    """Without the background class, where the other network has none."""
    if not own.background or other.background or own.num_classes != other.num_classes + 1:
        return values
    return {name: value[1:] if name in _CLASSIFIERS else value for name, value in values.items()}


def _differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> Iterator[Difference]:
    for name, left in a.items():
        if name not in b:
            continue
        right = b[name]
        if left.shape != right.shape:
            raise CheckpointError(
                f"{name} is {left.shape} in one network and {right.shape} in the other; "
                "verify compares networks with the same classes and width."
            )
        yield _difference(name, left.astype(np.float64), right.astype(np.float64))


def _difference(name: str, left: np.ndarray, right: np.ndarray) -> Difference:
    absolute = float(np.abs(left - right).max())
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    cosine = float(np.vdot(left, right)) / norms if norms else float(not absolute)
    largest = float(np.abs(left).max())
    relative = absolute / largest if largest else (np.inf if absolute else 0.0)
    return Difference(name, left.shape, absolute, float(relative), cosine)
