"""Picture files to pixels, against TensorFlow's own decoders."""

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageOps

from inception import images


@pytest.fixture(scope="module")
def photo():
    return images.test_picture(131)[:, :97]


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


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


def test_the_test_picture_is_always_the_same():
    picture = images.test_picture(64)
    assert picture.shape == (64, 64, 3) and picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, images.test_picture(64))
    assert picture.std() > 20
