"""The table file and the wire format under it: what we write comes back, what others forge is refused."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from damage import assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st

from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensorflow import wire
from inception.files.tensorflow.sstable import SSTable, masked_crc, read_table, write_table

FOOTER_END = bytes.fromhex("57fb808b247547db")


def written(pairs: dict[bytes, bytes]) -> bytes:
    file = io.BytesIO()
    write_table(file, sorted(pairs.items()))
    return file.getvalue()


def entry(shared: int, key: bytes, value: bytes, length: int | None = None) -> bytes:
    size = len(value) if length is None else length
    return b"".join(map(wire.encode_varint, (shared, len(key), size))) + key + value


def block(*entries: bytes, restarts: int = 1) -> bytes:
    return b"".join(entries) + bytes(4) + restarts.to_bytes(4, "little")


def forged(*blocks: bytes, compression: int = 0, order: tuple[int, ...] | None = None) -> bytes:
    """A table of blocks as they are given, with checksums that are right."""
    content, handles = b"", []

    def put(data: bytes) -> bytes:
        nonlocal content
        handle = wire.encode_varint(len(content)) + wire.encode_varint(len(data))
        kind = bytes([compression])
        content += data + kind + masked_crc(data, kind).to_bytes(4, "little")
        return handle

    handles = [put(data) for data in blocks]
    named = range(len(blocks)) if order is None else order
    index = block(*(entry(0, b"%04d" % at, handles[number]) for at, number in enumerate(named)))
    ends = put(block()) + put(index)
    return content + ends.ljust(40, b"\0") + FOOTER_END


# ---- round trips

pairs = st.dictionaries(st.binary(max_size=40), st.binary(max_size=2000), max_size=60)


@given(pairs)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(content):
    assert read_table(written(content)) == content


def test_many_blocks_and_single_values(tmp_path):
    rng = np.random.default_rng(0)
    content = {b"key/%05d" % at: rng.bytes(int(rng.integers(0, 6000))) for at in range(900)}
    content[b"key/large"] = rng.bytes(2_000_000)
    path = tmp_path / "table"
    path.write_bytes(written(content))
    assert read_table(path) == content
    table = SSTable(path)
    for key in rng.choice(sorted(content), 50):
        assert table.get(key) == content[key]
    assert table.get(b"key/00000x") is None


def test_keys_must_ascend():
    with pytest.raises(ValueError, match="ascend"):
        write_table(io.BytesIO(), [(b"b", b""), (b"a", b"")])


def test_the_checksum_is_that_of_leveldb():
    # CRC32C("123456789") is 0xe3069283 (RFC 3720); the mask is LevelDB's.
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF
    assert masked_crc(b"1234", b"", b"56789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF


# ---- damage


# ---- forgeries with right checksums

FORGERIES = {
    "snappy": (forged(block(entry(0, b"a", b"1")), compression=1), UnsupportedFeature),
    "unknown compression": (forged(block(entry(0, b"a", b"1")), compression=7), UnsupportedFeature),
    "keys out of order": (forged(block(entry(0, b"b", b""), entry(0, b"a", b""))), CorruptFile),
    "key twice": (forged(block(entry(0, b"a", b""), entry(1, b"", b""))), CorruptFile),
    "key twice, two blocks": (forged(block(entry(0, b"a", b"")), block(entry(0, b"a", b""))), CorruptFile),
    "block named twice": (forged(block(entry(0, b"a", b"")), order=(0, 0)), CorruptFile),
    "empty block named twice": (forged(block(), order=(0, 0)), CorruptFile),
    "blocks in wrong order": (
        forged(block(entry(0, b"a", b"")), block(entry(0, b"b", b"")), order=(1, 0)),
        CorruptFile,
    ),
    "shares more than there is": (forged(block(entry(1, b"a", b""))), CorruptFile),
    "value beyond the block": (forged(block(entry(0, b"a", b"12", length=30))), CorruptFile),
    "value of 2^60 bytes": (forged(block(entry(0, b"a", b"12", length=1 << 60))), CorruptFile),
    "key of 5000 bytes": (forged(block(entry(0, b"a" * 5000, b""))), CorruptFile),
    "more restarts than bytes": (forged(block(entry(0, b"a", b""), restarts=1 << 30)), CorruptFile),
    "block of 3 bytes": (forged(b"abc"), CorruptFile),
    "number without end": (forged(block(b"\xff" * 12)), CorruptFile),
    "entry cut short": (forged(block(b"\x00")), CorruptFile),
    "no magic": (forged(block())[:-1] + b"x", CorruptFile),
    "nothing": (b"", CorruptFile),
    "footer alone, pointing at itself": (bytes(40) + FOOTER_END, CorruptFile),
    "footer pointing far away": (
        (wire.encode_varint(1 << 62) * 4).ljust(40, b"\0") + FOOTER_END,
        CorruptFile,
    ),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_tables_are_refused(name, tmp_path):
    content, expected = FORGERIES[name]
    path = tmp_path / "forged.ckpt"
    path.write_bytes(content)
    for refuse in (lambda: read_table(content), lambda: SSTable(path)):
        with pytest.raises(expected):
            refuse()
    with pytest.raises(expected, match=r"forged\.ckpt"):
        read_table(path)


def test_keys_that_would_grow_quadratically_are_refused(tmp_path):
    # 4 bytes an entry, each a key of 4000 and more: 64 KB that would take 64 MB.
    base = b"k" * 4000
    grown = [entry(0, base, b"")] + [entry(4000, at.to_bytes(3, "big"), b"") for at in range(16_000)]
    content = forged(block(*grown))
    with pytest.raises(ResourceLimit, match="lists more"):
        read_table(content, at_most=1 << 24)
    path = tmp_path / "table"
    path.write_bytes(content)
    with pytest.raises(ResourceLimit, match="lists more"):
        SSTable(path)


def test_a_block_that_goes_on_and_on_is_refused():
    many = [entry(0, b"%06d" % at, bytes(200)) for at in range(6000)]
    with pytest.raises(UnsupportedFeature, match="goes on"):
        read_table(forged(block(*many)))


def test_a_sparse_file_of_a_terabyte_is_refused_at_once(tmp_path):
    path = tmp_path / "huge"
    handle = wire.encode_varint(0) + wire.encode_varint(1 << 39)
    with open(path, "wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 40)
        file.write((handle * 2).ljust(40, b"\0") + FOOTER_END)
    assert_refused(lambda: read_table(path), ResourceLimit, "huge", seconds=1)


# ---- what is opened


def test_only_regular_files_are_opened(tmp_path):
    with pytest.raises(CheckpointError, match="no such file"):
        RegularFile(tmp_path / "none")
    with pytest.raises(CheckpointError):
        RegularFile(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnsafeFile, match="regular"):
        RegularFile(tmp_path / "pipe")
    with pytest.raises(UnsafeFile, match="regular"):
        RegularFile("/dev/zero")
    (tmp_path / "file").write_bytes(b"1234")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert RegularFile(tmp_path / "link").size == 4
    with pytest.raises(UnsafeFile, match="link"):
        RegularFile(tmp_path / "link", follow_links=False)


def test_a_range_outside_the_file_is_refused_before_room_is_made(tmp_path):
    (tmp_path / "file").write_bytes(b"1234")
    file = RegularFile(tmp_path / "file")
    octet = np.dtype(np.uint8)
    assert file.fetch(1, (3,), octet, "file").tolist() == [50, 51, 52]
    for offset, size in ((-1, 2), (2, 3), (5, 0), (1 << 70, 1)):
        with pytest.raises(CorruptFile):
            file.fetch(offset, (size,), octet, "file")
    for shape in ((1 << 40, 1 << 40), (1 << 28, 2)):
        with pytest.raises(CorruptFile):
            file.fetch(0, shape, octet, "file")
    with pytest.raises(ResourceLimit):
        file.fetch(0, (0, 1 << 62), octet, "file")


# ---- the wire format


@given(st.binary(max_size=60))
@settings(max_examples=500, deadline=None)
def test_any_bytes_decode_or_are_refused(data):
    try:
        message = wire.Message(data, "here")
        for number in range(4):
            message.values(number)
            message.integer(number)
            message.data(number)
            wire.shape(message.message(number))
    except CheckpointError as error:
        assert str(error).startswith("here")


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=50), st.booleans())
@settings(max_examples=60, deadline=None)
def test_integers_packed_or_not(numbers, packed):
    content = b"".join(map(wire.encode_varint, numbers))
    single = b"".join(b"\x38" + wire.encode_varint(number) for number in numbers)
    data = wire.encode_data(7, content) if packed else single
    values = wire.Message(data, "here").values(7)
    assert wire.integers(values, 50, "here").tolist() == numbers
    if numbers:
        with pytest.raises(CorruptFile, match="more than"):
            wire.integers(values, len(numbers) - 1, "here")


def test_integers_across_the_seams_of_a_long_list():
    numbers = np.random.default_rng(0).integers(-(1 << 62), 1 << 62, 300_000) >> 40
    content = b"".join(map(wire.encode_varint, numbers.tolist()))
    assert np.array_equal(wire.integers([memoryview(content)], len(numbers), "here"), numbers)
    with pytest.raises(CorruptFile):
        wire.integers([memoryview(content + b"\x80")], len(numbers) + 1, "here")


MALFORMED = {
    "number cut short": b"\x08\x80",
    "number of eleven bytes": b"\x08" + b"\x80" * 10 + b"\x00",
    "number of 70 bits": b"\x08" + b"\xff" * 9 + b"\x7f",
    "field number 0": b"\x00\x01",
    "group": b"\x0b\x0c",
    "unknown kind": b"\x0f",
    "bytes beyond the end": b"\x0a\x05abc",
    "bytes of 2^63": b"\x0a" + b"\xff" * 8 + b"\x7f",
    "four bytes, three there": b"\x0dabc",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_are_refused(name):
    with pytest.raises(CorruptFile):
        wire.Message(MALFORMED[name], "here")


def test_a_field_of_another_kind_or_given_twice_is_refused():
    message = wire.Message(b"\x08\x01\x12\x02\xff\xfe\x18\x01\x18\x02", "here")
    for wrong in (
        lambda: message.data(1),
        lambda: message.chunks(1),
        lambda: message.integer(2),
        lambda: message.text(2),
        lambda: message.fixed32(2),
        lambda: message.integer(3),
    ):
        with pytest.raises(CorruptFile):
            wrong()
    assert (message.integer(9), bytes(message.data(9)), message.text(9), message.chunks(9)) == (
        0,
        b"",
        "",
        [],
    )


def test_a_message_of_a_million_fields_is_refused():
    with pytest.raises(ResourceLimit):
        wire.Message(b"\x0a\x00" * 1_000_000, "here")
