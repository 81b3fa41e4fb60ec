"""ZIP archives: what others write is read, and nothing gets past the rules."""

import io
import struct
import zipfile

import numpy as np
import pytest
from damage import assert_refused

from inception.files.archive import Archive
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature

MEMBERS = {"a.npy": b"hello" * 7, "b/c.bin": bytes(range(40)), "empty": b""}


def write(path, members=MEMBERS, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def read(path):
    archive = Archive(path)
    return {name: archive.octets(name).tobytes() for name in archive.members}


def patched(path, *changes):
    """The file with bytes replaced, each change everywhere it occurs."""
    content = path.read_bytes()
    for old, new in changes:
        assert old in content and len(old) == len(new)
        content = content.replace(old, new)
    path.write_bytes(content)
    return path


# ---- good files


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_zipfile_writes(tmp_path, compression):
    archive = Archive(write(tmp_path / "x.zip", compression=compression))
    assert archive.checksummed
    assert read(tmp_path / "x.zip") == MEMBERS
    assert archive.head("b/c.bin", 7) == bytes(range(7))
    assert archive.head("a.npy", 1000) == MEMBERS["a.npy"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_of_many_pieces(tmp_path, compression):
    large = np.random.default_rng(0).integers(0, 4, 5 << 20, np.uint8).tobytes()
    write(tmp_path / "x.zip", {"x": large}, compression=compression, compresslevel=1)
    archive = Archive(tmp_path / "x.zip")
    pieces = list(archive.chunks("x"))
    assert len(pieces) > 1 and b"".join(piece.tobytes() for piece in pieces) == large
    assert archive.octets("x").tobytes() == large


def test_64_bit_sizes_in_the_members_headers(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive, archive.open("x", "w", force_zip64=True) as member:
        member.write(b"content")
    assert read(tmp_path / "x.zip") == {"x": b"content"}


class Pipe(io.BytesIO):
    def seekable(self):
        return False

    def tell(self):
        raise OSError

    seek = tell


def test_sizes_behind_the_members(tmp_path):
    write(pipe := Pipe())
    (tmp_path / "x.zip").write_bytes(pipe.getvalue())
    assert read(tmp_path / "x.zip") == MEMBERS


def with_64_bit_end(path, **changes):
    """The file with the end record that torch writes beside the plain one."""
    content = path.read_bytes()
    end = content.rindex(b"PK\5\6")
    count, size, start = struct.unpack_from("<H2L", content, end + 10)
    fields = {"length": 44, "here": count, "count": count, "size": size, "start": start, "at": end} | changes
    record = struct.pack("<4sQ2H2L", b"PK\6\6", fields["length"], 45, 45, 0, 0)
    record += struct.pack("<4Q", *(fields[name] for name in ("here", "count", "size", "start")))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, fields["at"], 1)
    path.write_bytes(content[:end] + record + locator + content[end:])
    return path


def test_a_64_bit_end_record(tmp_path):
    assert read(with_64_bit_end(write(tmp_path / "x.zip"))) == MEMBERS


@pytest.mark.parametrize("field", ["length", "here", "count", "size", "start", "at"])
@pytest.mark.parametrize("value", [0, 2, 1 << 40, (1 << 64) - 1])
def test_a_64_bit_end_record_that_lies(tmp_path, field, value):
    path = with_64_bit_end(write(tmp_path / "x.zip"), **{field: value})
    assert_refused(lambda: read(path), CheckpointError, r"x\.zip: ")


def test_the_64_bit_end_record_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"x": torch.arange(5)}, tmp_path / "x.pth")
    archive = Archive(tmp_path / "x.pth")
    assert archive.checksummed and "x/data/0" in archive.members
    with zipfile.ZipFile(tmp_path / "x.pth") as theirs:
        assert read(tmp_path / "x.pth") == {name: theirs.read(name) for name in theirs.namelist()}


def test_a_checksum_of_0_was_not_computed(tmp_path):
    with zipfile.ZipFile(write(tmp_path / "x.zip")) as archive:
        [crc] = [info.CRC for info in archive.infolist() if info.filename == "a.npy"]
    patched(tmp_path / "x.zip", (crc.to_bytes(4, "little"), bytes(4)))
    assert read(tmp_path / "x.zip") == MEMBERS
    assert not Archive(tmp_path / "x.zip").checksummed


# ---- damage


# ---- hostile files


def test_the_same_name_twice(tmp_path):
    write(tmp_path / "x.zip", {"data/1": b"one", "data/2": b"two"})
    with pytest.raises(CorruptFile, match="names 'data/1' twice"):
        Archive(patched(tmp_path / "x.zip", (b"data/2", b"data/1")))


