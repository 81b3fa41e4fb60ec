"""Keras 3's files: what Keras saves is read, what we write Keras loads, for every kind of model, bit for bit."""

from __future__ import annotations

import dataclasses
import io
import json
import zipfile

import h5py
import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, first, random_weights

from inception import load_weights, pictures
from inception.variants import GOOGLE_2015, TORCHVISION
from inception.weights import (
    CheckpointError,
    CorruptFile,
    MissingTensor,
    ResourceLimit,
    ShapeMismatch,
    UnsupportedFeature,
)
from inception.weights.canonical import VARIANT
from inception.weights.dialects import keras_config
from inception.weights.formats import keras_archive

keras = pytest.importorskip("keras")

from inception.builders.keras import InceptionV3, to_weights  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::inception.weights.canonical.UnverifiedFile")

TORCH = dataclasses.replace(TORCHVISION, num_classes=5, depth_multiplier=0.1, min_depth=4, aux_kernel=(1, 1))
TORCH_PLAIN = dataclasses.replace(TORCH, aux_logits=False, aux_kernel=(5, 5))
OF_2015 = dataclasses.replace(GOOGLE_2015, num_classes=9, background=False, depth_multiplier=0.1, min_depth=4)
ENDINGS = [".weights.h5", ".keras"]


def build(weights, **options):
    """The Keras model of narrow weights."""
    variant = weights.variant
    size = 107 if variant.aux_logits else 75
    options = {"input_shape": (size, size, 3), "classes": variant.num_classes or 1000} | options
    return InceptionV3(
        include_top=bool(variant.num_classes),
        weights=weights,
        aux_logits=variant.aux_logits,
        depth_multiplier=variant.depth_multiplier,
        min_depth=variant.min_depth,
        variant=variant,
        **options,
    )


def saved(model, path):
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return path


KINDS = {
    "base, pooled": (NARROW_NOTOP, {"pooling": "avg"}),
    "border, aux, dropout": (TORCH, {"dropout": 0.2}),
    "maximum pool": (OF_2015, {}),
    "plain": (NARROW, {"classifier_activation": "softmax"}),
    "aux": (NARROW_AUX, {}),
    "border, dropout": (TORCH_PLAIN, {"dropout": 0.2}),
}


@pytest.fixture(scope="module", params=first(3, KINDS))
def kind(request):
    variant, options = KINDS[request.param]
    weights = random_weights(variant)
    return weights, build(weights, **options)


# ---- reading what Keras saves


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_keras_saves_is_read(kind, tmp_path, ending):
    weights, model = kind
    found = load_weights(saved(model, tmp_path / f"x{ending}"))
    assert_same(found, weights)
    for field in ("border", "last_pool", "gamma", "aux_logits", "num_classes"):
        assert getattr(found.variant, field) == getattr(weights.variant, field)
    assert found.source.integrity == ("checksum" if ending == ".keras" else "structure")


def test_the_layers_are_in_the_order_of_the_model(kind):
    weights, model = kind
    found = [(layer.name, type(layer).__name__) for layer in model.layers]
    dropouts = [name for name, _ in found].count("dropout")
    described = [(layer.name, layer.kind) for layer in keras_config.describe(weights.variant, dropouts).by_depth()]
    assert found[: len(described)] == described
    assert [name for name, _ in found[len(described) :]] in ([], ["global_average_pooling2d"])


@pytest.fixture(scope="module")
def applications():
    """Keras's own InceptionV3, full size, each array of its own values."""
    model = keras.applications.InceptionV3(weights=None, classes=6, input_shape=(75, 75, 3))
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.uniform(0.1, 1, variable.shape).astype(np.float32))
    return model


def test_keras_applications_there_and_back(applications, tmp_path):
    weights = to_weights(applications)
    expected = applications.get_weights()
    for ending in ENDINGS:
        assert_same(load_weights(saved(applications, tmp_path / f"theirs{ending}")), weights)
    weights.save(tmp_path / "ours.weights.h5")
    applications.set_weights([np.zeros_like(array) for array in expected])
    applications.load_weights(tmp_path / "ours.weights.h5")
    for theirs, ours in zip(expected, applications.get_weights(), strict=True):
        np.testing.assert_array_equal(theirs, ours)


