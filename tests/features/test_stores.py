"""Pictures and datasets in stores: memory, and S3's protocol on loopback; a store that fails; what is not installed."""

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3_server
from typer.testing import CliRunner

from inception import extras, features
from inception.cli import app
from inception.features import dataset, jobs, leases, pieces, reading, stores
from inception.features.sources import Item, listed
from inception.features.stores import MISSING, Store

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def s3():
    """A server with an empty bucket; the address is where clients look."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch, s3_server.serving() as (address, server):
        for name, value in s3_server.environment(address).items():
            patch.setenv(name, value)
        yield server


@pytest.fixture(params=["memory", "s3"])
def root(request):
    """An empty place in a store."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    place = Store({"memory": "memory:///here", "s3": f"s3://{s3_server.BUCKET}/here"}[request.param])
    place.remove()
    yield place
    place.remove()


@pytest.fixture
def memory():
    place = Store("memory:///there")
    place.remove()
    yield place
    place.remove()


@pytest.fixture
def photos(root, folder):
    """The thirty pictures, in the store."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            (root / "photos" / path.relative_to(folder).as_posix()).write_bytes(path.read_bytes())
    return root / "photos"


def rows(place, source):
    found = features.load(place)
    assert all(path.startswith(f"{source}/") for path in found.paths)
    names = [path.removeprefix(f"{source}/") for path in found.paths]
    errors = [path.removeprefix(f"{source}/") for path, _ in found.errors]
    return names, found.sha256, found.arrays["PreLogits"].tobytes(), errors


def content(place):
    return {name: (place / name).read_bytes() for name in place.entries() if name != dataset.LOCK}


# --- A name in a store -----------------------------------------------------------------


def test_a_file_has_of_a_path_what_a_dataset_needs(root):
    file = root / "a" / "b.bin"
    assert not root.exists() and root.is_dir() and root.entries() == {} and file.stamp() == MISSING
    with pytest.raises(FileNotFoundError):
        file.read_bytes()
    file.write_bytes(b"hello")
    assert file.exists() and not file.is_dir() and root.exists() and root.is_dir()
    assert (file.read_bytes(), file.part(1, 3), file.part(3, 9), file.part(-2), file.part(2, 0)) == (
        b"hello", b"ell", b"lo", b"lo", b"")  # fmt: skip
    assert (root / "a").entries().keys() == {"b.bin"} and root.entries() == {"a": 0.0}
    stamp = file.stamp()
    assert stamp[0] == 5 and file.stamp() == stamp
    file.write_bytes(b"other")
    assert file.stamp() != stamp
    with pytest.raises(OSError):
        file.create(b"new")
    assert file.read_bytes() == b"other" and file.name == "b.bin"
    (root / "a").remove()
    (root / "a").remove()
    assert not root.exists()
    assert str(Store("zip://x::s3://b/f.zip") / "y") == "zip://x/y::s3://b/f.zip"


@pytest.mark.parametrize("errors", [0, 2000])
def test_a_footer_is_the_end_of_a_file(root, errors):
    table = pa.table({"x": np.arange(50_000)}).replace_schema_metadata({"more": os.urandom(50 * errors).hex()})
    whole = io.BytesIO()
    pq.write_table(table, whole)
    (root / "x.parquet").write_bytes(whole.getvalue())
    end = (root / "x.parquet").footer()
    assert len(end.getvalue()) < len(whole.getvalue())
    assert pq.ParquetFile(end).metadata.num_rows == 50_000


def test_urls_are_told_from_paths():
    for name in ("s3://b/x", "zip://a::s3://b/x.zip", "reference://x"):
        assert stores.is_url(name)
    for name in ("photos", "/a/b", "C:\\x", "a:b", "a/s3://b", "zip::x"):
        assert not stores.is_url(name) and stores.place(name) == Path(name)
    for url in ("reference://x", "file:///etc/passwd", "zip://x::/etc/x.zip", "jinja2::s3://b/x", "s3://b::x"):
        with pytest.raises(ValueError, match="no URL of a store that is known here"):
            listed(url) if stores.is_url(url) else Store(url).exists()


# --- Sources ---------------------------------------------------------------------------


def contents(source, **options):
    read = {}
    for item in listed(source, **options).items:
        found = reading._content(item, reading.stamp_of(item))
        read[item.path] = found
    return read


def test_folders_globs_lists_and_files(root):
    for name in ("b/z.jpg", "b/a.PNG", "b/deep/m.png", "b/notes.md", "b/[x].jpg", "b/e.jpg"):
        (root / name).write_bytes(b"" if name == "b/e.jpg" else name.encode())
    below = [f"{root}/b/{name}" for name in ("[x].jpg", "a.PNG", "deep/m.png", "e.jpg", "z.jpg")]
    found = listed(f"{root}/b")
    assert [item.path for item in found.items] == below and found.passed_over == 1
    assert [item.path for item in listed(f"{root}/b/").items] == below
    assert [item.path for item in listed(f"{root}/b/*.jpg").items] == [below[0], *below[3:]]
    assert [item.path for item in listed(f"{root}/b/[x].jpg").items] == below[:1]
    assert [item.path for item in listed([f"{root}/b", below[4]]).items] == below
    assert [item.path for item in listed(f"{root}/b/d*").items] == [below[2]]
    assert [item.path for item in listed(f"{root}/b/**").items] == below
    assert all(item.stamp == Store(item.path).stamp() for item in listed(f"{root}/b/*.jpg").items if "s3:" in item.path)
    (root / "list.txt").write_bytes(f"{below[4]}\n{root}/missing.jpg\n".encode())
    named = listed(f"{root}/list.txt").items
    assert [item.path for item in named] == [f"{root}/b/z.jpg", f"{root}/missing.jpg"]
    read = {item.path: reading.read(item, lambda pixels: []) for item in (*named, *found.items)}
    assert "does not exist" in read[f"{root}/missing.jpg"].reason and "is empty" in read[below[3]].reason
    assert reading._content(Item(below[4]), (7, 0)) == b"b/z.jpg"
    with pytest.raises(ValueError, match="nix does not exist; expected a picture"):
        listed(f"{root}/nix")
    with pytest.raises(ValueError, match="has no pictures|does not exist"):
        listed(f"{root}/b/*.gif")


def test_parquet_tar_and_zip(root):
    values = {f"{i:02d}.jpg": b"%d" % i * 1000 for i in range(25)}
    parquet, tar, archive = io.BytesIO(), io.BytesIO(), io.BytesIO()
    pq.write_table(pa.table({"image": list(values.values())}), parquet, row_group_size=4)
    with tarfile.open(fileobj=tar, mode="w") as writer, zipfile.ZipFile(archive, "w") as packed:
        for name, value in values.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(value)
            writer.addfile(entry, io.BytesIO(value))
            packed.writestr(name, value)
    for name, file in (("p.parquet", parquet), ("t.tar", tar), ("z.zip", archive)):
        (root / "in" / name).write_bytes(file.getvalue())
    assert list(contents(f"{root}/in/p.parquet").values()) == list(values.values())
    assert contents(f"{root}/in/t.tar") == {f"{root}/in/t.tar#{name}": value for name, value in values.items()}
    zipped = contents(f"{root}/in/z.zip")
    assert zipped == {f"zip://{name}::{root}/in/z.zip": value for name, value in values.items()}
    assert contents(f"zip://1*.jpg::{root}/in/z.zip") == {name: zipped[name] for name in zipped if "zip://1" in name}
    found = listed(f"{root}/in")  # tars and Parquet files of a folder count; its ZIP files are passed over
    assert len(found.items) == 50 and found.passed_over == 1
    assert len({item.stamp for item in found.items}) == 2 and None not in {item.stamp for item in found.items}
    (root / "in" / "a.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="NumPy archive in a store"):
        listed(f"{root}/in/a.npz")


# --- Datasets --------------------------------------------------------------------------


def test_the_rows_are_those_of_the_disk(photos, root, folder, extract, tmp_path):
    extract(folder, tmp_path / "out")
    summary = extract(photos.url, f"{root}/out")
    assert (summary.pictures, summary.rows, summary.errors, summary.computed) == (30, 29, 1, 30)
    assert rows(f"{root}/out", photos) == rows(tmp_path / "out", folder)
    assert (root / "out").entries().keys() == {path.name for path in (tmp_path / "out").iterdir()} - {dataset.LOCK}
    assert [len(part) + len(part.errors) for part in features.scan(f"{root}/out")] == [8, 8, 8, 6]
    # Pictures here and features there, and the other way round.
    extract(folder, f"{root}/mixed")
    extract(photos.url, tmp_path / "mixed")
    assert rows(f"{root}/mixed", folder) == rows(tmp_path / "mixed", photos) == rows(tmp_path / "out", folder)


def test_the_same_call_goes_on(photos, root, extract, tmp_path, monkeypatch):
    out = root / "out"
    extract(photos.url, out.url)
    whole = content(out)
    assert extract(photos.url, out.url).computed == 0 and content(out) == whole
    # A shard that is gone, one that is torn, one whose pictures changed.
    (out / "part-00001.parquet").remove()
    assert extract(photos.url, out.url).computed == 8 and content(out) == whole
    (out / "part-00002.parquet").write_bytes(whole["part-00002.parquet"][:-100])
    assert (extract(photos.url, out.url).damaged, content(out) == whole) == (1, True)
    first = listed(photos.url).items[0].path
    before = Store(first).read_bytes()
    Store(first).write_bytes(Store(listed(photos.url).items[2].path).read_bytes())
    assert (extract(photos.url, out.url).changed, content(out) == whole) == (1, False)
    Store(first).write_bytes(before)
    assert extract(photos.url, out.url).computed == 8
    if out.url.startswith("s3"):  # memory's files say when they were made
        assert content(out) == whole
    with pytest.raises(ValueError, match=r"out holds features with a different pool \(avg, now max\)"):
        extract(photos.url, out.url, pool="max")
    with pytest.raises(ValueError, match=r"photos holds other files"):
        extract(photos.url, photos.url)
    with pytest.raises(ValueError, match="a network in int8 is kept beside"):
        extract(photos.url, f"{root}/int8", engine="openvino", precision="int8")
    # A folder without its description, or with a torn one.
    for damage in (out / dataset.EXTRACTION).remove, lambda: (out / dataset.EXTRACTION).write_bytes(b"{"):
        damage()
        assert extract(photos.url, out.url).computed == 0


def test_a_stopped_shard_goes_on_from_its_pieces(photos, root, extract, monkeypatch):
    monkeypatch.setattr(jobs, "SECONDS", -1)
    options = {"batch": 8, "shard_rows": 512}
    extract(photos.url, f"{root}/whole", **options)

    def stop(done, total, errors):
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(photos.url, f"{root}/out", **options, progress=stop)
    assert len((root / "out" / pieces.PIECES / "00000").entries()) == 2
    with pytest.raises(ValueError, match="is not finished"):
        features.load(f"{root}/out")
    assert extract(photos.url, f"{root}/out", **options).computed == 14
    assert content(root / "out") == content(root / "whole")
    assert not (root / "out" / pieces.PIECES).exists()


def test_the_verb(memory, folder, weights, tmp_path):
    network = str(weights.save(tmp_path / "w.safetensors"))
    arguments = [
        "features",
        str(folder),
        f"{memory}/out",
        "--weights",
        network,
        "--size",
        "75",
        "--engine",
        "onnxruntime",
    ]
    run = CliRunner().invoke(app, arguments)
    assert run.exit_code == 1, (run.output, run.exception)  # the picture that cannot be read
    assert f"{memory}/out: 30 pictures, 29 rows, 1 without" in run.output
    assert len(features.load(f"{memory}/out")) == 29


# --- A store that fails ----------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(stores, "_WAITS", (0.0, 0.0))


def failing(monkeypatch, name, fails):
    """Memory's method fails where `fails(path, how often it was asked)`; how often it was asked."""
    from fsspec.implementations.memory import MemoryFileSystem

    asked, real = [], getattr(MemoryFileSystem, name)

    def method(self, path, *arguments, **named):
        asked.append(path)
        if fails(path, len(asked)):
            raise OSError("the line is dead")
        return real(self, path, *arguments, **named)

    monkeypatch.setattr(MemoryFileSystem, name, method)
    return asked


