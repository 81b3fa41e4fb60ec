"""Downloads from a server that does everything wrong: the file's name is only ever on the right bytes."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import http.server
import io
import multiprocessing
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from made import NARROW, assert_same, random_weights

from inception import load_weights, pictures
from inception.files import file_lock
from inception.variants import KERAS
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile
from inception.weights.published import Published, catalogue, download
from inception.weights.published.download import Patience, fetch

CONTENT = np.random.default_rng(7).bytes(300_000)
OTHER = np.random.default_rng(8).bytes(300_000)
OFFSETS = [0, 1, 511, 4096, 65_536, 100_000, 150_001, 250_000, 299_998, 299_999]
CUTS = [*OFFSETS, *range(20_000, 300_000, 30_000)]
USUAL = Patience(seconds=15.0, pause=0.01)
SHORT = Patience(seconds=0.25, pause=0.01)  # where a server is silent
KINDS = {
    "md5": lambda content: {"md5": hashlib.md5(content).hexdigest()},
    "sha256": lambda content: {"sha256": hashlib.sha256(content).hexdigest()},
    "first digits": lambda content: {"sha256": hashlib.sha256(content).hexdigest()[:8]},
}


class Site:
    """A server on 127.0.0.1 that answers as `behave(handler, n)` says, n counting its requests from 0."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked: list[str | None] = []  # the Range of each request
        self.sent = 0  # the last position sent
        self.behave = whole
        self.gate = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.site = site
                site.asked.append(self.headers.get("Range"))
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
                self.close_connection = True
                with contextlib.suppress(OSError):
                    site.behave(self, len(site.asked) - 1)

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "INCEPTION_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    made = Site()
    yield made
    made.stop()


@pytest.fixture
def a_file(site):
    return row(site.address, site.content)


def row(address, content, kind="md5", **fields) -> Published:
    """The line of the table that a test's own file would have."""
    usual = {"id": "made", "family": "test", "file": "weights.h5", "url": f"{address}/a/weights.h5", "variant": KERAS}
    return Published(**{**usual, "size": len(content), **KINDS[kind](content), **fields})


# --- What servers do -------------------------------------------------------------------


def send(handler, content, status=200, headers=(), length=None, upto=None, pace=None):
    """One answer: `length` is what it claims, `upto` where it stops, `pace` = (bytes, seconds) how it dawdles."""
    handler.send_response(status)
    usual = {"Content-Length": len(content) if length is None else length, "ETag": '"1"'}
    for name, value in {**usual, **dict(headers)}.items():
        if value is not None:
            handler.send_header(name, str(value))
    handler.end_headers()
    content = content[:upto]
    step, pause = pace or (len(content) or 1, 0)
    for at in range(0, len(content), step):
        handler.wfile.write(content[at : at + step])
        handler.site.sent += min(step, len(content) - at)
        if pause and handler.site.gate.wait(pause):
            return


def whole(handler, n=0, headers=(), content=None, **how):
    """What a good server does, ranges and all."""
    content = handler.site.content if content is None else content
    etag, wanted = dict(headers).get("ETag", '"1"'), handler.headers.get("Range")
    if not wanted or handler.headers.get("If-Range") != etag:
        handler.site.sent = 0
        return send(handler, content, headers=headers, **how)
    start = handler.site.sent = int(wanted.removeprefix("bytes=").removesuffix("-"))
    if start >= len(content):
        return send(handler, b"", 416, {"Content-Range": f"bytes */{len(content)}"})
    place = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
    send(handler, content[start:], 206, {**dict(headers), **place}, **how)


def cut(offset, then=whole):
    return lambda handler, n: whole(handler, length=None, upto=offset) if n == 0 else then(handler, n)


def changed(handler, n):
    """Goes on with another file, without a look at If-Range."""
    start = int(handler.headers["Range"][6:-1]) if handler.headers["Range"] else 0
    place = {"Content-Range": f"bytes {start}-{len(OTHER) - 1}/{len(OTHER)}", "ETag": '"2"'}
    send(handler, OTHER[start:], 206 if start else 200, place if start else {"ETag": '"2"'})


def wrong_piece(handler, n):
    if handler.headers["Range"] is None:
        return whole(handler)
    send(handler, CONTENT[5:], 206, {"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"})


def changed_once(handler, n):
    changed(handler, n) if handler.headers["Range"] else whole(handler)


