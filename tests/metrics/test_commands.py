"""The verbs metrics and statistics in trouble: killed, stopped, two at once, without room, with sides that are none."""

import functools
import json
import os
import random
import resource
import signal
import time
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torture_features
from made import first
from torture_features import command, outcome, two_sides
from typer.testing import CliRunner

from inception.cli import app
from inception.files.errors import CorruptFile
from inception.metrics import measure, statistics_files

ROWS = np.random.default_rng(0).random((50, 12)).astype(np.float32)
COVARIANCE = np.cov(ROWS, rowvar=False)
# A test run that was started in the background ignores Ctrl-C, and its children would inherit that.
HEARD = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return two_sides(tmp_path_factory.mktemp("commands"), 60)


@pytest.fixture(scope="module")
def truth(place):
    return {verb: outcome(place, verb, command(place, verb, f"whole-{verb}")) for verb in torture_features.COMMANDS}


@pytest.mark.parametrize(("verb", "rows"), [("metrics", 20), ("statistics", 8)])
def test_killed_and_resumed_is_undisturbed(place, truth, verb, rows):
    found = torture_features.killed_command(place, verb, rows, 2, 3, random.Random(rows))
    assert found == truth[verb] and not list(place.glob(".inception*"))


def waited_for_a_shard(place, work, child):
    while child.poll() is None and not list((place / work).glob("*/part-*.parquet")):
        time.sleep(0.01)


@pytest.mark.parametrize("verb", first(1, torture_features.COMMANDS))
def test_ctrl_c_is_130_and_a_sentence(place, truth, verb):
    (place / "out.npz").unlink(missing_ok=True)
    child = command(place, verb, f"stopped-{verb}", "--shard-rows", 2, "--batch", 1, preexec_fn=HEARD)
    waited_for_a_shard(place, f"stopped-{verb}", child)
    child.send_signal(signal.SIGINT)
    said, complained = child.communicate()
    assert (child.returncode, said) == (130, b"") and not (place / "out.npz").exists()
    assert complained.decode() == f"inception: stopped; the same command goes on with what is in stopped-{verb}.\n"
    assert outcome(place, verb, command(place, verb, f"stopped-{verb}", "--shard-rows", 2, "--batch", 1))


def test_two_at_once_on_one_folder(place, truth):
    children = [command(place, "metrics", "shared") for _ in range(2)]
    ends = {(*child.communicate()[::-1], child.returncode) for child in children}
    assert any(said == truth["metrics"] for _, said, _ in ends)
    for complained, said, code in ends:
        assert (said, code) == (truth["metrics"], 0) or (code == 2 and b"Another process is writing" in complained)


@pytest.mark.parametrize("room", [1000, 40_000])
def test_without_room_it_is_a_sentence_and_goes_on(place, truth, room):
    """First of the features, then of the file of statistics."""
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (room, room))
    (place / "out.npz").unlink(missing_ok=True)
    child = command(place, "statistics", f"full-{room}", "--shard-rows", 8, preexec_fn=limit)
    said, complained = child.communicate()
    assert (child.returncode, said, complained.count(b"\n")) == (2, b"", 1) and b"File too large" in complained
    assert not (place / "out.npz").exists() and not list(place.glob("**/.inception*"))
    assert (
        outcome(place, "statistics", command(place, "statistics", f"full-{room}", "--shard-rows", 8))
        == truth["statistics"]
    )


# ---- sides


def lists(*rows, kind=None):
    return pa.table({"features": pa.array([*rows], kind or pa.list_(pa.float32()))})


def moments(**changes):
    return {"mu": ROWS.mean(axis=0), "sigma": COVARIANCE} | changes


def hole(array, value=np.nan):
    array = np.array(array)
    array[3, 4] = value
    return array