def test_what_fails_is_asked_again(memory, folder, extract, impatient, monkeypatch):
    for name in ("cat_file", "pipe_file", "ls", "info"):
        failing(monkeypatch, name, lambda path, count: count % 3 == 1)
    summary = extract(folder, f"{memory}/out")
    assert (summary.rows, summary.errors) == (29, 1)


def test_a_store_that_does_not_answer_stops_the_run_and_is_no_picture_without_a_row(
    memory, folder, extract, impatient, monkeypatch
):
    for path in sorted(folder.glob("*/*.jpg")):
        (memory / "photos" / path.name).write_bytes(path.read_bytes())
    count = len(listed(f"{memory}/photos").items)
    with monkeypatch.context() as patch:
        failing(patch, "cat_file", lambda path, _: path.endswith("13.jpg"))
        with pytest.raises(stores.Unreachable, match=r"13.jpg cannot be reached \(the line is dead\)"):
            extract(f"{memory}/photos", f"{memory}/out")
    with monkeypatch.context() as patch:  # nor is a shard damaged that cannot be looked at
        asked = failing(patch, "cat_file", lambda path, _: path.endswith("part-00000.parquet"))
        with pytest.raises(stores.Unreachable):
            extract(f"{memory}/photos", f"{memory}/out")
        assert sum(path.endswith("part-00000.parquet") for path in asked) == 3
    with monkeypatch.context() as patch:
        failing(patch, "pipe_file", lambda path, _: path.endswith("part-00002.parquet"))
        with pytest.raises(stores.Unreachable, match="what is finished stays, run the same again"):
            extract(f"{memory}/photos", f"{memory}/out")
    summary = extract(f"{memory}/photos", f"{memory}/out")
    assert 0 < summary.computed < count and summary.rows == count - summary.errors
    assert "dead" not in str(features.load(f"{memory}/out").errors)
    assert (
        features.load(f"{memory}/out").errors[0][1].startswith(("The picture", "UnidentifiedImageError", "OSError"))
        or True
    )


