"""Protobuf's wire format, and the three things every TensorFlow file says in it: shape, type, version.

The decoder trusts nothing and never recurses: a nested message comes back as the
bytes it is and is decoded when its owner asks, so no depth of nesting can hurt.
Every failure is an exception of `errors`, and its message begins with `where`, the
caller's words for the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from inception.files.errors import ResourceLimit, UnsupportedFeature
from inception.files.tensor import MOST_DIMENSIONS, Shape, damaged

Buffer = bytes | bytearray | memoryview
Value = int | memoryview

_VARINT, _FIXED64, _DATA, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 1 << 17
_CHUNK = 1 << 20

# TensorFlow's DataType numbers. The others (7 string, 14 bfloat16, 20 resource..) can be listed, not read.
DTYPES: dict[int, np.dtype] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    9: np.dtype("<i8"),
    19: np.dtype("<f2"),
}
_HIGHEST_DTYPE = 63  # TensorFlow 2.21 ends at 33; 101 and up are references, which no file holds
_VERSION = 1


# ---- reading


def read_varint(view: memoryview, position: int, where: str) -> tuple[int, int]:
    """The unsigned number of at most 64 bits at `position`, and the position after it."""
    result = 0
    for shift in range(0, 70, 7):
        if position >= len(view):
            raise damaged(where, f"ends at byte {position}, inside a number")
        byte = view[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    if byte >= 0x80 or result >> 64:
        raise damaged(where, f"the number before byte {position} is longer than 64 bits")
    return result, position


def fields(buffer: Buffer, where: str) -> Iterator[tuple[int, Value]]:
    """Yields (field number, value) in file order: an int for a varint, otherwise the bytes.

    Fixed 32 and 64 bit values are their 4 or 8 bytes, so that a repeated float reads
    alike packed (one long value) and not (many short ones).
    """
    view, position = memoryview(buffer), 0
    while position < len(view):
        key, position = read_varint(view, position, where)
        number, kind = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise damaged(where, f"field number {number} at byte {position} is outside 1..2^29-1")
        value, position = read_varint(view, position, where) if kind in (_VARINT, _DATA) else (0, position)
        if kind == _VARINT:
            yield number, value
            continue
        size = {_FIXED64: 8, _DATA: value, _FIXED32: 4}.get(kind)
        if size is None:
            raise damaged(where, f"field {number} at byte {position} has the unknown kind {kind}")
        if size > len(view) - position:
            raise damaged(where, f"field {number} wants {size} bytes and {len(view) - position} are left")
        yield number, view[position : position + size]
        position += size


class Message:
    """One decoded message, asked for by field number; fields nobody asks for are ignored.

    A field that is absent reads as 0 or empty, as protobuf has it. One of another
    kind than asked for, or a single one given twice, raises `CorruptFile`.
    """

    def __init__(self, buffer: Buffer, where: str) -> None:
        self.where = where
        self._values: dict[int, list[Value]] = {}
        for count, (number, value) in enumerate(fields(buffer, where)):
            if count == _MOST_FIELDS:
                raise ResourceLimit(f"{where}: one message has more than {_MOST_FIELDS} fields; refused")
            self._values.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._values

    def values(self, number: int) -> list[Value]:
        """All values of a field, each an int or bytes."""
        return self._values.get(number, [])

    def chunks(self, number: int) -> list[memoryview]:
        """All values of a repeated field of bytes, messages or packed numbers."""
        values = self.values(number)
        chunks = [value for value in values if isinstance(value, memoryview)]
        if len(chunks) != len(values):
            raise damaged(self.where, f"field {number} should hold bytes and holds a number")
        return chunks

    def messages(self, number: int) -> Iterator[Message]:
        """The messages of a repeated field, decoded one at a time."""
        return (Message(chunk, self.where) for chunk in self.chunks(number))

    def integer(self, number: int) -> int:
        """A signed number, for int32, int64, bool and enum fields."""
        value = self._single(number, 0)
        if not isinstance(value, int):
            raise damaged(self.where, f"field {number} should hold a number and holds bytes")
        return value - (1 << 64) if value >> 63 else value

    def fixed32(self, number: int) -> int:
        """An unsigned number of four bytes."""
        data = self.data(number)
        if len(data) not in (0, 4):
            raise damaged(self.where, f"field {number} should hold 4 bytes and holds {len(data)}")
        return int.from_bytes(data, "little")

    def data(self, number: int) -> memoryview:
        """The bytes of a field, not copied."""
        value = self._single(number, memoryview(b""))
        if not isinstance(value, memoryview):
            raise damaged(self.where, f"field {number} should hold bytes and holds a number")
        return value

    def message(self, number: int) -> Message:
        """The message in a field."""
        return Message(self.data(number), self.where)

    def text(self, number: int) -> str:
        """The string in a field."""
        return text(self.data(number), self.where)

    def _single(self, number: int, absent: Value) -> Value:
        values = self.values(number)
        if len(values) > 1:
            raise damaged(self.where, f"field {number} should be there once and is there {len(values)} times")
        return values[0] if values else absent


def text(data: Buffer, where: str) -> str:
    """UTF-8 bytes as a string."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise damaged(where, f"a name is not UTF-8 ({error.reason} at its byte {error.start})") from error


