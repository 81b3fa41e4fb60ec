"""`make torture`: files of every format damaged at thousands of places, each read in a process of its own.

usage: python tests/torture.py [--cases N] [--jobs N] [--only FORMAT]

A small network is written in each format. A case damages one file at one place: a byte
flipped, one bit flipped, the file cut, 512 bytes zeroed (a lost sector). A forked child
reads it; the answer must be the truth, one of our errors, or, in formats without
checksums, other values under the same names and shapes. Anything else (a crash, a hang,
another exception, a wrong value where there are checksums) fails the run.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import containers
import numpy as np
from made import random_weights

from inception import load_weights
from inception.variants import Variant
from inception.weights import CheckpointError, Weights
from inception.weights.dialects import graph_families

TINY = Variant(num_classes=3, depth_multiplier=0.01, min_depth=2)
KINDS = ("flip", "bit", "cut", "zeros")
SECONDS = 20  # a child that takes longer hangs


def unchecked_h5(weights: Weights, path: Path) -> None:
    """The published layout as Keras writes it: no checksums anywhere."""
    import h5py

    weights.save(path)
    with h5py.File(path) as ours, h5py.File(f"{path}.plain", "w") as plain:
        for key, value in ours.attrs.items():
            if key != "inception_variant":
                plain.attrs[key] = value
        for layer in ours:
            plain.create_group(layer).attrs["weight_names"] = ours[layer].attrs["weight_names"]
            for name, dataset in ours[layer].get(layer, {}).items():
                plain[layer].create_dataset(f"{layer}/{name}", data=dataset[()])
    os.replace(f"{path}.plain", path)


def unchecked_weights_h5(weights: Weights, path: Path) -> None:
    import h5py

    weights.save(path)
    with h5py.File(path) as ours, h5py.File(f"{path}.plain", "w") as plain:

        def copy(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                plain.create_dataset(name, data=item[()])
            else:  # of a layer without weights too, as Keras's own files have them
                plain.require_group(name)

        ours.visititems(copy)
    os.replace(f"{path}.plain", path)


def sharded(weights: Weights, path: Path) -> None:
    """As Keras shards them: half of the layers in each of two files beside the JSON."""
    import h5py

    whole = path.with_name("whole.weights.h5")
    unchecked_weights_h5(weights, whole)
    places: dict[str, str] = {}
    names = [path.name.replace(".weights.json", f"_{number:05d}.weights.h5") for number in range(2)]
    with h5py.File(whole) as file:
        layers = list(file["layers"])
        for number, name in enumerate(names):
            with h5py.File(path.with_name(name), "w") as shard:
                for layer in layers[number::2]:
                    file.copy(f"layers/{layer}", shard.require_group("layers"))
                    places[f"/layers/{layer}/vars"] = name
    whole.unlink()
    path.write_text(json.dumps({"metadata": {"total_size": 0}, "weight_map": places}))


def of_objects(weights: Weights, path: Path) -> None:
    """As Keras 2's `save_weights` writes without an ending."""
    import object_files

    object_files.write_model(weights, path)


def foreign_safetensors(weights: Weights, path: Path) -> None:
    """As the package of that name writes: no digests."""
    from inception.weights.dialects import torch_names

    arrays = {k: v for k, v in torch_names.scatter(weights).items() if v.dtype == np.float32}
    containers.foreign_safetensors(path, arrays)


def zipped_pth(weights: Weights, path: Path) -> None:
    from torch_files import write_zip

    from inception.weights.dialects import torch_names

    write_zip(path, {k: v for k, v in torch_names.scatter(weights).items() if v.dtype == np.float32})


def script_pt(weights: Weights, path: Path) -> None:
    """A TorchScript program."""
    from torch_files import write_script

    from inception.weights.dialects import torch_names

    write_script(path, {k: v for k, v in torch_names.scatter(weights).items() if v.dtype == np.float32})


def old_pth(weights: Weights, path: Path) -> None:
    from torch_files import write_legacy

    from inception.weights.dialects import torch_names

    write_legacy(path, {k: v for k, v in torch_names.scatter(weights).items() if v.dtype == np.float32})


def onnx_model(weights: Weights, path: Path) -> None:
    """As an exporter writes it that keeps the batch norms."""
    import onnx_files

    onnx_files.write(path, weights)


def saved(weights: Weights, path: Path) -> None:
    weights.save(path)


def graph_without_digest(weights: Weights, path: Path) -> None:
    weights.save(path)
    Path(f"{path}.sha256").unlink()


def tfjs(weights: Weights, path: Path) -> None:
    """A layers model: model.json and one shard."""
    from inception.weights.dialects import keras_layers

    places = keras_layers.variables(weights.variant)
    arrays = {"/".join(place): weights.arrays[name] for name, place in places.items()}
    arrays = {n: a.reshape(a.shape[2:]) if n.startswith("predictions/k") else a for n, a in arrays.items()}
    containers.layers_model(path, arrays)


