"""Modules of version 0.1 that have another name now: importing one says which."""

from __future__ import annotations

import sys
from typing import Any

_MOVED = {
    "builders.onnx": "inference.onnx",
    "builders.tensorflow": "inference.tensorflow",
    "export": "inference.export",
    "files.file_lock": "files.regular",
    "files.foreign": "files.errors",
    "foreign": "files.errors",
    "inference_plan": "inference.plan",
    "names": "weights.dialects.keras_layers",
    "quantization": "inference.int8",
    "weights.archive": "files.archive",
    "weights.assemble": "weights.plan",
    "weights.atomic": "files.atomic",
    "weights.dialects.keras_names": "weights.dialects.keras_layers",
    "weights.download": "weights.published.download",
    "weights.errors": "files.errors",
    "weights.file_lock": "files.regular",
    "weights.graph_def": "weights.formats.graph_def",
    "weights.graph_def_writer": "weights.formats.graph_def_writer",
    "weights.graph_families": "weights.dialects.graph_families",
    "weights.graph_names": "weights.dialects.graph_names",
    "weights.graph_nodes": "files.tensorflow.graph_nodes",
    "weights.graph_wiring": "weights.dialects.graph_wiring",
    "weights.hdf5": "files.hdf5",
    "weights.hdf5_values": "files.hdf5.values",
    "weights.hdf5_worker": "files.hdf5.worker",
    "weights.inert_json": "files.inert_json",
    "weights.keras_archive": "weights.formats.keras_archive",
    "weights.keras_config": "weights.dialects.keras_config",
    "weights.keras_graph": "weights.dialects.keras_graph",
    "weights.keras_hdf5": "weights.formats.keras_hdf5",
    "weights.keras_layers": "weights.dialects.keras_layers",
    "weights.npz": "weights.formats.npz",
    "weights.pickled": "files.torch.pickled",
    "weights.regular": "files.regular",
    "weights.safetensors": "weights.formats.safetensors",
    "weights.sanity": "weights.canonical",
    "weights.slim_2016_03": "weights.dialects.slim_2016_03",
    "weights.slim_checkpoint": "weights.formats.slim_checkpoint",
    "weights.sstable": "files.tensorflow.sstable",
    "weights.stored": "files.tensor",
    "weights.tensor_bundle": "files.tensorflow.tensor_bundle",
    "weights.tensor_slices": "files.tensorflow.tensor_slices",
    "weights.tfjs": "weights.formats.tfjs",
    "weights.torch_names": "weights.dialects.torch_names",
    "weights.torch_pickle": "weights.formats.torch_pickle",
    "weights.wire": "files.tensorflow.wire",
}
MOVED = {f"inception.{old}": f"inception.{new}" for old, new in _MOVED.items()}


class _Finder:
    """The last that is asked: for names that nobody else has found. The base class of finders would double the
    time that `import inception` takes."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name in MOVED:
            raise ModuleNotFoundError(f"{name} is {MOVED[name]} now; import it from there.", name=name)


sys.meta_path.append(_Finder())