def in_chunks(handler, n, upto=None):
    if handler.headers["Range"]:
        return whole(handler)
    pieces = (CONTENT[at : at + 50_000] for at in range(0, len(CONTENT), 50_000))
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    send(handler, framed, headers={"Content-Length": None, "Transfer-Encoding": "chunked"}, upto=upto)


def redirect(location):
    return lambda handler, n: send(handler, b"", 302, {"Location": location})


def hops(count):
    def behave(handler, n):
        return send(handler, b"", 302, {"Location": f"/hop/{n}"}) if n < count else whole(handler)

    return behave


def dropwise(handler, n):
    """A status line of ten seconds, a byte at a time; who waits for its end gets the file."""
    for byte in b"HTTP/1.1 200 " + b"O" * 200:
        handler.wfile.write(bytes([byte]))
        if handler.site.gate.wait(0.05):
            return
    handler.wfile.write(b"\r\nContent-Length: %d\r\n\r\n" % len(CONTENT) + CONTENT)


PAGE = b"<html>Please log in</html>".ljust(len(CONTENT))
LEFT_TO_CANARY = "/etc/hostname"

# name: (what the server does given an offset, whether the file then arrives)
FAULTS = {
    "cut, then on from there": (lambda o: cut(o), True),
    "cut each time at the same place": (lambda o: lambda h, n: send(h, CONTENT, upto=o), False),
    "length too small": (lambda o: lambda h, n: send(h, CONTENT[:o]), False),
    "length too large": (lambda o: lambda h, n: send(h, CONTENT, length=len(CONTENT) + 1 + o), False),
    "no length, cut once": (lambda o: cut(o, lambda h, n: whole(h, headers={"Content-Length": None})), True),
    "more bytes than the file has": (lambda o: lambda h, n: send(h, CONTENT + OTHER[: o + 1], length=""), False),
    "200 in place of 206": (lambda o: cut(o, lambda h, n: send(h, CONTENT)), True),
    "206 of another piece": (lambda o: cut(o, wrong_piece), True),
    "changed ETag, 206 all the same": (lambda o: cut(o, changed), False),
    "changed ETag, 206 all the same, then well": (lambda o: cut(o, changed_once), True),
    "in chunks, cut in one": (lambda o: lambda h, n: in_chunks(h, n, o if n == 0 else None), True),
    "changed ETag, 200": (lambda o: cut(o, lambda h, n: whole(h, headers={"ETag": '"2"'})), True),
    "another file under the same ETag": (lambda o: cut(o, lambda h, n: whole(h, content=OTHER)), False),
    "HTML page": (lambda o: cut(o, lambda h, n: send(h, PAGE, headers={"Content-Type": "text/html"})), False),
    "HTML page called a file": (lambda o: cut(o, lambda h, n: send(h, PAGE)), False),
    "gzip encoded": (
        lambda o: cut(o, lambda h, n: send(h, gzip.compress(CONTENT, 1), headers={"Content-Encoding": "gzip"})),
        False,
    ),
    "redirect to file:": (lambda o: cut(o, redirect(f"file://{LEFT_TO_CANARY}")), False),
    "redirect to ftp:": (lambda o: cut(o, redirect("ftp://127.0.0.1/x")), False),
    "redirect to nowhere": (lambda o: cut(o, redirect("http://[bad/")), False),
    "20 hops": (lambda o: cut(o, hops(20)), False),
    "5 hops": (lambda o: hops(5), True),
    "503, then well": (lambda o: cut(o, lambda h, n: send(h, b"", 503) if n == 1 else whole(h)), True),
    "503 for ever": (lambda o: cut(o, lambda h, n: send(h, b"no", 503)), False),
    "404": (lambda o: cut(o, lambda h, n: send(h, b"no", 404)), False),
}

