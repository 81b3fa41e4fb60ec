"""What the network computes at inference, as a short list of operations that any engine can run.

`plan` folds the table once more, with the weights at hand: batch norm goes into the
kernels, average pools move behind the 1x1 convolutions that follow them, and what no wanted
end point needs is not there. (Siblings as one wide convolution were tried: slower.) The
result is data (arrays and names); `Interpreter` is the fold over it, which the ONNX writer and
the TensorFlow engine override. No framework here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np

from inception import architecture, pictures
from inception.architecture import AUX_END_POINT, END_POINTS, Borders, Concat, Conv, Ops, Padding, Pool, fold, walk
from inception.arguments import nearest
from inception.brief import one_line
from inception.pictures import Picture
from inception.variants import SCOPE, Variant
from inception.weights import Weights

IMAGES = "images"  # the input of every plan: [n, height, width, channels]


@dataclass(frozen=True, eq=False)
class Convolve:
    """Cross-correlation with an HWIO kernel, then the bias where there is one, then ReLU where it says so."""

    output: str
    input: str
    kernel: np.ndarray
    bias: np.ndarray | None
    relu: bool
    stride: int = 1
    padding: Padding = "SAME"

    __repr__ = one_line


@dataclass(frozen=True, eq=False)
class Scale:
    """x * scale + offset for each channel (a missing one is left out), then ReLU where it says so."""

    output: str
    input: str
    scale: np.ndarray | None
    offset: np.ndarray | None
    relu: bool = False

    __repr__ = one_line


@dataclass(frozen=True)
class Window:
    """A pool. `borders`: the zeros outside the map that an average counts; None for none."""

    output: str
    input: str
    kind: Literal["max", "avg"]
    kernel: tuple[int, int]
    stride: int
    padding: Padding
    borders: Borders | None = None


@dataclass(frozen=True)
class Join:
    """Maps side by side along the channels."""

    output: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Average:
    """The mean over the whole map: [n, height, width, channels] -> [n, channels]."""

    output: str
    input: str


@dataclass(frozen=True, eq=False)
class Dense:
    """[n, channels] times a kernel [channels, classes], plus a bias."""

    output: str
    input: str
    kernel: np.ndarray
    bias: np.ndarray

    __repr__ = one_line


@dataclass(frozen=True)
class Softmax:
    output: str
    input: str


Operation = Convolve | Scale | Window | Join | Average | Dense | Softmax


@dataclass(frozen=True)
class Rewrites:
    """Which changes a plan makes to the network as the table has it. None changes what it computes.

    Attributes:
        fold: batch norm becomes part of the kernel and a bias; so do the scaling and offset of pixels.
        pool_behind: an average pool of stride 1 before a 1x1 convolution runs behind it, on fewer channels.
    """

    fold: bool = True
    pool_behind: bool = True


@dataclass(frozen=True)
class Plan:
    """Operations in an order that can be run, over the input `images`.

    Attributes:
        end_points: the wanted results; each is the output of an operation of this name.
        pixels: the input is uint8 pixels 0..255; otherwise float32 in the network's range.
        picture: how a picture becomes the input.
    """

    operations: tuple[Operation, ...]
    end_points: tuple[str, ...]
    variant: Variant
    pixels: bool = False
    picture: Picture = pictures.KERAS

    __repr__ = one_line


def available(variant: Variant) -> tuple[str, ...]:
    """The end points that a network of this variant has, under slim's names, in the network's order."""
    aux = ("AuxLogits",) if variant.aux_logits else ()
    return (*END_POINTS, *aux, "PreLogits", *(("Logits", "Predictions") if variant.num_classes else ()))


def units(variant: Variant) -> tuple[str, ...]:
    """The scopes of the base's convolutions, batch norm and ReLU included: end points too, beside the rows."""
    return tuple(place.path for place in architecture.convolutions(architecture.Table(variant.table().base)))


