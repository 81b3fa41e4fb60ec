"""Pictures to tensors, against TensorFlow's own resize and crop."""

import numpy as np
import pytest
from PIL import Image

from inception import images
from inception.variants import GOOGLE_2015


@pytest.fixture(scope="module")
def photo():
    return images.test_picture(131)[:, :97]


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("size", [(299, 299), (75, 107), (131, 97), (300, 20)])
def test_resize_is_tensorflow_1s(photo, size):
    import tensorflow as tf

    expected = tf.compat.v1.image.resize_bilinear(photo[None].astype(np.float32), size)[0]
    np.testing.assert_allclose(images.resize(photo, *size), expected, atol=2e-4)


def test_the_slim_recipe_crops_as_central_crop_does(photo):
    import tensorflow as tf

    expected = tf.image.central_crop(photo, 0.875)
    np.testing.assert_array_equal(images._centre(photo), expected)
    assert images.prepare(photo, 75, recipe="slim").shape == (75, 75, 3)


def test_prepare_scales_for_the_variant(photo):
    white = np.full((10, 10, 3), 255, np.uint8)
    assert images.prepare(white, 75).max() == 1.0
    assert images.prepare(white, 75, GOOGLE_2015).max() == pytest.approx(127 / 128)
    with pytest.raises(ValueError, match="Unknown recipe 'vgg'; expected one of keras, slim"):
        images.prepare(white, 75, recipe="vgg")


def test_lossless_pictures_come_back_as_they_are(tmp_path, photo):
    for ending in ("png", "bmp", "tiff"):
        np.testing.assert_array_equal(images.read(save(tmp_path / f"a.{ending}", photo)), photo)


def test_odd_modes(tmp_path):
    grey16 = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    np.testing.assert_array_equal(images.read(tmp_path / "grey16.png")[..., 0], grey16 >> 8)
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (images.read(save(tmp_path / "grey.png", grey)) == grey[..., None]).all()
    rgba = np.zeros((4, 4, 4), np.uint8) + np.array([9, 8, 7, 0], np.uint8)
    assert (images.read(save(tmp_path / "rgba.png", rgba)) == [9, 8, 7]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "does not exist"), (b"", "is no picture"), (b"hello, world", "is no picture"), ("cut", "is damaged")],
)
def test_bad_pictures_get_a_sentence(tmp_path, photo, content, message):
    path = save(tmp_path / "x.jpg", photo)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:900] if content == "cut" else content)
    with pytest.raises(ValueError, match=message):
        images.read(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="is too large"):
        images.read(save(tmp_path / "big.png", np.zeros((40, 40), np.uint8)))


def test_the_test_picture_is_always_the_same():
    picture = images.test_picture(64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, images.test_picture(64))
    assert picture.std() > 20