SENTENCES = {
    "cut each time at the same place": "127.0.0.1 ended after",
    "length too small": "bytes there, expected 300,000. Fetch",
    "length too large": "bytes there, expected 300,000",
    "more bytes than the file has": "127.0.0.1 sent more than 300,000 bytes",
    "changed ETag, 206 all the same": "is not made: 300,000 bytes with md5",
    "HTML page": "127.0.0.1 sent a web page instead of the file",
    "gzip encoded": "127.0.0.1 sent the file encoded as 'gzip'",
    "redirect to file:": "redirected to 'file:///etc/hostname', where no file is taken from",
    "redirect to ftp:": "redirected to 'ftp://127.0.0.1/x', where",
    "20 hops": "127.0.0.1 redirected more than 5 times",
    "503 for ever": "127.0.0.1 answered 503 Service Unavailable",
    "404": "127.0.0.1 answered 404 Not Found",
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_at_every_offset_never_puts_wrong_bytes_under_the_name(name, site, a_file, tmp_path):
    make, arrives = FAULTS[name]
    for offset in CUTS if name.startswith("cut, then") else OFFSETS:
        site.asked.clear()
        site.behave = make(offset)
        place = tmp_path / str(offset)
        outcome = attempt(a_file, place)
        assert (outcome is None) == arrives, f"at {offset}: {outcome}"
        assert SENTENCES.get(name, "") in (outcome or "")
        assert_right_or_absent(place, CONTENT)
        assert not list(place.glob("*.lock"))


def attempt(known, place, patience=USUAL):
    """None, or the sentence that the user sees."""
    try:
        assert fetch(known, place, patience=patience) == place / known.file
    except CheckpointError as error:
        assert "Traceback" not in str(error) and str(error).endswith((".", ")"))
        return str(error)
    return None


def assert_right_or_absent(place, content, name="weights.h5"):
    target = place / name
    assert not target.exists() or target.read_bytes() == content
    assert not list(place.glob("*.tmp-*"))


@pytest.mark.parametrize("offset", [0, 4096, 250_000])
@pytest.mark.parametrize("drips", [False, True], ids=["stall", "a byte at a time"])
def test_a_stall_ends_and_the_next_call_goes_on(offset, drips, site, a_file, tmp_path):
    def stall(handler, n):
        """For ten seconds; who waits for their end gets the file."""
        whole(handler, upto=0 if handler.headers["Range"] else offset)
        at = site.sent
        for _ in range(200):
            if site.gate.wait(0.05):
                return
            handler.wfile.write(CONTENT[at : at + drips])
            at += drips
        handler.wfile.write(CONTENT[at:])

    site.behave = stall
    sentence = attempt(a_file, tmp_path, SHORT)
    assert len(site.asked) == SHORT.tries
    assert "Fetch http://127.0.0.1" in sentence
    assert ("another call goes on from there" in sentence) == bool(offset or drips)
    site.behave = whole
    assert attempt(a_file, tmp_path) is None
    assert (site.asked[-1] is not None) == bool(offset or drips)


def test_the_usual_patience_ends_within_a_minute():
    usual = Patience()
    silent = usual.tries * (usual.seconds + 1) + sum(usual.pause * 2**i for i in range(usual.tries - 1))
    assert silent <= 60


def test_a_header_that_drips_ends_too(site, a_file, tmp_path):
    site.behave = dropwise
    assert "did not answer" in attempt(a_file, tmp_path, SHORT)


def test_a_download_that_is_cut_often_but_moves_is_not_given_up(site, tmp_path):
    site.content = np.random.default_rng(1).bytes(6 << 20)
    site.behave = lambda handler, n: whole(handler, upto=1_100_000)
    assert attempt(row(site.address, site.content), tmp_path) is None
    assert len(site.asked) == 6


def test_another_host_may_be_redirected_to(site, a_file, tmp_path):
    second = Site()
    site.behave = redirect(f"{second.address.replace('127.0.0.1', 'localhost')}/signed?by=me")
    assert attempt(a_file, tmp_path) is None
    assert len(second.asked) == 1
    second.stop()


def test_from_https_no_redirect_leads_back_to_http():
    with pytest.raises(download._Failed, match="redirected to 'http://b/x', where no file is taken from"):
        download._redirected("https://a/x", "http://b/x")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_digest_refuses_one_flipped_bit(kind, site, tmp_path):
    known = row(site.address, CONTENT, kind, size=None)
    damaged = bytearray(CONTENT)
    damaged[150_000] ^= 1
    site.content = bytes(damaged)
    sentence = attempt(known, tmp_path)
    assert "is not made: 300,000 bytes with" in sentence and "They were thrown away" in sentence
    assert list(tmp_path.iterdir()) == []
    site.content = CONTENT
    assert attempt(known, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]


def test_of_a_file_without_a_digest_nothing_is_downloaded(site, tmp_path):
    known = row(site.address, CONTENT, md5=None)
    assert "could not be checked and is not made; fetch http" in attempt(known, tmp_path)
    assert not site.asked and not list(tmp_path.iterdir())


# --- No server at all ------------------------------------------------------------------


def test_nobody_listens(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        known = row(f"http://127.0.0.1:{closed.getsockname()[1]}", CONTENT)
    sentence = attempt(known, tmp_path)
    assert f"Fetch {known.url} by hand and put it at {tmp_path / known.file}, or give the path" in sentence
    assert list(tmp_path.iterdir()) == []


def test_no_network(a_file, tmp_path, monkeypatch):
    def nothing(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    assert "could not be reached ([Errno -2] Name or service not known)" in attempt(a_file, tmp_path)


def test_a_host_of_many_silent_addresses_takes_one_timeout(tmp_path, monkeypatch):
    def addresses(host, port, *_, **__):
        hosts = [host] if host.startswith("192") else [f"192.0.2.{i}" for i in range(16)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in hosts]

    waits = []

    def silent(self, _):
        waits.append(self.gettimeout())
        time.sleep(self.gettimeout())
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "getaddrinfo", addresses)
    monkeypatch.setattr(socket.socket, "connect", silent)
    known = row("http://many.example", CONTENT)
    assert "many.example could not be reached (timed out)" in attempt(known, tmp_path, SHORT)
    assert 0 < sum(waits) <= SHORT.tries * SHORT.seconds


def test_tls_that_is_none(site, a_file, tmp_path):
    known = replace(a_file, url=a_file.url.replace("http:", "https:"))
    assert "could not be reached" in attempt(known, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_tls_with_a_certificate_of_nobodys(site, a_file, tmp_path, monkeypatch):
    pem = tmp_path / "own.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem, "-out", pem]
    subprocess.run([*make.split(" "), *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    known = replace(a_file, url=a_file.url.replace("http:", "https:"))
    assert "certificate" in attempt(known, tmp_path / "refused")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert attempt(known, tmp_path / "trusted") is None


# --- What is on the disk ---------------------------------------------------------------


def test_a_file_that_is_there_needs_no_network(site, a_file, tmp_path, monkeypatch):
    (tmp_path / "weights.h5").write_bytes(CONTENT)
    assert fetch(a_file, tmp_path) == tmp_path / "weights.h5"
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path))
    assert fetch(a_file) == tmp_path / "weights.h5"
    assert not site.asked


def test_a_users_file_of_the_same_name_is_not_overwritten(site, a_file, tmp_path):
    (tmp_path / "weights.h5").write_bytes(b"mine")
    assert "is there and is not made: its md5 is not" in attempt(a_file, tmp_path)
    assert (tmp_path / "weights.h5").read_bytes() == b"mine" and not site.asked


def test_in_keras_cache_a_stump_is_replaced(site, a_file, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path / "own"))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.h5").write_bytes(CONTENT[:1000])
    assert fetch(replace(a_file, family="Keras")) == tmp_path / "models" / "weights.h5"
    assert (tmp_path / "models" / "weights.h5").read_bytes() == CONTENT
    assert fetch(a_file) == tmp_path / "own" / "weights.h5"


@pytest.mark.parametrize(
    ("content", "beside"),
    [
        (CONTENT[:1000], None),
        (CONTENT[:1000], "{"),
        (CONTENT[:1000], '{"url": 1, "validator": [], "size": "x"}'),
        (CONTENT[:1000], '{"url": "URL", "validator": "\\"1\\"\\nX: y", "size": null}'),
        (CONTENT[:1000], '{"url": "elsewhere", "validator": "\\"1\\"", "size": 300000}'),
        (OTHER[:1000], '{"url": "URL", "validator": "\\"1\\"", "size": 300000}'),
        (OTHER, '{"url": "URL", "validator": "\\"1\\"", "size": 300000}'),
        (CONTENT + b"more", '{"url": "URL", "validator": "\\"1\\"", "size": 300000}'),
        (bytes(1000), '{"url": "URL", "validator": "\\"1\\"", "size": 300000}'),
    ],
)
def test_whatever_part_was_left_the_file_arrives(content, beside, a_file, tmp_path):
    (tmp_path / "weights.h5.part").write_bytes(content)
    if beside:
        (tmp_path / "weights.h5.part.json").write_text(beside.replace("URL", a_file.url))
    assert attempt(a_file, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]


def test_a_part_of_another_address_is_not_gone_on_with(site, a_file, tmp_path):
    (tmp_path / "weights.h5.part").write_bytes(CONTENT[:1000])
    (tmp_path / "weights.h5.part.json").write_text('{"url": "elsewhere", "validator": "\\"1\\"", "size": 300000}')
    assert attempt(a_file, tmp_path) is None
    assert site.asked == [None]


def test_without_a_word_for_the_version_a_part_is_not_gone_on_with(site, a_file, tmp_path):
    site.behave = lambda h, n: send(h, CONTENT, headers={"ETag": 'W/"1"'}, upto=200_000 if n == 0 else None)
    assert attempt(a_file, tmp_path) is None
    assert site.asked == [None, None]


def test_a_date_will_do_for_the_version(site, a_file, tmp_path):
    date = "Mon, 29 Aug 2016 00:00:00 GMT"
    site.behave = lambda h, n: whole(h, headers={"ETag": date, "Last-Modified": date}, upto=None if n else 200_000)
    assert attempt(a_file, tmp_path) is None
    assert site.asked == [None, "bytes=200000-"]


def test_a_full_disk_is_one_sentence_and_the_part_is_gone_on_with(site, a_file, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        sentence = attempt(a_file, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be put at" in sentence and "File too large" in sentence
    assert attempt(a_file, tmp_path) is None
    assert site.asked == [None, "bytes=100000-"]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="asks Linux for the names of open files")
def test_the_bytes_are_on_the_disk_before_the_name_is(site, a_file, tmp_path, monkeypatch):
    calls = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(f"sync {os.path.basename(name_of(fd))}"), sync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), rename(a, b)))
    fetch(a_file, tmp_path)
    assert calls == ["sync weights.h5.part", "rename", f"sync {tmp_path.name}"]


