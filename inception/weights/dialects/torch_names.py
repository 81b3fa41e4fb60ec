"""The names that torch code has for InceptionV3, and what these networks are.

torchvision, timm and pytorch-fid's weights share theirs, which one rule gives from the
table's rows: a Mixed row's branches have names, a branch of several convolutions numbers
them, an inner concat's pair is `a` and `b`. Kernels are OIHW, classifiers [classes,
channels]. What keys and shapes do not tell is taken so: torchvision and timm count the
border in their average pools, whatever training the weights come from; 1008 classes
without auxiliary head are pytorch-fid's, whose network is the graph of 2015; all take
[-1, 1] (torchvision's `transform_input` only undoes ImageNet's normalisation).

pytorch-fid's class `InceptionV3` numbers the same modules in four blocks (its
`inception.py`), and has no classifier. NVIDIA's program `inception-2015-12-05.pt` has the
names of the graph of 2015 with dots, `weight`, `beta`, `mean` and `var` beside each other,
and no gamma. Its names are those that miemie2013/miemieGAN copies from it
(`tools/inception_convert_weights.py`); the file itself has not been seen here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from inception.architecture import Concat, Conv, Node, Pool, walk
from inception.files.errors import CorruptFile, UnsupportedFeature
from inception.files.tensor import Shape, Stored
from inception.pictures import Picture
from inception.variants import GOOGLE_2015, SCOPE, TORCHVISION, Variant
from inception.weights import canonical
from inception.weights.canonical import Source, Weights
from inception.weights.dialects import graph_names
from inception.weights.plan import AS_IS, Claim, Layout, assemble

_OIHW = Layout(axes=(3, 2, 0, 1))
_LINEAR = Layout(axes=(3, 2, 0, 1), matrix=True)
_BATCH_NORM = {
    "beta": "bn.bias",
    "gamma": "bn.weight",
    "moving_mean": "bn.running_mean",
    "moving_variance": "bn.running_var",
}
_COUNTER = "num_batches_tracked"  # torch counts batches, slim does not
_PYTORCH_FID_CLASSES = 1008

_BRANCHES = {
    row: names
    for rows, names in {
        ("Mixed_5b", "Mixed_5c", "Mixed_5d"): ("branch1x1", "branch5x5", "branch3x3dbl", "branch_pool"),
        ("Mixed_6a",): ("branch3x3", "branch3x3dbl"),
        ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"): ("branch1x1", "branch7x7", "branch7x7dbl", "branch_pool"),
        ("Mixed_7a",): ("branch3x3", "branch7x7x3"),
        ("Mixed_7b", "Mixed_7c"): ("branch1x1", "branch3x3", "branch3x3dbl", "branch_pool"),
    }.items()
    for row in rows
}
_BLOCKS = (  # of pytorch-fid's class, its pools left out
    ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3"),
    ("Conv2d_3b_1x1", "Conv2d_4a_3x3"),
    ("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    ("Mixed_7a", "Mixed_7b", "Mixed_7c"),
)
_FLAT = ("mixed_9", "mixed_10")  # NVIDIA's blocks whose towers are no modules of their own
_OF_NVIDIA = {
    "conv2d_params": "weight",
    "beta": "beta",
    "moving_mean": "mean",
    "moving_variance": "var",
    "weights": "weight",
    "biases": "bias",
}
_HEADS = {
    "Conv2d_1b": "AuxLogits.conv0",
    "Conv2d_2a": "AuxLogits.conv1",
    "Conv2d_2b": "AuxLogits.fc",
    "Conv2d_1c": "fc",
}


# ---- names


def keys(variant: Variant) -> dict[str, tuple[str, Layout]]:
    """{canonical variable: (torch key, layout)}: ("Mixed_5b.branch5x5_1.conv.weight", OIHW)."""
    rows = variant.table()
    units = dict(_units(rows.base))
    table = {}
    for place in walk(rows, channels=variant.channels):
        head = _HEADS.get(place.node.name.rpartition("_")[0]) if "Logits/" in place.path else None
        unit = head or units.get(place.path, "")
        for variable in place.variables(variant.gamma):
            table[f"{SCOPE}/{place.path}/{variable}"] = _key(unit, variable, place.node)
    return table


def _units(rows: Iterable[Node]) -> Iterator[tuple[str, str]]:
    """(place, torch module) of the base's convolutions."""
    for row in rows:
        if isinstance(row, Conv):
            yield row.name, row.name
        elif isinstance(row, Concat):
            for i, branch in enumerate(row.branches):
                steps = [node for node in branch if not isinstance(node, Pool)]
                for n, step in enumerate(steps, 1):
                    module = f"{row.name}.{_BRANCHES[row.name][i]}" + (f"_{n}" if len(steps) > 1 else "")
                    convs = (
                        {"": step} if isinstance(step, Conv) else {"a": step.branches[0][0], "b": step.branches[1][0]}
                    )
                    for letter, conv in convs.items():
                        yield f"{row.name}/Branch_{i}/{conv.name}", f"{module}{letter}"


