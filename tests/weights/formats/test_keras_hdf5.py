"""Legacy Keras HDF5 files: any numbering, any writer, and each way of being wrong."""

import dataclasses

import h5py
import numpy as np
import pytest
from made import NARROW, assert_same, random_weights

from inception import load_weights
from inception.variants import GOOGLE_2015, TORCHVISION
from inception.weights import CheckpointError, MissingTensor, ShapeMismatch, UnsupportedFeature

TORCH = dataclasses.replace(TORCHVISION, num_classes=5, depth_multiplier=0.1, min_depth=4, aux_kernel=(1, 1))
OF_2015 = dataclasses.replace(GOOGLE_2015, depth_multiplier=0.1, min_depth=4)


def test_real_weights_round_trip(real_h5, tmp_path):
    weights = load_weights(real_h5)
    assert weights.parameters == 21_802_784
    assert weights.source.integrity == "structure"
    weights.save(tmp_path / "x.h5")
    assert_same(load_weights(tmp_path / "x.h5"), weights)
    with h5py.File(real_h5) as theirs, h5py.File(tmp_path / "x.h5") as ours:
        found = [[str(name, "ascii") if isinstance(name, bytes) else name for name in f.attrs["layer_names"]]
                 for f in (theirs, ours)]  # fmt: skip
        assert found[0] == found[1]
        for name in found[0]:
            theirs[name].visititems(lambda path, item, name=name: check(item, ours[name][path]))


def check(theirs, ours):
    if isinstance(theirs, h5py.Dataset):
        np.testing.assert_array_equal(theirs[()], ours[()])


def renumbered(source, target, conv, norm):
    """The same file as another Keras would have numbered it."""
    with h5py.File(source) as old, h5py.File(target, "w") as new:
        for name in old:
            kind, _, number = name.rpartition("_")
            to = name
            if kind in ("conv2d", "batch_normalization"):
                first = conv if kind == "conv2d" else norm
                n = int(number) - 1 + first
                to = f"{kind}_{n}" if n else kind
            for weight, dataset in old[name][name].items() if name in old[name] else ():
                new.create_dataset(f"{to}/{to}/{weight}", data=dataset[()])
        new.attrs["layer_names"] = [b"not", b"needed"]


@pytest.mark.parametrize(("conv", "norm"), [(0, 0), (95, 95), (189, 3)])
def test_numbers_may_start_anywhere(tmp_path, conv, norm):
    weights = random_weights(NARROW)
    weights.save(tmp_path / "x.h5")
    renumbered(tmp_path / "x.h5", tmp_path / "y.h5", conv, norm)
    assert_same(load_weights(tmp_path / "y.h5"), weights)


def test_files_of_model_save_and_of_keras_itself(tmp_path):
    import keras

    keras.utils.set_random_seed(1)
    model = keras.applications.InceptionV3(weights=None, classes=3)
    model.compile("sgd", "mse")
    model.save(tmp_path / "whole.h5")  # legacy layout under model_weights, names of this process
    from inception.builders.keras import to_weights

    assert_same(load_weights(tmp_path / "whole.h5"), to_weights(model))


@pytest.mark.thorough  # at full size; test_matrix.py loads a narrow one
def test_keras_loads_what_we_write(tmp_path):
    import keras

    from inception.builders.keras import to_weights

    keras.utils.set_random_seed(2)
    source = to_weights(keras.applications.InceptionV3(weights=None, classes=4))
    source.save(tmp_path / "x.h5")
    model = keras.applications.InceptionV3(weights=None, classes=4)
    model.load_weights(tmp_path / "x.h5")
    assert_same(to_weights(model), source)


def edited(tmp_path, edit, variant=NARROW):
    random_weights(variant).save(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "a", libver=("v110", "v110")) as file:
        edit(file)
    return tmp_path / "x.h5"


def test_a_missing_array_is_named(tmp_path):
    path = edited(tmp_path, lambda f: f["batch_normalization_7"].__delitem__("batch_normalization_7/moving_mean:0"))
    with pytest.raises(MissingTensor, match="Mixed_5b/Branch_1/Conv2d_0a_1x1/BatchNorm/moving_mean"):
        load_weights(path)


def test_a_convolution_with_a_bias_is_another_network(tmp_path):
    path = edited(tmp_path, lambda f: f.create_dataset("conv2d_9/conv2d_9/bias:0", data=np.ones(9, np.float32)))
    with pytest.raises(UnsupportedFeature, match="conv2d_9 has a bias; InceptionV3's convolutions have none"):
        load_weights(path)


def test_another_head_is_kept_aside_and_dropped_by_name(tmp_path):
    head = np.arange(6, dtype=np.float32).reshape(2, 3)
    path = edited(tmp_path, lambda f: f.create_dataset("dense/dense/kernel:0", data=head))
    weights = load_weights(path)
    np.testing.assert_array_equal(weights.extra["dense/kernel"], head)
    assert weights.source.notes == ("1 arrays beyond InceptionV3 kept aside: dense/kernel",)
    with pytest.raises(CheckpointError, match=r"1 arrays beyond InceptionV3 \(dense/kernel, .*the step drop-extra"):
        weights.save(tmp_path / "y.h5")
    weights.step("drop-extra").save(tmp_path / "y.h5")
    assert_same(load_weights(tmp_path / "y.h5"), random_weights(NARROW))


def test_a_misshapen_array_is_named(tmp_path):
    def edit(file):
        del file["conv2d_3/conv2d_3/kernel:0"]
        file["conv2d_3/conv2d_3/kernel:0"] = np.zeros((5, 5, 2, 2), np.float32)

    with pytest.raises(ShapeMismatch, match="conv2d_3/kernel is 5x5x2x2, expected 3x3x"):
        load_weights(edited(tmp_path, edit))


def test_other_hdf5_files_are_told_apart(tmp_path):
    with h5py.File(tmp_path / "vgg.h5", "w") as file:
        file["block1_conv1/block1_conv1/kernel:0"] = np.zeros((3, 3, 3, 64))
    with pytest.raises(UnsupportedFeature, match=r"none of InceptionV3's convolutions \(layers found: block1_conv1\)"):
        load_weights(tmp_path / "vgg.h5")
    with h5py.File(tmp_path / "v02.h5", "w") as file:
        file["convolution2d_1/convolution2d_1_W:0"] = np.zeros((3, 3, 3, 32))
    with pytest.raises(UnsupportedFeature, match="Keras 1 file"):
        load_weights(tmp_path / "v02.h5")
