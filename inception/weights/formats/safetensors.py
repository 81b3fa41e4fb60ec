"""safetensors files: torchvision's keys, or canonical names; in ours `__metadata__` has the variant's JSON."""

from __future__ import annotations

import os
from typing import Literal

from inception.files import safetensors
from inception.weights.canonical import VARIANT, Source, Weights, integrity, variant_json, written
from inception.weights.dialects import slim, torch_names

TITLE = "safetensors"


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a safetensors file, its digests checked where it has ours.

    Raises:
        UnsupportedFeature: When it holds no InceptionV3.
        MissingTensor, ShapeMismatch: When it holds part of one.
        CorruptFile: When it is damaged.
    """
    content = safetensors.read(path)
    where = os.fspath(path)
    source = Source(where, TITLE, integrity(content.checksummed))
    like, picture = written(content.metadata.get(VARIANT), where)
    gather = slim.gather if slim.has_canonical_names(content.tensors) else torch_names.gather
    return gather(content.tensors, source, like, picture)


def write(path: str | os.PathLike[str], weights: Weights, *, names: Literal["torch", "slim"] = "torch") -> None:
    """Writes torchvision's state_dict, or slim's names; read back before it takes its name.

    With torchvision's names, warns where torch code would run another network on them.
    """
    if names == "torch":
        torch_names.warn_of_rules(weights, os.fspath(path))
    arrays = torch_names.scatter(weights) if names == "torch" else weights.arrays
    safetensors.write(path, arrays, {VARIANT: variant_json(weights)})