def test_tf_keras_writes_the_same_layout(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3))
    convs = [layer for layer in model.layers if type(layer).__name__ == "Conv2D"]
    convs.sort(key=lambda layer: int(layer.name.partition("_")[2] or 0))
    for ending in ENDINGS:
        found = load_weights(saved(model, tmp_path / f"x{ending}"))
        kernels = [array for name, array in found.arrays.items() if name.endswith("/weights")]
        for layer, kernel in zip(convs, kernels, strict=True):
            np.testing.assert_array_equal(layer.get_weights()[0], kernel)


def test_a_model_in_training(tmp_path):
    """The optimizer's slots are left out, and the state of a dropout layer."""
    weights = random_weights(NARROW)
    model = build(weights, dropout=0.2)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    for ending in ENDINGS:
        path = saved(model, tmp_path / f"x{ending}")
        assert path.stat().st_size > 2.5 * sum(array.nbytes for array in weights.arrays.values())
        assert_same(load_weights(path), weights)


def test_a_base_inside_another_model(tmp_path):
    weights = random_weights(NARROW_NOTOP)
    base = build(weights)
    image = keras.Input((75, 75, 3))
    wrapped = keras.Sequential([image, keras.layers.Rescaling(1 / 255), base])
    head = keras.layers.Dense(3)
    tuned = keras.Sequential([image, base, keras.layers.GlobalAveragePooling2D(), head])
    for ending in ENDINGS:
        found = load_weights(saved(wrapped, tmp_path / f"a{ending}"))
        assert_same(found, weights)
        assert not found.extra
        found = load_weights(saved(tuned, tmp_path / f"b{ending}"))  # its Dense is the classifier
        assert_same(found.step("drop-top"), weights)
        assert not found.extra
        np.testing.assert_array_equal(found.arrays["InceptionV3/Logits/Conv2d_1c_1x1/weights"][0, 0], head.kernel)


def test_a_base_with_layers_behind_it(tmp_path):
    """One classifier on the pooled base is InceptionV3; more layers are another head."""
    weights = random_weights(NARROW_NOTOP)
    base = build(weights, pooling="avg")
    hidden = keras.layers.Dense(4, name="mine")(base.output)
    tuned = keras.Model(base.input, keras.layers.Dense(3, name="dense")(hidden))
    found = load_weights(saved(tuned, tmp_path / "x.weights.h5"))
    assert_same(found, weights)
    assert found.extra.keys() == {f"layers/{name}/vars/{i}" for name in ("dense", "dense_1") for i in (0, 1)}
    found = load_weights(saved(tuned, tmp_path / "x.keras"))
    assert_same(found, weights)
    assert found.extra.keys() == {f"{name}/{weight}" for name in ("mine", "dense") for weight in ("kernel", "bias")}
    simple = keras.Model(base.input, keras.layers.Dense(3, name="mine")(base.output))
    assert load_weights(saved(simple, tmp_path / "y.weights.h5")).variant.num_classes == 3


def test_more_convolutions_than_ours(tmp_path):
    base = build(random_weights(NARROW_NOTOP))
    more = keras.Model(base.input, keras.layers.Conv2D(4, 1, name="mine")(base.output))
    with pytest.raises(UnsupportedFeature, match="has 95 and 94 convolutions and batch norms, expected 96 and 96"):
        load_weights(saved(more, tmp_path / "x.weights.h5"))
    assert load_weights(saved(more, tmp_path / "x.keras")).extra.keys() == {
        "layers/conv2d_94/vars/0",
        "layers/conv2d_94/vars/1",
    }


def test_what_is_no_whole_network(tmp_path):
    part = InceptionV3(False, None, None, (75, 75, 3), depth_multiplier=0.1, min_depth=4, final_endpoint="Mixed_5b")
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    for ending in ENDINGS:
        with pytest.raises((MissingTensor, UnsupportedFeature)):
            load_weights(saved(part, tmp_path / f"part{ending}"))
        with pytest.raises(UnsupportedFeature):
            load_weights(saved(other, tmp_path / f"other{ending}"))


