"""slim's checkpoints through the canonical weights: V1, V2, training checkpoints."""

import dataclasses

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, random_weights

from inception import load_weights
from inception.files.tensorflow import tensor_bundle
from inception.variants import TORCHVISION
from inception.weights import MissingTensor, UnsupportedFeature, formats
from inception.weights.formats import slim_checkpoint

GAMMA = dataclasses.replace(TORCHVISION, num_classes=5, depth_multiplier=0.1, min_depth=4, border="exclude")


@pytest.mark.parametrize(("name", "version"), [("m.v1.ckpt", 1), ("m.ckpt-12", 2)])
def test_versions_and_steps(tmp_path, name, version):
    weights = random_weights(GAMMA)
    again = load_weights(weights.save(tmp_path / name))
    assert_same(again, weights)
    assert again.source.format.startswith(f"TensorFlow checkpoint V{version}")


def test_any_of_a_checkpoints_names_will_do(tmp_path):
    weights = random_weights(NARROW)
    weights.save(tmp_path / "m.ckpt")
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/elsewhere/m.ckpt"\n')
    for path in ("m.ckpt.index", "m.ckpt.data-00000-of-00001", ""):
        assert_same(load_weights(tmp_path / path), weights)


def training_checkpoint(tmp_path, average=True):
    weights = random_weights(NARROW)
    arrays = dict(weights.arrays)
    for name, array in weights.arrays.items():
        arrays[f"{name}/RMSProp"] = arrays[f"{name}/RMSProp_1"] = np.zeros_like(array)
        if average and "moving_" not in name:
            arrays[f"{name}/ExponentialMovingAverage"] = array + 1
    arrays |= {"global_step": np.int64(7), "beta1_power": np.float32(0.9)}
    tensor_bundle.write(str(tmp_path / "t.ckpt"), arrays)
    return tmp_path / "t.ckpt", weights


def test_slots_and_steps_are_left_out_and_said_so(tmp_path):
    path, weights = training_checkpoint(tmp_path)
    again = load_weights(path)
    assert_same(again, weights)
    assert "training tensors" in again.source.notes[0]


def test_moving_averages_take_their_variables_places(tmp_path):
    path, weights = training_checkpoint(tmp_path)
    again = load_weights(path, moving_averages=True)
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array if "moving_" in name else array + 1)
    path, _ = training_checkpoint(tmp_path, average=False)
    with pytest.raises(MissingTensor, match="has no ExponentialMovingAverage tensors"):
        load_weights(path, moving_averages=True)


def test_a_missing_variable_is_named(tmp_path):
    arrays = dict(random_weights(NARROW).arrays)
    del arrays["InceptionV3/Mixed_7b/Branch_1/Conv2d_0b_3x1/BatchNorm/beta"]
    tensor_bundle.write(str(tmp_path / "m.ckpt"), arrays)
    with pytest.raises(MissingTensor, match="1 not in the file: .*/Mixed_7b/Branch_1/Conv2d_0b_3x1/BatchNorm/beta"):
        load_weights(tmp_path / "m.ckpt")


def test_another_network_is_told_apart(tmp_path):
    tensor_bundle.write(str(tmp_path / "m.ckpt"), {"vgg_16/conv1/weights": np.zeros((3, 3), np.float32)})
    with pytest.raises(UnsupportedFeature, match="vgg_16/conv1/weights"):
        load_weights(tmp_path / "m.ckpt")


def test_slims_saver_restores_it_into_slims_own_variables(tmp_path):
    import tensorflow as tf

    from inception.builders.slim import inception_v3_of

    weights = random_weights(NARROW_AUX)
    weights.save(tmp_path / "m.ckpt")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        inception_v3_of(NARROW_AUX, tf.compat.v1.placeholder(tf.float32, (1, 107, 107, 3)))
        tf.compat.v1.train.Saver().restore(session, str(tmp_path / "m.ckpt"))
        variables = {variable.op.name: variable for variable in tf.compat.v1.global_variables()}
        for name, value in session.run(variables).items():
            np.testing.assert_array_equal(value, weights.arrays[name])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.h5", "keras-h5"), ("a.hdf5", "keras-h5"), ("a.ckpt", "slim"), ("a.ckpt-9", "slim"), ("a.v1.ckpt", "slim-v1")],
)
def test_endings_name_formats(tmp_path, name, expected):
    assert formats.format_of(tmp_path / name) == expected


def test_prefixes():
    for name in ("m.ckpt", "m.ckpt.index", "m.ckpt.data-00001-of-00002"):
        assert slim_checkpoint.prefix(name) == "m.ckpt"


def test_another_head_of_slims_is_kept_aside(tmp_path):
    weights = random_weights(NARROW_NOTOP)
    head = {"InceptionV3/Logits/Bilinear/weights": np.ones((3, 2), np.float32)}
    tensor_bundle.write(str(tmp_path / "m.ckpt"), {**weights.arrays, **head})
    again = load_weights(tmp_path / "m.ckpt")
    assert_same(again, weights)
    assert list(again.extra) == list(head)
