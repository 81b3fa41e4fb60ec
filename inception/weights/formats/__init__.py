"""Which format a file is, from its content; which one to write, from its name."""

from __future__ import annotations

import contextvars
import dataclasses
import glob
import importlib
import itertools
import os
import re
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from inception.arguments import nearest
from inception.files import atomic
from inception.files.archive import Archive
from inception.files.errors import CheckpointError, ResourceLimit, UnsupportedFeature
from inception.files.onnx import is_model
from inception.files.regular import RegularFile, one_version
from inception.files.tensorflow import graph_nodes
from inception.weights import published
from inception.weights.canonical import AssumedPicture, DoubtfulWeights, UnverifiedFile, Weights, doubts
from inception.weights.published import catalogue

_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\3\4"
_SAVED_MODEL = "saved_model.pb"
_TABLE_END = bytes.fromhex("57fb808b247547db")  # the last eight bytes of a TensorFlow table file


@dataclass(frozen=True)
class Format:
    """A format we write: the module that does it, the endings that ask for it, the options it passes."""

    module: str
    endings: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()


FORMATS: dict[str, Format] = {
    "keras-h5": Format("keras_hdf5", (".h5", ".hdf5")),
    "keras": Format("keras_archive", (".keras",)),
    "keras-weights": Format("keras_archive", (".weights.h5",), (("model", False),)),
    "slim": Format("slim_checkpoint", (".ckpt",)),
    "slim-v1": Format("slim_checkpoint", (".v1.ckpt",), (("version", 1),)),
    "torch": Format("torch_pickle", (".pth", ".pt")),
    "safetensors": Format("safetensors", (".safetensors",)),
    "safetensors-slim": Format("safetensors", (".slim.safetensors",), (("names", "slim"),)),
    "npz": Format("npz", (".npz",)),
    "graph-def": Format("graph_def", (".pb",)),
}


def load(path: str | os.PathLike[str], *, moving_averages: bool = False, exclude: Sequence[str] = ()) -> Weights:
    """Weights from any file we read; its content tells the format, its hash whether it is a published one.

    Args:
        path: a file, a checkpoint's prefix, a folder with a `checkpoint` file in it, or, where no such path is, the id
            of a published file (`published.catalogue.FILES`), fetched if need be.
        moving_averages: of a training checkpoint, take the averages of the variables.
        exclude: scopes of a checkpoint whose variables are left out ("Logits", "AuxLogits").

    Raises:
        CheckpointError: One sentence for anything else.
    """
    place = _checkpoint_in(path if os.path.exists(path) else published.located(path))
    try:
        with one_version():
            weights = _read(place, moving_averages, exclude)
        return _doubted(weights)
    except MemoryError as error:
        raise ResourceLimit(f"{place}: there is not enough memory to read it; free some and try again.") from error


def _read(place: str, moving_averages: bool, exclude: Sequence[str]) -> Weights:
    """What `load` returns. What tells the format, what the digest is of and what is read are the same bytes."""
    module = recognise(place)
    options = {"moving_averages": moving_averages, "exclude": exclude} if moving_averages or exclude else {}
    if options and module.__name__ != f"{__package__}.slim_checkpoint":
        raise CheckpointError(f"{place} is no TensorFlow checkpoint: it has no moving averages, nor scopes to exclude.")
    with ThreadPoolExecutor(1) as beside:  # the digest takes as long as the reading
        digest = beside.submit(contextvars.copy_context().run, published.recognise, place)
        try:
            weights: Weights = module.read(place, **options)
        finally:
            if (known := digest.result()) is not None:
                catalogue.refuse_unread(known, place)
    if known is not None:
        source = dataclasses.replace(weights.source, integrity="digest", published=known.id)
        variant = known.variant_of(weights.variant)
        weights = dataclasses.replace(weights, variant=variant, source=source, picture=known.picture)
    elif weights.source.assumed:
        warnings.warn(f"{weights.source.path}: {weights.source.assumed}.", AssumedPicture, stacklevel=3)
    return weights


