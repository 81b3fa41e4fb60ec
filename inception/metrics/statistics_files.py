"""Files of statistics: those of every known program are read, and written is what most of them read.

    .npz  `mu`, `sigma`                    TTUR, pytorch-fid, jax-fid, edm, MLPerf; clean-fid (mu in float32)
    .npz  and `mu_s`, `sigma_s`, `arr_0`   ADM's reference batches; `mu_clip`, `sigma_clip` in some
    .npz  `feats`                          clean-fid's features for KID
    .pt   {mu, sigma}                      torch-fidelity's cache
    .pkl  {raw_mean, raw_cov, num_items}   StyleGAN's cache: sums over a count
    .pkl  {num_images, fid: {mu, sigma}}   edm2, with fd_dinov2 beside

None of them says of which weights, way of a picture or protocol it is: that is None, and a
note says so. Ours is the first kind with the text `inception_statistics` beside, as JSON.
Pickles are read as data (`files.pickled_arrays`), and run nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from inception.files import inert_json, npz, pickled_arrays
from inception.files.archive import Archive
from inception.files.atomic import check_target
from inception.files.errors import CorruptFile, MissingTensor, ResourceLimit
from inception.files.regular import RegularFile
from inception.files.tensor import LARGEST, Stored, damaged
from inception.metrics.statistics import Made, Statistics

FID, SPATIAL, CLIP, DINO = "fid", "spatial", "clip", "fd_dinov2"
_NPZ = {FID: ("mu", "sigma"), SPATIAL: ("mu_s", "sigma_s"), CLIP: ("mu_clip", "sigma_clip")}
_RECORD = "inception_statistics"
_LONGEST_RECORD = 1 << 16
_KINDS = {"count": int | None, "ddof": int | None, "protocol": dict | None, "weights": str | None,
          "picture": dict | None, "tap": str | None, "version": str | None, "precision": str}  # fmt: skip
_UNKNOWN = "does not say its protocol, weights, way of a picture or tap"
_ASYMMETRY = 1e-5  # of the largest variance: what float32 on a GPU leaves
_NEGATIVE = 1e-6
MOST_FEATURES = 1 << 34  # bytes of an array of features


@dataclass(frozen=True)
class Content:
    """What a file of statistics holds.

    Attributes:
        parts: {"fid": of the pooled features, "spatial": ADM's for sFID, "clip", "fd_dinov2"}.
        features: clean-fid's float32 [n, d] for KID, not read yet.
        pictures: ADM's uint8 [n, h, w, 3], not read yet.
    """

    parts: Mapping[str, Statistics]
    features: Stored | None = None
    pictures: Stored | None = None


def read(path: str | os.PathLike[str]) -> Content:
    """All that a file of statistics holds, of whatever program, checked.

    Raises:
        CheckpointError: One sentence, for what is none, is damaged, or cannot be moments: wrong
            shapes, NaN, a covariance that is not symmetric or has a negative variance.
    """
    file = RegularFile(path)
    if file.octets(0, min(4, file.size)).tobytes() == b"PK\3\4":
        archive = Archive(path, MOST_FEATURES)
        if all(name.endswith(".npy") for name in archive.members):
            return _npz(archive)
    return _pickle(pickled_arrays.read(path), file.name)


def load(path: str | os.PathLike[str], part: str = FID) -> Statistics:
    """One part of a file of statistics. `MissingTensor` where it has none of that name."""
    parts = read(path).parts
    if part not in parts:
        held = ", ".join(parts) or "features or pictures alone"
        raise MissingTensor(f"{os.fspath(path)} holds {held} and no statistics called {part}.")
    return parts[part]


def write(
    path: str | os.PathLike[str], statistics: Statistics, *, spatial: Statistics | None = None, overwrite: bool = False
) -> None:
    """Writes an `.npz` that TTUR, pytorch-fid, clean-fid and edm read; the same bytes for the same statistics.

    Args:
        spatial: those of sFID, which ADM's evaluator asks for in a file with `mu`. (It takes
            pictures for precision and recall from the same file too, which are not written here.)
        overwrite: a file that is there may be replaced.

    Raises:
        ValueError: For a target that is there or cannot be made, another ending, and what is no statistics.
    """
    check_target(path, overwrite)
    where = os.fspath(path)
    if not where.endswith(".npz"):
        raise ValueError(f"{where}: statistics are written as .npz; give a name that ends so.")
    parts = {FID: statistics} | ({SPATIAL: spatial} if spatial else {})
    arrays: dict[str, np.ndarray] = {}
    for part, each in parts.items():
        mean, covariance = _NPZ[part]
        checked = _moments(each.mean, each.covariance, each.source)
        arrays |= {mean: checked[0], covariance: checked[1]}
    said = {part: {"count": s.count, "ddof": s.ddof} | dataclasses.asdict(s.made) for part, s in parts.items()}
    npz.write(path, arrays | {_RECORD: np.array(json.dumps(said, sort_keys=True))})


# ---- NumPy archives


def _npz(archive: Archive) -> Content:
    arrays = npz.listed(archive)
    said = _record(arrays.pop(_RECORD, None), archive.name)
    parts = {}
    for part, (mean, covariance) in _NPZ.items():
        if (mean in arrays) != (covariance in arrays):
            raise MissingTensor(f"{archive.name} has one of {mean} and {covariance}; expected both.")
        if mean in arrays:
            _check_shapes(arrays[mean], arrays[covariance], archive.name)
            moments = _moments(arrays[mean].read(), arrays[covariance].read(), archive.name)
            parts[part] = said[part](*moments) if part in said else _unsaid(*moments, archive.name, part=part)
    features, pictures = (
        arrays.get(name) if name in arrays and (len(arrays[name].shape), arrays[name].dtype.kind) == kind else None
        for name, kind in (("feats", (2, "f")), ("arr_0", (4, "u")))
    )
    if not parts and features is None and pictures is None:
        raise MissingTensor(f"{archive.name} has {', '.join(arrays)[:200] or 'nothing'}; expected mu and sigma.")
    return Content(parts, features, pictures)


def _record(stored: Stored | None, where: str) -> dict[str, Callable[..., Statistics]]:
    """{part: what makes the statistics of its moments}, as our own record says."""
    if stored is None:
        return {}
    said = inert_json.parse(npz.text(stored, _RECORD, where, 4 * _LONGEST_RECORD).encode(), _LONGEST_RECORD, where)
    for part, fields in said.items():
        try:
            if isinstance(fields, dict):
                said[part] = fields = {"precision": "float32"} | fields  # 0.1 had no other
            if not isinstance(fields, dict) or fields.get("ddof") not in (None, 0, 1):
                raise ValueError("its record is of no statistics")
            inert_json.check_fields(fields, _KINDS)
        except ValueError as error:
            raise damaged(where, str(error)) from error
    return {part: _recorded(fields, where) for part, fields in said.items()}


def _recorded(fields: Mapping[str, Any], where: str) -> Callable[..., Statistics]:
    made = Made(**{field.name: fields[field.name] for field in dataclasses.fields(Made)})
    return lambda mean, covariance: Statistics(mean, covariance, fields["count"], fields["ddof"], made, where)


def _unsaid(
    mean: np.ndarray,
    covariance: np.ndarray,
    where: str,
    count: int | None = None,
    ddof: int | None = None,
    part: str = FID,
) -> Statistics:
    """Statistics of another program's file, with a note on what it leaves open."""
    silent = [name for name, value in (("count", count), ("ddof", ddof)) if value is None]
    note = f"{where} {_UNKNOWN}" + (f", nor its {' and '.join(silent)}." if silent else ".")
    tap = None if part == FID else part
    return Statistics(mean, covariance, count, ddof, Made(tap=tap), where, (note,))


