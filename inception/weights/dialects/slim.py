"""slim's names, the canonical ones: alone, or as checkpoints have them, in any scope and among what training adds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from inception.files.errors import CheckpointError, MissingTensor, UnsupportedFeature
from inception.files.tensor import Shape, Stored
from inception.pictures import Picture
from inception.variants import KERAS, SCOPE, SLIM, Variant
from inception.weights.canonical import Source, Weights
from inception.weights.dialects import slim_2016_03
from inception.weights.plan import Claim, assemble

_AVERAGE = "/ExponentialMovingAverage"
_OWN_NAME = "Mixed_5c/Branch_1/Conv_1_0c_5x5/weights"  # a slip of slim's, in no other of its networks
_AUX_KERNEL = re.compile(r"AuxLogits/Conv2d_2a_\d+x\d+")
_WIDEST = frozenset(Variant(num_classes=1, aux_logits=True, gamma=True).shapes())


def network_scope(names: Iterable[str], where: str) -> str | None:
    """The scope that slim's InceptionV3 stands in, with the slash: "InceptionV3/" as a rule; None where it is not.

    Any other (`tower_0/InceptionV3/`, `MyNet/`) is known by a name that slim gave to this
    network only. Raises `UnsupportedFeature` when there are several.
    """
    names = list(names)
    found = [name.removesuffix(_OWN_NAME) for name in names if _is_own(name)]
    if len(found) > 1:
        scopes = ", ".join(scope or "the root" for scope in sorted(found))
        raise UnsupportedFeature(f"{where} holds InceptionV3 {len(found)} times (in {scopes}); leave all but one out.")
    usual = f"{SCOPE}/"
    return found[0] if found else usual if any(name.startswith(usual) for name in names) else None


def has_network(names: Iterable[str]) -> bool:
    """Whether slim's InceptionV3 is among these for certain, in whatever scope."""
    return any(map(_is_own, names))


def _is_own(name: str) -> bool:
    return f"/{name}".endswith(f"/{_OWN_NAME}")


def claims_of(tensors: Mapping[str, Stored], exclude: Sequence[str], where: str) -> tuple[list[Claim], list[str]]:
    """A claim for every variable of the network, and what to say of the tensors left out.

    A slot is named after its variable (`<variable>/Momentum`); what is not under the
    network's scope (global_step, beta1_power) belongs to the training as well.
    """
    scope, inside = _inside([name for name in tensors if not _under(name, exclude)], where)
    unwanted = {name for name in tensors if _under(name, exclude) or _under(name.removeprefix(scope), exclude)}
    for place in exclude:
        if not any(_under(name, [place]) or _under(name.removeprefix(scope), [place]) for name in unwanted):
            raise CheckpointError(f"{where} has no variables under {place}; leave it out of `exclude`.")
    known = set(inside)
    own = [name for name in inside if name not in unwanted and name.rpartition("/")[0] not in known]
    claims = _claims({name: tensors[name].shape for name in own}, scope)
    if exclude and {c.canonical.split("/")[1] for c in claims if "Logits/" in c.canonical} == {"AuxLogits"}:
        raise CheckpointError(f"{where}: there is no AuxLogits without Logits; exclude both, or AuxLogits alone.")
    notes = [f"{len(unwanted)} tensors under {', '.join(exclude)} left out, as asked"] if exclude else []
    if ignored := len(tensors) - len(own) - len(unwanted):
        notes.append(f"{ignored} training tensors (slots, steps, averages or what they replace) left out")
    return claims, notes


def gather_trained(
    tensors: Mapping[str, Stored], source: Source, exclude: Sequence[str] = (), moving_averages: bool = False
) -> Weights:
    """The weights in a checkpoint's tensors by name, among what training adds.

    Args:
        tensors: {"InceptionV3/Conv2d_1a_3x3/weights": array}, in any scope.
        source: the file.
        exclude: scopes to leave out.
        moving_averages: take the averages of the variables.
    """
    claims, notes = claims_of(tensors, exclude, source.path)
    if moving_averages:
        claims, note = averaged(claims, tensors, source.path)
        notes.append(note)
    own = {claim.stored: tensors[claim.stored] for claim in claims}
    source = dataclasses.replace(source, notes=tuple(notes))
    return assemble([claim for claim in claims if is_variable(claim.canonical)], own, source, SLIM, "slim")


def _claims(own: Mapping[str, Shape], scope: str) -> list[Claim]:
    """Each of the network's variables under its canonical name; one that nobody knows keeps its own."""
    if not slim_2016_03.is_family(own):
        return [Claim(name, f"{SCOPE}/{name.removeprefix(scope)}") for name in own]
    named = {claim.stored: claim for claim in slim_2016_03.claims(own)}
    return [named.get(name, Claim(name, name)) for name in own]


def _inside(names: list[str], where: str) -> tuple[str, list[str]]:
    """The network's scope and the names in it; the older family stands at the root."""
    scope = network_scope(names, where)
    if scope is not None:
        return scope, [name for name in names if name.startswith(scope)]
    if slim_2016_03.is_family(names):
        return "", [name for name in names if slim_2016_03.inside(name)]
    shown = ", ".join(names[:4])
    raise UnsupportedFeature(
        f"{where} is a TensorFlow checkpoint without variables under {SCOPE}/ (found {shown}); "
        "expected one of slim's inception_v3, or of the older inception-v3-2016-03-01."
    )


def _under(name: str, scopes: Iterable[str]) -> bool:
    return any(name == scope or name.startswith(f"{scope.rstrip('/')}/") for scope in scopes)


def averaged(claims: Sequence[Claim], tensors: Mapping[str, Stored], where: str) -> tuple[list[Claim], str]:
    """The claims on moving averages where there are some, and what to say of it; `MissingTensor` for none."""
    averages = [_average(claim, tensors) for claim in claims]
    count = sum(average != claim for average, claim in zip(averages, claims, strict=True))
    if not count:
        raise MissingTensor(f"{where} has no {_AVERAGE[1:]} tensors; read it without moving averages.")
    return averages, f"{count} variables taken from their moving averages"


def _average(claim: Claim, tensors: Mapping[str, Stored]) -> Claim:
    average = f"{claim.stored}{_AVERAGE}"
    return dataclasses.replace(claim, stored=average) if average in tensors else claim


def is_variable(canonical: str) -> bool:
    """Whether some InceptionV3 has it; the rest of a network's scope is another head's."""
    return _AUX_KERNEL.sub("AuxLogits/Conv2d_2a_5x5", canonical) in _WIDEST


def has_canonical_names(tensors: Mapping[str, Stored]) -> bool:
    """Whether any of these is a variable of slim's."""
    return any(name.startswith(f"{SCOPE}/") for name in tensors)


def gather(
    tensors: Mapping[str, Stored], source: Source, like: Variant | None = None, picture: Picture | str = ""
) -> Weights:
    """The weights in tensors of canonical names, every one used once.

    `like` and `picture` are what the file itself says, if it does. Raises what `read` does.
    """
    where = source.where
    if not has_canonical_names(tensors):
        shown = ", ".join(list(tensors)[:4]) or "nothing"
        raise UnsupportedFeature(f"{where} has no arrays under {SCOPE}/ (found {shown}); expected slim's names.")
    claims = [Claim(name, name) for name in tensors if name.startswith(f"{SCOPE}/")]
    return assemble(claims, tensors, source, like or KERAS, picture or "keras")
