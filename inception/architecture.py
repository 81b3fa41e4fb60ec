"""The network as data: InceptionV3's table, and the walk over it.

Three kinds of node: `Conv`, `Pool` and `Concat`; a branch is a tuple of nodes. `BASE`
lists the 18 end points of the base, `AUX_LOGITS` and `LOGITS` the two heads. A builder
is a `fold` of an `Ops` over these rows; `walk` is the fold that counts shapes, parameters
and multiply-adds. No framework here, only numbers.

Sources: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision"
(arXiv 1512.00567; figure numbers below are its), and the scopes of tf-slim's
`inception_v3`, which name every place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import string
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

Padding = Literal["SAME", "VALID"]
Border = Literal["exclude", "include"]  # what average pools of padding SAME divide by (see `Variant`)
Borders = tuple[tuple[int, int], tuple[int, int]]  # rows and columns of zeros, (before, after)
Size = int | None

CLASSES = -1  # the depth of a classifier: the number of classes, never scaled
EPSILON = 1e-3  # what every batch norm adds to the variance, unless a file says another
MIN_SIZE = 75  # the smallest image whose last maps are 1x1
MIN_SIZE_AUX = 107  # the smallest image whose Mixed_6e fills the head's 5x5 pool


@dataclass(frozen=True)
class Conv:
    """A convolution, then batch norm and ReLU; a classifier (`batch_norm=False`) has biases instead.

    Attributes:
        depth: channels that come out.
        kernel: its height and width.
        stride: in both directions.
        padding: "SAME" or "VALID".
        batch_norm: without it the layer has biases, and no ReLU.
        stddev: of a truncated normal initializer, where slim sets one.
        fits: the kernel shrinks to a smaller map, and the name says its size.
        name: the last part of slim's scope.
    """

    depth: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: Padding = "SAME"
    batch_norm: bool = True
    stddev: float | None = None
    fits: bool = False
    name: str = ""


@dataclass(frozen=True)
class Pool:
    """A maximum or average pool. Average pools of padding SAME have a border rule (see `Variant`).

    Attributes:
        kind: "max" or "avg".
        kernel: its height and width.
        stride: in both directions.
        padding: "SAME" or "VALID".
        fits: the kernel shrinks to a smaller map, and the name says its size.
        name: the last part of slim's scope.
    """

    kind: Literal["max", "avg"]
    kernel: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: Padding = "SAME"
    fits: bool = False
    name: str = ""

    def borders(self, rule: Border) -> Borders | None:
        """The zeros around a map that the pool counts in its averages; None where it counts none."""
        if rule == "exclude" or self.kind != "avg" or self.padding != "SAME":
            return None
        (top, bottom), (left, right) = (((size - 1) // 2, size // 2) for size in self.kernel)
        return (top, bottom), (left, right)


@dataclass(frozen=True)
class Concat:
    """Branches side by side, joined along the channels.

    Attributes:
        branches: each a row of nodes, one after the other.
        name: of the scope that it opens; without one it opens none.
    """

    branches: tuple[tuple[Node, ...], ...]
    name: str = ""


Node = Conv | Pool | Concat


# --- The table -------------------------------------------------------------------------

# The five scopes that do not follow slim's rule; every slim checkpoint has them.
_IRREGULAR = {
    "Mixed_5c/Branch_1/Conv2d_0a_1x1": "Conv2d_0b_1x1",
    "Mixed_5c/Branch_1/Conv2d_0b_5x5": "Conv_1_0c_5x5",
    "Mixed_6a/Branch_0/Conv2d_1a_3x3": "Conv2d_1a_1x1",
    "Mixed_6a/Branch_1/Conv2d_1a_3x3": "Conv2d_1a_1x1",
    "Mixed_7b/Branch_1/Conv2d_0c_3x1": "Conv2d_0b_3x1",
}


def _mixed(name: str, *branches: Sequence[Node]) -> Concat:
    """A Mixed row whose nodes are named by slim's rule, but for the five exceptions."""
    named = (_named(f"{name}/Branch_{i}", branch, iter(string.ascii_lowercase)) for i, branch in enumerate(branches))
    return Concat(tuple(named), name)


