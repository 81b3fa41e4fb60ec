"""Where pictures come from: folders, globs, lists and Parquet files, as one sorted list without doubles."""

from __future__ import annotations

import functools
import glob
import hashlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inception import extras

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
LISTS = (".txt", ".lst")
_GLOB = "*?["


@dataclass(frozen=True, order=True)
class Item:
    """One picture: a file, or a row of a Parquet file that holds its bytes.

    path: what the dataset calls it. row: the row, -1 for a file of its own.
    column: the Parquet column with the bytes.
    """

    path: str
    file: str = ""
    row: int = -1
    column: str = ""


@dataclass(frozen=True)
class Listing:
    """All pictures of a run, in the order of the dataset.

    passed_over: files in folders that have no picture's ending.
    """

    items: tuple[Item, ...]
    passed_over: int = 0

    @property
    def digest(self) -> str:
        """SHA-256 over the paths in their order."""
        whole = hashlib.sha256()
        for item in self.items:
            whole.update(os.fsencode(item.path) + b"\0")
        return whole.hexdigest()


Source = str | os.PathLike[str]


def listed(sources: Source | Sequence[Source], column: str | None = None) -> Listing:
    """The pictures that sources name, sorted by path, each once.

    A source is a picture, a folder (with all below it), a glob (`**` goes down folders), a
    text file (.txt, .lst) with a path a line, or a Parquet file with a column of paths or of
    encoded pictures; `column` names it where it is not plain. Paths in lists are taken as on
    the command line: from the current folder. Raises ValueError for a source that is not
    there, has no pictures, or whose column cannot be told.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    found: set[Item] = set()
    passed_over = 0
    for source in [os.fspath(source) for source in sources]:
        named = 0
        for item in _pictures(source, column):
            if item is None:
                passed_over += 1
            else:
                named += 1
                found.add(item)
        if not named:
            raise ValueError(f"{source} has no pictures; expected files that end in {', '.join(ENDINGS)}.")
    if not found:
        raise ValueError("No pictures were given; name a folder, a glob, a list or a Parquet file.")
    return Listing(tuple(sorted(found)), passed_over)


def _pictures(source: str, column: str | None) -> Iterator[Item | None]:
    """The items of one source; None for a file that is passed over."""
    if os.path.isdir(source):
        yield from _below(source)
    elif source.lower().endswith(LISTS) and os.path.isfile(source):
        yield from (Item(path) for path in _lines(source))
    elif source.lower().endswith(".parquet") and os.path.isfile(source):
        yield from _rows(source, column)
    elif os.path.lexists(source):
        yield Item(source)
    elif any(mark in source for mark in _GLOB):
        for path in glob.iglob(source, recursive=True):
            if not os.path.isdir(path):
                yield Item(path) if path.lower().endswith(ENDINGS) else None
            elif not source.endswith("**"):
                yield from _below(path)
    else:
        raise ValueError(f"{source} does not exist; expected a picture, a folder, a glob, a list or a Parquet file.")


def _below(folder: str) -> Iterator[Item | None]:
    def fail(error: OSError) -> None:
        raise ValueError(f"The folder {error.filename} cannot be listed ({error.strerror}).") from error

    for place, _, files in os.walk(folder, onerror=fail):
        for name in files:
            yield Item(os.path.join(place, name)) if name.lower().endswith(ENDINGS) else None


def _lines(path: str) -> Iterator[str]:
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no list of paths: it is not UTF-8 text ({error.reason}).") from error
    if "\0" in text:
        raise ValueError(f"{path} is no list of paths: it holds zero bytes.")
    return (line.rstrip("\r") for line in text.split("\n") if line.strip())


# --- Parquet ---------------------------------------------------------------------------


def _rows(path: str, column: str | None) -> Iterator[Item]:
    _starts.cache_clear()  # the file may be another one than the last time
    _group.cache_clear()
    with _parquet(path) as file:
        name, holds_bytes = _column(path, file.schema_arrow, column)
        if holds_bytes:
            width = len(str(max(file.metadata.num_rows - 1, 0)))
            yield from (Item(f"{path}#{row:0{width}d}", path, row, name) for row in range(file.metadata.num_rows))
            return
        for batch in file.iter_batches(columns=[name]):
            yield from (Item(value) for value in batch.column(0).to_pylist() if value)


def _parquet(path: str) -> Any:
    extras.load("pyarrow")
    parquet = extras.load("pyarrow.parquet")
    try:
        return parquet.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no Parquet file that can be read ({error}).") from error


def _column(path: str, schema: Any, wanted: str | None) -> tuple[str, bool]:
    """(name, whether it holds bytes) of the column with pictures; a struct counts by its child `bytes`."""
    kinds = {field.name: _kind(field.type) for field in schema}
    if wanted is not None:
        if wanted not in kinds or kinds[wanted] is None:
            raise ValueError(f"{path} has no column {wanted!r} of paths or bytes; it has {', '.join(kinds)}.")
        return _leaf(schema.field(wanted)), kinds[wanted] == "bytes"
    for kind in ("bytes", "text"):
        names = [name for name, found in kinds.items() if found == kind]
        names = ["path"] if kind == "text" and "path" in names else names
        if len(names) == 1:
            return _leaf(schema.field(names[0])), kind == "bytes"
        if names:
            raise ValueError(f"{path} has several columns of {kind}: {', '.join(names)}; name one with column=.")
    raise ValueError(f"{path} has no column of paths or of pictures; it has {', '.join(kinds) or 'none'}.")


def _kind(found: Any) -> str | None:
    types = extras.load("pyarrow.types")
    if types.is_struct(found):
        return "bytes" if any(child.name == "bytes" and _kind(child.type) == "bytes" for child in found) else None
    if types.is_binary(found) or types.is_large_binary(found):
        return "bytes"
    return "text" if types.is_string(found) or types.is_large_string(found) else None


def _leaf(field: Any) -> str:
    types = extras.load("pyarrow.types")
    return f"{field.name}.bytes" if types.is_struct(field.type) else str(field.name)


_reading = threading.Lock()


def stored_bytes(item: Item) -> bytes | None:
    """The encoded picture in a row of a Parquet file; None where that is null."""
    with _reading:
        starts = _starts(item.file)
        group = next(i for i in range(len(starts) - 1) if starts[i] <= item.row < starts[i + 1])
        value = _group(item.file, group, item.column)[item.row - starts[group]].as_py()
    return value if value is None or isinstance(value, bytes) else bytes(value)


@functools.lru_cache(maxsize=64)
def _starts(path: str) -> tuple[int, ...]:
    """The first row of each row group, and the end."""
    with _parquet(path) as file:
        starts = [0]
        for i in range(file.metadata.num_row_groups):
            starts.append(starts[-1] + file.metadata.row_group(i).num_rows)
    return tuple(starts)


@functools.lru_cache(maxsize=2)  # threads read in order: the current group, and the next one
def _group(path: str, group: int, column: str) -> Any:
    with _parquet(path) as file:
        found = file.read_row_group(group, columns=[column]).column(0)
    name, dot, child = column.rpartition(".")
    if dot and name and extras.load("pyarrow.types").is_struct(found.type):
        found = extras.load("pyarrow.compute").struct_field(found, child)
    return found
