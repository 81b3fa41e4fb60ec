"""Thirty-odd pictures that make other programs stop: each has the row that it should have, or a reason."""

import io
import os
import struct
import subprocess
import sys
import zlib

import numpy as np
import PIL
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


def tiff(samples, bits, photometric=1, order="<", deflate=False, planar=False, **tags):
    """A TIFF of samples [h, w, c], packed as its tags say; tags: {name: numbers} of others."""
    height, width, channels = samples.shape
    layers = [samples[..., i : i + 1] for i in range(channels)] if planar else [samples]
    strips = []
    for layer in layers:
        rows = layer.reshape(height, -1)
        if bits in (8, 16, 32):
            kind = {(2,): "i", (3,): "f"}.get(tags.get("format"), "u")
            data = rows.astype(f"{order}{kind}{bits // 8}").tobytes()
        else:
            single = (rows[..., None] >> np.arange(bits)[::-1]) & 1
            data = np.packbits(single.reshape(height, -1).astype(np.uint8), axis=1).tobytes()
        if tags.get("fill", (1,)) == (2,):
            data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8)).reshape(-1, 8)[:, ::-1]).tobytes()
        strips.append(zlib.compress(data) if deflate else data)
    numbers = {"format": 339, "fill": 266, "extra": 338, "colours": 320, "orientation": 274}
    at = 8 + np.cumsum([0] + [len(strip) for strip in strips])
    entries = {
        256: (width,),
        257: (height,),
        258: (bits,) * channels,
        259: (8 if deflate else 1,),
        273: tuple(at[:-1]),
        277: (channels,),
        278: (height,),
        279: tuple(len(strip) for strip in strips),
        284: (1 + planar,),
    }
    if photometric is not None:
        entries[262] = (photometric,)
    entries |= {numbers[name]: values for name, values in tags.items()}
    directory, beyond = b"", b""
    start = at[-1] + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        kind = "I" if tag in (273, 279) else "H"
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if len(packed) > 4:
            packed, beyond = struct.pack(order + "I", start + len(beyond)), beyond + packed
        directory += struct.pack(order + "HHI", tag, 4 if kind == "I" else 3, len(values)) + packed.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, at[-1])
    return head + b"".join(strips) + struct.pack(order + "H", len(entries)) + directory + bytes(4) + beyond


