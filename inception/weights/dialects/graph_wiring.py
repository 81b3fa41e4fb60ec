"""What the wiring of a frozen graph says: which constants a convolution and its batch norm read, and where they stand.

Names may be anything: those of a Keras graph are made by name scopes, and its constants
are called `unknown_7` or `.../ReadVariableOp/resource`. The wiring is the network itself,
and a join's inputs are in the order of the table's branches, so following it back from
the last join finds every place of the table, or shows that this is another network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from inception import architecture
from inception.architecture import AUX_END_POINT, Concat, Conv, Pool, Table
from inception.files.tensorflow.graph_nodes import BOOL, Graph, Node

_LONGEST_WAY = 64  # operations in a row that change no weights
_MOST_ADDED = 8  # batch norms and biases in a row; the network has one of either
_MOST_JOINS = 32  # to try as the network's last
_HAND_ON = {  # what hands a constant on as it is
    *("Identity", "ReadVariableOp", "StopGradient", "CheckNumerics", "Snapshot", "PlaceholderWithDefault"),
    *("Reshape", "Squeeze", "ExpandDims", "Cast"),
}
_SILENT = _HAND_ON | {"Relu", "Pad", "PadV2"}  # what no weights belong to
_FUSED = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
_OF_2015 = "BatchNormWithGlobalNormalization"
_CONV, _MATRIX, _JOINS = "Conv2D", "MatMul", ("ConcatV2", "Concat")
POOLS = {"MaxPool": "max", "AvgPool": "avg"}
_SUMS = ("Add", "AddV2", "BiasAdd")


class Norm(NamedTuple):
    """A batch norm at inference: the node it normalizes, and the constants it reads ("" for what is none)."""

    input: str
    beta: str
    mean: str
    variance: str
    scale: str | None  # None where it does not scale
    epsilon: float


class Source(NamedTuple):
    """One of the network's own operations, with the batch norm and the biases put on it."""

    node: Node
    norm: Norm | None = None
    biases: str | None = None


class Wiring:
    """The graph's convolutions by their kernel, and its batch norms by their moving variance."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.joins = [node.name for node in graph.nodes.values() if node.op in _JOINS]
        self._nodes = graph.nodes
        self._ends: dict[tuple[str, bool], Node | None] = {}
        self.convolutions: dict[str, Node] = {}
        self.norms: dict[str, Norm] = {}
        for node in graph.nodes.values():
            if node.op == _CONV:
                self.convolutions.setdefault(self.constant(_input(node, 1)), node)
            elif (norm := self._norm(node)) is not None:
                self.norms.setdefault(norm.variance, norm)

    def constant(self, name: str) -> str:
        """The constant that a node hands on, "" where it is none."""
        node = self._end(name, constant=True)
        return node.name if node is not None and node.op == "Const" else ""

    def source(self, name: str) -> Source | None:
        """The next of the network's own operations up the wire; batch norm, biases and ReLU are put on it."""
        found_norm, found_biases = None, None
        for _ in range(_MOST_ADDED):
            node = self._end(name)
            if node is None:
                return None
            norm = self._norm(node)
            biases = self.constant(_input(node, 1)) if node.op in _SUMS else ""
            if norm is None and not biases:
                return Source(node, found_norm, found_biases)
            found_norm, found_biases = norm or found_norm, biases or found_biases
            name = norm.input if norm else _input(node, 0)
        return None

    def name_of(self, name: str | None) -> str:
        """The name of the next of the network's own operations up the wire, "" where there is none."""
        found = self.source(name) if name is not None else None
        return found.node.name if found is not None else ""

    def classifiers(self) -> Iterator[Source]:
        """The matrix products and convolutions with biases and no ReLU behind them."""
        rectified = {_input(node, 0) for node in self._nodes.values() if node.op.startswith("Relu")}
        for node in self._nodes.values():
            if node.op in _SUMS and node.name not in rectified:
                found = self.source(node.name)
                if found is not None and found.biases and not found.norm and found.node.op in (_MATRIX, _CONV):
                    yield found

    def pool_before(self, kernel: str) -> Node | None:
        """The pool that feeds the convolution of this kernel."""
        conv = self.convolutions.get(kernel)
        found = self.source(_input(conv, 0)) if conv is not None else None
        return found.node if found is not None and found.node.op in POOLS else None

    def counts_border(self, pool: Node) -> bool:
        """Whether zeros are put around the map before a pool, and so count in its averages."""
        before = self._nodes.get(_input(pool, 0))
        return before is not None and before.op in ("Pad", "PadV2")

    def _end(self, name: str, constant: bool = False) -> Node | None:
        """Where a row of operations that change nothing starts."""
        key = name, constant
        if key not in self._ends:
            node = self._nodes.get(name)
            for _ in range(_LONGEST_WAY):
                if node is None or node.op not in (_HAND_ON if constant else _SILENT):
                    break
                node = self._nodes.get(_input(node, 0))
            self._ends[key] = node
        return self._ends[key]

    # ---- batch norm

    def _norm(self, node: Node) -> Norm | None:
        """The batch norm that a node is, or ends where it is written out in small operations."""
        if node.op == _OF_2015 and len(node.inputs) >= 5:
            x, mean, variance, beta, gamma = node.inputs[:5]
            scale = gamma if node.attribute("scale_after_normalization").integer(BOOL) else None
            return self._of(x, beta, mean, variance, scale, node.number("variance_epsilon", 0.0))
        # TensorFlow's own defaults, for what is not said: training, and 0.0001.
        if node.op in _FUSED and len(node.inputs) >= 5 and _says_inference(node):
            x, gamma, beta, mean, variance = node.inputs[:5]
            return self._of(x, beta, mean, variance, gamma, node.number("epsilon", 1e-4))
        return self._written_out(node) if node.op in ("Add", "AddV2") else None

    def _of(self, x: str, beta: str, mean: str, variance: str, scale: str | None, epsilon: float) -> Norm:
        used = None if scale is None else self.constant(scale)
        return Norm(x, self.constant(beta), self.constant(mean), self.constant(variance), used, epsilon)

    def _written_out(self, node: Node) -> Norm | None:
        """tf.nn.batch_normalization: x * inv + (beta - mean * inv), with inv = rsqrt(variance + epsilon) [* gamma]."""
        product, rest = self._operand(node, 0, "Mul"), self._operand(node, 1, "Sub")
        shift = self._operand(rest, 1, "Mul")
        if product is None or rest is None or shift is None:
            return None
        scaled = self._operand(shift, 1, "Mul")
        root = self._operand(scaled or shift, 0 if scaled else 1, "Rsqrt")
        total = self._operand(root, 0, "AddV2", "Add")
        epsilon = self.constant(_input(total, 1)) if total is not None else ""
        if total is None or not epsilon or self._graph.constants[epsilon].shape:
            return None
        x, beta, mean, variance = (_input(node, 0) for node in (product, rest, shift, total))
        scale = _input(scaled, 1) if scaled is not None else None
        return self._of(x, beta, mean, variance, scale, float(self._graph.constants[epsilon].read()))

    def _operand(self, node: Node | None, which: int, *ops: str) -> Node | None:
        """An input of a node, where it is one of these operations."""
        found = self._end(_input(node, which)) if node is not None else None
        return found if found is not None and found.op in ops else None