def _doubted(weights: Weights) -> Weights:
    """The weights, after a warning for values nobody can mean and for files that nothing vouches for."""
    source = weights.source
    if source.integrity == "structure":
        warnings.warn(
            f"{source.path} has no checksums in its format and is no published file, so damaged values "
            "would not be noticed.",
            UnverifiedFile,
            stacklevel=3,
        )
    sentences = tuple(doubts(weights.arrays))
    if not sentences:
        return weights
    more = f" and {len(sentences) - 1} more" if len(sentences) > 1 else ""
    warnings.warn(f"{source.path}: {sentences[0]}{more}; it was read as it is.", DoubtfulWeights, stacklevel=3)
    noted = dataclasses.replace(source, notes=source.notes + sentences)
    return dataclasses.replace(weights, source=noted)


def recognise(path: str) -> ModuleType:
    """The module that reads a file. `CheckpointError` for a missing file, `UnsupportedFeature` for a strange one."""
    if (Path(path) / _SAVED_MODEL).is_file():
        return _module("object_checkpoint")
    if Path(f"{path}.index").exists() or path.endswith(".index") or re.search(r"\.data-\d{5}-of-\d{5}$", path):
        return _module("slim_checkpoint")
    if not Path(path).is_file():
        near = nearest(path, (known.id for known in catalogue.FILES))
        raise CheckpointError(f"{path} does not exist{near}; give the path of a weight file, the prefix of a "
                              "checkpoint, or an id that `inception published` lists.")  # fmt: skip
    file = RegularFile(path)
    head, tail = (b"".join(file.pieces(start, size)) for start, size in ((0, 1024), (max(0, file.size - 8), 8)))
    if head.startswith(_HDF5):
        return _module("keras_hdf5")  # Keras's layouts of HDF5 differ inside only
    if tail == _TABLE_END:
        return _module("slim_checkpoint")
    if name := _by_first_bytes(head) or (_in_archive(path) if head.startswith(_ZIP) else None):
        return _module(name)
    raise UnsupportedFeature(
        f"{path} is of no format that is read here (it starts with {head[:8]!r}); "
        "expected Keras HDF5 or .keras, a TensorFlow checkpoint or SavedModel, a frozen graph, a TensorFlow.js "
        "model.json, .pth, .onnx, .safetensors or .npz, whole and not packed."
    )


def _by_first_bytes(head: bytes) -> str | None:
    """The module for what is neither HDF5 nor a table nor an archive."""
    if re.match(rb"\x80[\2-\5]", head):  # a pickle; the module says what any but torch's are
        return "torch_pickle"
    if is_model(head):
        return "onnx_model"
    if graph_nodes.is_graph(head):  # before JSON: a first node of 123 bytes reads as a line feed and a brace
        return "graph_def"
    # A safetensors file starts with the length of its JSON, at most 100,000,000.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000:
        return "safetensors"
    if head.lstrip().startswith(b"{"):
        return "keras_shards" if b'"weight_map"' in head else "tfjs"
    return None


def _in_archive(path: str) -> str | None:
    """The module for a ZIP file, by the names of its members."""
    members = Archive(path).members
    if any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in members):
        return "torch_pickle"
    if "model.weights.h5" in members or "config.json" in members:
        return "keras_archive"
    return "npz" if any(name.endswith(".npy") for name in members) else None


def save(weights: Weights, path: str | os.PathLike[str], format: str | None = None, *, overwrite: bool = True) -> Path:
    """Writes `weights` to `path` in the format its ending names, or in `format`.

    A file that is there is replaced, as `numpy.save` and Keras do: a script says itself what it
    writes, and often the same name again. overwrite=False refuses, as the command line does.
    """
    target = Path(path)
    name = check_target(target, format, overwrite=overwrite)
    if weights.extra:
        raise CheckpointError(
            f"{weights.source.path} holds {len(weights.extra)} arrays beyond InceptionV3 "
            f"({', '.join(list(weights.extra)[:3])}, ...), which no format keeps; drop them with the step drop-extra."
        )
    _module(FORMATS[name].module).write(target, weights, **dict(FORMATS[name].options))
    return target