def test_other_layer_names(tmp_path):
    """In a `.keras` the numbers may start anywhere; a `.weights.h5` does not go by names, so any will do."""
    weights = random_weights(NARROW)
    model = build(weights)
    for layer in model.layers:
        group, _, number = layer.name.rpartition("_")
        if group in ("conv2d", "batch_normalization"):
            layer.name = f"{group}_{int(number) + 93}"
    assert_same(load_weights(saved(model, tmp_path / "x.keras")), weights)
    for layer in model.layers:
        layer.name = f"my_{layer.name}"
    assert_same(load_weights(saved(model, tmp_path / "x.weights.h5")), weights)


# ---- writing what Keras loads


def test_our_values_load_into_the_built_model(kind, tmp_path):
    """Into models with a dropout layer too, whose state the file has not."""
    weights, model = kind
    others = random_weights(weights.variant, seed=1)
    others.save(tmp_path / "x.weights.h5")
    model.load_weights(tmp_path / "x.weights.h5")
    assert_same(to_weights(model), others)


def test_keras_makes_our_archive_into_the_built_model(kind, tmp_path):
    """The same layers with the same arguments and inputs, the same values, and the same numbers out of them."""
    _, model = kind
    weights = to_weights(model)
    weights.save(tmp_path / "x.keras")
    loaded = keras.saving.load_model(tmp_path / "x.keras")
    assert_same(to_weights(loaded), weights)
    size = weights.picture.size if weights.variant.num_classes else None
    assert loaded.input_shape == (None, size, size, 3)
    ours, theirs = (each.get_config() for each in (loaded, model))
    there = {layer["name"]: layer for layer in theirs["layers"]}
    for layer in ours["layers"]:
        if layer["class_name"] == "InputLayer":
            assert pictures.from_input_name(layer["name"], size) in (None, weights.picture)
            continue
        other = there[layer["name"]]
        assert layer["class_name"] == other["class_name"]
        arguments = {name: value for name, value in other["config"].items() if name not in ("dtype", "batch_shape")}
        assert {name: layer["config"][name] for name in arguments} == arguments
        if "dropout" not in there or layer["name"] != "predictions":
            assert inputs_of(loaded.get_layer(layer["name"])) == inputs_of(model.get_layer(layer["name"]))
    assert loaded.name == model.name
    named, *place = keras.tree.flatten(ours["input_layers"])
    assert [named.partition("--")[0], *place] == keras.tree.flatten(theirs["input_layers"])
    if weights.variant.num_classes:
        assert ours["output_layers"] == theirs["output_layers"]
    if loaded.input_shape == model.input_shape:
        images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:])).astype(np.float32)
        expected, found = model(images), loaded(images)
        if isinstance(expected, dict):
            assert expected.keys() == found.keys() == {"predictions", "aux_predictions"}
        expected, found = keras.tree.flatten(expected), keras.tree.flatten(found)
        assert len(expected) == len(found) == len(model.outputs)
        for arrays in zip(expected, found, strict=True):
            np.testing.assert_array_equal(*map(keras.ops.convert_to_numpy, arrays))


def inputs_of(layer):
    """Names of the layers before; of an input that says the way of a picture, the first part."""
    return [tensor._keras_history.operation.name.partition("--")[0] for tensor in keras.tree.flatten(layer.input)]


# ---- damage and hostile files


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """One network in both formats, by us and by Keras: {name: bytes}."""
    folder = tmp_path_factory.mktemp("written")
    weights = random_weights(NARROW)
    model = build(weights)
    for ending in ENDINGS:
        weights.save(folder / f"ours{ending}")
        saved(model, folder / f"keras{ending}")
    return weights, {path.name: path.read_bytes() for path in folder.iterdir()}