# ---- pickles


def _pickle(top: Mapping[str, Any], where: str) -> Content:
    if "mu" in top or "sigma" in top:
        return Content({FID: _unsaid(*_moments(top.get("mu"), top.get("sigma"), where), where)})
    if "num_items" in top:
        return _stylegan(top, where)
    parts = {part: top[part] for part in (FID, DINO) if isinstance(top.get(part), dict)}
    if not parts:
        raise MissingTensor(f"{where} has {', '.join(top)[:200] or 'nothing'}; expected mu and sigma.")
    count = _count(top.get("num_images"), where, "num_images")
    return Content({
        part: _unsaid(*_moments(each.get("mu"), each.get("sigma"), where), where, count, 1, part)
        for part, each in parts.items()
    })  # fmt: skip


def _stylegan(top: Mapping[str, Any], where: str) -> Content:
    """StyleGAN's sums, and features where it kept them. It divides by the count itself."""
    count = _count(top["num_items"], where, "num_items")
    features, parts = _features(top.get("all_features"), where), {}
    if top.get("raw_mean") is not None or top.get("raw_cov") is not None:
        total, outer = _moments(top.get("raw_mean"), top.get("raw_cov"), where)
        mean = total / count
        with np.errstate(over="ignore", invalid="ignore"):
            covariance = outer / count - np.outer(mean, mean)
        parts[FID] = _unsaid(*_moments(mean, covariance, where), where, count, 0)
    if not parts and features is None:
        raise MissingTensor(f"{where} has neither raw_mean and raw_cov nor all_features; expected StyleGAN's.")
    return Content(parts, features)