def name_of(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}")


def test_progress_is_told(site, a_file, tmp_path):
    told = []
    site.behave = cut(200_000)
    fetch(a_file, tmp_path, progress=lambda *pair: told.append(pair), patience=USUAL)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (300_000, 300_000)


# --- Kills, and several at once --------------------------------------------------------

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["inception.weights.published.download"])
CHUNK_AND_A_MIB = (1 << 20) + download._CHUNK


def start(known, place):
    process = PROCESSES.Process(target=fetch, args=(known, place), kwargs={"patience": USUAL}, daemon=True)
    process.start()
    return process


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def test_killed_at_20_points_little_is_fetched_twice(site, tmp_path):
    site.content = np.random.default_rng(3).bytes(8 << 20)
    site.behave = lambda handler, n: whole(handler, pace=(1 << 16, 0.002))
    known, twice = row(site.address, site.content), []
    for k in range(1, 21):
        goal, before = k * len(site.content) // 21, len(site.asked)
        process = start(known, tmp_path)
        wait_until(lambda: len(site.asked) > before and site.sent >= goal)  # noqa: B023
        process.kill()
        process.join()
        reached = site.sent
        assert_right_or_absent(tmp_path, site.content)
        assert not (tmp_path / "weights.h5").exists()
        twice.append(reached - (tmp_path / "weights.h5.part").stat().st_size)
    assert attempt(known, tmp_path) is None
    assert max(twice) <= CHUNK_AND_A_MIB
    assert len(site.asked) == 21 and sum(wanted is None for wanted in site.asked) == 1