def _named(scope: str, branch: Iterable[Node], letters: Iterable[str]) -> tuple[Node, ...]:
    """The n-th node of a branch is `0a`, `0b`, ... of its kind and kernel; one of stride 2 is `1a`."""
    nodes: list[Node] = []
    for node in branch:
        if isinstance(node, Concat):
            nodes.append(Concat(tuple(_named(scope, b, letters) for b in node.branches)))
            continue
        letter = next(iter(letters))
        kind = "Conv2d" if isinstance(node, Conv) else {"max": "MaxPool", "avg": "AvgPool"}[node.kind]
        place = f"0{letter}" if node.stride == 1 else "1a"
        name = f"{kind}_{place}_{node.kernel[0]}x{node.kernel[1]}"
        nodes.append(dataclasses.replace(node, name=_IRREGULAR.get(f"{scope}/{name}", name)))
    return tuple(nodes)


def _c(depth: int, height: int = 1, width: int | None = None) -> Conv:
    return Conv(depth, (height, width or height))


def _reduce(depth: int) -> Conv:
    return Conv(depth, (3, 3), stride=2, padding="VALID")


def _split(*nodes: Conv) -> Concat:
    return Concat(tuple((node,) for node in nodes))


_AVG = Pool("avg")
_MAX_REDUCE = Pool("max", stride=2, padding="VALID")


def _mixed_35(name: str, pool_depth: int) -> Concat:
    """35x35 maps (figure 5), with slim's 5x5 branch kept whole."""
    return _mixed(
        name,
        [_c(64)],
        [_c(48), _c(64, 5)],
        [_c(64), _c(96, 3), _c(96, 3)],
        [_AVG, _c(pool_depth)],
    )


def _mixed_17(name: str, d: int) -> Concat:
    """17x17 maps: 7x7 convolutions factorised into 1x7 and 7x1 (figure 6, n = 7)."""
    return _mixed(
        name,
        [_c(192)],
        [_c(d), _c(d, 1, 7), _c(192, 7, 1)],
        [_c(d), _c(d, 7, 1), _c(d, 1, 7), _c(d, 7, 1), _c(192, 1, 7)],
        [_AVG, _c(192)],
    )


def _mixed_8(name: str) -> Concat:
    """8x8 maps: the expanded filter bank (figure 7)."""
    return _mixed(
        name,
        [_c(320)],
        [_c(384), _split(_c(384, 1, 3), _c(384, 3, 1))],
        [_c(448), _c(384, 3), _split(_c(384, 1, 3), _c(384, 3, 1))],
        [_AVG, _c(192)],
    )


# fmt: off
BASE: tuple[Node, ...] = (                                                          # 299 x 299 x 3
    Conv(32,  (3, 3), stride=2, padding="VALID", name="Conv2d_1a_3x3"),             # 149 x 149 x 32
    Conv(32,  (3, 3),           padding="VALID", name="Conv2d_2a_3x3"),             # 147 x 147 x 32
    Conv(64,  (3, 3),                            name="Conv2d_2b_3x3"),             # 147 x 147 x 64
    Pool("max",       stride=2, padding="VALID", name="MaxPool_3a_3x3"),            #  73 x  73 x 64
    Conv(80,  (1, 1),           padding="VALID", name="Conv2d_3b_1x1"),             #  73 x  73 x 80
    Conv(192, (3, 3),           padding="VALID", name="Conv2d_4a_3x3"),             #  71 x  71 x 192
    Pool("max",       stride=2, padding="VALID", name="MaxPool_5a_3x3"),            #  35 x  35 x 192
    _mixed_35("Mixed_5b", pool_depth=32),                                           #  35 x  35 x 256
    _mixed_35("Mixed_5c", pool_depth=64),                                           #  35 x  35 x 288
    _mixed_35("Mixed_5d", pool_depth=64),                                           #  35 x  35 x 288
    _mixed("Mixed_6a",                                   # grid reduction, figure 10
           [_reduce(384)],
           [_c(64), _c(96, 3), _reduce(96)],
           [_MAX_REDUCE]),                                                          #  17 x  17 x 768
    _mixed_17("Mixed_6b", 128),                                                     #  17 x  17 x 768
    _mixed_17("Mixed_6c", 160),                                                     #  17 x  17 x 768
    _mixed_17("Mixed_6d", 160),                                                     #  17 x  17 x 768
    _mixed_17("Mixed_6e", 192),                                                     #  17 x  17 x 768
    _mixed("Mixed_7a",
           [_c(192), _reduce(320)],
           [_c(192), _c(192, 1, 7), _c(192, 7, 1), _reduce(192)],
           [_MAX_REDUCE]),                                                          #   8 x   8 x 1280
    _mixed_8("Mixed_7b"),                                                           #   8 x   8 x 2048
    _mixed_8("Mixed_7c"),                                                           #   8 x   8 x 2048
)

