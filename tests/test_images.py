"""Pictures to tensors, against TensorFlow's own resize, crop and decoders."""

import dataclasses
import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from inception import images
from inception.variants import GOOGLE_2015, KERAS, SLIM, TORCHVISION


@pytest.fixture(scope="module")
def photo():
    return images.test_picture(131)[:, :97]


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


@pytest.mark.parametrize("size", [(299, 299), (75, 107), (131, 97), (300, 20), (1, 1)])
def test_resize_is_tensorflow_1s(photo, size):
    import tensorflow as tf

    expected = tf.compat.v1.image.resize_bilinear(photo[None].astype(np.float32), size)[0]
    np.testing.assert_allclose(images.resize(photo, *size), expected, atol=2e-4)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 700, 3), (900, 2, 3), (40, 41, 1)])
def test_resize_of_odd_shapes_is_tensorflow_1s(shape):
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    expected = tf.compat.v1.image.resize_bilinear(pixels[None].astype(np.float32), (75, 75))[0]
    np.testing.assert_allclose(images.resize(pixels, 75, 75), expected, atol=2e-4)


def test_the_slim_recipe_crops_as_central_crop_does(photo):
    import tensorflow as tf

    expected = tf.image.central_crop(photo, 0.875)
    np.testing.assert_array_equal(images._centre(photo), expected)
    assert images.prepare(photo, 75, recipe="slim").shape == (75, 75, 3)


def test_prepare_scales_for_the_variant(photo):
    white = np.full((10, 10, 3), 255, np.uint8)
    assert images.prepare(white, 75).max() == 1.0
    assert images.prepare(white, 75, GOOGLE_2015).max() == pytest.approx(127 / 128)
    with pytest.raises(ValueError, match="Unknown recipe 'vgg'; expected one of keras, slim, google_2015, torchvision"):
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


@pytest.mark.filterwarnings("ignore:Image size")
def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="is too large"):
        images.read(save(tmp_path / "big.png", np.zeros((40, 40), np.uint8)))


def test_the_2015_recipe_is_what_its_graph_computes(photo):
    import tensorflow as tf

    resized = tf.compat.v1.image.resize_bilinear(photo[None].astype(np.float32), (299, 299))[0]
    expected = (resized - 128) * 0.0078125
    for variant in (GOOGLE_2015, KERAS):  # its scaling is its own, whatever the weights'
        np.testing.assert_allclose(images.prepare(photo, 299, variant, "google_2015"), expected, atol=2e-6)


@pytest.mark.parametrize("shape", [(342, 400), (500, 380), (299, 299), (40, 30)])
def test_torchvisions_recipe_scales_the_shorter_side_to_342_and_cuts_the_middle(shape):
    whole = images.test_picture(max(shape))[: shape[0], : shape[1]]
    short = min(shape)
    width, height = (int(342 * side / short) for side in shape[::-1])
    left, top = round((width - 299) / 2), round((height - 299) / 2)
    expected = Image.fromarray(whole).resize((width, height), Image.Resampling.BILINEAR)
    expected = np.asarray(expected.crop((left, top, left + 299, top + 299)), np.float32)
    found = images.square(whole, 299, images.RECIPES["torchvision"])
    np.testing.assert_array_equal(found, expected)


def test_a_strip_of_one_pixel_costs_no_memory():
    strip = np.zeros((1, 60_000, 3), np.uint8)
    assert {images.square(strip, 75, recipe).shape for recipe in images.RECIPES.values()} == {(75, 75, 3)}


