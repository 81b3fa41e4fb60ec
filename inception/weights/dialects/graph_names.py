"""The node names of the graph of 2015-12-05, from the table by rule.

A name is its kind (`conv`, `pool`, `mixed`, `tower`), numbered from the second on within
its scope. A row is a `mixed`; in it a branch of one node stands directly, a longer one in
a `tower`; the two last convolutions of a branch of Mixed_7b and 7c stand in a `mixed` of
their own. So Mixed_7a, whose branches are both long, has towers alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from inception.architecture import Conv, Node, Pool, Table, walk
from inception.variants import SCOPE, Variant
from inception.weights.plan import AS_IS, MATRIX, Layout

LAST_POOL = "Mixed_7c/Branch_3/AvgPool_0a_3x3"  # the place that is a maximum in this graph
_CLASSIFIER = "Logits/Conv2d_1c_1x1"
_VARIABLES = {"weights": "conv2d_params"} | {
    f"BatchNorm/{name}": f"batchnorm/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance")
}


def nodes(rows: Table) -> dict[str, str]:
    """{place: node} of every convolution and pool of the base, of the last pool and of the classifier (`softmax`)."""
    named = dict(_named(rows.base, "", "", Counter()))
    heads = {f"Logits/{node.name}": "pool_3" if isinstance(node, Pool) else "softmax" for node in rows.logits}
    return named | heads


def variables(variant: Variant) -> dict[str, tuple[str, Layout]]:
    """{canonical variable: (Const node, layout)} of everything the graph holds: it has no auxiliary head."""
    node_of = nodes(variant.table())
    table: dict[str, tuple[str, Layout]] = {}
    for place in walk(variant.table(), channels=variant.channels):
        if place.path not in node_of:
            continue
        for variable in place.variables(variant.gamma):
            if place.path == _CLASSIFIER:
                target = f"softmax/{variable}", MATRIX if variable == "weights" else AS_IS
            else:
                target = f"{node_of[place.path]}/{_VARIABLES[variable]}", AS_IS
            table[f"{SCOPE}/{place.path}/{variable}"] = target
    return table


def _named(branch: Iterable[Node], scope: str, path: str, used: Counter[str]) -> Iterator[tuple[str, str]]:
    for node in branch:
        place = f"{path}/{node.name}".strip("/")
        if isinstance(node, Conv | Pool):
            yield place, _numbered(f"{scope}{'conv' if isinstance(node, Conv) else 'pool'}", used)
            continue
        inside = _numbered(f"{scope}mixed", used) + "/"
        for i, nodes_of in enumerate(node.branches):
            tower = inside if len(nodes_of) == 1 else _numbered(f"{inside}tower", used) + "/"
            yield from _named(nodes_of, tower, f"{place}/Branch_{i}" if node.name else place, used)


def _numbered(name: str, used: Counter[str]) -> str:
    number = used[name]
    used[name] += 1
    return f"{name}_{number}" if number else name
