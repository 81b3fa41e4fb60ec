"""One network and one picture, by every way in and through every function: one input array, bit for bit."""

import dataclasses
import functools
import json
import warnings

import numpy as np
import pytest
from made import NARROW, first, random_weights
from PIL import Image
from typer.testing import CliRunner

import inception
from inception import classify, features, networks, pictures, verify
from inception.builders import keras as builder
from inception.cli import app
from inception.inference import engines, export
from inception.training import evaluate, finetune, maps
from inception.visualize import activations, gradcam, model_points, report
from inception.weights import published
from inception.weights.published import catalogue

SIDE = 75
FAMILIES = {
    "keras": NARROW,
    "slim": dataclasses.replace(NARROW, num_classes=6, background=True),
    "google_2015": dataclasses.replace(NARROW, gamma=True, last_pool="max"),
    "torchvision": dataclasses.replace(NARROW, gamma=True, border="include"),
    "gluon": dataclasses.replace(NARROW, gamma=True, border="include"),
}
# Formats that carry the picture; each family's in its own where that can.
FILES = {"keras": "x.keras", "slim": "x.npz", "google_2015": "x.pb", "torchvision": "x.safetensors", "gluon": "x.h5"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes; in one of them a picture of 16 bits, not square, that EXIF says is to be turned."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in ("class 0", "class 1"):
        (root / name).mkdir()
        for i in range(3):
            Image.fromarray(rng.integers(0, 256, (90, 80, 3), np.uint8)).save(root / name / f"{i}.png")
    turned = Image.fromarray(rng.integers(0, 1 << 16, (100, 160), np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(root / "class 1" / "turned.png", exif=exif)
    return root


@pytest.fixture(scope="module")
def photo(folder):
    return folder / "class 1" / "turned.png"


@pytest.fixture(scope="module")
def seen(photo):
    """The picture's pixels as a person sees them, without any code of ours."""
    with Image.open(photo) as opened:
        grey = np.rot90((np.asarray(opened) >> 8).astype(np.uint8), -1)
    return np.stack([grey] * 3, -1)


@pytest.fixture
def caught(monkeypatch):
    """Every batch that reaches a network, whichever function brings it there."""
    batches = []

    def keeping(function, place):
        def kept(*arguments, **keywords):
            batches.append(np.array(arguments[place]))
            return function(*arguments, **keywords)

        return kept

    compiled = engines.compiled
    monkeypatch.setattr(engines, "compiled", lambda *a, **k: keeping(compiled(*a, **k), 0))
    monkeypatch.setattr(classify.Classifier, "scores", keeping(classify.Classifier.scores, 1))
    monkeypatch.setattr(model_points, "values", keeping(model_points.values, 2))
    monkeypatch.setattr(verify, "keras_end_points", keeping(verify.keras_end_points, 1))
    inputs = maps.Maps._inputs

    def read(*arguments):
        found = list(inputs(*arguments))
        batches.extend(found)
        return iter(found)

    monkeypatch.setattr(maps.Maps, "_inputs", read)
    return batches


@pytest.fixture(scope="module")
def built():
    return {}


@pytest.fixture
def once(monkeypatch, built):
    """A network is built once, and a file of Keras's opened once: what is looked at here is what reaches them."""
    import keras

    model_of, load_model = builder.model_of, keras.saving.load_model

    def building(weights, **options):
        if "input_tensor" in options:
            return model_of(weights, **options)
        key = repr((weights.variant, sorted(options.items())))
        return built.get(key) or built.setdefault(key, model_of(weights, **options))

    monkeypatch.setattr(builder, "model_of", building)
    monkeypatch.setattr(keras.saving, "load_model", functools.cache(load_model))


def weights_of(family):
    way = pictures.NAMED[family].at(SIDE)
    return dataclasses.replace(random_weights(FAMILIES[family]), picture=way)


def source_of(kind, family, tmp_path):
    """One network as whatever a user may hold."""
    import keras

    weights = weights_of(family)
    if kind == "path":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return str(weights.save(tmp_path / FILES[family]))
    if kind == "weights":
        return weights
    model = builder.model_of(weights, input_shape=(SIDE, SIDE, 3))
    if kind == "model":
        return model
    saved = tmp_path / "saved.keras"
    model.save(saved)
    return str(saved) if kind == "saved by Keras" else keras.saving.load_model(saved)


def doors(source, photo, folder, out):
    """(name, what brings the picture to the network)."""
    run = inception.compile_inference(source, end_points=("PreLogits",), engine="tensorflow")
    yield "compile_inference", lambda: run([photo])
    yield "classify", lambda: classify.classify([photo], source)
    yield (
        "features",
        lambda: features.extract(photo, out / "features", source, engine="tensorflow", batch=1),
    )
    yield "evaluate", lambda: evaluate(folder, source, labels=out / "names.txt", batch=8)
    yield "gradcam", lambda: gradcam(source, photo, 1, "Mixed_6a")
    yield "activations", lambda: activations(source, photo, ["Mixed_5b"])
    yield "report", lambda: report(photo, source, out / "report", end_points=["Mixed_5b"], classes=1)


# Every function with each family, and with each source of one family; the rest of the product is for thorough runs.
KINDS = ["path", "weights", "model", "saved by Keras"]
PAIRS = [
    pytest.param(family, kind, marks=[pytest.mark.thorough] if family != "torchvision" and kind != "path" else [])
    for family in FAMILIES
    for kind in [*KINDS, *(["loaded by Keras"] if family == "slim" else [])]
]


@pytest.mark.parametrize(("family", "kind"), PAIRS)
def test_every_door_and_every_function_find_one_array(family, kind, folder, photo, seen, caught, once, tmp_path):
    expected = pictures.NAMED[family].at(SIDE).input(seen)
    source = source_of(kind, family, tmp_path)
    (tmp_path / "names.txt").write_text("".join(f"class {i}\n" for i in range(FAMILIES[family].num_classes)))
    for door, bring in doors(source, photo, folder, tmp_path):
        caught.clear()
        bring()
        assert any(np.array_equal(row, expected) for batch in caught for row in batch), door
        assert all(batch.shape[1:] == (SIDE, SIDE, 3) for batch in caught), door
    calibration = export.pictures(photo.parent, source)
    assert any(np.array_equal(image, expected) for image in calibration)


@pytest.mark.parametrize("family", ["slim", "gluon"])
def test_what_is_exported_says_the_way_and_verify_takes_it(family, photo, seen, caught, tmp_path):
    weights, expected = weights_of(family), pictures.NAMED[family].at(SIDE).input(seen)
    made = export.export(weights, tmp_path / "net", image_size=SIDE).path
    said = json.loads((made / "assets.extra" / "inception.json").read_text())
    assert pictures.from_json(json.loads(said["inception_variant"])["picture"]) == weights.picture
    weights.save(tmp_path / "a.npz")
    weights.save(tmp_path / "b.keras")
    caught.clear()
    done = CliRunner().invoke(app, ["verify", f"{tmp_path}/a.npz", f"{tmp_path}/b.keras", "--image", str(photo)])
    assert done.exit_code == 0, done.output
    assert len(caught) == 2 and all(np.array_equal(batch[0], expected) for batch in caught)


def test_an_id_brings_the_published_way(photo, seen, caught, tmp_path, monkeypatch):
    path = random_weights(FAMILIES["gluon"]).save(tmp_path / "known.npz")
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    known = published.Published(
        "known", "timm", "known.npz", FAMILIES["gluon"], sha256=digest, picture=pictures.NAMED["gluon"].at(SIDE)
    )
    monkeypatch.setattr(catalogue, "FILES", (known,))
    monkeypatch.setattr(catalogue, "LEAST_BYTES", 0)
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path))
    classify.classify([photo], "known")
    np.testing.assert_array_equal(caught[-1][0], pictures.NAMED["gluon"].at(SIDE).input(seen))


@pytest.mark.parametrize("end_point", first(1, ["Mixed_5b", None]))
def test_fine_tuning_and_what_it_made_take_one_way(end_point, folder, photo, seen, caught, once, tmp_path):
    """The head's features, the blocks, the folder, its files, and Keras's own reading of them."""
    import keras

    expected = pictures.NAMED["torchvision"].at(SIDE).input(seen)
    options = {"unfreeze": "Conv2d_4a_3x3", "epochs": 1} if end_point else {}
    finetune(
        folder, weights_of("torchvision"), tmp_path / "out", end_point=end_point, head_epochs=1, batch_size=1,
        validation=0.4, engine="tensorflow", **options,
    )  # fmt: skip
    arrays = [row for batch in caught for row in batch]
    assert sum(np.array_equal(row, expected) for row in arrays) >= 2 + bool(end_point)  # features, blocks, evaluation
    dark = [row for row in arrays if row.shape != (SIDE, SIDE, 3)]
    assert not dark
    model = keras.saving.load_model(tmp_path / "out" / "model.keras")
    scores = []
    for kind, source in (("folder", tmp_path / "out"), ("file", tmp_path / "out" / "model.keras"), ("model", model)):
        names = {"labels": tmp_path / "out" / "model.labels.txt"} if kind == "model" else {}
        caught.clear()
        scores.append(evaluate(folder, source, batch=1, **names).scores)
        assert any(np.array_equal(batch[0], expected) for batch in caught), kind
        caught.clear()
        gradcam(source, photo, 1, "Mixed_5b")
        activations(source, photo, ["Mixed_5b"])
        report(photo, source, tmp_path / kind, end_points=["Mixed_5b"], classes=1)
        assert len(caught) >= 4 and all(np.array_equal(batch[0], expected) for batch in caught), kind
    np.testing.assert_allclose(scores[1], scores[0], atol=1e-6)
    np.testing.assert_allclose(scores[2], scores[0], atol=1e-6)


def test_a_keras_applications_model_is_scaled_as_an_inception_v3(folder, tmp_path):
    """Its own layers and slim's names give one number."""
    import keras

    model = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(SIDE, SIDE, 3))
    found = {}
    for point in ("mixed7", "Mixed_6e"):
        features.extract(folder, tmp_path / point, model, end_points=(point,), engine="tensorflow")
        found[point] = features.load(tmp_path / point).arrays[point]
    scale = np.abs(found["Mixed_6e"]).max()
    np.testing.assert_allclose(found["mixed7"], found["Mixed_6e"], atol=1e-5 * scale)
    cut = keras.Model(model.input, model.get_layer("mixed7").output)
    assert networks.network_of(cut).picture == pictures.KERAS.at(SIDE)


