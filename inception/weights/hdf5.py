"""The one place that reads HDF5: every dataset of a file by its path, and the root's own short texts.

The HDF5 library crashes, hangs and follows links on files made or damaged so. It therefore
runs in a child process with limits on memory and time (`hdf5_worker`), which hands over
plain values and an index of them; both are checked again here. What this does not stop is
an exploit of a memory error in HDF5: the child has limits, it has no sandbox.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from inception.weights import hdf5_worker
from inception.weights.canonical import VARIANT
from inception.weights.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.weights.stored import Shape, Stored

WALL_SECONDS = 60
_WORKER = Path(hdf5_worker.__file__)
_ATTRIBUTES = (VARIANT, "keras_version", "backend")
_ERRORS: dict[str, type[CheckpointError]] = {
    "corrupt": CorruptFile,
    "limit": ResourceLimit,
    "unsafe": UnsafeFile,
    "unsupported": UnsupportedFeature,
    "unreadable": CheckpointError,
}
_ADVICE = {"corrupt": "; the file is damaged or hostile, fetch or copy it again", "limit": "; this is no weight file"}
_LARGEST_INDEX = 16 << 20
_LONGEST_REASON = 500
_MEMORY_FOLDER = "/dev/shm"


@dataclass(frozen=True)
class Content:
    """What is in an HDF5 file.

    tensors: {path: dataset}; attributes: the root's texts of fixed length; groups: the
    paths of all groups; checksummed: HDF5's checksums were there for all data and
    metadata, and right. The groups of an optimizer at the root are left out.
    """

    tensors: Mapping[str, Stored]
    attributes: Mapping[str, str]
    checksummed: bool
    groups: frozenset[str] = frozenset()


def read(path: str | os.PathLike[str], *, trusted: bool = False, called: str | None = None) -> Content:
    """Reads an HDF5 file.

    trusted: in this process, for files known to be good; the checks are the same, but
    damage may crash or hang. called: the file's name in messages, where `path` is a copy.
    Raises `CorruptFile` for damage, `UnsafeFile` for links and values in other files,
    `UnsupportedFeature` for filters and types that weights do not have, `ResourceLimit`
    for what is too large.
    """
    path = os.path.abspath(os.fsdecode(path))
    request = {"path": path, "attributes": _ATTRIBUTES, "libraries": _libraries()}
    called = called or path
    with _scratch(path) as values:
        if trusted:
            hdf5_worker.extract(request, values)
        else:
            _run(request, values, called)
        return _content(values, called)


def read_pieces(pieces: Iterable[Any], called: str) -> Content:
    """Reads an HDF5 file that comes in pieces of bytes, out of an archive; they are not trusted."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "values.h5"
            with open(copy, "wb") as file:
                for piece in pieces:
                    file.write(piece)
            return read(copy, called=called)
    except OSError as error:
        raise CheckpointError(f"{called}: cannot be unpacked ({error}); set TMPDIR to a folder with room.") from error


def image(fill: Callable[[Any], None]) -> memoryview:
    """The bytes of a new HDF5 file that `fill(file)` fills, with checksums on its metadata.

    Made in memory: under a disk that fills up, the library crashes the process.
    """
    import h5py

    memory = io.BytesIO()
    with h5py.File(memory, "w", libver=("v110", "v110")) as file:
        fill(file)
    return memory.getbuffer()


def create_dataset(group: Any, name: str, array: np.ndarray) -> None:
    """Writes an array with HDF5's checksum, for whoever reads it, and with a CRC32, which also tells lost zeros."""
    dataset = group.create_dataset(name, data=array, chunks=array.shape, fletcher32=True)
    dataset.attrs[hdf5_worker.CRC] = np.uint32(zlib.crc32(np.ascontiguousarray(array).data))


def _scratch(path: str) -> BinaryIO:
    """A file without a name for the values: in memory where there is room, else in the temporary folder."""
    folder = None
    with contextlib.suppress(OSError, AttributeError):  # no such folder, no `statvfs`
        disk = os.statvfs(_MEMORY_FOLDER)
        if disk.f_bavail * disk.f_frsize > 4 * os.path.getsize(path) and os.access(_MEMORY_FOLDER, os.W_OK):
            folder = _MEMORY_FOLDER
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(dir=folder, buffering=0))
    except OSError as error:
        raise CheckpointError(f"No temporary file can be made ({error}); set TMPDIR to a folder for it.") from error


