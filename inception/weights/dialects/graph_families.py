"""Which constants of a frozen graph are the weights: by the names of the known families, or by the wiring."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from inception import architecture, pictures
from inception.files.errors import UnsupportedFeature
from inception.files.tensorflow.graph_nodes import Graph, Node
from inception.pictures import Picture
from inception.variants import GOOGLE_2015, KERAS, SCOPE, SLIM, Variant
from inception.weights.canonical import VARIANT, written
from inception.weights.dialects import graph_names, graph_wiring, slim_2016_03
from inception.weights.dialects.graph_wiring import Source, Wiring
from inception.weights.dialects.slim import network_scope
from inception.weights.plan import AS_IS, MATRIX, Claim

TITLE = "frozen TensorFlow graph"
SLIM_TITLE, SLIM_2016_TITLE = f"{TITLE} (slim)", f"{TITLE} (slim of 2016-03)"
LOGITS = f"{SCOPE}/Logits/Conv2d_1c_1x1"
# The two places whose convolution tells a pool: one average for its border, and the last.
POOLED = ("Mixed_5b/Branch_3/Conv2d_0b_1x1", "Mixed_7c/Branch_3/Conv2d_0b_1x1")
_POOLS = ("Mixed_5b/Branch_3/AvgPool_0a_3x3", "Mixed_7c/Branch_3/AvgPool_0a_3x3")
_OWN_NAME_2015 = "mixed/tower_1/conv_2/conv2d_params"
_NORM = "(beta|gamma|moving_mean|moving_variance)"
_OF_2015 = re.compile(rf"(conv|mixed)(_\d+)?/(.*/)?(conv2d_params|batchnorm/{_NORM})|softmax/(weights|biases)")
_OF_SLIM = re.compile(rf"(.*/)?(weights|biases|BatchNorm/{_NORM})")


@dataclass(frozen=True)
class Family:
    """The weights found among a graph's constants.

    Attributes:
        claims: also those that no variable is known for, under their own names, to be refused.
        like: what shapes cannot tell.
        picture: see `assemble`.
        pools: the average pool of Mixed_5b and the pool of Mixed_7c, where names tell them.
        retrained: the classifier is retrain.py's.
    """

    title: str
    like: Variant
    picture: Picture | str
    claims: tuple[Claim, ...]
    pools: tuple[Node | None, ...] = ()
    retrained: bool = False
    notes: tuple[str, ...] = ()


def find(graph: Graph, wiring: Wiring) -> Family:
    """The family that a graph is of. Raises `UnsupportedFeature` for one that is no InceptionV3."""
    family = _graph_of_2015(graph) or _slim(graph) or _older_slim(graph) or by_wiring(graph, wiring)
    return _with_new_classifier(graph, family)


def not_frozen(graph: Graph) -> UnsupportedFeature:
    """The error for a graph that has the network, and not all of its numbers as constants."""
    if any(node.op in ("VarHandleOp", "VariableV2", "Variable") for node in graph.nodes.values()):
        return UnsupportedFeature(
            f"{graph.path} is not frozen: its weights are in the checkpoint that belongs to it; give that."
        )
    return UnsupportedFeature(
        f"{graph.path} has no moving statistics for its batch norms, so it was frozen while training, or has them "
        "folded into its kernels; freeze the inference graph as it is, or give its checkpoint."
    )


# ---- by names


def _graph_of_2015(graph: Graph) -> Family | None:
    prefixes = [n.removesuffix(_OWN_NAME_2015) for n in graph.constants if f"/{n}".endswith(f"/{_OWN_NAME_2015}")]
    if not prefixes:
        return None
    if len(prefixes) > 1:
        raise UnsupportedFeature(f"{graph.path} holds the graph of 2015 {len(prefixes)} times; expected it once.")
    prefix, node_of = prefixes[0], graph_names.nodes(GOOGLE_2015.table())
    variable_of = {const: (c, layout) for c, (const, layout) in graph_names.variables(GOOGLE_2015).items()}
    own = [n.removeprefix(prefix) for n in graph.constants if n.startswith(prefix)]
    claims = [Claim(prefix + n, *variable_of.get(n, (n, AS_IS))) for n in own if _OF_2015.fullmatch(n)]
    pools = tuple(graph.nodes.get(prefix + node_of[place]) for place in _POOLS)
    return Family(f"{TITLE} (2015-12-05)", GOOGLE_2015, _scaled_as_in(graph, prefix), tuple(claims), pools)


def _scaled_as_in(graph: Graph, prefix: str) -> Picture:
    """The graph of 2015 scales its pixels itself: (x - Sub/y) * Mul/y."""
    mean, factor = _scalar(graph, f"{prefix}Sub/y"), _scalar(graph, f"{prefix}Mul/y")
    if mean is None or not factor:
        return pictures.GOOGLE_2015
    return dataclasses.replace(pictures.GOOGLE_2015, mean=(mean,) * 3, scale=(1 / factor,) * 3)


def _scalar(graph: Graph, name: str) -> float | None:
    stored = graph.constants.get(name)
    if stored is None or stored.shape or stored.dtype.kind != "f":
        return None
    value = float(stored.read())
    return value if math.isfinite(value) else None


def _slim(graph: Graph) -> Family | None:
    scope = network_scope(graph.constants, graph.path)
    if scope is None:
        return None
    own = [n.removeprefix(scope) for n in graph.constants if n.startswith(scope)]
    claims = tuple(Claim(scope + n, f"{SCOPE}/{n}") for n in own if _OF_SLIM.fullmatch(n))
    if not claims:
        return None
    like, picture = written(graph.string(VARIANT), graph.path, "slim")
    return Family(SLIM_TITLE, like or SLIM, picture, claims)


def _older_slim(graph: Graph) -> Family | None:
    if not slim_2016_03.is_family(graph.constants):
        return None
    own = {n: s.shape for n, s in graph.constants.items() if slim_2016_03.inside(n) and _OF_SLIM.fullmatch(n)}
    named = {claim.stored: claim for claim in slim_2016_03.claims(own)}
    return Family(SLIM_2016_TITLE, SLIM, "slim", tuple(named.get(n, Claim(n, n)) for n in own))


def _with_new_classifier(graph: Graph, family: Family) -> Family:
    """retrain.py puts a classifier of its own behind the last pool, whatever the network was."""
    ends = ("final_weights", "final_biases")
    found = [[n for n in graph.constants if f"/{n}".endswith(f"/{end}")] for end in ends]
    if not any(found):
        return family
    if any(len(names) != 1 for names in found):
        raise UnsupportedFeature(
            f"{graph.path} has {len(found[0])} final_weights and {len(found[1])} final_biases; expected one of each."
        )
    [[weights], [biases]] = found
    new = (Claim(weights, f"{LOGITS}/weights", MATRIX), Claim(biases, f"{LOGITS}/biases"))
    kept = tuple(claim for claim in family.claims if not claim.canonical.startswith(f"{LOGITS}/"))
    notes = ("the classifier is retrain.py's, its classes are the user's own",)
    return dataclasses.replace(family, claims=kept + new, retrained=True, notes=notes)


# ---- by the wiring


def by_wiring(graph: Graph, wiring: Wiring, title: str = TITLE) -> Family:
    """The weights of an InceptionV3 whatever they are called; `UnsupportedFeature` where there is none."""
    places = graph_wiring.trace(wiring, architecture.table(1))
    if places is None:
        if wiring.convolutions and not wiring.norms:
            raise not_frozen(graph)
        shown = ", ".join([name for name, stored in graph.constants.items() if stored.shape][:4]) or "none"
        raise UnsupportedFeature(
            f"{graph.path} is a graph, and not of an InceptionV3 at inference (its first constants: {shown})."
        )
    claims = tuple(claim for place, source in places.items() for claim in _claims(graph, wiring, place, source))
    if not all(claim.stored for claim in claims):
        raise not_frozen(graph)
    notes = () if "Logits/Conv2d_1c_1x1" in places else ("no classifier of InceptionV3 is behind the last pool",)
    return Family(f"{title} (by its wiring)", KERAS, "keras", claims, notes=notes)


def _claims(graph: Graph, wiring: Wiring, place: str, source: Source) -> Iterator[Claim]:
    kernel = wiring.constant(source.node.inputs[1])
    shape = graph.constants[kernel].shape if kernel else ()
    if place.startswith("AuxLogits/Conv2d_2a_") and len(shape) == 4:
        place = f"AuxLogits/Conv2d_2a_{shape[0]}x{shape[1]}"
    yield Claim(kernel, f"{SCOPE}/{place}/weights", MATRIX if source.node.op == "MatMul" else AS_IS)
    if source.norm is not None:
        norm = {"beta": source.norm.beta, "moving_mean": source.norm.mean, "moving_variance": source.norm.variance}
        yield from (Claim(stored, f"{SCOPE}/{place}/BatchNorm/{name}") for name, stored in norm.items())
    elif source.biases:
        yield Claim(source.biases, f"{SCOPE}/{place}/biases")
