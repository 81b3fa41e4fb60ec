"""Pixel values to the network's range: Keras's own numbers, any type, and never a change to the argument."""

import copy
import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception.images import preprocess_input
from inception.variants import GOOGLE_2015, KERAS, SLIM, TORCHVISION

PIXELS = np.random.default_rng(0).integers(0, 256, [2, 5, 4, 3], np.uint8)
RGB = dataclasses.replace(KERAS, pixel_mean=(123.675, 116.28, 103.53), pixel_scale=(58.395, 57.12, 57.375))
ONE_ULP = 1.2e-7  # of float32 at 1


def theirs(pixels: np.ndarray) -> np.ndarray:
    return keras.applications.inception_v3.preprocess_input(pixels.astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "float32", "float64"])
def test_any_type_gives_keras_numbers_as_float32_and_stays_as_it_was(dtype):
    pixels = PIXELS.astype(dtype)
    kept = pixels.tobytes()
    result = preprocess_input(pixels)
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (np.float32, pixels.shape)
    np.testing.assert_allclose(result, theirs(pixels), rtol=0, atol=ONE_ULP)
    assert pixels.tobytes() == kept
    assert not np.shares_memory(result, pixels)


def test_an_argument_that_cannot_be_written_to_is_no_obstacle():
    pixels = PIXELS.astype(np.float32)
    pixels.flags.writeable = False
    np.testing.assert_array_equal(preprocess_input(pixels), preprocess_input(PIXELS))
    unit = dataclasses.replace(KERAS, pixel_mean=(0.0, 0.0, 0.0), pixel_scale=(1.0, 1.0, 1.0))
    assert not np.shares_memory(preprocess_input(pixels, variant=unit), pixels)


def test_lists_and_single_pixels():
    pixels = PIXELS.tolist()
    kept = copy.deepcopy(pixels)
    np.testing.assert_array_equal(preprocess_input(pixels), preprocess_input(PIXELS))
    assert pixels == kept
    assert [preprocess_input(value) for value in (0, 127.5, 255)] == [-1, 0, 1]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64"])
def test_tensors_stay_tensors_and_as_they_were(dtype):
    pixels = tf.constant(PIXELS.astype(dtype))
    result = preprocess_input(pixels)
    assert isinstance(result, tf.Tensor)
    assert (result.dtype, result.shape) == (tf.float32, pixels.shape)
    np.testing.assert_array_equal(result, preprocess_input(PIXELS))
    np.testing.assert_array_equal(pixels, PIXELS)


def test_it_works_in_a_pipeline_whatever_the_backend_is(monkeypatch):
    monkeypatch.delattr(keras.ops, "cast")  # another backend's knows no TensorFlow tensor
    pipeline = tf.data.Dataset.from_tensor_slices(PIXELS).map(preprocess_input).batch(2)
    np.testing.assert_array_equal(next(iter(pipeline)), preprocess_input(PIXELS))


def test_it_works_in_a_model():
    image = keras.Input((5, 4, 3), dtype="uint8")
    model = keras.Model(image, preprocess_input(image))
    np.testing.assert_array_equal(model(PIXELS), preprocess_input(PIXELS))


@pytest.mark.parametrize(
    ("variant", "black", "grey", "white"),
    [(KERAS, -1, 0, 1), (SLIM, -1, 0, 1), (TORCHVISION, -1, 0, 1), (GOOGLE_2015, -1, -0.00390625, 0.9921875)],
    ids=["keras", "slim", "torchvision", "google_2015"],
)
def test_the_range_is_the_variants(variant, black, grey, white):
    np.testing.assert_array_equal(preprocess_input([0, 127.5, 255], variant=variant), np.float32([black, grey, white]))


def test_2015_is_exactly_its_graph():
    np.testing.assert_array_equal(preprocess_input(PIXELS, variant=GOOGLE_2015), (PIXELS - np.float32(128)) * 0.0078125)


@pytest.mark.parametrize("kind", [np.asarray, tf.constant])
def test_a_mean_and_scale_for_each_channel(kind):
    expected = (PIXELS - np.float32(RGB.pixel_mean)) / np.float32(RGB.pixel_scale)
    np.testing.assert_allclose(preprocess_input(kind(PIXELS), variant=RGB), expected, rtol=1e-6)
    last = preprocess_input(kind(PIXELS[0]), "channels_last", RGB)
    np.testing.assert_allclose(last, expected[0], rtol=1e-6)
    for pixels, values in ((PIXELS, expected), (PIXELS[0], expected[0])):
        first = preprocess_input(kind(np.moveaxis(pixels, -1, -3)), "channels_first", RGB)
        np.testing.assert_allclose(first, np.moveaxis(values, -1, -3), rtol=1e-6)


def test_another_data_format_is_refused():
    with pytest.raises(ValueError, match='data_format is \'first\'; expected "channels_last" or "channels_first"'):
        preprocess_input(PIXELS, "first")
