"""ZIP archives by strict rules: what npz, zipped torch files and `.keras` have in common.

Not read with `zipfile`, which counts a missing checksum as a wrong one, skips the check
after a seek since Python 3.13 and lets members overlap. Here every member is named once,
lies apart from the others, is read whole and checked against size and CRC32; nothing is
ever extracted to a path that an archive names.
"""

from __future__ import annotations

import itertools
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception.files.errors import ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.files.regular import RegularFile
from inception.files.tensor import LARGEST, allocate, damaged

_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _DESCRIPTOR, _UTF8 = 1 << 0, 1 << 3, 1 << 11
_KNOWN_FLAGS = _DESCRIPTOR | _UTF8 | 1 << 1 | 1 << 2  # the last two say how hard deflate tried
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_IN_EXTRA = 0xFFFFFFFF  # the number is 64 bits long and stands in the extra field
_MOST_MEMBERS = 20_000
_MOST_BYTES = 1 << 30  # unpacked, in an archive that is itself smaller than a quarter of it
_CHUNK = 4 << 20


@dataclass(frozen=True)
class Member:
    """One file of an archive: `size` bytes in `packed` bytes from `start` on; a crc of 0 was not computed."""

    name: str
    size: int
    packed: int
    crc: int
    deflated: bool
    start: int


class Archive:
    """The members of a ZIP file, listed and checked against their own headers, not yet read.

    Raises:
        CorruptFile: For contradictions (names twice, overlaps, two different sizes).
        UnsafeFile: For names that lead out of a folder.
        UnsupportedFeature: For encryption and compression other than deflate.
        ResourceLimit: For an archive that unpacks to far more than weights can be.
    """

    def __init__(self, path: str | os.PathLike[str], largest: int = LARGEST, most_members: int = _MOST_MEMBERS) -> None:
        self._file = RegularFile(path)
        self._largest = largest  # bytes of a member that is read whole
        self.name = self._file.name
        count, start, size = _directory(self._file)
        if count > most_members:
            raise ResourceLimit(f"{self.name}: holds {count} members; expected {most_members} at most")
        self.members: Mapping[str, Member] = _members(self._file, count, start, size)
        total = sum(member.size for member in self.members.values())
        if total > max(_MOST_BYTES, 4 * self._file.size):
            raise ResourceLimit(f"{self.name}: {self._file.size} bytes unpack to {total}; too many for weights")

    @property
    def checksummed(self) -> bool:
        """Whether every member has a checksum, which reading it then has compared."""
        return all(member.crc or not member.size for member in self.members.values())

    def head(self, name: str, size: int) -> bytes:
        """The first bytes of a member, NOT checked: enough to see what it says it is."""
        found = b""
        for piece in self._unpacked(name, size):
            found += piece.tobytes()
            if len(found) >= size:
                break
        return found[:size]

    def part(self, name: str, start: int, size: int) -> np.ndarray:
        """Bytes out of a member that is stored as it is, NOT checked; `UnsupportedFeature` for a compressed one."""
        member = self.members[name]
        if member.deflated:
            raise UnsupportedFeature(f"{self.name}: {name} is compressed; expected it stored, as numpy.savez does")
        return self._file.octets(member.start + start, size)

    def octets(self, name: str) -> np.ndarray:
        """A member whole and checked, as fresh uint8; `ResourceLimit` when it is larger than any tensor."""
        shape = (self.members[name].size,)
        result = allocate(shape, np.dtype(np.uint8), f"{self.name}: {name}", self._largest)
        position = 0
        for piece in self.chunks(name):
            result[position : position + len(piece)] = piece
            position += len(piece)
        return result

    def chunks(self, name: str) -> Iterator[np.ndarray]:
        """A member piece by piece; only when the last one has come are size and checksum known to be right."""
        member, size, crc = self.members[name], 0, 0
        where = f"{self.name}: {name}"
        for piece in self._unpacked(name, _CHUNK):
            size, crc = size + len(piece), zlib.crc32(piece.data, crc)
            if size > member.size:
                break
            yield piece
        if size != member.size:
            raise damaged(where, f"unpacks to {size} bytes or more where {member.size} are named")
        if member.crc not in (0, crc):
            raise damaged(where, "its checksum is wrong")

    def _unpacked(self, name: str, step: int) -> Iterator[np.ndarray]:
        """The member's bytes in pieces of at most `step`."""
        member = self.members[name]
        packed = (
            self._file.octets(member.start + at, min(step, member.packed - at)) for at in range(0, member.packed, step)
        )
        return _inflated(packed, step, f"{self.name}: {name}") if member.deflated else packed


def _inflated(packed: Iterator[np.ndarray], step: int, where: str) -> Iterator[np.ndarray]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in packed:
            rest = piece.tobytes()
            while rest and not inflater.eof:
                yield np.frombuffer(inflater.decompress(rest, step), np.uint8)
                rest = inflater.unconsumed_tail
            if inflater.unused_data or (rest and inflater.eof):
                raise damaged(where, "has bytes behind its compressed data")
        while not inflater.eof and (more := inflater.decompress(b"", step)):
            yield np.frombuffer(more, np.uint8)
    except zlib.error as error:
        raise damaged(where, f"cannot be decompressed ({error})") from error
    if not inflater.eof:
        raise damaged(where, "its compressed data is cut short")


# ---- the directory