def _libraries() -> list[str]:
    """The folders that NumPy and h5py are in; the child searches no others."""
    found = [importlib.util.find_spec(name) for name in ("numpy", "h5py")]
    if None in found:
        raise CheckpointError("Reading HDF5 needs h5py; install it with: pip install h5py")
    return list(dict.fromkeys(str(Path(str(spec.origin)).parents[1]) for spec in found if spec))


def _run(request: Mapping[str, Any], values: BinaryIO, called: str) -> None:
    """Has a child write the values. Raises `CorruptFile` when it crashes, hangs or is killed at its limits."""
    # Without the site module and the user's settings, the child is up in half the time and runs nobody's hooks.
    command = [sys.executable or "", "-I", "-S", str(_WORKER), json.dumps(request)]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=values,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            timeout=WALL_SECONDS,
            check=False,
        ).returncode
    except subprocess.TimeoutExpired as error:
        raise CorruptFile(f"{called}: reading it took more than {WALL_SECONDS} s{_ADVICE['corrupt']}") from error
    except OSError as error:
        raise CheckpointError(f"{called}: the process that reads HDF5 cannot be started ({error})") from error
    if ended:
        raise CorruptFile(f"{called}: reading it ended the HDF5 library ({_ending(ended)}){_ADVICE['corrupt']}")


def _ending(code: int) -> str:
    """SIGSEGV, SIGPROF (too long in one place), ..., or the exit code."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HDF5_", "PYTHON"))}
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}  # threads reserve memory
    # "::" switches filter plug-ins off; a file that somebody writes to is locked, unless its disk cannot lock.
    return kept | one_thread | {"HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "BEST_EFFORT"}


# ---- what the child wrote, checked as if nobody had


def _content(values: BinaryIO, called: str) -> Content:
    index, buffer = _index(values, called)
    if "refused" in index:
        raise _refusal(index["refused"], called)
    try:
        tensors: dict[str, Stored] = {}
        position = 0
        for entry in index["tensors"]:
            stored, position = _stored(entry, position, buffer)
            tensors[str(entry["name"])] = stored
        checksummed = bool(tensors) and all(entry["checksummed"] is True for entry in index["tensors"])
        texts = {str(name): str(text) for name, text in index["attributes"].items()}
        return Content(tensors, texts, checksummed, frozenset(map(str, index["groups"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _nonsense(called) from error


def _refusal(said: Any, called: str) -> CheckpointError:
    try:
        kind, reason = said
        return _ERRORS[kind](f"{called}: {str(reason)[:_LONGEST_REASON]}{_ADVICE.get(kind, '')}")
    except (TypeError, ValueError, KeyError):
        return _nonsense(called)


def _index(values: BinaryIO, called: str) -> tuple[dict[str, Any], memoryview]:
    """The index, and the values before it as one piece of memory that the file backs."""
    trailer = hdf5_worker.TRAILER
    size = os.fstat(values.fileno()).st_size
    if size < trailer.size:
        raise _nonsense(called)
    buffer = memoryview(mmap.mmap(values.fileno(), 0, access=mmap.ACCESS_READ))
    length, crc = trailer.unpack(buffer[-trailer.size :])
    start = size - trailer.size - length
    if length > _LARGEST_INDEX or start < 0:
        raise _nonsense(called)
    text = bytes(buffer[start : start + length])
    try:
        index = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _nonsense(called) from error
    if zlib.crc32(text) != crc or not isinstance(index, dict):
        raise _nonsense(called)
    return index, buffer[:start]


def _stored(entry: Mapping[str, Any], position: int, buffer: memoryview) -> tuple[Stored, int]:
    """One tensor of the index and where its values end; ValueError for a place outside the values."""
    shape, offset = tuple(entry["shape"]), entry["offset"]
    if not re.fullmatch(r"[<>|][fiu][1248]", entry["dtype"]) or len(shape) > hdf5_worker.MOST_DIMENSIONS:
        raise ValueError(entry["dtype"], shape)
    if not all(type(number) is int and number >= 0 for number in (*shape, offset)):
        raise ValueError(shape, offset)
    dtype = np.dtype(entry["dtype"])
    end = offset + dtype.itemsize * _count(shape)
    if not position <= offset <= end <= len(buffer):
        raise ValueError(offset, end)
    return Stored(shape, dtype, lambda: _values(buffer[offset:end], shape, dtype)), end


def _values(buffer: memoryview, shape: Shape, dtype: np.dtype) -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape).copy() if len(buffer) else np.empty(shape, dtype)


def _count(shape: Shape) -> int:
    count = 1
    for side in shape:
        count *= side
    return count


def _nonsense(called: str) -> CorruptFile:
    return CorruptFile(f"{called}: the HDF5 library's answer makes no sense{_ADVICE['corrupt']}")