def test_weights_bring_their_own_recipe():
    found = [images.recipe_of(variant) for variant in (KERAS, SLIM, GOOGLE_2015, TORCHVISION)]
    assert found == ["keras", "slim", "google_2015", "torchvision"] == list(images.RECIPES)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_orientation_is_applied_when_asked_for(tmp_path, photo, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"x.{ending}"
    Image.fromarray(photo).save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    with Image.open(path) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
        stored = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(images.read(path, upright=True), upright)
    np.testing.assert_array_equal(images.read(path), stored)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_or_odd_orientation_is_none(photo):
    for exif in (b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0nonsense", b""):
        buffer = io.BytesIO()
        Image.fromarray(photo).save(buffer, "JPEG", exif=exif)
        assert images.decode(buffer.getvalue(), "x", upright=True).shape == photo.shape
    exif = Image.Exif()
    exif[0x0112] = 9
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", exif=exif)
    assert images.decode(buffer.getvalue(), "x", upright=True).shape == photo.shape


def test_cmyk_is_tensorflows_rgb(photo):
    import tensorflow as tf

    buffer = io.BytesIO()
    Image.fromarray(photo).convert("CMYK").save(buffer, "JPEG", quality=95)
    expected = tf.io.decode_jpeg(buffer.getvalue(), channels=3, dct_method="INTEGER_ACCURATE").numpy().astype(int)
    found = images.decode(buffer.getvalue(), "x").astype(int)
    assert np.abs(found - expected).max() <= 2


def test_jpeg_is_tensorflows(photo):
    import tensorflow as tf

    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "JPEG", quality=90)
    expected = tf.io.decode_jpeg(buffer.getvalue(), channels=3, dct_method="INTEGER_ACCURATE").numpy().astype(int)
    found = images.decode(buffer.getvalue(), "x")
    np.testing.assert_array_equal(found, expected)
    rough = tf.io.decode_jpeg(buffer.getvalue(), channels=3).numpy()  # its default
    assert 0 < np.abs(found.astype(int) - rough).mean() < 2


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_are_scaled_down_never_clipped(tmp_path, ending, order):
    grey = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    picture = (
        Image.fromarray(grey.astype(order))
        if order == "<u2"
        else Image.frombytes("I;16B", (32, 32), grey.astype(order).tobytes())
    )
    path = tmp_path / f"grey.{ending}"
    picture.save(path)
    np.testing.assert_array_equal(images.read(path)[..., 0], grey >> 8)


def test_palettes_and_frames(tmp_path, photo):
    first, second = Image.fromarray(photo).quantize(16), Image.fromarray(255 - photo).quantize(16)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    np.testing.assert_array_equal(images.read(tmp_path / "a.gif"), np.asarray(first.convert("RGB")))
    first.save(tmp_path / "a.png")
    np.testing.assert_array_equal(images.read(tmp_path / "a.png"), np.asarray(first.convert("RGB")))
    Image.fromarray(photo).save(tmp_path / "b.png", save_all=True, append_images=[Image.fromarray(255 - photo)])
    np.testing.assert_array_equal(images.read(tmp_path / "b.png"), photo)


def test_32_bit_pixels_are_refused(tmp_path):
    for kind in (np.int32, np.float32):
        Image.fromarray(np.zeros((4, 4), kind)).save(tmp_path / "x.tiff")
        with pytest.raises(ValueError, match="has 32-bit pixels, and nothing says which is white"):
            images.read(tmp_path / "x.tiff")


def test_bombs_are_refused_from_the_header():
    def header(side):
        import struct
        import zlib

        data = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + data + struct.pack(">I", zlib.crc32(b"IHDR" + data))

    for side in (10_000, 60_000):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="is too large"):
                images.decode(header(side) + b"\0\0\0\0IDAT", "x")


def test_the_range_guard_names_the_fix():
    pixels = images.test_picture(20)
    images.check_range(images.preprocess_input(pixels))
    images.check_range(images.preprocess_input(pixels, variant=GOOGLE_2015), GOOGLE_2015)
    with pytest.raises(
        ValueError, match=r"from \S+ to 255; these weights take -1 to 1. Give pixels 0..255 to inception"
    ):
        images.check_range(pixels.astype(np.float32))
    with pytest.raises(ValueError, match="these weights take -1 to 1"):
        images.check_range(pixels - np.float32([103.9, 116.8, 123.7]))  # VGG's
    with pytest.raises(ValueError, match="these weights take -1 to 1"):
        images.check_range(np.float32([0, np.nan]))
    with pytest.warns(images.SuspiciousRange, match="Were pixels divided by 255"):
        images.check_range(pixels / np.float32(255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.check_range(np.ones((1, 9, 9, 3), np.float32))  # a white picture
        unit = dataclasses.replace(KERAS, pixel_mean=(0.0,) * 3, pixel_scale=(255.0,) * 3)
        images.check_range(pixels / np.float32(255), unit)


def test_the_test_picture_is_always_the_same():
    picture = images.test_picture(64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, images.test_picture(64))
    assert picture.std() > 20
