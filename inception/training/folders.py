"""A folder per class: which pictures there are, which class each has, and their split in two."""

from __future__ import annotations

import functools
import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inception.arguments import nearest
from inception.brief import one_line
from inception.features.sources import ENDINGS


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures.

    Attributes:
        paths: of the files.
        labels: which of `classes` each shows: int64 [pictures].
        classes: their names.
    """

    paths: tuple[str, ...]
    labels: np.ndarray
    classes: tuple[str, ...]

    __repr__ = one_line

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, rows: Sequence[int] | np.ndarray) -> Pictures:
        """Some of them, in that order."""
        some = Pictures(tuple(self.paths[i] for i in rows), self.labels[np.asarray(rows, np.int64)], self.classes)
        if "contents" in vars(self):  # no file is read twice
            vars(some)["contents"] = tuple(self.contents[i] for i in rows)
        return some

    def without(self, paths: Sequence[str]) -> Pictures:
        """All but these."""
        left_out = set(paths)
        return self.of([i for i, path in enumerate(self.paths) if path not in left_out])

    def sample(self, count: int, seed: int) -> Pictures:
        """That many at most, by chance, of each class its part."""
        rows = np.random.default_rng(seed).permutation(len(self))
        by_class = rows[np.argsort(self.labels[rows], kind="stable")]
        return self.of(by_class[np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(np.int64)])

    def read_contents(self, progress: Callable[[int, int, str], None]) -> None:
        """Has `contents` read now, by threads; `progress` is called with (done, of how many, of what)."""
        with ThreadPoolExecutor() as pool:
            every = []
            for each in pool.map(content, self.paths):
                every.append(each)
                progress(len(every), len(self), "reading pictures")
        vars(self)["contents"] = tuple(every)

    @functools.cached_property
    def contents(self) -> tuple[bytes, ...]:
        """What tells the pictures apart: `content` of each file, each read once."""
        return tuple(content(path) for path in self.paths)

    @property
    def digest(self) -> str:
        """SHA-256 over classes, names and contents in their order: another set has another digest."""
        whole = hashlib.sha256("\0".join(self.classes).encode())
        for path, label, content in zip(self.paths, self.labels, self.contents, strict=True):
            whole.update(os.fsencode(Path(path).name) + f"\0{label}\0{content.hex()}\n".encode())
        return whole.hexdigest()


def content(path: str) -> bytes:
    """SHA-256 of a file's bytes; of its name, for a file that cannot be read."""
    try:
        if os.path.isfile(path):
            return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:
        pass
    return hashlib.sha256(b"unreadable\0" + os.fsencode(path)).digest()


def read(folder: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Pictures:
    """The pictures below a folder with a folder for each class, sorted by class and path.

    Args:
        classes: their names in order, where a network already has them; without, the folders' names sorted. Hidden
            folders, and files without a picture's ending, are passed over.

    Raises:
        ValueError: For a folder without classes, an empty class, and other classes than asked for.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; expected one that has a folder of pictures for each class.")
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise ValueError(f"{root} has no folders in it; expected a folder of pictures for each class.")
    if classes is not None and (unknown := sorted(set(folders) - set(classes))):
        raise ValueError(
            f"{root} has the class {unknown[0]!r}{nearest(unknown[0], classes)}, which the network has not; it has "
            f"{', '.join(classes[:8])}" + (", ..." if len(classes) > 8 else ".")
        )
    if strange := [name for name in folders if not name.isprintable()]:
        raise ValueError(f"{root} has a folder {strange[0]!r}, which is no name that a text file can hold; rename it.")
    names = tuple(folders if classes is None else classes)
    paths: list[str] = []
    labels: list[int] = []
    for name in folders:
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

    Files of equal bytes stay on one side. The same seed splits the same set in the same way.
    ValueError for a fraction outside (0, 1), and for a class without a picture for each side.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"The part for validation is {fraction:g}; expected a number between 0 and 1, or a folder.")
    rng = np.random.default_rng(seed)
    equal: dict[str, dict[bytes, int]] = {}  # how many files of a class have a content, in an order of chance
    for label, name in enumerate(pictures.classes):
        rows = rng.permutation(np.flatnonzero(pictures.labels == label))
        equal[name] = dict(Counter(pictures.contents[row] for row in rows))
        if (count := len(equal[name])) < 2:
            same = " and are not the same" if count < len(rows) else ""
            raise ValueError(f"The class {name!r} has {count} pictures that can be read{same}; expected at least 2.")
    held_out: dict[bytes, bool] = {}
    for name in sorted(equal, key=lambda name: len(equal[name])):  # where pictures of others leave the least choice
        _hold_out(equal[name], fraction, held_out)
        if len({held_out[each] for each in equal[name]}) < 2:
            raise ValueError(
                f"All pictures of the class {name!r} are in other classes too, and none is left for "
                "training or for validation; keep a picture in one class."
            )
    aside = np.array([held_out[each] for each in pictures.contents])
    return pictures.of(np.flatnonzero(~aside)), pictures.of(np.flatnonzero(aside))


def _hold_out(equal: Mapping[bytes, int], fraction: float, held_out: dict[bytes, bool]) -> None:
    """Settles which contents of a class are held out; those of classes before stay where they are."""
    files = sum(equal.values())
    room = min(max(round(files * fraction), 1), files - 1) - sum(equal[each] for each in equal if held_out.get(each))
    free = [each for each in equal if each not in held_out]
    for each in free:
        held_out[each] = equal[each] <= room
        room -= equal[each] * held_out[each]
    if free and not any(held_out[each] for each in equal):
        held_out[min(free, key=lambda each: equal[each])] = True


def in_two_classes(pictures: Pictures) -> list[tuple[str, str]]:
    """Pictures whose bytes are in another class as well: (the first file of these bytes, the file)."""
    first: dict[bytes, int] = {}
    pairs = [(first.setdefault(each, i), i) for i, each in enumerate(pictures.contents)]
    return [(pictures.paths[a], pictures.paths[b]) for a, b in pairs if pictures.labels[a] != pictures.labels[b]]


def shared(some: Pictures, others: Pictures) -> list[str]:
    """The paths of those pictures whose bytes are among others."""
    known = set(others.contents)
    return [path for path, each in zip(some.paths, some.contents, strict=True) if each in known]


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
        given = (
            f"{wanted!r}{nearest(wanted, ('balanced',))}" if isinstance(wanted, str) else f"a weight for {unknown[0]!r}"
        )
        known = ", ".join(pictures.classes[:8])
        raise ValueError(f'class_weights has {given}; expected "balanced", or a weight for some of {known}.')
    weights = {i: _weight(name, wanted.get(name, 1.0)) for i, name in enumerate(pictures.classes)}
    if not any(weights.values()):
        raise ValueError("class_weights are 0 for every class; expected one above 0 at least.")
    return weights


def _weight(name: str, wanted: object) -> float:
    if isinstance(wanted, int | float | np.number) and 0 <= wanted < math.inf:
        return float(wanted)
    raise ValueError(f"class_weights has {wanted!r} for {name!r}; expected a number, 0 or more.")
