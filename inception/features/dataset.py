"""The dataset on disk: a folder of Parquet shards, each written whole, and what was asked of them.

    part-00000.parquet ...   a row a picture: path, sha256, width, height, a column an end point
    _extraction.json         what the rows are features of; another extraction is refused
    _pictures.parquet        the list of pictures, in the order of the shards
    _errors.parquet          the pictures without a row, and why
    _pieces                  while a shard is computed: what of it is done (see `pieces`)
    _int8.xml, _int8.bin     the network of an extraction in int8, calibrated on some of its pictures
    _lock                    held while a process writes (in a store see `leases`)

Readers of datasets (pyarrow, DuckDB, Spark) pass over names that begin with "_". A shard
is a fixed range of the sorted list, so a resumed run writes the files that an
uninterrupted one would have written. A shard's footer says which extraction it belongs
to, which pictures failed, and (as a digest) the size and time of every file that it read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception import brief, extras
from inception.brief import one_line
from inception.features import leases, stores
from inception.features.reading import Read
from inception.features.stores import Stamp, Store
from inception.files import atomic, inert_json, regular
from inception.files.errors import safe

EXTRACTION, PICTURES, ERRORS, LOCK = "_extraction.json", "_pictures.parquet", "_errors.parquet", "_lock"
INT8 = "_int8.xml"
_SHARD = b"inception_shard"  # metadata of a shard's footer
_WHAT = b"inception"
_TEXT = ("path", "sha256")
# What must not change between two runs into one folder, and how a sentence calls it.
FIELDS = {
    "inception": "version of inception",
    "weights": "weights",
    "network": "network",
    "end_points": "end points",
    "pool": "pool",
    "picture": "way of a picture",
    "preprocess": "preprocess function",
    "engine": "engine",
    "precision": "precision",
    "shard_rows": "rows of a shard",
    "pictures": "list of pictures",
}


# What is read of it, and not compared alone.
_KINDS = {"picture": dict, "end_points": list[str], "engine": str, "precision": str, "shard_rows": int,
          "pictures": dict, "shapes": dict[str, list[int]]}  # fmt: skip
_INT8 = {"network": str, "calibrated_on": int, "images": int, "top1": float | None, "cosine": float,
         "lowest_cosine": float}  # fmt: skip
_MOST_VALUES = 1 << 28  # of an end point of a picture
_MOST_JSON = 1 << 24
REQUESTS = 16  # to a store at a time
Place = Path | Store


class Damaged(ValueError):
    """A shard that is not what was written."""


@dataclass(frozen=True)
class Features:
    """An extraction in memory.

    Attributes:
        paths: a name a row.
        arrays: {end point: float32 [rows, ...]}.
        errors: (path, reason) of the pictures without a row.
        metadata: what the rows are features of.
        sha256: of the bytes of each picture.
    """

    paths: list[str]
    arrays: dict[str, np.ndarray]
    errors: list[tuple[str, str]]
    metadata: dict[str, Any]
    sha256: list[str]

    __repr__ = one_line

    def _repr_html_(self) -> str:
        """What a notebook shows: the arrays, and what they are features of."""
        arrays = ((name, " × ".join(map(str, a.shape)), a.dtype) for name, a in self.arrays.items())
        known = [name for name in ("weights", "engine", "precision") if name in self.metadata]
        return brief.card(
            f"Features of {len(self)} pictures; {len(self.errors)} could not be read",
            brief.table(("end point", "shape", "type"), arrays),
            brief.table(("of", ""), ((FIELDS[name], self.metadata[name]) for name in known)),
        )

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Shard:
    """A range of the list, and its file's name."""

    index: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        return f"part-{self.index:05d}.parquet"

    def __len__(self) -> int:
        return self.stop - self.start


def shards(pictures: int, rows: int) -> list[Shard]:
    """The ranges of `rows` pictures, the last one shorter."""
    return [Shard(i, start, min(start + rows, pictures)) for i, start in enumerate(range(0, pictures, rows))]


