"""Every metric of generated pictures under every protocol: a row each, from whatever the two sides are."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import inception
from inception.arguments import nearest
from inception.features import dataset, task
from inception.metrics import protocols as known
from inception.metrics import statistics, taps
from inception.metrics.frechet import fid, fid_infinity, frechet_distance, mifid
from inception.metrics.inception_score import IMPROVED_GAN, inception_score
from inception.metrics.kernel import kid
from inception.metrics.manifold import density_coverage, precision_recall
from inception.metrics.measured import Measured
from inception.metrics.protocols import FEATURES, SPATIAL, Balls, Protocol
from inception.metrics.sides import Side, check_fits, check_pictures, described, extracted, side_of, with_folder
from inception.metrics.statistics import Made, Statistics
from inception.networks import Network
from inception.pictures import Picture

_OF_MOMENTS = {"fid": "fid", "sfid": "spatial"}  # metrics that a part of a file of statistics is enough for
FEW = 10_000  # pictures of a side, below which FID's bias is worth a warning
_GROUPS = 10  # of the jackknife
_OURS = Balls(3, "<=", None)

Progress = Callable[[str, int, int], None]  # which side, pictures done, of how many


class FewPictures(UserWarning):
    """A metric of so few pictures that its bias is large; the text says how large it was found to be."""


@dataclass(frozen=True)
class Row:
    """One number and all that it depends on.

    Attributes:
        metric: "fid", ...; "not FID" and so on where the network is not the one of 2015, and "unproven FID" where its
            table is that one's, and its weights are none that are known as published.
        protocol: whose way.
        value: the number.
        error: a standard error, or the deviation that the tool prints; None where there is none.
        n_generated: pictures; None where a file of statistics does not say.
        n_reference: the same of the reference; None where nothing is compared.
        weights: which network, and the first digits of the digest of its arrays.
        picture: the way of a picture, as `pictures.named` reads it.
        version: of this package.
    """

    metric: str
    protocol: str
    value: float
    error: float | None
    n_generated: int | None
    n_reference: int | None
    weights: str
    picture: str
    version: str = inception.__version__

    def json(self) -> dict[str, Any]:
        """The fields as values of JSON."""
        return dataclasses.asdict(self)


def measure(
    generated: Any,
    reference: Any,
    *,
    protocols: str | Sequence[str] = known.DEFAULT,
    metrics: str | Sequence[str] = "fid",
    weights: Any = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[Row]:
    """The metrics of generated pictures against a reference, a row a protocol and a number.

    The network runs once for each way of a picture that the protocols have, on each side. A
    metric that a tool does not have is computed on its features as this package defines it:
    KID over all pairs, precision and recall as the original, the Inception Score in ten splits.

    Args:
        generated: pictures (whatever `features.extract` takes), a folder of features, an array [n, d] or a file of
            such, or a file of statistics.
        reference: likewise.
        protocols: names, in a sequence or with commas, or "all".
        metrics: of `METRICS`.
        weights: whatever holds a network; None for the published one of 2015, whose distance alone is called FID.
        work: a folder for the features, where the same call goes on after a stop; None for one that goes again.
        progress: called as features are computed.
        options: more of `features.extract`: engine, precision, batch, threads, workers, column, shard_rows.

    Returns:
        Rows in the order of protocols, then metrics. What cannot be computed under one protocol is a warning where
        others can.

    Raises:
        ValueError: For unknown names, sides that do not fit the protocol or each other, and when no number is left.
        CheckpointError: Where the weights are not here: what to fetch, where to put it, its digest.
    """
    names, asked = _named(metrics, protocols)
    ends = (FEATURES, SPATIAL) if "sfid" in names else (FEATURES,)
    sides = side_of(generated), side_of(reference)
    rows: list[Row] = []
    failures: list[ValueError] = []
    with _folder(work) as folder:
        run = _Run(sides, folder, weights, asked, ends, options, progress, {_OF_MOMENTS.get(name) for name in names})
        for protocol in asked:
            try:
                pair = run.pair(protocol)
            except ValueError as error:
                if len(asked) == 1:
                    raise
                failures.append(error)
                continue
            for name in names:
                try:
                    rows += _rows(name, pair)
                except ValueError as error:
                    failures.append(ValueError(f"{name}, {protocol.name}: {error}"))
    if not rows:
        raise failures[0]
    for failure in failures:
        warnings.warn(str(failure), stacklevel=2)
    return rows


def _named(metrics: str | Sequence[str], protocols: str | Sequence[str]) -> tuple[list[str], tuple[Protocol, ...]]:
    names = [name.strip() for name in (metrics.split(",") if isinstance(metrics, str) else metrics)]
    for name in names:
        if name not in METRICS:
            raise ValueError(f"Unknown metric {name!r}{nearest(name, METRICS)}; expected some of {', '.join(METRICS)}.")
    return names, known.named(protocols if isinstance(protocols, str) else ",".join(protocols))


def planned(
    generated: Any,
    reference: Any,
    *,
    protocols: str | Sequence[str] = known.DEFAULT,
    metrics: str | Sequence[str] = "fid",
    column: str | None = None,
) -> list[dict[str, Any]]:
    """What `measure` would start from, and what it refuses before any work: a record a side; nothing is computed.

    Returns:
        For each side its name, what it holds ("pictures", "features" or "statistics"), how many pictures (None where
        statistics do not say), and by which ways of a picture the network would run over them.

    Raises:
        ValueError: As `measure`, but for what only the network's weights can tell.
    """
    names, asked = _named(metrics, protocols)
    needed = {_OF_MOMENTS.get(name) for name in names}
    sides = []
    for side in (side_of(generated), side_of(reference)):
        side = dataclasses.replace(side, pictures=None) if needed <= side.statistics.keys() else side
        for protocol in asked:
            check_fits(side, protocol)
        if side.pictures is None:
            ways, count, holds = [], side.count, "features" if side.arrays else "statistics"
        else:
            count, holds = check_pictures(side, column), "pictures"
            ways = list(dict.fromkeys(str(protocol.picture) for protocol in asked))
        sides.append({"name": side.name, "holds": holds, "pictures": count, "ways": ways})
    return sides


def statistics_of(
    source: Any,
    protocol: str,
    *,
    weights: Any = None,
    work: str | os.PathLike[str] | None = None,
    spatial: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Statistics]:
    """{"fid": of the pooled features, "spatial": sFID's} of one side under one protocol, for `statistics_files.write`.

    Args:
        spatial: sFID's too.

    Raises:
        ValueError: As `measure`.
    """
    [asked] = known.named(protocol)
    taken = {"fid": FEATURES, "spatial": SPATIAL} if spatial else {"fid": FEATURES}
    side = (None if isinstance(source, np.ndarray) else described(os.fspath(source))) or side_of(source)
    with _folder(work) as folder:
        run = _Run((side,), folder, weights, (asked,), tuple(taken.values()), options, progress)
        run.check(asked)
        if side.pictures is None and side.network is None:
            made = dataclasses.replace(side.made, protocol=asked.json(), tap=FEATURES)
            rows = side.rows(FEATURES)
            return {"fid": statistics.of_arrays(rows, ddof=asked.ddof, made=made, source=side.name)}
        place = side.name if side.pictures is None else run.extracted(side, asked.picture)
        held = (dataset.described(place) or {})["shapes"]
        parts = {
            part: statistics.of_folder(place, tap, protocol=asked.json(), ddof=asked.ddof, name=side.name)
            for part, tap in taken.items()
            if tap in held or part == "fid"
        }
    return parts


@contextlib.contextmanager
def _folder(work: str | os.PathLike[str] | None) -> Iterator[Path]:
    if work is not None:
        yield Path(work)
        return
    with tempfile.TemporaryDirectory(prefix="inception-metrics-") as temporary:
        yield Path(temporary)


@dataclass(frozen=True, eq=False)
class _Pair:
    """Both sides ready for one protocol."""

    protocol: Protocol
    x: Side
    y: Side
    run: _Run
    label: str
    standing: str  # before a metric's name: "not", "unproven", or nothing


class _Run:
    """The features of the sides: pictures are decoded once a side, and the network runs once a way of a picture."""

    def __init__(
        self,
        sides: tuple[Side, ...],
        folder: Path,
        weights: Any,
        asked: Sequence[Protocol],
        end_points: tuple[str, ...],
        options: dict[str, Any],
        progress: Progress | None,
        parts: Set[str | None] = frozenset({None}),
    ) -> None:
        """parts: of the statistics that the metrics are computed from; None where one takes features."""
        self._sides = tuple(dataclasses.replace(s, pictures=None) if parts <= s.statistics.keys() else s for s in sides)
        for side in self._sides:
            check_pictures(side, options.get("column"))
        self._folder = folder
        self._weights = weights
        self._pictures = list(dict.fromkeys(each.picture for each in asked))
        self._end_points = end_points
        self._options = options
        self._progress = progress
        self._extracted: set[str] = set()
        self._int8: dict[Picture, Path] = {}
        self._held: tuple[Picture | None, tuple[Side, ...]] = (None, ())

    @functools.cached_property
    def network(self) -> Network:
        return taps.network(self._weights)

    def check(self, protocol: Protocol) -> None:
        """What can be known before the network runs: ValueError for sides of another protocol, or of two networks."""
        for side in self._sides:
            check_fits(side, protocol)
        self._one_network()

    def ready(self, protocol: Protocol) -> tuple[Side, ...]:
        """The sides with their features under a protocol."""
        self.check(protocol)
        if self._held[0] != protocol.picture:
            self._held = protocol.picture, tuple(self._of(side, protocol.picture) for side in self._sides)
        return self._held[1]

    def _of(self, side: Side, picture: Picture) -> Side:
        return side if side.pictures is None else with_folder(side, self.extracted(side, picture))

    def extracted(self, side: Side, picture: Picture) -> Path:
        """The folder with the features of a side's pictures."""
        outs = {self._folder / self._name(side, each): each for each in self._pictures}
        if side.name not in self._extracted:
            options = dict(self._options)
            if self._progress is not None:
                show = self._progress
                options["progress"] = lambda done, total, _: show(side.name, done, total)
            self._extract(side, outs, options)
            self._extracted.add(side.name)
        return next(out for out, each in outs.items() if each == picture)

    def _extract(self, side: Side, outs: dict[Path, Picture], options: dict[str, Any]) -> None:
        if options.get("precision") != "int8":
            extracted(side, outs, self.network, end_points=self._end_points, **options)
            return
        for out, picture in outs.items():  # one network for both sides, calibrated on the first
            options["int8_of"] = self._int8.setdefault(picture, out)
            extracted(side, {out: picture}, self.network, end_points=self._end_points, **options)

    def _name(self, side: Side, picture: Picture) -> str:
        said = f"{side.pictures}\0{picture}\0{self._end_points}\0{self.digest}"
        said += f"\0{self._options['precision']}" if self._options.get("precision", "float32") != "float32" else ""
        return f"{picture.resize}-{hashlib.sha256(os.fsencode(said)).hexdigest()[:12]}"

    @functools.cached_property
    def digest(self) -> str:
        return task.digest(self.network.inception.arrays)

    def _one_network(self) -> str | None:
        """The digest of the network that the sides are of; None where none says. ValueError for two networks."""
        said = {side.name: side.weights or (self.digest if side.pictures else None) for side in self._sides}
        known = {digest for digest in said.values() if digest}
        if len(known) > 1:
            one, other = said
            given = f", here those of {self.network.name}" if any(side.pictures for side in self._sides) else ""
            raise ValueError(
                f"{one} and {other} have features of two networks' weights{given}; compare those of one network."
            )
        return next(iter(known), None)

    def pair(self, protocol: Protocol) -> _Pair:
        """Both sides, which are refused where they are of two networks."""
        x, y = sides = self.ready(protocol)
        foreign = any("" in side.arrays and not side.statistics for side in sides)
        networks = [side.network for side in sides if side.network is not None]
        widths = {len(side.statistics["fid"].mean) for side in sides if "fid" in side.statistics}
        digest, label, standing = self._one_network(), "unknown", ""
        if digest is not None:
            loaded = self.network if "network" in self.__dict__ and self.digest == digest else None
            name = "features" if loaded is None else loaded.published or os.path.basename(loaded.name)
            label = f"{name} sha256:{digest[:12]}"
            standing = "" if name == taps.PUBLISHED or digest == self._published else "unproven"
        if foreign or not all(map(taps.is_2015, networks)) or widths - {max(known.WIDTHS)}:
            standing = "not"
        precisions = sorted({side.made.precision for side in sides} - {"float32"})
        if x.made.precision != y.made.precision and not x.statistics and not y.statistics:
            warnings.warn(statistics.mixed(x.name, x.made, y.name, y.made), stacklevel=3)
        label = " in ".join([label, *precisions])
        label += ", not known as published" if standing == "unproven" else ""
        return _Pair(protocol, x, y, self, label, standing)

    @functools.cached_property
    def _published(self) -> str | None:
        return taps.published_digest()


# --- The metrics -----------------------------------------------------------------------


def _rows(metric: str, pair: _Pair) -> list[Row]:
    values = METRICS[metric](pair)
    name = {"is": "IS"}.get(metric, metric.upper() if metric != "sfid" else "sFID")
    n = [_count(side, metric) for side in (pair.x, pair.y)]
    balls = pair.protocol.balls or _OURS
    if metric == "pr" and balls.reference and n[1]:
        n[1] = min(n[1], balls.reference)
    if metric == "is":
        n[1] = None
    rows = []
    for label, found in values.items():
        named = not pair.standing or label in ("precision", "recall", "density", "coverage")
        shown = label if named else f"{pair.standing} {name}"
        way = str(pair.protocol.picture)
        rows.append(Row(shown, pair.protocol.name, found.value, found.error, n[0], n[1], pair.label, way))
    return rows


def _count(side: Side, metric: str) -> int | None:
    part = side.statistics.get("spatial" if metric == "sfid" else "fid") if metric in ("fid", "sfid") else None
    if part is not None:
        return part.count
    return side.count


def _frechet(pair: _Pair, part: str, tap: str) -> Measured:
    """From the features where both sides have them, otherwise from the moments."""
    ddof = pair.protocol.ddof
    moments = [side.statistics.get(part) for side in (pair.x, pair.y)]
    if moments == [None, None]:
        x, y = _features(pair, tap)
        found = fid(x, y, ddof=ddof, groups=min(_GROUPS, min(len(x), len(y)) - 2) if min(len(x), len(y)) >= 4 else 0)
        _note_bias(pair, part, x, y, found)
        return found
    a, b = (
        each or statistics.of_arrays(_pieces(side, tap), ddof=ddof, made=_made(side, pair, tap), source=side.name)
        for each, side in zip(moments, (pair.x, pair.y), strict=True)
    )
    for note in (*a.notes, *b.notes, *statistics.check_same(a, b)):
        warnings.warn(note, stacklevel=2)
    return Measured(frechet_distance(a.mean, a.covariance, b.mean, b.covariance))


def _made(side: Side, pair: _Pair, tap: str) -> Made:
    return dataclasses.replace(side.made, protocol=pair.protocol.json(), tap=tap)


def _note_bias(pair: _Pair, part: str, x: np.ndarray, y: np.ndarray, found: Measured) -> None:
    few = min(len(x), len(y))
    if few >= FEW:
        return
    said = f"{len(x):,} generated and {len(y):,} reference pictures: of fewer than {FEW:,} the distance is too large"
    with contextlib.suppress(ValueError):
        bias = found.value - fid_infinity(x, y, ddof=pair.protocol.ddof).value
        here = f"here by about {bias:.3g} of {found.value:.5g} for the generated ones"
        said += f", {here if bias > 0 else 'by more than so few can tell'}"
    warnings.warn(f"{part}, {pair.protocol.name}: {said}. Compare equal numbers.", FewPictures, stacklevel=2)


def _pieces(side: Side, tap: str) -> Iterator[np.ndarray]:
    return map(taps.spatial, side.pieces(tap)) if tap == SPATIAL else side.pieces(tap)


def _features(pair: _Pair, tap: str = FEATURES) -> tuple[np.ndarray, np.ndarray]:
    x, y = (taps.spatial(side.rows(tap)) if tap == SPATIAL else side.rows(tap) for side in (pair.x, pair.y))
    return x, y


def _fid(pair: _Pair) -> dict[str, Measured]:
    return {"fid": _frechet(pair, "fid", FEATURES)}


def _sfid(pair: _Pair) -> dict[str, Measured]:
    return {"sfid": _frechet(pair, "spatial", SPATIAL)}


def _kid(pair: _Pair) -> dict[str, Measured]:
    return {"kid": kid(*_features(pair), pair.protocol.kid)}


def _inception_score(pair: _Pair) -> dict[str, Measured]:
    weights, digest = pair.run.network.inception, pair.run.digest
    if pair.x.made.weights != digest:
        raise ValueError(
            f"{pair.x.name} has features of other weights than {weights.source.path}, from which the classifier comes; "
            "give the same weights."
        )
    return {"is": inception_score(taps.logits(pair.x.rows(FEATURES), weights), pair.protocol.splits or IMPROVED_GAN)}


def _precision_recall(pair: _Pair) -> dict[str, Measured]:
    x, y = _features(pair)
    balls = pair.protocol.balls or _OURS
    found = precision_recall(x, y[: balls.reference], k=balls.k, compare=balls.compare)
    return {"precision": Measured(found.precision), "recall": Measured(found.recall)}


def _density_coverage(pair: _Pair) -> dict[str, Measured]:
    found = density_coverage(*_features(pair))
    return {"density": Measured(found.density), "coverage": Measured(found.coverage)}


def _mifid(pair: _Pair) -> dict[str, Measured]:
    return {"mifid": mifid(*_features(pair), ddof=pair.protocol.ddof)}


def _fid_infinity(pair: _Pair) -> dict[str, Measured]:
    return {"fid-infinity": fid_infinity(*_features(pair), ddof=pair.protocol.ddof)}


METRICS: dict[str, Callable[[_Pair], dict[str, Measured]]] = {
    "fid": _fid,
    "kid": _kid,
    "is": _inception_score,
    "pr": _precision_recall,
    "dc": _density_coverage,
    "sfid": _sfid,
    "mifid": _mifid,
    "fid-infinity": _fid_infinity,
}
