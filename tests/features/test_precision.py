"""Features in bfloat16 and int8: near float32, said in the metadata, never mixed, one int8 network for ever."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from made import random_weights, thirty_pictures

from inception import features
from inception.features import dataset
from inception.files import inert_json
from inception.metrics import statistics, statistics_files
from inception.variants import Variant

openvino = pytest.importorskip("openvino")
HAS_BFLOAT16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bfloat16 = pytest.mark.skipif(not HAS_BFLOAT16, reason="this processor has no bfloat16")
WIDE = Variant(num_classes=5, depth_multiplier=0.125, min_depth=8)


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != dataset.LOCK}


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Extractions of 30 pictures, {precision: folder}; `run` makes another."""
    place = tmp_path_factory.mktemp("precision")
    folder, weights = thirty_pictures(place / "pictures"), random_weights(WIDE)

    class Made:
        pictures = folder

        def run(self, out, precision, source=folder, **options):
            options = {"size": 107, "engine": "auto", "shard_rows": 8, "least_agreement": 0.5} | options
            return features.extract(source, out, options.pop("weights", weights), precision=precision, **options)

        def __getitem__(self, precision):
            if not (place / precision).exists():
                self.run(place / precision, precision, engine="openvino")
            return place / precision

    return Made()


@pytest.mark.parametrize("precision", [pytest.param("bfloat16", marks=needs_bfloat16), "int8"])
def test_rows_are_near_float32_and_say_what_they_are(made, precision, tmp_path):
    if precision == "int8":
        pytest.importorskip("nncf")
    exact, near = (features.load(made[name]) for name in ("float32", precision))
    assert (exact.metadata["precision"], near.metadata["precision"]) == ("float32", precision)
    assert near.metadata["engine"] == "openvino" and near.sha256 == exact.sha256 and near.errors == exact.errors
    assert cosines(exact.arrays["PreLogits"], near.arrays["PreLogits"]).min() > 0.98
    assert not np.array_equal(exact.arrays["PreLogits"], near.arrays["PreLogits"])
    before = files(made[precision])
    assert made.run(made[precision], precision).computed == 0 and files(made[precision]) == before
    for other in {"float32", "bfloat16", "int8"} - {precision}:
        with pytest.raises(
            ValueError, match=rf"with a different precision \({precision}, now {other}\); give the same"
        ):
            made.run(made[precision], other)
    with pytest.raises(ValueError, match=rf"with a different precision \(float32, now {precision}\)"):
        made.run(made["float32"], precision, engine="openvino")
    assert files(made[precision]) == before


def test_an_int8_network_is_calibrated_once(made, tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    from inception.inference import int8

    said = features.load(made["int8"]).metadata["int8"]
    assert (said["calibrated_on"], said["images"]) == (24, 5) and len(said["network"]) == 64
    assert 0.5 <= said["top1"] <= 1 and said["lowest_cosine"] <= said["cosine"] <= 1
    measured = features.load(made["float32"]), features.load(made["int8"])
    assert said["lowest_cosine"] >= cosines(*(found.arrays["PreLogits"] for found in measured)).min() - 1e-3
    whole = files(made["int8"])
    shutil.copytree(made["int8"], tmp_path / "out")
    (tmp_path / "out" / "part-00001.parquet").unlink()
    monkeypatch.setattr(int8, "quantized", None)  # not again
    summary = made.run(tmp_path / "out", "int8")
    assert summary.computed == 8 and files(tmp_path / "out") == whole
    assert str(summary.agreement).startswith("int8 on 5 held-out images: the same best class as float32 for ")


@pytest.mark.parametrize("name", ["_int8.xml", "_int8.bin"])
def test_another_int8_network_is_refused(made, tmp_path, name):
    pytest.importorskip("nncf")
    shutil.copytree(made["int8"], tmp_path / "out")
    (tmp_path / "out" / "part-00001.parquet").unlink()
    path = tmp_path / "out" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    before = files(tmp_path / "out")
    with pytest.raises(ValueError, match="_int8.xml is not the int8 network that these features are of; put that one"):
        made.run(tmp_path / "out", "int8")
    assert files(tmp_path / "out") == before
    path.unlink()
    with pytest.raises(ValueError, match=f"{name}: there is no such file"):
        made.run(tmp_path / "out", "int8")


def test_int8_that_agrees_too_little_is_refused_and_leaves_nothing(made, tmp_path):
    pytest.importorskip("nncf")
    with pytest.raises(ValueError, match=r"int8 on 5 held-out images: .*; take bfloat16 or float32, or ask for less"):
        made.run(tmp_path / "out", "int8", least_agreement=1.01)
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {dataset.LOCK}
    few = sorted(map(str, made.pictures.rglob("*.jpg")))[:9]
    with pytest.raises(ValueError, match="There are 9 calibration images; expected 10 at least"):
        made.run(tmp_path / "out", "int8", source=few)


def test_the_int8_network_of_another_folder_can_be_taken(made, tmp_path):
    pytest.importorskip("nncf")
    thirty_pictures(tmp_path / "pictures").joinpath("even", "00.jpg").unlink()
    made.run(tmp_path / "out", "int8", source=tmp_path / "pictures", int8_of=made["int8"])
    one, other = features.load(made["int8"]), features.load(tmp_path / "out")
    assert one.metadata["int8"] == other.metadata["int8"]
    both = {digest: i for i, digest in enumerate(one.sha256)}
    rows = one.arrays["PreLogits"][[both[digest] for digest in other.sha256]]
    np.testing.assert_allclose(other.arrays["PreLogits"], rows, rtol=1e-5, atol=1e-5 * np.abs(rows).max())
    for options, message in (
        ({"int8_of": made["float32"]}, "has no features in int8, whose network could be taken"),
        ({"int8_of": made["int8"], "picture": "slim"}, "holds features with a different way of a picture"),
        ({"int8_of": made["int8"], "weights": random_weights(WIDE, 1)}, "holds features with a different weights"),
        ({"int8_of": made["int8"], "end_points": ("Mixed_6e",)}, "holds features with a different end points"),
    ):
        with pytest.raises(ValueError, match=message):
            made.run(tmp_path / "other", "int8", **options)
        assert {path.name for path in (tmp_path / "other").iterdir()} <= {dataset.LOCK}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "Unknown precision 'half'; expected one of float32, bfloat16, int8"),
        ({"precision": "bfloat16", "engine": "onnxruntime"}, "runs on engine='openvino' here, not on 'onnxruntime'"),
        ({"precision": "int8", "engine": "tensorflow"}, "runs on engine='openvino' here, not on 'tensorflow'"),
    ],
)
def test_mistakes_are_sentences_and_leave_nothing(made, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        made.run(tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_layers_of_a_keras_model_are_in_float32(made, tmp_path):
    import keras

    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(4, 3, name="first")])
    with pytest.raises(ValueError, match="Layers of a Keras model are computed in float32; precision is bfloat16"):
        made.run(tmp_path / "out", "bfloat16", weights=model, end_points=("first",), preprocess="none", size=None)


