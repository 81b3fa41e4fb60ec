"""torch's `.pth` and `.pt` files: an InceptionV3's state_dict, or the TorchScript program of one."""

from __future__ import annotations

import os

from inception.files.torch import state_dict
from inception.weights.canonical import VARIANT, Source, Weights, integrity, variant_json, written
from inception.weights.dialects import torch_names

_TITLES = {"zip": "PyTorch (zip)", "script": "TorchScript", "legacy": "PyTorch (before 1.6)"}


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in a file of torch's of any kind.

    Raises:
        UnsafeFile: When its pickle holds more than a state_dict.
        UnsupportedFeature: When that is no InceptionV3's or the program a frozen one.
        MissingTensor, ShapeMismatch: For part of a network.
        CorruptFile: For damage.
    """
    where = os.fspath(path)
    content = state_dict.read(path)
    said = content.metadata.get(VARIANT)
    like, picture = written(said if isinstance(said, str) else None, where)
    source = Source(where, _TITLES[content.layout], integrity(content.checksummed))
    return torch_names.gather(content.tensors, source, like, picture)


def write(path: str | os.PathLike[str], weights: Weights) -> None:
    """Writes the state_dict that torchvision's InceptionV3 loads; read back before it takes its name.

    The variant goes along in the state_dict's `_metadata`, where torch passes over it.

    Raises:
        UnsupportedFeature: When torch is not installed; warns where torch code would run another network on these
            weights.
    """
    torch_names.warn_of_rules(weights, os.fspath(path))
    state_dict.write(path, torch_names.scatter(weights), {VARIANT: variant_json(weights)})
