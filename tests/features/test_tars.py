"""Tar files of pictures: what Python's tarfile writes is found, and what nobody should have written is refused."""

import io
import os
import random
import tarfile

import pytest

from inception.features import tars
from inception.features.sources import listed, stored
from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsupportedFeature

LONG = "/".join(["folder" * 5] * 4) + "/picture.jpg"  # more than a header's 100 bytes


def made(path, entries, form=tarfile.GNU_FORMAT, mode="w"):
    with tarfile.open(path, mode, format=form) as archive:
        for name, content, kind in entries:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return str(path)


FILES = [("b.jpg", b"b" * 700, tarfile.REGTYPE), ("a.cls", b"7", tarfile.REGTYPE), ("a.PNG", b"a", tarfile.REGTYPE),
         (LONG, b"long" * 200, tarfile.REGTYPE), ("\u00e9/\u4e2d.jpg", b"", tarfile.REGTYPE)]  # fmt: skip
OTHERS = [("folder", b"", tarfile.DIRTYPE), ("s.jpg", b"", tarfile.SYMTYPE), ("h.jpg", b"", tarfile.LNKTYPE),
          ("d.jpg", b"", tarfile.CHRTYPE), ("p.jpg", b"", tarfile.FIFOTYPE)]  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_pictures_are_found_and_links_are_not(tmp_path, form):
    path = made(tmp_path / "x.tar", FILES + OTHERS, form)
    found = listed(path)
    expected = {f"{path}#{name}": content for name, content, _ in FILES if not name.endswith("cls")}
    assert {item.path: stored(item) for item in found.items} == expected
    assert found.passed_over == 5  # a.cls, two links, a device, a pipe
    assert [item.path for item in found.items] == sorted(expected)


def test_names_are_no_paths_and_the_last_of_two_counts(tmp_path):
    entries = [("../../x.jpg", b"up", tarfile.REGTYPE), ("/etc/y.jpg", b"root", tarfile.REGTYPE),
               ("a.jpg", b"old", tarfile.REGTYPE), ("a.jpg", b"new", tarfile.AREGTYPE)]  # fmt: skip
    path = made(tmp_path / "x.tar", entries)
    assert [(item.path, stored(item)) for item in listed(path).items] == [
        (f"{path}#../../x.jpg", b"up"), (f"{path}#/etc/y.jpg", b"root"), (f"{path}#a.jpg", b"new")]  # fmt: skip


def header(name, size, kind=b"0"):
    """Of a member, with the size's 12 bytes as given and a right checksum."""
    whole = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    whole[124:136], whole[156:157], whole[148:156] = size, kind, b" " * 8
    whole[148:156] = b"%06o\0 " % sum(whole)
    return bytes(whole)


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (header("a.jpg", b"00000001000\0"), CorruptFile, "reaches past its end"),
        (header("a.jpg", b"77777777777\0"), CorruptFile, "reaches past its end"),
        (header("a.jpg", b"\x80" + b"\x7f" * 11), CorruptFile, "reaches past its end"),
        (header("a.jpg", b"\xff" * 12), CorruptFile, "reaches past its end"),
        (header("a.jpg", b"-0000000001\0"), CorruptFile, "reaches past its end"),
        (header("a.jpg", b"0000000zzzz\0"), CorruptFile, "reaches past its end"),
        (header("a", b"%011o\0" % (1 << 20), b"L") + bytes(1 << 20), ResourceLimit, "a name at 512 has 1048576 bytes"),
        (header("a", b"%011o\0" % 11, b"x") + b"99 size=-1\n".ljust(512, b"\0") + header("a.jpg", b"00000000001\0")
         + bytes(512), None, ""),
        (header("a", b"%011o\0" % 11, b"x") + b"11 size=-1\n".ljust(512, b"\0") + header("a.jpg", b"00000000001\0")
         + bytes(512), CorruptFile, "reaches past its end"),
        (b"no tar at all" * 100, CorruptFile, "has no header at 0"),
        (header("a.jpg", b"00000000000\0")[:300], CorruptFile, "has no header at 0"),
        (b"\x1f\x8b" + bytes(600), UnsupportedFeature, "is compressed"),
    ],
)  # fmt: skip
def test_hostile_headers(tmp_path, content, error, said):
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    if error is None:
        assert [each for each in tars.members(str(path), (".jpg",)) if each] == [("a.jpg", 1536, 1)]
        return
    with pytest.raises(error, match=said):
        list(tars.members(str(path), (".jpg",)))


def test_every_cut_and_every_kind_of_damage_is_an_error_or_harmless(tmp_path):
    made(tmp_path / "x.tar", FILES + OTHERS, tarfile.PAX_FORMAT)
    whole = (tmp_path / "x.tar").read_bytes()
    chance, path = random.Random(1), tmp_path / "y.tar"
    cases = [whole[:at] for at in range(0, len(whole), 256)]
    for _ in range(400):
        bad = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            bad[chance.randrange(8192)] = chance.randrange(256)
        cases.append(bytes(bad))
    refused = 0
    for case in cases:
        path.write_bytes(case)
        try:
            found = [each for each in tars.members(str(path), (".jpg", ".png")) if each]
        except CheckpointError:
            refused += 1
            continue
        for _, start, size in found:
            assert 0 <= start <= start + size <= len(case)
            tars.content(str(path), start, size)
    assert refused > 200


def test_a_picture_larger_than_pictures_are_is_not_read(tmp_path):
    path = tmp_path / "x.tar"
    with open(path, "wb") as file:
        file.write(header("a.jpg", b"%011o\0" % (1 << 30)))
        os.truncate(file.fileno(), 512 + (1 << 30))
    [item] = listed(str(path)).items
    with pytest.raises(ValueError, match="has 1,073,741,824 bytes"):
        stored(item)