@pytest.mark.parametrize("damage", ["no int8", "no network", "a text", "wrong kind"])
def test_what_is_said_of_int8_is_data(made, tmp_path, damage):
    pytest.importorskip("nncf")
    shutil.copytree(made["int8"], tmp_path / "out")
    path = tmp_path / "out" / dataset.EXTRACTION
    said = json.loads(path.read_text())
    if damage == "no int8":
        del said["int8"]
    elif damage == "no network":
        del said["int8"]["network"]
    elif damage == "a text":
        said["int8"] = "x"
    else:
        said["int8"]["cosine"] = {}
    path.write_text(json.dumps(said))
    assert made.run(tmp_path / "out", "int8").computed == 0  # the shards say it
    assert files(tmp_path / "out") == files(made["int8"])


def test_a_folder_of_before_there_were_precisions_is_in_float32(made, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(made["float32"], out)
    for part in out.glob("part-*"):
        table = pq.read_table(part)
        extraction = json.loads(table.schema.metadata[b"inception"])
        assert extraction.pop("precision") == "float32"
        (out / dataset.EXTRACTION).write_text(json.dumps(extraction))
        said = table.schema.metadata | {b"inception": json.dumps(extraction).encode()}
        pq.write_table(table.replace_schema_metadata(said), part)
    assert features.load(out).metadata["precision"] == "float32"
    assert made.run(out, "float32").computed == 0
    if HAS_BFLOAT16:
        with pytest.raises(ValueError, match="different precision"):
            made.run(out, "bfloat16")


# --- Metrics ---------------------------------------------------------------------------


@needs_bfloat16
def test_a_distance_says_the_precision_and_a_mixture_is_said(made, tmp_path):
    one, other = (statistics.of_folder(made[name]) for name in ("float32", "bfloat16"))
    assert (one.made.precision, other.made.precision) == ("float32", "bfloat16")
    said = "float32 is in float32 and .*bfloat16 is?.*in bfloat16: a part of the distance is that"
    statistics_files.write(tmp_path / "x.npz", other)
    read = statistics_files.read(tmp_path / "x.npz").parts["fid"]
    assert read.made == other.made
    [note] = [note for note in statistics.check_same(one, read) if "part of the distance" in note]
    assert "is in float32 and" in note and "x.npz in bfloat16: a part" in note, said
    assert not [note for note in statistics.check_same(other, read) if "part of the distance" in note]


def test_a_record_of_before_there_were_precisions_is_in_float32(made, tmp_path):
    found = statistics.of_folder(made["float32"])
    statistics_files.write(tmp_path / "x.npz", found)
    arrays = dict(np.load(tmp_path / "x.npz"))
    [name] = [name for name in arrays if arrays[name].dtype.kind == "U"]
    record = inert_json.parse(str(arrays[name]).encode(), 1 << 20, "x")
    assert record["fid"].pop("precision") == "float32"
    np.savez(tmp_path / "x.npz", **(arrays | {name: np.array(json.dumps(record))}))
    assert statistics_files.read(tmp_path / "x.npz").parts["fid"].made == found.made