NPZ = {
    "x": {"x": ROWS}, "numpy's own name": {"arr_0": ROWS}, "half": {"x": ROWS.astype(np.float16)},
    "NaN": {"x": hole(ROWS)}, "infinity": {"feats": hole(ROWS, np.inf)}, "one row": {"x": ROWS[:1]},
    "narrower": {"x": ROWS[:, :9]}, "two arrays": {"a": ROWS, "b": ROWS}, "objects": {"x": np.array([{}], object)},
    "no rows": {"x": ROWS[:0]}, "no columns": {"x": ROWS[:, :0]}, "of moments": moments(),
    "of float32": moments(sigma=COVARIANCE.astype(np.float32)), "of NaN": moments(sigma=hole(COVARIANCE)),
    "ADM's": moments(arr_0=np.zeros((3, 8, 8, 3), np.uint8)),
    "of one": {"mu": ROWS.mean(axis=0)}, "of another width": moments(mu=np.zeros(9), sigma=np.eye(9)),
    "not symmetric": moments(sigma=hole(COVARIANCE, 7)),
    "not positive": moments(sigma=np.eye(12) + 5 * (np.eye(12, k=1) + np.eye(12, k=-1))),
}  # fmt: skip
PARQUET = {
    "lists": lists(*ROWS.tolist()), "doubles": lists(*ROWS.tolist(), kind=pa.large_list(pa.float64())),
    "fixed": lists(*ROWS.tolist(), kind=pa.list_(pa.float32(), 12)), "ragged": lists([1.0], [1.0, 2.0]),
    "null row": lists(*ROWS.tolist(), None), "null": lists(*ROWS.tolist(), [None] * 12), "none": lists(),
    "not flat": lists([[1.0]], kind=pa.list_(pa.list_(pa.float32()))),
    "two columns": pa.table({name: lists(*ROWS.tolist())["features"] for name in "ab"}),
}  # fmt: skip
SIDES = {  # of what is taken None, else the sentence
    **dict.fromkeys(("x.npz", "numpy's own name.npz", "half.npz", "of moments.npz", "of float32.npz", "lists.parquet",
                     "doubles.parquet", "fixed.parquet", "ADM's.npz")),
    "NaN.npz": "y: NaN or infinity in row 3", "infinity.npz": "y: NaN or infinity in row 3",
    "null.parquet": "y: NaN or infinity in row 50", "one row.npz": "1 rows; expected at least 2",
    "narrower.npz": "y: 9 features a picture, the other set has 12", "two arrays.npz": "has a, b; expected mu",
    "objects.npz": "pickled Python objects, which may be code", "no rows.npz": "0 rows; expected at least 2",
    "no columns.npz": "expected real numbers of shape", "of NaN.npz": "of NaN.npz: its statistics hold NaN or infinity",
    "of one.npz": "has one of mu and sigma", "of another width.npz": "is of features 12 wide and",
    "not symmetric.npz": "its covariance is not symmetric, by", "not positive.npz": "eigenvalue of -",
    "ragged.parquet": "ragged.parquet: the rows of features are not of one length",
    "null row.parquet": "the rows of features are not of one length", "none.parquet": "are not of one length",
    "not flat.parquet": "no column of paths or of pictures", "two columns.parquet": "several columns of features: a, b",
    "cut.parquet": "cut.parquet is no Parquet file that can be read", "flipped.parquet": "features cannot be read",
    "huge.parquet": "too many for such a file", "x.npy": "x.npy is one picture at most", "pipe.npz": "is one",
    "nothing": "nothing does not exist", "empty": "empty has no pictures", "folder.npz": "folder.npz has no pictures",
    "one": "one is one picture at most", "empty.zip": "empty.zip has no pictures", "empty.npz": "cut short",
    "-": "Nothing came by stdin", "/dev/null": "/dev/null is one picture at most",
}  # fmt: skip