def described(folder: str | os.PathLike[str] | Store) -> dict[str, Any] | None:
    """What the features in a folder are of; None where it has none. ValueError where that cannot be told."""
    place = stores.place(folder)
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; expected a folder for the features.")
    # Neither a footer nor the file beside the shards has a checksum: what two of them say is what was written.
    beside = _beside(place)
    said = [beside] if beside else []
    for part in (place / name for name in _names(place) if name.startswith("part-") and name.endswith(".parquet")):
        with contextlib.suppress(Damaged), _opened(part) as file:
            extraction = _said(file, part)[0]
            if extraction in said:
                return extraction
            said.append(extraction)
    if said:
        return said[-1]
    if not (place / EXTRACTION).exists():
        others = [name for name in _names(place) if not name.startswith("_") and not atomic.is_ours(name)]
        if others:
            raise ValueError(f"{place} holds other files ({others[0]}); give a new or an empty folder.")
    return None  # or torn or zeroed, and no shard is whole: nothing that would be lost by beginning anew


def _beside(place: Place) -> dict[str, Any] | None:
    """What the file beside the shards says; None where it is not there, or torn."""
    try:
        side = place / EXTRACTION
        if isinstance(side, Path):
            return _checked(inert_json.side_file(side, {}))
        return _checked(inert_json.parse(side.read_bytes(), _MOST_JSON, str(side)))
    except (ValueError, FileNotFoundError):
        return None


