"""Published files onto this disk, so that only the right bytes ever have the file's name.

Bytes go straight to `NAME.part` beside the target, which takes the target's name once its
digest is right. What a cut or killed download left is gone on with: `NAME.part.json`
remembers which version of the file the bytes are of. One process downloads, the others
wait for it; `NAME.lock` is let go by the system when its holder dies. Of an archive one
member is taken, and nothing is ever extracted to a path that an archive names.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import stat
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from inception.files import atomic, file_lock, inert_json, regular
from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile
from inception.weights.published import cache, catalogue
from inception.weights.published.catalogue import MOST_BYTES, Published

Progress = Callable[[int, int | None], None]  # bytes that are here, bytes in all if that is known

_CHUNK = 1 << 18
_PROGRESS_WORTH_A_TRY = 1 << 20
_REDIRECTS = 5
_MOST_MEMBERS = 1000
_BLOCK = 512  # of a tar file
_HEADERS = {"User-Agent": "inception-v3", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    A try ends after `seconds` without an answer, or with fewer than `rate` bytes a second
    in them; `tries` in a row that bring no MiB end the download. `pause` seconds lie
    before the second try, twice as many before each further one.
    """

    seconds: float = 12.0
    rate: int = 1024
    tries: int = 3
    pause: float = 1.0


_USUAL = Patience()


class _Failed(Exception):
    """The download will not succeed, and why: "HOST did this"."""


class _Again(_Failed):
    """This try did not succeed; another may."""


