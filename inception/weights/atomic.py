"""Writing that leaves the old file or the complete new one, never a third thing.

A temporary file beside the target takes the bytes, is flushed to the disk, may be
read back and checked, and then takes the target's name in one step; the folder is
flushed last. On any error the temporary file is removed and the target is as it was.
"""

from __future__ import annotations

import contextlib
import glob
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

_MARK = ".tmp-"


@contextlib.contextmanager
def replacing(*targets: str | os.PathLike[str]) -> Iterator[list[Path]]:
    """Yields a temporary path for each target; on success each takes its target's name.

    Targets must share a folder. They are renamed in the order given: put the file
    that makes the others count (an index) last. Temporary files that a killed
    process left for these targets are removed first.
    """
    paths = [Path(target) for target in targets]
    folder = paths[0].parent
    for path in paths:
        for left_over in folder.glob(f"{glob.escape(path.name)}{_MARK}*"):
            left_over.unlink(missing_ok=True)
    temporary = [path.with_name(f"{path.name}{_MARK}{uuid.uuid4().hex[:8]}") for path in paths]
    try:
        yield temporary
        for path in temporary:
            _flush(path)
        for path, target in zip(temporary, paths, strict=True):
            os.replace(path, target)
        _flush(folder)
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Asks the disk to keep what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