def test_a_network_we_do_not_know_must_be_told_about():
    import keras

    shape = (SIDE, SIDE, 3)
    inner = keras.applications.InceptionV3(weights=None, include_top=False, input_shape=shape, pooling="avg")
    image = keras.Input((SIDE, SIDE, 3))
    as_it_comes = keras.Sequential([image, keras.layers.RandomFlip(), inner, keras.layers.Dense(4, "softmax")])
    assert networks.network_of(as_it_comes).picture == pictures.KERAS.at(SIDE)
    assert [label.name for label in networks.network_of(as_it_comes).labels] == [f"class {i}" for i in range(4)]
    scaled = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Rescaling(1 / 255), inner])
    other = keras.Sequential([keras.Input((SIDE, SIDE, 3)), keras.layers.Conv2D(3, 3), keras.layers.Flatten()])

    class RandomScale(keras.layers.Layer):  # of the user's own: its name promises nothing
        def call(self, x):
            return x / 255

    own = keras.Sequential([keras.Input(shape), RandomScale(), inner])
    for model in (scaled, other, own):
        with pytest.raises(ValueError, match="is no InceptionV3 that takes its pictures as they come: say which"):
            networks.network_of(model)
        assert networks.network_of(model, preprocess="none").input(np.full((9, 9, 3), 255, np.uint8)).max() == 255
        assert networks.network_of(model, picture="unit").input(np.full((9, 9, 3), 255, np.uint8)).max() == 1
    with pytest.raises(ValueError, match="preprocessed pictures have values"):
        networks.network_of(as_it_comes, preprocess="none")


def test_a_model_without_labels_is_a_classifier_all_the_same(folder, tmp_path):
    """Not 1000 classes of ImageNet: indices."""
    model = builder.model_of(weights_of("keras"), input_shape=(SIDE, SIDE, 3))
    found = evaluate(folder, model)
    assert found.pictures.classes == tuple(f"class {i}" for i in range(7))
    assert classify.classifier_of(model).labels[3].name == "class 3"


def test_folders_that_hold_no_network(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is a folder without"):
        networks.network_of(tmp_path / "empty")
    random_weights(dataclasses.replace(NARROW, num_classes=0)).save(tmp_path / "empty" / "model.ckpt-7")
    assert networks.network_of(tmp_path / "empty").inception.variant.num_classes == 0
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ValueError, match="is a SavedModel"):
        networks.network_of(tmp_path / "saved")