def test_members_that_share_bytes(tmp_path):
    path = write(tmp_path / "x.zip", {"a": b"same", "b": b"same"})
    with zipfile.ZipFile(path) as archive:
        second = archive.getinfo("b").header_offset
    content = bytearray(path.read_bytes())
    at = content.rindex(b"PK\1\2")
    content[at + 42 : at + 46] = bytes(4)  # the second one's header is the first one's
    content[at + 46 : at + 47] = b"a"
    content[content.index(b"PK\1\2") + 46 : content.index(b"PK\1\2") + 47] = b"b"
    content[second + 30 : second + 31] = b"x"
    path.write_bytes(content)
    with pytest.raises(CorruptFile):
        Archive(path)


def quoted(count: int, content: bytes) -> bytes:
    """Members each of which holds the next one's header: one piece of data, unpacked `count` times."""
    body = bytearray(content)
    directory = b""
    crc = 0
    for i in range(count):
        name = f"{i:04}".encode()
        sizes = struct.pack("<3L2H", crc, len(body), len(body), 4, 0)
        body[:0] = struct.pack("<4s5H", b"PK\3\4", 20, 0, 0, 0, 0) + sizes + name
        directory += (
            struct.pack("<4s6H", b"PK\1\2", 20, 20, 0, 0, 0, 0) + sizes + struct.pack("<3H2L", 0, 0, 0, 0, 0) + name
        )
    # All but the last one start behind the headers made after them.
    fixed = b""
    for i in range(count):
        entry = bytearray(directory[i * 50 : (i + 1) * 50])
        entry[42:46] = ((count - 1 - i) * 34).to_bytes(4, "little")
        fixed += entry
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, len(fixed), len(body), 0)
    return bytes(body) + fixed + end


def test_members_within_members(tmp_path):
    (tmp_path / "x.zip").write_bytes(quoted(50, bytes(1000)))
    assert_refused(lambda: read(tmp_path / "x.zip"), CorruptFile, "share the bytes")


def test_a_bomb(tmp_path):
    write(tmp_path / "x.zip", {"x": bytes(1 << 20)}, compression=zipfile.ZIP_DEFLATED)
    sizes = (size.to_bytes(4, "little") for size in (1 << 20, (1 << 28) + 1))
    archive = Archive(patched(tmp_path / "x.zip", tuple(sizes)))
    assert_refused(lambda: archive.octets("x"), ResourceLimit, "bytes; expected")


@pytest.mark.parametrize("declared", [10, 1 << 20, 1 << 30, (1 << 32) - 2])
def test_a_bomb_that_lies(tmp_path, declared):
    path = write(tmp_path / "x.zip", {"x": bytes(5 << 20)}, compression=zipfile.ZIP_DEFLATED)
    patched(path, ((5 << 20).to_bytes(4, "little"), declared.to_bytes(4, "little")))
    assert_refused(lambda: read(path), CheckpointError, str(path))


def test_many_members(tmp_path):
    path = write(tmp_path / "x.zip")
    patched(path, (struct.pack("<2H", 3, 3), struct.pack("<2H", 65000, 65000)))
    assert_refused(lambda: Archive(path), ResourceLimit, "65000 members")


@pytest.mark.parametrize("name", ["/etc/x", "../x/y", "a/../b", "a\\..\\b", "C:/x/y"])
def test_names_that_lead_elsewhere(tmp_path, name):
    with pytest.raises(UnsafeFile, match="leads elsewhere"):
        Archive(write(tmp_path / "x.zip", {name: b"x"}))


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compression(tmp_path, compression):
    with pytest.raises(UnsupportedFeature, match="expected plain or deflated"):
        Archive(write(tmp_path / "x.zip", compression=compression))


def test_encryption(tmp_path):
    path = write(tmp_path / "x.zip", {"x": b"content"})
    content = path.read_bytes()
    path.write_bytes(
        content.replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1").replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1")
    )
    with pytest.raises(UnsupportedFeature, match="encrypted"):
        Archive(path)


def test_bytes_behind_deflated_data(tmp_path):
    path = write(tmp_path / "x.zip", {"x": bytes(100)}, compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        packed = archive.getinfo("x").compress_size
    content = path.read_bytes().replace(
        packed.to_bytes(4, "little") + b"d\0\0\0", (packed + 3).to_bytes(4, "little") + b"d\0\0\0"
    )
    start = content.index(b"PK\1\2")
    content = content[:start] + b"abc" + content[start:-6] + (start + 3).to_bytes(4, "little") + b"\0\0"
    path.write_bytes(content)
    with pytest.raises(CorruptFile, match="behind its compressed data"):
        read(path)
