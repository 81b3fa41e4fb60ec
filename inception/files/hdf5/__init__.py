"""The one place that reads HDF5: every dataset of a file by its path, and the root's own short texts.

The HDF5 library crashes, hangs and follows links on files made or damaged so. It therefore
only lists the file, in a child process with limits on memory and time (`hdf5_worker`); the
list is checked here as if nobody had, and `hdf5_values` reads the values themselves. What
this does not stop is an exploit of a memory error in the library: the child has limits, it
has no sandbox.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inception.files import inert_json
from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.files.hdf5 import values, worker
from inception.files.hdf5.values import Dataset, Piece
from inception.files.hdf5.worker import DEFLATE, FLETCHER32, SHUFFLE
from inception.files.regular import RegularFile
from inception.files.tensor import LARGEST, Stored

WALL_SECONDS = 600  # for a disk that never answers; loops end by their CPU time, and many children at once take minutes
_WORKER = Path(worker.__file__)
_ERRORS: dict[str, type[CheckpointError]] = {
    "corrupt": CorruptFile,
    "limit": ResourceLimit,
    "unsafe": UnsafeFile,
    "unsupported": UnsupportedFeature,
    "unreadable": CheckpointError,
}
_ADVICE = {"corrupt": "; the file is damaged or hostile, fetch or copy it again", "limit": "; this is no weight file"}
_LONGEST_REASON = 500
_MOST_BYTES = 1 << 30  # of values
_MOST_UNPACKED = (64 << 20, 20)  # and no more than so many bytes, and so many for each byte of the file
_DTYPE = re.compile(r"[<>|][fiu][1248]")


@dataclass(frozen=True)
class Content:
    """What is in an HDF5 file.

    Attributes:
        tensors: {path: dataset}.
        attributes: the root's texts of fixed length.
        groups: the paths of all groups.
        checksummed: there are checksums on all data and metadata (a wrong one raises `CorruptFile`, where it is on data
            when that is read). The groups of an optimizer at the root are left out.
    """

    tensors: Mapping[str, Stored]
    attributes: Mapping[str, str]
    checksummed: bool
    groups: frozenset[str] = frozenset()


def read(
    path: str | os.PathLike[str], *, attributes: Sequence[str] = (), trusted: bool = False, called: str | None = None
) -> Content:
    """Lists an HDF5 file; values are read when asked for.

    Args:
        attributes: the names of texts that the root may have.
        trusted: in this process, for files known to be good; the checks are the same, but damage may crash or hang.
        called: the file's name in messages, where `path` is a copy.

    Raises:
        CorruptFile: For damage.
        UnsafeFile: For links and values in other files.
        UnsupportedFeature: For filters and types that weights do not have.
        ResourceLimit: For what is too large.
    """
    path = os.path.abspath(os.fsdecode(path))
    called = called or path
    file = RegularFile(path)
    request = {"path": path, "attributes": attributes, "libraries": _libraries()}
    try:
        found = worker.listing(request) if trusted else _listed_by_a_child(request, called)
        if "refused" in found:
            raise _refusal(found["refused"], called)
    except (CorruptFile, ResourceLimit) as error:
        if trusted or (memory := _memory()) is None:
            raise
        raise ResourceLimit(
            f"{called}: listing what is in an HDF5 file takes {worker.MEMORY >> 20} MB of address space, and a "
            f"process may have {memory >> 20} MB here; raise that limit (ulimit -v)."
        ) from error
    try:
        return _content(found, file, called)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise _nonsense(called) from error


def read_pieces(pieces: Iterable[Any], called: str, attributes: Sequence[str] = ()) -> Content:
    """Reads an HDF5 file, values and all, that comes in pieces of bytes out of an archive."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "values.h5"
            with open(copy, "wb") as file:
                for piece in pieces:
                    file.write(piece)
            content = read(copy, attributes=attributes, called=called)
            arrays = {name: stored.read() for name, stored in content.tensors.items()}
    except OSError as error:
        raise CheckpointError(f"{called}: cannot be unpacked ({error}); set TMPDIR to a folder with room.") from error
    tensors = {name: Stored(array.shape, array.dtype, array.copy) for name, array in arrays.items()}
    return Content(tensors, content.attributes, content.checksummed, content.groups)


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
    dataset.attrs[worker.CRC] = np.uint32(zlib.crc32(np.ascontiguousarray(array).data))


# ---- the child


def _libraries() -> list[str]:
    """The folders that NumPy and h5py are in; the child searches no others."""
    found = [importlib.util.find_spec(name) for name in ("numpy", "h5py")]
    if None in found:
        raise CheckpointError("Reading HDF5 needs h5py; install it with: pip install h5py")
    return list(dict.fromkeys(str(Path(str(spec.origin)).parents[1]) for spec in found if spec))


