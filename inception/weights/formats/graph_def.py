"""Frozen TensorFlow graphs (`.pb`): that of 2015, what retrain.py makes of it, slim's and Keras's; written as slim's.

A graph is never run, nor even imported: its constants are matched with the table, and its
wiring says what names cannot tell, the kind of the pools, the epsilon of every batch norm
and whether it scales. Batch norms that differ in epsilon are refused, though a difference
could be moved into the variance: the sum would be rounded, so the numbers would no longer
be the file's.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from inception import variants
from inception.architecture import Border
from inception.files.atomic import replacing
from inception.files.errors import CorruptFile, UnsupportedFeature
from inception.files.tensor import Shape, Stored
from inception.files.tensorflow import graph_nodes
from inception.files.tensorflow.graph_nodes import SIDE_FILE, Graph
from inception.variants import SCOPE, Variant, written_epsilon
from inception.weights.canonical import Source, Weights, check_same, integrity
from inception.weights.dialects import graph_families
from inception.weights.dialects.graph_families import POOLED, TITLE, Family
from inception.weights.dialects.graph_wiring import POOLS, Norm, Wiring
from inception.weights.formats import graph_def_writer
from inception.weights.plan import Claim, assemble
from inception.weights.published import catalogue

__all__ = ["TITLE", "read", "weights_of", "write"]

_BETA, _GAMMA, _MEAN, _VARIANCE = (f"BatchNorm/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance"))


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a frozen graph.

    Raises:
        UnsupportedFeature: For a graph of another network, one frozen while training or not at all, a SavedModel, and
            batch norms that compute otherwise.
        MissingTensor, ShapeMismatch: Where part of the network is there.
        CorruptFile: For damage.
    """
    graph = graph_nodes.read(path)
    wiring = Wiring(graph)
    return weights_of(graph, wiring, graph_families.find(graph, wiring))


def weights_of(graph: Graph, wiring: Wiring, family: Family) -> Weights:
    """The weights of a family that was found in a graph. Raises as `read` does."""
    where = f"{graph.path} ({family.title})"
    claims, tensors, epsilon, notes = _with_scales(graph, wiring, family, where)
    like = dataclasses.replace(_with_pools(wiring, family, where), epsilon=epsilon)

    def variant_of(shapes: Mapping[str, Shape]) -> Variant:
        variant = variants.infer(shapes, like)
        if not variant.num_classes and not graph.whole:
            raise CorruptFile(f"{where} has no classifier and ends before its version, as if cut short; copy it again.")
        return dataclasses.replace(variant, background=False) if family.retrained else variant

    source = Source(graph.path, family.title, integrity(graph.checksummed), notes=notes)
    used = {claim.stored: tensors[claim.stored] for claim in claims}
    return assemble(claims, used, source, variant_of, family.picture)


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes a frozen graph under slim's node names (see `graph_def_writer`), and its SHA-256 digest beside it.

    The graph is read back and compared before it gets its name. While the two files are
    replaced there is no digest, so that a graph never stands beside another's.
    """
    target = Path(path)
    side = target.with_name(target.name + SIDE_FILE)
    with replacing(target, side, together=True) as [temporary, digest]:
        with open(temporary, "wb") as file:
            graph_def_writer.write(file, weights)
        again = read(temporary)
        check_same(again, weights, os.fspath(target))
        if again.variant != dataclasses.replace(weights.variant, epsilon=written_epsilon(weights.variant.epsilon)):
            raise CorruptFile(f"{target}: the variant did not read back as written; nothing was saved, check the disk.")
        digest.write_text(f"{catalogue.digests(temporary, ['sha256'])['sha256']}  {target.name}\n")


# ---- what the wiring says


class _Found(NamedTuple):
    claims: list[Claim]
    tensors: dict[str, Stored]
    epsilon: float
    notes: tuple[str, ...]


def _with_scales(graph: Graph, wiring: Wiring, family: Family, where: str) -> _Found:
    """The family's claims, with a gamma for every batch norm where any scales, and for none where none does."""
    claims = {claim.canonical: claim for claim in family.claims}
    scopes = [name.removesuffix(_VARIANCE) for name in claims if name.endswith(_VARIANCE)]
    if not scopes:
        raise graph_families.not_frozen(graph)
    tensors = {claim.stored: graph.constants[claim.stored] for claim in family.claims}
    graph.check_room(tensors)
    scales = {}
    epsilons: dict[float, str] = {}
    for scope in scopes:
        norm = _norm(wiring, claims, scope, where)
        epsilons.setdefault(written_epsilon(norm.epsilon), norm.variance)
        if norm.scale is not None and not _says_nothing(graph, norm, claims.get(f"{scope}{_GAMMA}"), where):
            scales[f"{scope}{_GAMMA}"] = norm.scale
    if len(epsilons) > 1:
        (first, one), (second, another), *_ = epsilons.items()
        raise UnsupportedFeature(
            f"{where}: the batch norm of {another} adds {second:g} to the variance, that of {one} adds {first:g}; "
            "expected the same in all."
        )
    unused = [name for name in claims if name.endswith(_GAMMA) and name not in scales]
    notes = family.notes + ((f"{len(unused)} gammas left out, which no batch norm uses",) if unused else ())
    kept = {name: claim for name, claim in claims.items() if name not in unused}
    for scope in scopes if scales else ():
        name, variance = f"{scope}{_GAMMA}", claims[f"{scope}{_VARIANCE}"].stored
        stored = scales.get(name, f"{name}, which is 1")
        tensors[stored] = graph.constants.get(stored) or _ones(tensors[variance].shape)
        kept[name] = Claim(stored, name)
    return _Found(list(kept.values()), tensors, next(iter(epsilons)), notes)