AUX_LOGITS: tuple[Node, ...] = (                         # on Mixed_6e             17 x  17 x 768
    Pool("avg", (5, 5), stride=3, padding="VALID", name="AvgPool_1a_5x5"),          #   5 x   5 x 768
    Conv(128, (1, 1), name="Conv2d_1b_1x1"),                                        #   5 x   5 x 128
    Conv(768, (5, 5), padding="VALID", stddev=0.01, fits=True, name="Conv2d_2a_5x5"),   #   1 x   1 x 768
    Conv(CLASSES, batch_norm=False, stddev=0.001, name="Conv2d_2b_1x1"),            #   1 x   1 x classes
)

LOGITS: tuple[Node, ...] = (                             # on Mixed_7c              8 x   8 x 2048
    Pool("avg", (8, 8), stride=2, padding="VALID", fits=True, name="AvgPool_1a_8x8"),  # 1 x  1 x 2048
    Conv(CLASSES, batch_norm=False, name="Conv2d_1c_1x1"),                          #   1 x   1 x classes
)
# fmt: on

END_POINTS: tuple[str, ...] = tuple(row.name for row in BASE)
AUX_END_POINT = "Mixed_6e"  # where the auxiliary head starts


@dataclass(frozen=True)
class Table:
    """The rows of one concrete network: depths scaled, classes set, heads there or empty.

    Attributes:
        base: from the picture to Mixed_7c.
        aux_logits: the auxiliary head, on Mixed_6e.
        logits: the classifier.
    """

    base: tuple[Node, ...]
    aux_logits: tuple[Node, ...] = ()
    logits: tuple[Node, ...] = ()

    def up_to(self, final_endpoint: str) -> Table:
        """The base cut after `final_endpoint`, without heads. ValueError for an unknown name."""
        names = [row.name for row in self.base]
        if final_endpoint not in names:
            raise ValueError(f"Unknown final_endpoint {final_endpoint!r}; expected one of {', '.join(names)}.")
        return Table(self.base[: names.index(final_endpoint) + 1])


def table(
    num_classes: int | None = 1000,
    *,
    aux_logits: bool = True,
    depth_multiplier: float = 1.0,
    min_depth: int = 16,
    last_pool: Literal["avg", "max"] = "avg",
    aux_kernel: tuple[int, int] = (5, 5),
) -> Table:
    """The network's rows for one choice of classes, heads and width.

    `num_classes` of None or 0 leaves both heads out. `depth_multiplier` scales every
    depth, not below `min_depth`. `last_pool` is the kind of Mixed_7c's branch pool (the
    2015 graph has "max"). `aux_kernel` is the auxiliary head's last kernel, smaller than
    5x5 in networks made for images under 299 pixels.
    """
    if not depth_multiplier > 0:
        raise ValueError(f"depth_multiplier is {depth_multiplier}; expected a number greater than zero.")

    def concrete(node: Node) -> Node:
        if isinstance(node, Concat):
            return dataclasses.replace(node, branches=tuple(tuple(map(concrete, b)) for b in node.branches))
        if isinstance(node, Conv) and node.depth == CLASSES:
            return dataclasses.replace(node, depth=num_classes or 0)
        if isinstance(node, Conv):
            node = dataclasses.replace(node, depth=max(int(node.depth * depth_multiplier), min_depth))
            return _resized(node, aux_kernel) if node.fits else node
        return node

    base = [concrete(row) for row in BASE]
    if last_pool == "max":
        base[-1] = _with_max_pool(base[-1])
    return Table(
        tuple(base),
        tuple(map(concrete, AUX_LOGITS)) if num_classes and aux_logits else (),
        tuple(map(concrete, LOGITS)) if num_classes else (),
    )


def _with_max_pool(row: Node) -> Node:
    """Mixed_7c as the graph of 2015 has it: a maximum pool in its last branch, same name."""
    assert isinstance(row, Concat)
    *branches, (pool, conv) = row.branches
    assert isinstance(pool, Pool)
    return dataclasses.replace(row, branches=(*branches, (dataclasses.replace(pool, kind="max"), conv)))


