"""Pixel values to the network's range: Keras's own numbers, any type, and never a change to the argument."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from inception.pictures import NAMED, preprocess_input

PIXELS = np.random.default_rng(0).integers(0, 256, [2, 5, 4, 3], np.uint8)
RGB = NAMED["torch"]
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
    assert not np.shares_memory(preprocess_input(pixels, picture="pixels"), pixels)


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
    ("picture", "black", "grey", "white"),
    [
        ("keras", -1, 0, 1),
        ("slim", -1, 0, 1),
        ("torchvision", -1, 0, 1),
        ("google_2015", -1, -0.00390625, 0.9921875),
        ("pixels", 0, 127.5, 255),
    ],
)
def test_the_range_is_the_pictures(picture, black, grey, white):
    np.testing.assert_array_equal(preprocess_input([0, 127.5, 255], picture=picture), np.float32([black, grey, white]))


def test_blue_first():
    expected = PIXELS[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    np.testing.assert_allclose(preprocess_input(PIXELS, picture="caffe"), expected, rtol=1e-6)
    first = preprocess_input(np.moveaxis(PIXELS, -1, -3), "channels_first", "caffe")
    np.testing.assert_allclose(first, np.moveaxis(expected, -1, -3), rtol=1e-6)


def test_2015_is_exactly_its_graph():
    expected = (PIXELS - np.float32(128)) * 0.0078125
    np.testing.assert_array_equal(preprocess_input(PIXELS, picture="google_2015"), expected)


@pytest.mark.parametrize("kind", [np.asarray, tf.constant])
def test_a_mean_and_scale_for_each_channel(kind):
    expected = (PIXELS - np.float32(RGB.mean)) / np.float32(RGB.scale)
    np.testing.assert_allclose(preprocess_input(kind(PIXELS), picture=RGB), expected, rtol=1e-6)
    last = preprocess_input(kind(PIXELS[0]), "channels_last", RGB)
    np.testing.assert_allclose(last, expected[0], rtol=1e-6)
    for pixels, values in ((PIXELS, expected), (PIXELS[0], expected[0])):
        first = preprocess_input(kind(np.moveaxis(pixels, -1, -3)), "channels_first", RGB)
        np.testing.assert_allclose(first, np.moveaxis(values, -1, -3), rtol=1e-6)


def test_another_data_format_is_refused():
    with pytest.raises(ValueError, match='data_format is \'first\'; expected "channels_last" or "channels_first"'):
        preprocess_input(PIXELS, "first")
