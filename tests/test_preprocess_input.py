"""Pixel values to the network's range: Keras's own numbers and types, and never a change to the argument."""

import copy

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from made import noise

from inception.pictures import NAMED, preprocess_input

PIXELS = noise(2, 5, 4, 3)
RGB = NAMED["torch"]
peer = keras.applications.inception_v3.preprocess_input


TYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", ml_dtypes.bfloat16]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_any_type_gives_keras_numbers_in_keras_type_and_stays_as_it_was(dtype):
    pixels = PIXELS.astype(dtype)
    kept = pixels.tobytes()
    result, expected = preprocess_input(pixels), peer(pixels.copy())
    assert type(result) is np.ndarray
    assert (result.dtype, result.shape) == (expected.dtype, pixels.shape)
    np.testing.assert_allclose(result, expected, rtol=0, atol=np.finfo(result.dtype).eps)
    assert pixels.tobytes() == kept
    assert not np.shares_memory(result, pixels)


@pytest.mark.parametrize("floatx", ["float16", "float64"])
def test_whole_numbers_become_keras_floatx(floatx):
    kept = keras.config.floatx()
    keras.config.set_floatx(floatx)
    try:
        expected = peer(PIXELS.copy())
        for pixels in (PIXELS, PIXELS.tolist(), tf.constant(PIXELS)):
            assert preprocess_input(pixels).dtype == expected.dtype == floatx
        assert preprocess_input(PIXELS.astype(np.float32)).dtype == np.float32
        assert NAMED["keras"].scaled(PIXELS).dtype == np.float32  # the networks here take nothing else
    finally:
        keras.config.set_floatx(kept)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_once(dtype):
    """To the nearest of their numbers: a mean of 123.675 is none of them."""
    pixels = tf.cast(PIXELS, dtype)
    exact = (tf.cast(pixels, tf.float64) - RGB.mean) / RGB.scale
    np.testing.assert_array_equal(preprocess_input(pixels, picture=RGB), tf.cast(exact, dtype))


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


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_tensors_stay_tensors_of_their_type_and_as_they_were(dtype):
    pixels = tf.cast(PIXELS, dtype)
    kept = tf.identity(pixels)
    for given in (pixels, tf.Variable(pixels)):
        result = preprocess_input(given)
        assert isinstance(result, tf.Tensor)
        assert (result.dtype, result.shape) == (peer(pixels).dtype, pixels.shape) == (dtype, pixels.shape)
        values = [tf.cast(each, "float64") for each in (result, peer(pixels))]
        np.testing.assert_allclose(*values, rtol=0, atol=float(ml_dtypes.finfo(dtype).eps))
        np.testing.assert_array_equal(given, kept)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_tensors_of_whole_numbers_become_floats(dtype):
    """Which Keras refuses."""
    np.testing.assert_array_equal(preprocess_input(tf.cast(PIXELS, dtype)), preprocess_input(PIXELS), strict=True)


def test_it_works_in_a_pipeline_whatever_the_backend_is(monkeypatch):
    monkeypatch.delattr(keras.ops, "cast")  # another backend's knows no TensorFlow tensor
    pipeline = tf.data.Dataset.from_tensor_slices(PIXELS).map(preprocess_input).batch(2)
    np.testing.assert_array_equal(next(iter(pipeline)), preprocess_input(PIXELS))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float64"])
def test_it_works_in_a_model(dtype):
    image = keras.Input((5, 4, 3), dtype=dtype)
    model = keras.Model(image, preprocess_input(image))
    assert model.output.dtype == peer(image).dtype
    np.testing.assert_array_equal(model(PIXELS.astype(dtype)), preprocess_input(PIXELS.astype(dtype)))


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
