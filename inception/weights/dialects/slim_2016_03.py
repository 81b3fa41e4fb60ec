"""The names of the older slim family, `inception-v3-2016-03-01` (`model.ckpt-157585`), from the table by rule.

    conv0 .. conv4                        the five convolutions before the first row
    mixed_35x35x256a/branch5x5/Conv_1     a row by its output's size, a branch, its second convolution
    aux_logits/{proj, Conv, FC}           the auxiliary head, ending in a fully connected layer
    logits/logits                         the classifier, fully connected as well

Each convolution has `weights` and `BatchNorm/{beta, moving_mean, moving_variance}`, and
`BatchNorm/gamma` where it was trained with `scale=True`, which the published one was not.

Names, branches and the order within them are those of the program that wrote the family
(research/inception, `slim/inception_model.py` and `slim/ops.py`). Not verified, for want
of the file: that it holds nothing under these scopes but what that program makes, and
that the published checkpoint has the variables beside their moving averages.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping

from inception.architecture import Concat, Conv, Node, table
from inception.files.tensor import Shape
from inception.variants import SCOPE
from inception.weights.plan import AS_IS, MATRIX, Claim

_POOL = "branch_pool"
_35 = ("branch1x1", "branch5x5", "branch3x3dbl", _POOL)
_17 = ("branch1x1", "branch7x7", "branch7x7dbl", _POOL)
_8 = ("branch1x1", "branch3x3", "branch3x3dbl", _POOL)
_ROWS = {
    "Mixed_5b": ("mixed_35x35x256a", _35),
    "Mixed_5c": ("mixed_35x35x288a", _35),
    "Mixed_5d": ("mixed_35x35x288b", _35),
    "Mixed_6a": ("mixed_17x17x768a", ("branch3x3", "branch3x3dbl", _POOL)),
    "Mixed_6b": ("mixed_17x17x768b", _17),
    "Mixed_6c": ("mixed_17x17x768c", _17),
    "Mixed_6d": ("mixed_17x17x768d", _17),
    "Mixed_6e": ("mixed_17x17x768e", _17),
    # Its maps are 8x8; its authors kept the name for the sake of their checkpoints.
    "Mixed_7a": ("mixed_17x17x1280a", ("branch3x3", "branch7x7x3", _POOL)),
    "Mixed_7b": ("mixed_8x8x2048a", _8),
    "Mixed_7c": ("mixed_8x8x2048b", _8),
}
_STEM = ("conv0", "conv1", "conv2", "conv3", "conv4")
_AUX_LOGITS, _AUX = "aux_logits", ("proj", "Conv", "FC")
_LOGITS = "logits"
_CONNECTED = {f"{_AUX_LOGITS}/{_AUX[-1]}", f"{_LOGITS}/logits"}  # fully connected: their weights are matrices
_SCOPES = {*_STEM, *(row for row, _ in _ROWS.values()), _AUX_LOGITS, _LOGITS}
_FIRST_ROW = next(row for row, _ in _ROWS.values())
_ENDS = ("weights", "biases", *(f"BatchNorm/{name}" for name in ("beta", "gamma", "moving_mean", "moving_variance")))


def is_family(names: Collection[str]) -> bool:
    """Whether variables of these names are of this family."""
    return f"{_STEM[0]}/weights" in names and any(name.startswith(f"{_FIRST_ROW}/") for name in names)


def inside(name: str) -> bool:
    """Whether a variable stands under one of the network's own scopes."""
    return name.partition("/")[0] in _SCOPES


def claims(found: Mapping[str, Shape]) -> list[Claim]:
    """What each variable of the network is called canonically, for those that `found` has."""
    kernel = found.get(f"{_AUX_LOGITS}/{_AUX[1]}/weights", ())
    scope_of = scopes(aux_kernel=(kernel[0], kernel[1]) if len(kernel) == 4 else (5, 5))
    return [
        Claim(stored, f"{SCOPE}/{place}/{end}", MATRIX if end == "weights" and scope in _CONNECTED else AS_IS)
        for place, scope in scope_of.items()
        for end in _ENDS
        if (stored := f"{scope}/{end}") in found
    ]


def scopes(aux_kernel: tuple[int, int] = (5, 5)) -> dict[str, str]:
    """{place: scope} of every convolution of the network, both classifiers included."""
    rows = table(1, aux_kernel=aux_kernel)
    stem = [node.name for node in rows.base if isinstance(node, Conv)]
    aux = [f"AuxLogits/{node.name}" for node in rows.aux_logits if isinstance(node, Conv)]
    return (
        dict(zip(stem, _STEM, strict=True))
        | dict(_mixed(rows.base))
        | {place: f"{_AUX_LOGITS}/{name}" for place, name in zip(aux, _AUX, strict=True)}
        | {f"Logits/{rows.logits[-1].name}": f"{_LOGITS}/logits"}
    )


def _mixed(base: Iterable[Node]) -> Iterator[tuple[str, str]]:
    """The rows' convolutions: those of a branch are Conv, Conv_1, ... in the order of the table."""
    for row in base:
        if not isinstance(row, Concat):
            continue
        scope, branch_names = _ROWS[row.name]
        for i, (branch, name) in enumerate(zip(row.branches, branch_names, strict=True)):
            for n, conv in enumerate(_convolutions(branch)):
                yield f"{row.name}/Branch_{i}/{conv.name}", f"{scope}/{name}/Conv{f'_{n}' if n else ''}"


def _convolutions(branch: Iterable[Node]) -> Iterator[Conv]:
    for node in branch:
        if isinstance(node, Concat):
            for inner in node.branches:
                yield from _convolutions(inner)
        elif isinstance(node, Conv):
            yield node