def _features(value: Any, where: str) -> Stored | None:
    """The rows that StyleGAN kept, in one array or a list of them; the list is put together when it is read."""
    pieces = value if isinstance(value, list) else [] if value is None else [value]
    if not pieces:
        return None
    if not all(isinstance(p, np.ndarray) and p.ndim == 2 and p.dtype.kind == "f" for p in pieces):
        raise damaged(where, "all_features are no rows of numbers")
    shape = (sum(len(piece) for piece in pieces), pieces[0].shape[1])
    if len({(piece.shape[1], piece.dtype) for piece in pieces}) != 1:
        raise damaged(where, "all_features are of several widths")
    if shape[0] * shape[1] * pieces[0].itemsize > LARGEST:
        raise ResourceLimit(f"{where}: all_features are {list(shape)}; expected {LARGEST} bytes at most")
    return Stored(shape, pieces[0].dtype, lambda: np.concatenate(pieces))


def _count(value: Any, where: str, name: str) -> int:
    if type(value) is not int or not 1 < value < 1 << 40:
        raise damaged(where, f"its {name} is {str(value)[:40]!r}; expected a whole number above 1")
    return value


# ---- what moments must be


def _check_shapes(mean: Any, covariance: Any, where: str) -> None:
    """Of arrays or their headers: [d] and [d, d] of floats, not too large to read."""
    sound = all(isinstance(each, np.ndarray | Stored) for each in (mean, covariance))
    sound = sound and len(mean.shape) == 1 and mean.shape[0] > 0 and covariance.shape == mean.shape * 2
    if not sound or any(each.dtype.kind != "f" or each.dtype.itemsize < 4 for each in (mean, covariance)):
        shown = " and ".join(f"{e.dtype} {list(e.shape)}" if hasattr(e, "dtype") else str(type(e).__name__)
                             for e in (mean, covariance))  # fmt: skip
        raise damaged(where, f"its mean and covariance are {shown}; expected floats [d] and [d, d]")
    if 8 * covariance.shape[0] ** 2 > LARGEST:
        raise ResourceLimit(f"{where}: a covariance of {list(covariance.shape)}; expected {LARGEST} bytes at most")


def _moments(mean: Any, covariance: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64, or one sentence on why they cannot be moments."""
    _check_shapes(mean, covariance, where)
    mean, covariance = (np.ascontiguousarray(each, np.float64) for each in (mean, covariance))
    for wrong, sentence in _problems(mean, covariance):
        if wrong:
            raise CorruptFile(f"{where}: {sentence}; fetch the file again, or make the statistics anew.")
    return mean, covariance


def _problems(mean: np.ndarray, covariance: np.ndarray) -> Iterable[tuple[bool, str]]:
    yield not (np.isfinite(mean).all() and np.isfinite(covariance).all()), "its statistics hold NaN or infinity"
    variances = np.diagonal(covariance)
    largest = float(np.abs(variances).max())
    yield bool(variances.min() < -_NEGATIVE * largest), f"its covariance has the variance {variances.min():.3g}"
    with np.errstate(over="ignore"):
        apart = float(np.abs(covariance - covariance.T).max())
    yield apart > _ASYMMETRY * largest, f"its covariance is not symmetric, by {apart:.3g} of {largest:.3g}"
