"""Every readable format into every writable one, and every file we write through its own ecosystem."""

import dataclasses
import importlib.util
import warnings

import numpy as np
import pytest
import torture
from made import NARROW, NARROW_AUX, assert_same, random_weights

from inception import load_weights
from inception.variants import GOOGLE_2015, TORCHVISION
from inception.weights.canonical import OtherRules

TORCH = importlib.util.find_spec("torch") is not None
WRITABLE = ["x.h5", "x.weights.h5", "x.keras", "x.ckpt", "x.v1.ckpt", "x.pb", "x.safetensors", "x.slim.safetensors",
            "x.npz", *(["x.pth"] if TORCH else [])]  # fmt: skip


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The same small network in every format we read."""
    weights, paths = random_weights(torture.TINY), {}
    for number, (name, (write, file, _, _)) in enumerate(torture.FORMATS.items()):
        folder = tmp_path_factory.mktemp(f"source{number}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            write(weights, folder / file)
        paths[name] = folder / file
    return paths


def taken(path):
    read = load_weights(path)
    if read.variant.gamma:  # torch's files have gammas, of ones here
        read = read.step("fold-gamma")
    assert_same(read, random_weights(torture.TINY))
    return read


def passed_on(read, path):
    read.save(path)
    assert_same(load_weights(path), random_weights(torture.TINY))


# All of them hold the same arrays when they are read; so a part of the pairs tells of the others.
PAIRS = [(source, WRITABLE[i % len(WRITABLE)]) for i, source in enumerate(torture.FORMATS)]


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_every_readable_format_and_every_writable_one(sources, tmp_path, source, target):
    passed_on(taken(sources[source]), tmp_path / target)


@pytest.mark.thorough
@pytest.mark.parametrize("source", list(torture.FORMATS))
def test_every_readable_format_into_every_writable_one(sources, tmp_path, source):
    read = taken(sources[source])
    for target in WRITABLE:
        passed_on(read, tmp_path / target)


@pytest.mark.parametrize("rules", [TORCHVISION, GOOGLE_2015], ids=["torchvision", "google_2015"])
def test_gamma_and_rules_go_everywhere_or_are_warned_of(tmp_path, rules):
    classes = rules.num_classes if rules is GOOGLE_2015 else 5
    variant = dataclasses.replace(rules, num_classes=classes, depth_multiplier=0.01, min_depth=2, aux_kernel=(1, 1),
                                  epsilon=0.01)  # fmt: skip
    weights = random_weights(variant)
    for target in WRITABLE:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            weights.save(tmp_path / target)
        again = load_weights(tmp_path / target)
        assert_same(again, weights)
        lost = dataclasses.replace(again.variant, background=variant.background) != variant
        assert not lost or any(warning.category is OtherRules for warning in caught), target


def test_keras_and_tf_keras_open_what_we_write(tmp_path):
    import keras

    from inception.builders.keras import model_of, to_weights

    weights = random_weights(NARROW_AUX)
    for name in ("x.h5", "x.weights.h5"):
        weights.save(tmp_path / name)
        model = model_of(random_weights(NARROW_AUX, seed=9), input_shape=(107, 107, 3))
        model.load_weights(tmp_path / name)  # Keras's own reader
        assert_same(to_weights(model), weights)
    weights.save(tmp_path / "x.keras")
    assert_same(to_weights(keras.saving.load_model(tmp_path / "x.keras")), weights)


def test_tf_keras_reads_our_hdf5(tmp_path):
    tf_keras = pytest.importorskip("tf_keras")
    peer = tf_keras.applications.InceptionV3(weights=None, include_top=False, input_shape=(75, 75, 3))
    from inception.variants import KERAS

    weights = random_weights(dataclasses.replace(KERAS, num_classes=0))
    weights.save(tmp_path / "x.h5")
    peer.load_weights(tmp_path / "x.h5")
    peer.save_weights(tmp_path / "back.h5")
    assert_same(load_weights(tmp_path / "back.h5"), weights)


def test_tensorflow_numpy_safetensors_and_torch_open_what_we_write(tmp_path):
    import tensorflow as tf

    weights = random_weights(NARROW)
    for name in ("x.ckpt", "x.v1.ckpt"):
        weights.save(tmp_path / name)
        reader = tf.train.load_checkpoint(str(tmp_path / name))
        assert set(reader.get_variable_to_shape_map()) == set(weights.arrays)
        for variable, array in weights.arrays.items():
            np.testing.assert_array_equal(reader.get_tensor(variable), array)
    weights.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        for variable, array in weights.arrays.items():
            np.testing.assert_array_equal(archive[variable], array)
    if importlib.util.find_spec("safetensors"):
        from safetensors.numpy import load_file

        weights.save(tmp_path / "x.slim.safetensors")
        found = load_file(tmp_path / "x.slim.safetensors")
        for variable, array in weights.arrays.items():
            np.testing.assert_array_equal(found[variable], array)
    if TORCH:
        import torch

        weights.save(tmp_path / "x.pth")
        state = torch.load(tmp_path / "x.pth", weights_only=True)
        first = state["Conv2d_1a_3x3.conv.weight"].numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(first, weights.arrays["InceptionV3/Conv2d_1a_3x3/weights"])


def test_the_full_network_once(real_h5, tmp_path):
    weights = load_weights(real_h5)
    for target in ("x.weights.h5", "x.v1.ckpt", "x.pb", "x.safetensors", "x.npz"):
        weights.save(tmp_path / target)
        weights = load_weights(tmp_path / target)
        (tmp_path / target).unlink()
    assert_same(weights, load_weights(real_h5))
    assert weights.variant == load_weights(real_h5).variant