def fetch(
    known: Published,
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Progress | None = None,
    patience: Patience = _USUAL,
) -> Path:
    """The file, from this disk (`cache.cached`) or downloaded to `folder`, else to its home.

    An archive put there by hand is used too. Raises `CheckpointError` with a sentence that
    says what to fetch by hand and where to put it, when there is no network, no address or
    no digest to check a download by, or when the bytes are wrong.
    """
    catalogue.refuse_unread(known, known.file)
    if (found := cache.cached(known, folder)) is not None:
        return found
    target = (Path(folder) if folder else cache.home_of(known)) / known.file
    _refuse_impossible(known, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(known, target, patience):
            return cache.cached(known, folder) or _obtained(known, target, progress, patience)
    except OSError as error:
        raise CheckpointError(
            f"{known.id} could not be put at {target} ({error.strerror or error}); what has come is kept in "
            f"{_part(known, target).name}. Make room or the folder writable, or give the path of a weight file."
        ) from error


def _refuse_impossible(known: Published, target: Path) -> None:
    if not known.digest:
        out_of_it = f", take {known.file} out of it" if known.archive else ""
        raise CheckpointError(
            f"No digest of {known.id} is known, so a download could not be checked and is not made; "
            f"fetch {known.url or known.file} by hand{out_of_it} and give the file's path."
        )
    if target.exists() and not cache.shared_with_keras(known):
        raise CheckpointError(
            f"{target} is there and is not {known.id}: its {known.algorithm} is not {known.hex}; "
            "move it away, or give its path to use it as it is."
        )


def _obtained(known: Published, target: Path, progress: Progress | None, patience: Patience) -> Path:
    by_hand = target.with_name(known.archive) if known.archive else None
    if by_hand is not None and by_hand.is_file():
        return _unpacked(by_hand, known, target)
    part = _part(known, target)
    while True:
        resumed = _length(part) > 0
        _download(known, target, progress, patience)
        try:
            return _accepted(part, known, target)
        except CheckpointError:
            _forget(part)
            if not resumed:
                raise


def _accepted(part: Path, known: Published, target: Path) -> Path:
    """A complete download as the file it is for; `CheckpointError` when it is another."""
    if known.archive:
        _check(part, "md5", known.archive_md5 or "", known)
        _unpacked(part, known, target)
    else:
        _check(part, known.algorithm, known.hex, known)
        atomic.flush(part)
        os.replace(part, target)
        atomic.flush(target.parent)
    _forget(part)
    return target


def _check(part: Path, algorithm: str, expected: str, known: Published) -> None:
    found = catalogue.digests(part, [algorithm])[algorithm]
    if not found.startswith(expected):
        raise CorruptFile(
            f"What {known.url} sent is not {known.id}: {_length(part):,} bytes with {algorithm} {found}, "
            f"expected {expected}. They were thrown away; fetch the file elsewhere and give its path."
        )


def _part(known: Published, target: Path) -> Path:
    return target.with_name(f"{known.archive or known.file}.part")


def _length(part: Path) -> int:
    try:
        state = os.lstat(part)
    except FileNotFoundError:
        return 0
    return state.st_size if stat.S_ISREG(state.st_mode) else 0


# --- One at a time ---------------------------------------------------------------------


@contextlib.contextmanager
def _alone(known: Published, target: Path, patience: Patience) -> Iterator[None]:
    """Holds the lock of a target; waits as long as its holder's download grows."""
    lock, part = target.with_name(f"{target.name}.lock"), _part(known, target)
    seen, since = -1, time.monotonic()
    while (descriptor := file_lock.held(lock)) is None:
        if (length := _length(part)) != seen:
            seen, since = length, time.monotonic()
        if time.monotonic() - since > 2 * patience.tries * patience.seconds:
            raise CheckpointError(f"Another process holds {lock} and downloads nothing; end it and try again.")
        time.sleep(0.05)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps a file that is open
            lock.unlink()
        os.close(descriptor)


# --- Over the network ------------------------------------------------------------------


@dataclass(frozen=True)
class _Begun:
    """What the bytes of a part are the beginning of: `validator` is the server's word for this version of the file."""

    url: str
    validator: str
    size: int | None


def _download(known: Published, target: Path, progress: Progress | None, patience: Patience) -> None:
    """Has every byte that the server announces in the part, in as many tries as bring something."""
    if known.url is None:
        raise CheckpointError(f"Where {known.id} is to be had is not known; put {known.file} at {target}, "
                              "or give its path.")  # fmt: skip
    part = _part(known, target)
    size = None if known.archive else known.size
    reached, fruitless = _length(part), 0
    while True:
        try:
            return _try(known.url, part, size, progress, patience)
        except _Failed as error:
            length = _length(part)
            fruitless = 1 if length >= reached + _PROGRESS_WORTH_A_TRY else fruitless + 1
            reached = max(reached, length)
            if not isinstance(error, _Again) or fruitless >= patience.tries:
                place = target.with_name(known.archive) if known.archive else target
                kept = f" ({length:,} bytes are here, another call goes on from there)" if length else ""
                raise CheckpointError(
                    f"{known.id} could not be downloaded: {error}{kept}. Fetch {known.url} by hand and put it at "
                    f"{place}, or give the path of a weight file."
                ) from error
        time.sleep(patience.pause * 2 ** (fruitless - 1))


def _try(url: str, part: Path, size: int | None, progress: Progress | None, patience: Patience) -> None:
    """One request for what is missing. `_Again` when it ended early, `_Failed` when the answer is not the file."""
    begun, start = _begun(part, url), _length(part)
    if start and start in (size, begun and begun.size):
        return
    headers = dict(_HEADERS)
    if begun is None:
        start = 0
    else:
        headers |= {"Range": f"bytes={start}-", "If-Range": begun.validator}
    with contextlib.closing(_opened(url, headers, patience)) as answer:
        host = urlsplit(url).hostname
        if answer.status == 416 and begun:  # nothing follows what is here; its digest will tell
            return
        _refuse_other_than_bytes(answer, f"{host}")
        if answer.status == 206:
            total = _continued(answer, part, begun, start)
        else:
            start, total = 0, answer.length
        if total is not None and (total != size if size is not None else total > MOST_BYTES):
            expected = f"{size:,}" if size is not None else f"{MOST_BYTES:,} at most"
            raise _Failed(f"{host} has {total:,} bytes there, expected {expected}")
        if not start:
            _begin(part, _Begun(url, _validator(answer), total))
        _copy(answer, part, start, total or size, progress, patience)


def _refuse_other_than_bytes(answer: http.client.HTTPResponse, host: str) -> None:
    coding, kind = (answer.headers.get(name, "").strip().lower() for name in ("Content-Encoding", "Content-Type"))
    if answer.status >= 500 or answer.status in (408, 429):
        raise _Again(f"{host} answered {answer.status} {answer.reason}")
    if answer.status not in (200, 206):
        raise _Failed(f"{host} answered {answer.status} {answer.reason}")
    if coding not in ("", "identity"):
        raise _Failed(f"{host} sent the file encoded as {coding[:40]!r}, unasked")
    if kind.startswith("text/html"):
        raise _Failed(f"{host} sent a web page instead of the file; a login page or a proxy may stand in between")


def _continued(answer: http.client.HTTPResponse, part: Path, begun: _Begun | None, start: int) -> int | None:
    """The size of the whole, of an answer that goes on from `start`; `_Again`, from the beginning, for any other."""
    match = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", answer.headers.get("Content-Range", ""))
    total = int(match[2]) if match and match[2] != "*" else None
    if begun and match and int(match[1]) == start:
        sizes, validator = {total, begun.size} - {None}, _validator(answer)
        if len(sizes) <= 1 and validator in ("", begun.validator):
            return next(iter(sizes), None)
    _forget(part)
    raise _Again(f"{urlsplit(answer.url).hostname} went on with another file than it had begun")


def _copy(
    answer: http.client.HTTPResponse,
    part: Path,
    start: int,
    total: int | None,
    progress: Progress | None,
    patience: Patience,
) -> None:
    """The answer's bytes to the end of the part. `_Again` when they stop, crawl or end before `total`."""
    host, done = urlsplit(answer.url).hostname, start
    since, then = time.monotonic(), start
    with os.fdopen(regular.opened(part, os.O_WRONLY | os.O_APPEND), "ab") as file:
        file.truncate(start)
        while block := _read(answer):
            done += len(block)
            if done > (total or MOST_BYTES):
                _forget(part)
                raise _Failed(f"{host} sent more than {total or MOST_BYTES:,} bytes")
            file.write(block)
            file.flush()
            if progress:
                progress(done, total)
            if (passed := time.monotonic() - since) >= patience.seconds:
                if done - then < patience.rate * passed:
                    raise _Again(f"{host} sent {done - then:,} bytes in {passed:.0f} seconds")
                since, then = time.monotonic(), done
    if total is not None and done < total:
        raise _Again(f"{host} ended after {done:,} of {total:,} bytes")


def _read(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read1(_CHUNK)  # `read` would wait for the whole chunk, however slowly it comes
    except (OSError, http.client.HTTPException) as error:
        raise _Again(f"{urlsplit(answer.url).hostname} stopped sending ({_reason(error)})") from error


def _reason(error: BaseException | str) -> str:
    return str(error) or type(error).__name__


# --- What a part is of -----------------------------------------------------------------


def _begin(part: Path, begun: _Begun) -> None:
    """An empty part, and beside it what its bytes will be of."""
    regular.put(part, b"")
    regular.put(_beside(part), json.dumps(asdict(begun)).encode())


def _begun(part: Path, url: str) -> _Begun | None:
    """What a part's bytes are of, if that is written beside it and they can be gone on with."""
    try:
        said = inert_json.side_file(_beside(part), {"url": str, "validator": str, "size": int | None})
        begun = _Begun(said["url"], said["validator"], said["size"])
    except ValueError:
        return None
    usable = begun.url == url and re.fullmatch(r"[ -~]{1,500}", begun.validator)
    return begun if usable and _length(part) else None


def _validator(answer: http.client.HTTPResponse) -> str:
    """The strong ETag, else the date, for If-Range; empty where the server gives neither."""
    etag = answer.headers.get("ETag", "").strip()
    return etag if etag.startswith('"') else answer.headers.get("Last-Modified", "").strip()


def _beside(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _beside(part).unlink(missing_ok=True)


# --- Connections -----------------------------------------------------------------------


def _opened(url: str, headers: dict[str, str], patience: Patience) -> http.client.HTTPResponse:
    """The answer of whatever `url` leads to. There is no handler for anything but http and https."""
    opener = urllib.request.OpenerDirector()
    for handler in (urllib.request.ProxyHandler(), _Http(), _Https()):
        opener.add_handler(handler)
    first = urlsplit(url).hostname
    for _ in range(_REDIRECTS + 1):
        host = urlsplit(url).hostname
        try:
            answer = opener.open(urllib.request.Request(url, headers=headers), timeout=patience.seconds)
        except urllib.error.URLError as error:  # no connection; other errors come from a connection that is there
            kind = _Again if isinstance(error.reason, ConnectionResetError) else _Failed
            raise kind(f"{host} could not be reached ({_reason(error.reason)})") from error
        except (OSError, http.client.HTTPException) as error:
            raise _Again(f"{host} did not answer ({_reason(error)})") from error
        except ValueError as error:
            raise _Failed(f"{host} is no address ({_reason(error)})") from error
        if answer.status not in (301, 302, 303, 307, 308):
            return answer
        answer.close()
        url = _redirected(url, answer.headers.get("Location", ""))
    raise _Failed(f"{first} redirected more than {_REDIRECTS} times")


def _redirected(url: str, location: str) -> str:
    here = urlsplit(url)
    try:
        there = urlsplit(urljoin(url, location))
    except ValueError as error:
        raise _Failed(f"{here.hostname} redirected to no address ({_reason(error)})") from error
    if there.scheme not in ("http", "https") or not there.hostname or (here.scheme, there.scheme) == ("https", "http"):
        raise _Failed(f"{here.hostname} redirected to {there.geturl()[:200]!r}, where no file is taken from")
    return there._replace(fragment="").geturl()


class _Prompt(http.client.HTTPConnection):
    """A connection that is made in its timeout, and answered in its timeout, whatever comes drop by drop."""

    def connect(self) -> None:
        self._create_connection = _connected  # http.client's own takes the timeout for each address of a host
        super().connect()

    def getresponse(self) -> http.client.HTTPResponse:
        timer = threading.Timer(self.timeout or 0, self._hang_up)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()

    def _hang_up(self) -> None:
        if (sock := self.sock) is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _PromptTLS(_Prompt, http.client.HTTPSConnection):
    pass


class _Http(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Prompt, req)


class _Https(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_PromptTLS, req)


def _connected(address: tuple[str, int], timeout: float, source_address: Any = None) -> socket.socket:
    """A socket to the first address that answers, all of them together in `timeout`."""
    end, failure = time.monotonic() + timeout, OSError("it has no address")
    for *_, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        if (left := end - time.monotonic()) <= 0:
            break
        try:
            found = socket.create_connection((str(place[0]), int(place[1])), min(left, timeout / 3), source_address)
        except OSError as error:
            failure = error
        else:
            found.settimeout(timeout)
            return found
    raise failure


# --- Archives --------------------------------------------------------------------------


def _unpacked(archive: Path, known: Published, target: Path) -> Path:
    """The one member that `known` is, at `target`; `CheckpointError` when it is not there or another."""
    with atomic.replacing(target) as [temporary]:
        with open(temporary, "wb") as file:
            for piece in _member(archive, known.file):
                file.write(piece)
        if not known.matches(temporary):
            raise CorruptFile(
                f"{known.file} in {archive} is not {known.id}: its {known.algorithm} is not {known.hex}; "
                "fetch the archive again."
            )
    return target


def _member(archive: Path, name: str) -> Iterator[bytes]:
    """The bytes of the first regular file called `name`, in whatever folder, of a tar.gz read as a stream."""
    try:
        with gzip.open(archive) as stream:
            unpacked = 0
            for _ in range(_MOST_MEMBERS):
                header = stream.read(_BLOCK)
                if not header.strip(b"\0"):
                    raise CorruptFile(f"{archive} has no member {name}; fetch it again.")
                entry = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
                padded = -(-entry.size // _BLOCK) * _BLOCK
                unpacked += _BLOCK + padded
                if entry.size < 0 or unpacked > MOST_BYTES:
                    raise ResourceLimit(f"{archive} unpacks to far more than weights can be; fetch it again.")
                if entry.name.rpartition("/")[2] == name:
                    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        raise UnsafeFile(f"{name} in {archive} is a link or no file at all; such are not read.")
                    yield from _exactly(stream, entry.size)
                    return
                for _ in _exactly(stream, padded):
                    pass
            raise ResourceLimit(f"{archive} has more than {_MOST_MEMBERS} members; fetch it again.")
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CorruptFile(f"{archive} is no whole tar.gz file ({_reason(error)}); fetch it again.") from error


def _exactly(stream: gzip.GzipFile, size: int) -> Iterator[bytes]:
    while size:
        piece = stream.read(min(size, _CHUNK))
        if not piece:
            raise EOFError("it ends in a member")
        size -= len(piece)
        yield piece