def _key(unit: str, variable: str, node: Node) -> tuple[str, Layout]:
    if variable.startswith("BatchNorm/"):
        return f"{unit}.{_BATCH_NORM[variable.removeprefix('BatchNorm/')]}", AS_IS
    if variable == "biases":
        return f"{unit}.bias", AS_IS
    normalized = isinstance(node, Conv) and node.batch_norm
    return (f"{unit}.conv.weight", _OIHW) if normalized else (f"{unit}.weight", _LINEAR)


def _in_blocks(variant: Variant) -> dict[str, tuple[str, Layout]]:
    """`keys` as pytorch-fid's class has them: "blocks.2.0.branch5x5_1.conv.weight"."""
    block_of = {row: f"blocks.{i}.{j}" for i, rows in enumerate(_BLOCKS) for j, row in enumerate(rows)}
    table = {}
    for name, (key, layout) in keys(dataclasses.replace(variant, num_classes=0)).items():
        row, dot, rest = key.partition(".")
        table[name] = f"{block_of[row]}{dot}{rest}", layout
    return table


def _of_nvidia(variant: Variant) -> dict[str, tuple[str, Layout]]:
    """`keys` as NVIDIA's program has them: "layers.mixed.tower.conv_1.weight", "layers.mixed_9.tower_conv.beta"."""
    table = {}
    for name, (node, _) in graph_names.variables(dataclasses.replace(variant, gamma=False)).items():
        unit, _, parameter = node.replace("/batchnorm/", "/").rpartition("/")
        if unit == "softmax":
            table[name] = f"output.{_OF_NVIDIA[parameter]}", _LINEAR if parameter == "weights" else AS_IS
        else:
            block, _, rest = unit.partition("/")
            path = f"{block}.{rest.replace('/', '_' if block in _FLAT else '.')}" if rest else block
            table[name] = f"layers.{path}.{_OF_NVIDIA[parameter]}", _OIHW if parameter == "conv2d_params" else AS_IS
    return table


# ---- reading


class _Spelling(NamedTuple):
    """One way of naming: its first key, all of them, and what is not to be seen from shapes."""

    first: str
    keys: Callable[[Variant], dict[str, tuple[str, Layout]]]
    like: Variant | Callable[[Mapping[str, Shape]], Variant]
    note: str = ""


def gather(
    tensors: Mapping[str, Stored], source: Source, like: Variant | None = None, picture: Picture | str = ""
) -> Weights:
    """The weights in a state_dict, but for the batch counters; tensors of another head become `Weights.extra`.

    A prefix that all keys have (`module.` of DataParallel) is left out. `like` is the
    variant that the file itself names, if it does, and `picture` its picture; where that has no gamma, the ones
    that torch needs in its place are checked and left out. Raises `UnsupportedFeature`
    when these are not InceptionV3's keys, `MissingTensor` or `ShapeMismatch` when they
    are not all of them.
    """
    where = source.where
    spelling, prefix = _spelling(tensors, where)
    own = _unprefixed(tensors, prefix, where)
    state = {key: stored for key, stored in own.items() if not key.endswith(f".{_COUNTER}")}
    if spelling.keys is _in_blocks:
        _check_whole(state, where)
    if spelling.note:
        source = dataclasses.replace(source, notes=(*source.notes, spelling.note))
    if like and not like.gamma:
        state = _without_ones(state, where)
    claims = [Claim(key, name, layout) for name, (key, layout) in spelling.keys(_widest(state)).items() if key in state]
    if not picture:
        shapes = {c.canonical: c.layout.canonical_shape(state[c.stored].shape) for c in claims}
        picture = _WAYS[spelling.like is GOOGLE_2015 or usual(shapes) == GOOGLE_2015]
        if picture == "torchvision":
            source = dataclasses.replace(source, assumed=_ASSUMED)
    return assemble(claims, state, source, like or spelling.like, picture)


_WAYS = {False: "torchvision", True: "google_2015"}
_ASSUMED = (
    "torch's files do not say which values their networks take: [-1, 1] and torchvision's way of a picture are assumed "
    "(gluon's weights need picture=gluon, timm's picture=timm)"
)


