"""Where pictures come from: folders, globs, lists, Parquet files and archives, as one sorted list without doubles."""

from __future__ import annotations

import bisect
import functools
import glob
import hashlib
import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np

from inception import extras
from inception.features import archives, stores, tars
from inception.features.stores import Stamp, Store
from inception.files.errors import safe

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
LISTS = (".txt", ".lst")
ARCHIVES = (".zip", ".npz", ".tar")
MOST_BYTES = 1 << 29  # of a picture; an uncompressed one of Pillow's most pixels has as many
_GLOB = "*?["


@dataclass(frozen=True, slots=True)
class Item:
    """One picture: a file, or a row of a Parquet file or an archive that holds it.

    Attributes:
        path: what the dataset calls it.
        row: the row, -1 for a file of its own; of a tar file where the picture's bytes begin.
        column: the Parquet column, the ZIP file's member or the NumPy archive's array; of a tar how many bytes.
        stamp: of a file in a store, as its listing said.
    """

    path: str
    file: str = ""
    row: int = -1
    column: str = ""
    stamp: Stamp | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Listing:
    """All pictures of a run, in the order of the dataset.

    Attributes:
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


PictureSource = str | os.PathLike[str]


def listed(sources: PictureSource | Sequence[PictureSource], column: str | None = None) -> Listing:
    """The pictures that sources name, sorted by path, each once.

    A source is a picture, a folder (with all below it), a glob (`**` goes down folders), a
    text file (.txt, .lst) with a path a line, a Parquet file with a column of paths or of
    encoded pictures (`column` names it where it is not plain), a ZIP or tar file of pictures
    (WebDataset's shards), or a NumPy archive whose `arr_0` is uint8 [n, height, width, 3]. All
    but the last may be in stores, by URLs (see `stores`). Paths in lists are taken as on
    the command line: from the current folder. Raises ValueError for a source that is not
    there, has no pictures, or whose column cannot be told.
    """
    if isinstance(sources, str | os.PathLike):
        sources = [sources]
    items: dict[Item, None] = {}  # in the order they come, which is nearly the one they are sorted in
    passed_over = 0
    for source in [os.fspath(source) for source in sources]:
        named = 0
        for item in _pictures(source, column):
            if item is None:
                passed_over += 1
            else:
                named += 1
                items[item] = None
        if not named:
            raise ValueError(f"{source} has no pictures; expected files that end in {', '.join(ENDINGS)}.")
    if not items:
        raise ValueError("No pictures were given; name a folder, a glob, a list or a Parquet file.")
    return Listing(tuple(sorted(items, key=attrgetter("path", "file", "row", "column"))), passed_over)


def _pictures(source: str, column: str | None) -> Iterator[Item | None]:
    """The items of one source; None for a file that is passed over."""
    if stores.is_url(source):
        yield from _stored(source, column)
    elif os.path.isdir(source):
        yield from _below(source)
    elif source.lower().endswith(LISTS) and os.path.isfile(source):
        yield from (Item(path) for path in _lines(source))
    elif source.lower().endswith(".parquet") and os.path.isfile(source):
        yield from _rows(source, column)
    elif source.lower().endswith(ARCHIVES) and os.path.isfile(source):
        yield from _archived(source)
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


def _archived(path: str) -> Iterator[Item | None]:
    if path.lower().endswith(".tar"):
        for member in tars.members(path, ENDINGS):
            yield Item(f"{path}#{member[0]}", path, member[1], str(member[2])) if member else None
        return
    for place in archives.members(path, ENDINGS) if path.lower().endswith(".zip") else archives.rows(path):
        yield Item(place[0], path, *place[1:]) if place else None


def _stored(url: str, column: str | None) -> Iterator[Item | None]:
    """The items of a URL: a picture, a list, a Parquet or tar file, an archive, or all of these that lie below it."""
    there = False
    for name, stamp in stores.files(url):
        there, alone = True, name == url
        ending = os.path.splitext(name.partition("::")[0].lower())[1]
        if ending in ENDINGS:
            yield Item(name, stamp=stamp)
            continue
        items: Iterator[Item | None] = iter([None])
        if ending == ".npz" and alone:
            raise ValueError(f"{url} is a NumPy archive in a store, where its rows have no place; copy it here.")
        if ending == ".zip" and alone:
            items = _stored(f"zip://::{url}", column)
        elif ending == ".tar":
            items = _archived(name)
        elif ending == ".parquet":
            items = _rows(name, column)
        elif ending in LISTS and alone:
            items = map(Item, _lines(name))
        elif alone:
            items = iter([Item(name)])
        yield from (replace(item, stamp=stamp) if item and item.file == name else item for item in items)
    if not there:
        raise ValueError(f"{url} does not exist; expected a picture, a folder, a glob, a list or a Parquet file.")


def _below(folder: str) -> Iterator[Item | None]:
    def fail(error: OSError) -> None:
        raise ValueError(f"The folder {error.filename} cannot be listed ({error.strerror}).") from error

    for place, below, files in os.walk(folder, onerror=fail):
        below.sort()
        for name in sorted(files):
            yield Item(os.path.join(place, name)) if name.lower().endswith(ENDINGS) else None


def _lines(path: str) -> Iterator[str]:
    try:
        text = stores.place(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no list of paths: it is not UTF-8 text ({error.reason}).") from error
    if "\0" in text:
        raise ValueError(f"{path} is no list of paths: it holds zero bytes.")
    return (line.rstrip("\r") for line in text.split("\n") if line.strip())


# --- Parquet ---------------------------------------------------------------------------


def _rows(path: str, column: str | None) -> Iterator[Item]:
    _cursor.cache_clear()  # the file may be another one than the last time
    with parquet_file(path) as file:
        name, holds_bytes = _column(path, file.schema_arrow, column)
        if holds_bytes:
            width = len(str(max(file.metadata.num_rows - 1, 0)))
            yield from (Item(f"{path}#{row:0{width}d}", path, row, name) for row in range(file.metadata.num_rows))
            return
        for batch in file.iter_batches(columns=[name]):
            yield from (Item(value) for value in batch.column(0).to_pylist() if value)


def parquet_file(path: str) -> Any:
    """The Parquet file, opened, whose pages' checksums are compared where it has them. ValueError for none."""
    extras.load("pyarrow")
    parquet = extras.load("pyarrow.parquet")
    place = stores.place(path)
    try:  # buffered, or it holds a row group whole
        source = place.opened() if isinstance(place, Store) else path
        file = parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True)
        file.schema_arrow  # noqa: B018 - made when it is asked for
    except stores.Unreachable:
        raise
    except Exception as error:  # what damage makes of pyarrow has many names
        raise ValueError(
            f"{path} is no Parquet file that can be read ({safe(' '.join(str(error).split()), 300)})."
        ) from error
    return file


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
_BATCH = 1 << 22  # bytes of pictures read at a time
_WAITING = 64  # rows passed and not yet asked for: threads ask nearly in order