# format: (how it is written, its file's name, the file that is damaged, whether wrong values are always noticed)
FORMATS: dict[str, tuple[Callable[[Weights, Path], None], str, str, bool]] = {
    "keras-h5 (ours)": (saved, "x.h5", "x.h5", True),
    "keras-h5 (Keras)": (unchecked_h5, "x.h5", "x.h5", False),
    "weights.h5 (ours)": (saved, "x.weights.h5", "x.weights.h5", True),
    "weights.h5 (Keras)": (unchecked_weights_h5, "x.weights.h5", "x.weights.h5", False),
    "shards json": (sharded, "x.weights.json", "x.weights.json", False),
    "shards shard": (sharded, "x.weights.json", "x_00001.weights.h5", False),
    "keras": (saved, "x.keras", "x.keras", True),
    "slim V2 index": (saved, "x.ckpt", "x.ckpt.index", True),
    "slim V2 data": (saved, "x.ckpt", "x.ckpt.data-00000-of-00001", True),
    "objects index": (of_objects, "x", "x.index", True),
    "objects data": (of_objects, "x", "x.data-00000-of-00001", True),
    "slim V1": (saved, "x.v1.ckpt", "x.v1.ckpt", True),
    "graph-def (ours)": (saved, "x.pb", "x.pb", True),
    "graph-def": (graph_without_digest, "x.pb", "x.pb", False),
    "pth": (zipped_pth, "x.pth", "x.pth", True),
    "TorchScript": (script_pt, "x.pt", "x.pt", True),
    "pth (old)": (old_pth, "x.pth", "x.pth", False),
    "safetensors (ours)": (saved, "x.safetensors", "x.safetensors", True),
    "safetensors": (foreign_safetensors, "x.safetensors", "x.safetensors", False),
    "ONNX": (onnx_model, "x.onnx", "x.onnx", False),
    "npz": (saved, "x.npz", "x.npz", True),
    "tfjs json": (tfjs, "model.json", "model.json", False),
    "tfjs shard": (tfjs, "model.json", "group1-shard1of1.bin", False),
}


def damaged(content: bytes, kind: str, place: int) -> bytes:
    if kind == "cut":
        return content[:place]
    changed = bytearray(content)
    if kind == "zeros":
        changed[place : place + 512] = bytes(min(512, len(content) - place))
    else:
        changed[place] ^= 0xFF if kind == "flip" else 1 << (place % 8)
    return bytes(changed)


def names_and_shapes(weights: Weights) -> str:
    shapes = [(n, a.shape) for n, a in weights.arrays.items()]
    if weights.source.format.startswith(graph_families.TITLE):
        # A graph without gammas has ones in their place; other numbers there are a gamma.
        shapes = [(n, shape) for n, shape in shapes if not n.endswith("/gamma")]
    return digest(repr(shapes).encode())


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def all_values(weights: Weights) -> str:
    return digest(b"".join(n.encode() + a.tobytes() for n, a in weights.arrays.items()))


def answer(path: Path, truth: tuple[str, str]) -> str:
    """What a reader says of a file: "same", "error", "values" (other numbers), or what must never be."""
    try:
        weights = load_weights(path)
    except CheckpointError:
        return "error"
    except BaseException as error:  # the one place where everything is caught: it is what we look for
        return f"FOREIGN {type(error).__name__}: {error}"
    if names_and_shapes(weights) != truth[0]:
        return "WRONG NAMES OR SHAPES"
    return "same" if all_values(weights) == truth[1] else "values"


def in_a_child(path: Path, truth: tuple[str, str]) -> str:
    """`answer` in a forked process, so that a crash is an answer too."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        warnings.simplefilter("ignore")
        os.write(send, answer(path, truth).encode()[:4000])
        os._exit(0)
    os.close(send)
    deadline = time.monotonic() + SECONDS
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(receive)
            return "HANG"
        time.sleep(0.002)
    with open(receive, "rb") as pipe:
        return pipe.read().decode() or "CRASH"


def torture(name: str, cases: int, seed: int = 0) -> collections.Counter[tuple[str, str]]:
    """{(kind of damage, answer): how often} for one format, at `cases` random places."""
    write, file, target, _ = FORMATS[name]
    weights = random_weights(TINY)
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(weights, Path(folder) / file)
        sound = (Path(folder) / target).read_bytes()
        read = load_weights(Path(folder) / file)
        truth = names_and_shapes(read), all_values(read)
        for kind, place in places(len(sound), cases, seed):
            (Path(folder) / target).write_bytes(damaged(sound, kind, place))
            counts[kind, in_a_child(Path(folder) / file, truth)] += 1
    return counts


def places(size: int, cases: int, seed: int) -> Iterator[tuple[str, int]]:
    """Random places, a third of them in the first and last 4 KiB, where the structure is."""
    rng = np.random.default_rng(seed)
    for i in range(cases):
        edge = min(4096, size)
        anywhere, start, end = rng.integers(size), rng.integers(edge), size - 1 - rng.integers(edge)
        yield KINDS[i % len(KINDS)], int((anywhere, start, end)[rng.choice(3, p=[2 / 3, 1 / 6, 1 / 6])])


def failures(name: str, counts: collections.Counter[tuple[str, str]]) -> dict[str, int]:
    """The answers that must not be, of one format."""
    checked = FORMATS[name][3]
    fine = {"same", "error"} if checked else {"same", "error", "values"}
    return {f"{kind}: {said}": n for (kind, said), n in counts.items() if said not in fine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=500, help="of each format")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", help="one format")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chosen = [name for name in FORMATS if arguments.only in (None, name)]
    started, bad = time.perf_counter(), 0
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        results = {name: pool.submit(torture, name, arguments.cases, arguments.seed) for name in chosen}
        print(f"{'format':<20}{'cases':>7}{'error':>7}{'same':>7}{'values':>8}{'failed':>8}")
        for name, result in results.items():
            counts = result.result()
            by_answer: collections.Counter[str] = collections.Counter()
            for (_, said), n in counts.items():
                by_answer[said] += n
            wrong = failures(name, counts)
            bad += sum(wrong.values())
            numbers = f"{by_answer['error']:>7}{by_answer['same']:>7}{by_answer['values']:>8}{sum(wrong.values()):>8}"
            print(f"{name:<20}{counts.total():>7}{numbers}", flush=True)
            for what, n in wrong.items():
                print(f"    {n} x {what}")
    print(f"{arguments.cases * len(chosen)} files, {bad} failed, {time.perf_counter() - started:.0f} s")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
