"""One side of a comparison: pictures, a folder of features, features of any network, or a file of statistics."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inception import extras, features
from inception.features import dataset
from inception.files import npz
from inception.files.archive import Archive
from inception.metrics import statistics_files
from inception.metrics.protocols import PROTOCOLS, Protocol
from inception.metrics.statistics import Made, Statistics
from inception.pictures import Picture, from_json

_STATISTICS = (".npz", ".pt", ".pth", ".pkl", ".pickle")


@dataclass(frozen=True)
class Side:
    """What one side has.

    Attributes:
        name: what sentences call it.
        statistics: {"fid": mean and covariance of the pooled features, "spatial": ...}, of a file that holds such.
        arrays: {end point: rows}, where they are here already; "" is the only array of some other network.
        made: what the arrays were made with.
        network: the variant that a folder's features are of, as JSON.
        pictures: what `features.extract` takes, where there are pictures.
    """

    name: str
    statistics: Mapping[str, Statistics]
    arrays: Mapping[str, np.ndarray]
    made: Made = field(default_factory=Made)
    network: Mapping[str, Any] | None = None
    pictures: str | None = None

    def rows(self, end_point: str) -> np.ndarray:
        """The features of an end point. ValueError where the side has none."""
        found = self.arrays.get(end_point, self.arrays.get(""))
        if found is None:
            held = ", ".join(self.arrays) or "statistics alone"
            raise ValueError(f"{self.name} holds {held}; this metric needs {end_point} of each picture.")
        return found


def side_of(source: str | os.PathLike[str] | np.ndarray) -> Side:
    """The side that a path, a folder, a glob or an array [n, d] is.

    Raises:
        ValueError: For a file of statistics or a folder of features that is damaged.
    """
    if isinstance(source, np.ndarray):
        return Side("the array", {}, {"": source})
    where = os.fspath(source)
    ending = Path(where).suffix.lower()
    if (Path(where) / dataset.EXTRACTION).exists():
        return _folder(where, where)
    if os.path.isfile(where) and ending in _STATISTICS:
        if ending == ".npz" and (array := _only_array(where)) is not None:
            return Side(where, {}, {"": array})
        content = statistics_files.read(where)
        arrays = {} if content.features is None else {"": content.features.read()}
        return Side(where, content.parts, arrays, pictures=where if content.pictures is not None else None)
    if os.path.isfile(where) and ending == ".parquet" and (array := _column(where)) is not None:
        return Side(where, {}, {"": array})
    return Side(where, {}, {}, pictures=where)


def _folder(where: str, name: str) -> Side:
    loaded = features.load(where)
    if loaded.errors and not loaded.paths:
        raise ValueError(f"{name}: no picture could be read, the first because: {loaded.errors[0][1]}")
    said = loaded.metadata
    made = Made(None, said["weights"], said["picture"], None, said["inception"])
    return Side(name, {}, loaded.arrays, made, said["network"])


def _only_array(path: str) -> np.ndarray | None:
    """The features in a NumPy archive that holds one float array [n, d] and is no file of statistics."""
    arrays = npz.listed(Archive(path, 1 << 34))
    flat = [stored for stored in arrays.values() if len(stored.shape) == 2 and stored.dtype.kind == "f"]
    return flat[0].read() if len(flat) == 1 and not arrays.keys() & {"mu", "arr_0", "feats"} else None


def _column(path: str) -> np.ndarray | None:
    """The features in a Parquet file: its only column of lists of floats; None where it has none."""
    parquet, types = extras.load("pyarrow.parquet"), extras.load("pyarrow.types")
    schema = parquet.read_schema(path)
    lists = (types.is_list, types.is_fixed_size_list, types.is_large_list)
    names = [
        field.name for field in schema
        if any(is_list(field.type) for is_list in lists) and types.is_floating(field.type.value_type)
    ]  # fmt: skip
    if not names:
        return None
    if len(names) > 1:
        raise ValueError(f"{path} has several columns of features: {', '.join(names)}; leave one.")
    return np.stack(parquet.read_table(path, columns=names)[names[0]].to_numpy())


def check_fits(side: Side, protocol: Protocol) -> None:
    """ValueError for a folder whose pictures came to the network in another way than the protocol's."""
    if side.made.picture is None:
        return
    found = from_json(side.made.picture)
    if found != protocol.picture:
        fitting = [name for name, each in PROTOCOLS.items() if each.picture == found] or ["none"]
        raise ValueError(
            f"{side.name} has features of pictures by the way {found}, and the protocol {protocol.name} takes "
            f"{protocol.picture}; the protocols that fit it: {', '.join(fitting)}."
        )


def extracted(side: Side, outs: Mapping[Path, Picture], network: Any, **more: Any) -> None:
    """Features of the side's pictures into a folder for each way of a picture, as far as they are not there."""
    assert side.pictures is not None
    (first, picture), *others = outs.items()
    features.extract(side.pictures, first, network, picture=picture, also=dict(others), **more)


def with_folder(side: Side, folder: Path) -> Side:
    """The side with the features of its pictures."""
    return replace(_folder(os.fspath(folder), side.name), statistics=side.statistics)
