"""Extraction end to end: right numbers, whole shards, and work that is never lost."""

import dataclasses
import errno
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made import random_weights, with_nan
from PIL import Image

import inception
from inception import features, images
from inception import pictures as ways
from inception.features import dataset, task
from inception.files import atomic
from inception.resize import resize
from inception.variants import GOOGLE_2015, SLIM, TORCHVISION


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != dataset.LOCK}


def parts(out):
    return sorted(name for name in files(out) if name.startswith("part-"))


@pytest.fixture
def done(folder, extract, tmp_path):
    """A finished extraction: (folder, its files)."""
    out = tmp_path / "out"
    summary = extract(folder, out)
    assert (summary.pictures, summary.rows, summary.errors, summary.computed) == (30, 29, 1, 30)
    return out, files(out)


# --- Numbers ---------------------------------------------------------------------------


def test_rows_are_what_the_keras_builder_computes(folder, extract, weights, tmp_path):
    from inception.builders.keras import end_points, model_of

    names = ("Mixed_6e", "Mixed_7c", "PreLogits", "Logits")
    extract(folder, tmp_path / "out", end_points=names)
    found = features.load(tmp_path / "out")
    pictures = [np.asarray(Image.open(path)) for path in found.paths]
    model = model_of(weights, input_shape=(75, 75, 3))
    import keras

    points = keras.Model(model.inputs, {name: end_points(model)[name] for name in names})
    expected = points.predict(np.stack([ways.KERAS.at(75).input(picture) for picture in pictures]), verbose=0)
    for name in names:
        values = expected[name].mean((1, 2)) if expected[name].ndim == 4 else expected[name]
        np.testing.assert_allclose(found.arrays[name], values, rtol=1e-5, atol=1e-5 * np.abs(values).max())
    np.testing.assert_allclose(found.arrays["PreLogits"], found.arrays["Mixed_7c"], rtol=1e-5, atol=1e-6)


def test_rows_do_not_depend_on_batch_or_engine(folder, extract, tmp_path):
    rows = []
    for engine, batch in (
        ("onnxruntime", 1),
        ("onnxruntime", 3),
        ("onnxruntime", 64),
        ("openvino", 8),
        ("tensorflow", 5),
    ):
        out = tmp_path / f"{engine}{batch}"
        extract(folder, out, engine=engine, batch=batch)
        rows.append(features.load(out).arrays["PreLogits"])
    for other in rows[1:]:
        np.testing.assert_allclose(other, rows[0], rtol=1e-5, atol=1e-5 * np.abs(rows[0]).max())


