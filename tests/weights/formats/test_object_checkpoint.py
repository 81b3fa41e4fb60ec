"""Checkpoints of objects and SavedModels: what Keras writes is read bit for bit, what is hostile is refused."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
import object_files
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, on_tensorflow, random_weights
from object_files import Object

from inception import load_weights
from inception.files.tensorflow import object_graph, wire
from inception.variants import Variant
from inception.weights import (
    CheckpointError,
    CorruptFile,
    MissingTensor,
    ResourceLimit,
    ShapeMismatch,
    UnsupportedFeature,
    formats,
)
from inception.weights.canonical import OtherRules

pytestmark = pytest.mark.filterwarnings("ignore::inception.weights.canonical.OtherRules")
TINY = Variant(num_classes=3, depth_multiplier=0.01, min_depth=2)


def number(name):
    return int(name.rpartition("_")[2]) if name[-1].isdigit() and "_" in name else 0


def assert_holds(weights, layers):
    """Every convolution and batch norm of a Keras model, by the numbers of its layers' names, and nothing else."""
    made = {}
    for kind in ("Conv2D", "BatchNormalization"):
        made[kind] = sorted(
            (each for each in layers if type(each).__name__ == kind), key=lambda each: number(each.name)
        )
    scopes = [name.removesuffix("/weights") for name in weights.arrays if name.endswith("/weights")]
    assert len(made["Conv2D"]) == len(made["BatchNormalization"]) == 94
    for scope, conv, norm in zip(scopes, made["Conv2D"], made["BatchNormalization"], strict=False):
        np.testing.assert_array_equal(weights.arrays[f"{scope}/weights"], conv.get_weights()[0])
        for name, array in zip(("beta", "moving_mean", "moving_variance"), norm.get_weights(), strict=True):
            np.testing.assert_array_equal(weights.arrays[f"{scope}/BatchNorm/{name}"], array)
    return len(scopes) - 94


def scramble(model):
    """Values of its own in each array, so that no two can be exchanged."""
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.1, 1, array.shape).astype(np.float32) for array in model.get_weights()])
    return model


# ---- what Keras 2 writes


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory):
    """A fine-tuned model of tf_keras, in training, and the folder that it was saved in in every way."""
    k = pytest.importorskip("tf_keras")
    import tensorflow as tf

    folder = tmp_path_factory.mktemp("keras2")
    base = scramble(k.applications.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3)))
    model = k.Sequential([base, k.layers.GlobalAveragePooling2D(), k.layers.Dropout(0.2), k.layers.Dense(5)])
    model.compile(k.optimizers.legacy.SGD(momentum=0.9), "mse", metrics=["accuracy"])
    model.fit(np.zeros((1, 75, 75, 3)), np.zeros((1, 5)), verbose=0)
    model.save_weights(folder / "x")
    tf.train.Checkpoint(net=model, opt=model.optimizer, step=tf.Variable(3)).save(str(folder / "saved" / "ckpt"))
    model.save(folder / "model")
    base.save_weights(folder / "base" / "x")
    return base, model, folder


@pytest.mark.parametrize("name", ["x", "x.index", "saved", "saved/ckpt-1"])
def test_a_fine_tuned_model_of_keras_2(keras_2, name):
    base, model, folder = keras_2
    found = load_weights(folder / name)
    assert assert_holds(found, base.layers) == 0
    assert (found.variant.num_classes, found.source.integrity) == (0, "checksum")
    kernel, bias = model.layers[-1].get_weights()
    place = "net/layers" if "saved" in name else "layers"  # a Dense among layers of unknown kinds is kept aside
    np.testing.assert_array_equal(found.extra[f"{place}/dense/kernel"], kernel)
    np.testing.assert_array_equal(found.extra[f"{place}/dense/bias"], bias)
    notes = " ".join(found.source.notes)
    assert "whether a Dense layer" in notes and "values that are no layer's" in notes


