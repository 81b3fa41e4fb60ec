"""Class names: ImageNet's 1000 in the three orders that files have, or a labels file of one's own.

1000 classes: sorted by wnid (Keras, torchvision, timm). 1001: the same after a background
class (slim). 1008: the order of the 2015 graph, where index 0 and those above 1000 mean
nothing.
"""

from __future__ import annotations

import csv
import functools
import importlib.resources
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inception import arguments


@dataclass(frozen=True)
class Label:
    """A class.

    Attributes:
        wnid: its WordNet id; empty outside ImageNet.
        name: the first of its names.
    """

    wnid: str
    name: str

    @property
    def keras_name(self) -> str:
        """The name as `keras.applications` spells it: `African_elephant`."""
        return self.name.replace(" ", "_")

    def is_called(self, text: str) -> bool:
        """Whether a text is its WordNet id, or its name in either spelling and any case."""
        return text == self.wnid != "" or text.replace(" ", "_").casefold() == self.keras_name.casefold()


_COLUMNS = {1000: "keras_index", 1001: "slim_index", 1008: "graph2015_index"}


@functools.cache
def imagenet(num_classes: int = 1000) -> tuple[Label, ...] | None:
    """The labels of an ImageNet classifier with 1000, 1001 or 1008 outputs, in its order; None for other numbers."""
    if num_classes not in _COLUMNS:
        return None
    labels = [Label("", "background" if i == 0 else f"unused {i}") for i in range(num_classes)]
    with (importlib.resources.files("inception") / "data" / "imagenet_classes.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            labels[int(row[_COLUMNS[num_classes]])] = Label(row["wnid"], row["names"].split(",")[0])
    return tuple(labels)


def wnid_order(num_classes: int) -> np.ndarray | None:
    """Where an ImageNet classifier has the 1000 classes, sorted by wnid: indices [1000]; None for other numbers."""
    labels = imagenet(num_classes)
    if labels is None:
        return None
    return np.array(sorted((i for i, label in enumerate(labels) if label.wnid), key=lambda i: labels[i].wnid))


def read(path: str | os.PathLike[str], num_classes: int) -> tuple[Label, ...]:
    """The labels in a text file, one name a line. ValueError when their number is not the classifier's."""
    if not Path(path).is_file():
        raise ValueError(f"The labels file {os.fspath(path)} does not exist; give a text file with one name a line.")
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    if len(lines) != num_classes:
        raise ValueError(f"{os.fspath(path)} has {len(lines)} names; the classifier has {num_classes} outputs.")
    return tuple(Label("", line.strip()) for line in lines)


def labels_for(weights_path: str | os.PathLike[str], num_classes: int) -> tuple[Label, ...]:
    """The names that go with a weight file: `NAME.labels.txt` beside it, ImageNet's, or the bare indices."""
    path = Path(weights_path)
    if path.name and (beside := path.with_suffix(".labels.txt")).is_file():
        return read(beside, num_classes)
    return imagenet(num_classes) or numbered(num_classes)


def numbered(num_classes: int) -> tuple[Label, ...]:
    """The names of classes that nobody has named."""
    return tuple(Label("", f"class {i}") for i in range(num_classes))


def top(scores: np.ndarray, labels: Sequence[Label], count: int = 5) -> list[tuple[Label, float]]:
    """The `count` best classes of one vector of scores, best first. ValueError for a count below 1."""
    count = arguments.count("top", count)
    best = np.argsort(-scores, kind="stable")[:count]
    return [(labels[i], float(scores[i])) for i in best]


def decode_predictions(preds: Any, top: int = 5) -> list[list[tuple[str, str, float]]]:
    """(wnid, name, score) of the best classes for each row; names are spelled as Keras does.

    Args:
        preds: an array or a tensor [n, 1000], [n, 1001] (slim) or [n, 1008] (the 2015 graph).

    Raises:
        ValueError: For others, and for a top below 1.
    """
    scores = _array(preds)
    labels = imagenet(scores.shape[-1]) if scores.ndim == 2 else None
    if labels is None:
        raise ValueError(
            f"Predictions have the shape {scores.shape}; expected [n, 1000], [n, 1001] or [n, 1008] ImageNet scores."
        )
    return [[(label.wnid, label.keras_name, score) for label, score in _top(row, labels, top)] for row in scores]


_top = top  # `decode_predictions` has an argument of this name, as Keras's has


def _array(values: Any) -> np.ndarray:
    """Scores as an array, wherever a tensor lies, whether or not it has a gradient."""
    if isinstance(values, np.ndarray | list | tuple):
        return np.asarray(values)
    from keras import ops

    return np.asarray(ops.convert_to_numpy(values))
