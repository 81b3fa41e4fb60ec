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
import stat
import subprocess
import tarfile
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pooch
import pytest
from made import NARROW, assert_same, random_weights

from inception import load_weights, pictures
from inception.files import atomic
from inception.variants import KERAS
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile
from inception.weights.published import Published, catalogue, download
from inception.weights.published.download import fetch

CONTENT = np.random.default_rng(7).bytes(300_000)
OTHER = np.random.default_rng(8).bytes(300_000)
OFFSETS = [0, 1, 4096, 150_001, 299_999]
KINDS = {
    "md5": lambda content: {"md5": hashlib.md5(content).hexdigest()},
    "sha256": lambda content: {"sha256": hashlib.sha256(content).hexdigest()},
    "first digits": lambda content: {"sha256": hashlib.sha256(content).hexdigest()[:8]},
}


class Site:
    """A server on 127.0.0.1 that answers as `behave(handler, n)` says, n counting its requests from 0."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked: list[str] = []  # the path of each request
        self.sent = 0  # bytes of the last answer
        self.endless = 0  # bytes of all that never end
        self.behave = whole
        self.gate = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.site = site
                site.asked.append(self.path)
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


@pytest.fixture(autouse=True)
def no_pause_between_tries(monkeypatch):
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda _: None))


@pytest.fixture
def site(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.delenv("INCEPTION_WEIGHTS_DIR", raising=False)
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
    handler.site.sent = 0  # before a client can know and ask for more
    handler.send_response(status)
    usual = {"Content-Length": len(content) if length is None else length}
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


def whole(handler, n=0, **how):
    send(handler, handler.site.content, **how)


def first(behave, then=whole):
    """Does so once, and then as a good server does."""
    return lambda handler, n: (then if n else behave)(handler, n)


def always(content=CONTENT, status=200, **how):
    return lambda handler, n: send(handler, content, status, **how)


def endless(handler, n=0, **headers):
    send(handler, b"", headers={"Content-Length": None, **headers}, status=302 if headers else 200)
    while not handler.site.gate.is_set():
        handler.wfile.write(bytes(1 << 16))
        handler.site.endless += 1 << 16


def in_chunks(upto=None):
    pieces = (CONTENT[at : at + 50_000] for at in range(0, len(CONTENT), 50_000))
    framed = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    return always(framed, headers={"Content-Length": None, "Transfer-Encoding": "chunked"}, upto=upto)


def redirect(location):
    return always(b"", 302, headers={"Location": location})


def hops(count):
    return lambda handler, n: redirect(f"/hop/{n}")(handler, n) if n < count else whole(handler)


PAGE = b"<html>Please log in</html>"
GZIPPED = {"Content-Encoding": "gzip"}
NO_LENGTH = {"Content-Length": None}
LEFT_TO_CANARY = "/etc/hostname"

# name: (what the server does, words of the sentence; None where the file arrives)
FAULTS = {
    **{f"cut once at {o}": (first(always(upto=o)), None) for o in OFFSETS},
    **{f"cut twice at {o}": (lambda h, n, o=o: whole(h, upto=o if n < 2 else None), None) for o in OFFSETS},
    **{f"cut each time at {o}": (always(upto=o), f"IncompleteRead({o} bytes read") for o in OFFSETS},
    **{f"{o} bytes with their length": (always(CONTENT[:o]), f"the md5 of its {o:,} bytes is not") for o in OFFSETS},
    **{f"{o} bytes of no length": (always(upto=o, headers=NO_LENGTH), f"of its {o:,} bytes is not") for o in OFFSETS},
    "no length": (always(headers=NO_LENGTH), None),
    "length too large": (always(length=len(CONTENT) + 1), "127.0.0.1 has more than 300,000 bytes there. Fetch"),
    "a length of 1 EB": (always(length=10**18), "has more than 300,000 bytes there"),
    "more bytes than it says": (always(CONTENT + OTHER, headers=NO_LENGTH), "has more than 300,000 bytes there"),
    "no end": (endless, "has more than 300,000 bytes there"),
    "in chunks": (in_chunks(), None),
    "in chunks, cut once in one": (first(in_chunks(170_000)), None),
    "in chunks, cut in one": (in_chunks(170_000), "IncompleteRead"),
    "another file": (always(OTHER), "the md5 of its 300,000 bytes is not"),
    "HTML page": (always(PAGE, headers={"Content-Type": "text/html"}), "may be the page of a login or a proxy"),
    "HTML page of the size": (always(PAGE.ljust(len(CONTENT))), "may be the page of a login or a proxy"),
    "gzip where that is welcome": (lambda h, n: whole(h) if "gzip" not in h.headers["Accept-Encoding"] else 0, None),
    "gzip encoded": (always(gzip.compress(CONTENT, 1), headers=GZIPPED), "more than 300,000"),
    "gzip encoded bomb": (always(gzip.compress(bytes(1 << 24)), headers=GZIPPED), "the md5 of its 16,"),
    "redirect to file:": (redirect(f"file://{LEFT_TO_CANARY}"), "No connection adapters were found for 'file:"),
    "redirect to ftp:": (redirect("ftp://127.0.0.1/x"), "No connection adapters were found for 'ftp:"),
    "redirect to nowhere": (redirect("http://[bad/"), "127.0.0.1 Invalid IPv6 URL"),
    "5 hops": (hops(5), None),
    "hops without end": (hops(1 << 30), "127.0.0.1 Exceeded 30 redirects"),
    "503, then well": (first(always(b"", 503)), None),
    "503 for ever": (always(b"no", 503), "127.0.0.1 503 Server Error: Service Unavailable"),
    "404": (always(b"no", 404), "127.0.0.1 404 Client Error: Not Found"),
    "404 that clears a screen": (
        lambda h, n: h.wfile.write(b"HTTP/1.1 404 \x1b[2J\r\n\r\n"),
        r"404 Client Error: \x1b[2J",
    ),
    "nothing": (lambda h, n: None, "Remote end closed connection without response"),
    "no HTTP": (lambda h, n: h.wfile.write(b"220 ftp ready\r\n"), "127.0.0.1 220 ftp ready"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_no_fault_puts_wrong_bytes_under_the_name(name, site, a_file, tmp_path):
    site.behave, sentence = FAULTS[name]
    outcome = attempt(a_file, tmp_path)
    assert (outcome is None) if sentence is None else sentence in outcome
    assert_right_or_absent(tmp_path, outcome)
    assert len(site.asked) <= 3 or "hops" in name


def attempt(known, place):
    """None, or the sentence that the user sees."""
    try:
        assert fetch(known, place) == place / known.file
    except CheckpointError as error:
        assert "Traceback" not in str(error) and str(error).endswith(".") and str(error).isprintable()
        return str(error)
    return None


def assert_right_or_absent(place, outcome=None):
    assert names(place) == ([] if outcome else ["weights.h5"])
    assert outcome or (place / "weights.h5").read_bytes() == CONTENT


def names(place):
    return sorted(path.name for path in place.iterdir())


@pytest.mark.parametrize("offset", [0, 4096])
@pytest.mark.parametrize("drips", [False, True], ids=["stall", "a byte at a time"])
def test_a_stall_ends(offset, drips, site, a_file, tmp_path, monkeypatch):
    def stall(handler, n):
        """For ten seconds; who waits for their end gets the file."""
        whole(handler, upto=offset)
        for at in range(offset, offset + 200):
            if site.gate.wait(0.05):
                return
            handler.wfile.write(CONTENT[at : at + drips])
        handler.wfile.write(CONTENT[offset + drips * 200 :])

    monkeypatch.setattr(download, "_SECONDS", 0.25)
    monkeypatch.setattr(download, "_LEAST_RATE", 1 << 20)
    site.behave = stall
    sentence = attempt(a_file, tmp_path)
    assert "Fetch http://127.0.0.1" in sentence and ("bytes in" if drips else "timed out") in sentence
    assert len(site.asked) == 3 and names(tmp_path) == []
    site.behave = whole
    assert attempt(a_file, tmp_path) is None


def test_the_usual_patience_with_a_silent_server_ends_within_a_minute():
    pauses = sum(min(i + 1, 10) for i in range(download._TRIES - 1))  # as pooch makes them
    assert download._TRIES * download._SECONDS + pauses <= 60


def test_an_endless_answer_fills_no_disk_and_an_endless_redirect_no_memory(site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 2 << 20)
    site.behave = endless
    assert "has more than 2,097,152 bytes there" in attempt(row(site.address, CONTENT, size=None), tmp_path)
    assert "has more than 2,097,152 bytes there" in attempt(archived(site, b""), tmp_path)
    assert names(tmp_path) == [] and len(site.asked) == 2
    site.behave = first(lambda handler, n: endless(handler, Location="/there"))
    site.content = CONTENT
    site.asked.clear()
    assert attempt(row(site.address, CONTENT), tmp_path) is None
    assert site.asked == ["/a/weights.h5", "/there"] and site.endless < 16 << 20
    wait_until(lambda: site.sent == len(CONTENT))


def test_another_host_may_be_redirected_to(site, a_file, tmp_path):
    second = Site()
    site.behave = redirect(f"{second.address.replace('127.0.0.1', 'localhost')}/signed?by=me")
    assert attempt(a_file, tmp_path) is None
    assert second.asked == ["/signed?by=me"]
    second.stop()


def test_a_proxy_of_the_environment_is_asked(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", site.address)
    assert attempt(row("http://weights.invalid", CONTENT), tmp_path) is None
    assert site.asked == ["http://weights.invalid/a/weights.h5"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_digest_refuses_one_flipped_bit(kind, site, tmp_path):
    known = row(site.address, CONTENT, kind, size=None)
    damaged = bytearray(CONTENT)
    damaged[150_000] ^= 1
    site.content = bytes(damaged)
    sentence = attempt(known, tmp_path)
    assert "of its 300,000 bytes is not" in sentence and "not kept" in sentence and len(site.asked) == 1
    assert names(tmp_path) == []
    site.content = CONTENT
    assert attempt(known, tmp_path) is None
    assert_right_or_absent(tmp_path)


def test_of_a_file_without_a_digest_nothing_is_downloaded(site, tmp_path):
    known = row(site.address, CONTENT, md5=None)
    assert "could not be checked and is not made; fetch http" in attempt(known, tmp_path)
    assert not site.asked and names(tmp_path) == []


# --- No server at all ------------------------------------------------------------------


def test_nobody_listens(site, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        known = row(f"http://127.0.0.1:{closed.getsockname()[1]}", CONTENT)
    sentence = attempt(known, tmp_path)
    assert "could not be downloaded: 127.0.0.1 [Errno 111] Connection refused" in sentence
    assert f"Fetch {known.url} by hand and put it at {tmp_path / known.file}, or give the path" in sentence
    assert names(tmp_path) == []


def test_no_network(a_file, tmp_path, monkeypatch):
    def nothing(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    assert "127.0.0.1 [Errno -2] Name or service not known. Fetch" in attempt(a_file, tmp_path)


def test_no_address(tmp_path):
    known = row("", CONTENT, url=None)
    assert f"is not known; put it at {tmp_path / known.file}, or give its path" in attempt(known, tmp_path)


def test_tls_that_is_none(site, a_file, tmp_path):
    known = replace(a_file, url=a_file.url.replace("http:", "https:"))
    assert "could not be downloaded: 127.0.0.1 [SSL" in attempt(known, tmp_path)
    assert names(tmp_path) == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes a certificate with openssl")
def test_tls(site, a_file, tmp_path, monkeypatch):
    pem = tmp_path / "own.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
    options = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", pem, "-out", pem]
    subprocess.run([*make.split(" "), *options], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    known = replace(a_file, url=a_file.url.replace("http:", "https:"))
    assert "certificate" in attempt(known, tmp_path / "refused")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
    assert attempt(known, tmp_path / "trusted") is None
    plain = Site()
    site.behave = redirect(f"{plain.address}/a/weights.h5")
    assert f"redirected to '{plain.address}/a/weights.h5', which is no https" in attempt(known, tmp_path / "back")
    assert not plain.asked and names(tmp_path / "back") == []
    plain.stop()


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


def test_in_keras_cache_a_stump_is_replaced_but_nothing_behind_a_link(site, a_file, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path / "own"))
    (tmp_path / "models").mkdir()
    stump = tmp_path / "models" / "weights.h5"
    stump.write_bytes(CONTENT[:1000])
    assert fetch(replace(a_file, family="Keras")) == stump
    assert stump.read_bytes() == CONTENT
    assert fetch(a_file) == tmp_path / "own" / "weights.h5"
    stump.unlink()
    stump.symlink_to(tmp_path / "mine")
    for mine in (None, b"precious"):
        if mine:
            (tmp_path / "mine").write_bytes(mine)
        (tmp_path / "own" / "weights.h5").unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match="is there and is not made"):
            fetch(replace(a_file, family="Keras"))
        assert stump.is_symlink() and (mine is None or (tmp_path / "mine").read_bytes() == mine)


def test_whoever_may_read_the_folder_may_read_the_file(a_file, tmp_path):
    before = os.umask(0o027)
    try:
        assert attempt(a_file, tmp_path) is None
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights.h5").stat().st_mode) == 0o640


def test_a_full_disk_is_one_sentence_and_leaves_nothing(site, a_file, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        sentence = attempt(a_file, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be put at" in sentence and "File too large" in sentence and len(site.asked) == 1
    assert names(tmp_path) == []
    assert attempt(a_file, tmp_path) is None


def test_where_no_folder_can_be_is_one_sentence(site, a_file, tmp_path):
    (tmp_path / "file").write_bytes(b"mine")
    assert "could not be put at" in attempt(a_file, tmp_path / "file" / "in it") and not site.asked


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_nothing_is_written_through_what_is_no_file_of_ours(kind, site, a_file, tmp_path):
    mine, turn = tmp_path / "mine", atomic._named(atomic._TURN, tmp_path / "weights.h5")
    mine.write_bytes(b"precious")
    {"link": lambda: turn.symlink_to(mine), "pipe": lambda: os.mkfifo(turn), "folder": turn.mkdir}[kind]()
    assert "is a link or no regular file" in attempt(a_file, tmp_path) and not site.asked
    assert mine.read_bytes() == b"precious" and names(tmp_path) == sorted(["mine", turn.name])


def test_progress_is_told(site, a_file, tmp_path):
    told = []
    site.behave = always(pace=(100_000, 0.01))
    fetch(a_file, tmp_path, progress=lambda *pair: told.append(pair))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (300_000, 300_000) and {total for _, total in told} == {300_000}


def test_pooch_writes_nothing_into_the_bar_and_is_heard_again(a_file, tmp_path, monkeypatch):
    log, said = pooch.get_logger(), []
    monkeypatch.setattr(log, "handlers", [SimpleNamespace(level=0, handle=lambda record: said.append(record.msg))])
    assert attempt(a_file, tmp_path) is None and said == []
    log.info("of others")
    assert said == ["of others"]


def test_ctrl_c_leaves_nothing(a_file, tmp_path):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(a_file, tmp_path, progress=interrupt)
    assert names(tmp_path) == []


# --- Kills, and several at once --------------------------------------------------------

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["inception.weights.published.download", "pooch", "requests"])


def start(known, place):
    process = PROCESSES.Process(target=fetch, args=(known, place), daemon=True)
    process.start()
    return process


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


@pytest.mark.parametrize("offset", [0, 100_000, 290_000])
def test_a_killed_download_leaves_no_file_and_holds_nobody_up(offset, site, a_file, tmp_path):
    def behave(handler, n):
        whole(handler, upto=None if n else offset)
        if n == 0:
            site.gate.wait(20)

    site.behave = behave
    holder = start(a_file, tmp_path)
    wait_until(lambda: site.asked and site.sent >= offset)
    waiting = start(a_file, tmp_path)
    time.sleep(0.3)
    assert waiting.is_alive() and len(site.asked) == 1 and not (tmp_path / "weights.h5").exists()
    holder.kill()
    waiting.join(60)
    assert waiting.exitcode == 0 and len(site.asked) == 2
    assert_right_or_absent(tmp_path)


@pytest.mark.parametrize("offset", [0, 100_000])
def test_after_a_kill_the_next_call_downloads_and_clears(offset, site, a_file, tmp_path):
    site.behave = first(lambda handler, n: (whole(handler, upto=offset), site.gate.wait(20)))
    process = start(a_file, tmp_path)
    wait_until(lambda: site.asked and site.sent >= offset)
    process.kill()
    process.join()
    assert not (tmp_path / "weights.h5").exists()
    assert attempt(a_file, tmp_path) is None
    assert_right_or_absent(tmp_path)


def test_of_eight_processes_one_downloads(site, a_file, tmp_path):
    site.behave = lambda handler, n: whole(handler, pace=(1 << 15, 0.05))
    processes = [start(a_file, tmp_path) for _ in range(8)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert len(site.asked) == 1
    assert_right_or_absent(tmp_path)


def test_of_four_threads_one_downloads(site, a_file, tmp_path):
    site.behave = lambda handler, n: whole(handler, pace=(1 << 15, 0.01))
    threads = [threading.Thread(target=attempt, args=(a_file, tmp_path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(site.asked) == 1
    assert_right_or_absent(tmp_path)


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


def test_the_member_of_an_archive_arrives(site, tmp_path):
    site.behave, known = first(lambda handler, n: whole(handler, upto=4096)), archived(site, GOOD)
    assert attempt(known, tmp_path) is None
    assert_right_or_absent(tmp_path)


def link(kind, target="README"):
    return {"name": "weights.h5", "type": kind, "linkname": target, "size": 0}


BAD_ARCHIVES = {
    "no such member": (packed(("README", b"hello"), ("weights.h5.txt", b"x")), CorruptFile, "has no member"),
    "a hard link": (packed(("README", CONTENT), (link(tarfile.LNKTYPE), b"")), UnsafeFile, "is a link"),
    "a symlink": (packed((link(tarfile.SYMTYPE, LEFT_TO_CANARY), b"")), UnsafeFile, "is a link"),
    "a folder": (packed((link(tarfile.DIRTYPE), b"")), UnsafeFile, "no file at all"),
    "a device": (packed((link(tarfile.CHRTYPE), b"")), UnsafeFile, "no file at all"),
    "another content": (packed(("weights.h5", OTHER)), CorruptFile, "is not made: the md5 of its 300,000"),
    "a bomb before it": (packed(("zeros", bytes(3 << 20)), ("weights.h5", CONTENT)), ResourceLimit, "far more"),
    "a bomb that is it": (packed(("weights.h5", bytes(3 << 20))), ResourceLimit, "far more"),
    "thousands of members": (packed(*[("x", b"")] * 1001, ("weights.h5", CONTENT)), ResourceLimit, "more than 1000"),
    "no archive": (OTHER, CorruptFile, "no whole tar.gz"),
    "no tar in it": (gzip.compress(OTHER, 1), CorruptFile, "no whole tar.gz"),
    "empty": (gzip.compress(b""), CorruptFile, "has no member"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_a_bad_archive_is_refused_and_leaves_nothing(name, site, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 2 << 20)
    content, kind, sentence = BAD_ARCHIVES[name]
    with pytest.raises(kind, match=sentence):
        fetch(archived(site, content), tmp_path)
    assert names(tmp_path) == []


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
    assert names(tmp_path) == []


def test_an_archive_cut_or_flipped_anywhere_is_refused_or_right(site, tmp_path):
    rng = np.random.default_rng(5)
    for at in rng.integers(0, len(GOOD), 12):
        flipped = bytearray(GOOD)
        flipped[at] ^= 0xFF
        for content in (GOOD[:at], bytes(flipped)):
            place = tmp_path / f"{at}-{len(content)}"
            assert_right_or_absent(place, attempt(archived(site, content), place))


def test_an_archive_fetched_by_hand_needs_no_network(site, tmp_path):
    known = archived(site, GOOD)
    (tmp_path / "x.tar.gz").write_bytes(GOOD)
    assert attempt(known, tmp_path) is None
    assert (tmp_path / "weights.h5").read_bytes() == CONTENT and not site.asked
    assert names(tmp_path) == ["weights.h5", "x.tar.gz"]
    (tmp_path / "weights.h5").unlink()
    (tmp_path / "x.tar.gz").write_bytes(packed(("weights.h5", OTHER)))
    assert f"What came from {tmp_path / 'x.tar.gz'} is not made" in attempt(known, tmp_path)
    assert names(tmp_path) == ["x.tar.gz"] and not site.asked


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
