"""Two sets of weights, each through its own builder, compared end point by end point."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception import images, labels
from inception.variants import KERAS, TORCHVISION, Variant
from inception.weights import CheckpointError, Weights
from inception.weights.dialects import graph_families
from inception.weights.formats import slim_checkpoint

Builder = Literal["keras", "slim", "none"]  # none: the inference engine runs the weights' plan
Peer = Literal["keras", "torch"]  # keras.applications and torchvision, where they are installed
# The formats that code of slim's writes; slim's builder runs them.
_OF_SLIM = {
    slim_checkpoint.TITLE_V1,
    slim_checkpoint.TITLE_V2,
    graph_families.SLIM_TITLE,
    graph_families.SLIM_2016_TITLE,
}


@dataclass(frozen=True)
class Difference:
    """One end point of two networks: how far `b` is from `a`.

    Where either array has a number that is not finite, both differences are infinite and the cosine is 0.

    Attributes:
        end_point: slim's name.
        shape: of one picture's array.
        absolute: the largest difference of two numbers.
        relative: the same over the largest number of `a`.
        cosine: of the two arrays as vectors.
    """

    end_point: str
    shape: tuple[int, ...]
    absolute: float
    relative: float
    cosine: float

    @property
    def finite(self) -> bool:
        """Whether all numbers of both arrays are finite."""
        return bool(np.isfinite(self.absolute))


def own_builder(weights: Weights) -> Builder:
    """The builder that a file's format comes from: slim's for checkpoints and frozen graphs of slim, else Keras's."""
    return "slim" if weights.source.format in _OF_SLIM else "keras"


def end_points(weights: Weights, pixels: np.ndarray, builder: Builder) -> dict[str, np.ndarray]:
    """The end points of a picture (0..255, [h, w, 3]) under slim's names, no batch axis; pooled ones are vectors."""
    batch = np.asarray(weights.picture.scaled(pixels))[None]
    run = {"slim": _slim_end_points, "keras": keras_end_points, "none": _compiled_end_points}[builder]
    return _of_one_picture(weights, run(weights, batch))


