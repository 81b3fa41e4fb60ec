"""A killed extraction loses seconds: what of a shard is finished is kept, taken when it is sound, and then removed."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
from made import random_weights, thirty_pictures

import inception
from inception import features
from inception.features import dataset, jobs, pieces, task

HERE = Path(__file__).parents[1]
BATCH = 8


def files(out):
    """{name: bytes} of all that an extraction wrote, pieces included."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name != dataset.LOCK
    }


def pieces_of(out, shard=0):
    return sorted((out / pieces.PIECES / f"{shard:05d}").glob("part-*.parquet"))


@pytest.fixture
def many(folder):
    """150 pictures, of which two are broken."""
    for i in range(4):
        for path in [*folder.glob("*/*.jpg")][:30]:
            shutil.copy(path, folder / f"{i}-{path.name}")
    os.link(folder / "odd" / "11.jpg", folder / "0-00a.jpg")
    (folder / "3-00.jpg").unlink()
    (folder / "2-11.jpg").unlink()
    (folder / "1-11.jpg").unlink()
    (folder / "3-11.jpg").unlink()
    return folder


@pytest.fixture
def a_piece_a_batch(monkeypatch):
    monkeypatch.setattr(jobs, "SECONDS", -1)


@pytest.fixture
def stopped(folder, extract, tmp_path, a_piece_a_batch):
    """One shard of 30 pictures, stopped behind the 24th; the files of a run that was not: (folder, its files)."""

    def stop(done, total, errors):
        if done >= 24:
            raise KeyboardInterrupt

    options = {"batch": BATCH, "shard_rows": 512}
    extract(folder, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        extract(folder, tmp_path / "out", **options, progress=stop)
    return tmp_path / "out", files(tmp_path / "whole")


@pytest.fixture
def again(folder, extract, stopped):
    """Goes on in the stopped folder; how many pictures were computed."""

    def run(**options):
        summary = extract(folder, stopped[0], **({"batch": BATCH, "shard_rows": 512} | options))
        assert files(stopped[0]) == stopped[1]
        return summary.computed

    return run


# --- Kills -----------------------------------------------------------------------------

CHILD = """
import os, signal, sys
source, out, after, replaces, options = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), eval(sys.argv[5])
from made import random_weights
from inception import features
from inception.features import jobs
from inception.variants import Variant
jobs.SECONDS, real = -1, os.replace

def replace(made, target):
    global replaces
    if "_pieces" in str(target):
        replaces -= 1
        if replaces == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    real(made, target)

def progress(done, total, errors):
    print(total - done, flush=True)
    if done >= after:
        os.kill(os.getpid(), signal.SIGKILL)

os.replace = replace
weights = random_weights(Variant(num_classes=5, depth_multiplier=0.02, min_depth=3))
features.extract(source, out, weights, progress=progress, **options)
"""


def killed(source, out, options, after=10**9, replaces=0):
    """Runs an extraction in a process that kills itself; how many pictures were left to compute."""
    arguments = [source, out, after, replaces, repr(options)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)])}
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == -signal.SIGKILL, run.stderr
    return min(map(int, run.stdout.split()))


@pytest.mark.parametrize("shard_rows", [512, 50])
def test_kills_cost_64_pictures_at_most_and_change_no_byte(many, extract, tmp_path, a_piece_a_batch, shard_rows):
    options = {"size": 75, "engine": "onnxruntime", "shard_rows": shard_rows, "batch": BATCH}
    whole = extract(many, tmp_path / "whole", **options)
    out = tmp_path / "out"
    left = killed(many, out, options, after=70)
    assert whole.errors == 3 and whole.pictures - 90 < left <= whole.pictures - 70 and pieces_of(out, 70 // shard_rows)
    assert len(features.load(out, partial=True)) < 70 and not (shard_rows == 50 and pieces_of(out, 0))
    before, left = left, killed(many, out, options, replaces=5)  # in the writing of a piece
    assert before - 6 * BATCH <= left <= before - 2 * BATCH
    assert left <= extract(many, out, **options).computed <= left + 64
    assert files(out) == files(tmp_path / "whole")


def test_a_piece_is_written_when_seconds_have_gone_and_a_batch_ends(folder, extract, tmp_path, monkeypatch):
    """By a clock that goes on when it is looked at: once a batch, a piece, a picture without a row."""
    clock, seen = itertools.count(), []
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: 0.8 * next(clock)))
    monkeypatch.setattr(pieces, "keep", lambda folder, shard, start, *more: seen.append((start, len(more[1][0]))))
    extract(folder, tmp_path / "out", threads=1, batch=4, shard_rows=512)
    assert seen == [(0, 12), (12, 9)]  # 2 s are 3 looks; the second piece ends with one that cannot be read