# --- The fold --------------------------------------------------------------------------

T = TypeVar("T")
N = TypeVar("N", Conv, Pool)


class Ops(Generic[T]):
    """What the three node kinds mean in one framework; a builder overrides the methods."""

    def conv(self, node: Conv, x: T, path: str) -> T:
        raise NotImplementedError

    def pool(self, node: Pool, x: T, path: str) -> T:
        raise NotImplementedError

    def concat(self, node: Concat, xs: list[T], path: str) -> T:
        raise NotImplementedError

    def scope(self, name: str) -> contextlib.AbstractContextManager[object]:
        """Entered around a Mixed row, each of its branches, and a head."""
        return contextlib.nullcontext()


def fold(ops: Ops[T], nodes: Iterable[Node], x: T, scope: str = "") -> dict[str, T]:
    """Runs `nodes` over `x` one after the other: {name: value} for each, the last one the result.

    `path`, as the operations get it, is the slim scope below `InceptionV3/`.
    """
    values: dict[str, T] = {}
    for node in nodes:
        x = _apply(ops, node, x, scope)
        values[node.name] = x
    return values


def _apply(ops: Ops[T], node: Node, x: T, scope: str) -> T:
    path = f"{scope}/{node.name}" if scope and node.name else scope or node.name
    if isinstance(node, Conv):
        return ops.conv(node, x, path)
    if isinstance(node, Pool):
        return ops.pool(node, x, path)
    if not node.name:
        return ops.concat(node, [_last(ops, branch, x, path) for branch in node.branches], path)
    with ops.scope(node.name):
        outputs = []
        for i, branch in enumerate(node.branches):
            with ops.scope(f"Branch_{i}"):
                outputs.append(_last(ops, branch, x, f"{path}/Branch_{i}"))
        return ops.concat(node, outputs, path)


def _last(ops: Ops[T], nodes: Iterable[Node], x: T, scope: str) -> T:
    for node in nodes:
        x = _apply(ops, node, x, scope)
    return x


def fit(node: N, height: Size, width: Size) -> N:
    """The node with its kernel (and name) shrunk to a smaller map; unknown sizes count as large enough."""
    if not node.fits or height is None or width is None:
        return node
    return _resized(node, (min(height, node.kernel[0]), min(width, node.kernel[1])))


def _resized(node: N, kernel: tuple[int, int]) -> N:
    stem = node.name.rpartition("_")[0]
    return dataclasses.replace(node, kernel=kernel, name=f"{stem}_{kernel[0]}x{kernel[1]}")


# --- The walk --------------------------------------------------------------------------

MapShape = tuple[Size, Size, int]


@dataclass(frozen=True)
class Place:
    """A node where it stands. Shapes are (height, width, channels) for one image; None is an unknown size.

    Attributes:
        path: its slim scope, below `InceptionV3/`.
        node: what stands there.
        input_shape: of what goes in.
        output_shape: of what comes out.
    """

    path: str
    node: Node
    input_shape: MapShape
    output_shape: MapShape

    def variables(self, gamma: bool = False) -> dict[str, tuple[int, ...]]:
        """The shapes of this place's variables under slim's names, in slim's order."""
        node = self.node
        if not isinstance(node, Conv):
            return {}
        shapes: dict[str, tuple[int, ...]] = {"weights": (*node.kernel, self.input_shape[2], node.depth)}
        if not node.batch_norm:
            return shapes | {"biases": (node.depth,)}
        names = ["beta", *(["gamma"] if gamma else []), "moving_mean", "moving_variance"]
        return shapes | {f"BatchNorm/{name}": (node.depth,) for name in names}

    def parameters(self, gamma: bool = False, trainable_only: bool = False) -> int:
        """Numbers stored here; `trainable_only` leaves the moving statistics out."""
        return sum(
            math.prod(shape)
            for name, shape in self.variables(gamma).items()
            if not (trainable_only and "moving_" in name)
        )

    @property
    def multiply_adds(self) -> int | None:
        """Multiply-adds of the convolution for one image; None where the map's size is unknown."""
        if not isinstance(self.node, Conv):
            return 0
        height, width, depth = self.output_shape
        if height is None or width is None:
            return None
        return height * width * depth * math.prod(self.node.kernel) * self.input_shape[2]