def plan(
    weights: Weights,
    end_points: Sequence[str] = ("Predictions",),
    *,
    rewrites: Rewrites = Rewrites(),
    pixels: bool = False,
    image_size: tuple[int, int] | None = None,
    allow_nan: bool = False,
) -> Plan:
    """The operations that compute `end_points` of a network, and no others.

    Base rows and `units` are maps [n, h, w, c]; PreLogits (averaged over the whole last map),
    AuxLogits, Logits and Predictions are [n, c]. Raises ValueError for an end point that the network
    does not have, for an image size that is too small for those asked for, and for weights
    that are not finite in what is computed, unless `allow_nan`.
    """
    check_end_points(weights, end_points)
    if image_size is not None:
        check_size(weights.variant, end_points, image_size)
    writer = _Writer(weights, rewrites)
    with np.errstate(invalid="ignore", over="ignore"):  # said in a sentence below
        start = writer.pixels() if pixels else IMAGES
        base = fold(writer, weights.variant.table().base, start)
        if "AuxLogits" in end_points:
            writer.aux_logits(base[AUX_END_POINT])
        if set(end_points) & {"PreLogits", "Logits", "Predictions"}:
            writer.logits(base[END_POINTS[-1]])
    operations = _needed(writer.operations, end_points)
    if not allow_nan:
        _check_finite(operations, weights.source.path)
    return Plan(tuple(operations), tuple(end_points), weights.variant, pixels, weights.picture)


def _check_finite(operations: Sequence[Operation], where: str) -> None:
    for operation in operations:
        arrays = (getattr(operation, field, None) for field in ("kernel", "bias", "scale", "offset"))
        if not all(np.isfinite(array).all() for array in arrays if array is not None):
            raise ValueError(
                f"{where} has weights that are not finite (NaN, infinity, or a variance below zero) for "
                f"{operation.output}; engines make plausible numbers of them. Get the file again, or train again."
            )


def check_end_points(weights: Weights, end_points: Sequence[str]) -> None:
    if isinstance(end_points, str) or not end_points or len(set(end_points)) != len(end_points):
        raise ValueError(f"end_points is {end_points!r}; expected a sequence of different names, as ('PreLogits',).")
    known = available(weights.variant)
    for name in end_points:
        if name in known or name in units(weights.variant):
            continue
        where = weights.source.path
        if name in ("Predictions", "Logits"):
            raise ValueError(f"{where} has no classifier, so no {name}; ask for end_points=('PreLogits',) (features).")
        if name == "AuxLogits":
            raise ValueError(f"{where} has no auxiliary head, so no AuxLogits; leave it out.")
        raise ValueError(f"Unknown end point {name!r}{nearest(name, known)}; expected some of {', '.join(known)}.")


def check_size(variant: Variant, end_points: Sequence[str], image_size: tuple[int, int]) -> None:
    """ValueError for an image that is too small for the end points, or for the auxiliary head's kernel."""
    rows = variant.table()
    if "AuxLogits" not in end_points:
        rows = dataclasses.replace(rows, aux_logits=())
    maps = [name.partition("/")[0] for name in end_points]
    last = [END_POINTS.index(name) for name in maps if name in END_POINTS]
    if len(last) == len(end_points):
        rows = dataclasses.replace(rows, base=rows.base[: max(last) + 1], logits=())
    places = {place.path for place in walk(rows, *image_size, channels=variant.channels)}
    kernel = variant.aux_kernel
    if rows.aux_logits and f"AuxLogits/Conv2d_2a_{kernel[0]}x{kernel[1]}" not in places:
        raise ValueError(
            f"The auxiliary head's last kernel is {kernel[0]}x{kernel[1]}, more than a {image_size[0]}x{image_size[1]} "
            f"image gives it; take images of {variant.aux_size}x{variant.aux_size}, or leave AuxLogits out."
        )


def _needed(operations: Sequence[Operation], end_points: Iterable[str]) -> list[Operation]:
    """The operations that the end points depend on, in their order."""
    wanted, kept = set(end_points), []
    for operation in reversed(operations):
        if operation.output in wanted:
            kept.append(operation)
            wanted.update(inputs(operation))
    return kept[::-1]


