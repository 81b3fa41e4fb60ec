"""Folders and pictures in object stores and whatever else fsspec knows, by their URLs: `s3://bucket/photos`.

A `Store` has of `pathlib.Path` what a dataset needs, so that one code writes both. What is written appears whole, by
one request, and nothing is ever renamed. A request that fails is made again for some seconds; then the run stops with
`Unreachable`, and the same call goes on: a store that does not answer says nothing about a picture.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, TypeVar

from inception import extras

Stamp = tuple[int, int]  # bytes, and nanoseconds of the last change or a digest of what the store says of the version
MISSING: Stamp = (-1, -1)
# What a name in somebody else's list may make us open; fsspec knows more, some of which read programs.
PROTOCOLS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oci", "oss", "hf", "hdfs", "webhdfs", "sftp", "http",
             "https", "memory", "zip")  # fmt: skip
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs"}
_WAITS = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds before a request is made again; s3fs's own retries come before
_CONTENTS = (ValueError, TypeError, LookupError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
_FINAL = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_VERSION = ("ETag", "etag", "CRC", "md5Hash", "content_md5", "LastModified", "mtime", "updated", "created")
_FOOTER = 1 << 16  # bytes that are asked for when a footer is: more than most are
_AT_ONCE = 16  # folders that are listed at a time
_T = TypeVar("_T")


class Unreachable(OSError):
    """A store that does not answer, or not to us; its text is a sentence."""


def is_url(name: str) -> bool:
    """Whether a name is a URL of a store, and no path."""
    return "://" in name and re.match(r"[a-z][a-z0-9+.-]*(://|::)", name) is not None


def place(name: Any) -> Path | Store:
    """The folder or file of a name: a path on this disk, or a URL of a store."""
    if isinstance(name, Store):
        return name
    return Store(name) if isinstance(name, str) and is_url(name) else Path(name)


@dataclass(frozen=True)
class Store:
    """A name in a store, which may be a file's or the beginning of many files' names.

    Raises:
        Unreachable: By every method, for a store that does not answer.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str | PurePath) -> Store:
        head, colons, rest = self.url.partition("::")  # zip://folder::s3://bucket/file.zip
        return Store(f"{head.rstrip('/')}/{name}{colons}{rest}")

    @property
    def name(self) -> str:
        return self.url.partition("::")[0].rpartition("/")[2]

    def exists(self) -> bool:
        """Whether there is a file of this name, or one below it."""
        return self._asked(lambda store, path: bool(store.exists(path)))

    def is_dir(self) -> bool:
        """Whether there is none of this very name."""
        return not self._asked(lambda store, path: bool(store.isfile(path)))

    def mkdir(self, **_: bool) -> None:
        """Nothing: a store's folders are parts of names."""

    def entries(self) -> dict[str, float]:
        """{name: seconds of its last change} of the files right below, and {name: 0.0} of what has more below it."""

        def ask(store: Any, path: str) -> dict[str, float]:
            try:
                found = store.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
            return {each["name"].rstrip("/").rpartition("/")[2]: _changed(each) for each in found}

        return self._asked(ask)

    def read_bytes(self) -> bytes:
        """The whole file, by one request. FileNotFoundError where there is none."""

        def ask(store: Any, path: str) -> bytes:
            at_once = {"max_concurrency": 1} if "s3" in store.protocol else {}  # or s3fs asks for the size first
            return bytes(store.cat_file(path, **at_once))

        return self._asked(ask)

    def part(self, start: int, size: int | None = None) -> bytes:
        """`size` bytes from `start` on, or as many as there are; `start` below 0 counts from the end."""
        end = None if size is None else start + size
        return b"" if size == 0 else bytes(self._asked(lambda store, path: store.cat_file(path, start=start, end=end)))

    def footer(self) -> io.BytesIO:
        """The end of a Parquet file, in which its footer is; by one request, as a rule."""
        content = self.part(-_FOOTER)
        size = int.from_bytes(content[-8:-4], "little") + 8
        return io.BytesIO(self.part(-size) if len(content) == _FOOTER < size < 1 << 30 else content)

    def opened(self) -> Any:
        """A file object, read as it is asked for."""
        return self._asked(lambda store, path: store.open(path, "rb", block_size=1 << 22))

    def write_bytes(self, content: bytes) -> None:
        """The file appears whole, or takes the place of the one that is there: one PUT, and no rename."""
        self._asked(lambda store, path: store.pipe_file(path, content))

    def create(self, content: bytes) -> None:
        """As `write_bytes` by a conditional PUT, which fails where a file is there, if the store knows conditions."""
        store, path = _at(self.url)
        store.pipe_file(path, content, mode="create")

    def remove(self) -> None:
        """The file goes, or all files below; nothing where there are none."""

        def ask(store: Any, path: str) -> None:
            if found := store.find(path):
                with contextlib.suppress(FileNotFoundError):  # another was quicker
                    store.rm(found)

        self._asked(ask)

    def stamp(self) -> Stamp:
        """Of the file as it is now; `MISSING` where there is none."""
        try:
            return stamp_in(self._asked(lambda store, path: dict(store.info(path))))
        except FileNotFoundError:
            return MISSING

    def _asked(self, ask: Callable[[Any, str], _T]) -> _T:
        """What the store answers, asked again while it fails."""
        store, path = _at(self.url)
        for wait in (*_WAITS, None):
            try:
                return ask(store, path)
            except (*_CONTENTS, *_FINAL):
                raise
            except Exception as error:  # every store's package has its own
                if wait is None or isinstance(error, PermissionError):
                    reason = " ".join((str(error) or type(error).__name__).split())[:300]
                    sentence = f"{self.url} cannot be reached ({reason}); what is finished stays, run the same again."
                    raise Unreachable(sentence) from error
                time.sleep(wait)
        raise AssertionError