class _Walk(Ops[MapShape]):
    def __init__(self) -> None:
        self.places: list[Place] = []

    def _place(self, node: Node, x: MapShape, y: MapShape, path: str) -> MapShape:
        self.places.append(Place(path, node, x, y))
        return y

    def conv(self, node: Conv, x: MapShape, path: str) -> MapShape:
        return self._window(fit(node, x[0], x[1]), x, node.depth, path)

    def pool(self, node: Pool, x: MapShape, path: str) -> MapShape:
        return self._window(fit(node, x[0], x[1]), x, x[2], path)

    def _window(self, fitted: Conv | Pool, x: MapShape, depth: int, path: str) -> MapShape:
        path = "/".join([*path.split("/")[:-1], fitted.name])
        height, width = (_positions(x[axis], fitted, axis) for axis in (0, 1))
        if 0 in (height, width):
            raise ValueError(
                f"{path}: a map of {x[0]}x{x[1]} is too small for a {fitted.kernel[0]}x{fitted.kernel[1]} window; "
                f"InceptionV3 needs images of at least {MIN_SIZE}x{MIN_SIZE}, "
                f"and of {MIN_SIZE_AUX}x{MIN_SIZE_AUX} with the AuxLogits head."
            )
        return self._place(fitted, x, (height, width, depth), path)

    def concat(self, node: Concat, xs: list[MapShape], path: str) -> MapShape:
        y = (xs[0][0], xs[0][1], sum(x[2] for x in xs))
        return self._place(node, xs[0], y, path)


def _positions(size: Size, node: Conv | Pool, axis: int) -> Size:
    """How many places a window has along one axis of a map."""
    if size is None:
        return None
    free = size if node.padding == "SAME" else size - node.kernel[axis] + 1
    return max(0, -(-free // node.stride))


def walk(rows: Table, height: Size = None, width: Size = None, channels: int = 3) -> list[Place]:
    """Every place of the network in creation order (base, AuxLogits, Logits), with its shapes.

    Unnamed inner concats appear under their branch's path, so paths of `Conv` and `Pool`
    places are unique, those of `Concat` need not be. Raises ValueError when the image is
    too small for the rows asked for.
    """
    ops = _Walk()
    base = fold(ops, rows.base, (height, width, channels))
    if rows.aux_logits:
        fold(ops, rows.aux_logits, base[AUX_END_POINT], "AuxLogits")
    if rows.logits:
        fold(ops, rows.logits, base[rows.base[-1].name], "Logits")
    return ops.places


def convolutions(rows: Table) -> list[Place]:
    """The convolutions with batch norm, in creation order: 94 in the base, then the auxiliary head's two."""
    return [p for p in walk(rows) if isinstance(p.node, Conv) and p.node.batch_norm]


@dataclass(frozen=True)
class Block:
    """A row of the base, or a head, with all that is in it.

    Attributes:
        name: its slim scope.
        output_shape: (height, width, channels) for one image; None is an unknown size.
        parameters: numbers stored in it, moving statistics included.
        multiply_adds: for one image; 0 where the map's size is unknown.
    """

    name: str
    output_shape: MapShape
    parameters: int
    multiply_adds: int


def blocks(rows: Table, height: Size = None, width: Size = None, channels: int = 3, gamma: bool = False) -> list[Block]:
    """The rows of a network, then its heads, with what each holds and costs. Raises as `walk` does."""
    inside: dict[str, list[Place]] = {}
    for place in walk(rows, height, width, channels):
        inside.setdefault(place.path.partition("/")[0], []).append(place)
    return [
        Block(name, p[-1].output_shape, sum(x.parameters(gamma) for x in p), sum(x.multiply_adds or 0 for x in p))
        for name, p in inside.items()
    ]


def end_point_shapes(rows: Table, height: Size = None, width: Size = None) -> dict[str, MapShape]:
    """{end point: (height, width, channels)} of the base's rows."""
    places = walk(Table(rows.base), height, width)
    names = {row.name for row in rows.base}
    return {p.path: p.output_shape for p in places if p.path in names}


def count(
    rows: Table,
    what: Callable[[Place], int | None] = Place.parameters,
    height: Size = 299,
    width: Size = 299,
) -> int:
    """The sum of `what` over the network: `Place.parameters` (default) or a lambda of it."""
    return sum(what(place) or 0 for place in walk(rows, height, width))
