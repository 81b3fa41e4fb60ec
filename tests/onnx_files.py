"""ONNX models made without the package onnx: the inference graph of weights, as exporters write it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inception.architecture import AUX_END_POINT, Concat, Conv, Ops, Pool, fold
from inception.files.tensorflow import wire
from inception.variants import SCOPE
from inception.weights import Weights

TYPES = {"f4": 1, "i8": 7, "f2": 10, "f8": 11}


def field(number: int, *parts: bytes | str) -> bytes:
    return wire.encode_data(number, *(part.encode() if isinstance(part, str) else part for part in parts))


def tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(b"\x08" + wire.encode_varint(side) for side in array.shape)
    kind = wire.encode_integer(2, TYPES[array.dtype.str[1:]])
    return dims + kind + field(8, name) + field(9, np.ascontiguousarray(array).tobytes())


def outside(name: str, shape: tuple[int, ...], *said: tuple[str, str]) -> bytes:
    """A float tensor whose numbers are said to lie elsewhere: ("location", "x.data"), ..."""
    dims = b"".join(b"\x08" + wire.encode_varint(side) for side in shape)
    entries = b"".join(field(13, field(1, key), field(2, value)) for key, value in said)
    return dims + wire.encode_integer(2, 1) + field(8, name) + entries + wire.encode_integer(14, 1)


def node(op: str, inputs: list[str], output: str, **attributes: int | float | list[int]) -> bytes:
    parts = [field(1, value) for value in inputs] + [field(2, output), field(4, op)]
    for key, value in attributes.items():
        if isinstance(value, list):
            content = b"".join(wire.encode_varint(8 << 3) + wire.encode_varint(number) for number in value)
        elif isinstance(value, float):
            content = wire.encode_fixed32(2, int(np.float32(value).view(np.uint32)))
        else:
            content = wire.encode_varint(3 << 3) + wire.encode_varint(value)
        parts.append(field(5, field(1, key), content))
    return b"".join(parts)


def model(nodes: list[bytes], tensors: list[bytes], producer: str = "pytorch", **metadata: str) -> bytes:
    graph = [field(1, n) for n in nodes] + [field(5, t) for t in tensors] + [field(11, field(1, "x"))]
    said = [field(14, field(1, key), field(2, value)) for key, value in metadata.items()]
    return wire.encode_integer(1, 8) + field(2, producer) + field(7, *graph) + b"".join(said)


class Graph(Ops[str]):
    """The fold that writes nodes; batch norms are kept, or folded as exporters do, and inner joins may be flat."""

    def __init__(self, weights: Weights, folded: bool = False, flat: bool = False, data: Path | None = None) -> None:
        self.weights, self.variant = weights, weights.variant
        self.folded, self.flat, self.data = folded, flat, data
        self.nodes: list[bytes] = []
        self.tensors: list[bytes] = []
        self.pairs: dict[str, list[str]] = {}
        self._names = 0
        base = fold(self, self.variant.table().base, "x")
        if self.variant.aux_logits:
            *body, last = self.variant.table().aux_logits
            *_, y = fold(self, body, base[AUX_END_POINT], "AuxLogits").values()
            self.dense(self.put("Flatten", [y]), f"AuxLogits/{last.name}")
        features = self.put("Flatten", [self.put("GlobalAveragePool", list(base.values())[-1:])])
        if self.variant.num_classes:
            logits = self.dense(features, f"Logits/{self.variant.table().logits[-1].name}")
            self.put("Softmax", [logits], axis=1)

    def put(self, op: str, inputs: list[str], **attributes: int | float | list[int]) -> str:
        self._names += 1
        self.nodes.append(node(op, inputs, f"v{self._names}:0", **attributes))
        return f"v{self._names}:0"

    def keep(self, array: np.ndarray) -> str:
        name = f"onnx::{len(self.tensors)}"
        if self.data is None:
            self.tensors.append(tensor(name, array))
            return name
        with open(self.data, "ab") as file:
            place = ("location", self.data.name), ("offset", str(file.tell())), ("length", str(array.nbytes))
            self.tensors.append(outside(name, array.shape, *place))
            file.write(np.ascontiguousarray(array).tobytes())
        return name

    def array(self, path: str, name: str) -> np.ndarray:
        return self.weights.arrays[f"{SCOPE}/{path}/{name}"]

    def conv(self, node: Conv, x: str, path: str) -> str:
        kernel = self.array(path, "weights").transpose(3, 2, 0, 1)
        names = ("beta", "moving_mean", "moving_variance")
        beta, mean, variance = (self.array(path, f"BatchNorm/{name}") for name in names)
        gamma = self.array(path, "BatchNorm/gamma") if self.variant.gamma else np.ones_like(beta)
        if self.folded:
            scale = gamma / np.sqrt(variance.astype(np.float64) + self.variant.epsilon)
            bias = (beta - mean * scale).astype(np.float32)
            kernel = (kernel * scale[:, None, None, None]).astype(np.float32)
            return self.put("Relu", [self.put("Conv", [x, self.keep(kernel), self.keep(bias)])])
        y = self.put("Conv", [x, self.keep(kernel)], group=1)
        arrays = [self.put("Identity", [self.keep(a)]) for a in (gamma, beta, mean, variance)]
        return self.put("Relu", [self.put("BatchNormalization", [y, *arrays], epsilon=self.variant.epsilon)])

    def pool(self, node: Pool, x: str, path: str) -> str:
        if node.kind == "max":
            return self.put("MaxPool", [x])
        pads = [1] * 4 if node.padding == "SAME" else [0] * 4
        return self.put("AveragePool", [x], pads=pads, count_include_pad=int(self.variant.border == "include"))

    def concat(self, node: Concat, xs: list[str], path: str) -> str:
        if self.flat and not node.name:
            self.pairs["+".join(xs)] = xs
            return "+".join(xs)
        return self.put("Concat", [value for x in xs for value in self.pairs.get(x, [x])], axis=1)

    def dense(self, x: str, path: str) -> str:
        kernel = self.array(path, "weights")
        matrix = kernel.reshape(kernel.shape[-2:]).T
        return self.put("Gemm", [x, self.keep(matrix), self.keep(self.array(path, "biases"))], transB=1)


def write(path: Path, weights: Weights, *, outside: bool = False, **how: bool) -> Path:
    """A model of weights; `outside` puts their numbers into a second file, as torch's exporter does."""
    graph = Graph(weights, data=path.with_name(f"{path.name}.data") if outside else None, **how)
    path.write_bytes(model(graph.nodes, graph.tensors))
    return path