def test_pools(folder, extract, tmp_path):
    found = {}
    for pool in ("none", "avg", "max"):
        extract(folder, tmp_path / pool, pool=pool, end_points=("Mixed_5b", "Predictions"))
        found[pool] = features.load(tmp_path / pool).arrays
    maps = found["none"]["Mixed_5b"]
    assert maps.shape == (29, 7, 7, maps.shape[3])
    np.testing.assert_allclose(found["avg"]["Mixed_5b"], maps.mean((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(found["max"]["Mixed_5b"], maps.max((1, 2)))
    assert found["none"]["Predictions"].shape == (29, 5)


def test_weights_bring_their_way_of_a_picture_and_another_one_can_be_asked_for(folder, extract, tmp_path):
    for variant, way in ((SLIM, "slim"), (GOOGLE_2015, "google_2015"), (TORCHVISION, "torchvision")):
        narrow = dataclasses.replace(variant, depth_multiplier=0.02, min_depth=3, aux_kernel=(1, 1))
        weights = dataclasses.replace(random_weights(narrow), picture=ways.NAMED[way])
        out = tmp_path / way
        extract(folder, out, weights)
        found = features.load(out)
        assert ways.from_json(found.metadata["picture"]) == ways.NAMED[way].at(75)
        expected = [ways.NAMED[way].at(75).input(path) for path in found.paths]
        network = inception.compile_inference(weights, end_points=("PreLogits",), engine="onnxruntime")
        direct = network(np.stack(expected))["PreLogits"]
        np.testing.assert_allclose(found.arrays["PreLogits"], direct, rtol=1e-4, atol=1e-5 * np.abs(direct).max())


def test_the_dataset_is_one_for_any_reader(done, folder):
    out, _ = done
    table = pq.read_table(out)
    assert table.column_names == ["path", "sha256", "width", "height", "PreLogits"]
    assert len(table) == 29 and table["path"].to_pylist() == features.load(out).paths
    assert (table["width"][0].as_py(), table["height"][0].as_py()) == (110, 80)
    metadata = json.loads(table.schema.metadata[b"inception"])
    assert metadata["picture"]["resize"] == "pillow_bicubic"
    assert metadata["pictures"]["count"] == 30 and len(metadata["weights"]) == 64
    import hashlib

    first = folder / "even" / "00.jpg"
    assert table["sha256"][0].as_py() == hashlib.sha256(first.read_bytes()).hexdigest()
    errors = pq.read_table(out / "_errors.parquet").to_pylist()
    assert [row["path"] for row in errors] == [str(folder / "odd" / "11.jpg")]
    assert "is damaged" in errors[0]["reason"] or "is no picture" in errors[0]["reason"]


def test_pictures_in_parquet_give_the_rows_of_the_files(done, folder, extract, tmp_path):
    import pyarrow as pa

    found = features.load(done[0])
    names = sorted(str(path) for path in folder.rglob("*.jpg"))
    content = [Path(path).read_bytes() for path in names]
    pq.write_table(pa.table({"image": content}), tmp_path / "p.parquet", row_group_size=7)
    extract(tmp_path / "p.parquet", tmp_path / "other")
    other = features.load(tmp_path / "other")
    assert other.sha256 == found.sha256 and len(other.errors) == 1
    np.testing.assert_array_equal(other.arrays["PreLogits"], found.arrays["PreLogits"])


# --- Going on --------------------------------------------------------------------------


def test_a_finished_extraction_has_nothing_to_do(done, folder, extract):
    out, before = done
    assert extract(folder, out, engine="auto", shard_rows=None).computed == 0
    assert files(out) == before


def test_missing_and_damaged_shards_are_done_again_and_no_other(done, folder, extract):
    out, before = done
    (out / parts(out)[1]).unlink()
    last = out / parts(out)[-1]
    last.write_bytes(last.read_bytes()[:-1] + b"\0")
    with pytest.raises(ValueError, match=r"is not finished \(3 of 4 shards are there\); run the same extraction again"):
        features.load(out)
    summary = extract(folder, out)
    assert (summary.computed, summary.damaged) == (8 + 6, 1)
    assert files(out) == before


def test_a_flipped_bit_in_the_middle_is_found_when_loaded_and_healed_when_checked(done, folder, extract):
    out, before = done
    first, truth = out / parts(out)[0], before[parts(out)[0]]
    truth_rows, found = features.load(out), 0
    for place in range(100, len(truth), 97):
        damaged = bytearray(truth)
        damaged[place] ^= 1
        first.write_bytes(damaged)
        os.utime(first, ns=(0, 0))  # an old one: the newest is read whole anyway
        try:
            rows = features.load(out)  # some of Parquet's own bytes say nothing
        except ValueError as error:
            found += 1
            assert re.search(
                r"part-00000.parquet is damaged .*; delete it and run the same extraction again", str(error)
            )
        else:
            assert (rows.paths, rows.sha256, rows.errors) == (truth_rows.paths, truth_rows.sha256, truth_rows.errors)
            np.testing.assert_array_equal(rows.arrays["PreLogits"], truth_rows.arrays["PreLogits"])
    assert found > 10
    summary = extract(folder, out, check=True)
    assert files(out) == before or summary.damaged == 0
    assert features.load(out).sha256 == truth_rows.sha256


def test_without_the_json_the_shards_say_what_they_are(done, folder, extract):
    out, before = done
    for content in (None, b"", b"\0" * 500, b"{}"):
        if content is None:
            (out / dataset.EXTRACTION).unlink()
        else:
            (out / dataset.EXTRACTION).write_bytes(content)
        with pytest.raises(ValueError, match="different pool"):
            extract(folder, out, pool="max")
        assert extract(folder, out).computed == 0
        assert files(out) == before


@pytest.mark.parametrize("how", ["touched", "replaced", "gone", "repaired"])
def test_a_changed_picture_is_noticed(done, folder, extract, tmp_path, how):
    out, _ = done
    picture = folder / "even" / "04.jpg"
    if how == "touched":
        os.utime(picture, ns=(1, 1))
    elif how == "replaced":
        before = os.stat(picture)
        Image.new("RGB", (50, 50), "red").save(picture)
        os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    elif how == "repaired":
        shutil.copy(picture, folder / "odd" / "11.jpg")
    else:
        picture.unlink()
    source = out / dataset.PICTURES if how == "gone" else folder  # the old list: the folder's is another one
    summary = extract(source, out)
    assert (summary.changed, summary.computed) == (1, 8)
    assert (summary.rows, summary.errors) == {"gone": (28, 2), "repaired": (30, 0)}.get(how, (29, 1))
    found = features.load(out)
    if how == "gone":
        assert "04.jpg does not exist" in dict(found.errors)[str(picture)]
    fresh = tmp_path / "fresh"
    extract(source, fresh)
    assert files(fresh) == files(out)


CHANGES = {
    "weights": {
        "network": random_weights(dataclasses.replace(SLIM, depth_multiplier=0.02, min_depth=3, aux_logits=False))
    },
    "end points": {"end_points": ("Mixed_6e",)},
    "pool": {"pool": "max"},
    "way of a picture": {"picture": "slim"},
    "preprocess function": {"preprocess": inception.preprocess_input},
    "rows of a shard": {"shard_rows": 4},
    "engine": {"engine": "openvino"},
}


@pytest.mark.parametrize("field", [*CHANGES, "network", "version of inception", "list of pictures"])
def test_another_extraction_is_refused_and_the_field_named(done, folder, extract, weights, monkeypatch, field):
    out, before = done
    options = dict(CHANGES.get(field, {}))
    if field == "network":
        variant = dataclasses.replace(weights.variant, border="include")
        options["network"] = dataclasses.replace(weights, variant=variant)
    if field == "version of inception":
        monkeypatch.setattr(inception, "__version__", "0.0.9")
    if field == "list of pictures":
        (folder / "even" / "00.jpg").unlink()
    both = "; " if field == "weights" else r" \(.*, now .*"  # of weights two digests, which tell nobody anything
    with pytest.raises(ValueError, match=rf"{out} holds features with a different {field}{both}give the same again"):
        extract(folder, out, **options)
    assert files(out) == before


def test_stopped_by_the_user_it_leaves_whole_shards_and_goes_on(done, folder, extract, tmp_path):
    out = tmp_path / "stopped"

    def stop(done, total, errors):
        if done >= 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(folder, out, batch=2, progress=stop)
    assert parts(out) == ["part-00000.parquet"] and not list(out.glob("*.tmp-*"))
    assert dataset.finished(out) == (8, 30)
    assert len(features.load(out, partial=True)) == 8
    assert extract(folder, out, batch=8).computed == 22
    assert files(out) == done[1]


def test_a_full_disk_is_one_sentence_and_nothing_is_lost(done, folder, extract, tmp_path, monkeypatch):
    out, opened = tmp_path / "full", []

    def full(path, mode):
        opened.append(path)
        if len(opened) == 4:  # the list, two shards, and now
            with open(path, mode) as file:
                file.write(b"PAR1 half a sha")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return open(path, mode)

    monkeypatch.setitem(vars(dataset), "open", full)
    with pytest.raises(OSError, match="^/.*full cannot be written .No space left on device.; finished shards stay"):
        extract(folder, out)
    monkeypatch.undo()
    assert parts(out) == ["part-00000.parquet", "part-00001.parquet"] and not list(out.glob("*.tmp-*"))
    assert extract(folder, out).computed == 14
    assert files(out) == done[1]


def test_two_at_once_are_refused(folder, extract, tmp_path):
    with dataset.locked(tmp_path / "out"), pytest.raises(ValueError, match="Another process is writing features into"):
        extract(folder, tmp_path / "out")
    assert extract(folder, tmp_path / "out").rows == 29


def test_what_a_folder_holds_is_looked_at_under_the_lock(folder, extract, weights, tmp_path, monkeypatch):
    """Another extraction begins and ends after the first look and before the lock."""
    out, real = tmp_path / "out", task.task_of

    def meanwhile(*arguments):
        monkeypatch.undo()
        extract(folder, out)
        before.update(files(out))
        return real(*arguments)

    before = {}
    monkeypatch.setattr(task, "task_of", meanwhile)
    with pytest.raises(ValueError, match="holds features with a different weights"):
        extract(folder, out, random_weights(weights.variant, 1))
    assert files(out) == before


def test_what_a_killed_writer_left_in_a_new_folder_is_no_other_file(folder, extract, tmp_path):
    left = tmp_path / "out" / f"{atomic._HIDDEN}{atomic._HOST}-{'0' * 8}"
    left.mkdir(parents=True)
    assert dataset.described(tmp_path / "out") is None
    extract(folder, tmp_path / "out")
    assert not left.exists()


def test_progress_counts_every_picture_once(folder, extract, tmp_path):
    seen = []
    extract(folder, tmp_path / "out", batch=4, progress=lambda *now: seen.append(now))
    assert seen[-1] == (30, 30, 1) and [now[0] for now in seen] == sorted(now[0] for now in seen)
    assert all(total == 30 for _, total, _ in seen)


# --- Networks and mistakes -------------------------------------------------------------


def test_any_keras_model_by_its_layers(folder, extract, tmp_path):
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, name="first"), keras.layers.ReLU(name="second")],
        name="small",
    )

    def halved(pixels):
        return pixels / 2

    summary = extract(folder, tmp_path / "out", model, size=None, engine="auto", end_points=("first", "second"),
                      pool="none", preprocess=halved)  # fmt: skip
    found = features.load(tmp_path / "out")
    assert summary.engine == "keras" and found.metadata["preprocess"].endswith("halved")
    assert found.arrays["first"].shape == (29, 30, 30, 4)
    np.testing.assert_array_equal(found.arrays["second"], np.maximum(found.arrays["first"], 0))
    pixels = np.stack([resize(np.asarray(Image.open(path)), 32, 32) for path in found.paths])
    np.testing.assert_allclose(found.arrays["second"], model.predict(pixels / 2, verbose=0), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="The model small has no layer 'PreLogits'; .*last of which are first, second"):
        extract(folder, tmp_path / "other", model, preprocess="none")
    for bias, sentence in ((1, "different weights"), (np.nan, "weights that are not finite .* in .*first/bias")):
        model.get_layer("first").bias.assign(np.full(4, bias))
        with pytest.raises(ValueError, match=sentence):
            extract(folder, tmp_path / "out", model, size=None, end_points=("first", "second"), pool="none",
                    preprocess=halved)  # fmt: skip


