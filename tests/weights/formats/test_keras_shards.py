"""Keras 3's weights in shards: what Keras saves is read, and nothing but the shards beside the JSON."""

from __future__ import annotations

import dataclasses
import json
import shutil

import h5py
import numpy as np
import pytest
import torture
from made import NARROW_NOTOP, assert_same, random_weights

from inception import load_weights
from inception.variants import TORCHVISION
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature, formats

pytestmark = pytest.mark.filterwarnings("ignore::inception.weights.canonical.UnverifiedFile")

BORDER = dataclasses.replace(TORCHVISION, num_classes=5, depth_multiplier=0.1, min_depth=4, aux_logits=False)


def build(weights, **options):
    from inception.builders.keras import model_of

    return model_of(weights, input_shape=(75, 75, 3), **options)


def test_what_keras_saves(tmp_path):
    """A border rule, a dropout and an optimizer among it; the layers lie in four files."""
    weights = random_weights(BORDER)
    pytest.importorskip("keras")
    model = build(weights, dropout=0.2)
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    model.save_weights(tmp_path / "x.weights.json", max_shard_size=0.0005)
    shards = sorted(tmp_path.glob("x_*.weights.h5"))
    assert len(shards) > 4
    found = load_weights(tmp_path / "x.weights.json")
    assert_same(found, weights)
    assert (found.variant.border, found.source.integrity) == ("include", "structure")
    assert set(formats.files_of(tmp_path / "x.weights.json")) == {*shards, tmp_path / "x.weights.json"}
    with pytest.raises(CheckpointError, match="is what is read"):
        formats.check_target(shards[1], "keras-h5", source=tmp_path / "x.weights.json")


def test_a_base_inside_another_model(tmp_path):
    keras = pytest.importorskip("keras")
    weights = random_weights(NARROW_NOTOP)
    model = keras.Sequential([build(weights), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5)])
    model.save_weights(tmp_path / "x.weights.json", max_shard_size=0.0005)
    found = load_weights(tmp_path / "x.weights.json")
    kernel, bias = model.layers[-1].get_weights()
    np.testing.assert_array_equal(found.arrays["InceptionV3/Logits/Conv2d_1c_1x1/weights"][0, 0], kernel)
    np.testing.assert_array_equal(found.arrays["InceptionV3/Logits/Conv2d_1c_1x1/biases"], bias)
    assert_same(found.step("drop-top"), weights)


@pytest.fixture
def sharded(tmp_path):
    torture.sharded(random_weights(torture.TINY), tmp_path / "x.weights.json")
    return tmp_path / "x.weights.json"


def test_the_torturers_file_is_sound(sharded):
    assert_same(load_weights(sharded), random_weights(torture.TINY))


HOSTILE = {
    "above": ({"a": "../x_00000.weights.h5"}, UnsafeFile),
    "absolute": ({"a": "/etc/hostname"}, UnsafeFile),
    "a drive": ({"a": "c:x"}, UnsafeFile),
    "the folder": ({"a": ["x_00000.weights.h5", "."]}, UnsafeFile),
    "no name": ({"a": ""}, UnsafeFile),
    "NUL": ({"a": "x\0"}, UnsafeFile),
    "missing": ({"a": "x_00007.weights.h5"}, CorruptFile),
    "a number": ({"a": 7}, CorruptFile),
    "lists in lists": ({"a": [["x_00000.weights.h5"]]}, CorruptFile),
    "a list": (["x_00000.weights.h5"], CorruptFile),
    "nothing": ({}, CorruptFile),
    "too many": ({str(i): f"x_{i:05d}.weights.h5" for i in range(257)}, ResourceLimit),
    "itself": ({"a": "x.weights.json"}, CheckpointError),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_map_that_leads_elsewhere(sharded, what):
    places, error = HOSTILE[what]
    sharded.write_text(json.dumps({"weight_map": places}))
    with pytest.raises(error) as caught:
        load_weights(sharded)
    assert str(sharded.parent) in str(caught.value)


def test_a_shard_that_is_a_link(sharded):
    shard = sharded.with_name("x_00001.weights.h5")
    shard.rename(sharded.with_name("elsewhere.h5"))
    shard.symlink_to("elsewhere.h5")
    with pytest.raises(UnsafeFile, match="link"):
        load_weights(sharded)
    shard.unlink()
    with pytest.raises(CorruptFile, match="x_00001.*is missing"):
        load_weights(sharded)


def test_shards_that_do_not_belong_together(sharded):
    first, second = sharded.with_name("x_00000.weights.h5"), sharded.with_name("x_00001.weights.h5")
    sound = second.read_bytes()
    shutil.copy(first, second)
    with pytest.raises(CorruptFile, match="two of its shards have layers/"):
        load_weights(sharded)
    with h5py.File(second, "w") as file:
        file["layers/conv2d/vars/9"] = np.zeros(3, np.float32)
    with pytest.raises(UnsupportedFeature, match="convolutions and batch norms"):
        load_weights(sharded)
    second.write_bytes(sound[:-9])
    with pytest.raises(CheckpointError):
        load_weights(sharded)
