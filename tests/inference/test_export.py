"""Exports: each file in its own runtime gives the Keras builder's numbers, or is not there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, first, random_weights, with_nan
from made import photographs as made_photographs
from reference import SMALL, assert_close, floats, keras_end_points, pixels
from typer.testing import CliRunner

from inception import verify
from inception.cli import app
from inception.inference import export as exports
from inception.inference import int8
from inception.inference.export import Unproven, export
from inception.pictures import preprocess_input
from inception.weights.canonical import Source, written

FILES = {"net.onnx": ("onnx", "onnxruntime"), "net.tflite": (), "net.xml": ("onnx", "openvino"), "net": ()}


@pytest.fixture(autouse=True)
def computed_once(monkeypatch):
    """What a file is proven by is built once for all files of the same weights."""
    monkeypatch.setattr(verify, "keras_end_points", keras_end_points)


@pytest.fixture(params=FILES)
def name(request):
    for package in FILES[request.param]:
        pytest.importorskip(package)
    return request.param


def reader(path):
    return exports._READERS[exports.KINDS[path.suffix]](path)


def test_every_format_is_equal_and_named(name, tmp_path):
    weights = random_weights(dataclasses.replace(NARROW_AUX, border="include", gamma=True))
    names = ("Mixed_5b", "AuxLogits", "PreLogits", "Predictions")
    made = export(weights, tmp_path / name, end_points=names, image_size=107)
    assert [row.end_point for row in made.differences] == list(names)
    assert max(row.relative for row in made.differences) <= exports.RELATIVE
    batch = floats(2, 107)
    found = reader(made.path)(batch)
    assert_close({point: found[point] for point in names}, keras_end_points(weights, batch), names)
    assert set(found) == set(names)
    assert {path.suffix for path in tmp_path.iterdir()} == {made.path.suffix, *([".bin"] if name == "net.xml" else [])}


def test_any_batch_and_uint8_pixels(name, tmp_path):
    weights = random_weights()
    made = export(weights, tmp_path / name, image_size=SMALL, pixels=True)
    run, expected = reader(made.path), keras_end_points(weights, floats(8))
    for count in (1, 8):
        assert_close(run(pixels(8)[:count]), {"Predictions": expected["Predictions"][:count]}, ["Predictions"])


def test_any_size(name, tmp_path):
    weights = random_weights(NARROW_NOTOP)
    made = export(weights, tmp_path / name)
    batch = floats(1, 90)
    assert_close(reader(made.path)(batch), keras_end_points(weights, batch), ["PreLogits"])


@pytest.mark.parametrize("name", ["net.onnx", "net"], indirect=True)
def test_an_older_file_is_replaced(name, tmp_path):
    for seed in (0, 1):
        export(random_weights(seed=seed), tmp_path / name, image_size=SMALL)
    expected = keras_end_points(random_weights(seed=1), floats())
    assert_close(reader(tmp_path / name)(floats()), expected, ["Predictions"])


@pytest.mark.parametrize("name", ["net.xml", "net"], indirect=True)
def test_a_file_that_differs_is_not_kept(name, tmp_path, monkeypatch):
    real = exports._keras
    monkeypatch.setattr(exports, "_keras", lambda *a: {k: v * 1.001 for k, v in real(*a).items()})
    with pytest.raises(Unproven, match="was not written: its Predictions differ from the Keras builder's by"):
        export(random_weights(), tmp_path / name, image_size=SMALL)
    assert not list(tmp_path.iterdir())


def test_not_a_number_is_not_equal(tmp_path, monkeypatch):
    real = exports._keras
    monkeypatch.setattr(exports, "_keras", lambda *a: {k: v * np.float32("nan") for k, v in real(*a).items()})
    with pytest.raises(Unproven, match="its Predictions differ from the Keras builder's by inf"):
        export(random_weights(), tmp_path / "net", image_size=SMALL)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_not_exported(tmp_path):
    with pytest.raises(ValueError, match="weights that are not finite .* for Mixed_5b/Branch_0/Conv2d_0a_1x1"):
        export(with_nan(), tmp_path / "net", image_size=SMALL)
    assert not list(tmp_path.iterdir())


def test_agreement_that_is_no_number_is_too_little(tmp_path, monkeypatch):
    nothing = int8.Agreement(2, None, float("nan"), float("nan"))
    monkeypatch.setattr(exports, "_write_int8", lambda *a: nothing)
    with pytest.raises(Unproven, match="was not written: int8 on 2"):
        export(random_weights(), tmp_path / "net.xml", calibration=floats(10))
    assert not nothing.enough and not list(tmp_path.iterdir())


def test_calibration_images_of_another_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match="The calibration images have values from 0 to 255; these weights take -1 to"):
        export(random_weights(), tmp_path / "net.xml", calibration=pixels(10).astype(np.float32))
    assert not list(tmp_path.iterdir())


def test_metadata_goes_with_the_file(tmp_path):
    weights = random_weights()
    folder = export(weights, tmp_path / "net", image_size=SMALL).path
    found = json.loads((folder / "assets.extra" / "inception.json").read_text())
    assert written(found["inception_variant"], "it")[0] == NARROW
    assert "labels" not in found
    named = random_weights(dataclasses.replace(NARROW, num_classes=1001))
    folder = export(named, tmp_path / "named", image_size=SMALL).path
    assert json.loads(json.loads((folder / "assets.extra" / "inception.json").read_text())["labels"])[1] == "tench"


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("net.pb", {}, "net.pb has no ending of a format; expected .onnx"),
        ("missing/net.onnx", {}, "does not exist; make it first"),
        ("full", {}, "is a folder with other things in it"),
        ("net.tflite", {"calibration": []}, "LiteRT is not written in int8 here"),
        ("net", {"end_points": ("Mixed_9z",)}, "Unknown end point"),
        ("net", {"batch": 0}, "batch is 0; expected at least 1"),
        ("net", {"image_size": (75, 75, 3)}, "expected a side, or "),
    ],
)
def test_what_cannot_be_written(target, options, message, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=message):
        export(random_weights(), tmp_path / target, **options)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "notes.txt"]


# --- Nothing of the user's is lost -------------------------------------------------------


def exported(folder, text="old"):
    """A folder as `export` leaves it, with other bytes in it."""
    (folder / "variables").mkdir(parents=True)
    (folder / "assets.extra").mkdir()
    for name in ("saved_model.pb", "variables/variables.index"):
        (folder / name).write_text(text)
    (folder / exports._SAID).write_text(json.dumps({"files": exports._contents(folder)}))
    return folder


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else "" for path in folder.rglob("*")}


THEIRS = {
    "of another program": lambda folder: (folder / exports._SAID).unlink(),
    "with a thesis": lambda folder: (folder / "thesis.txt").write_text("mine"),
    "with a folder": lambda folder: (folder / "notes").mkdir(),
    "with a thesis deep inside": lambda folder: (folder / "assets.extra" / "thesis.txt").write_text("mine"),
    "trained again": lambda folder: (folder / "variables/variables.index").write_text("new"),
    "without a part": lambda folder: (folder / "variables/variables.index").unlink(),
    "with a mark that says nothing": lambda folder: (folder / exports._SAID).write_text("[]"),
}


@pytest.mark.parametrize("change", THEIRS.values(), ids=THEIRS)
def test_a_folder_that_is_not_as_it_was_exported_stays(tmp_path, monkeypatch, change):
    monkeypatch.setattr(exports.plans, "plan", None)  # no work before the refusal
    change(exported(tmp_path / "net"))
    (tmp_path / "link").symlink_to("net")
    before = contents(tmp_path)
    for target in ("net", "link"):
        with pytest.raises(ValueError, match="is a folder with other things in it than an export; give another name"):
            export(random_weights(), tmp_path / target)
    made = exported(tmp_path / "made")
    with pytest.raises(ValueError, match="with other things in it"):
        exports._put(made, tmp_path / "net", True)
    shutil.rmtree(made)
    assert contents(tmp_path) == before


def test_an_exported_folder_is_replaced_on_request_and_its_link_stays(tmp_path):
    weights = random_weights()
    export(weights, tmp_path / "far", image_size=SMALL)
    assert exports._is_ours(tmp_path / "far")
    (tmp_path / "link").symlink_to("far")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"link is there already; --force \(overwrite=True\) replaces it"):
        export(weights, tmp_path / "link", overwrite=False)
    assert contents(tmp_path) == before
    made = exported(tmp_path / "made", "new")
    new = {path.relative_to(made): content for path, content in contents(made).items()}
    exports._put(made, Path(os.path.realpath(tmp_path / "link")), True)
    assert {path.relative_to(tmp_path / "far"): text for path, text in contents(tmp_path / "far").items()} == new
    assert (tmp_path / "link").is_symlink()


def test_the_file_that_openvino_puts_beside_is_looked_at_too(tmp_path):
    weights = random_weights()
    (tmp_path / "net.bin").write_text("a torch model")
    with pytest.raises(ValueError, match="net.bin is there already"):
        exports.check_target(tmp_path / "net.xml", overwrite=False)
    read = dataclasses.replace(weights, source=Source(str(tmp_path / "net.bin"), "torch"))
    with pytest.raises(ValueError, match="net.bin is what is read, and would be written over"):
        export(read, tmp_path / "net.xml")


# --- int8 and the command ----------------------------------------------------------------


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = made_photographs(tmp_path_factory.mktemp("photographs"))
    (folder / "notes.txt").write_text("not a picture")
    return folder


def test_pictures_of_a_folder(photographs, tmp_path):
    weights = random_weights()
    taken = exports.pictures(photographs, weights, (SMALL, 80))
    assert len(taken) == 12 and taken[0].shape == (SMALL, 80, 3) and taken[0].dtype == np.float32
    assert abs(taken[0]).max() <= 1
    as_pixels = exports.pictures(photographs, weights, (SMALL, 80), pixels=True)
    np.testing.assert_allclose(preprocess_input(as_pixels[3]), taken[3], atol=0.51 / 127.5)
    with pytest.raises(ValueError, match="has no pictures"):
        exports.pictures(tmp_path, weights)


@pytest.mark.parametrize("name", first(1, ["net.onnx", "net.xml"]))
def test_int8_files(name, photographs, tmp_path):
    for package in ("nncf", *FILES[name]):
        pytest.importorskip(package)
    weights = random_weights()
    taken = exports.pictures(photographs, weights, (SMALL, SMALL), pixels=True)
    made = export(weights, tmp_path / name, image_size=SMALL, pixels=True, calibration=taken)
    assert made.agreement.images == 2 and made.agreement.cosine > 0.9
    found = reader(made.path)(np.stack(taken[:2]))
    expected = keras_end_points(weights, preprocess_input(np.stack(taken[:2])))
    assert list(found) == ["Predictions"]
    assert 0 < np.abs(found["Predictions"] - expected["Predictions"]).max() < 0.2


def command(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_command_prints_its_proof(tmp_path):
    weights = random_weights().save(tmp_path / "w.safetensors")
    run = command(weights, tmp_path / "net", "--size", SMALL, "--end-point", "PreLogits", "--end-point", "Predictions")
    assert run.exit_code == 0, run.output
    assert "SavedModel, float32, PreLogits, Predictions" in run.output
    assert "equal to the Keras builder: largest difference" in run.output
    assert (tmp_path / "net" / "saved_model.pb").is_file()


def test_the_command_stops_at_too_little_agreement(tmp_path, photographs, monkeypatch):
    for package in ("nncf", *FILES["net.xml"]):
        pytest.importorskip(package)
    weights = random_weights().save(tmp_path / "w.safetensors")
    low = int8.Agreement(2, 0.5, 0.9, 0.8)
    monkeypatch.setattr(int8, "agreement", lambda *a: low)
    arguments = [weights, tmp_path / "net.xml", "--size", SMALL, "--precision", "int8", "--calibrate", photographs]
    run = command(*arguments)
    assert run.exit_code == 1 and "the same best class as float32 for 50.0% of them" in run.output
    assert not (tmp_path / "net.xml").exists() and not (tmp_path / "net.bin").exists()
    run = command(*arguments, "--least-agreement", 0)
    assert run.exit_code == 0 and "less than the 99% that is expected" in run.output
    assert (tmp_path / "net.xml").is_file() and (tmp_path / "net.bin").is_file()


def test_int8_and_calibration_belong_together(tmp_path, sample):
    run = command(sample, tmp_path / "net.xml", "--precision", "int8")
    assert isinstance(run.exception, ValueError) and "int8 together with --calibrate FOLDER" in str(run.exception)