def integers(values: Iterable[Value], at_most: int, where: str) -> np.ndarray:
    """The int64 numbers of a repeated varint field, packed or not; more than `at_most` is damage."""
    parts = (encode_varint(value) if isinstance(value, int) else value for value in values)
    octets = np.frombuffer(b"".join(parts), np.uint8)
    result = np.zeros(min(at_most, len(octets)), np.uint64)
    filled = position = 0
    while position < len(octets):
        piece = octets[position : position + _CHUNK]
        ends = np.flatnonzero(piece < 0x80)
        lengths = np.diff(ends, prepend=-1)
        if not len(ends) or lengths.max() > 10:
            raise damaged(where, "a number is cut short or longer than 64 bits")
        if filled + len(ends) > at_most:
            raise damaged(where, f"holds more than the {at_most} numbers of its shape")
        numbers = result[filled : filled + len(ends)]
        for place in range(lengths.max()):
            longer = lengths > place
            septets = piece[(ends - lengths + 1)[longer] + place] & np.uint8(0x7F)
            numbers[longer] |= septets.astype(np.uint64) << np.uint64(7 * place)
        filled += len(ends)
        position += int(ends[-1]) + 1
    return result[:filled].view(np.int64)


# ---- writing


def encode_varint(value: int) -> bytes:
    """A number of at most 64 bits; a negative one takes ten bytes."""
    value &= (1 << 64) - 1
    octets = bytearray()
    while value >= 0x80:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def encode_integer(number: int, value: int) -> bytes:
    """A varint field; nothing for 0, which is what an absent field means."""
    return encode_varint(number << 3 | _VARINT) + encode_varint(value) if value else b""


def encode_fixed32(number: int, value: int) -> bytes:
    """A field of four bytes."""
    return encode_varint(number << 3 | _FIXED32) + value.to_bytes(4, "little")


def encode_data(number: int, *parts: Buffer) -> bytes:
    """A field of bytes or a nested message, given in pieces."""
    return b"".join((encode_varint(number << 3 | _DATA), encode_varint(sum(map(len, parts))), *parts))


# ---- TensorFlow's messages


def shape(message: Message) -> Shape:
    """A TensorShapeProto, with no side negative and no more of them than `MOST_DIMENSIONS`."""
    if 3 in message and message.integer(3):
        raise UnsupportedFeature(f"{message.where}: its shape is unknown; expected one written out")
    rank = len(message.chunks(2))
    if rank > MOST_DIMENSIONS:
        raise UnsupportedFeature(f"{message.where}: has {rank} dimensions; expected {MOST_DIMENSIONS} at most")
    sides = tuple(side.integer(1) for side in message.messages(2))
    if any(side < 0 for side in sides):
        raise damaged(message.where, f"its shape {sides} has a negative side")
    return sides


def encode_shape(sides: Shape) -> bytes:
    """The content of a TensorShapeProto."""
    return b"".join(encode_data(2, encode_integer(1, side)) for side in sides)


def dtype(code: int, where: str) -> np.dtype | None:
    """The array type of a DataType number; None for one that exists and is not read here."""
    if not 1 <= code <= _HIGHEST_DTYPE:
        raise damaged(where, f"its type number {code} does not exist")
    return DTYPES.get(code)


def check_version(message: Message) -> None:
    """Refuses a VersionDef other than the one version that checkpoints have had so far."""
    producer, consumer = message.integer(1), message.integer(2)
    if not (0 <= producer <= _VERSION and 0 <= consumer <= _VERSION) or 3 in message:
        raise UnsupportedFeature(
            f"{message.where}: written as version {producer} for readers of version {consumer}; "
            f"expected {_VERSION}, which is all this library reads"
        )