def files(url: str) -> Iterator[tuple[str, Stamp]]:
    """(URL, stamp) of the files that a URL names: itself, all below it, or those that fit a glob; none if it is none.

    A listing is one request for a thousand names in S3, and says of each what tells a change. In memory are the names
    of `_AT_ONCE` folders.
    """
    store, _ = _at(url, fresh=True)

    def ask(store: Any, path: str) -> list[dict[str, Any]]:
        try:
            return [store.info(path)]
        except FileNotFoundError:
            found = store.glob(path, detail=True).values() if set(path) & set("*?[") else []
            return [info for info in found if _is_file(info) or not path.endswith("**")]

    def below(folder: str) -> list[dict[str, Any]]:
        found = Store(url)._asked(lambda store, _: store.ls(folder, detail=True))
        return [
            info for info in found if info["name"].strip("/") != folder.strip("/")
        ]  # S3's folder may be its own file

    chain = "".join(url.partition("::")[1:])
    infos = Store(url)._asked(ask)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        folders: list[str] = []
        while infos or folders:
            for info in infos:
                if _is_file(info):
                    yield store.unstrip_protocol(info["name"]) + chain, stamp_in(info)
                else:
                    folders.append(info["name"])
            now, folders = folders[:_AT_ONCE], folders[_AT_ONCE:]
            infos = [info for found in pool.map(below, now) for info in found]


def stamp_in(info: dict[str, Any]) -> Stamp:
    """Size and version as a store tells of them: its tag or checksum, else the time of the last change."""
    version = next((str(info[key]) for key in _VERSION if info.get(key)), "")
    tag = int.from_bytes(hashlib.sha256(version.encode()).digest()[:7], "big")
    return int(info["size"] if info.get("size") is not None else -1), tag


def _at(url: str, fresh: bool = False) -> tuple[Any, str]:
    """(fsspec's file system, the path in it) of a URL; `fresh` for archives that may be others than the last time."""
    fsspec = extras.load("fsspec")
    for part in url.split("::"):
        protocol, colon, _ = part.partition("://")
        if not colon or protocol not in PROTOCOLS:
            raise ValueError(f"{url} is no URL of a store that is known here: {', '.join(PROTOCOLS)}; and then ://.")
        if protocol in _PACKAGES:
            extras.load(_PACKAGES[protocol])
    try:
        if fresh and "::" in url:
            fsspec.get_filesystem_class(url.partition("://")[0]).clear_instance_cache()
        # A cached listing would be the one of the last run, and holds every name twice.
        return fsspec.core.url_to_fs(url, use_listings_cache=False)  # type: ignore[no-any-return]
    except ImportError as error:
        raise ValueError(f"{url} needs a package that is not installed ({error}).") from error


def _is_file(info: dict[str, Any]) -> bool:
    return bool(info["type"] == "file" and not info["name"].endswith("/"))  # S3's consoles make folders of empty files


def _changed(info: dict[str, Any]) -> float:
    times: Iterator[Any] = (info.get(key) for key in ("LastModified", "mtime", "updated", "created"))
    return next((float(when.timestamp()) for when in times if hasattr(when, "timestamp")), 0.0)
