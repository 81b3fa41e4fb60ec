"""Mean and covariance of features, and what they are of: network, tap, way of a picture, protocol."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import inception
from inception.brief import one_line
from inception.features import dataset
from inception.files import npz
from inception.files.archive import Archive
from inception.files.errors import safe
from inception.files.tensor import LARGEST
from inception.metrics.sums import Sums

# What two sides of a comparison must have in common, and how a sentence calls it.
_SAME = {"protocol": "protocol", "weights": "weights", "tap": "tap", "picture": "way of a picture"}


@dataclass(frozen=True)
class Made:
    """What statistics were made with; None is what nobody said.

    Attributes:
        protocol: a protocol's record as JSON, with its `name`.
        weights: hex digest of the network's arrays, as features have it.
        picture: `Picture.json()`, the way of a picture to the network.
        tap: the end point that the features come from.
        version: of inception.
        precision: in which the network ran; float32 where nobody said.
    """

    protocol: Mapping[str, Any] | None = None
    weights: str | None = None
    picture: Mapping[str, Any] | None = None
    tap: str | None = None
    version: str | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        for name in ("protocol", "picture"):  # as a file would give them back, tuples as lists
            object.__setattr__(self, name, json.loads(json.dumps(getattr(self, name))))


@dataclass(frozen=True)
class Statistics:
    """The moments of one set of pictures.

    Attributes:
        mean: float64 [d].
        covariance: float64 [d, d], symmetric.
        count: how many rows it is of; None where a file does not say.
        ddof: the covariance is divided by count - ddof; None where a file does not say.
        made: what it was made with.
        source: what sentences call it, the name of its file.
        notes: sentences on what is not known of it.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None = None
    ddof: int | None = None
    made: Made = Made()
    source: str = "the features"
    notes: tuple[str, ...] = ()

    __repr__ = one_line


def of_sums(sums: Sums, *, ddof: int = 1, made: Made | None = None, source: str = "the features") -> Statistics:
    """The statistics of summed rows.

    Args:
        ddof: 1 as NumPy's `cov`, 0 as StyleGAN.

    Raises:
        ValueError: For too few rows, and while some are missing in between.
    """
    count, total, outer = sums.moments()
    if ddof not in (0, 1) or count <= ddof:
        raise ValueError(f"{source}: {count} rows and ddof {ddof}; expected ddof 0 or 1 and more rows than it.")
    covariance = (outer - np.outer(total, total) / count) / (count - ddof)
    made = made or Made(version=inception.__version__)
    return Statistics(total / count, covariance, count, ddof, made, source)


def of_arrays(
    rows: np.ndarray | Iterable[np.ndarray], *, ddof: int = 1, made: Made | None = None, source: str = "the features"
) -> Statistics:
    """The statistics of an array [n, d], or of several one after the other, of which one is in memory at a time."""
    return of_sums(Sums.of(rows), ddof=ddof, made=made, source=source)


def of_folder(
    folder: str | os.PathLike[str],
    tap: str | None = None,
    *,
    protocol: Mapping[str, Any] | None = None,
    ddof: int = 1,
    partial: bool = False,
    name: str | None = None,
) -> Statistics:
    """The statistics of a folder of features, read shard by shard; maps are taken flat, rows, columns, channels.

    Args:
        tap: which of its end points; may be left out where there is one.
        protocol: the record, as JSON, of the protocol it was extracted by.
        partial: take an extraction that is not finished as far as it is.
        name: what sentences call it, in place of the folder's.

    Raises:
        ValueError: For what is no finished folder, another tap, and a folder without a picture that could be read.
    """
    where = name or os.fspath(folder)
    parts = dataset.scan(folder, partial=partial)
    said = dataset.described(folder) or {}
    shapes = said["shapes"]
    tap = tap or (next(iter(shapes)) if len(shapes) == 1 else "")
    if tap not in shapes:
        wrong = f"{tap} is none of them" if tap else "say which tap"
        raise ValueError(f"{where} has features of {', '.join(shapes)}; {wrong}.")
    width = math.prod(shapes[tap])
    if 8 * width**2 > LARGEST:
        raise ValueError(f"{where}: {tap} is {shapes[tap]} a picture, too large for a covariance; extract it pooled.")
    sums, errors = Sums(width), []
    for part in parts:
        sums.add(part.arrays[tap].reshape(len(part), width))
        errors += part.errors[:1]
    if errors and not sums.count:
        raise ValueError(f"{where}: no picture could be read, the first because: {errors[0][1]}")
    made = Made(protocol, said["weights"], said["picture"], tap, said["inception"], precision_of(said))
    return of_sums(sums, ddof=ddof, made=made, source=where)


