"""Lists an HDF5 file, in a process of its own: python -I -S hdf5_worker.py REQUEST > LISTING

REQUEST is JSON: {"path": the file, "attributes": names to look for at the root, "libraries":
folders that h5py and NumPy are in}. LISTING is JSON: what datasets there are, of what
shape and type, and which bytes of the file hold their values; or why the file is refused.

`hdf5` runs this file as a script, so it imports nothing of the package. HDF5's C code
crashes and hangs on damaged files, so it does here as little as can be: it follows no link
but hard ones, opens no other file, and neither reads nor decodes a value.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

MOST_OBJECTS = 20_000
MOST_CHUNKS = 100_000
LONGEST_PATH = 400
LONGEST_TEXT = 4096
MOST_DIMENSIONS = 8
MEMORY = 512 << 20  # of address space, a quarter of which Python, NumPy and h5py take
CPU_SECONDS = 60
STEP_SECONDS = 4  # of CPU for one group or dataset; longer is an endless loop in the file
LARGEST_LISTING = 32 << 20
DEFLATE, SHUFFLE, FLETCHER32 = 1, 2, 3  # HDF5's numbers for the filters that we undo
NO_ROOM = 75  # the exit code where the listing does not fit on the disk
CRC = "crc32"  # the attribute in which our own files say the CRC32 of a dataset's values
_SKIPPED = ("optimizer", "optimizer_weights")  # of a training file: larger than the weights, and none


class Refused(Exception):
    """Why a file is not read. kind: "corrupt", "limit", "unsafe", "unsupported" or "unreadable"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