@pytest.fixture(scope="module")
def sides(tmp_path_factory, place):
    folder = tmp_path_factory.mktemp("sides")
    for name, arrays in NPZ.items():
        np.savez(folder / f"{name}.npz", **arrays)
    for name, table in PARQUET.items():
        pq.write_table(table, folder / f"{name}.parquet", write_page_checksum=True)
    sound = (folder / "lists.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(sound[:-9])
    (folder / "flipped.parquet").write_bytes(sound[:300] + bytes([sound[300] ^ 1]) + sound[301:])
    pq.write_table(lists(*np.zeros((200, 1 << 10)).tolist()), folder / "huge.parquet")
    np.save(folder / "x.npy", ROWS)
    os.mkfifo(folder / "pipe.npz")
    for name in ("empty", "folder.npz", "one"):
        (folder / name).mkdir()
    os.link(place / "generated" / "000000.jpg", folder / "one" / "a.jpg")
    zipfile.ZipFile(folder / "empty.zip", "w").close()
    (folder / "empty.npz").write_bytes(b"")
    return folder


@pytest.mark.parametrize("name", SIDES)
def test_each_side_is_taken_or_said(name, sides, monkeypatch):
    """Before any network is looked for: it is not on this disk, and must not be downloaded for this."""
    monkeypatch.chdir(sides)
    monkeypatch.setattr("inception.metrics.sides._MOST_BYTES", 1 << 20)
    monkeypatch.setattr(measure.taps, "network", lambda _: pytest.fail("a network was asked for"))
    run = CliRunner().invoke(app, ["metrics", "x.npz", name, "--json"])
    if SIDES[name] is None:
        [row] = json.loads(run.stdout)
        assert (row["metric"], row["weights"]) == ("not FID", "unknown") and row["value"] < 1e-4
    else:
        assert isinstance(run.exception, ValueError) and SIDES[name] in str(run.exception), run.exception
        assert "\n" not in str(run.exception) and run.stdout == ""


def test_a_footer_that_pyarrow_dies_of(sides, monkeypatch):
    monkeypatch.setattr("inception.metrics.sides._COUNT", "import os; os.abort()")
    with pytest.raises(CorruptFile, match=r"lists\.parquet: its footer cannot be read"):
        measure.measure(sides / "lists.parquet", sides / "x.npz")


@pytest.mark.parametrize("width", [384, 512, 1024])
def test_features_of_other_networks_on_both_sides(width, tmp_path):
    """DINO's and CLIP's widths: the functions' own numbers, labelled as what they are not."""
    from inception import metrics

    x, y = np.random.default_rng(1).random((2, 40, width), np.float32)
    np.savez(tmp_path / "x.npz", embeddings=x)
    pq.write_table(pa.table({"id": range(40), "embedding": pa.array(y.tolist(), pa.list_(pa.float32()))}),
                   tmp_path / "y.parquet")  # fmt: skip
    for a, b, one, other in (("x.npz", "y.parquet", x, y), ("y.parquet", "x.npz", y, x)):
        rows = measure.measure(tmp_path / a, tmp_path / b, metrics="fid,pr,fid-infinity")
        assert [row.metric for row in rows] == ["not FID", "precision", "recall", "not FID-INFINITY"]
        assert rows[0].value == metrics.fid(one, other).value and rows[0].weights == "unknown"
        assert (rows[0].n_generated, rows[0].n_reference) == (40, 40)
    found = measure.statistics_of(tmp_path / "x.npz", "clean")
    statistics_files.write(tmp_path / "s.npz", found["fid"])
    [row] = measure.measure(tmp_path / "y.parquet", tmp_path / "s.npz")
    assert row.metric == "not FID" and row.value == pytest.approx(metrics.fid(y, x).value, rel=1e-5)


def test_clean_fids_features_for_kid_are_of_the_network_of_2015(tmp_path):
    """By their name and width: other programs' statistics, too, are taken for what these programs make."""
    for name, width in (("pool", 2048), ("clip", 512)):
        np.savez(tmp_path / f"{name}.npz", feats=np.random.default_rng(len(name)).random((20, width), np.float32))
    for name, metric in (("pool", "kid"), ("clip", "not KID")):
        rows = measure.measure(tmp_path / f"{name}.npz", tmp_path / f"{name}.npz", metrics="kid")
        assert [row.metric for row in rows] == [metric]


def test_statistics_of_another_protocol_are_not_called_by_this_one(tmp_path, place):
    measured = measure.statistics_of(
        place / "generated",
        "clean",
        weights=place / "w.safetensors",
        engine="onnxruntime",
        work=place / "whole-metrics",
    )
    statistics_files.write(tmp_path / "s.npz", measured["fid"])
    with pytest.raises(ValueError, match="of the protocol clean and what is asked of adm"):
        measure.measure(tmp_path / "s.npz", tmp_path / "s.npz", protocols="adm")
    [row] = measure.measure(tmp_path / "s.npz", tmp_path / "s.npz")
    assert (row.metric, row.n_generated) == ("not FID", 60) and row.weights.startswith("features sha256:")


def test_a_folder_that_is_none_and_a_target_that_is_there(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    runner, weights = CliRunner(), ["--weights", "w.safetensors"]
    (tmp_path / "file").write_bytes(b"mine")
    for words, match in (
        (["metrics", "generated", "reference", "--work", str(tmp_path / "file")], "file/.* cannot be written"),
        (["statistics", "generated", str(tmp_path / "file")], "is there already"),
        (["statistics", "generated", str(tmp_path)], "is a folder"),
    ):
        run = runner.invoke(app, [*words, *weights])
        with pytest.raises((ValueError, OSError), match=match):
            raise run.exception
    assert (tmp_path / "file").read_bytes() == b"mine" and os.listdir(tmp_path) == ["file"]


def test_a_set_with_itself(place, monkeypatch):
    monkeypatch.chdir(place)
    options = {"weights": "w.safetensors", "engine": "onnxruntime", "work": "whole-metrics", "metrics": "fid,sfid"}
    for row in measure.measure("generated", "generated", **options):
        assert 0 <= row.value < 1e-12 and row.n_generated == row.n_reference == 60
