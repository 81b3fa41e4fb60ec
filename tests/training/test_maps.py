"""The upper part of a network, fed with the maps of the lower one, trains as the whole network does."""

import keras
import numpy as np
import pytest
from made import NARROW_NOTOP, random_weights
from PIL import Image

from inception.training import folders, maps
from inception.training import network as networks

SIDE = 75


@pytest.fixture(scope="module")
def trunk():
    return networks.trunk_of(random_weights(NARROW_NOTOP), SIDE, "whole")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name in "ab":
        (root / name).mkdir()
        for i in range(5):
            Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(root / name / f"{i}.png")
    return folders.read(root)


def parts(trunk, block, engine="tensorflow"):
    """(the whole network with a classifier, the lower part, the upper one), with the same weights."""
    unfrozen = trunk.from_block(block)
    models = [networks.with_classifier(trunk, 2, [], 0.0, 0) for _ in range(2)]
    for model in models:
        networks.freeze(model, unfrozen, "frozen")
    lower = maps.lower(trunk, unfrozen, engine, "float32")
    return models[0], lower, maps.above(models[1], lower.end)


def kept(trunk, lower, folder, precision="float32", augment=("flip", "rotate"), versions=1):
    layers = networks.augmentation(augment, 3, trunk.network)
    return maps.Maps(trunk.network, lower, tuple(layers), versions, 4, precision, folder, lambda *said: None)


@pytest.mark.parametrize(("block", "end", "engine"), [
    ("Mixed_7a", "mixed7", "openvino"),
    ("Mixed_7c", "mixed9", "tensorflow"),
    ("Mixed_5b", "max_pooling2d_2", "onnxruntime"),
    ("Conv2d_1a_3x3", "", "tensorflow"),
])  # fmt: skip
def test_the_parts_are_the_whole(trunk, pictures, block, end, engine):
    whole, lower, upper = parts(trunk, block, engine)
    assert lower.end == end
    x = np.stack([trunk.network.input(path) for path in pictures.paths[:4]])
    assert lower.run(x).shape == (4, *lower.shape)
    np.testing.assert_allclose(upper(lower.run(x)), whole(x, training=False), rtol=1e-4)


def test_both_train_to_the_same_numbers(trunk, pictures):
    whole, lower, upper = parts(trunk, "Mixed_7b")
    x, y = np.stack([trunk.network.input(path) for path in pictures.paths]), pictures.labels
    for model in (whole, upper):
        model.compile(keras.optimizers.SGD(0.01), loss="sparse_categorical_crossentropy", run_eagerly=True)
    for _ in range(3):
        losses = whole.train_on_batch(x, y), upper.train_on_batch(lower.run(x), y)
        assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert len(whole.trainable_variables) == len(upper.trainable_variables)
    for layer in (each for each in upper.layers if each.weights):
        for mine, theirs in zip(layer.get_weights(), whole.get_layer(layer.name).get_weights(), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


def test_bfloat16_is_near_and_its_variables_are_float32(trunk, pictures, tmp_path):
    _, lower, upper = parts(trunk, "Mixed_7b")
    exact = upper(lower.run(np.stack([trunk.network.input(path) for path in pictures.paths])))
    half = kept(trunk, lower, tmp_path, "bfloat16").validation(pictures)
    networks.in_bfloat16(upper)
    found = np.concatenate([upper(half[i][0]) for i in range(len(half))])
    assert found.dtype == np.float32 and {v.dtype for v in upper.variables} == {"float32"}
    np.testing.assert_allclose(found, exact, atol=0.02)
    assert not np.array_equal(found, exact)
    assert (tmp_path / "validation.npy").stat().st_size < np.prod((10, *lower.shape)) * 2 + 200


def test_a_version_is_of_its_number_alone(trunk, pictures, tmp_path):
    """Not of what was computed before it; and each picture has a chance of its own."""
    lower = maps.Lower("", (SIDE, SIDE, 3), lambda inputs: inputs)
    order = np.array([7, 0, 3, 9])
    first = kept(trunk, lower, tmp_path / "a", versions=2)
    batches = [first.training(pictures, order, epoch)[0] for epoch in (1, 2, 3)]
    alone = kept(trunk, lower, tmp_path / "b", versions=2).training(pictures, order, 2)[0]
    assert np.array_equal(batches[1][0], alone[0]) and np.array_equal(batches[1][1], pictures.labels[order])
    assert np.array_equal(batches[0][0], batches[2][0]) and not np.array_equal(batches[0][0], batches[1][0])
    plain = kept(trunk, lower, tmp_path / "a", augment=()).of(pictures)
    assert len({np.abs(row - plain[i]).max() for i, row in zip(order, batches[0][0], strict=True)}) == 4


def test_a_damaged_file_is_computed_again(trunk, pictures, tmp_path):
    lower = maps.Lower("", (SIDE, SIDE, 3), lambda inputs: inputs)
    expected = kept(trunk, lower, tmp_path).validation(pictures)[0][0]
    file = tmp_path / "validation.npy"
    whole = file.read_bytes()
    for content in (b"", whole[:-1], whole[:60], b"\x80" * 200, whole.replace(b"<f4", b"|O8")):
        file.write_bytes(content)
        assert np.array_equal(kept(trunk, lower, tmp_path).validation(pictures)[0][0], expected)
        assert file.read_bytes() == whole


@pytest.mark.parametrize(("wanted", "augmented", "count", "found"), [
    (None, True, 1000, 4), (None, False, 1000, 1), (7, True, 1000, 7), (7, False, 1000, 1), (0, True, 1000, 0),
    (None, True, 20_000, 1), (None, True, 100_000, 0), (None, False, 100_000, 0),
])  # fmt: skip
def test_how_many_versions_are_kept(wanted, augmented, count, found):
    assert maps.versions(wanted, augmented, count, (17, 17, 768), "float32") == found
