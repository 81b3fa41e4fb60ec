"""Writes every hostile file that the format tests know into one folder, each with what it tries.

usage: python tests/attacks/make.py FOLDER

Nothing here is a secret weapon: each file is a few bytes that a reader of weights must
survive, or one of pictures or of statistics. The recipes stand beside the tests of their formats;
this script gathers them, so that all of them can be thrown at a reader as a user would (`run.py`). A file per
attack, in a folder of its own, and `attacks.json`: [[path, what it tries], ...].
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from features import test_archives
from files import test_hdf5, test_npz, test_safetensors, test_tfjs
from files.tensorflow import test_sstable, test_tensor_bundle, test_tensor_slices
from files.torch import test_state_dict
from metrics import statistics_made
from torch_files import pickled, write_legacy, write_zip
from weights.formats import (
    test_graph_def,
    test_keras_shards,
    test_object_checkpoint,
    test_onnx_initializers,
    test_torch_script,
)

CANARY = "canary.h5"
Attack = tuple[str, str, Callable[[Path], Path]]


def attacks(canary: Path) -> Iterator[Attack]:
    """(format, what it tries, how to write it into a folder)."""
    yield from hdf5(canary)
    yield from pickles()
    yield from archives()
    yield from tables()
    for name, content in (test_graph_def.HOSTILE | test_graph_def.LARGE).items():
        yield "graph-def", name, whole("x.pb", content)
    for name, text in test_object_checkpoint.HOSTILE.items():
        yield "objects", name, objects(text)
    for name, (places, _) in test_keras_shards.HOSTILE.items():
        yield "keras shards", name, whole("x.weights.json", json.dumps({"weight_map": places}).encode())
    for name, (file, content) in statistics_made.hostile(Path("ran")).items():
        yield "statistics", name, whole(file, content)
    for name, (file, content) in test_archives.HOSTILE.items():
        yield "pictures", name, whole(file, content)
    for name, (content, _, _) in test_onnx_initializers.HOSTILE.items():
        yield "ONNX", name, lambda folder, content=content: test_onnx_initializers.hostile(folder, content)
    for name, header in test_safetensors.HEADERS.items():
        raw = isinstance(header, bytes) and not header.startswith((b"{", b"["))
        yield "safetensors", name, whole("x.safetensors", header) if raw else safetensors(header)


def whole(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def safetensors(header: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        test_safetensors.save(folder / "x.safetensors", header, bytes(8))
        return folder / "x.safetensors"

    return write


def objects(text: bytes) -> Callable[[Path], Path]:
    return lambda folder: test_object_checkpoint.hostile(folder / "x", text)


def hdf5(canary: Path) -> Iterator[Attack]:
    for test in (
        test_hdf5.test_what_leads_elsewhere_is_refused_and_not_followed,
        test_hdf5.test_what_weights_do_not_have_is_named,
        test_hdf5.test_values_that_are_not_all_there_are_damage,
        test_hdf5.test_what_asks_for_too_much_is_refused,
    ):
        for mark in test.pytestmark:
            for fill in mark.args[1] if mark.args[0] == "fill" else ():
                yield "hdf5", fill.__name__.replace("_", " "), filled(fill, canary)


def filled(fill: Callable[..., None], canary: Path) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with test_hdf5.made(folder / "x.h5") as file:
            fill(file, canary) if fill.__code__.co_argcount == 2 else fill(file)
        return folder / "x.h5"

    return write


def pickles() -> Iterator[Attack]:
    for name, body in (test_state_dict.UNSAFE | test_state_dict.BROKEN | test_state_dict.BOMBS).items():
        yield "pth", name, pickle_in(write_zip, pickled(body))
        yield "pth (old)", name, pickle_in(write_legacy, body)
    for name, (body, _, _) in test_torch_script.HOSTILE.items():
        yield "TorchScript", name, lambda folder, body=body: test_torch_script.hostile(folder, body)
    for name, content in test_state_dict.OLD_FILES.items():
        yield "pth (old)", name, whole("x.pth", content)


def pickle_in(write: Callable[..., object], body: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write(folder / "x.pth", {"a": np.zeros(4, "f4")}, body=body)
        return folder / "x.pth"

    return make


def archives() -> Iterator[Attack]:
    for name, content in test_npz.MEMBERS.items():
        yield "npz", name, npz(content)
        yield "statistics", f"mu: {name}", npz(content, "mu")
        yield "pictures", f"arr_0: {name}", npz(content, "arr_0")
    for name, change in test_tfjs.CHANGES.items():
        yield "tfjs", name, lambda folder, change=change: test_tfjs.small(folder, change)
    for place in test_tfjs.ELSEWHERE:

        def elsewhere(folder: Path, place: str = place) -> Path:
            return test_tfjs.small(folder, lambda model: test_tfjs.group_of(model).update(paths=[place]))

        yield "tfjs", f"a shard at {place!r}", elsewhere


def npz(content: bytes, name: str = test_npz.FIRST) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with zipfile.ZipFile(folder / "x.npz", "w") as archive:
            archive.writestr(f"{name}.npy", content)
        return folder / "x.npz"

    return write


def tables() -> Iterator[Attack]:
    for name, value in test_tensor_bundle.FORGED_ENTRIES.items():
        yield "slim V2", name, bundle(value)
    for name, head in test_tensor_bundle.FORGED_HEADERS.items():
        yield "slim V2", name, bundle(test_tensor_bundle.entry(), head)
    for name, (listed, content, rank) in test_tensor_slices.FORGED.items():

        def slices(folder: Path, parts: tuple = (listed, content, rank)) -> Path:
            test_tensor_slices.forge(folder / "x.ckpt", *parts)
            return folder / "x.ckpt"

        yield "slim V1", name, slices
    for name, (content, _) in test_sstable.FORGERIES.items():
        yield "table", name, whole("x.ckpt", content)


def bundle(value: bytes, head: bytes | None = None) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        test_tensor_bundle.forge(folder / "x.ckpt", value, head)
        return folder / "x.ckpt"

    return write


def main(folder: Path) -> None:
    canary = folder / CANARY
    with test_hdf5.made(canary) as file:
        file["w"] = np.full(6, 42, np.float32)
    listed = []
    for number, (kind, what, write) in enumerate(attacks(canary)):
        place = folder / f"{number:03d}"
        place.mkdir()
        listed.append([str(write(place)), f"{kind}: {what}"])
    (folder / "attacks.json").write_text(json.dumps(listed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
