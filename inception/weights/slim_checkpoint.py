"""tf-slim's checkpoints: TensorFlow's V1 file and V2 pair, weights under slim's own names.

Training checkpoints hold more: optimizer slots (`<variable>/RMSProp`), the global step and
moving averages (`<variable>/ExponentialMovingAverage`). Slots and steps are left out;
averages take the variables' places when asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from inception import variants
from inception.variants import SCOPE, SLIM
from inception.weights import plan, tensor_bundle, tensor_slices
from inception.weights.canonical import Source, Weights
from inception.weights.errors import MissingTensor, UnsupportedFeature
from inception.weights.plan import Claim
from inception.weights.stored import Stored

FORMAT = "slim"
TITLE_V1 = "TensorFlow checkpoint V1 (slim)"
TITLE_V2 = "TensorFlow checkpoint V2 (slim)"
_AVERAGE = "/ExponentialMovingAverage"


def read(path: str | os.PathLike[str], *, moving_averages: bool = False) -> Weights:
    """The weights in a slim checkpoint: a V1 file, or a V2 prefix (also given as its .index or .data file).

    moving_averages: take `<variable>/ExponentialMovingAverage` where the checkpoint has
    one; asking for them of a checkpoint without any is an error.
    """
    where = prefix(path)
    is_v2 = Path(f"{where}.index").exists()
    tensors = tensor_bundle.read(where) if is_v2 else tensor_slices.read(where)
    title = TITLE_V2 if is_v2 else TITLE_V1
    found, ignored = _variables(tensors, where)
    notes = [f"{ignored} training tensors (slots, steps, averages) left out"] if ignored else []
    source_of = {name: name for name in found}
    if moving_averages:
        averages = {name: f"{name}{_AVERAGE}" for name in found if f"{name}{_AVERAGE}" in tensors}
        if not averages:
            raise MissingTensor(f"{where} has no {_AVERAGE[1:]} tensors; read it without moving averages.")
        source_of |= averages
        notes = [f"{len(averages)} variables taken from their moving averages"]
    shapes = {name: tensors[source_of[name]].shape for name in found}
    variant = variants.infer(shapes, SLIM)
    expected = variant.shapes()
    rows = plan.match(
        expected,
        [Claim(source_of[name], name) for name in found],
        {source_of[name]: shape for name, shape in shapes.items()},
        f"{where} ({title})",
    )
    source = Source(where, title, "checksum", notes=tuple(notes))
    return Weights(plan.load(rows, expected, tensors), variant, source)


def write(path: str | os.PathLike[str], weights: Weights, *, version: int = 2) -> None:
    """Writes a checkpoint that TensorFlow's Saver restores: V2 (`PATH.index`, `PATH.data-...`) or the V1 file."""
    container = tensor_bundle if version == 2 else tensor_slices
    container.write(os.fspath(path), weights.arrays)


def prefix(path: str | os.PathLike[str]) -> str:
    """What Saver calls a checkpoint: `model.ckpt` for `model.ckpt.index` and `model.ckpt.data-00000-of-00001`."""
    text = os.fspath(path)
    if text.endswith(".index"):
        return text.removesuffix(".index")
    head, mark, _ = text.rpartition(".data-")
    return head if mark else text


def _variables(tensors: Mapping[str, Stored], where: str) -> tuple[list[str], int]:
    """The names of the network's own variables, and how many other tensors there are.

    A slot is named after its variable (`<variable>/Momentum`); what is not under the
    network's scope (global_step, beta1_power) belongs to the training as well.
    """
    inside = [name for name in tensors if name.startswith(f"{SCOPE}/")]
    if not inside:
        shown = ", ".join(list(tensors)[:4])
        raise UnsupportedFeature(
            f"{where} is a TensorFlow checkpoint without variables under {SCOPE}/ (found {shown}); "
            "expected one of slim's inception_v3."
        )
    known = set(inside)
    own = [name for name in inside if name.rpartition("/")[0] not in known]
    return own, len(tensors) - len(own)