def check_target(
    path: str | os.PathLike[str],
    format: str | None = None,
    *,
    overwrite: bool = True,
    source: str | os.PathLike[str] | None = None,
) -> str:
    """The format that `path` will be written in. Raises, before any work, what `save` would raise for the path.

    Args:
        overwrite: what is there may be replaced, unless it is a file of `source`.
    """
    target = Path(path)
    name = format or format_of(target)
    if name not in FORMATS:
        raise UnsupportedFeature(
            f"Unknown format {name!r}{nearest(name, FORMATS)}; expected one of {', '.join(FORMATS)}."
        )
    written = [target]
    if name == "slim":
        written = [Path(f"{target}.index"), *_data_files(target)]
    elif name == "graph-def":
        written.append(Path(f"{target}{graph_nodes.SIDE_FILE}"))
    sources = files_of(source) if source is not None else ()
    for file in written:
        try:
            atomic.check_target(file, overwrite, sources, follow_links=written == [target])
        except ValueError as error:
            raise CheckpointError(str(error)) from error
    return name


def files_of(path: str | os.PathLike[str]) -> list[Path]:
    """The files that a path or id of weights stands for: one, or those of a checkpoint, a model or a folder."""
    if isinstance(path, str) and not os.path.exists(path) and (known := published.find(path)):
        path = published.cached(known) or path
    if os.path.isdir(path):
        inside = itertools.chain(Path(path).iterdir(), Path(path, "variables").glob("*"))  # those of a SavedModel too
        return [file for file in inside if file.is_file()]
    place = Path(path)
    prefix = re.sub(r"\.index$|\.data-\d{5}-of-\d{5}$", "", os.fspath(place))
    files = [place, Path(f"{place}{graph_nodes.SIDE_FILE}"), Path(f"{prefix}.index"), *_data_files(prefix)]
    if place.suffix == ".onnx":
        files.append(Path(f"{place}.data"))
    if place.suffix == ".json":
        files += place.parent.glob("*shard*of*")
        files += place.parent.glob(f"{glob.escape(place.name.removesuffix('.weights.json'))}_?????.weights.h5")
    return [file for file in files if file.is_file()]


def _data_files(prefix: str | os.PathLike[str]) -> list[Path]:
    place = Path(prefix)
    return sorted(place.parent.glob(f"{glob.escape(place.name)}.data-?????-of-?????"))


def format_of(path: Path) -> str:
    """The format that a file name asks for: by its longest known ending, `x.ckpt-100` counting as `.ckpt`."""
    name = re.sub(r"\.ckpt-\d+$", ".ckpt", path.name)
    endings = {ending: key for key, f in FORMATS.items() for ending in f.endings if name.endswith(ending)}
    if not endings:
        known = ", ".join(ending for f in FORMATS.values() for ending in f.endings)
        raise UnsupportedFeature(f"{path.name} has no ending that names a format; expected one of {known}.")
    return endings[max(endings, key=len)]


def _checkpoint_in(path: str | os.PathLike[str]) -> str:
    """A folder stands for the checkpoint in it: the newest that its `checkpoint` file names, or the only one.

    A SavedModel stands for itself, and its `saved_model.pb` for the SavedModel.
    """
    if os.path.basename(path) == _SAVED_MODEL and Path(path).with_name("variables").is_dir():
        return os.path.dirname(path) or os.curdir
    state = Path(path) / "checkpoint"
    if not state.is_file():
        return _only_checkpoint(Path(path)) if Path(path).is_dir() else os.fspath(path)
    head = b"".join(RegularFile(state).pieces(0, 65_536))
    line = re.search(rb'^model_checkpoint_path: "([^"]+)"', head)
    if line is None:
        raise CheckpointError(f"{state} names no checkpoint; give the checkpoint's own path.")
    return os.fspath(Path(path) / Path(line[1].decode(errors="replace")).name)


def _only_checkpoint(folder: Path) -> str:
    found = sorted(folder.glob("*.index")) or sorted(path for path in folder.glob("*.ckpt*") if path.is_file())
    if len(found) == 1:
        return os.fspath(found[0].with_suffix("") if found[0].suffix == ".index" else found[0])
    if (folder / _SAVED_MODEL).is_file():
        return os.fspath(folder)
    has = f"{len(found)} checkpoints ({found[0].name}, ...)" if found else "no checkpoint"
    raise CheckpointError(f"{folder} is a folder without a weight file of its own: it holds {has}; give a file's path.")


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__package__}.{name}")
