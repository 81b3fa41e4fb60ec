"""What an ONNX graph says of InceptionV3, told in the operations of a frozen TensorFlow graph, which `Wiring` reads.

Kernels come as HWIO, each constant under the name of the operation that reads it, for
exporters give one array to all that have equal numbers. Exporters fold batch norms at
inference into the kernels: a convolution with ReLU behind it and no batch norm is told as
one with the batch norm that changes nothing but by its beta. That is the same network,
and not the trained statistics.

A file of our own is known by what its metadata say, and its constants by their names: its
average pools stand behind the convolutions that they feed.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from inception.architecture import EPSILON, Conv, walk
from inception.files.errors import UnsupportedFeature
from inception.files.onnx import Model, Node
from inception.files.tensor import Stored, damaged
from inception.files.tensorflow import graph_nodes, wire
from inception.files.tensorflow.graph_nodes import Graph
from inception.variants import SCOPE, Variant
from inception.weights.plan import AS_IS, MATRIX, Claim, Layout

FOLDED = (
    "batch norms were folded into the kernels: beta is the bias, mean 0, variance and epsilon are 1 together; "
    "the same network at inference, without the statistics it was trained with"
)
_OIHW = Layout(axes=(3, 2, 0, 1))
_TURNED = Layout(axes=(1, 0))
_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
_HANDS_ON = ("Identity", "Cast", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Reshape", "Dropout")
_FEATURES = (*_HANDS_ON, "GlobalAveragePool", "ReduceMean", "AveragePool", "Constant", "Shape")
_MEANS = ("GlobalAveragePool", "ReduceMean")


def check_numbers(model: Model) -> None:
    """Refuses a model that is quantized, in training mode, or that scales its pixels in its first kernel."""
    operations = {node.op for node in model.nodes}
    if any("quantizelinear" in op.lower() or op.startswith(("QLinear", "ConvInteger")) for op in operations):
        raise UnsupportedFeature(
            f"{model.path} is quantized, its numbers rounded to eight bits; give the weights that it was made from."
        )
    if any(node.op == "BatchNormalization" and node.integer("training_mode") for node in model.nodes):
        raise UnsupportedFeature(
            f"{model.path} was exported in training mode, its batch norms over each batch; export it after eval()."
        )
    if is_ours(model) and "Cast" in operations:
        raise UnsupportedFeature(
            f"{model.path} takes pixels, whose scaling is a part of its first kernel; give the weights that it was "
            "made from, or an export without --pixels."
        )


def check_head(model: Model) -> None:
    """Refuses a model with a head of its own behind the last join, where no classifier of InceptionV3 was found."""
    last = max((i for i, node in enumerate(model.nodes) if node.op == "Concat"), default=0)
    strange = [node.op for node in model.nodes[last + 1 :] if node.op not in _FEATURES]
    if strange:
        raise UnsupportedFeature(
            f"{model.path} has another head than InceptionV3's classifier ({', '.join(strange)[:200]}); cut it off "
            "behind the last pool (onnx.utils.extract_model), or give the weights that it was made from."
        )


# ---- our own files


def is_ours(model: Model) -> bool:
    """Whether `inception export` wrote the model."""
    return model.producer == "inception"


def named(model: Model, variant: Variant) -> dict[str, Stored]:
    """{canonical name: tensor} of a model that we wrote, as far as they are there."""
    tensors: dict[str, Stored] = {}
    for place in walk(variant.table(), channels=variant.channels):
        if not isinstance(place.node, Conv):
            continue
        scope = f"{SCOPE}/{place.path}"
        if not place.node.batch_norm:
            head = place.path.partition("/")[0]
            matrix, biases = model.tensors.get(f"{head}/kernel"), model.tensors.get(f"{head}/bias")
            if matrix and biases:
                tensors |= {f"{scope}/weights": _laid_out(matrix, MATRIX), f"{scope}/biases": biases}
            continue
        kernel = _first(model, f"{place.path}/kernel", f"{place.path}/convolution/kernel")
        beta = _first(model, f"{place.path}/bias", f"{place.path}/convolution/bias", f"{place.path}/offset")
        if kernel and beta:
            norm = _equivalent(beta, place.node.depth, variant.epsilon)
            tensors[f"{scope}/weights"] = _laid_out(kernel, _OIHW)
            tensors |= {f"{scope}/BatchNorm/{name}": norm[name] for name in _NORM[1:]}
    return tensors


def _first(model: Model, *names: str) -> Stored | None:
    return next((model.tensors[name] for name in names if name in model.tensors), None)


# ---- any graph


def gammas(claims: Iterable[Claim]) -> Iterator[Claim]:
    """The scales of kept batch norms, which ONNX always has, be they ones or not."""
    for claim in claims:
        if claim.canonical.endswith("/moving_variance"):
            stored, canonical = (n.replace("moving_variance", "gamma") for n in (claim.stored, claim.canonical))
            yield Claim(stored, canonical)


def translated(model: Model) -> tuple[Graph, bool]:
    """The graph in TensorFlow's operations, and whether batch norms were folded in it.

    What has no meaning here keeps its name, which `Wiring` then does not know.
    """
    writer = _Writer(model)
    for node in model.nodes:
        writer.add(node)
    return Graph(model.path, model.size, writer.nodes, writer.constants, True, False), writer.folded


class _Writer:
    """Writes nodes down, each under the name of the value that it gives."""

    def __init__(self, model: Model) -> None:
        self.nodes: dict[str, graph_nodes.Node] = {}
        self.constants: dict[str, Stored] = {}
        self.folded = False
        self._model = model
        self._givers = {output: node for node in model.nodes for output in node.outputs}
        self._readers: dict[str, list[Node]] = defaultdict(list)
        for node in model.nodes:
            for value in node.inputs:
                self._readers[value].append(node)

    def add(self, node: Node) -> None:
        if not node.outputs:
            return
        name, method = _in(node.outputs[0]), _METHODS.get(node.op)
        if method is None or not method(self, node, name):
            self._put(name, _SAME.get(node.op, node.op), *map(_in, node.inputs))

    # ---- operations; False for what they cannot say

    def conv(self, node: Node, name: str) -> bool:
        kernel, biases = self._constant(node, 1), self._constant(node, 2)
        if kernel is None or len(kernel.shape) != 4 or node.integer("group", 1) != 1 or len(node.inputs) > 3:
            return False
        if len(node.inputs) == 3 and node.inputs[2] and biases is None:
            return False
        behind = {reader.op for reader in self._readers[node.outputs[0]]}
        conv = self._put(
            f"{name}/convolution", "Conv2D", _in(node.inputs[0]), self._keep(f"{name}/kernel", kernel, _OIHW)
        )
        if behind == {"Relu"}:
            self.folded = True
            norm = _equivalent(biases, kernel.shape[0], EPSILON)
            return self._norm(name, conv, [self._keep(f"{name}/{key}", norm[key]) for key in _NORM], EPSILON)
        if biases is None:
            return bool(self._put(name, "Identity", conv))
        return "BatchNormalization" not in behind and self._sum(name, conv, biases)

    def batch_normalization(self, node: Node, name: str) -> bool:
        arrays = [self._constant(node, which) for which in range(1, 5)]
        if node.integer("training_mode") or None in arrays:
            return False
        kept = [self._keep(f"{name}/{key}", array) for key, array in zip(_NORM, arrays, strict=True) if array]
        return self._norm(name, _in(node.inputs[0]), kept, node.number("epsilon", 1e-5))

    def average_pool(self, node: Node, name: str) -> bool:
        x = _in(node.inputs[0])
        if node.integer("count_include_pad") and any(node.integers("pads")):
            x = self._put(f"{name}/border", "Pad", x)
        return bool(self._put(name, "AvgPool", x))

    def concat(self, node: Node, name: str) -> bool:
        inputs = list(map(_in, node.inputs))
        if len(inputs) == _FLAT:  # exporters join Mixed_7b's and 7c's inner pairs with the branches at once
            pairs = (inputs[1:3], inputs[3:5])
            inner = [self._put(f"{name}/{i}", "ConcatV2", *pair, "") for i, pair in enumerate(pairs)]
            inputs = [inputs[0], *inner, inputs[5]]
        return bool(self._put(name, "ConcatV2", *inputs, ""))

    def gemm(self, node: Node, name: str) -> bool:
        matrix, biases = self._constant(node, 1), self._constant(node, 2)
        plain = node.number("alpha", 1) == 1 == node.number("beta", 1) and not node.integer("transA")
        if matrix is None or biases is None or not plain or len(matrix.shape) != 2:
            return False
        kernel = self._keep(f"{name}/kernel", matrix, _TURNED if node.integer("transB") else AS_IS)
        return self._sum(name, self._put(f"{name}/product", "MatMul", _in(node.inputs[0]), kernel), biases)

    def matmul(self, node: Node, name: str) -> bool:
        matrix = self._constant(node, 1)
        if matrix is None or len(matrix.shape) != 2:
            return False
        return bool(self._put(name, "MatMul", _in(node.inputs[0]), self._keep(f"{name}/kernel", matrix)))

    def sum(self, node: Node, name: str) -> bool:
        for which in (1, 0):
            biases = self._constant(node, which)
            if biases is not None and len(node.inputs) == 2:
                return self._sum(name, _in(node.inputs[1 - which]), biases)
        return False

    # ---- nodes

    def _sum(self, name: str, x: str, biases: Stored) -> bool:
        return bool(self._put(name, "BiasAdd", x, self._keep(f"{name}/biases", biases)))

    def _norm(self, name: str, x: str, arrays: list[str], epsilon: float) -> bool:
        said = {"is_training": _FALSE, "epsilon": wire.encode_fixed32(graph_nodes.FLOAT, _bits(epsilon))}
        return bool(self._put(name, "FusedBatchNormV3", x, *arrays, **said))

    def _put(self, name: str, op: str, *inputs: str, **attributes: bytes) -> str:
        where = f"{self._model.path}: value {name[:200]!r}"
        if name in self.nodes:
            raise damaged(where, "is given by two operations")
        entries = [wire.encode_data(1, k.encode()) + wire.encode_data(2, v) for k, v in attributes.items()]
        read = [memoryview(value.encode()) for value in inputs]
        self.nodes[name] = graph_nodes.Node(name, op, read, [memoryview(entry) for entry in entries], where)
        return name

    def _keep(self, name: str, stored: Stored, layout: Layout = AS_IS) -> str:
        self.constants[name] = _laid_out(stored, layout)
        return self._put(name, "Const")

    def _constant(self, node: Node, which: int) -> Stored | None:
        """What a node reads, where it is a constant, or an Identity of one."""
        name = node.inputs[which] if which < len(node.inputs) else ""
        for _ in range(_LONGEST_WAY):
            giver = self._givers.get(name)
            if giver is None or giver.op != "Identity" or not giver.inputs:
                break
            name = giver.inputs[0]
        return self._model.tensors.get(name)


_FLAT = 6  # branches of Mixed_7b and 7c when their inner pairs count singly
_LONGEST_WAY = 8
_FALSE = wire.encode_varint(graph_nodes.BOOL << 3) + b"\0"  # written out: an empty value is none
_METHODS: dict[str, Callable[[_Writer, Node, str], bool]] = {
    "Conv": _Writer.conv,
    "BatchNormalization": _Writer.batch_normalization,
    "AveragePool": _Writer.average_pool,
    "Concat": _Writer.concat,
    "Gemm": _Writer.gemm,
    "MatMul": _Writer.matmul,
    "Add": _Writer.sum,
}
_SAME = dict.fromkeys(_HANDS_ON, "Identity") | dict.fromkeys(_MEANS, "Mean")


def _in(value: str) -> str:
    """A value's name as a node's: TensorFlow's may begin with ^ and end with :0, and mean something by it."""
    return f"<{value}>"


def _bits(number: float) -> int:
    return int(np.float32(number).view(np.uint32))


def _equivalent(beta: Stored | None, depth: int, epsilon: float) -> dict[str, Stored]:
    """The batch norm that only adds: without gamma, mean 0, and a variance that is 1 with epsilon added."""
    numbers = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1 - epsilon}
    arrays = {name: _full(depth, value) for name, value in numbers.items()}
    flat = beta and Stored((depth,), beta.dtype, lambda: beta.read().reshape(-1))
    if beta and flat and beta.shape not in ((depth,), (1, depth, 1, 1)):
        return arrays | {"beta": beta}  # for the plan to refuse
    return arrays | ({"beta": flat} if flat else {})


def _full(depth: int, value: float) -> Stored:
    return Stored((depth,), np.dtype(np.float32), functools.partial(np.full, depth, value, np.float32))


def _laid_out(stored: Stored, layout: Layout) -> Stored:
    """A tensor with the file's axes, as one with the canonical ones."""
    if layout.axes and len(stored.shape) != len(layout.axes):
        return stored
    shape = layout.canonical_shape(stored.shape)
    return Stored(shape, stored.dtype, lambda: layout.from_file(stored.read(), shape))
