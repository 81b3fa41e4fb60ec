"""Every container of tensors that we read, under one interface: how a file of arrays is made, and how it is read."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from torch_files import write_legacy, write_zip

from inception.files import hdf5, npz, safetensors, tfjs
from inception.files.archive import Archive
from inception.files.tensor import Stored
from inception.files.tensorflow import graph_nodes, sstable, tensor_bundle, tensor_slices
from inception.files.torch import state_dict

Arrays = Mapping[str, np.ndarray]
HDF5 = {"libver": ("v110", "v110")}


def _zip(path: Path, arrays: Arrays) -> None:
    """Plain and deflated members by turns."""
    with zipfile.ZipFile(path, "w") as archive:
        for at, (name, array) in enumerate(arrays.items()):
            archive.writestr(name, array.tobytes(), zipfile.ZIP_DEFLATED if at % 2 else zipfile.ZIP_STORED)


def _members(path: Path) -> dict[str, Stored]:
    archive = Archive(path)
    return {
        name: Stored((member.size,), np.dtype("u1"), lambda name=name: archive.octets(name))
        for name, member in archive.members.items()
    }


def _table(path: Path, arrays: Arrays) -> None:
    with open(path, "wb") as file:
        sstable.write_table(file, sorted((name.encode(), array.tobytes()) for name, array in arrays.items()))


def _values(path: Path) -> dict[str, Stored]:
    found = {key.decode(): np.frombuffer(value, "u1") for key, value in sstable.read_table(path).items()}
    return {name: Stored(array.shape, array.dtype, array.copy) for name, array in found.items()}


def _numpys(path: Path, arrays: Arrays) -> None:
    np.savez_compressed(path, **arrays)


def _checked_hdf5(path: Path, arrays: Arrays) -> None:
    path.write_bytes(hdf5.image(lambda file: [hdf5.create_dataset(file, n, a) for n, a in arrays.items()]))


def _plain_hdf5(path: Path, arrays: Arrays) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def foreign_safetensors(path: Path, arrays: Arrays, dtypes: Mapping[str, str] | None = None) -> Path:
    """As any program would write it: no digests, no texts."""
    header, position = {}, 0
    codes = {"f4": "F32", "f8": "F64", "f2": "F16", "i8": "I64", "i4": "I32"}
    for name, array in arrays.items():
        code = (dtypes or {}).get(name) or codes[array.dtype.str[1:]]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [position, position + array.nbytes]}
        position += array.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(array.tobytes() for array in arrays.values()))
    return path


def layers_model(path: Path, arrays: Arrays) -> Path:
    """A TensorFlow.js layers model of float32 and one shard."""
    entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in arrays.items()]
    manifest = [{"paths": ["group1-shard1of1.bin"], "weights": entries}]
    path.write_text(json.dumps({"format": "layers-model", "modelTopology": {}, "weightsManifest": manifest}))
    path.with_name("group1-shard1of1.bin").write_bytes(b"".join(array.tobytes() for array in arrays.values()))
    return path


def _graph(path: Path, arrays: Arrays) -> None:
    import tensorflow as tf
    from tensorflow.core.framework import graph_pb2  # type: ignore[import-untyped]

    graph = graph_pb2.GraphDef()
    graph.versions.producer = 8
    for name, array in arrays.items():
        node = graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    path.write_bytes(graph.SerializeToString())


@dataclass(frozen=True)
class Container:
    """file: what is given to `read`; parts: the files that it is made of; dtypes: the numbers that it holds.

    checked: it has checksums on every byte, but for `idle` ones of two arrays' file that mean nothing (dates, padding);
    atomic: `write` is ours, and reads back what it wrote; slow: a process a reading; flat: it knows no shapes;
    whole: it holds no arrays without values or without sides; at_once: values are read with the list.
    """

    write: Callable[[Path, Arrays], object]
    read: Callable[[Path], Mapping[str, Stored]]
    file: str
    parts: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ("f4", "f8", "f2", "i4", "i8")
    checked: bool = False
    idle: int = 0
    atomic: bool = False
    slow: bool = False
    flat: bool = False
    whole: bool = False
    at_once: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        return self.parts or (self.file,)

    def takes(self, array: np.ndarray) -> bool:
        shaped = array.ndim == 1 if self.flat else (array.size and array.ndim) or not self.whole
        return array.dtype.str[1:] in self.dtypes and bool(shaped)

    def fingerprint(self, path: Path) -> dict[str, tuple]:
        """All that a file says: {name: (type, shape, bytes)}."""
        return {name: _print(stored.read(), stored) for name, stored in self.read(path).items()}


def _print(array: np.ndarray, stored: Stored) -> tuple:
    assert (array.shape, array.dtype) == (stored.shape, stored.dtype)
    return array.dtype, array.shape, array.tobytes()


BUNDLE = ("x.index", "x.data-00000-of-00001")
ZIP = 24  # of each of its members: versions, date and attributes; torch pads them, too
# Until 3.11.4 zipfile says the sizes of NumPy's members twice; the second ones, of 64 bits, nobody reads.
NPZ = ZIP + (18 if sys.version_info < (3, 11, 4) else 0)
TABLE = 40  # of its last 48
CONTAINERS: dict[str, Container] = {
    "zip": Container(_zip, _members, "x.zip", dtypes=("u1",), checked=True, idle=2 * ZIP, flat=True),
    "table": Container(_table, _values, "x", dtypes=("u1",), checked=True, idle=TABLE, flat=True, at_once=True),
    "npz": Container(npz.write, lambda p: npz.listed(Archive(p)), "x.npz", checked=True, idle=2 * NPZ, atomic=True),
    "npz (NumPy)": Container(_numpys, lambda p: npz.listed(Archive(p)), "x.npz", checked=True, idle=2 * NPZ),
    "safetensors": Container(lambda p, a: safetensors.write(p, a, {"said": "so"}),
                             lambda p: safetensors.read(p).tensors, "x.safetensors", checked=True, atomic=True),
    "safetensors (foreign)": Container(foreign_safetensors, lambda p: safetensors.read(p).tensors, "x.safetensors"),
    "hdf5": Container(_checked_hdf5, lambda p: hdf5.read(p).tensors, "x.h5", checked=True, slow=True, whole=True),
    "hdf5 (plain)": Container(_plain_hdf5, lambda p: hdf5.read(p).tensors, "x.h5", slow=True),
    "torch": Container(lambda p, a: state_dict.write(p, a, {}), lambda p: state_dict.read(p).tensors, "x.pth",
                       checked=True, idle=8 * (ZIP + 96), atomic=True),
    "torch (zip)": Container(write_zip, lambda p: state_dict.read(p).tensors, "x.pth",
                             dtypes=("f4", "f8", "f2", "i8"), checked=True, idle=5 * ZIP),
    "torch (before 1.6)": Container(write_legacy, lambda p: state_dict.read(p).tensors, "x.pth",
                                    dtypes=("f4", "f8", "f2", "i8")),
    "tensor bundle": Container(tensor_bundle.write, tensor_bundle.read, "x", BUNDLE, checked=True, idle=TABLE,
                               atomic=True),
    "tensor slices": Container(tensor_slices.write, tensor_slices.read, "x", dtypes=("f4", "f8", "i4", "i8"),
                               checked=True, idle=TABLE, atomic=True),
    "tfjs": Container(layers_model, tfjs.read, "model.json", ("model.json", "group1-shard1of1.bin"), ("f4",)),
    "graph": Container(_graph, lambda p: graph_nodes.read(p).constants, "x.pb", dtypes=("f4", "f8", "f2"),
                       at_once=True),
}  # fmt: skip