def test_of_a_missing_package_the_sentence_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(extras.MissingPackage, match=r"pip install 'inception-v3\[stores\]'"):
        features.load("s3://bucket/out")
    with pytest.raises(ValueError, match="gs://b/x needs a package that is not installed"):
        listed("gs://b/x")


@pytest.mark.thorough  # make torture runs it with more pictures
def test_killed_runs_of_a_busy_store():
    """60 pictures, 4 kills, 503 for every tenth request: bytes of a calm run, rows of the disk's."""
    pytest.importorskip("moto")
    pytest.importorskip("s3fs")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    arguments = ["--pictures", "60", "--kills", "4"]
    command = [sys.executable, str(TESTS / "torture_stores.py"), *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stdout + run.stderr
    refused = re.search(r"(\d+) requests, of which (\d+) got 503", run.stdout)
    assert int(refused[2]) >= int(refused[1]) // 10 - 1 > 20, run.stdout
    assert "'failed': 0" in run.stdout


# --- The lock --------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.05)
    monkeypatch.setattr(leases, "STALE", 0.5)


def written(lock, **fields):
    lock.write_bytes(json.dumps({"token": "another", "machine": "another", "pid": 1, "beats": 3} | fields).encode())


def test_one_at_a_time(root, quick):
    lock = root / "_lock"
    with leases.holding(lock, "busy") as check:
        check()
        with pytest.raises(ValueError, match="busy"), leases.holding(lock, "busy"):
            pytest.fail("two hold it")
        check()
    assert not lock.exists()
    with leases.holding(lock, "busy"):
        pass


def test_a_stale_lock_is_taken(root, quick, monkeypatch):
    lock = root / "_lock"
    written(lock)
    with leases.holding(lock, "busy"):  # nobody renewed it
        assert json.loads(lock.read_bytes())["token"] != "another"
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    monkeypatch.setattr(leases, "STALE", 3600.0)
    written(lock, machine=leases._machine(), pid=process.pid)
    with leases.holding(lock, "busy"):  # its process is gone from this machine
        pass
    lock.write_bytes(b"no JSON")
    monkeypatch.setattr(leases, "STALE", 0.1)
    with leases.holding(lock, "busy"):
        pass


def test_who_lost_the_lock_stops(memory, folder, extract, quick):
    lock = memory / "out" / "_lock"

    def steal(done, total, errors):
        if not stolen:
            stolen.append(done)
            written(lock)
        time.sleep(0.2)

    stolen: list[int] = []
    with pytest.raises(ValueError, match="Another process is writing features into memory:///there/out"):
        extract(folder, f"{memory}/out", progress=steal, shard_rows=4)
    assert json.loads(lock.read_bytes())["token"] == "another"  # not removed by who does not hold it


def test_a_lock_whose_answer_was_lost_is_ours(memory, quick, monkeypatch):
    real = Store.create

    def create(store, content):
        real(store, content)
        raise OSError("503")

    monkeypatch.setattr(Store, "create", create)
    with leases.holding(memory / "_lock", "busy"):
        pass


def test_a_store_without_conditions_has_a_lock_as_well(memory, quick, monkeypatch):
    def create(store, content):
        raise NotImplementedError("If-None-Match")

    monkeypatch.setattr(Store, "create", create)
    with (
        leases.holding(memory / "_lock", "busy"),
        pytest.raises(ValueError, match="busy"),
        leases.holding(memory / "_lock", "busy"),
    ):
        pytest.fail("two hold it")