def usual(shapes: Mapping[str, Shape]) -> Variant:
    """The network that torch code runs on such weights, given as canonical names and shapes."""
    classes = shapes.get(f"{SCOPE}/Logits/Conv2d_1c_1x1/biases")
    aux = any(name.startswith(f"{SCOPE}/AuxLogits/") for name in shapes)
    return GOOGLE_2015 if classes == (_PYTORCH_FID_CLASSES,) and not aux else TORCHVISION


_SPELLINGS = (
    _Spelling("Conv2d_1a_3x3.conv.weight", keys, usual),
    _Spelling(
        "blocks.0.0.conv.weight",
        _in_blocks,
        GOOGLE_2015,
        "taken as the network of 2015, which pytorch-fid's class builds unless use_fid_inception=False asks for "
        "torchvision's (border=include, last_pool=avg); the keys do not say",
    ),
    _Spelling("layers.conv.weight", _of_nvidia, GOOGLE_2015),
)


def _spelling(tensors: Mapping[str, Stored], where: str) -> tuple[_Spelling, str]:
    """How the keys are spelt, and what stands before each of them."""
    pairs = [
        (spelling, key.removesuffix(spelling.first))
        for spelling in _SPELLINGS
        for key in tensors
        if f".{key}".endswith(f".{spelling.first}")
    ]
    if len(pairs) != 1:
        found = f"{len(pairs)} networks" if pairs else f"keys {', '.join(list(tensors)[:3]) or 'none'}"
        raise UnsupportedFeature(
            f"{where} is no InceptionV3's state_dict (found {found}); expected {_SPELLINGS[0].first} once."
        )
    return pairs[0]


def _check_whole(state: Mapping[str, Stored], where: str) -> None:
    """`UnsupportedFeature` for the first blocks alone, of pytorch-fid's class made for fewer dimensions."""
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    if len(blocks) < len(_BLOCKS):
        raise UnsupportedFeature(
            f"{where} holds {len(blocks)} of the {len(_BLOCKS)} blocks of pytorch-fid's InceptionV3, a network cut "
            "short; save InceptionV3([3]).state_dict(), which has them all."
        )


def _unprefixed(tensors: Mapping[str, Stored], prefix: str, where: str) -> dict[str, Stored]:
    strange = [key for key in tensors if not key.startswith(prefix)]
    if strange:
        raise UnsupportedFeature(
            f"{where}: the network's keys begin with {prefix!r} and others do not ({', '.join(strange[:3])}); "
            "save the network's own state_dict."
        )
    return {key.removeprefix(prefix): stored for key, stored in tensors.items()}


def _without_ones(state: Mapping[str, Stored], where: str) -> dict[str, Stored]:
    for key, stored in state.items():
        if key.endswith(".bn.weight") and (len(stored.shape) != 1 or stored.read().tolist() != [1] * stored.shape[0]):
            raise CorruptFile(f"{where} says that it has no gamma, but {key} is not all ones; write the file again.")
    return {key: stored for key, stored in state.items() if not key.endswith(".bn.weight")}


def _widest(state: Mapping[str, Stored]) -> Variant:
    """A variant with every variable that such a state_dict can have."""
    last_aux = state.get("AuxLogits.conv1.conv.weight")
    kernel = last_aux.shape[2:] if last_aux and len(last_aux.shape) == 4 else ()
    full = Variant(num_classes=1, aux_logits=True, gamma=True)
    return dataclasses.replace(full, aux_kernel=(kernel[0], kernel[1])) if len(kernel) == 2 else full


# ---- writing


def scatter(weights: Weights) -> dict[str, np.ndarray]:
    """The state_dict that torchvision's InceptionV3 loads; gamma is ones where the weights have none."""
    variant = weights.variant
    state: dict[str, np.ndarray] = {}
    for name, (key, layout) in keys(dataclasses.replace(variant, gamma=True)).items():
        unit, _, parameter = key.rpartition(".")
        if name in weights.arrays:
            state[key] = layout.to_file(weights.arrays[name])
        else:
            state[key] = np.ones_like(weights.arrays[name.replace("gamma", "beta")])
        if parameter == "running_var":
            state[f"{unit}.{_COUNTER}"] = np.zeros((), np.int64)
    return state


def warn_of_rules(weights: Weights, path: str) -> None:
    """Warns when torch's own code, which goes by keys and shapes, would run another network on these weights."""
    shapes = {name: array.shape for name, array in weights.arrays.items()}
    theirs = usual(shapes)
    canonical.warn_of_rules(weights, theirs, path, "torch code", _WAYS[theirs == GOOGLE_2015])