def _of_one_picture(weights: Weights, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the batch axis; all NaN where an array of the end point is not finite: some processors' ReLU gives 0."""
    lost = {name.split("/")[1] for name, array in weights.arrays.items() if not np.isfinite(array).all()}
    one = {name: value[0].reshape(-1) if _is_vector(value) else value[0] for name, value in values.items()}
    return {name: np.full_like(value, np.nan) if name in lost else value for name, value in one.items()}


def _is_vector(value: np.ndarray) -> bool:
    return value.ndim == 2 or value.shape[1:3] == (1, 1)


def keras_end_points(weights: Weights, batch: np.ndarray, names: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """The Keras builder's end points of a batch in the network's range: those named, or all."""
    import keras

    from inception.builders.keras import end_points, model_of

    model = model_of(weights, input_shape=batch.shape[1:], pooling="avg")
    points = end_points(model)
    values = keras.Model(model.input, {name: points[name] for name in names or points})(batch, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in values.items()}


def _slim_end_points(weights: Weights, batch: np.ndarray) -> dict[str, np.ndarray]:
    from inception.builders.slim import evaluate, inception_v3_of

    return evaluate(lambda inputs: inception_v3_of(weights.variant, inputs), weights.arrays, batch)


def _compiled_end_points(weights: Weights, batch: np.ndarray) -> dict[str, np.ndarray]:
    from inception.inference import compile_inference, plan

    sides, points = batch.shape[1:3], plan.available(weights.variant)
    return compile_inference(weights, end_points=points, image_size=sides, allow_nan=True).prepared(batch)


def peer_end_points(weights: Weights, pixels: np.ndarray, peer: Peer) -> dict[str, np.ndarray]:
    """`end_points` of the same weights in somebody else's network: keras.applications' or torchvision's own.

    Neither knows other rules than its own (border, last pool, epsilon) nor narrow networks.

    Raises:
        CheckpointError: For weights that need them.
        ModuleNotFoundError: Where the peer is not installed.
    """
    if weights.variant.depth_multiplier != 1:
        raise CheckpointError(f"{weights.source.path} is narrow, as no peer is; verify two files instead.")
    batch = np.asarray(weights.picture.scaled(pixels))[None]
    run = {"keras": _keras_applications, "torch": _torchvision}[peer]
    return _of_one_picture(weights, run(weights.step("drop-aux") if weights.variant.aux_logits else weights, batch))


def as_peer_runs(weights: Weights, peer: Peer) -> Weights:
    """The same arrays under the rules that the peer knows, for `reasons`."""
    theirs = TORCHVISION if peer == "torch" else KERAS
    rules = {name: getattr(theirs, name) for name in ("border", "last_pool", "epsilon")}
    return dataclasses.replace(weights, variant=dataclasses.replace(weights.variant, **rules))


def _keras_applications(weights: Weights, batch: np.ndarray) -> dict[str, np.ndarray]:
    import keras

    from inception.builders.keras import end_points

    peer = keras_peer(weights, batch.shape[1:] if not weights.variant.num_classes else None)
    values = keras.Model(peer.input, end_points(peer))(batch, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in values.items()}


def keras_peer(weights: Weights, shape: tuple[int, ...] | None = None) -> Any:
    """keras.applications' model, filled by Keras's own reader from a file of ours; without an auxiliary head."""
    import keras

    variant = weights.variant
    weights = weights.step("fold-gamma") if variant.gamma else weights
    top = {"classes": variant.num_classes} if variant.num_classes else {"include_top": False, "pooling": "avg"}
    peer = keras.applications.InceptionV3(weights=None, input_shape=shape, **top)
    with tempfile.TemporaryDirectory() as folder:
        peer.load_weights(weights.save(f"{folder}/peer.h5"))
    return peer


def _torchvision(weights: Weights, batch: np.ndarray) -> dict[str, np.ndarray]:
    """torchvision's module, its end points caught as they pass."""
    import torch
    from torchvision.models import inception as peers

    from inception.weights.dialects import torch_names

    classes = weights.variant.num_classes
    peer = peers.Inception3(num_classes=classes or 1, aux_logits=False, transform_input=False, init_weights=False)
    peer.train(False)
    state = {key: torch.from_numpy(np.array(array)) for key, array in torch_names.scatter(weights).items()}
    if not classes:
        state |= {key: value for key, value in peer.state_dict().items() if key.startswith("fc.")}
    peer.load_state_dict(state)
    caught: dict[str, np.ndarray] = {}
    for name, module in peer.named_children():
        point = {"maxpool1": "MaxPool_3a_3x3", "maxpool2": "MaxPool_5a_3x3", "avgpool": "PreLogits", "fc": "Logits"}
        module.register_forward_hook(functools.partial(_catch, caught, point.get(name, name)))
    with torch.no_grad():
        logits = peer(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy()))
    caught.pop("dropout", None)
    if not classes:
        return {name: value for name, value in caught.items() if name != "Logits"}
    return caught | {"Predictions": torch.softmax(logits, -1).numpy()}


def _catch(caught: dict[str, np.ndarray], name: str, module: Any, inputs: Any, output: Any) -> None:
    value = output.numpy()
    caught[name] = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value


def compare(
    a: Weights,
    b: Weights,
    pixels: np.ndarray | None = None,
    builders: tuple[Builder, Builder] | None = None,
) -> list[Difference]:
    """The same picture through both: a row for each end point that both have, in the network's order.

    Args:
        pixels: 0..255, [h, w, 3]; `images.test_picture` where none is given.
        builders: for a and b; each file's own where none are given.

    Raises:
        CheckpointError: When the classifiers do not list the same classes.
    """
    if pixels is None:
        pixels = a.picture.resized(images.test_picture(299))
    first, second = builders or (own_builder(a), own_builder(b))
    left, right = end_points(a, pixels, first), end_points(b, pixels, second)
    return differences(_foreground(left, a.variant, b.variant), _foreground(right, b.variant, a.variant))


def reasons(a: Weights, b: Weights) -> list[str]:
    """Why two networks differ, as far as their rules and arrays tell: sentences, the likeliest first.

    Rules first (border, last pool, batch norm's gamma and epsilon), and the way of a picture; then, in
    the network's order, the arrays that differ, and what b has in their places: another array of a, the array
    transposed, or its classes in another order.
    """
    found = [
        f"{what}: {mine} in a, {theirs} in b"
        for field, what in _RULES.items()
        if (mine := getattr(a.variant, field)) != (theirs := getattr(b.variant, field))
    ]
    if a.picture != b.picture:
        found.append(f"way of a picture: {a.picture} in a, {b.picture} in b; a's is taken, each scaled as its own")
    shared = [name for name in a.arrays if name in b.arrays and a.arrays[name].shape == b.arrays[name].shape]
    unequal = [name for name in shared if not np.array_equal(a.arrays[name], b.arrays[name])]
    if not unequal:
        return found
    home = {array.tobytes(): name for name, array in reversed(list(a.arrays.items()))}
    found += [_misplaced(a.arrays[name], b.arrays[name], name, home) for name in unequal[:_MOST_REASONS]]
    if len(unequal) > _MOST_REASONS:
        found.append(f"{len(unequal)} of {len(shared)} arrays differ")
    return found


_RULES = {
    "border": "border rule of the average pools",
    "last_pool": "last pool",
    "gamma": "batch norm's gamma",
    "epsilon": "batch norm's epsilon",
}
_MOST_REASONS = 6


def _misplaced(ours: np.ndarray, theirs: np.ndarray, name: str, home: dict[bytes, str]) -> str:
    """What stands in b where a has `name`."""
    elsewhere = home.get(np.ascontiguousarray(theirs).tobytes())
    strange = [network for network, array in (("a", ours), ("b", theirs)) if not np.isfinite(array).all()]
    if strange:
        return f"{name}: has numbers that are not finite in {' and '.join(strange)}"
    if elsewhere:
        return f"{name}: b has a's {elsewhere} here (swapped)"
    if ours.ndim == 4 and ours.shape[2] == ours.shape[3] and np.array_equal(ours.swapaxes(2, 3), theirs):
        return f"{name}: transposed in b (input and output channels)"
    if ours.ndim == 4 and ours.shape[0] == ours.shape[1] and np.array_equal(ours.swapaxes(0, 1), theirs):
        return f"{name}: transposed in b (height and width)"
    if np.array_equal(np.sort(ours, axis=None), np.sort(theirs, axis=None)):
        what = "classes" if "Logits/Conv2d_1c_1x1" in name or "AuxLogits/Conv2d_2b_1x1" in name else "values"
        return f"{name}: the same {what} in another order in b"
    return f"{name}: other values in b, by up to {float(np.abs(ours - theirs).max()):.3g}"


_CLASSIFIERS = ("AuxLogits", "Logits", "Predictions")


def _foreground(values: dict[str, np.ndarray], own: Variant, other: Variant) -> dict[str, np.ndarray]:
    """With the classes that both networks have, in one order: ImageNet's by wnid, others without the background."""
    if own.num_classes == other.num_classes:
        return values
    order = labels.wnid_order(own.num_classes)
    if order is not None and labels.wnid_order(other.num_classes) is not None:
        return {name: value[order] if name in _CLASSIFIERS else value for name, value in values.items()}
    if not own.background or other.background or own.num_classes != other.num_classes + 1:
        return values
    return {name: value[1:] if name in _CLASSIFIERS else value for name, value in values.items()}


def differences(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> list[Difference]:
    """A row for each end point that both have, in the order of `a`."""
    rows = []
    for name in (name for name in a if name in b):
        left, right = a[name], b[name]
        if left.shape != right.shape:
            raise CheckpointError(
                f"{name} is {left.shape} in one network and {right.shape} in the other; "
                "verify compares networks with the same classes and width."
            )
        rows.append(difference(name, left.astype(np.float64), right.astype(np.float64)))
    return rows


def difference(name: str, left: np.ndarray, right: np.ndarray) -> Difference:
    """How far `right` is from `left`, arrays of one shape in float64."""
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return Difference(name, left.shape, np.inf, np.inf, 0.0)
    absolute = float(np.abs(left - right).max())
    norms = float(np.linalg.norm(left) * np.linalg.norm(right))
    cosine = float(np.vdot(left, right)) / norms if norms else float(not absolute)
    largest = float(np.abs(left).max())
    relative = absolute / largest if largest else (np.inf if absolute else 0.0)
    return Difference(name, left.shape, absolute, float(relative), cosine)