def test_a_keras_inception_v3_takes_the_fast_engine(done, folder, extract, weights, tmp_path):
    from inception.builders.keras import model_of

    summary = extract(folder, tmp_path / "out", model_of(weights, input_shape=(75, 75, 3)))
    assert summary.engine == "onnxruntime"
    assert files(tmp_path / "out") == done[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "mean"}, "Unknown pool 'mean'; expected one of avg, max, none"),
        ({"picture": "vgg"}, "Unknown way of a picture 'vgg'"),
        ({"end_points": "PreLogits"}, "expected a sequence of different names"),
        ({"end_points": ("Mixed_9z",)}, "Unknown end point 'Mixed_9z'"),
        ({"engine": "cuda"}, "Unknown engine 'cuda'"),
        ({"size": 40}, "at least"),
        ({"batch": 0}, "batch is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"shard_rows": 0}, "shard_rows is 0"),
        ({"workers": 0}, "workers is 0"),
        ({"size": 0}, "size is 0"),
        ({"network": with_nan()}, "weights that are not finite .* for Mixed_5b/Branch_0/Conv2d_0a_1x1"),
        (
            {"preprocess": lambda pixels: pixels},
            "preprocessed pictures have values from .* to 25.*; these weights take -1 to 1",
        ),
    ],
)
def test_mistakes_are_sentences_and_leave_nothing(folder, extract, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        extract(folder, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists() or set(os.listdir(tmp_path / "out")) <= {dataset.LOCK}


def test_folders_that_are_none(folder, extract, tmp_path):
    with pytest.raises(ValueError, match="holds other files"):
        extract(folder, folder / "even")
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="is a file; expected a folder"):
        extract(folder, tmp_path / "file")
    with pytest.raises(ValueError, match="holds no features"):
        features.load(tmp_path / "nowhere")


def test_several_ways_of_a_picture_share_one_decoding(extract, folder, tmp_path, monkeypatch):
    """Files bit for bit those of separate runs, also where one folder is further on than the other."""
    for name, way in (("a", "slim"), ("b", "whole,size=75")):
        extract(folder, tmp_path / name, picture=way)
    decoded, decode = [], images.decode
    monkeypatch.setattr(images, "decode", lambda *given, **more: decoded.append(given[1]) or decode(*given, **more))
    also = {tmp_path / "d": "whole,size=75"}
    summary = extract(folder, tmp_path / "c", picture="slim", also=also)
    assert (summary.pictures, summary.computed, summary.errors, len(decoded)) == (30, 30, 1, 30)
    (tmp_path / "d" / "part-00001.parquet").unlink()
    (tmp_path / "c" / "part-00002.parquet").unlink()
    assert extract(folder, tmp_path / "c", picture="slim", also=also).computed == 16 and len(decoded) == 46
    for one, other in (("a", "c"), ("b", "d")):
        for part in (tmp_path / one).iterdir():
            assert part.read_bytes() == (tmp_path / other / part.name).read_bytes(), part
    with pytest.raises(ValueError, match="different way of a picture"):
        extract(folder, tmp_path / "c", picture="slim", also={tmp_path / "d": "unit"})


def test_a_unit_and_the_first_channels_of_a_map_are_end_points(extract, folder, tmp_path):
    ends = ("Mixed_6d/Branch_0/Conv2d_0a_1x1:2", "Mixed_6d", "Mixed_6d/Branch_0/Conv2d_0a_1x1")
    with pytest.raises(ValueError, match="sequence of different names"):
        extract(folder, tmp_path / "x", end_points=ends)
    kept = {}
    for engine in ("onnxruntime", "tensorflow", "openvino"):
        extract(folder, tmp_path / engine, end_points=ends[:2], pool="none", engine=engine)
        kept[engine] = features.load(tmp_path / engine).arrays
        assert kept[engine][ends[0]].shape == (29, 3, 3, 2)
        np.testing.assert_array_equal(kept[engine][ends[0]], kept[engine]["Mixed_6d"][..., :2])  # its first branch
        np.testing.assert_allclose(kept[engine][ends[0]], kept["onnxruntime"][ends[0]], rtol=1e-4, atol=1e-5)
    for wrong in ("Mixed_6d:x", "Mixed_6d:0", "Mixed_6d/Branch_0:2", "AuxLogits/Conv2d_1b_1x1"):
        with pytest.raises(ValueError, match=r"expected a number|Unknown end point"):
            extract(folder, tmp_path / "x", end_points=[wrong])