def png16(samples, kind):
    """A PNG of 16-bit samples [h, w, c]; kind: the number of its colour type."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


JPEG_TIFF = encoded(PHOTO[..., 0], "TIFF", compression="jpeg")
BLACK_IS_ZERO, WHITE_IS_ZERO = (struct.pack("<HHIH", 262, 3, 1, photometric) for photometric in (1, 0))


def numbers(*shape, bits):
    """Samples that use every bit."""
    return np.random.default_rng(bits).integers(0, 1 << bits, shape)


def eight(samples, bits):
    """Grey samples as they should be read: black is 0, white 255, on three channels."""
    grey = samples >> (bits - 8) if bits > 8 else samples * 255 // ((1 << bits) - 1)
    return np.repeat(grey, 3, 2).astype(np.uint8)


DEEP = {bits: numbers(9, 13, 1, bits=bits) for bits in (1, 2, 4, 8, 10, 12, 14, 16)}
COLOURS = numbers(3, 256, bits=16)
RGB16 = numbers(9, 13, 4, bits=16)
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
    "rgb16.png": (png16(RGB16[..., :3], 2), RGB16[..., :3] >> 8),
    "rgba16.png": (png16(RGB16, 6), RGB16[..., :3] >> 8),
    "grey-alpha16.png": (png16(RGB16[..., :2], 4), eight(RGB16[..., :1], 16)),
    "rgb16-planes-deflate.tif": (tiff(RGB16[..., :3], 16, 2, planar=True, deflate=True), RGB16[..., :3] >> 8),
    "rgba16.tif": (tiff(RGB16, 16, 2, ">", extra=(2,)), RGB16[..., :3] >> 8),
    "grey-premultiplied.tif": (tiff(np.dstack([GREY[..., :1], np.full(GREY.shape[:2], 255)]), 8, extra=(1,)), GREY),
    "palette-alpha.tif": (tiff(np.dstack([DEEP[8], DEEP[8]]), 8, 3, extra=(2,), colours=tuple(COLOURS.ravel())),
                          COLOURS.T[DEEP[8][..., 0]] >> 8),
    "palette-of-8-bits.tif": (tiff(DEEP[4], 4, 3, colours=tuple(COLOURS[:, :16].ravel() >> 8)),
                              COLOURS.T[DEEP[4][..., 0]] >> 8),
    "white-is-zero-jpeg.tif": (JPEG_TIFF.replace(BLACK_IS_ZERO, WHITE_IS_ZERO),
                               255 - np.asarray(Image.open(io.BytesIO(JPEG_TIFF)).convert("RGB"))),
    "black-is-zero-12.tif": (tiff(DEEP[12], 12), eight(DEEP[12], 12)),
    "black-is-zero-12-deflate.tif": (tiff(DEEP[12], 12, deflate=True), eight(DEEP[12], 12)),
    "black-is-zero-16.tif": (tiff(DEEP[16], 16, order=">"), eight(DEEP[16], 16)),
    "black-is-zero-16-deflate.tif": (tiff(DEEP[16], 16, order=">", deflate=True), eight(DEEP[16], 16)),
    "black-is-zero-16-turned-bits.tif": (tiff(DEEP[16], 16, fill=(2,)), eight(DEEP[16], 16)),
    "white-is-zero-16.tif": (tiff(DEEP[16], 16, 0), 255 - eight(DEEP[16], 16)),
    "white-is-zero-16-deflate.tif": (tiff(DEEP[16], 16, 0, deflate=True), 255 - eight(DEEP[16], 16)),
    **{f"{words}-{bits}{order}.tif": (tiff(DEEP[bits], bits, photometric, order),
                                      abs(white - eight(DEEP[bits], bits).astype(int)))
       for words, photometric, white in (("black-is-zero", 1, 0), ("white-is-zero", 0, 255))
       for bits in (1, 2, 4, 8) for order in "<>"},
    **{f"turned-{i}.tif": (tiff(PHOTO, 8, 2, orientation=(i,)), images._turned(PHOTO, i)) for i in range(1, 9)},
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
    "signed8.tif": (tiff(numbers(9, 9, 1, bits=7), 8, format=(2,)), "signed pixels"),
    "signed16.tif": (tiff(numbers(9, 9, 1, bits=7), 16, format=(2,)), "signed pixels"),
    "no-word-of-white.tif": (tiff(DEEP[8], 8, None), "does not say whether 0 is black or white"),
    "no-word-of-white-16.tif": (tiff(DEEP[16], 16, None), "does not say whether 0 is black or white"),
    "rgb16-planes.tif": (tiff(RGB16[..., :3], 16, 2, planar=True), "16-bit colours one after the other"),
    "grey10.tif": (tiff(DEEP[10], 10), "is a TIFF of a kind that is not read here"),
    "grey14.tif": (tiff(DEEP[14], 14, order=">"), "is a TIFF of a kind that is not read here"),
    "grey-alpha16.tif": (tiff(RGB16[..., :2], 16, extra=(2,)), "is a TIFF of a kind that is not read here"),
    "white-is-zero-12.tif": (tiff(DEEP[12], 12, 0), "is a TIFF of a kind that is not read here"),
    "drawing.svg.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is no picture"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "is no picture"),
}

if int(PIL.__version__.split(".")[0]) < 13:  # which learned it
    LISTED["grey-premultiplied.tif"] = (READ.pop("grey-premultiplied.tif")[0], "of a kind that is not read here")


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
    known = {name: pixels.astype(np.uint8) for name, (_, pixels) in READ.items() if pixels is not None}
    run = compile_inference(weights, end_points=("PreLogits",), engine="onnxruntime", batch=8, image_size=75)
    expected = run(np.stack([KERAS.at(75).input(np.ascontiguousarray(pixels)) for pixels in known.values()]))[
        "PreLogits"
    ]
    for name, row in zip(known, expected, strict=True):
        np.testing.assert_allclose(found.arrays["PreLogits"][rows[name]], row, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("name", [name for name, (_, pixels) in READ.items() if pixels is not None])
def test_pixels_are_those_that_were_written(name):
    content, pixels = READ[name]
    np.testing.assert_array_equal(images.decode(content, name, upright=True), pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF deflate"])
def test_pixels_come_as_they_are_stored(kind, orientation):
    packed = tiff(PHOTO, 8, 2, deflate="deflate" in kind, orientation=(orientation,))
    content = turned(orientation) if kind == "PNG" else packed
    np.testing.assert_array_equal(images.decode(content, kind), PHOTO)
    np.testing.assert_array_equal(images.decode(content, kind, upright=True), images._turned(PHOTO, orientation))


@pytest.mark.parametrize("mode", ["RGB", "P", "CMYK", "I;16", "RGBA", "L", "1", "LA"])
def test_strips_make_the_same_picture(mode, monkeypatch):
    picture = {"I;16": Image.fromarray(GREY16), "P": PALETTE}.get(mode) or Image.fromarray(PHOTO).convert(mode)
    content = encoded(picture, "TIFF" if mode == "CMYK" else "PNG")
    whole = images.decode(content, mode)
    monkeypatch.setattr(images, "_STRIP", 1000)
    np.testing.assert_array_equal(images.decode(content, mode), whole)


MEMORY = """
import sys
from inception import images
from inception.resize import resize

def most():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) * 1024

images.read(sys.argv[1], upright=True)
before = most()
pixels = images.read(sys.argv[2], upright=True)
resize(pixels, 299, 299)
print((most() - before) / (pixels.size // 3))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's own measure of memory")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_a_large_picture_is_held_once_by_pillow_and_once_by_us(kind, tmp_path):
    """Four bytes a pixel, and three; with anything that lies between, another three or four."""
    exif = Image.Exif()
    exif[0x0112] = 1 if kind == "TIFF" else 6  # Pillow turns a TIFF itself, and holds it twice
    for name, side in (("small", 50), ("large", 6000)):
        Image.new("RGB", (side, side + 1)).save(tmp_path / name, kind, exif=exif)
    paths = [str(tmp_path / "small"), str(tmp_path / "large")]
    run = subprocess.run([sys.executable, "-c", MEMORY, *paths], capture_output=True, text=True, check=True)
    assert 6 < float(run.stdout) < 8


def test_a_decoder_that_dies_of_anything_costs_one_row(folder, extract, tmp_path, monkeypatch):
    decode = images.decode

    def dies(content, where, **options):
        if where.endswith("04.jpg"):
            raise MemoryError("no memory for this one")
        return decode(content, where, **options)

    monkeypatch.setattr(images, "decode", dies)
    assert extract(folder, tmp_path / "out").errors == 2
    assert dict(features.load(tmp_path / "out").errors)[str(folder / "even" / "04.jpg")].startswith("MemoryError")
