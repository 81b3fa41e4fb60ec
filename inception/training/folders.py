"""A folder per class: which pictures there are, which class each has, and their split in two."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception.brief import one_line
from inception.features.sources import ENDINGS


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures: `labels[i]`, a number of `classes`, says what `paths[i]` shows."""

    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, rows: Sequence[int] | np.ndarray) -> Pictures:
        """Some of them, in that order."""
        return Pictures(tuple(self.paths[i] for i in rows), self.labels[np.asarray(rows, np.int64)], self.classes)

    def without(self, paths: Sequence[str]) -> Pictures:
        """All but these."""
        left_out = set(paths)
        return self.of([i for i, path in enumerate(self.paths) if path not in left_out])

    @property
    def digest(self) -> str:
        """SHA-256 over classes, names and sizes in their order: another set has another digest."""
        whole = hashlib.sha256("\0".join(self.classes).encode())
        for path, label in zip(self.paths, self.labels, strict=True):
            size = os.path.getsize(path) if os.path.exists(path) else -1  # a link that leads nowhere
            whole.update(os.fsencode(Path(path).name) + f"\0{label}\0{size}\n".encode())
        return whole.hexdigest()


def read(folder: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Pictures:
    """The pictures below a folder with a folder for each class, sorted by class and path.

    classes: their names in order, where a network already has them; without, the folders'
    names sorted. Hidden folders, and files without a picture's ending, are passed over.
    Raises ValueError for a folder without classes, an empty class, and other classes than asked for.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; expected one that has a folder of pictures for each class.")
    found = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise ValueError(f"{root} has no folders in it; expected a folder of pictures for each class.")
    if classes is not None and (unknown := sorted(set(found) - set(classes))):
        raise ValueError(
            f"{root} has the class {unknown[0]!r}, which the network has not; it has {', '.join(classes[:8])}"
            + (", ..." if len(classes) > 8 else ".")
        )
    if strange := [name for name in found if not name.isprintable()]:
        raise ValueError(f"{root} has a folder {strange[0]!r}, which is no name that a text file can hold; rename it.")
    names = tuple(found if classes is None else classes)
    paths: list[str] = []
    labels: list[int] = []
    for name in found:
        of_class = _below(root / name)
        if not of_class:
            raise ValueError(f"The class {name!r} in {root} has no pictures; expected {', '.join(ENDINGS)}.")
        paths += of_class
        labels += [names.index(name)] * len(of_class)
    return Pictures(tuple(paths), np.array(labels, np.int64), names)


def _below(folder: Path) -> list[str]:
    return sorted(
        os.path.join(place, file)
        for place, _, files in os.walk(folder)
        for file in files
        if file.lower().endswith(ENDINGS) and not file.startswith(".")
    )


def split(pictures: Pictures, fraction: float, seed: int) -> tuple[Pictures, Pictures]:
    """(for training, for validation): the fraction of every class, at least one picture of it on either side.

    The same seed splits the same set in the same way. ValueError for a fraction outside
    (0, 1) and for a class of one picture.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The part for validation is {fraction:g}; expected a number between 0 and 1, or a folder.")
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    held_out: list[np.ndarray] = []
    for label, name in enumerate(pictures.classes):
        rows = rng.permutation(np.flatnonzero(pictures.labels == label))
        if len(rows) < 2:
            raise ValueError(f"The class {name!r} has {len(rows)} pictures that can be read; expected at least 2.")
        count = min(max(round(len(rows) * fraction), 1), len(rows) - 1)
        held_out.append(rows[:count])
        kept.append(rows[count:])
    return pictures.of(np.sort(np.concatenate(kept))), pictures.of(np.sort(np.concatenate(held_out)))


def weights_of_classes(pictures: Pictures, wanted: str | Mapping[str, float] | None) -> dict[int, float] | None:
    """{class number: weight of its pictures' loss}: "balanced", {class: weight}, or None for none.

    Balanced weights make all classes count alike, and average to 1 over the pictures.
    """
    if wanted is None:
        return None
    if wanted == "balanced":
        counts = np.bincount(pictures.labels, minlength=len(pictures.classes))
        return {i: len(pictures) / (len(counts) * max(int(count), 1)) for i, count in enumerate(counts)}
    if isinstance(wanted, str) or (unknown := sorted(set(wanted) - set(pictures.classes))):
        found = repr(wanted) if isinstance(wanted, str) else f"a weight for {unknown[0]!r}"
        known = ", ".join(pictures.classes[:8])
        raise ValueError(f'class_weights has {found}; expected "balanced", or a weight for some of {known}.')
    return {i: float(wanted.get(name, 1.0)) for i, name in enumerate(pictures.classes)}
