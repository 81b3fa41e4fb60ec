"""Thirty-odd pictures that make other programs stop: each has the row that it should have, or a reason."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from inception import compile_inference, features, images
from inception.pictures import KERAS

PHOTO = images.test_picture(90)[:, :70]


def encoded(array=PHOTO, kind="PNG", mode=None, **options):
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(kind="PNG", exif=exif)


def png_header(width, height):
    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + data
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))


def jpeg_that_says(height, width):
    """A JPEG whose header claims another size."""
    content = bytearray(encoded(kind="JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(content)


GREY16 = (PHOTO[..., 0].astype(np.uint16) << 8) + 77
ALPHA = np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)])
GREY = np.repeat(PHOTO[..., :1], 3, 2)
PALETTE = Image.fromarray(PHOTO).quantize(32)
CMYK = Image.fromarray(PHOTO).convert("CMYK")
# name: (the file, the pixels it should be read as)
READ = {
    "plain.png": (encoded(), PHOTO),
    "plain.bmp": (encoded(kind="BMP"), PHOTO),
    "plain.tif": (encoded(kind="TIFF"), PHOTO),
    "lossless.webp": (encoded(kind="WEBP", lossless=True), PHOTO),
    "ending-lies.jpg": (encoded(), PHOTO),
    "no-space-in-name \u00e4\u4e2d.png": (encoded(), PHOTO),
    "grey.png": (encoded(PHOTO[..., 0]), GREY),
    "grey16.png": (encoded(GREY16), GREY),
    "grey16.tif": (encoded(GREY16, "TIFF"), GREY),
    "alpha.png": (encoded(ALPHA), PHOTO),
    "grey-alpha.png": (encoded(ALPHA, mode="LA"), None),
    "palette.png": (encoded(PALETTE), np.asarray(PALETTE.convert("RGB"))),
    "palette-transparent.png": (encoded(PALETTE, transparency=b"\0" * 32), np.asarray(PALETTE.convert("RGB"))),
    "animated.gif": (encoded(PALETTE, "GIF", save_all=True, append_images=[Image.new("P", (70, 90))]),
                     np.asarray(PALETTE.convert("RGB"))),
    "animated.png": (encoded(save_all=True, append_images=[Image.new("RGB", (70, 90))]), PHOTO),
    "animated.webp": (encoded(kind="WEBP", lossless=True, save_all=True,
                              append_images=[Image.new("RGB", (70, 90))]), PHOTO),
    "one-bit.png": (encoded(Image.fromarray(PHOTO[..., 0]).convert("1")), None),
    "cmyk.tif": (encoded(CMYK, "TIFF"), np.asarray(CMYK.convert("RGB"))),
    "cmyk.jpg": (encoded(CMYK, "JPEG"), None),
    "progressive.jpg": (encoded(kind="JPEG", progressive=True), None),
    "grey.jpg": (encoded(PHOTO[..., 0], "JPEG"), None),
    "turned-6.png": (turned(6), np.rot90(PHOTO, -1)),
    "turned-3.png": (turned(3), PHOTO[::-1, ::-1]),
    "one-pixel.png": (encoded(PHOTO[:1, :1]), PHOTO[:1, :1]),
    "one-row.png": (encoded(PHOTO[:1]), PHOTO[:1]),
    "long-strip.png": (encoded(np.zeros((1, 30_000, 3), np.uint8)), np.zeros((1, 30_000, 3), np.uint8)),
    "trailing-bytes.png": (encoded() + b"more" * 100, PHOTO),
}  # fmt: skip
# name: (the file, words of its reason)
LISTED = {
    "empty.jpg": (b"", "is empty"),
    "text.jpg": (b"<html>404 Not Found</html>", "is no picture"),
    "zeros.png": (bytes(5000), "is no picture"),
    "cut.jpg": (encoded(kind="JPEG")[:1500], "is damaged"),
    "cut.png": (encoded()[:2000], "is damaged"),
    "cut.gif": (encoded(kind="GIF")[:1500], "is damaged"),
    "header-only.png": (png_header(50, 50), "is "),
    "bomb.png": (png_header(60_000, 60_000) + b"\0\0\0\0IDAT", "is too large"),
    "bomb-12000.jpg": (jpeg_that_says(12_000, 12_000), "is too large"),
    "bomb-65500.jpg": (jpeg_that_says(65_500, 65_500), "is too large"),
    "no-size.png": (png_header(0, 0), "is "),
    "int32.tif": (encoded(np.zeros((9, 9), np.int32), "TIFF"), "32-bit pixels"),
    "float.tif": (encoded(np.zeros((9, 9), np.float32), "TIFF"), "32-bit pixels"),
    "drawing.svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no picture"),
}


@pytest.fixture
def odd(tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    for name, (content, _) in (READ | LISTED).items():
        (folder / name).write_bytes(content)
    os.symlink("nowhere.png", folder / "broken-link.png")
    os.mkfifo(folder / "pipe.png")  # reading it would wait for ever
    (folder / "folder.png").mkdir()
    return folder


def test_each_is_read_rightly_or_listed(odd, extract, weights, tmp_path):
    source = [odd, str(odd / "folder.png"), odd / "read-me-not.png"]
    (odd / "read-me-not.png").write_bytes(encoded())
    (odd / "folder.png" / "inside.png").write_bytes(encoded())
    summary = extract(source, tmp_path / "out")
    found = features.load(tmp_path / "out")
    rows, reasons = ({os.path.basename(path): i for i, path in enumerate(found.paths)},
                     {os.path.basename(path): reason for path, reason in found.errors})  # fmt: skip
    assert set(rows) == set(READ) | {"read-me-not.png", "inside.png"}
    assert set(reasons) == set(LISTED) | {"broken-link.png", "pipe.png"}
    assert summary.rows + summary.errors == summary.pictures == len(READ) + len(LISTED) + 4
    for name, (_, words) in LISTED.items():
        assert words in reasons[name], name
    assert "does not exist" in reasons["broken-link.png"] and "no regular file" in reasons["pipe.png"]
    known = {name: pixels for name, (_, pixels) in READ.items() if pixels is not None}
    run = compile_inference(weights, end_points=("PreLogits",), engine="onnxruntime", batch=8, image_size=75)
    expected = run(np.stack([KERAS.at(75).input(np.ascontiguousarray(pixels)) for pixels in known.values()]))[
        "PreLogits"
    ]
    for name, row in zip(known, expected, strict=True):
        np.testing.assert_allclose(found.arrays["PreLogits"][rows[name]], row, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_decoder_that_dies_of_anything_costs_one_row(folder, extract, tmp_path, monkeypatch):
    decode = images.decode

    def dies(content, where, **options):
        if where.endswith("04.jpg"):
            raise MemoryError("no memory for this one")
        return decode(content, where, **options)

    monkeypatch.setattr(images, "decode", dies)
    assert extract(folder, tmp_path / "out").errors == 2
    assert dict(features.load(tmp_path / "out").errors)[str(folder / "even" / "04.jpg")].startswith("MemoryError")
