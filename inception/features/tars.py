"""Pictures in tar files, as WebDataset's shards are: found by a walk over the headers, read by their place.

Nothing is unpacked: a member's name is what a picture is called, never a path on a disk. Links, devices and folders are
passed over. Of a name that comes twice the last counts, as when a tar is unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from inception.features.stores import Store, is_url
from inception.files.errors import CorruptFile, ResourceLimit, UnsupportedFeature
from inception.files.regular import RegularFile

_BLOCK = 512
_LONGEST = 1 << 16  # bytes of a name, or of a header's further fields
_AHEAD = 1 << 22  # bytes that are read of a store at a time; a member that is larger is not read for its neighbour
Read = Callable[[int, int], bytes]  # from where, how many


def members(path: str, endings: tuple[str, ...]) -> Iterator[tuple[str, int, int] | None]:
    """(name, where its bytes begin, how many) of the members with these endings; None for others.

    Raises:
        CorruptFile: For what is no tar, or one that was cut.
        ResourceLimit: For a name longer than names are.
        UnsupportedFeature: For a compressed one.
    """
    found: dict[str, tuple[str, int, int]] = {}
    for name, kind, start, size in _entries(path, *_opened(path)):
        if kind in b"0\0" and name.lower().endswith(endings):
            found[name] = name, start, size
        elif kind != b"5":
            yield None
    yield from found.values()


def content(path: str, start: int, size: int) -> bytes:
    """A member's bytes."""
    return Store(path).part(start, size) if is_url(path) else RegularFile(path).octets(start, size).tobytes()


def _opened(path: str) -> tuple[Read, int]:
    """A function that reads, and how many bytes there are."""
    if not is_url(path):
        file = RegularFile(path)
        return lambda start, size: file.octets(start, min(size, file.size - start)).tobytes(), file.size
    held = 0, b""

    def read(start: int, size: int) -> bytes:
        nonlocal held
        if not held[0] <= start <= start + size <= held[0] + len(held[1]):
            held = start, Store(path).part(start, max(size, _AHEAD))
        return held[1][start - held[0] : start - held[0] + size]

    return read, Store(path).stamp()[0]


def _entries(path: str, read: Read, whole: int) -> Iterator[tuple[str, bytes, int, int]]:
    """(name, kind, start, size) of all members: ustar, GNU's long names, and POSIX's further fields."""
    at, long_name = 0, ""
    more: dict[str, str] = {}
    while at < whole:
        header = read(at, _BLOCK)
        if not any(header):
            return
        if len(header) < _BLOCK or _number(header[148:156]) != sum(header) - sum(header[148:156]) + 8 * 32:
            if at == 0 and header[:2] == b"\x1f\x8b":
                raise UnsupportedFeature(f"{path}: is compressed, so that no picture has a place in it; unpack it once")
            raise CorruptFile(f"{path}: has no header at {at}; expected a tar file, fetch it again")
        kind, start = header[156:157], at + _BLOCK
        size = _number(header[124:136]) if "size" not in more or kind in b"xgLK" else _decimal(more["size"])
        at = start + -(-size // _BLOCK) * _BLOCK if size >= 0 else -1
        if size < 0 or start + size > whole:
            raise CorruptFile(f"{path}: a member at {start} of {size} bytes reaches past its end; fetch it again")
        if kind in b"xgLK":
            if size > _LONGEST:
                raise ResourceLimit(f"{path}: a name at {start} has {size} bytes; expected {_LONGEST} at most")
            if kind == b"L":
                long_name = _text(read(start, size))
            elif kind == b"x":
                more = _fields(read(start, size))
            continue
        prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
        name = more.get("path") or long_name or (f"{prefix}/" if prefix else "") + _text(header[:100])
        yield name, kind, start, size
        long_name, more = "", {}


def _number(field: bytes) -> int:
    """Octal, or two's complement where the first bit says so; -1 for neither."""
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") if field[0] == 0x80 else -1
    digits = field.strip(b" \0")
    return int(digits, 8) if digits and not digits.strip(b"01234567") else 0 if not digits else -1


def _decimal(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1


def _fields(content: bytes) -> dict[str, str]:
    """POSIX's "LENGTH KEY=VALUE\\n" fields, as far as they are such."""
    fields = {}
    while content:
        length, space, _ = content.partition(b" ")
        size = _decimal(length.decode("latin-1")) if space else -1
        if not len(length) + 1 < size <= len(content):
            break
        key, _, value = content[len(length) + 1 : size].rstrip(b"\n").partition(b"=")
        fields[key.decode("latin-1")] = _text(value)
        content = content[size:]
    return fields


def _text(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "surrogateescape")