def _input(node: Node, which: int) -> str:
    return node.inputs[which] if which < len(node.inputs) else ""


def _says_inference(node: Node) -> bool:
    said = node.attribute("is_training")
    return BOOL in said and not said.integer(BOOL)


# ---- following the table back


def trace(wiring: Wiring, rows: Table) -> dict[str, Source] | None:
    """{place: the operation there} of the convolutions of `rows`; None where the graph is another network.

    A classifier is there where the graph has one just behind its last pool, the
    auxiliary head where it is whole.
    """
    for join in reversed(wiring.joins[-_MOST_JOINS:]):
        tracer = _Tracer(wiring)
        if tracer.back(rows.base, "", join) is not None:
            return tracer.places | _heads(tracer, rows, join)
    return None


class _Tracer:
    """Walks from an output back to the input, the table in hand."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.places: dict[str, Source] = {}
        self.joins: dict[str, str] = {}

    def back(self, branch: Sequence[architecture.Node], scope: str, name: str) -> str | None:
        """What a branch that ends in the node `name` reads; None where it is not this branch."""
        start: str | None = name
        for node in reversed(branch):
            found = self.wiring.source(start) if start is not None else None
            if found is None:
                return None
            place = f"{scope}/{node.name}".strip("/")
            start = self._join(node, place, found) if isinstance(node, Concat) else self._window(node, place, found)
        return start

    def _window(self, node: Conv | Pool, place: str, found: Source) -> str | None:
        if isinstance(node, Pool):
            # A pool of stride 1 may be of either kind, see `Variant.last_pool`.
            fits = found.node.op in POOLS and (node.stride == 1 or POOLS[found.node.op] == node.kind)
        else:
            fits = found.node.op == _CONV and found.norm is not None
            self.places[place] = found
        return _input(found.node, 0) if fits else None

    def _join(self, node: Concat, place: str, found: Source) -> str | None:
        join = found.node
        # ConcatV2 has its axis last, the older Concat first.
        inputs = join.inputs[1:] if join.op == "Concat" else join.inputs[:-1]
        if join.op not in _JOINS or len(inputs) != len(node.branches):
            return None
        starts = [
            self.back(branch, f"{place}/Branch_{i}" if node.name else place, name)
            for i, (branch, name) in enumerate(zip(node.branches, inputs, strict=True))
        ]
        read = {self.wiring.name_of(start) for start in starts}
        self.joins[node.name] = join.name
        return starts[0] if len(read) == 1 and "" not in read else None


def _heads(base: _Tracer, rows: Table, last: str) -> dict[str, Source]:
    wiring, heads = base.wiring, _Tracer(base.wiring)
    classifiers, auxiliary = [], []
    for classifier in wiring.classifiers():
        features = _input(classifier.node, 0)
        pool = wiring.source(features)
        pooled = pool is not None and pool.node.op in (*POOLS, "Mean")
        if pooled and pool is not None:
            features = _input(pool.node, 0)
        if pooled and wiring.name_of(features) == last:
            classifiers.append(classifier)
        elif wiring.name_of(heads.back(rows.aux_logits[:-1], "AuxLogits", features)) == base.joins[AUX_END_POINT]:
            auxiliary.append(classifier)
    found: dict[str, Source] = {}
    if len(classifiers) == 1:
        found[f"Logits/{rows.logits[-1].name}"] = classifiers[0]
    if len(auxiliary) == 1:
        found |= heads.places | {f"AuxLogits/{rows.aux_logits[-1].name}": auxiliary[0]}
    return found