def of_npz(path: str | os.PathLike[str], name: str | None = None, *, ddof: int = 1) -> Statistics:
    """The statistics of features in an `.npz`, a float array [n, d]; `name` says which where there are several.

    Raises:
        ValueError: For a file without such an array.
    """
    archive = Archive(path)
    arrays = npz.listed(archive)
    features = [key for key, stored in arrays.items() if len(stored.shape) == 2 and stored.dtype.kind == "f"]
    if (name or len(features) != 1) and name not in features:
        shown = safe(", ".join(features), 200) or "no float array [n, d]"
        raise ValueError(f"{archive.name} has {shown}; " + (f"{name} is none of them." if name else "say which."))
    return of_arrays(arrays[name or features[0]].read(), ddof=ddof, source=archive.name)


def check_same(a: Statistics, b: Statistics) -> tuple[str, ...]:
    """Notes on what one side does not say, where both may be compared.

    Raises:
        ValueError: That names both sides, for two protocols, weights, taps, ways of a picture, or widths.
    """
    if len(a.mean) != len(b.mean):
        raise ValueError(
            f"{a.source} is of features {len(a.mean)} wide and {b.source} of {len(b.mean)}; compare those of one tap."
        )
    notes = []
    for field, called in _SAME.items():
        one, other = getattr(a.made, field), getattr(b.made, field)
        if one is None or other is None:
            if one is not other:
                silent, said_by, said = (a, b, other) if one is None else (b, a, one)
                taken = f"those of {said_by.source}" if field == "weights" else _shown(said, None)
                notes.append(f"{silent.source} does not say its {called}; taken for {taken}.")
        elif one != other and field == "weights":
            raise ValueError(f"{a.source} and {b.source} are of two networks' weights; compare statistics of one.")
        elif one != other:
            raise ValueError(
                f"{a.source} is of the {called} {_shown(one, other)} and {b.source} of {_shown(other, one)}; "
                f"compare statistics of one {called}."
            )
    if a.made.precision != b.made.precision:
        notes.append(mixed(a.source, a.made, b.source, b.made))
    if None not in (a.ddof, b.ddof) and a.ddof != b.ddof:
        notes.append(f"{a.source} has ddof {a.ddof} and {b.source} {b.ddof}: 1 / count apart.")
    return tuple(dict.fromkeys(notes))


def precision_of(metadata: Mapping[str, Any]) -> str:
    """The precision that features' metadata say; of int8 with its network, for two calibrations are two networks."""
    network = metadata["int8"]["network"][:12] if "int8" in metadata else ""
    return safe(f"{metadata['precision']} {network}".rstrip(), 40)


def mixed(one: str, a: Made, other: str, b: Made) -> str:
    """The sentence on features of two precisions."""
    return (
        f"{one} is in {safe(a.precision, 20)} and {other} in {safe(b.precision, 20)}: a part of the distance is that."
    )


def _shown(value: Any, other: Any) -> str:
    """A name, or what differs from the other."""
    if isinstance(value, Mapping):
        name = value.get("name")
        if isinstance(name, str) and not (isinstance(other, Mapping) and other.get("name") == name):
            return safe(name, 80)
        names = [key for key in value if not isinstance(other, Mapping) or value[key] != other.get(key)]
        return safe(json.dumps({key: value[key] for key in names}), 120)
    return safe(value, 80)


def labelled(statistics: Statistics, **fields: Any) -> Statistics:
    """The same with what a file could not say: fields of `Made`, as protocol=..., weights=...."""
    return dataclasses.replace(statistics, made=dataclasses.replace(statistics.made, **fields))