def _directory(file: RegularFile) -> tuple[int, int, int]:
    """(number of members, first byte, length) of the directory, which ends right before the end record."""
    length = min(file.size, 0xFFFF + _END.size)
    tail = file.octets(file.size - length, length).tobytes()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise damaged(file.name, "a ZIP file without its end; it may be cut short")
    _, disk, first_disk, here, count, size, start, comment = _END.unpack_from(tail, at)
    end = file.size - len(tail) + at
    if end + _END.size + comment != file.size:
        raise damaged(file.name, f"its end record is not at its end but at byte {end}")
    locator = end - _LOCATOR64.size
    if locator >= 0 and file.octets(locator, 4).tobytes() == b"PK\6\7":
        count64, start64, size64, end = _directory64(file, locator)
        for short, long in ((count, count64), (size, size64), (start, start64)):
            if short not in (long, 0xFFFF, _IN_EXTRA):
                raise damaged(file.name, f"its two end records say {short} and {long}")
        here, count, start, size = count64, count64, start64, size64
    if disk or first_disk or here != count:
        raise UnsupportedFeature(f"{file.name}: is one part of a ZIP file in several; expected it whole")
    if start + size != end:
        raise damaged(file.name, f"its directory is said to end at byte {start + size} and ends at {end}")
    return count, start, size


def _directory64(file: RegularFile, locator: int) -> tuple[int, int, int, int]:
    """(number of members, first byte, length, where the record itself is) by the end record of large archives."""
    _, disk, at, disks = _LOCATOR64.unpack(file.octets(locator, _LOCATOR64.size).data)
    if disk or disks > 1 or at != locator - _END64.size:
        raise damaged(file.name, f"its ZIP64 end record is said to be at byte {at}")
    magic, length, _, _, _, _, here, count, size, start = _END64.unpack(file.octets(at, _END64.size).data)
    if magic != b"PK\6\6" or length != _END64.size - 12 or here != count:
        raise damaged(file.name, "its ZIP64 end record contradicts itself")
    return count, start, size, at


def _members(file: RegularFile, count: int, start: int, size: int) -> dict[str, Member]:
    directory = file.octets(start, size).tobytes()
    found: dict[str, Member] = {}
    places = []
    at = 0
    for _ in range(count):
        if len(directory) - at < _CENTRAL.size:
            raise damaged(file.name, f"its directory ends before its {count} members do")
        fields = _CENTRAL.unpack_from(directory, at)
        lengths = fields[10:13]
        if fields[0] != b"PK\1\2" or len(directory) - at < _CENTRAL.size + sum(lengths):
            raise damaged(file.name, f"its directory is broken at byte {start + at}")
        at += _CENTRAL.size
        raw, extra = directory[at : at + lengths[0]], directory[at + lengths[0] : at + lengths[0] + lengths[1]]
        at += sum(lengths)
        member, header = _member(file, fields, raw, extra)
        if member.name in found:
            raise damaged(file.name, f"names {member.name!r} twice")
        found[member.name] = member
        places.append((header, member.start + member.packed))
    if at != len(directory):
        raise damaged(file.name, f"its directory holds more than its {count} members")
    places.append((start, start))
    places.sort()
    for (_, stop), (begin, _) in itertools.pairwise(places):
        if stop > begin:
            raise damaged(file.name, f"two of its members share the bytes from {begin} on")
    return found


def _member(file: RegularFile, fields: tuple[Any, ...], raw: bytes, extra: bytes) -> tuple[Member, int]:
    """A member and where its own header is, the directory's words compared with the header's."""
    flags, method, crc, disk = fields[3], fields[4], fields[7], fields[13]
    name = _checked_name(raw, flags, file.name)
    where = f"{file.name}: {name}"
    size, packed, header = _wide((fields[9], fields[8], fields[16]), extra, where)
    if disk or flags & ~_KNOWN_FLAGS or method not in (_STORED, _DEFLATED):
        kind = "encrypted" if flags & _ENCRYPTED else f"packed in a way (method {method}, flags {flags:#x})"
        raise UnsupportedFeature(f"{where}: is {kind} that is not read; expected plain or deflated members")
    if method == _STORED and size != packed:
        raise damaged(where, f"is stored as it is, {size} bytes in {packed}")
    own = _LOCAL.unpack(file.octets(header, _LOCAL.size).data)
    behind = file.octets(header + _LOCAL.size, own[9] + own[10]).tobytes()
    own_size, own_packed, _ = _wide((own[8], own[7], 0), behind[own[9] :], where)
    same = own[0] == b"PK\3\4" and behind[: own[9]] == raw and own[3] == method
    for mine, theirs in ((own[6], crc), (own_size, size), (own_packed, packed)):
        same &= mine == theirs or (mine == 0 and bool(own[2] & flags & _DESCRIPTOR))
    if not same:
        raise damaged(where, "the directory and its own header disagree")
    begin = header + _LOCAL.size + len(behind)
    return Member(name, size, packed, crc, method == _DEFLATED, begin), header


def _wide(numbers: tuple[int, ...], extra: bytes, where: str) -> list[int]:
    """The numbers, those of them that are 64 bits long taken from the extra field."""
    wide = b""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = extra[4 : 4 + length]
        extra = extra[4 + length :]
    if len(wide) < 8 * numbers.count(_IN_EXTRA):
        raise damaged(where, "its 64-bit sizes are missing")
    longs = iter(struct.unpack_from(f"<{len(wide) // 8}Q", wide))
    return [next(longs) if number == _IN_EXTRA else number for number in numbers]


def _checked_name(raw: bytes, flags: int, where: str) -> str:
    try:
        name = raw.decode("utf-8" if flags & _UTF8 else "cp437")
    except UnicodeDecodeError as error:
        raise damaged(where, f"the name {raw[:100]!r} is not UTF-8") from error
    if not name or name.startswith("/") or ".." in name.split("/") or set(name) & set("\\:\0"):
        raise UnsafeFile(f"{where}: has a member called {name[:100]!r}, which leads elsewhere; such files are not read")
    return name