@pytest.mark.parametrize("streams", [2, 3])
def test_batches_that_compute_at_a_time_are_the_same_rows_and_a_stop_loses_those_alone(
    folder, extract, tmp_path, a_piece_a_batch, monkeypatch, streams
):
    pytest.importorskip("openvino")

    def stop(done, total, errors):
        if done >= 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(task, "cores", lambda: 4)
    options = {"batch": 4, "shard_rows": 512, "engine": "openvino"}
    monkeypatch.setattr(task, "STREAMS", streams)
    extract(folder, tmp_path / "whole", **options)
    with pytest.raises(KeyboardInterrupt):
        extract(folder, tmp_path / "out", **options, progress=stop)
    assert [path.name for path in pieces_of(tmp_path / "out")] == ["part-00000.parquet"]
    assert extract(folder, tmp_path / "out", **options).computed == 30 - 4
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    monkeypatch.setattr(task, "STREAMS", 1)
    extract(folder, tmp_path / "one", **options)
    one, many = features.load(tmp_path / "one"), features.load(tmp_path / "whole")
    assert one.paths == many.paths
    np.testing.assert_allclose(one.arrays["PreLogits"], many.arrays["PreLogits"], rtol=1e-5, atol=1e-6)


# --- What is taken ---------------------------------------------------------------------


def test_what_is_finished_is_taken_and_then_removed(stopped, again):
    out, _ = stopped
    assert [path.name for path in pieces_of(out)] == ["part-00000.parquet", "part-00008.parquet"]
    assert again() == 30 - 16 and not (out / pieces.PIECES).exists()


def test_readers_see_no_piece(stopped):
    out, _ = stopped
    assert len(features.load(out, partial=True)) == 0 and dataset.finished(out) == (0, 30)
    with pytest.raises(ValueError, match="is not finished .0 of 1 shards are there"):
        features.load(out)
    shutil.copytree(out / pieces.PIECES, out / "copy" / pieces.PIECES)
    assert pq.ParquetDataset(out / "copy").files == []


DAMAGE = {
    "cut": lambda content: content[:-9],
    "empty": lambda content: b"",
    "zeroed": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "text": lambda content: b"no piece",
}


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("how", [*DAMAGE, "gone", "a folder", "the other"])
def test_a_damaged_piece_is_computed_again(stopped, again, how, which):
    path, other = pieces_of(stopped[0])[which], pieces_of(stopped[0])[1 - which]
    content = path.read_bytes()
    path.unlink()
    if how in DAMAGE:
        path.write_bytes(DAMAGE[how](content))
    elif how == "the other":
        shutil.copy(other, path)
    elif how == "a folder":
        path.mkdir()
        with pytest.raises(ValueError, match="is a folder, and only a file is ever replaced"):
            again()
        path.rmdir()
    assert again() == 30 - 8 * which


