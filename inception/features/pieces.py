"""The finished pieces of a shard that is not: what a killed run leaves, and the next one goes on from.

    _pieces/00003/part-01560.parquet   rows of shard 3, from picture 1560 of the list on

A piece has the form of a shard, and says which batch its engine ran. It ends where a batch ends, so that a run which
begins behind it computes the batches of one that was never stopped. It is taken when all that it says is right: its
digest, its extraction, and the sizes and times of its pictures.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from inception.features import dataset
from inception.features.dataset import Damaged, Place, Shard
from inception.features.reading import Read, stamp_of
from inception.features.sources import Item
from inception.features.stores import Store

PIECES = "_pieces"
Rows = tuple[
    list[Read], dict[str, np.ndarray]
]  # the pictures of a piece, and {end point: a row for each that was read}


def keep(folder: Place, shard: Shard, start: int, metadata: Mapping[str, Any], piece: Rows) -> None:
    """Writes what follows picture `start` of a shard.

    Args:
        metadata: of the extraction, and all else that the batches of the piece depend on.
    """
    place = _place(folder, shard)
    with contextlib.suppress(FileNotFoundError):  # a worker that Ray gave up for lost has just finished the shard
        place.mkdir(parents=True, exist_ok=True)
        dataset.write(place, Shard(start, start, start + len(piece[0])), metadata, *piece)


def kept(folder: Place, shard: Shard, metadata: Mapping[str, Any], items: Sequence[Item]) -> Iterator[Rows]:
    """The pieces from the shard's beginning on, as far as they are sound and join.

    Args:
        items: the shard's pictures.
    """
    done = 0
    while done < len(shard) and (piece := _piece(folder, shard, shard.start + done, metadata, items[done:])):
        yield piece
        done += len(piece[0])


def _piece(folder: Place, shard: Shard, start: int, metadata: Mapping[str, Any], items: Sequence[Item]) -> Rows | None:
    try:
        table, said, arrays = dataset.read(_place(folder, shard) / Shard(start, start, start).name, metadata)
    except Damaged:
        return None
    items = items[: max(said["stop"] - start, 0)]
    stamps = [stamp_of(item) for item in items]
    if said["start"] != start or not items or len(table) + len(said["errors"]) != len(items):
        return None
    if said["inputs"] != dataset.digest_of(stamps):
        return None
    rows, errors, reads = deque(table.select(["sha256", "width", "height"]).to_pylist()), deque(said["errors"]), []
    for item, stamp in zip(items, stamps, strict=True):
        if errors and (not rows or errors[0][0] == dataset.shown(item.path)):
            reads.append(Read(item.path, stamp, errors.popleft()[1]))
        else:
            reads.append(Read(item.path, stamp, **rows.popleft()))
    return reads, arrays


def forget(folder: Place, shard: Shard | None = None) -> None:
    """Removes the pieces of a shard that is done; of all, when all are."""
    place = _place(folder, shard) if shard else folder / PIECES
    if isinstance(place, Store):
        place.remove()
    else:
        shutil.rmtree(place, ignore_errors=True)


def _place(folder: Place, shard: Shard) -> Place:
    return folder / PIECES / f"{shard.index:05d}"
