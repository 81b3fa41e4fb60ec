"""The inference graph with its weights inside, as bytes: a frozen GraphDef under slim's node names, without TensorFlow.

    input                                   float32 [batch, height, width, channels], in [-1, 1] as a rule
    InceptionV3/InceptionV3/Mixed_7c/concat a map of the base, by its end point
    InceptionV3/Logits/SpatialSqueeze       [batch, classes]
    InceptionV3/Predictions/Reshape_1       the same after softmax
    InceptionV3/AuxLogits/SpatialSqueeze    where there is the auxiliary head
    inception_variant                       what shapes cannot tell, as text; nothing reads it

Batch, height and width are free, the last map is averaged whole; the auxiliary head
alone wants pictures of the size it was made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from inception.architecture import AUX_END_POINT, Borders, Concat, Conv, Ops, Pool, fold
from inception.files.tensor import octets
from inception.files.tensorflow import wire
from inception.files.tensorflow.tensor_bundle import type_code
from inception.variants import SCOPE
from inception.weights.canonical import VARIANT, Weights, variant_json

INPUT = "input"
_PRODUCER = 1087  # of TensorFlow 2.9; every later one reads it
_FLOAT, _INT32, _STRING = 1, 3, 7
_Attributes = Mapping[str, bytes]


def write(file: BinaryIO, weights: Weights) -> None:
    """Writes the graph, node by node."""
    variant = weights.variant
    rows = variant.table()
    graph = _Graph(file, weights)
    graph.text(VARIANT, variant_json(weights))
    graph.placeholder(INPUT, (-1, -1, -1, variant.channels))
    base = fold(graph, rows.base, INPUT)
    if rows.aux_logits:
        *_, logits = fold(graph, rows.aux_logits, base[AUX_END_POINT], "AuxLogits").values()
        graph.squeeze(f"{SCOPE}/AuxLogits/SpatialSqueeze", logits)
    features = graph.mean(f"{SCOPE}/Logits/GlobalPool", base[rows.base[-1].name])
    if rows.logits:
        features = graph.node(f"{SCOPE}/Logits/Dropout_1b/Identity", "Identity", [features])
        *_, logits = fold(graph, rows.logits[1:], features, "Logits").values()
        graph.softmax(graph.squeeze(f"{SCOPE}/Logits/SpatialSqueeze", logits), variant.num_classes)
    file.write(wire.encode_data(4, wire.encode_integer(1, _PRODUCER)))


class _Graph(Ops[str]):
    """What `Conv`, `Pool` and `Concat` are in nodes; values of the fold are node names."""

    def __init__(self, file: BinaryIO, weights: Weights) -> None:
        self._file = file
        self._arrays = weights.arrays
        self._variant = weights.variant

    # ---- the fold

    def conv(self, node: Conv, x: str, path: str) -> str:
        scope = _scope(path)
        kernel = self.variable(f"{path}/weights")
        y = self.node(f"{scope}/Conv2D", "Conv2D", [x, kernel], _window(None, node.stride, node.padding))
        if not node.batch_norm:
            biases = self.variable(f"{path}/biases")
            return self.node(f"{scope}/BiasAdd", "BiasAdd", [y, biases], _NHWC)
        return self.node(f"{scope}/Relu", "Relu", [self._norm(y, path, node.depth)])

    def _norm(self, x: str, path: str, depth: int) -> str:
        scope, own = f"{_scope(path)}/BatchNorm", f"{path}/BatchNorm"
        if self._variant.gamma:
            gamma = self.variable(f"{own}/gamma")
        else:
            gamma = self.constant(f"{scope}/Const", np.ones(depth, np.float32))
        inputs = [x, gamma, *(self.variable(f"{own}/{name}") for name in ("beta", "moving_mean", "moving_variance"))]
        epsilon = _real(self._variant.epsilon)
        options = {"U": _type(_FLOAT), "is_training": _number(_BOOL, 0), "epsilon": epsilon} | _NHWC
        return self.node(f"{scope}/FusedBatchNormV3", "FusedBatchNormV3", inputs, options)

    def pool(self, node: Pool, x: str, path: str) -> str:
        op, padding = {"max": "MaxPool", "avg": "AvgPool"}[node.kind], node.padding
        if borders := node.borders(self._variant.border):
            x, padding = self._padded(borders, x, path.rpartition("/")[0]), "VALID"
        return self.node(f"{_scope(path)}/{op}", op, [x], _window(node.kernel, node.stride, padding))

    def _padded(self, borders: Borders, x: str, path: str) -> str:
        sizes = self.constant(f"{_scope(path)}/Pad/paddings", np.array([(0, 0), *borders, (0, 0)], np.int32))
        return self.node(f"{_scope(path)}/Pad", "Pad", [x, sizes], {"Tpaddings": _type(_INT32)})

    def concat(self, node: Concat, xs: list[str], path: str) -> str:
        axis = self.constant(f"{_scope(path)}/concat/axis", np.array(3, np.int32))
        options = {"N": _number(_INTEGER, len(xs)), "Tidx": _type(_INT32)}
        return self.node(f"{_scope(path)}/concat", "ConcatV2", [*xs, axis], options)

    # ---- the heads

    def mean(self, name: str, x: str) -> str:
        axes = self.constant(f"{name}/reduction_indices", np.array([1, 2], np.int32))
        return self.node(name, "Mean", [x, axes], {"Tidx": _type(_INT32), "keep_dims": _number(_BOOL, 1)})

    def squeeze(self, name: str, x: str) -> str:
        return self.node(name, "Squeeze", [x], {"squeeze_dims": _numbers([1, 2])})

    def softmax(self, logits: str, classes: int) -> str:
        scope, shaped = f"{SCOPE}/Predictions", {"Tshape": _type(_INT32)}
        rows = self.constant(f"{scope}/Reshape/shape", np.array([-1, classes], np.int32))
        flat = self.node(f"{scope}/Reshape", "Reshape", [logits, rows], shaped)
        probabilities = self.node(f"{scope}/Softmax", "Softmax", [flat])
        shape = self.node(f"{scope}/Shape", "Shape", [logits], {"out_type": _type(_INT32)})
        return self.node(f"{scope}/Reshape_1", "Reshape", [probabilities, shape], shaped)

    # ---- nodes

    def variable(self, name: str) -> str:
        stored = self.constant(f"{SCOPE}/{name}", self._arrays[f"{SCOPE}/{name}"])
        return self.node(f"{stored}/read", "Identity", [stored])

    def constant(self, name: str, values: np.ndarray) -> str:
        values = np.ascontiguousarray(values).reshape(values.shape)
        code = type_code(values.dtype)
        content = wire.encode_data(4, octets(values))
        tensor = (wire.encode_integer(1, code), wire.encode_data(2, wire.encode_shape(values.shape)), content)
        return self._emit(name, "Const", [], {"dtype": _type(code), "value": wire.encode_data(_TENSOR, *tensor)})

    def text(self, name: str, text: str) -> str:
        tensor = (wire.encode_integer(1, _STRING), wire.encode_data(2), wire.encode_data(8, text.encode()))
        return self._emit(name, "Const", [], {"dtype": _type(_STRING), "value": wire.encode_data(_TENSOR, *tensor)})

    def placeholder(self, name: str, shape: tuple[int, ...]) -> str:
        attributes = {"dtype": _type(_FLOAT), "shape": wire.encode_data(_SHAPE, wire.encode_shape(shape))}
        return self._emit(name, "Placeholder", [], attributes)

    def node(self, name: str, op: str, inputs: list[str], attributes: _Attributes | None = None) -> str:
        """A node that computes in float32."""
        return self._emit(name, op, inputs, {"T": _type(_FLOAT)} | dict(attributes or {}))

    def _emit(self, name: str, op: str, inputs: list[str], attributes: _Attributes) -> str:
        parts = [wire.encode_data(1, name.encode()), wire.encode_data(2, op.encode())]
        parts += [wire.encode_data(3, read.encode()) for read in inputs]
        for key, value in attributes.items():
            parts.append(wire.encode_data(5, wire.encode_data(1, key.encode()), wire.encode_data(2, value)))
        self._file.write(wire.encode_data(1, *parts))
        return name


def _scope(path: str) -> str:
    """Operations of the base stand in slim's scope twice, once for each of its functions."""
    heads = ("Logits", "AuxLogits")
    return f"{SCOPE}/{path}" if path.split("/")[0] in heads else f"{SCOPE}/{SCOPE}/{path}"


# ---- attribute values, as fields of AttrValue

_LIST, _TEXT, _INTEGER, _REAL, _BOOL, _TYPE, _SHAPE, _TENSOR = 1, 2, 3, 4, 5, 6, 7, 8


def _type(code: int) -> bytes:
    return _number(_TYPE, code)


def _text(text: str) -> bytes:
    return wire.encode_data(_TEXT, text.encode())


def _real(value: float) -> bytes:
    return wire.encode_fixed32(_REAL, int.from_bytes(np.float32(value).tobytes(), "little"))


def _numbers(values: list[int]) -> bytes:
    return wire.encode_data(_LIST, wire.encode_data(_INTEGER, *map(wire.encode_varint, values)))


def _number(field: int, value: int) -> bytes:
    """Written out even where it is 0 or false: an empty value is none."""
    return wire.encode_varint(field << 3) + wire.encode_varint(value)


_NHWC = {"data_format": _text("NHWC")}


def _window(kernel: tuple[int, int] | None, stride: int, padding: str) -> dict[str, bytes]:
    window = {"strides": _numbers([1, stride, stride, 1]), "padding": _text(padding)} | _NHWC
    return window | ({"ksize": _numbers([1, *kernel, 1])} if kernel else {})