def outcome(path, weights):
    """True for the right weights, False for an exception of ours; anything else fails."""
    try:
        found = load_weights(path)
    except CheckpointError:
        return False
    assert_same(found, weights)
    return True


def test_a_flipped_byte_of_what_keras_wrote_is_never_silent(tmp_path, written):
    weights, files = written
    name, count = "keras.keras", 60
    data = files[name]
    rng = np.random.default_rng(1)
    spread = np.linspace(0, len(data) - 1, count // 2).astype(int)
    ends = np.concatenate([rng.integers(0, 4096, count // 4), len(data) - 1 - rng.integers(0, 400, count // 4)])
    refused = 0
    for at in (*spread, *ends):
        damaged = bytearray(data)
        damaged[at] ^= 0xFF if rng.integers(2) else 1 << rng.integers(8)
        (tmp_path / name).write_bytes(damaged)
        refused += not outcome(tmp_path / name, weights)
    assert refused >= count * 0.6


def test_a_lost_sector_of_a_small_tensor(tmp_path):
    """Zeros with a checksum of zero are right by HDF5's rule; our own checksum tells."""
    weights = random_weights(NARROW)
    path = tmp_path / "x.weights.h5"
    weights.save(path)
    data = path.read_bytes()
    beta = weights.arrays["InceptionV3/Mixed_6b/Branch_1/Conv2d_0b_1x7/BatchNorm/beta"].tobytes()
    assert data.count(beta) == 1
    at = data.index(beta)
    path.write_bytes(data[:at] + bytes(len(beta) + 4) + data[at + len(beta) + 4 :])
    with pytest.raises(CorruptFile, match="checksum is wrong"):
        load_weights(path)


def test_untrained_weights_are_still_checksummed(tmp_path):
    weights = random_weights(NARROW)
    zeros = {name: np.zeros_like(array) if "beta" in name else array for name, array in weights.arrays.items()}
    dataclasses.replace(weights, arrays=zeros).save(tmp_path / "x.weights.h5")
    assert load_weights(tmp_path / "x.weights.h5").source.integrity == "checksum"


@pytest.mark.parametrize("name", ["keras.keras", "keras.weights.h5"])
@pytest.mark.parametrize("share", [0.1, 0.9, 0.9999])
def test_a_cut_file(tmp_path, written, name, share):
    _, files = written
    (tmp_path / name).write_bytes(files[name][: int(share * len(files[name]))])
    with pytest.raises(CorruptFile):
        load_weights(tmp_path / name)


def repacked(data, path, **members):
    """The archive with members changed (a function of their bytes), or left out (None)."""
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            change = members.get(name.split(".")[0], lambda text: text)
            if change is not None:
                new.writestr(name, change(old.read(name)))
        for name in members.keys() - {name.split(".")[0] for name in old.namelist()}:
            new.writestr(name, members[name])


def renamed(text):
    config = json.loads(text)
    layers = {layer["name"]: layer for layer in config["config"]["layers"]}
    layers["conv2d_7"]["config"]["name"] = "conv2d_8"
    return json.dumps(config)


def swapped(text):
    """Two convolutions that differ in shape change names."""
    config = json.loads(text)
    layers = {layer["name"]: layer for layer in config["config"]["layers"]}
    layers["conv2d_1"]["config"]["name"], layers["conv2d_2"]["config"]["name"] = "conv2d_2", "conv2d_1"
    return json.dumps(config)


def nested(text):
    config = json.loads(text)
    for _ in range(20):
        config = {"config": {"layers": [{"class_name": "Functional", "config": config["config"]}]}}
    return json.dumps(config)


@pytest.mark.parametrize(
    ("members", "error"),
    [
        ({"config": None}, UnsupportedFeature),
        ({"metadata": None}, UnsupportedFeature),
        ({"model": None}, UnsupportedFeature),
        ({"config": lambda _: b"{"}, CorruptFile),
        ({"config": lambda _: b"[]"}, CorruptFile),
        ({"config": lambda _: b"{}"}, CorruptFile),
        ({"config": lambda _: b'{"config": {"layers": 3}}'}, CorruptFile),
        ({"config": lambda _: b'{"config": {"layers": [{"class_name": 3, "config": {}}]}}'}, CorruptFile),
        ({"config": lambda _: b'{"config": {"layers": [3]}}'}, CorruptFile),
        ({"config": lambda _: b'{"config": 3}'}, CorruptFile),
        ({"config": lambda _: b'{"config": {"layers": []}}'}, CheckpointError),
        ({"config": lambda _: b"[" * 1_000_000}, CorruptFile),
        ({"config": lambda text: text + b" " * (17 << 20)}, ResourceLimit),
        ({"config": renamed}, CorruptFile),
        ({"config": swapped}, CheckpointError),
        ({"config": nested}, CorruptFile),
        ({"model": lambda _: b"PK"}, CorruptFile),
        ({"model": lambda _: b""}, CorruptFile),
    ],
)
def test_an_archive_of_another_kind(tmp_path, written, members, error):
    repacked(written[1]["keras.keras"], tmp_path / "x.keras", **members)
    with pytest.raises(error):
        load_weights(tmp_path / "x.keras")


def test_a_packed_archive_with_more_in_it_is_read(tmp_path, written):
    weights, files = written
    repacked(files["keras.keras"], tmp_path / "x.keras", **{"assets/vocabulary.txt": b"words"})
    assert_same(load_weights(tmp_path / "x.keras"), weights)


def test_code_in_a_config_stays_text(tmp_path, written):
    def armed(text):
        config = json.loads(text)
        config["config"]["layers"][1]["module"] = "os"
        config["config"]["layers"][5]["registered_name"] = "system"
        config["build_config"] = {"class_name": "__lambda__", "config": {"value": "e" * 100}}
        return json.dumps(config)

    repacked(written[1]["keras.keras"], tmp_path / "x.keras", config=armed)
    assert_same(load_weights(tmp_path / "x.keras"), written[0])


def changed(data, path, change):
    path.write_bytes(data)
    with h5py.File(path, "r+") as file:
        change(file)


def quantized(file):
    kernel = file["layers/conv2d_3/vars/0"][()]
    del file["layers/conv2d_3/vars/0"]
    file["layers/conv2d_3/vars/0"] = kernel.astype(np.int8)


def with_biases(file):
    file["layers/conv2d_3/vars/1"] = np.zeros(4, np.float32)


def one_missing(file):
    del file["layers/conv2d_3/vars/0"]


def wrong_variant(file):
    file.attrs[VARIANT] = np.bytes_(b'{"border": "sideways"}')


@pytest.mark.parametrize(
    ("change", "error"),
    [(quantized, ShapeMismatch), (with_biases, UnsupportedFeature), (one_missing, MissingTensor),
     (wrong_variant, CorruptFile)],
)  # fmt: skip
def test_arrays_that_are_not_ours(tmp_path, written, change, error):
    changed(written[1]["keras.weights.h5"], tmp_path / "x.weights.h5", change)
    with pytest.raises(error, match=r"x\.weights\.h5"):
        load_weights(tmp_path / "x.weights.h5")


def test_half_precision_is_read(tmp_path, written):
    def halved(file):
        for name in ("layers/conv2d/vars/0", "layers/dense/vars/1"):
            array = file[name][()]
            del file[name]
            file[name] = array.astype(np.float16)

    changed(written[1]["keras.weights.h5"], tmp_path / "x.weights.h5", halved)
    found = load_weights(tmp_path / "x.weights.h5").arrays["InceptionV3/Conv2d_1a_3x3/weights"]
    expected = written[0].arrays["InceptionV3/Conv2d_1a_3x3/weights"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found, expected)


def test_titles(tmp_path, written):
    titles = {}
    for name, data in written[1].items():
        (tmp_path / name).write_bytes(data)
        titles[name.partition(".")[2]] = load_weights(tmp_path / name).source.format
    assert titles == {"keras": keras_archive.ARCHIVE_TITLE, "weights.h5": keras_archive.WEIGHTS_TITLE}
