"""Damaging files, byte by byte: what a reader may answer is the truth or one of our errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inception.weights import CheckpointError


def damaged(content: bytes, positions: Iterable[int]) -> Iterator[bytes]:
    """For each position: the byte flipped, one of its bits, cut there, and 64 zeros from there on."""
    for position in positions:
        head, byte, tail = content[:position], content[position], content[position + 1 :]
        yield head + bytes([byte ^ 0xFF]) + tail
        yield head + bytes([byte ^ 1 << position % 8]) + tail
        yield head
        yield (head + bytes(64) + tail[63:])[: len(content)]


def assert_never_silently_wrong(path: Path, read: Callable[[Path], Any], positions: Iterable[int]) -> None:
    """`read` gives what it gave for the sound file, or raises a `CheckpointError`; anything else fails."""
    content, truth = path.read_bytes(), read(path)
    refused = 0
    for wrong in damaged(content, positions):
        path.write_bytes(wrong)
        try:
            assert read(path) == truth
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused


def assert_refused(read: Callable[[], Any], error: type[CheckpointError], match: str, seconds: float = 2) -> None:
    """At once, in time of this process's own, and with a sentence."""
    start = time.process_time()
    with pytest.raises(error, match=match):
        read()
    assert time.process_time() - start < seconds


def fingerprint(weights: Any) -> tuple[Any, ...]:
    """All that must not change without a word."""
    return weights.variant, [(name, array.shape, array.tobytes()) for name, array in weights.arrays.items()]