def _norm(wiring: Wiring, claims: Mapping[str, Claim], scope: str, where: str) -> Norm:
    """The batch norm whose moving variance is the scope's, once it is what our networks compute."""
    named = {end: claims[f"{scope}{end}"].stored for end in (_BETA, _MEAN) if f"{scope}{end}" in claims}
    variance = claims[f"{scope}{_VARIANCE}"].stored
    norm = wiring.norms.get(variance)
    if norm is None:
        raise UnsupportedFeature(f"{where}: no batch norm at inference reads {variance}; freeze the inference graph.")
    wired = {_BETA: norm.beta, _MEAN: norm.mean}
    if any(wired[end] != stored for end, stored in named.items()):
        raise UnsupportedFeature(
            f"{where}: the batch norm of {variance} reads {norm.beta!r} and {norm.mean!r} where "
            f"{' and '.join(named.values())} were expected."
        )
    if not 0 <= norm.epsilon < math.inf:
        raise UnsupportedFeature(f"{where}: the batch norm of {variance} adds {norm.epsilon:g} to the variance.")
    return norm


def _says_nothing(graph: Graph, norm: Norm, gamma: Claim | None, where: str) -> bool:
    """Whether a batch norm's scale is no variable but the ones that TensorFlow puts where there is none."""
    if gamma is not None and gamma.stored == norm.scale:
        return False
    scale = graph.constants.get(norm.scale or "")
    if scale is None or scale.shape != graph.constants[norm.variance].shape or gamma is not None:
        raise UnsupportedFeature(f"{where}: the scale of {norm.variance}'s batch norm is no constant of its own.")
    return bool((scale.read() == 1).all())


def _ones(shape: Shape) -> Stored:
    return Stored(shape, np.dtype(np.float32), functools.partial(np.ones, shape, np.float32))


def _with_pools(wiring: Wiring, family: Family, where: str) -> Variant:
    """What shapes cannot tell, with the pools as the graph has them."""
    kernel_of = {claim.canonical: claim.stored for claim in family.claims}
    kernels = [kernel_of.get(f"{SCOPE}/{place}/weights") for place in POOLED]
    if None in kernels:
        return family.like  # the plan will say what is missing
    first, last = family.pools or [wiring.pool_before(kernel or "") for kernel in kernels]
    if first is None or last is None or first.op != "AvgPool" or last.op not in POOLS:
        raise UnsupportedFeature(f"{where}: the pools of Mixed_5b and Mixed_7c are not where InceptionV3 has them.")
    border: Border = "include" if wiring.counts_border(first) else "exclude"
    last_pool: Literal["avg", "max"] = "max" if last.op == "MaxPool" else "avg"
    return dataclasses.replace(family.like, border=border, last_pool=last_pool)
