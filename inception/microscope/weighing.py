"""What the weights say by themselves: norms, channels that are dead, and how strongly channels hang together.

A convolution is taken as it runs: its kernel times batch norm's scale. The strength between a channel of an end point
and one of the next is the sum, over all ways through the convolutions between them, of the product of the kernels'
norms: for a single convolution its norm. Pools pass strength on as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np

from inception.architecture import AUX_END_POINT, END_POINTS, Concat, Conv, Node, Ops, Pool, fold
from inception.brief import one_line
from inception.inference.plan import batch_norm
from inception.variants import SCOPE
from inception.weights import Weights

NEIGHBOURS = 4  # strongest inputs and outputs that are kept of a channel
BINS = 48
_NOTHING = 1e-6  # of a kernel's greatest value: what is below it counts as zero


@dataclass(frozen=True)
class Weighed:
    """What the weights say of one end point's channels.

    Attributes:
        norm: of the kernel that makes each channel [channels]; 0 behind a mean.
        dead: bool [channels]: no picture brings it above zero.
        origin: the scope of the convolution that makes each channel, and its number there.
        inputs: the channels of the end point before that are strongest for each, [channels, n], and their shares of
            all strength that comes in.
        before: that end point, empty for the picture.
        outputs: the channels of the end point behind in which each is strongest, and its shares of what comes in there.
        behind: that end point, empty for the last.
        histogram: how many kernel values lie in each of equal bins from -reach to reach.
        reach: the value below which 99.9 % of them are, whatever their sign.
    """

    norm: np.ndarray
    dead: np.ndarray
    origin: tuple[tuple[str, int], ...]
    inputs: tuple[np.ndarray, np.ndarray]
    before: str
    outputs: tuple[np.ndarray, np.ndarray] | None
    behind: str
    histogram: np.ndarray
    reach: float

    __repr__ = one_line


@dataclass(frozen=True)
class _Flow:
    """What comes to a place: the strength of each channel of the end point before for each here, and the rest."""

    strength: np.ndarray
    norm: np.ndarray
    dead: np.ndarray
    origin: tuple[tuple[str, int], ...]


def _start(flow: _Flow) -> _Flow:
    return dataclasses.replace(flow, strength=np.eye(len(flow.norm), dtype=np.float32))


class _Weighing(Ops[_Flow]):
    """The fold that follows channels; `kernels` and `units` are those it met, by their scopes."""

    def __init__(self, weights: Weights) -> None:
        self.weights = weights
        self.kernels: dict[str, np.ndarray] = {}
        self.units: dict[str, _Flow] = {}

    def conv(self, node: Conv, x: _Flow, path: str) -> _Flow:
        kernel, offset = folded(self.weights, path)
        self.kernels[path] = kernel
        norms = np.sqrt(np.square(kernel).sum((0, 1)))
        small = _NOTHING * np.abs(kernel).max(initial=0)
        rising = (kernel if x.origin else np.abs(kernel)) > small  # a picture's values may be below zero
        dead = ~(rising.any((0, 1)) & ~x.dead[:, None]).any(0) & (offset <= 0)
        if not node.batch_norm:  # classes may well be below zero
            dead = np.zeros_like(dead)
        origin = tuple((path, i) for i in range(node.depth))
        self.units[path] = _Flow(x.strength @ norms, np.sqrt(np.square(norms).sum(0)), dead, origin)
        return self.units[path]

    def pool(self, node: Pool, x: _Flow, path: str) -> _Flow:
        return x

    def concat(self, node: Concat, xs: list[_Flow], path: str) -> _Flow:
        origin = sum((x.origin for x in xs), ())
        strength, norm, dead = (
            np.concatenate([getattr(x, name) for x in xs], axis=-1) for name in ("strength", "norm", "dead")
        )
        return _Flow(strength, norm, dead, origin)


def folded(weights: Weights, path: str) -> tuple[np.ndarray, np.ndarray]:
    """(kernel [h, w, in, out], offset [out]) of a convolution with batch norm in them: float32."""
    kernel = weights.arrays[f"{SCOPE}/{path}/weights"]
    if f"{SCOPE}/{path}/biases" in weights.arrays:
        return kernel, weights.arrays[f"{SCOPE}/{path}/biases"]
    scale, offset = batch_norm(weights, path)
    return (kernel * scale).astype(np.float32), offset.astype(np.float32)


def weigh(weights: Weights, units: Collection[str] = ()) -> dict[str, Weighed]:
    """{end point: what the weights say of its channels}, of all end points of a network, and of units asked for.

    What a unit gives is not told.
    """
    table, channels = weights.variant.table(), weights.variant.channels
    image = _Flow(np.eye(channels, dtype=np.float32), np.zeros(channels), np.zeros(channels, bool), ())
    rows: list[tuple[str, str, str, tuple[Node, ...]]] = []  # name, the one before, scope, nodes
    for before, row in zip(("", *END_POINTS), table.base, strict=False):
        rows.append((row.name, before, "", (row,)))
    last = table.base[-1].name
    rows += [("AuxLogits", AUX_END_POINT, "AuxLogits", table.aux_logits)] if table.aux_logits else []
    rows += [("PreLogits", last, "", ())]
    rows += [("Logits", "PreLogits", "Logits", table.logits[1:])] if table.logits else []
    flows: dict[str, _Flow] = {"": image}
    kernels: dict[str, list[np.ndarray]] = {}
    alone: dict[str, Weighed] = {}
    for name, before, scope, nodes in rows:
        ops = _Weighing(weights)
        flows[name] = [_start(flows[before]), *fold(ops, nodes, _start(flows[before]), scope).values()][-1]
        kernels[name] = list(ops.kernels.values())
        for path in ops.units.keys() & units:
            alone[path] = _weighed(ops.units[path], before, "", flows, [ops.kernels[path]])
    behind = {before: name for name, before, _, _ in rows if name != "AuxLogits"}
    return alone | {
        name: _weighed(flows[name], before, behind.get(name, ""), flows, kernels[name]) for name, before, _, _ in rows
    }


def _weighed(flow: _Flow, before: str, behind: str, flows: Mapping[str, _Flow], kernels: list[np.ndarray]) -> Weighed:
    values = np.concatenate([np.zeros(0, np.float32), *(kernel.ravel() for kernel in kernels)])
    reach = float(np.quantile(np.abs(values), 0.999)) if values.size else 0.0
    return Weighed(
        norm=flow.norm.astype(np.float32),
        dead=flow.dead,
        origin=flow.origin,
        inputs=_strongest(_shares(flow.strength).T),
        before=before,
        outputs=_strongest(_shares(flows[behind].strength)) if behind else None,
        behind=behind,
        histogram=np.histogram(values, BINS, (-reach or -1, reach or 1))[0],
        reach=reach,
    )


def _shares(strength: np.ndarray) -> np.ndarray:
    """Of all strength that comes into each channel, [channels before, channels]."""
    whole = strength.sum(0)
    return strength / np.where(whole > 0, whole, 1)


def _strongest(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(numbers, shares) of the greatest of each row."""
    best = np.argsort(-shares, axis=1, kind="stable")[:, :NEIGHBOURS]
    return best, np.take_along_axis(shares, best, axis=1)


def changes(weights: Weights, other: Weights) -> dict[str, np.ndarray]:
    """{scope of a convolution that both have: how far each of its kernels is from the other's, as a share of its norm}.

    Batch norm is in the kernels, and their offsets count as well.
    """
    found = {}
    for name in weights.arrays:
        there = other.arrays.get(name)
        if name.endswith("/weights") and there is not None and there.shape == weights.arrays[name].shape:
            path = name.removeprefix(f"{SCOPE}/").removesuffix("/weights")
            (one, plus), (two, more) = folded(weights, path), folded(other, path)
            away = np.square(one - two).sum((0, 1, 2)) + np.square(plus - more)
            size = np.square(one).sum((0, 1, 2)) + np.square(plus)
            found[path] = np.sqrt(away / np.maximum(size, np.finfo(np.float32).tiny)).astype(np.float32)
    return found
