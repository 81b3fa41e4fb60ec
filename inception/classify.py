"""Pictures in, class scores out: by a weight file, by what `inception finetune` made, by any Keras model."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inception.brief import one_line
from inception.inference import Inference, Precision, compile_inference, int8
from inception.labels import Label
from inception.networks import Network, network_of, scores_of
from inception.pictures import ImageLike, Picture, Preprocess
from inception.weights import CheckpointError

if TYPE_CHECKING:
    import keras

_BATCH = 16
_PIECE = 4  # pictures that a Keras model gets at once


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that gives class probabilities, ready to run.

    Attributes:
        model: inputs [n, height, width, 3] to probabilities [n, classes]: weights compiled, or the Keras model given.
        labels: its classes.
        network: what it was made of, with the way of a picture to its input.

    Raises:
        ValueError: For weights that are not finite.
    """

    model: keras.Model | Inference
    labels: tuple[Label, ...]
    network: Network

    __repr__ = one_line

    def __post_init__(self) -> None:
        if not isinstance(self.model, Inference):  # which are checked
            from inception.builders.keras import check_finite

            check_finite(self.model)

    def scores(self, inputs: np.ndarray) -> np.ndarray:
        """Prepared pictures [n, height, width, 3] to probabilities [n, classes], in inference mode."""
        if isinstance(self.model, Inference):
            return self.model.prepared(inputs)["Predictions"]
        # Called eagerly, a Keras model keeps every map until it is done: 120 MB a picture.
        pieces = (inputs[start : start + _PIECE] for start in range(0, len(inputs), _PIECE))
        return np.concatenate([np.asarray(self.model(piece, training=False)) for piece in pieces])


def classify(
    pictures: Sequence[ImageLike],
    weights: Any,
    picture: str | Picture | None = None,
    precision: Precision = "float32",
    least_agreement: float = int8.ENOUGH,
) -> np.ndarray:
    """The classifier's probabilities for each picture (a file, or uint8 [h, w, 3]): [pictures, classes].

    Args:
        weights: whatever `networks.network_of` takes.
        picture: another way of a picture than the network's own.
        precision, least_agreement: see `classifier_of`; int8 is calibrated on these pictures, ten at least.

    Raises:
        CheckpointError: For weights without a classifier.
        ValueError: For a picture that cannot be read, and for scores that are not finite.
    """
    more: Any = {"precision": precision, "calibration": pictures, "least_agreement": least_agreement}
    return classify_with(classifier_of(weights, picture=picture, **more), pictures)


def classify_with(classifier: Classifier, pictures: Sequence[ImageLike]) -> np.ndarray:
    """What `classify` returns, by a classifier that is ready."""
    inputs = [classifier.network.input(picture) for picture in pictures]
    starts = range(0, len(inputs), _BATCH)
    batches = (classifier.scores(np.stack(inputs[i : i + _BATCH])) for i in starts)
    return np.concatenate([finite(scores, pictures[i:]) for i, scores in zip(starts, batches, strict=True)])


def finite(scores: np.ndarray, pictures: Sequence[ImageLike]) -> np.ndarray:
    """The scores as they are. ValueError that names the first of the pictures whose scores are not all finite."""
    wrong = np.flatnonzero(~np.isfinite(scores).all(-1))
    if wrong.size:
        picture = pictures[wrong[0]]
        name = "an array" if isinstance(picture, np.ndarray) else os.fspath(picture)
        raise ValueError(
            f"The network gives scores that are not finite (NaN or infinity) for the picture {name}, so they say "
            "nothing; check its weights, and that it takes the values it is given."
        )
    return scores


def classifier_of(
    source: Any,
    *,
    names_file: str | os.PathLike[str] | None = None,
    picture: str | Picture | None = None,
    size: int | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
    precision: Precision = "float32",
    calibration: Sequence[ImageLike] = (),
    least_agreement: float = int8.ENOUGH,
) -> Classifier:
    """The classifier in whatever `networks.network_of` takes, with its arguments.

    Args:
        names_file: class names, one a line; None for those that belong to the network.
        precision: "float32", or OpenVINO's "bfloat16" and "int8", of an InceptionV3.
        calibration: pictures for int8, of which some hundred are taken, and those that cannot be read passed over;
            every fifth measures how often it agrees with float32.
        least_agreement: of int8; below it the network is refused.

    Raises:
        ValueError: Where there is no classifier, or no way to know its input.
    """
    network = network_of(source, picture=picture, size=size, labels=names_file, preprocess=preprocess)
    if network.labels is None:
        raise CheckpointError(f"{network.name} has no classifier; give weights with top.")
    if network.model is None or precision != "float32":
        run = _compiled(network, precision, calibration if precision == "int8" else (), least_agreement)
        return Classifier(run, network.labels, network)
    model = network.model
    if len(model.outputs) > 1:  # an auxiliary head
        import keras

        model = keras.Model(model.inputs[0], scores_of(model))
    return Classifier(model, network.labels, network)


def _compiled(network: Network, precision: Precision, pictures: Sequence[ImageLike], least: float) -> Inference:
    images = []
    for picture in int8.spread(pictures):
        with contextlib.suppress(ValueError):
            images.append(network.input(picture))
    calibration = np.stack(images) if images else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", int8.LowAgreement)
        run = compile_inference(network, precision=precision, image_size=network.picture.sides, calibration=calibration)
    if run.agreement is not None:
        run.agreement.check(least)
    return run