def stored(item: Item) -> bytes | np.ndarray | None:
    """The encoded picture, or the pixels, in a row of a Parquet file or an archive; None where a row is null.

    Of Parquet, cheap for rows asked for once and nearly in their order; any other row is found by
    reading its row group again from its start.
    """
    if item.file.lower().endswith(".npz"):
        return archives.pixels(item.file, item.row)
    if item.file.lower().endswith(".tar"):
        if int(item.column) > MOST_BYTES:
            raise ValueError(f"The picture {item.path} has {int(item.column):,} bytes, {MOST_BYTES:,} at most.")
        return tars.content(item.file, item.row, int(item.column))
    if item.file.lower().endswith(".zip"):
        return archives.encoded(item.file, item.column)
    with _reading:
        return _cursor(item.file, item.column).value(item.row)


class _Cursor:
    """A place in a column of a Parquet file, which goes forward by few rows and reads each row group once."""

    def __init__(self, path: str, column: str) -> None:
        self._path, self._column, self._file = path, column, parquet_file(path)
        groups = range(self._file.metadata.num_row_groups)
        rows = (self._file.metadata.row_group(group).num_rows for group in groups)
        self._starts = list(itertools.accumulate(rows, initial=0))
        self._broken: dict[int, str] = {}  # by group: or each row behind the damage would read up to it again
        self._waiting: dict[int, bytes | None] = {}
        self._begin(0)

    def _begin(self, group: int) -> None:
        self._group, self._next = group, self._starts[group]
        self._batches: Iterator[Any] | None = None

    def value(self, row: int) -> bytes | None:
        group = bisect.bisect_right(self._starts, row) - 1
        if row not in self._waiting and group not in self._broken:
            if group == self._group + 1 and self._starts[group] - self._next <= _WAITING:
                self._read_to(self._starts[group] - 1)  # another thread is about to ask for these
            if group != self._group or row < self._next:
                self._begin(group)
            self._read_to(row)
        if row not in self._waiting:
            raise ValueError(self._broken[group])
        return self._waiting.pop(row)

    def _read_to(self, row: int) -> None:
        try:
            while row >= self._next:
                self._advance(row)
        except stores.Unreachable:
            raise
        except Exception as error:
            reason = str(error) or "it ends there"
            self._broken[self._group] = f"{self._path} cannot be read from row {self._next} on ({reason})."

    def _advance(self, row: int) -> None:
        """Takes the next few rows; of those before the one that is asked for it keeps the last."""
        if self._batches is None:
            self._batches = self._file.iter_batches(
                self._rows_at_a_time(), row_groups=[self._group], columns=[self._column], use_threads=False
            )
        values = _child(next(self._batches).column(0), self._column)
        for i in range(max(row - _WAITING - self._next, 0), len(values)):
            value = values[i].as_py()
            self._waiting[self._next + i] = value if value is None else bytes(value)
        self._next += len(values)
        for passed in list(self._waiting)[: -len(values) - _WAITING]:
            del self._waiting[passed]

    def _rows_at_a_time(self) -> int:
        group = self._file.metadata.row_group(self._group)  # of its columns pyarrow dies where the footer is damaged
        return min(max(_BATCH * group.num_rows // max(group.total_byte_size, 1), 1), 256)


_cursor = functools.lru_cache(maxsize=4)(_Cursor)


def _child(values: Any, column: str) -> Any:
    """The bytes in a struct of Hugging Face's kind; other columns as they are."""
    name, dot, child = column.rpartition(".")
    if dot and name and extras.load("pyarrow.types").is_struct(values.type):
        return extras.load("pyarrow.compute").struct_field(values, child)
    return values