def inputs(operation: Operation) -> tuple[str, ...]:
    """The names that an operation reads."""
    return operation.inputs if isinstance(operation, Join) else (operation.input,)


# --- From the table --------------------------------------------------------------------


class _Writer(Ops[str]):
    """The fold that writes operations down; its values are their names."""

    def __init__(self, weights: Weights, rewrites: Rewrites) -> None:
        self.operations: list[Operation] = []
        self._weights = weights
        self._rewrites = rewrites
        self._made: dict[str, Operation] = {}

    def _add(self, operation: Operation) -> str:
        self.operations.append(operation)
        self._made[operation.output] = operation
        return operation.output

    def _array(self, path: str, name: str) -> np.ndarray:
        return self._weights.arrays[f"{SCOPE}/{path}/{name}"]

    def pixels(self) -> str:
        scale, offset = pixel_scaling(self._weights.picture, self._weights.variant.channels)
        return self._add(Scale("scaled", IMAGES, scale.astype(np.float32), offset.astype(np.float32)))

    def conv(self, node: Conv, x: str, path: str) -> str:
        kernel = self._array(path, "weights")
        scale, offset = batch_norm(self._weights, path)
        if not self._rewrites.fold:
            return self._unfolded(node, x, path, kernel, scale, offset)
        before = self._made.get(x)
        if isinstance(before, Scale) and node.padding == "VALID":  # the pixels' scaling, exact without a border
            by, plus = pixel_scaling(self._weights.picture, self._weights.variant.channels)
            offset = offset + np.einsum("hwio,i->o", kernel * scale, plus)
            scale, x = by[:, None] * scale, before.input
        folded, bias = _scaled(kernel, scale), offset.astype(np.float32)
        pool = self._movable(before, node)
        if pool is None:
            return self._add(Convolve(path, x, folded, bias, True, node.stride, node.padding))
        x = self._behind(pool, path, folded, None if pool.borders else bias)
        return self._add(Scale(path, x, None, bias if pool.borders else None, relu=True))

    def _unfolded(
        self, node: Conv, x: str, path: str, kernel: np.ndarray, scale: np.ndarray, offset: np.ndarray
    ) -> str:
        pool = self._movable(self._made.get(x), node)
        if pool is not None:
            x = self._behind(pool, path, kernel, None)
        else:
            x = self._add(Convolve(f"{path}/convolution", x, kernel, None, False, node.stride, node.padding))
        return self._add(Scale(path, x, scale.astype(np.float32), offset.astype(np.float32), relu=True))

    def _movable(self, before: Operation | None, node: Conv) -> Window | None:
        """The pool before a convolution, if the two may change places: an average, and a mix of channels alone."""
        if not self._rewrites.pool_behind or not isinstance(before, Window) or before.kind != "avg":
            return None
        return before if before.stride == node.stride == 1 and node.kernel == (1, 1) else None

    def _behind(self, pool: Window, path: str, kernel: np.ndarray, bias: np.ndarray | None) -> str:
        """The convolution, then the pool; an average without the border keeps a bias, so that may come first."""
        x = self._add(Convolve(f"{path}/convolution", pool.input, kernel, bias, relu=False))
        return self._add(dataclasses.replace(pool, output=f"{path}/pool", input=x))

    def pool(self, node: Pool, x: str, path: str) -> str:
        borders = node.borders(self._weights.variant.border)
        return self._add(Window(path, x, node.kind, node.kernel, node.stride, node.padding, borders))

    def concat(self, node: Concat, xs: list[str], path: str) -> str:
        return self._add(Join(path, tuple(xs)))

    def aux_logits(self, x: str) -> None:
        *body, classifier = self._weights.variant.table().aux_logits
        *_, x = fold(self, body, x, "AuxLogits").values()
        self._add(Average("AuxLogits/pooled", x))
        self._dense("AuxLogits", "AuxLogits/pooled", f"AuxLogits/{classifier.name}")

    def logits(self, x: str) -> None:
        self._add(Average("PreLogits", x))
        for classifier in self._weights.variant.table().logits[1:]:
            self._dense("Logits", "PreLogits", f"Logits/{classifier.name}")
            self._add(Softmax("Predictions", "Logits"))

    def _dense(self, output: str, x: str, path: str) -> str:
        kernel = self._array(path, "weights")
        return self._add(Dense(output, x, kernel.reshape(kernel.shape[-2:]), self._array(path, "biases")))


