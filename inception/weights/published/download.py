"""Published files onto this disk, so that only the right bytes ever have the file's name.

pooch asks for them, again if need be. They go to a hidden folder beside the target, and take
its name once their digest is right (`atomic.replacing`); what a killed download left there
the next one clears. One process downloads, the others wait for it. Of an archive one member
is taken, and nothing is ever extracted to a path that an archive names.
"""

from __future__ import annotations

import functools
import gzip
import logging
import os
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from inception.files import atomic
from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile
from inception.weights.published import cache, catalogue
from inception.weights.published.catalogue import MOST_BYTES, Published

Progress = Callable[[int, int | None], None]  # bytes that are here, bytes in all if that is known

_TRIES = 3
_SECONDS = 12.0  # without a byte end a try; so do more than these at less than _LEAST_RATE bytes a second
_LEAST_RATE = 1024
_CHUNK = 1 << 18
_MOST_MEMBERS = 1000
_HEADERS = {"User-Agent": "inception-v3", "Accept-Encoding": "identity"}


class _Refused(Exception):
    """An answer that is not the file, and would not be if it were asked for again."""


def fetch(known: Published, folder: str | os.PathLike[str] | None = None, *, progress: Progress | None = None) -> Path:
    """The file, from this disk (`cache.cached`) or downloaded to `folder`, else to its home.

    An archive put there by hand is used too. `progress` is told what has come; a further try counts from 0 again.

    Raises:
        CheckpointError: says what to fetch by hand and where to put it, when there is no network, no address, no
            room or no digest to check a download by, or when the bytes are wrong.
    """
    catalogue.refuse_unread(known, known.file)
    if (found := cache.cached(known, folder)) is not None:
        return found
    target = (Path(folder) if folder else cache.home_of(known)) / known.file
    _refuse_impossible(known, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic.taking_turns(target):
            return cache.cached(known, folder) or _obtained(known, target, progress)
    except OSError as error:
        raise CheckpointError(
            f"{known.id} could not be put at {target} ({error.strerror or error}). Make room or the folder "
            "writable, or give the path of a weight file."
        ) from error


def _refuse_impossible(known: Published, target: Path) -> None:
    if not known.digest:
        out_of_it = f", take {known.file} out of it" if known.archive else ""
        raise CheckpointError(
            f"No digest of {known.id} is known, so a download could not be checked and is not made; "
            f"fetch {known.url or known.file} by hand{out_of_it} and give the file's path."
        )
    if target.is_symlink() or (target.exists() and not cache.shared_with_keras(known)):
        raise CheckpointError(
            f"{target} is there and is not {known.id}: its {known.algorithm} is not {known.hex}; "
            "move it away, or give its path to use it as it is."
        )


def _obtained(known: Published, target: Path, progress: Progress | None) -> Path:
    by_hand = target.with_name(known.archive or known.file)
    with atomic.replacing(target) as [temporary]:
        is_there = known.archive is not None and by_hand.is_file()
        whole = by_hand if is_there else _downloaded(known, temporary.parent, by_hand, progress)
        if known.archive:
            with open(temporary, "wb") as file:
                file.writelines(_member(whole, known.file))
        if not known.matches(temporary):
            raise CorruptFile(
                f"What came from {by_hand if is_there else known.url} is not {known.id}: the {known.algorithm} of its "
                f"{temporary.stat().st_size:,} bytes is not {known.hex}. They are not kept, and may be the page of a "
                f"login or a proxy; fetch {by_hand.name} elsewhere, and give the path of the weight file."
            )
    return target


# --- Over the network ------------------------------------------------------------------


def _downloaded(known: Published, folder: Path, by_hand: Path, progress: Progress | None) -> Path:
    """What the address sends, in a folder and unchecked; `CheckpointError` where nothing whole comes."""
    if os.environ.get("INCEPTION_OFFLINE", "").lower() not in ("", "0", "false", "no"):
        raise CheckpointError(
            f"{known.id} is not on this disk, and downloads are off (--offline, INCEPTION_OFFLINE); put "
            f"{known.url or known.file} at {by_hand} by hand, or give the path of a weight file."
        )
    if known.url is None:
        raise CheckpointError(f"Where {known.id} is to be had is not known; put it at {by_hand}, or give its path.")
    import pooch
    import requests

    most = MOST_BYTES if known.archive else known.size or MOST_BYTES
    logging.getLogger(__name__).info("%s is asked for", known.url)
    log, name, urls = pooch.get_logger(), by_hand.name, {by_hand.name: known.url}
    asked = pooch.create(folder.absolute(), known.url, registry={name: None}, urls=urls, retry_if_failed=_TRIES - 1)
    before, log.disabled = log.disabled, True  # it would write into the bar
    try:
        return Path(asked.fetch(name, downloader=functools.partial(_streamed, most=most, progress=progress)))
    except (requests.RequestException, ValueError, _Refused) as error:
        raise CheckpointError(
            f"{known.id} could not be downloaded: {urlsplit(known.url).hostname} {_reason(error)}. Fetch {known.url} "
            f"by hand and put it at {by_hand}, or give the path of a weight file."
        ) from error
    finally:
        log.disabled = before


def _streamed(url: str, place: str, _: object, *, most: int, progress: Progress | None) -> None:
    """What pooch calls to download: never more than `most` bytes, nor slower than the least rate."""
    import requests
    from urllib3.exceptions import HTTPError

    began, done = time.monotonic(), 0
    os.unlink(place)  # pooch makes it for this user alone
    request = requests.get(url, headers=_HEADERS, stream=True, timeout=_SECONDS, hooks={"response": _redirected})
    with request as answer, open(place, "xb") as file:
        answer.raise_for_status()
        total = answer.raw.length_remaining
        try:
            while block := answer.raw.read1(_CHUNK):
                done += len(block)
                if max(done, total or 0) > most:
                    raise _Refused(f"has more than {most:,} bytes there")
                if time.monotonic() - began > _SECONDS + done / _LEAST_RATE:
                    raise requests.ReadTimeout(f"sent {done:,} bytes in {time.monotonic() - began:.0f} seconds")
                file.write(block)
                if progress:
                    progress(done, total)
        except HTTPError as error:  # requests' own kinds, of what it does not read itself
            raise requests.ConnectionError(error) from error


def _redirected(answer: Any, **_: Any) -> None:
    """Called with each answer: a redirect's body isn't read, and none is followed from https to http."""
    if answer.is_redirect:
        answer.close()
        there = urljoin(answer.url, answer.headers["location"])
        if answer.url.startswith("https:") and not there.startswith("https:"):
            raise _Refused(f"redirected to {there!r}, which is no https address")


def _reason(error: BaseException) -> str:
    """What an error says that others are wrapped around."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return str(error) or type(error).__name__


# --- Archives --------------------------------------------------------------------------


def _member(archive: Path, name: str) -> Iterator[bytes]:
    """The bytes of the first regular file called `name`, in whatever folder, of a tar.gz read as a stream."""
    try:
        with gzip.open(archive) as stream:
            unpacked = 0
            for _ in range(_MOST_MEMBERS):
                header = stream.read(tarfile.BLOCKSIZE)
                if not header.strip(b"\0"):
                    raise CorruptFile(f"{archive.name} has no member {name}; fetch it again.")
                entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
                padded = -(-entry.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
                unpacked += tarfile.BLOCKSIZE + padded
                if entry.size < 0 or unpacked > MOST_BYTES:
                    raise ResourceLimit(f"{archive.name} unpacks to far more than weights can be; fetch it again.")
                if entry.name.rpartition("/")[2] == name:
                    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        raise UnsafeFile(f"{name} in {archive.name} is a link or no file at all; such are not read.")
                    yield from _exactly(stream, entry.size)
                    return
                for _ in _exactly(stream, padded):
                    pass
            raise ResourceLimit(f"{archive.name} has more than {_MOST_MEMBERS} members; fetch it again.")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorruptFile(f"{archive.name} is no whole tar.gz file ({_reason(error)}); fetch it again.") from error


def _exactly(stream: gzip.GzipFile, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, _CHUNK))
        if not piece:
            raise EOFError("it ends in a member")
        size -= len(piece)
        yield piece