def test_a_flipped_bit_anywhere_in_a_piece_changes_nothing(stopped, folder, extract, tmp_path):
    out, truth = stopped
    size, taken = len(pieces_of(out)[0].read_bytes()), 0
    for place in range(0, size, size // 40):
        copy = tmp_path / "copy"
        shutil.copytree(out, copy)
        content = bytearray(pieces_of(copy)[0].read_bytes())
        content[place] ^= 1
        pieces_of(copy)[0].write_bytes(content)
        summary = extract(folder, copy, batch=BATCH, shard_rows=512)
        assert summary.computed in (14, 30) and files(copy) == truth
        taken += summary.computed == 14  # some of Parquet's own bytes say nothing
        shutil.rmtree(copy)
    assert taken < 30


@pytest.mark.parametrize("name", ["odd/11.jpg", "even/00.jpg", "even/18.jpg"])
def test_pieces_of_pictures_that_changed_are_not_taken(stopped, extract, folder, tmp_path, name):
    shutil.copy(folder / "even" / "04.jpg", folder / name)
    first = sorted(map(str, folder.rglob("*.jpg"))).index(str(folder / name))
    summary = extract(folder, stopped[0], batch=BATCH, shard_rows=512)
    assert summary.computed == 30 - min(first // 8 * 8, 16)
    extract(folder, tmp_path / "fresh", batch=BATCH, shard_rows=512)
    assert files(stopped[0]) == files(tmp_path / "fresh")


@pytest.mark.parametrize("other", ["weights", "batch", "end points", "picture", "list"])
def test_pieces_of_another_extraction_are_never_taken(stopped, again, extract, folder, weights, tmp_path, other):
    out, _ = stopped
    options = {"network": random_weights(weights.variant, 1)} if other == "weights" else {}
    options |= {"end_points": ("Mixed_7c",)} if other == "end points" else {}
    options |= {"picture": "slim"} if other == "picture" else {}
    options |= {"batch": 4 if other == "batch" else BATCH, "shard_rows": 512}
    source = folder
    if other == "list":
        source = thirty_pictures(tmp_path / "others")

    def stop(done, total, errors):
        if done >= 24:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(source, tmp_path / "other", progress=stop, **options)
    shutil.rmtree(out / pieces.PIECES)
    shutil.copytree(tmp_path / "other" / pieces.PIECES, out / pieces.PIECES)
    assert again() == 30


def forged(path, change):
    """The same piece with something else said of it, and the digest that fits."""
    table = pq.read_table(path)
    said = json.loads(table.schema.metadata[b"inception_shard"])
    change(said)
    bare = table.replace_schema_metadata(None)
    said["content"] = dataset._content(bare, said)
    whole = table.schema.metadata | {b"inception_shard": json.dumps(said).encode()}
    pq.write_table(table.replace_schema_metadata(whole), path)


@pytest.mark.parametrize(
    "change",
    [
        {"start": 8}, {"stop": 600}, {"stop": 4}, {"stop": 0}, {"errors": [["a", "b"]] * 30}, {"inputs": ""},
        {"stop": 9, "errors": [["x", "no such picture"]]},
    ],
)  # fmt: skip
def test_a_piece_that_says_what_cannot_be_is_not_taken(stopped, again, change):
    forged(pieces_of(stopped[0])[0], lambda said: said.update(change))
    assert again() == 30


def test_what_was_left_of_a_shard_that_is_done_goes(folder, extract, tmp_path, monkeypatch, a_piece_a_batch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(pieces, "forget", stop)
        extract(folder, tmp_path / "out", shard_rows=512, batch=BATCH)
    assert len(pieces_of(tmp_path / "out")) == 3 and (tmp_path / "out" / "part-00000.parquet").exists()
    assert extract(folder, tmp_path / "out", shard_rows=512).computed == 0
    assert not (tmp_path / "out" / pieces.PIECES).exists()


@pytest.mark.parametrize("lost", ["none", "of one", "of the other"])
def test_several_ways_of_a_picture_go_on_each_with_its_pieces(folder, extract, tmp_path, a_piece_a_batch, lost):
    def stop(done, total, errors):
        if done >= 24:
            raise KeyboardInterrupt

    for name in ("whole", "out"):
        ways = {"picture": "slim", "also": {tmp_path / f"{name}-also": "whole,size=75"}}
        ways |= {"batch": BATCH, "shard_rows": 512}
        if name == "out":
            with pytest.raises(KeyboardInterrupt):
                extract(folder, tmp_path / name, **ways, progress=stop)
            if lost != "none":
                pieces_of(tmp_path / ("out" if lost == "of one" else "out-also"))[1].unlink()
        computed = extract(folder, tmp_path / name, **ways).computed
    assert computed == (14 if lost == "none" else 22)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert files(tmp_path / "out-also") == files(tmp_path / "whole-also")


# --- Ray -------------------------------------------------------------------------------


@pytest.mark.thorough  # test_ray.py kills a worker; torture_features.py kills many
def test_another_worker_goes_on_with_the_pieces_of_a_killed_one(many, extract, tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    out, killed = tmp_path / "ray", []

    def kill():
        while not pieces_of(out):
            time.sleep(0.01)
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            if entry.read_bytes().startswith(b"ray::MapWorker(MapBatches(Worker))"):
                killed.append(int(entry.parent.name))
                os.kill(killed[-1], signal.SIGKILL)

    def slowly(pixels):
        time.sleep(0.04)
        return inception.preprocess_input(pixels)

    options = {"shard_rows": 512, "preprocess": slowly, "threads": 1}
    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        summary = extract(many, out, engine="ray", workers=1, **options)
    finally:
        ray.shutdown()
    thread.join(1)
    # A piece of two seconds was there, a batch at least however slow the machine.
    assert len(killed) == 1 and summary.pictures - 100 < summary.computed <= summary.pictures - BATCH
    extract(many, tmp_path / "here", **options, engine=features.load(out).metadata["engine"])
    assert files(out) == files(tmp_path / "here")