DIES = """
import os, signal, sys
from inception.variants import KERAS
from inception.weights.published.download import fetch
from inception.weights.published import Published
name, n, url, md5, folder = sys.argv[1:]
calls, true = [0], getattr(os, name)
def dies(*arguments):
    calls[0] += 1
    if calls[0] == int(n):
        os.kill(os.getpid(), signal.SIGKILL)
    return true(*arguments)
setattr(os, name, dies)
fetch(Published("made", "test", "weights.h5", KERAS, url=url, md5=md5), folder)
"""


@pytest.mark.parametrize(("name", "n", "there"), [("fsync", 1, False), ("replace", 1, False), ("fsync", 2, True)])
def test_killed_while_the_name_is_given_nothing_is_fetched_twice(name, n, there, site, a_file, tmp_path):
    arguments = [name, str(n), a_file.url, a_file.md5, str(tmp_path)]
    assert subprocess.run([sys.executable, "-c", DIES, *arguments]).returncode == -9
    assert (tmp_path / "weights.h5").exists() == there
    assert_right_or_absent(tmp_path, CONTENT)
    assert attempt(a_file, tmp_path) is None
    assert site.asked == [None]


def test_of_four_processes_one_downloads(site, tmp_path):
    site.content = np.random.default_rng(4).bytes(2 << 20)
    site.behave = lambda handler, n: whole(handler, pace=(1 << 16, 0.01))
    known = row(site.address, site.content)
    processes = [start(known, tmp_path) for _ in range(4)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert len(site.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]


def test_of_four_threads_one_downloads(site, a_file, tmp_path):
    site.behave = lambda handler, n: whole(handler, pace=(1 << 15, 0.01))
    threads = [threading.Thread(target=attempt, args=(a_file, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(site.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]


def test_a_killed_holder_of_the_lock_holds_nobody_up(site, a_file, tmp_path):
    def behave(handler, n):
        whole(handler, upto=100_000 if n == 0 else None)
        if n == 0:
            site.gate.wait(20)

    site.behave = behave
    holder = start(a_file, tmp_path)
    wait_until(lambda: download._length(tmp_path / "weights.h5.part") == 100_000)
    waiting = start(a_file, tmp_path)
    time.sleep(0.3)
    assert waiting.is_alive() and len(site.asked) == 1
    holder.kill()
    waiting.join(60)
    assert waiting.exitcode == 0
    assert site.asked == [None, "bytes=100000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]


def test_a_lock_on_a_file_that_its_holder_removed_is_none(tmp_path, monkeypatch):
    lock, true = tmp_path / "x.lock", file_lock.locks
    monkeypatch.setattr(file_lock, "locks", lambda descriptor: (lock.unlink(), true(descriptor))[1])
    assert file_lock.held(lock) is None
    monkeypatch.setattr(file_lock, "locks", true)
    os.close(file_lock.held(lock))


def test_a_holder_that_does_nothing_is_not_waited_for_for_ever(a_file, tmp_path):
    descriptor = file_lock.held(tmp_path / "weights.h5.lock")
    assert "Another process holds" in attempt(a_file, tmp_path, Patience(seconds=0.05))
    os.close(descriptor)
    assert attempt(a_file, tmp_path) is None


# --- Archives --------------------------------------------------------------------------


def packed(*members, compresslevel=1) -> bytes:
    """A tar.gz of (name, content) or (TarInfo fields, content)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=compresslevel) as archive:
        for fields, content in members:
            entry = tarfile.TarInfo(fields["name"] if isinstance(fields, dict) else fields)
            entry.size = len(content)
            for name, value in fields.items() if isinstance(fields, dict) else ():
                setattr(entry, name, value)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def archived(site, content, **fields):
    """The line of the table for a member of an archive that `site` serves."""
    site.content = content
    return row(site.address, CONTENT, url=f"{site.address}/x.tar.gz", size=None, **fields)


GOOD = packed(("README", b"hello"), ("deep/weights.h5", CONTENT), ("behind", b"x" * 5000))


@pytest.mark.parametrize("offset", OFFSETS)
def test_the_member_of_an_archive_arrives_over_cuts(offset, site, tmp_path):
    known = archived(site, GOOD, archive_md5=hashlib.md5(GOOD).hexdigest())
    site.behave = cut(offset)
    assert attempt(known, tmp_path) is None
    assert [path.name for path in tmp_path.iterdir()] == ["weights.h5"]
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT


def link(kind, target="README"):
    return {"name": "weights.h5", "type": kind, "linkname": target, "size": 0}


BAD_ARCHIVES = {
    "no such member": (packed(("README", b"hello"), ("weights.h5.txt", b"x")), CorruptFile, "has no member"),
    "a hard link": (packed(("README", CONTENT), (link(tarfile.LNKTYPE), b"")), UnsafeFile, "is a link"),
    "a symlink": (packed((link(tarfile.SYMTYPE, LEFT_TO_CANARY), b"")), UnsafeFile, "is a link"),
    "a folder": (packed((link(tarfile.DIRTYPE), b"")), UnsafeFile, "no file at all"),
    "a device": (packed((link(tarfile.CHRTYPE), b"")), UnsafeFile, "no file at all"),
    "another content": (packed(("weights.h5", OTHER)), CorruptFile, "is not made: its md5"),
    "a bomb before it": (packed(("zeros", bytes(3 << 20)), ("weights.h5", CONTENT)), ResourceLimit, "far more"),
    "a bomb that is it": (packed(("weights.h5", bytes(3 << 20))), ResourceLimit, "far more"),
    "thousands of members": (packed(*[("x", b"")] * 1001, ("weights.h5", CONTENT)), ResourceLimit, "more than 1000"),
    "no archive": (OTHER, CorruptFile, "no whole tar.gz"),
    "no tar in it": (gzip.compress(OTHER, 1), CorruptFile, "no whole tar.gz"),
    "empty": (gzip.compress(b""), CorruptFile, "has no member"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
@pytest.mark.parametrize("offset", [None, 100])
def test_a_bad_archive_is_refused_and_leaves_nothing(name, offset, site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 2 << 20)
    content, kind, sentence = BAD_ARCHIVES[name]
    known = archived(site, content)
    site.behave = whole if offset is None else cut(offset)
    with pytest.raises(kind, match=sentence):
        fetch(known, tmp_path, patience=USUAL)
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_lie_are_refused(site, tmp_path):
    header = tarfile.TarInfo("weights.h5")
    for size, sentence in ((1 << 40, "far more than weights can be"), (400_000, "it ends in a member")):
        header.size = size
        known = archived(site, gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + CONTENT))
        assert sentence in attempt(known, tmp_path)
    raw = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    raw[124:136] = b"\xff" * 12  # -1, as GNU tar writes it
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    assert "far more" in attempt(archived(site, gzip.compress(bytes(raw) + CONTENT)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_cut_or_flipped_anywhere_is_refused_or_right(site, tmp_path):
    rng = np.random.default_rng(5)
    for at in rng.integers(0, len(GOOD), 12):
        flipped = bytearray(GOOD)
        flipped[at] ^= 0xFF
        for content in (GOOD[:at], bytes(flipped)):
            place = tmp_path / f"{at}-{len(content)}"
            attempt(archived(site, content), place)
            assert_right_or_absent(place, CONTENT)


def test_an_archive_of_another_digest_is_not_opened(site, tmp_path, monkeypatch):
    known = archived(site, GOOD, archive_md5="0" * 32)
    monkeypatch.setattr(download, "_unpacked", None)
    assert "is not made" in attempt(known, tmp_path)


def test_an_archive_fetched_by_hand_needs_no_network(site, tmp_path):
    known = archived(site, GOOD)
    (tmp_path / "x.tar.gz").write_bytes(GOOD)
    assert attempt(known, tmp_path) is None
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT and not site.asked
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.h5", "x.tar.gz"]


# --- By id -----------------------------------------------------------------------------


def test_weights_are_loaded_by_their_id_from_an_archive(site, tmp_path, monkeypatch):
    weights = random_weights(NARROW)
    weights.save(tmp_path / "made.ckpt", "slim-v1")
    content = (tmp_path / "made.ckpt").read_bytes()
    site.content = packed(("made.ckpt", content))
    rules, way = replace(NARROW, border="include"), replace(pictures.TIMM, mean=(128.0,) * 3)
    known = row(site.address, content, url=f"{site.address}/m.tgz", file="made.ckpt", variant=rules, picture=way)
    monkeypatch.setattr(catalogue, "FILES", (known,))
    monkeypatch.setattr(catalogue, "LEAST_BYTES", 0)
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    loaded = load_weights("made")
    assert_same(loaded, weights)
    assert (loaded.source.published, loaded.source.integrity) == ("made", "digest")
    assert (loaded.variant.border, loaded.picture) == ("include", way)
    assert load_weights("made").source.path == str(tmp_path / "weights" / "made.ckpt")
    assert len(site.asked) == 1


# --- Whose files are written -----------------------------------------------------------


@pytest.mark.parametrize("name", ["weights.h5.part", "weights.h5.part.json", "weights.h5.lock"])
@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
def test_nothing_is_written_through_what_is_no_file_of_ours(name, kind, a_file, tmp_path):
    mine = tmp_path / "mine"
    if kind != "link to nothing":
        mine.write_bytes(b"precious")
    place = tmp_path / "cache"
    place.mkdir()
    if kind == "pipe":
        os.mkfifo(place / name)
    elif kind == "folder":
        (place / name).mkdir()
    else:
        (place / name).symlink_to(mine)
    sentence = attempt(a_file, place)
    assert "is a link or no regular file" in sentence and name in sentence
    assert mine.read_bytes() == b"precious" if mine.exists() else kind == "link to nothing"
    assert not (place / "weights.h5").exists()
