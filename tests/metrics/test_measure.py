"""One call from pictures, folders, archives, features and statistics to rows, and the two verbs over it."""

import dataclasses
import hashlib
import json
import re
import shutil
import zipfile
from dataclasses import replace

import made_features
import numpy as np
import pytest
from made import noise, random_weights
from PIL import Image
from typer.testing import CliRunner

from inception import features, metrics
from inception.cli import app
from inception.metrics import measure as room
from inception.metrics import statistics_files, taps
from inception.metrics.measure import FewPictures, measure
from inception.metrics.protocols import FEATURES, PROTOCOLS
from inception.variants import GOOGLE_2015
from inception.weights.formats import save
from inception.weights.published import catalogue

pytestmark = pytest.mark.filterwarnings("ignore::inception.metrics.measure.FewPictures")
KEYS = ["metric", "protocol", "value", "error", "n_generated", "n_reference", "weights", "picture", "version"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two folders of 12 pictures of mixed sizes, and weights in the shape of 2015."""
    folder = tmp_path_factory.mktemp("metrics")
    for side, first in (("generated", 0), ("reference", 100)):
        (folder / side / "below").mkdir(parents=True)
        for i in range(12):
            pixels = noise(40 + i, 60, 3, seed=first + i) // (1 + first // 50)
            Image.fromarray(pixels).save(folder / side / ("below" if i % 2 else "") / f"{i:02}.png")
    save(random_weights(GOOGLE_2015), folder / "w.safetensors")
    return folder


@pytest.fixture(scope="module")
def run(place):
    def run(generated="generated", reference="reference", **options):
        options = {"weights": place / "w.safetensors", "work": place / "work", "engine": "onnxruntime"} | options
        return measure(place / generated, place / reference, **options)

    return run


def test_a_row_is_the_metric_of_the_features(run, place):
    rows = run(protocols="adm,stylegan", metrics="fid,pr,is")
    assert [(row.metric, row.protocol) for row in rows] == [
        (metric, name)
        for name in ("adm", "stylegan")
        for metric in ("unproven FID", "precision", "recall", "unproven IS")
    ]
    sides = []
    for side in ("generated", "reference"):
        features.extract(place / side, place / "own" / side, place / "w.safetensors",
                         picture=PROTOCOLS["adm"].picture, engine="onnxruntime")  # fmt: skip
        sides.append(features.load(place / "own" / side).arrays[FEATURES])
    assert rows[0].value == metrics.fid(*sides).value and rows[0].error > 0
    assert rows[4].value != rows[0].value  # another resize, and divided by n
    expected = metrics.inception_score(taps.logits(sides[0], random_weights(GOOGLE_2015)), PROTOCOLS["adm"].splits)
    assert rows[3].value == pytest.approx(expected.value, rel=1e-6) and rows[3].n_reference is None
    assert (rows[0].n_generated, rows[0].n_reference, rows[0].picture) == (12, 12, "google_2015,upright=false")
    assert rows[0].weights.startswith("w.safetensors sha256:") and rows[0].weights.endswith(", not known as published")
    assert list(rows[0].json()) == KEYS


def test_the_network_runs_once_a_way_of_a_picture(run, place, tmp_path):
    rows = run(protocols="all", metrics="fid,sfid", work=tmp_path)
    assert len(rows) == 20 and len(list(tmp_path.iterdir())) == 10  # five ways, two sides
    by = {(row.metric.removeprefix("unproven ").lower(), row.protocol): row.value for row in rows}
    assert by["fid", "ttur"] == by["fid", "adm"] == by["fid", "torch-fidelity"]
    assert by["fid", "stylegan"] < by["fid", "edm"] == by["fid", "clean-legacy-tensorflow"]
    assert len({round(by["fid", name], 6) for name in ("adm", "pytorch-fid", "clean", "torchmetrics")}) >= 3


def test_archives_and_arrays_and_statistics_give_what_the_pictures_give(run, place, tmp_path):
    pixels = noise(6, 50, 50, 3)
    (tmp_path / "folder").mkdir()
    for i, each in enumerate(pixels):
        Image.fromarray(each).save(tmp_path / "folder" / f"{i}.png")
    np.savez(tmp_path / "a.npz", arr_0=pixels)
    np.savez_compressed(tmp_path / "b.npz", arr_0=pixels)
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        for i in range(6):
            archive.write(tmp_path / "folder" / f"{i}.png", f"sub/{i}.png")
    options = {"protocols": "clean", "weights": place / "w.safetensors", "engine": "onnxruntime"}
    expected = measure(tmp_path / "folder", place / "reference", **options)[0].value
    for name in ("a.npz", "b.npz", "c.zip"):
        assert measure(tmp_path / name, place / "reference", **options)[0].value == expected
    parts = room.statistics_of(place / "reference", "clean", weights=options["weights"], engine="onnxruntime")
    statistics_files.write(tmp_path / "s.npz", parts["fid"], spatial=parts["spatial"])
    row = measure(tmp_path / "folder", tmp_path / "s.npz", **options)[0]
    assert row.value == pytest.approx(expected, rel=1e-6) and row.n_reference == 12


def test_what_does_not_fit_is_said(run, place, tmp_path):
    weights = place / "w.safetensors"
    with pytest.raises(ValueError, match=r"Unknown metric 'fad' \(did you mean fid\?\); expected some of fid, kid, "):
        run(metrics="fad")
    features.extract(place / "generated", tmp_path / "f", weights, picture=PROTOCOLS["adm"].picture)
    with pytest.raises(ValueError, match="the protocols that fit it: ttur, torch-fidelity, adm"):
        measure(tmp_path / "f", place / "reference", protocols="clean", weights=weights)
    other = random_weights(GOOGLE_2015, seed=1)
    with pytest.raises(ValueError, match="compare those of one network"):
        measure(tmp_path / "f", place / "reference", protocols="adm", weights=other, engine="onnxruntime")
    parts = room.statistics_of(place / "reference", "edm", weights=weights, work=place / "work", engine="onnxruntime")
    statistics_files.write(tmp_path / "s.npz", parts["fid"])
    with pytest.raises(ValueError, match="compare statistics of one protocol"):
        run(reference=tmp_path / "s.npz", protocols="stylegan")
    with pytest.raises(ValueError, match="expected at least 1000"):
        run(protocols="torch-fidelity", metrics="kid")
    with pytest.warns(UserWarning, match="kid, torch-fidelity: x: 12 rows; expected at least 1000"):
        assert [row.protocol for row in run(protocols="torch-fidelity,clean", metrics="kid")] == ["clean"]
    with pytest.warns(FewPictures, match="12 generated and 12 reference pictures.*too large, here by about"):
        run()


def test_a_bias_that_so_few_cannot_tell_is_not_told():
    """A line through distances of fewer pictures than features ends above them."""
    x, y = made_features.features(30, 1, 256, 0.05), made_features.features(3000, 2, 256)
    assert metrics.fid_infinity(x, y).value > metrics.fid(x, y).value
    with pytest.warns(FewPictures, match="is too large, by more than so few can tell. Compare"):
        measure(x, y)


def test_a_side_without_a_readable_picture_says_why(run, tmp_path):
    (tmp_path / "broken").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "broken" / name).write_bytes(b"none")
    with pytest.raises(
        ValueError, match=r"broken: no picture could be read, the first because: .*a\.png is no picture"
    ):
        run(reference=tmp_path / "broken")


def test_another_network_s_distance_is_not_fid(place):
    narrow = random_weights(dataclasses.replace(GOOGLE_2015, depth_multiplier=0.1, min_depth=4))
    options = {"metrics": "fid,pr", "engine": "onnxruntime"}
    rows = measure(place / "generated", place / "reference", weights=narrow, **options)
    assert [row.metric for row in rows] == ["not FID", "precision", "recall"]
    x, y = np.random.default_rng(0).random((2, 30, 8))
    [row] = measure(x, y)
    assert (row.metric, row.weights, row.value) == ("not FID", "unknown", metrics.fid(x, y).value)


def test_fid_is_what_the_published_weights_give(place, tmp_path, monkeypatch):
    """By the digest of their file, or of the arrays in any other file, while the published one is on this disk."""
    file = shutil.copy(place / "w.safetensors", tmp_path / "pt_inception-2015-12-05-6726825d.pth")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    files = [replace(k, sha256=digest) if k.id == taps.PUBLISHED else k for k in catalogue.FILES]
    monkeypatch.setattr(catalogue, "FILES", tuple(files))
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path))
    options = {"engine": "onnxruntime", "work": tmp_path / "work"}
    other = save(random_weights(GOOGLE_2015), tmp_path / "w.npz")
    for given, name in ((None, taps.PUBLISHED), (other, "w.npz")):
        [row] = measure(place / "generated", place / "reference", weights=given, **options)
        assert row.metric == "fid" and re.fullmatch(f"{name} sha256:[0-9a-f]{{12}}", row.weights)
    [folder, other] = sorted((tmp_path / "work").iterdir())
    assert measure(folder, other)[0].metric == "fid"
    file.unlink()
    assert measure(folder, other)[0].metric == "unproven FID"


def test_without_the_weights_a_sentence_says_what_to_fetch(place, tmp_path, monkeypatch):
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "pt_inception-2015-12-05-6726825d.pth").write_bytes(b"another file")
    with pytest.raises(ValueError, match=r"pt_inception-2015-12-05-6726825d.pth.*its SHA-256 begins with 6726825d\."):
        measure(place / "generated", place / "reference")


def test_the_commands(place, tmp_path):
    def invoke(*words):
        options = ["--weights", place / "w.safetensors", "--engine", "onnxruntime", "--work", place / "work"]
        return CliRunner().invoke(app, [*map(str, words), *map(str, options)], catch_exceptions=False)

    said = invoke("statistics", place / "reference", tmp_path / "s.npz", "--protocol", "adm")
    assert said.exit_code == 0 and "12 pictures, adm, fid, spatial" in said.stdout
    said = invoke("metrics", place / "generated", tmp_path / "s.npz", "--protocol", "adm", "--metric", "fid,sfid")
    assert said.exit_code == 0 and "google_2015,upright=false" in said.stdout and said.stdout.count("adm") == 2
    said = invoke("metrics", place / "generated", place / "reference", "--protocol", "adm,edm", "--json")
    rows = json.loads(said.stdout)
    assert [list(row) for row in rows] == [KEYS, KEYS] and [row["protocol"] for row in rows] == ["adm", "edm"]
    assert "of fewer than 10,000" in said.stderr
    with pytest.raises(ValueError, match="is there already|exists"):
        invoke("statistics", place / "reference", tmp_path / "s.npz")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_another_precision_is_near_and_the_row_says_it(run, tmp_path, precision):
    openvino = pytest.importorskip("openvino")
    if precision == "bfloat16" and "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    if precision == "int8":
        pytest.importorskip("nncf")
    narrow = random_weights(dataclasses.replace(GOOGLE_2015, depth_multiplier=0.125, min_depth=8))
    given = {"metrics": "fid", "work": tmp_path, "engine": "auto", "least_agreement": 0.5, "weights": narrow}
    [exact] = run(**given)
    for _ in range(2):  # the second time from the folders
        [near] = run(**given, precision=precision)
        assert near.value == pytest.approx(exact.value, rel=0.1) and near.value != exact.value
        assert near.weights.startswith(f"{exact.weights} in {precision}") and " in " not in exact.weights
    found = [(features.load(folder).metadata, folder) for folder in tmp_path.iterdir()]
    networks = [said["int8"]["network"] for said, _ in found if said["precision"] == "int8"]
    assert len(found) == 4 and len(set(networks)) == len(networks) / 2  # both sides have one
    mixed = {said["precision"]: folder for said, folder in found}
    with pytest.warns(UserWarning, match=f"in float32 and .* in {precision}.*: a part of the distance is that"):
        measure(mixed["float32"], mixed[precision], protocols="clean")