def test_the_base_alone(keras_2):
    base, _, folder = keras_2
    with pytest.warns(OtherRules, match="cannot be told from the layers"):
        found = load_weights(folder / "base" / "x")
    assert assert_holds(found, base.layers) == 0
    assert not found.extra


@pytest.mark.parametrize("name", ["model", "model/saved_model.pb"])
def test_a_saved_model_of_keras_2_says_its_rules(keras_2, name):
    base, model, folder = keras_2
    with warnings.catch_warnings():
        warnings.simplefilter("error", OtherRules)
        found = load_weights(folder / name)
    assert assert_holds(found, base.layers) == 1
    kernel, bias = model.layers[-1].get_weights()  # linked, it is the classifier
    np.testing.assert_array_equal(found.arrays["InceptionV3/Logits/Conv2d_1c_1x1/weights"][0, 0], kernel)
    np.testing.assert_array_equal(found.arrays["InceptionV3/Logits/Conv2d_1c_1x1/biases"], bias)
    assert (found.picture.size, found.variant.border, found.variant.last_pool) == (75, "exclude", "avg")
    assert found.source.format == "SavedModel"
    assert not found.extra


def metadata_of(folder):
    """[(number, JSON)] in keras_metadata.pb."""
    message = wire.Message((folder / "keras_metadata.pb").read_bytes(), "")
    return [(node.integer(2), bytes(node.data(5))) for node in message.messages(1)]


def with_metadata(source, target, change=lambda text: text):
    """A copy of a SavedModel with other metadata."""
    shutil.copytree(source, target, copy_function=lambda a, b: Path(b).hardlink_to(a))
    texts = metadata_of(source)
    (target / "keras_metadata.pb").unlink()
    nodes = (wire.encode_integer(2, number) + wire.encode_data(5, change(text)) for number, text in texts)
    (target / "keras_metadata.pb").write_bytes(b"".join(wire.encode_data(1, node) for node in nodes))
    return target


def test_metadata_inside_the_model_as_tensorflow_2_4_has_them(keras_2, tmp_path):
    _, _, folder = keras_2
    place = with_metadata(folder / "model", tmp_path / "model")
    said = dict(metadata_of(place))
    (place / "keras_metadata.pb").unlink()
    (place / "saved_model.pb").unlink()
    objects = (wire.encode_data(1, wire.encode_data(4, wire.encode_data(3, said.get(i, b""))))
               for i in range(max(said) + 1))  # fmt: skip
    graph = wire.encode_data(2, wire.encode_data(7, *objects))
    (place / "saved_model.pb").write_bytes(wire.encode_integer(1, 1) + graph)
    assert_same(load_weights(place), load_weights(folder / "model"))
    assert load_weights(place).variant.num_classes == 5


def test_the_rules_are_those_of_the_metadata(keras_2, tmp_path):
    _, _, folder = keras_2
    other = with_metadata(
        folder / "model", tmp_path / "a", lambda text: text.replace(b'epsilon": 0.001', b'epsilon": 0.5')
    )
    assert load_weights(other).variant.epsilon == 0.5
    for changed in (b'"class_name": "Concat"', b'"class_name": ["x"]'):
        strange = tmp_path / f"b{len(changed)}"
        with_metadata(folder / "model", strange, lambda text: text.replace(b'"class_name": "Concatenate"', changed))  # noqa: B023
        with pytest.raises((UnsupportedFeature, CorruptFile)):
            load_weights(strange)
    with pytest.raises(CorruptFile, match="JSON"):
        load_weights(with_metadata(folder / "model", tmp_path / "c", lambda text: text[:-1]))


def test_a_model_that_is_a_class(tmp_path):
    k = pytest.importorskip("tf_keras")
    base = scramble(k.applications.InceptionV3(weights=None, classes=4, input_shape=(75, 75, 3)))

    class Mine(k.Model):
        def __init__(self):
            super().__init__()
            self.base, self.head = base, k.layers.Dense(2)

        def call(self, inputs):
            return self.head(self.base(inputs))

    model = Mine()
    model.build((None, 75, 75, 3))
    model.head.build((None, 4))
    model.save_weights(tmp_path / "x")
    found = load_weights(tmp_path / "x")
    assert assert_holds(found, base.layers) == 1  # `predictions` by its name
    np.testing.assert_array_equal(found.arrays["InceptionV3/Logits/Conv2d_1c_1x1/biases"], base.get_weights()[-1])
    assert set(found.extra) == {"head/kernel", "head/bias"}


