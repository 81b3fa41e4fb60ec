"""One side of a comparison: pictures, a folder of features, features of any network, or a file of statistics."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from inception import extras, features
from inception.features import dataset, sources, stores
from inception.files import npz
from inception.files.archive import Archive
from inception.files.errors import CorruptFile, ResourceLimit, reason
from inception.metrics import statistics, statistics_files
from inception.metrics.protocols import FEATURES, PROTOCOLS, WIDTHS, Protocol
from inception.metrics.statistics import Made, Statistics
from inception.pictures import Picture, from_json

_STATISTICS = (".npz", ".pt", ".pth", ".pkl", ".pickle")
_POOLED = max(WIDTHS)
_MOST_BYTES = 1 << 30  # of features in a Parquet file that is itself smaller than a quarter of it
_COUNT = """
import sys
from pyarrow import parquet
found = parquet.read_metadata(sys.argv[1])
groups = [found.row_group(i) for i in range(found.num_row_groups)]
chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
print(sum(chunk.num_values for chunk in chunks if chunk.path_in_schema.startswith(sys.argv[2] + ".")))
"""


@dataclass(frozen=True)
class Side:
    """What one side has.

    Attributes:
        name: what sentences call it.
        statistics: {"fid": mean and covariance of the pooled features, "spatial": ...}, of a file that holds such.
        arrays: {end point: rows}, where they are here already; "" is the only array of some other network. Those of a
            folder are read when they are asked for.
        made: what the arrays were made with.
        network: the variant that a folder's features are of, as JSON.
        pictures: what `features.extract` takes, where there are pictures: the same from whatever folder it is called.
    """

    name: str
    statistics: Mapping[str, Statistics]
    arrays: Mapping[str, np.ndarray]
    made: Made = field(default_factory=Made)
    network: Mapping[str, Any] | None = None
    pictures: str | None = None

    @property
    def weights(self) -> str | None:
        """The digest of the network's arrays; None where nobody said."""
        said = [self.made.weights, *(part.made.weights for part in self.statistics.values())]
        return next((digest for digest in said if digest), None)

    @property
    def count(self) -> int | None:
        """How many rows there are; None where there are statistics alone."""
        if isinstance(self.arrays, _Arrays):
            return self.arrays.count
        return len(next(iter(self.arrays.values()))) if self.arrays else None

    def pieces(self, end_point: str) -> Iterator[np.ndarray]:
        """The rows of `rows`, of a folder a shard at a time."""
        if isinstance(self.arrays, _Arrays) and end_point in self.arrays:
            return self.arrays.pieces(end_point)
        return iter([self.rows(end_point)])

    def rows(self, end_point: str) -> np.ndarray:
        """The features of an end point. ValueError where the side has none."""
        found = self.arrays.get(end_point, self.arrays.get(""))
        if found is None:
            held = ", ".join(self.arrays) or "statistics alone"
            raise ValueError(f"{self.name} holds {held}; this metric needs {end_point} of each picture.")
        return found


class _Arrays(Mapping[str, np.ndarray]):
    """The arrays of a folder of features, each read when it is asked for first.

    Attributes:
        count: rows of each.
    """

    def __init__(self, folder: str, names: Iterable[str]) -> None:
        self._folder = folder
        self._read: dict[str, np.ndarray | None] = dict.fromkeys(names)
        self.count = dataset.rows(folder)

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        """An array's rows, a shard at a time."""
        return (part.arrays[name] for part in features.scan(self._folder))

    def __getitem__(self, name: str) -> np.ndarray:
        if (known := self._read[name]) is not None:
            return known
        rows, at = None, 0
        for piece in self.pieces(name):
            rows = np.empty((self.count, *piece.shape[1:]), np.float32) if rows is None else rows
            rows[at : at + len(piece)], at = piece, at + len(piece)
        assert rows is not None and at == self.count
        self._read[name] = rows
        return rows

    def __contains__(self, name: object) -> bool:  # a Mapping's own would read the array
        return name in self._read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


def side_of(source: str | os.PathLike[str] | np.ndarray) -> Side:
    """The side that a path, a folder, a glob or an array [n, d] is.

    Raises:
        ValueError: For a file of statistics or a folder of features that is damaged.
    """
    if isinstance(source, np.ndarray):
        return Side("the array", {}, {"": source})
    where = os.fspath(source)
    ending = Path(where).suffix.lower()
    if (folder := described(where)) is not None:
        return _folder(where, folder)
    if os.path.isfile(where) and ending in _STATISTICS:
        if ending == ".npz" and (array := _only_array(where)) is not None:
            return Side(where, {}, {"": array})
        content = statistics_files.read(where)
        rows = None if content.features is None else content.features.read()
        arrays = {} if rows is None else {FEATURES if rows.shape[1] == _POOLED else "": rows}
        return Side(where, content.parts, arrays, pictures=_absolute(where) if content.pictures else None)
    if os.path.isfile(where) and ending == ".parquet" and (array := _column(where)) is not None:
        return Side(where, {}, {"": array})
    return Side(where, {}, {}, pictures=_absolute(where))