def batch_norm(weights: Weights, path: str) -> tuple[np.ndarray, np.ndarray]:
    """The batch norm of a convolution as y = x * scale + offset, float64 [channels] each."""
    values = {
        name: weights.arrays[f"{SCOPE}/{path}/BatchNorm/{name}"].astype(np.float64)
        for name in ("beta", "gamma", "moving_mean", "moving_variance")
        if name != "gamma" or weights.variant.gamma
    }
    scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + weights.variant.epsilon)
    return scale, values["beta"] - values["moving_mean"] * scale


def _scaled(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """kernel * scale, rounded once: HWIO, and OIHW in memory, as ONNX and OpenVINO take it without another copy."""
    folded = kernel.transpose(3, 2, 0, 1).astype(np.float32, order="C")
    each = np.atleast_2d(scale).T[..., None, None]
    return np.multiply(folded, each, out=folded, dtype=np.float64, casting="same_kind").transpose(2, 3, 1, 0)


def pixel_scaling(picture: Picture, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """(scale, offset), float64, a number a channel: pixels 0..255 * scale + offset is the network's range."""
    mean, scale = (np.asarray(values, np.float64) for values in (picture.mean, picture.scale))
    if picture.bgr:
        raise ValueError("A picture whose channels are turned round cannot be scaled inside the network; give floats.")
    if channels != len(mean):
        if len(set(picture.mean)) > 1 or len(set(picture.scale)) > 1:
            raise ValueError(f"Pixels of {channels} channels have no scaling of their own; give scaled images.")
        mean, scale = (np.full(channels, values[0]) for values in (mean, scale))
    return 1 / scale, -mean / scale


# --- Running a plan --------------------------------------------------------------------

Runner = Callable[[np.ndarray], Sequence[np.ndarray]]  # images to a plan's end points, in its order
T = TypeVar("T")


class Interpreter(Generic[T]):
    """What the operations mean in one framework; `run` goes through a plan with them."""

    def convolve(self, operation: Convolve, x: T) -> T:
        raise NotImplementedError

    def scale(self, operation: Scale, x: T) -> T:
        raise NotImplementedError

    def window(self, operation: Window, x: T) -> T:
        raise NotImplementedError

    def join(self, operation: Join, xs: list[T]) -> T:
        raise NotImplementedError

    def average(self, operation: Average, x: T) -> T:
        raise NotImplementedError

    def dense(self, operation: Dense, x: T) -> T:
        raise NotImplementedError

    def softmax(self, operation: Softmax, x: T) -> T:
        raise NotImplementedError


def run(interpreter: Interpreter[T], wanted: Plan, images: T) -> dict[str, T]:
    """{end point: value} of a plan, as an interpreter computes them."""
    methods: dict[type, Any] = {
        Convolve: interpreter.convolve,
        Scale: interpreter.scale,
        Window: interpreter.window,
        Average: interpreter.average,
        Dense: interpreter.dense,
        Softmax: interpreter.softmax,
    }
    values = {IMAGES: images}
    for operation in wanted.operations:
        if isinstance(operation, Join):
            values[operation.output] = interpreter.join(operation, [values[name] for name in operation.inputs])
        else:
            values[operation.output] = methods[type(operation)](operation, values[operation.input])
    return {name: values[name] for name in wanted.end_points}