def _checked(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a folder's features are of, as JSON said it. ValueError where it is not what `begin` writes."""
    found = {"precision": "float32"} | dict(found)  # 0.1 had no other
    inert_json.check_fields(found, dict.fromkeys(FIELDS, Any) | _KINDS)
    inert_json.check_fields(found["pictures"], {"count": int, "digest": str})
    if found["precision"] == "int8" or "int8" in found:
        inert_json.check_fields(found, {"int8": dict[str, Any]})
        inert_json.check_fields(found["int8"], _INT8)
    sizes = [math.prod(max(side, 1) for side in shape) for shape in found["shapes"].values()]
    if not found["shard_rows"] or found["shapes"].keys() != set(found["end_points"]) or max(sizes) > _MOST_VALUES:
        raise ValueError("its shapes are of no extraction")
    return found


def changes(folder: Place) -> dict[str, float]:
    """{name: time of its last change} of the files in a folder, which need not be there."""
    if isinstance(folder, Store):
        return folder.entries()
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as found:
        return {entry.name: entry.stat().st_mtime_ns for entry in found if entry.name.startswith("part-")}


def _names(folder: Place) -> list[str]:
    if isinstance(folder, Store):
        return sorted(folder.entries())
    return sorted(os.listdir(folder)) if folder.is_dir() else []


def check_same(folder: object, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """ValueError that names the first thing in which an extraction differs from the one in the folder."""
    for field, called in FIELDS.items():
        if before.get(field) != now.get(field):
            was, new = _short(before.get(field), now.get(field))
            shown = "" if field == "weights" else f" ({was}, now {new})"  # digests, which nobody knows
            raise ValueError(
                f"{folder} holds features with a different {called}{shown}; "
                f"give the same again, or another folder.{_way_out(field)}"
            )


def _way_out(field: str) -> str:
    return f" {PICTURES} in it is the old list, and can be given as the source." if field == "pictures" else ""


def _short(was: Any, new: Any) -> tuple[str, str]:
    if isinstance(was, dict) and isinstance(new, dict):
        names = [name for name in was | new if was.get(name) != new.get(name)]
        names = ["count"] if "count" in names else names
        was, new = ({name: values.get(name) for name in names} for values in (was, new))
    texts = [value if isinstance(value, str) else json.dumps(value) for value in (was, new)]
    return safe(texts[0], 80), safe(texts[1], 80)


def locked(folder: Place) -> AbstractContextManager[Callable[[], None] | None]:
    """Holds the folder for this process. ValueError when another one has it; a killed one lets it go.

    Of a folder in a store, what it yields raises when another process has taken it (see `leases`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    busy = f"Another process is writing features into {folder}; wait for it, or give another folder."
    lock = folder / LOCK
    return leases.holding(lock, busy) if isinstance(lock, Store) else regular.holding(lock, busy)


def begin(folder: Place, metadata: Mapping[str, Any], paths: Sequence[str]) -> None:
    """Writes down what is extracted, and from which pictures; what is there and right stays."""
    pa = extras.load("pyarrow")
    listing = folder / PICTURES
    if not _readable(listing, len(paths)):
        _write(listing, pa.table({"path": pa.array([shown(path) for path in paths], pa.string())}))
    content = json.dumps(metadata, indent=1).encode()
    target = folder / EXTRACTION
    if target.exists() and target.read_bytes() == content:
        return
    if isinstance(target, Store):
        target.write_bytes(content)
        return
    with atomic.replacing(target) as (temporary,):
        temporary.write_bytes(content)


def _readable(path: Place, rows: int) -> bool:
    try:
        with _opened(path) as file:
            return bool(file.metadata.num_rows == rows)
    except Damaged:
        return False


def shown(path: str) -> str:
    """A path as text; bytes of a name that are no UTF-8 as \\udc80 and so on."""
    return path.encode("utf-8", "backslashreplace").decode()


def digest_of(stamps: Sequence[Stamp]) -> str:
    """Of the sizes and times of a shard's files."""
    return hashlib.sha256(np.asarray(stamps, np.int64).tobytes()).hexdigest()


# --- A shard ---------------------------------------------------------------------------


def write(
    folder: Place,
    shard: Shard,
    metadata: Mapping[str, Any],
    reads: Sequence[Read],
    columns: Mapping[str, np.ndarray],
) -> None:
    """Writes a shard: a row for each read without a reason, in the order of the columns; the others are its errors."""
    pa = extras.load("pyarrow")
    rows = [read for read in reads if not read.reason]
    fields: list[Any] = [
        ("path", pa.array([shown(read.path) for read in rows], pa.string()), None),
        ("sha256", pa.array([read.sha256 for read in rows], pa.string()), None),
        ("width", pa.array([read.width for read in rows], pa.int32()), None),
        ("height", pa.array([read.height for read in rows], pa.int32()), None),
    ]
    for name, values in columns.items():
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        size = int(np.prod(values.shape[1:]))
        fields.append((name, pa.FixedSizeListArray.from_arrays(pa.array(flat), size), {"shape": str(values.shape[1:])}))
    said = {
        "start": shard.start,
        "stop": shard.stop,
        "inputs": digest_of([read.stamp for read in reads]),
        "errors": [[shown(read.path), read.reason] for read in reads if read.reason],
    }
    schema = pa.schema([pa.field(name, array.type, nullable=False, metadata=more) for name, array, more in fields])
    table = pa.Table.from_arrays([array for _, array, _ in fields], schema=schema)
    said["content"] = _content(table, said)
    _write(folder / shard.name, table.replace_schema_metadata({_WHAT: json.dumps(metadata), _SHARD: json.dumps(said)}))


def _content(table: Any, said: Mapping[str, Any]) -> str:
    """SHA-256 of all that a shard says: Parquet's own checksums leave out its headers and footer."""
    rest = {name: value for name, value in said.items() if name != "content"}
    whole = hashlib.sha256(json.dumps([rest, table.column_names, len(table)]).encode())
    for name in table.column_names:
        if name in _TEXT:
            whole.update("\0".join(table[name].to_pylist()).encode())
        else:
            whole.update(np.ascontiguousarray(_flat(table[name])).tobytes())
    return whole.hexdigest()


def _flat(column: Any) -> np.ndarray:
    array = column.combine_chunks()
    return np.asarray(array.flatten() if hasattr(array, "flatten") else array)


def _write(target: Place, table: Any) -> None:
    parquet = extras.load("pyarrow.parquet")
    write = partial(parquet.write_table, table, compression="none", use_dictionary=False, write_page_checksum=True)
    if isinstance(target, Store):
        content = io.BytesIO()
        write(content)
        target.write_bytes(content.getvalue())
        return
    # Written by Python's own file object: its errors say what the disk said.
    with atomic.replacing(target) as (temporary,), open(temporary, "wb") as file:
        write(file)
        file.flush()


def state(folder: Place, shard: Shard, metadata: Mapping[str, Any], inputs: str, *, whole: bool = False) -> str:
    """What is there of a shard: "done", "missing", "damaged", or "changed" where its pictures are not as they were.

    The footer and its counts are looked at, which finds every cut or zeroed tail; with
    `whole` every byte is read, and the digest of all compared.
    """
    path = folder / shard.name
    try:
        with _opened(path) as file:
            extraction, said = _said(file, path)
            rows = file.metadata.num_rows
        if whole:
            _whole(path)
    except Damaged:
        return "damaged"
    if extraction != metadata or (said["start"], said["stop"]) != (shard.start, shard.stop):
        return "damaged"
    if rows + len(said["errors"]) != len(shard):
        return "damaged"
    return "done" if said["inputs"] == inputs else "changed"


@contextlib.contextmanager
def _opened(path: Place, whole: bool = False) -> Iterator[Any]:
    """A Parquet file; of one in a store its footer alone, or the `whole`."""
    parquet = extras.load("pyarrow.parquet")
    try:
        content: Any = path
        if isinstance(path, Store):
            content = io.BytesIO(path.read_bytes()) if whole else path.footer()
        file = parquet.ParquetFile(content, page_checksum_verification=True)
    except stores.Unreachable:
        raise
    except Exception as error:  # what damage makes of pyarrow has many names
        raise Damaged(_sentence(path, error)) from error
    with file:
        yield file


def _said(file: Any, path: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the extraction, the shard) that a footer tells of."""
    try:
        metadata = file.schema_arrow.metadata or {}
        extraction, said = (json.loads(metadata[key]) for key in (_WHAT, _SHARD))
        inert_json.check_fields(said, {"start": int, "stop": int, "inputs": str, "errors": list[list[str]]})
        if any(len(error) != 2 for error in said["errors"]):
            raise ValueError("its list of errors is not complete")
        return _checked(extraction), said
    except Exception as error:  # pyarrow's, and of whatever JSON says
        raise Damaged(_sentence(path, error)) from error


def _whole(path: Place) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """(rows, the extraction, the shard) of a file, every byte that says something compared with its digest."""
    try:
        with _opened(path, whole=True) as file:
            extraction, said = _said(file, path)
            table = file.read()
        right = said.get("content") == _content(table, said)
    except (Damaged, stores.Unreachable):
        raise
    except Exception as error:  # what damage makes of pyarrow has many names
        raise Damaged(_sentence(path, error)) from error
    if not right:
        raise Damaged(_sentence(path, ValueError("its digest is another one")))
    return table, extraction, said


def _sentence(path: Place, error: Exception) -> str:
    reason = safe(" ".join(str(error).split()), 200)
    return f"{path} is damaged ({reason}); delete it and run the same extraction again."


# --- The whole dataset -----------------------------------------------------------------


def finish(folder: Place, parts: Sequence[Shard]) -> list[tuple[str, str]]:
    """Writes the table of errors anew from the finished shards, and returns it."""
    pa = extras.load("pyarrow")
    there = changes(folder)
    found = [folder / shard.name for shard in parts if shard.name in there]
    with ThreadPoolExecutor(REQUESTS) as pool:
        answers = pool.map(errors_of, found) if isinstance(folder, Store) else map(errors_of, found)
        errors = [error for each in answers for error in each]
    table = {
        "path": pa.array([path for path, _ in errors], pa.string()),
        "reason": pa.array([reason for _, reason in errors], pa.string()),
    }
    _write(folder / ERRORS, pa.table(table))
    return errors


def errors_of(path: Place) -> list[tuple[str, str]]:
    """(path, reason) of the pictures of a shard that have no row."""
    with _opened(path) as file:
        return [(name, reason) for name, reason in _said(file, path)[1]["errors"]]


def finished(folder: str | os.PathLike[str] | Store) -> tuple[int, int]:
    """(pictures in whole shards, pictures in the list) of an extraction, finished or not."""
    metadata = described(folder)
    return (0, 0) if metadata is None else (sum(map(len, _there(folder, metadata))), metadata["pictures"]["count"])


def rows(folder: str | os.PathLike[str]) -> int:
    """How many rows the shards of a finished extraction have together, by their footers. ValueError as `load`."""
    place, _, there = _complete(folder, partial=False)
    count = 0
    for shard in there:
        with _opened(place / shard.name) as file:
            count += file.metadata.num_rows
    return count


def _there(folder: str | os.PathLike[str] | Store, metadata: Mapping[str, Any]) -> list[Shard]:
    """The shards of an extraction that have a file."""
    count, rows = metadata["pictures"]["count"], metadata["shard_rows"]
    numbers = (re.fullmatch(r"part-(\d{5,9})\.parquet", name) for name in _names(stores.place(folder)))
    parts = [Shard(i, i * rows, min((i + 1) * rows, count)) for i in sorted(int(n[1]) for n in numbers if n)]
    return [shard for shard in parts if shard.start < count]


def load(folder: str | os.PathLike[str], *, partial: bool = False) -> Features:
    """A folder of features as arrays, all of it in memory, every checksum compared.

    Args:
        partial: take an extraction that is not finished as far as it is.

    Raises:
        ValueError: For a folder without features, an unfinished extraction, and a damaged shard.
    """
    place, metadata, there = _complete(folder, partial)
    rows = sum(len(shard) for shard in there)
    arrays: dict[str, np.ndarray] = {}
    paths: list[str] = []
    digests: list[str] = []
    errors: list[tuple[str, str]] = []
    for part in (_part(place, shard, metadata) for shard in there):
        for name, values in part.arrays.items():  # before the array: rows of that shape are there
            if name not in arrays:
                arrays[name] = np.empty((rows, *values.shape[1:]), np.float32)
            arrays[name][len(paths) : len(paths) + len(part)] = values
        paths += part.paths
        digests += part.sha256
        errors += part.errors
    shapes = metadata["shapes"]
    arrays = {name: arrays.get(name, np.empty((0, *shape), np.float32))[: len(paths)] for name, shape in shapes.items()}
    return Features(paths, arrays, errors, metadata, digests)


def scan(folder: str | os.PathLike[str], *, partial: bool = False) -> Iterator[Features]:
    """What `load` gives, shard by shard in their order, with one of them in memory.

    Args:
        folder: of a finished extraction.
        partial: take one that is not finished as far as it is.

    Returns:
        The rows of a shard each, 512 at most unless `shard_rows` said otherwise.

    Raises:
        ValueError: As `load`: for the folder at once, for a damaged shard when its turn comes.
    """
    place, metadata, there = _complete(folder, partial)
    return (_part(place, shard, metadata) for shard in there)


def _complete(folder: str | os.PathLike[str], partial: bool) -> tuple[Place, dict[str, Any], list[Shard]]:
    """(the folder, what its features are of, its shards). ValueError where some are missing, and not all is asked."""
    place = stores.place(folder)
    metadata = described(place)
    if metadata is None:
        raise ValueError(f"{place} holds no features; `inception features` writes them.")
    there, wanted = _there(place, metadata), -(-metadata["pictures"]["count"] // metadata["shard_rows"])
    if not partial and len(there) < wanted:
        raise ValueError(
            f"{place} is not finished ({len(there)} of {wanted} shards are there); run the same extraction again."
        )
    return place, metadata, there


def _part(place: Place, shard: Shard, metadata: dict[str, Any]) -> Features:
    table, said, arrays = read(place / shard.name, metadata)
    if (said["start"], said["stop"]) != (shard.start, shard.stop):
        raise Damaged(_sentence(place / shard.name, ValueError("it is of another extraction")))
    errors = [(name, reason) for name, reason in said["errors"]]
    return Features(table["path"].to_pylist(), arrays, errors, metadata, table["sha256"].to_pylist())


def read(path: Place, metadata: Mapping[str, Any]) -> tuple[Any, dict[str, Any], dict[str, np.ndarray]]:
    """(rows, what it says of itself, {end point: array}) of a shard, every byte of it compared with its digest.

    Raises:
        Damaged: For a file that is torn, and one of another extraction.
    """
    table, extraction, said = _whole(path)
    if extraction != metadata:
        raise Damaged(_sentence(path, ValueError("it is of another extraction")))
    return table, said, {name: _values(table, name, tuple(shape), path) for name, shape in metadata["shapes"].items()}


def _values(table: Any, name: str, shape: tuple[int, ...], path: Place) -> np.ndarray:
    try:
        return _flat(table[name]).reshape(len(table), *shape)
    except (KeyError, ValueError) as error:
        raise Damaged(_sentence(path, error)) from error