# ---- what Keras 3 writes


def built(weights, **options):
    from inception.builders.keras import model_of

    size = 107 if weights.variant.aux_logits else 75
    return model_of(weights, input_shape=(size, size, 3), **options)


@pytest.fixture(scope="module")
def keras_3():
    keras = pytest.importorskip("keras")
    weights = random_weights(NARROW_NOTOP)
    base = built(weights)
    model = keras.Sequential([base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return weights, model


@on_tensorflow
def test_what_keras_3_exports(keras_3, tmp_path):
    weights, model = keras_3
    model.export(tmp_path / "model", verbose=0)
    found = load_weights(tmp_path / "model")
    assert_same(found, weights)
    np.testing.assert_array_equal(found.extra["layers/dense/bias"], model.layers[-1].get_weights()[1])
    assert found.source.integrity == "checksum"
    written = set(formats.files_of(tmp_path / "model"))
    assert written == {path for path in (tmp_path / "model").rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError, match="is what is read"):
        formats.check_target(tmp_path / "model/saved_model.pb", "npz", source=tmp_path / "model")


@on_tensorflow
def test_a_checkpoint_of_a_model_of_keras_3(keras_3, tmp_path):
    import tensorflow as tf

    weights, model = keras_3
    found = load_weights(tf.train.Checkpoint(optimizer=model.optimizer, model=model).write(str(tmp_path / "x")))
    assert_same(found, weights)
    assert set(found.extra) == {"model/layers/dense/kernel", "model/layers/dense/bias"}


@on_tensorflow
@pytest.mark.parametrize("variant", [NARROW, NARROW_AUX], ids=["plain", "aux"])
def test_the_classifiers_are_known_by_their_names(tmp_path, variant):
    import tensorflow as tf

    weights = random_weights(variant)
    model = built(weights, dropout=0.2)
    assert_same(load_weights(tf.train.Checkpoint(model).write(str(tmp_path / "x"))), weights)
    model.export(tmp_path / "model", verbose=0)
    assert_same(load_weights(tmp_path / "model"), weights)


# ---- what tells layers apart


def saved(path, objects, arrays):
    object_files.write(path, arrays, object_files.graph(objects))
    return path


def test_layers_without_numbers_are_told_by_their_order(tmp_path):
    weights = random_weights(NARROW_NOTOP)
    objects, arrays = object_files.model_of(weights)
    assert_same(load_weights(saved(tmp_path / "x", object_files.renamed(objects, "mine"), arrays)), weights)


def test_numbers_tell_more_than_the_order(tmp_path):
    """As of a model whose other outputs change the order of its layers."""
    weights = random_weights(NARROW_NOTOP)
    objects, arrays = object_files.model_of(weights)
    backwards = dict(zip(objects[0].children, reversed(objects[0].children.values()), strict=True))
    objects[0] = Object(backwards)
    assert_same(load_weights(saved(tmp_path / "x", objects, arrays)), weights)


def test_circles_and_many_parents_are_no_matter(tmp_path):
    weights = random_weights(NARROW)
    objects, arrays = object_files.model_of(weights)
    count = len(objects)
    objects = [Object({"self": 0, "net": 2, "again": 2}), Object({"up": 0, "net": 2}),
               *(each._replace(children={k: i + 2 for k, i in each.children.items()}) for each in objects)]  # fmt: skip
    objects[count] = objects[count]._replace(children={**objects[count].children, "owner": 0})
    assert_same(load_weights(saved(tmp_path / "x", objects, arrays)), weights)


def test_two_networks_are_refused(tmp_path):
    objects, arrays = object_files.model_of(random_weights(TINY))
    count = len(objects)
    both = [Object({"a": 1, "b": 1 + count})]
    for copy, base in enumerate((1, 1 + count)):
        for children, name, key in objects:
            both.append(Object({k: i + base for k, i in children.items()}, name, key and f"{copy}/{key}"))
    twice = {f"{copy}/{key}": array for copy in (0, 1) for key, array in arrays.items()}
    with pytest.raises(UnsupportedFeature, match=r"holds 2 InceptionV3 \(a and b\)"):
        load_weights(saved(tmp_path / "x", both, twice))


def exported(names):
    """The graph of an exported model: a list of variables of these names, and their keys."""
    keys = [f"variables/{i}/.ATTRIBUTES/VARIABLE_VALUE" for i in range(len(names))]
    variables = [Object({}, name, key) for name, key in zip(names, keys, strict=True)]
    return [Object({"variables": 1}), Object({str(i): 2 + i for i in range(len(keys))}), *variables], keys


def test_two_exported_networks_are_refused(tmp_path):
    """Whose layers have the same names, as our builder gives them."""
    objects, arrays = object_files.model_of(random_weights(TINY))
    named = {each.full_name: arrays[each.key] for each in objects if each.key}
    objects, keys = exported([*named, *named])
    with pytest.raises(UnsupportedFeature, match="holds 2 InceptionV3"):
        load_weights(saved(tmp_path / "x", objects, dict(zip(keys, [*named.values()] * 2, strict=True))))
    objects, keys = exported([*named])
    assert_same(load_weights(saved(tmp_path / "y", objects, dict(zip(keys, named.values(), strict=True)))),
                random_weights(TINY))  # fmt: skip


def test_slims_names_among_objects(tmp_path):
    """As a SavedModel or a checkpoint of slim's network in TensorFlow 2 has them."""
    weights = random_weights(NARROW)
    objects, keys = exported([f"{name}:0" for name in weights.arrays])
    prefix = saved(tmp_path / "x", objects, dict(zip(keys, weights.arrays.values(), strict=True)))
    assert_same(load_weights(prefix), weights)
    with pytest.raises(CheckpointError, match="checkpoint of objects"):
        load_weights(prefix, moving_averages=True)


def test_a_saved_model_of_tensorflow_1(tmp_path):
    weights = random_weights(NARROW)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    (tmp_path / "variables").mkdir()
    weights.save(tmp_path / "variables" / "variables", format="slim")
    assert_same(load_weights(tmp_path), weights)
    shutil.rmtree(tmp_path / "variables")
    with pytest.raises(UnsupportedFeature, match="is a SavedModel without variables"):
        load_weights(tmp_path)


def test_a_part_of_a_network_is_none(tmp_path):
    objects, arrays = object_files.model_of(random_weights(TINY))
    gone = next(i for i, each in enumerate(objects) if each.full_name == "conv2d_7/kernel")
    key = objects[gone].key
    objects[gone] = Object()
    with pytest.raises(UnsupportedFeature, match="has 93 and 94 convolutions and batch norms"):
        load_weights(saved(tmp_path / "x", objects, {k: v for k, v in arrays.items() if k != key}))
    objects, arrays = object_files.model_of(random_weights(TINY))
    gone = next(i for i, each in enumerate(objects) if each.full_name == "batch_normalization_9/beta")
    del arrays[objects[gone].key]
    with pytest.raises(MissingTensor, match="1 not in the file"):
        load_weights(saved(tmp_path / "y", objects, arrays))
    objects, arrays = object_files.model_of(random_weights(TINY))
    arrays[objects[gone].key] = np.zeros(77, np.float32)
    with pytest.raises(ShapeMismatch, match="is 77, expected"):
        load_weights(saved(tmp_path / "z", objects, arrays))


def test_a_bias_is_not_left_aside(tmp_path):
    objects, arrays = object_files.model_of(random_weights(TINY))
    kernel = next(i for i, each in enumerate(objects) if each.full_name == "conv2d_7/kernel")
    layer = next(i for i, each in enumerate(objects) if kernel in each.children.values())
    arrays[KEY] = np.zeros(2, np.float32)
    objects.append(Object({}, "conv2d_7/bias", KEY))
    objects[layer] = Object({**objects[layer].children, "bias": len(objects) - 1})
    with pytest.raises(UnsupportedFeature, match="conv2d_7 has a bias"):
        load_weights(saved(tmp_path / "x", objects, arrays))


# ---- hostile ones

KEY = "w/.ATTRIBUTES/VARIABLE_VALUE"
DEEP = [Object({"x" * 40: i + 1}) for i in range(3000)] + [Object()]
ONE_LIST = [Object({f"layer-{i}": 1 + i for i in range(300)}), *[Object({"_functional": 301})] * 300,
            Object({f"layer-{i}": 302 for i in range(40_000)}), Object()]  # fmt: skip
HOSTILE = {
    "no objects": b"",
    "no protobuf": b"\xff" * 20,
    "a child that is not there": object_files.graph([Object({"a": 7})]),
    "two children of one name": wire.encode_data(1, wire.encode_data(1, wire.encode_data(2, b"a")) * 2),
    "child of a negative number": wire.encode_data(
        1, wire.encode_data(1, wire.encode_integer(1, -1), wire.encode_data(2, b"a"))
    ),
    "a ring alone": object_files.graph([Object({"a": 1, "_operations": 0}), Object({"layer-0": 0, "_functional": 1})]),
    "two values": wire.encode_data(1, wire.encode_data(2, wire.encode_data(1, b"VARIABLE_VALUE")) * 2),
    "objects in objects": object_files.graph(DEEP),
    "one long list of many models": object_files.graph(ONE_LIST),
    "20,000 layers": object_files.graph(
        [Object({f"layer-{i}": i + 1 for i in range(20_000)}), *[Object()] * 20_000]
    ),
    "a key of another checkpoint": object_files.graph(
        [Object({"layer-0": 1}), Object({"kernel": 2}), Object({}, "a/kernel", "gone")]
    ),
    "nine megabytes": bytes(9 << 20),
}  # fmt: skip


def hostile(prefix, text):
    object_files.write(prefix, {KEY: np.ones((1, 1, 2, 2), np.float32)}, text)
    return prefix


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_graph_is_refused_soon(tmp_path, what):
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        load_weights(hostile(tmp_path / "x", HOSTILE[what]))
    assert time.process_time() - started < 5
    assert str(tmp_path / "x") in str(caught.value)


REASONS = {"objects in objects": ResourceLimit, "20,000 layers": ResourceLimit, "nine megabytes": ResourceLimit,
           "two values": CorruptFile}  # fmt: skip


@pytest.mark.parametrize(("what", "error"), REASONS.items())
def test_what_is_said_of_it(tmp_path, what, error):
    with pytest.raises(error):
        load_weights(hostile(tmp_path / "x", HOSTILE[what]))


def test_the_text_of_the_graph_has_checksums(tmp_path):
    objects, arrays = object_files.model_of(random_weights(TINY))
    prefix = saved(tmp_path / "x", objects, arrays)
    data = Path(f"{prefix}.data-00000-of-00001")
    sound = data.read_bytes()
    start = sound.index(object_files.graph(objects))
    name = sound.index(b"conv2d_9/kernel")  # which by another name would be told by its order
    for place in (start - 7, start - 6, start - 1, start, name + 2):
        data.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        with pytest.raises(CorruptFile, match=object_graph.NAME):
            load_weights(prefix)


def test_metadata_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(object_graph, "LARGEST_METADATA", 10)
    node = wire.encode_data(1, wire.encode_data(5, json.dumps({"name": "long"}).encode()))
    (tmp_path / "keras_metadata.pb").write_bytes(node)
    with pytest.raises(ResourceLimit, match="bytes of metadata"):
        object_graph.metadata(tmp_path)