def listing(request: dict[str, Any], step: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """What the file holds, or {"refused": [kind, reason]}; `step` runs at each object. Never raises for the file."""
    try:
        return _listing(request, step)
    except Refused as refused:
        return {"refused": [refused.kind, str(refused)]}
    except MemoryError:
        return {"refused": ["limit", "asks for more memory than the names of weights can need"]}
    except ImportError as error:
        return {"refused": ["unreadable", f"needs h5py, which does not start here ({error})"]}
    except Exception as error:  # h5py has a dozen types for one fact
        return {"refused": ["corrupt", f"{type(error).__name__}: {error}"]}


def _listing(request: dict[str, Any], step: Callable[[], object]) -> dict[str, Any]:
    with _opened(request["path"]) as file:
        groups, found = _walk(file, step)
        datasets = []
        chunks = 0
        for path, dataset in found:
            step()
            datasets.append(_described(path, dataset, MOST_CHUNKS - chunks))
            chunks += len(datasets[-1]["pieces"])
        return {"datasets": datasets, "groups": groups, "attributes": _texts(file, request["attributes"])}


@contextlib.contextmanager
def _opened(path: str) -> Iterator[h5py.File]:
    import h5py

    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise Refused("unreadable", "is no ordinary file")
        file = h5py.File(path, "r")
    except BlockingIOError as error:
        raise Refused("unreadable", "is being written by another process; read it when that is done") from error
    except OSError as error:
        if error.errno is None:  # of HDF5's own
            raise
        raise Refused("unreadable", f"cannot be opened ({os.strerror(error.errno)})") from error
    with file:
        if file.id.get_create_plist().get_userblock():
            raise Refused("unsupported", "has a user block before the HDF5 data")
        yield file


def _walk(file: h5py.File, step: Callable[[], object]) -> tuple[list[str], list[tuple[str, h5py.h5d.DatasetID]]]:
    """The paths of all groups, and all datasets with theirs: hard links only, no object twice."""
    from h5py import h5d, h5g, h5l, h5o

    groups: list[str] = []
    datasets: list[tuple[str, h5d.DatasetID]] = []
    root = h5g.open(file.id, b"/")
    seen = {h5o.get_info(root).addr}
    todo = [("", root)]
    while todo:
        step()
        prefix, group = todo.pop()
        if len(seen) + group.get_num_objs() > MOST_OBJECTS:
            raise Refused("limit", f"holds more than {MOST_OBJECTS} groups and datasets")
        for name in group:
            path = _path(prefix, name)
            if path in _SKIPPED:
                continue
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                raise Refused("unsafe", f"{path} is a link to elsewhere; such files are not read")
            address = h5o.get_info(group, name).addr
            if address in seen:
                raise Refused("unsafe", f"{path} is a second link to something in the file; such files are not read")
            seen.add(address)
            child = h5o.open(group, name)
            if isinstance(child, h5g.GroupID):
                groups.append(path)
                todo.append((f"{path}/", child))
            elif isinstance(child, h5d.DatasetID):
                datasets.append((path, child))
            else:
                raise Refused("unsupported", f"{path} is neither a group nor a dataset")
    return groups, datasets


def _path(prefix: str, name: bytes) -> str:
    if len(prefix) + len(name) > LONGEST_PATH:
        raise Refused("limit", f"{prefix[:100]}... has a path of more than {LONGEST_PATH} characters")
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise Refused("corrupt", f"{prefix} has a member whose name {name!r} is not UTF-8") from error
    if text in ("", ".", "..") or "/" in text or not text.isprintable():
        raise Refused("corrupt", f"{prefix} has a member called {text!r}")
    return prefix + text


def _described(path: str, dataset: h5py.h5d.DatasetID, most_chunks: int) -> dict[str, Any]:
    """A dataset of plain numbers in this file: its shape, its type, its filters, and the pieces that its values are in.

    A piece is [first byte, length, mask of filters left out]; a chunk that was never
    stored has the length 0. Chunks are in the order of their places.
    """
    from h5py import h5d, h5s, h5t

    made = dataset.get_create_plist()
    # Before anything else is asked of it: to tell its shape, HDF5 opens the files of a virtual dataset.
    if made.get_external_count() or made.get_layout() == h5d.VIRTUAL:
        raise Refused("unsafe", f"{path} keeps its values in another file; such files are not read")
    kind = dataset.get_type()
    if kind.get_class() not in (h5t.FLOAT, h5t.INTEGER):
        raise Refused("unsupported", f"{path} holds something else than numbers")
    dtype = kind.dtype
    if dtype.kind not in "fiu" or dtype.itemsize > 8 or not h5t.py_create(dtype).equal(kind):
        raise Refused("unsupported", f"{path} holds numbers of an unusual form ({dtype})")
    space = dataset.get_space()
    shape = (0,) if space.get_simple_extent_type() == h5s.NULL else tuple(map(int, space.shape))
    if len(shape) > MOST_DIMENSIONS:
        raise Refused("unsupported", f"{path} has {len(shape)} dimensions; expected {MOST_DIMENSIONS} at most")
    found = {"name": path, "shape": list(shape), "dtype": dtype.str, "crc": _crc(dataset)}
    found["filters"] = _filters(path, made)
    if not math.prod(shape):
        return found | {"chunk": None, "pieces": []}
    if made.get_layout() == h5d.CHUNKED:
        chunk = made.get_chunk()
        return found | {"chunk": list(chunk), "pieces": _chunks(path, dataset, shape, chunk, most_chunks)}
    if made.get_layout() == h5d.COMPACT:
        raise Refused("unsupported", f"{path} keeps its values among the metadata (compact layout)")
    return found | {"chunk": None, "pieces": [[dataset.get_offset() or 0, dataset.get_storage_size(), 0]]}


def _filters(path: str, made: h5py.h5p.PropDCID) -> list[list[int]]:
    """[number, first setting] of each filter, in the order of writing."""
    filters = []
    for i in range(made.get_nfilters()):
        code, _, settings, _ = made.get_filter(i)
        if code not in (DEFLATE, SHUFFLE, FLETCHER32):
            raise Refused("unsupported", f"{path} uses the filter {code}; expected gzip, shuffle or fletcher32")
        filters.append([code, settings[0] if settings else 0])
    return filters


def _chunks(
    path: str, dataset: h5py.h5d.DatasetID, shape: tuple[int, ...], chunk: tuple[int, ...], most: int
) -> list[list[int]]:
    if len(chunk) != len(shape) or not all(chunk):
        raise Refused("corrupt", f"{path} is {shape} in chunks of {chunk}")
    starts = [range(0, length, side) for length, side in zip(shape, chunk, strict=True)]
    if math.prod(map(len, starts)) > most:
        raise Refused("limit", f"{path} brings the file to more than {MOST_CHUNKS} chunks")
    found = (dataset.get_chunk_info_by_coord(start) for start in itertools.product(*starts))
    return [[each.byte_offset or 0, each.size or 0, each.filter_mask or 0] for each in found]


def _crc(dataset: h5py.h5d.DatasetID) -> int | None:
    """The CRC32 that our own files carry: HDF5's checksum takes zeros, data and sum alike, for sound."""
    import numpy as np
    from h5py import h5a, h5t

    if not h5a.exists(dataset, CRC.encode()):
        return None
    attribute = h5a.open(dataset, CRC.encode())
    if attribute.shape != () or not attribute.get_type().equal(h5t.STD_U32LE):
        return None
    value = np.empty((), "<u4")
    attribute.read(value)
    return int(value)


def _texts(file: h5py.File, wanted: list[str]) -> dict[str, str]:
    """The root's short texts of fixed length; others lie in a heap, where damage makes HDF5 hang."""
    from h5py import h5a, h5t

    texts = {}
    for name in wanted:
        if not h5a.exists(file.id, name.encode()):
            continue
        attribute = h5a.open(file.id, name.encode())
        kind = attribute.get_type()
        if kind.get_class() == h5t.STRING and not kind.is_variable_str() and attribute.shape == ():
            if kind.get_size() > LONGEST_TEXT:
                raise Refused("limit", f"the attribute {name} has {kind.get_size()} bytes")
            texts[name] = bytes(file.attrs[name]).decode()
    return texts


# ---- the process


def _limit() -> None:
    """Bounds memory, time and output of this process; where there is no `resource`, only the parent's clock does."""
    try:
        import resource
    except ImportError:
        return
    limits = {
        "RLIMIT_AS": MEMORY,
        "RLIMIT_CPU": CPU_SECONDS,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": LARGEST_LISTING,
    }
    for name, wanted in limits.items():
        if (kind := getattr(resource, name, None)) is None:
            continue
        _, hardest = resource.getrlimit(kind)
        if hardest != resource.RLIM_INFINITY:
            wanted = min(wanted, hardest)
        with contextlib.suppress(OSError, ValueError):  # macOS refuses some
            resource.setrlimit(kind, (wanted, wanted))


def _step() -> None:
    """Lets the next few seconds of CPU pass; after them the kernel ends this process, wherever in C it is."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, STEP_SECONDS)


def main() -> None:
    request = json.loads(sys.argv[1])
    sys.path.extend(request["libraries"])
    _limit()
    _step()
    text = json.dumps(listing(request, _step))
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os._exit(NO_ROOM if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)) else 1)
    os._exit(0)  # the interpreter's and HDF5's clean-up would only take time


if __name__ == "__main__":
    main()
