"""The state_dict in a file of torch's, read without torch: the ZIP of PyTorch 1.6 and later, and the pickles before it.

Alone, or as `{"state_dict": ...}` or `{"model": ...}` in a training checkpoint, or as the
modules of a TorchScript program (`torch.jit.save`), whose code stays unread. Its pickle is
interpreted as data (`pickled`), so a file can run nothing. torch itself neither compares the
ZIP's checksums nor bounds what a pickle may ask for; here both is done. The old files have
no checksums. Writing needs torch.
"""

from __future__ import annotations

import io
import os
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception.files.archive import Archive
from inception.files.atomic import replacing
from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import Stored, check_written, damaged
from inception.files.torch.pickled import Record, State
from inception.files.torch.storages import LONGEST_PICKLE, Reading, Storage, Tensor, pickled_in, stored

Layout = Literal["zip", "script", "legacy"]
MAGIC = bytes.fromhex("8a0a") + (0x1950A86A20F9469CFC6C).to_bytes(10, "little")  # as a pickled number

_LEGACY_PROTOCOL = 1001
_LONGEST_NAME = 1024
_WRAPPERS = ("state_dict", "model", "model_state_dict")
_OTHER_MEMBERS = re.compile(r"version|byteorder|\..*")


@dataclass(frozen=True)
class Content:
    """A state_dict. metadata: what its `_metadata` says of the module at the root."""

    tensors: Mapping[str, Stored]
    metadata: Mapping[Any, Any]
    layout: Layout
    checksummed: bool


def read(path: str | os.PathLike[str]) -> Content:
    """Lists a state_dict; values are read when asked for.

    Raises:
        UnsafeFile: When the pickle holds more.
        UnsupportedFeature: Where there is no state_dict or the file is a frozen TorchScript program.
        CorruptFile: For damage.
    """
    state, layout, checksummed = _state(path)
    metadata = getattr(state, "attributes", {}).get("_metadata")
    root = metadata.get("") if isinstance(metadata, dict) else None
    return Content(_tensors(state, os.fspath(path)), root if isinstance(root, dict) else {}, layout, checksummed)


