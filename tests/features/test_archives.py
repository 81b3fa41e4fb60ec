"""Archives of pictures that are damaged, or made to harm; `tests/attacks` throws those at a process of its own too."""

import functools
import io
import random
import struct
import zipfile
import zlib

import numpy as np
import pytest
from damage import assert_never_silently_wrong
from files.test_archive import quoted
from PIL import Image

from inception.features import reading
from inception.features.sources import listed, stored

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 7, 3), np.uint8)


def zipped(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def savez(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def png(picture=None):
    file = io.BytesIO()
    (picture or Image.new("RGB", (7, 9))).save(file, "png")
    return file.getvalue()


def changed(content, *changes):
    for old, new in changes:
        assert old in content and len(old) == len(new)
        content = content.replace(old, new)
    return content


def little(number):
    return number.to_bytes(4, "little")


def bomb(name, mebibytes, head=b""):
    """A deflated member of zeros behind its head, in a thousandth of their bytes, without a checksum."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH)
    packed += (deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH)) * mebibytes + deflate.flush()
    fields = struct.pack("<3H3L2H", 8, 0, 0, 0, len(packed), len(head) + (mebibytes << 20), len(name), 0)
    directory = b"PK\1\2" + struct.pack("<3H", 20, 20, 0) + fields + struct.pack("<3H2L", 0, 0, 0, 0, 0) + name
    start = 30 + len(name) + len(packed)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(directory), start, 0)
    return b"PK\3\4" + struct.pack("<2H", 20, 0) + fields + name + packed + directory + end


def header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def link():
    info = zipfile.ZipInfo("a.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    return info


ONE, TWO = zipped({"a1.png": png()}), zipped({"a1.png": png(), "a2.png": png()})
SIZE = little(len(png()))
_OWN, _LISTED = b"PK\3\4\x14\0\0\0", b"PK\1\2\x14\3\x14\0\0\0"  # up to the flags
HOSTILE = {
    **{f"the name {name}": ("x.zip", zipped({name: png()})) for name in
       ("../a.png", "a/../../a.png", "/etc/a.png", "C:/a.png", "a\\a.png")},
    "a zero in a name": ("x.zip", changed(ONE, (b"a1.png", b"a\0.png"))),
    "no UTF-8": ("x.zip", changed(ONE, (b"a1.png", b"a\xff.png"), (_OWN, _OWN[:-1] + b"\x08"),
                                  (_LISTED, _LISTED[:-1] + b"\x08"))),
    "a name twice": ("x.zip", changed(TWO, (b"a2.png", b"a1.png"))),
    "two names of one": ("x.zip", ONE[:30] + b"b" + ONE[31:]),
    "encrypted": ("x.zip", changed(ONE, (_OWN, _OWN[:-2] + b"\1\0"), (_LISTED, _LISTED[:-2] + b"\1\0"))),
    "LZMA": ("x.zip", zipped({"a.png": png()}, zipfile.ZIP_LZMA)),
    "BZIP2": ("x.zip", zipped({"a.png": png()}, zipfile.ZIP_BZIP2)),
    "a size of -1": ("x.zip", changed(ONE, (SIZE, b"\xff" * 4))),
    "a size of -2": ("x.zip", changed(ONE, (SIZE, b"\xfe" + b"\xff" * 3))),
    "a size of 0": ("x.zip", changed(ONE, (SIZE, bytes(4)))),
    "65,000 members": ("x.zip", changed(ONE, (struct.pack("<2H", 1, 1), struct.pack("<2H", 65000, 65000)))),
    "in two parts": ("x.zip", changed(ONE, (b"PK\5\6\0\0", b"PK\5\6\1\0"))),
    "members within members": ("x.zip", quoted(50, bytes(1000))),
    "more behind its end": ("x.zip", ONE + ONE),
    "without its end": ("x.zip", ONE[:-4]),
    "nothing": ("x.zip", b""),
    "no archive": ("x.zip", png()),
    "an archive within": ("x.zip", zipped({"a.zip": ONE})),
    "an archive called a picture": ("x.zip", zipped({"a.png": ONE})),
    "a link": ("x.zip", zipped({link(): b"/etc/passwd"})),
    "a bomb of 900 MB": ("x.zip", bomb(b"a.png", 900)),
    "a bomb of 4 GB": ("x.zip", bomb(b"a.png", 4000)),
    "a picture of 144 megapixels": ("x.zip", zipped({"a.png": png(Image.new("1", (12000, 12000)))})),
    "a picture of 3,600 megapixels": ("x.zip", zipped({"a.png": changed(png(), (struct.pack(">2L", 7, 9),
                                                                               struct.pack(">2L", 60000, 60000)))})),
    "a picture cut short": ("x.zip", zipped({"a.png": png(Image.fromarray(PIXELS[0]))[:150]})),
    "an empty picture": ("x.zip", zipped({"a.png": b""})),
    "objects": ("x.npz", savez(arr_0=np.array([{}], object))),
    "numbers that are no pixels": ("x.npz", savez(arr_0=PIXELS.astype(np.float32))),
    "grey": ("x.npz", savez(arr_0=PIXELS[..., 0])),
    "five sides": ("x.npz", savez(arr_0=PIXELS[None])),
    "no pictures": ("x.npz", savez(arr_0=PIXELS[:0])),
    "pictures without pixels": ("x.npz", savez(arr_0=PIXELS[:, :0])),
    "column by column": ("x.npz", savez(arr_0=np.asfortranarray(PIXELS))),
    "another name": ("x.npz", savez(labels=PIXELS)),
    "more pictures than there are": ("x.npz", changed(savez(arr_0=PIXELS), (b"(6, 9,", b"(9, 9,"))),
    "fewer pictures than there are": ("x.npz", changed(savez(arr_0=PIXELS), (b"(6, 9,", b"(1, 9,"))),
    "pixels of 2 GB": ("x.npz", bomb(b"arr_0.npy", 2048, header((2048, 512, 683, 3)))),
    "pictures among arrays": ("x.npz", zipped({"arr_0.npy": savez(a=PIXELS), "a.png": png()})),
}  # fmt: skip


def pictures(path):
    """The pixels of every picture; an error for the first that has none."""
    result = []
    for item in listed(path).items:
        read = reading.read(item, lambda pixels: [pixels])
        if read.reason:
            raise ValueError(read.reason)
        result += read.tensors
    return result


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_archives_are_one_sentence(what, tmp_path):
    name, content = HOSTILE[what]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as raised:
        pictures(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_they_are_many():
    assert len(HOSTILE) >= 30


SOUND = {
    "x.zip": TWO,
    "deflated.zip": zipped({f"{i}.bmp": png() + bytes(99) for i in range(3)}, zipfile.ZIP_DEFLATED),
    "x.npz": savez(arr_0=PIXELS, labels=np.arange(6)),
    "compressed.npz": savez(np.savez_compressed, arr_0=PIXELS),
}


@pytest.mark.parametrize("name", SOUND)
def test_damage_is_found(name, tmp_path):
    """560 copies of each."""
    content = SOUND[name]
    (tmp_path / name).write_bytes(content)
    chance = random.Random(name)
    ends = [*range(40), *range(len(content) - 60, len(content))]
    positions = ends + chance.sample(range(40, len(content) - 60), 40)
    octets = functools.partial(map, lambda item: np.frombuffer(memoryview(stored(item)), np.uint8).tobytes())
    assert_never_silently_wrong(tmp_path / name, lambda path: [*octets(listed(path).items)], positions)
