"""tf-slim's checkpoints: TensorFlow's V1 file and V2 pair, weights under slim's own names.

Training checkpoints hold more: optimizer slots (`<variable>/RMSProp`), the global step and
moving averages (`<variable>/ExponentialMovingAverage`). Slots and steps are left out;
averages take the variables' places when asked for. Checkpoints of the older family
`inception-v3-2016-03-01` are known by their scopes and read as well. Checkpoints that were
made of objects are handed to `object_checkpoint`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from inception.files.errors import CheckpointError
from inception.files.tensorflow import tensor_bundle, tensor_slices
from inception.variants import SLIM
from inception.weights.canonical import Source, Weights, warn_of_rules
from inception.weights.dialects import slim
from inception.weights.formats import object_checkpoint

TITLE_V1 = "TensorFlow checkpoint V1 (slim)"
TITLE_V2 = "TensorFlow checkpoint V2 (slim)"


def read(path: str | os.PathLike[str], *, moving_averages: bool = False, exclude: Sequence[str] = ()) -> Weights:
    """The weights in a slim checkpoint: a V1 file, or a V2 prefix (also given as its .index or .data file).

    Args:
        moving_averages: take `<variable>/ExponentialMovingAverage` where the checkpoint has one; asking for them of a
            checkpoint without any is an error.
        exclude: scopes whose variables are left out, as the checkpoint has them or below the network's own: ("Logits",
            "AuxLogits") gives the base alone. One that leaves nothing out is an error.
    """
    where = prefix(path)
    is_v2 = Path(f"{where}.index").exists()
    tensors = tensor_bundle.read(where) if is_v2 else tensor_slices.read(where)
    title = TITLE_V2 if is_v2 else TITLE_V1
    if object_checkpoint.is_of_objects(tensors):
        if moving_averages or exclude:
            raise CheckpointError(
                f"{where} is a checkpoint of objects: it has no moving averages, nor scopes to exclude."
            )
        return object_checkpoint.gather(tensors, where)
    return slim.gather_trained(tensors, Source(where, title, "checksum"), exclude, moving_averages)


def write(path: str | os.PathLike[str], weights: Weights, *, version: int = 2) -> None:
    """Writes a checkpoint that TensorFlow's Saver restores: V2 (`PATH.index`, `PATH.data-...`) or the V1 file."""
    warn_of_rules(weights, SLIM, os.fspath(path), "slim code", "slim")
    container = tensor_bundle if version == 2 else tensor_slices
    container.write(os.fspath(path), weights.arrays)


def prefix(path: str | os.PathLike[str]) -> str:
    """What Saver calls a checkpoint: `model.ckpt` for `model.ckpt.index` and `model.ckpt.data-00000-of-00001`."""
    text = os.fspath(path)
    if text.endswith(".index"):
        return text.removesuffix(".index")
    head, mark, _ = text.rpartition(".data-")
    return head if mark else text