def write(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Writes a state_dict, with more in its `_metadata`, where torch passes over it; read back before it has its name.

    Raises:
        UnsupportedFeature: When torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise UnsupportedFeature(
            f"{os.fspath(path)}: writing .pth needs torch, which is not installed; "
            "install it, or write .safetensors, which torch users load as well."
        ) from error
    whole = {key: array if array.flags.forc else array.copy() for key, array in arrays.items()}  # no gaps, no way back
    state: Any = OrderedDict(
        (key, torch.from_numpy(np.require(array, requirements="W"))) for key, array in whole.items()
    )
    state._metadata = OrderedDict({"": {"version": 1, **metadata}})
    memory = io.BytesIO()  # under a disk that fills up, torch raises whatever it finds
    torch.save(state, memory)
    with replacing(path) as [temporary]:
        temporary.write_bytes(memory.getbuffer())
        check_written(_tensors(_state(temporary)[0], os.fspath(temporary)), arrays, os.fspath(path))


# ---- from objects to tensors


def _state(path: str | os.PathLike[str]) -> tuple[State | dict[Any, Any], Layout, bool]:
    """(the state_dict, the kind of file, whether it has checksums)."""
    file = RegularFile(path)
    if file.octets(0, min(4, file.size)).tobytes() == b"PK\3\4":
        archive = Archive(path)
        top, layout = _zipped(archive)
        return _unwrapped(top, file.name), layout, archive.checksummed
    return _unwrapped(_legacy(file), file.name), "legacy", False


def _unwrapped(top: Any, where: str) -> State | dict[Any, Any]:
    """The dictionary of tensors: the object itself, or what a training checkpoint calls so."""
    if isinstance(top, dict) and not any(isinstance(value, Tensor) for value in top.values()):
        top = next((top[key] for key in _WRAPPERS if isinstance(top.get(key), dict)), top)
    if not isinstance(top, dict) or not any(isinstance(value, Tensor) for value in top.values()):
        names = ", ".join(map(str, list(top)[:4]))[:200] if isinstance(top, dict) else type(top).__name__
        raise UnsupportedFeature(
            f"{where}: holds {names or 'nothing'} and no state_dict; "
            f"expected one, alone or under {', '.join(_WRAPPERS)}."
        )
    return top


def _tensors(state: Mapping[Any, Any], where: str) -> dict[str, Stored]:
    strange = [key for key, value in state.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strange:
        raise UnsupportedFeature(f"{where}: {str(strange[0])[:100]!r} is no tensor; expected a state_dict.")
    return {key: stored(tensor, f"{where}: tensor {key[:200]!r}") for key, tensor in state.items()}


def _state_of(program: Any, where: str) -> dict[str, Tensor]:
    """The tensors of a TorchScript program's modules, under the names that the program's own state_dict has for them.

    Its code is not looked at. A module is taken once, at the first place where it stands.
    """
    tensors: dict[str, Tensor] = {}
    modules, taken = [("", program)] if isinstance(program, Record) else [], set()
    while modules:
        path, module = modules.pop()
        if id(module) in taken:
            continue
        taken.add(id(module))
        for name, value in module.attributes.items():
            if len(path) + len(str(name)) > _LONGEST_NAME:
                raise ResourceLimit(f"{where}: a module's name is longer than {_LONGEST_NAME} characters; refused.")
            if isinstance(value, Tensor):
                tensors[f"{path}{name}"] = value
            elif isinstance(value, Record):
                modules.append((f"{path}{name}.", value))
    if not tensors:
        raise UnsupportedFeature(
            f"{where}: is a TorchScript program without tensors in its modules, as torch.jit.freeze leaves it: "
            "they have become constants without names; save the program as it was before freezing, or its state_dict()."
        )
    return tensors


# ---- the kinds of file


def _zipped(archive: Archive) -> tuple[Any, Layout]:
    """The object in `<root>/data.pkl`; of a TorchScript program, the state_dict that it stands for."""
    roots = [name.removesuffix("data.pkl") for name in archive.members if re.fullmatch(r"[^/]+/data\.pkl", name)]
    root = roots[0] if len(roots) == 1 else ""
    inside = {name.removeprefix(root) for name in archive.members if name.startswith(root)}
    if root and len(inside) == len(archive.members) and "constants.pkl" in inside:
        return _state_of(pickled_in(archive, root, inside, records=True), archive.name), "script"
    strange = [n for n in inside if n != "data.pkl" and not n.startswith("data/") and not _OTHER_MEMBERS.fullmatch(n)]
    if not root or len(inside) != len(archive.members) or strange:
        shown = ", ".join(strange or list(archive.members))[:200]
        raise UnsupportedFeature(f"{archive.name}: is not of torch.save (found {shown}); expected data.pkl and data/.")
    return pickled_in(archive, root, inside), "zip"


def _legacy(file: RegularFile) -> Any:
    """The fourth of five pickles; behind them, each storage with its length before it."""
    head = file.octets(0, min(file.size, LONGEST_PICKLE)).tobytes()
    if MAGIC not in head[:32]:
        raise UnsupportedFeature(f"{file.name}: is no file of torch.save; expected its mark in the first bytes.")
    reading = Reading(file.name)
    pickles = reading.unpickler(head)
    _, protocol, system = pickles.load(), pickles.load(), pickles.load()
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict) or system.get("little_endian") is not True:
        raise UnsupportedFeature(
            f"{file.name}: is not of protocol {_LEGACY_PROTOCOL} and little-endian; save it with a newer torch."
        )
    top, keys = pickles.load(), pickles.load()
    named = sorted(reading.storages)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or sorted(keys) != named:
        raise damaged(file.name, "its list of storages is not the one that its pickle names")
    places, position = {}, pickles.position
    for storage in (reading.storages[key] for key in keys):
        length = int(file.fetch(position, (1,), np.dtype("<i8"), file.name)[0])
        if length != storage.size:
            raise damaged(file.name, f"storage {storage.key!r} has {length} numbers; its pickle says {storage.size}")
        places[storage.key] = position + 8
        position += 8 + storage.size * storage.kind.dtype.itemsize
    if position != file.size:
        raise damaged(file.name, f"its storages end at byte {position}, the file at {file.size}")

    def fetch(storage: Storage) -> np.ndarray:
        where = f"{file.name}: storage {storage.key!r}"
        return file.fetch(places[storage.key], (storage.size,), storage.kind.dtype, where)

    reading.fetch = fetch
    return top