def described(where: str, name: str | None = None) -> Side | None:
    """The side that a folder of features is, without the features. None for what is no such folder."""
    if not (stores.place(where) / dataset.EXTRACTION).exists() or (said := dataset.described(where)) is None:
        return None
    made = Made(None, said["weights"], said["picture"], None, said["inception"], statistics.precision_of(said))
    return Side(name or where, {}, {}, made, said["network"])


def _folder(where: str, side: Side) -> Side:
    first = next(features.scan(where))
    arrays = _Arrays(where, first.arrays)
    if not arrays.count:
        raise ValueError(f"{side.name}: no picture could be read, the first because: {first.errors[0][1]}")
    return replace(side, arrays=arrays)


def _absolute(where: str) -> str:
    return where if stores.is_url(where) else os.path.abspath(where)


def _only_array(path: str) -> np.ndarray | None:
    """The features in a NumPy archive that holds one float array [n, d] and is no file of statistics."""
    arrays = npz.listed(Archive(path, statistics_files.MOST_FEATURES))
    flat = {name: stored for name, stored in arrays.items() if len(stored.shape) == 2 and stored.dtype.kind == "f"}
    others = arrays.keys() & {"mu", "arr_0", "feats"}
    return next(iter(flat.values())).read() if len(flat) == 1 and others <= flat.keys() - {"feats"} else None


def _column(path: str) -> np.ndarray | None:
    """The features in a Parquet file: its only column of lists of floats; None where it has none."""
    types, compute = extras.load("pyarrow.types"), extras.load("pyarrow.compute")
    lists = (types.is_list, types.is_fixed_size_list, types.is_large_list)
    with sources.parquet_file(path) as file:
        names = [
            field.name for field in file.schema_arrow
            if any(is_list(field.type) for is_list in lists) and types.is_floating(field.type.value_type)
        ]  # fmt: skip
        if not names:
            return None
        if len(names) > 1:
            raise ValueError(f"{path} has several columns of features: {', '.join(names)}; leave one.")
        if (size := 8 * _values(path, names[0])) > max(_MOST_BYTES, 4 * os.path.getsize(path)):
            raise ResourceLimit(f"{path}: {size} bytes of features are said to be in it; too many for such a file.")
        try:
            column = file.read(columns=names)[names[0]].combine_chunks()
        except Exception as error:  # what damage makes of pyarrow has many names
            raise CorruptFile(f"{path}: {names[0]} cannot be read ({reason(error, path)}); write it again.") from error
    widths = compute.unique(compute.list_value_length(column)).to_pylist()
    if len(widths) != 1 or column.null_count:
        raise ValueError(f"{path}: the rows of {names[0]} are not of one length; expected as many features in each.")
    return np.asarray(column.flatten().to_numpy(zero_copy_only=False)).reshape(len(column), widths[0])


def _values(path: str, name: str) -> int:
    """How many numbers a column says it has. Asked by a child: at some damaged footers pyarrow ends the process."""
    ended = subprocess.run([sys.executable, "-c", _COUNT, path, name], capture_output=True, check=False)
    if ended.returncode:
        raise CorruptFile(f"{path}: its footer cannot be read; the file is damaged, write it again.")
    return int(ended.stdout)


def check_pictures(side: Side, column: str | None = None) -> int | None:
    """How many pictures a side has. ValueError for fewer than two, which no other side needs to be computed for."""
    count = None if side.pictures is None else len(sources.listed(side.name, column).items)
    if count is not None and count < 2:
        raise ValueError(
            f"{side.name} is one picture at most; expected more (a folder, a glob, a list, Parquet, .zip, .npz), "
            "features (a folder, .npz, Parquet), or a file of statistics."
        )
    return count


def check_fits(side: Side, protocol: Protocol) -> None:
    """ValueError for statistics of another protocol, and for features of pictures in another way than its."""
    for part in side.statistics.values():
        asked = replace(part.made, protocol=protocol.json())
        statistics.check_same(part, replace(part, made=asked, source="what is asked"))
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
    where = os.fspath(folder)
    made = described(where, side.name)
    assert made is not None
    return replace(_folder(where, made), statistics=side.statistics)
