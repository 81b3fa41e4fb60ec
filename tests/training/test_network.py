"""Trunks, their blocks, and what is frozen in the model with a classifier."""

import keras
import numpy as np
import pytest
from made import NARROW, random_weights

from inception.training import network as trunks

SIDE = 75


@pytest.fixture(scope="module")
def trunk():
    return trunks.trunk_of(random_weights(NARROW), size=SIDE, end_point="Mixed_5b")


def small(*layers, shape=(8, 8, 3)):
    return keras.Sequential([keras.Input(shape), *layers], name="own")


def test_blocks_are_the_rows_of_the_table_up_to_the_end_point(trunk):
    first, *_, last = trunk.blocks
    assert (first, last) == ("Conv2d_1a_3x3", "Mixed_5b")
    assert trunk.blocks["Conv2d_1a_3x3"] == ("conv2d_1", "batch_normalization_1")
    assert len(trunk.blocks["Mixed_5b"]) == 14  # seven convolutions, each with its batch norm
    named = {name for block in trunk.blocks.values() for name in block}
    assert named == {layer.name for layer in trunk.base.layers if layer.weights}
    whole = trunks.inception_blocks(NARROW)
    assert sum(map(len, whole.values())) == 2 * 94 and list(whole)[-1] == "Mixed_7c"
    assert not trunk.whole and trunk.base.output_shape == (None, 25)


def test_from_a_block_on_is_it_and_all_above(trunk):
    above = trunk.from_block("Conv2d_4a_3x3")
    assert above == {*trunk.blocks["Conv2d_4a_3x3"], *trunk.blocks["Mixed_5b"]}
    with pytest.raises(ValueError, match="no block 'Mixed_7c' to unfreeze .*; expected one of Conv2d_1a_3x3, "):
        trunk.from_block("Mixed_7c")


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match=r"Unknown end_point 'Mixed_9' \(did you mean Mixed_\w\w\?\); expected one of"):
        trunks.trunk_of(random_weights(NARROW), size=SIDE, end_point="Mixed_9")
    model = small(keras.layers.Flatten())
    with pytest.raises(ValueError, match="end_point is for InceptionV3"):
        trunks.trunk_of(model, end_point="Mixed_5b", preprocess="none", size=8)


def test_another_model_ends_in_features_with_a_name():
    model = small(keras.layers.Conv2D(4, 3, name="first"), keras.layers.Conv2D(5, 3, name="last"))
    found = trunks.trunk_of(model, size=8, preprocess="none")
    assert found.base.output_shape == (None, 5) and found.end_point == "pooled_features" and not found.whole
    assert found.blocks == {"first": ("first",), "last": ("last",)} and found.from_block("last") == {"last"}
    with pytest.raises(ValueError, match=r"own makes \(None, 8, 24\); expected maps"):
        trunks.trunk_of(small(keras.layers.Reshape((8, 24))), size=8, preprocess="none")


def test_digests_tell_values_apart():
    a, b = (trunks.trunk_of(random_weights(NARROW, seed), size=SIDE, end_point="Mixed_5b").digest for seed in (0, 1))
    assert a != b


def test_a_classifier_is_put_on_copies(trunk):
    model = trunks.with_classifier(trunk, 3, [], 0.5, 0)
    copy, own = model.get_layer("conv2d_1"), trunk.base.get_layer("conv2d_1")
    assert copy is not own and model.output_shape == (None, 3)
    np.testing.assert_array_equal(copy.get_weights()[0], own.get_weights()[0])
    assert [layer.name for layer in model.layers][-2:] == ["dropout", "predictions"]
    images = np.random.default_rng(0).uniform(-1, 1, (2, SIDE, SIDE, 3)).astype(np.float32)
    features = keras.Model(model.inputs, model.get_layer("predictions").input)(images, training=False)
    np.testing.assert_allclose(features, trunk.base(images, training=False), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_norm", ["frozen", "train"])
def test_only_what_is_unfrozen_trains(trunk, batch_norm):
    model = trunks.with_classifier(trunk, 3, [], 0, 0)
    trunks.freeze(model, trunk.from_block("Mixed_5b"), batch_norm)
    trained = {layer.name for layer in model.layers if layer.trainable and layer.weights}
    norms = {name for name in trunk.blocks["Mixed_5b"] if name.startswith("batch")}
    convolutions = {*trunk.blocks["Mixed_5b"]} - norms
    assert trained == {"predictions", *convolutions, *(norms if batch_norm == "train" else ())}


def test_augmentations_have_seeds_of_their_own_and_unknown_ones_are_named(trunk):
    flip, zoom = trunks.augmentation(["flip", "zoom"], 5, trunk.network)
    assert (flip.name, zoom.name) == ("augment_flip", "augment_zoom") and (flip.seed, zoom.seed) == (6, 7)
    with pytest.raises(ValueError, match="Unknown augmentation 'flop'; expected some of flip, shift, rotate, zoom"):
        trunks.augmentation(["flop"], 5, trunk.network)


def test_layers_of_ones_own_see_pixels_and_sleep_at_inference(trunk):
    seen = []

    class Looking(keras.layers.Layer):
        def call(self, x, training=None):
            seen.append(x)
            return 255 - x

    [layer] = trunks.augmentation([Looking()], 5, trunk.network)
    pixels = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32)
    x = pixels / 127.5 - 1
    seen.clear()
    changed = layer(x, training=True)
    np.testing.assert_allclose(seen[0], pixels, atol=1e-3)
    np.testing.assert_allclose(changed, -x, atol=1e-5)
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_in_training_batch_norm_takes_the_statistics_of_the_batch():
    model = small(keras.layers.BatchNormalization(name="norm"), keras.layers.Dropout(0.9))
    x = np.random.default_rng(0).normal(3, 2, (4, 8, 8, 3)).astype(np.float32)
    found = np.asarray(trunks.in_training(model)(x, training=False))
    np.testing.assert_allclose(found.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1, 2)), 1, atol=1e-3)