def _listed_by_a_child(request: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Has a child list the file. Raises `CorruptFile` when it crashes, hangs or is killed at its limits."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HDF5_", "PYTHON"))}
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}  # threads reserve memory
    # "::" switches filter plug-ins off; a file that somebody writes to is locked, unless its disk cannot lock.
    # Without the site module and the user's settings, the child is up in half the time and runs nobody's hooks.
    command = [sys.executable or "", "-I", "-S", str(_WORKER), json.dumps(request)]
    try:
        output = tempfile.TemporaryFile()  # noqa: SIM115 - unlike a pipe, a file has a limit
    except OSError as error:
        raise _no_room(called) from error
    with output:
        try:
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env=kept | one_thread | {"HDF5_PLUGIN_PRELOAD": "::", "HDF5_USE_FILE_LOCKING": "BEST_EFFORT"},
                timeout=WALL_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise CorruptFile(f"{called}: listing it took more than {WALL_SECONDS} s{_ADVICE['corrupt']}") from error
        except OSError as error:
            raise CheckpointError(f"{called}: the process that reads HDF5 cannot be started ({error})") from error
        if ended == worker.NO_ROOM:
            raise _no_room(called)
        if ended == -9:
            raise ResourceLimit(
                f"{called}: the process that lists it was killed; the machine may be out of memory: free some and "
                "try again. A hostile file, too, can need more than it is given."
            )
        if ended:
            raise CorruptFile(f"{called}: listing it ended the HDF5 library ({_ending(ended)}){_ADVICE['corrupt']}")
        size = output.seek(0, os.SEEK_END)
        output.seek(0)
        text = output.read(min(size, worker.LARGEST_LISTING + 1))
    try:
        return inert_json.parse(text, worker.LARGEST_LISTING, called)
    except CheckpointError as error:
        raise _nonsense(called) from error


def _no_room(called: str) -> CheckpointError:
    return CheckpointError(
        f"{called}: the list of what is in it cannot be written, for want of a temporary folder with room; "
        "set TMPDIR to one."
    )


def _memory() -> int | None:
    """The bytes of address space that a child can have, where somebody's limit leaves it less than it may take."""
    try:
        import resource
    except ImportError:  # on Windows
        return None
    _, hardest = resource.getrlimit(resource.RLIMIT_AS)
    return hardest if 0 <= hardest < worker.MEMORY else None


def _ending(code: int) -> str:
    """SIGSEGV, SIGPROF (too long in one place), ..., or the exit code."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"


# ---- what the child said, checked as if nobody had


def _content(found: Mapping[str, Any], file: RegularFile, called: str) -> Content:
    datasets = {str(entry["name"]): _dataset(entry) for entry in found["datasets"]}
    if len(datasets) != len(found["datasets"]):
        raise ValueError("a name twice")
    most, total = min(_MOST_BYTES, _MOST_UNPACKED[0] + _MOST_UNPACKED[1] * file.size), 0
    for name, dataset in datasets.items():  # refused before a value is read
        size = max(dataset.unpacked, math.prod(dataset.shape) * dataset.dtype.itemsize)
        total += size
        if size > LARGEST or total > most:
            raise ResourceLimit(f"{called}: {name} brings the values to {total} bytes{_ADVICE['limit']}")
    # The metadata of older files has no checksums.
    sums = bool(datasets) and int(file.octets(8, 1, called)[0]) >= 2
    tensors = {}
    for name, dataset in datasets.items():
        where = f"{called}: {name}"
        tensors[name] = Stored(dataset.shape, dataset.dtype, functools.partial(values.read, file, dataset, where))
        sums = sums and values.checksummed(file, dataset, where)
    texts = {str(name): str(text) for name, text in found["attributes"].items()}
    return Content(tensors, texts, sums, frozenset(map(str, found["groups"])))


def _dataset(entry: Mapping[str, Any]) -> Dataset:
    """One dataset of the list; ValueError or TypeError for one that cannot be."""
    shape, chunk, filters, crc = entry["shape"], entry["chunk"], entry["filters"], entry["crc"]
    dimensions = worker.MOST_DIMENSIONS
    if not inert_json.is_shape(shape, dimensions) or not (chunk is None or inert_json.is_shape(chunk, dimensions)):
        raise ValueError(shape, chunk)
    if not _DTYPE.fullmatch(entry["dtype"]) or not (crc is None or type(crc) is int):
        raise ValueError(entry["dtype"], crc)
    if not all(inert_json.is_shape(pair) and pair[0] in (DEFLATE, SHUFFLE, FLETCHER32) for pair in filters):
        raise ValueError(filters)
    if not all(inert_json.is_shape(piece) for piece in entry["pieces"]):
        raise ValueError("pieces")
    dataset = Dataset(
        tuple(shape),
        np.dtype(entry["dtype"]),
        None if chunk is None else tuple(chunk),
        tuple((code, setting) for code, setting in filters),
        tuple(Piece(start, size, mask) for start, size, mask in entry["pieces"]),
        crc,
    )
    if not dataset.has_all_pieces():
        raise ValueError("pieces")
    return dataset


def _refusal(said: Any, called: str) -> CheckpointError:
    try:
        kind, reason = said
        return _ERRORS[kind](f"{called}: {str(reason)[:_LONGEST_REASON]}{_ADVICE.get(kind, '')}")
    except (TypeError, ValueError, KeyError):
        return _nonsense(called)


def _nonsense(called: str) -> CorruptFile:
    return CorruptFile(f"{called}: the HDF5 library's answer makes no sense{_ADVICE['corrupt']}")
