"""How often a classifier is right on a folder of pictures: top-1, top-5, and each class."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from inception import brief
from inception.arguments import count
from inception.brief import one_line
from inception.classify import Classifier, classifier_of, finite
from inception.inference import Precision, int8
from inception.labels import Label
from inception.networks import Network, network_of
from inception.pictures import Picture, Preprocess
from inception.training import folders
from inception.training.folders import Pictures
from inception.weights import CheckpointError, published
from inception.weights.published import Published

_SHOWN = 20  # classes in a notebook


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a classifier said of a set of pictures.

    Attributes:
        pictures: those that could be read.
        scores: probabilities [pictures, classes of the classifier], whose columns `pictures.labels` count.
        picture: how they were brought to the network's input.
        skipped: (path, reason).
        known: the published file that the weights are, with its published accuracy.

    Raises:
        ValueError: For scores that are not finite.
    """

    pictures: Pictures
    scores: np.ndarray
    picture: Picture
    skipped: tuple[tuple[str, str], ...] = ()
    known: Published | None = None

    __repr__ = one_line

    def __post_init__(self) -> None:
        finite(self.scores, self.pictures.paths)

    def _repr_html_(self) -> str:
        """What a notebook shows: how often it is right, and the classes that are recognised least."""
        worst = sorted(self.per_class.items(), key=lambda each: each[1][0] / each[1][1])
        rows: list[Any] = [(name, right, of, f"{right / of:.1%}") for name, (right, of) in worst[:_SHOWN]]
        rows += [(f"and {len(worst) - _SHOWN} more", "", "", "")] if len(worst) > _SHOWN else []
        right = f"{self.top1:.1%} of {len(self.pictures)} pictures are right, {self.top5:.1%} among the best five"
        return brief.card(f"{right}; loss {self.loss:.4f}", brief.table(("class", "right", "of", ""), rows))

    def top(self, count: int) -> float:
        """The part of the pictures whose class is among the `count` best; of equal scores the first class counts."""
        return float(np.mean(self._rank < count))

    @property
    def top1(self) -> float:
        """The part of the pictures whose class is the best."""
        return self.top(1)

    @property
    def top5(self) -> float:
        """The part of the pictures whose class is among the five best."""
        return self.top(5)

    @property
    def loss(self) -> float:
        """The mean cross entropy, in nats."""
        return cross_entropy(self.scores, self.pictures.labels)

    @property
    def predicted(self) -> np.ndarray:
        """The best class of each picture: [pictures]."""
        return self.scores.argmax(-1)

    @property
    def confusion(self) -> np.ndarray:
        """How many pictures of a class (row) were taken for another (column): [classes, classes]."""
        classes = self.scores.shape[1]
        flat = self.pictures.labels * classes + self.predicted
        return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)

    @property
    def per_class(self) -> dict[str, tuple[int, int]]:
        """{class: (pictures of it that were recognised, pictures of it)}, of the classes that have pictures."""
        right = self.predicted == self.pictures.labels
        return {
            name: (int(right[mine].sum()), int(mine.sum()))
            for label, name in enumerate(self.pictures.classes)
            if (mine := self.pictures.labels == label).any()
        }

    @property
    def most_wrong(self) -> list[int]:
        """Rows of the pictures taken for another class, those first whose own class had the least probability."""
        own = _of_class(self.scores, self.pictures.labels)
        wrong = np.flatnonzero(self.predicted != self.pictures.labels)
        return [int(i) for i in wrong[np.argsort(own[wrong], kind="stable")]]

    @property
    def _rank(self) -> np.ndarray:
        own = _of_class(self.scores, self.pictures.labels)[:, None]
        before = np.arange(self.scores.shape[1]) < self.pictures.labels[:, None]
        return ((self.scores > own) | ((self.scores == own) & before)).sum(-1)


def cross_entropy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean cross entropy, in nats, of probabilities [n, classes] for pictures of the classes `labels` [n]."""
    return float(-np.mean(np.log(np.maximum(_of_class(scores, labels), 1e-30))))


def _of_class(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The score of each picture's own class: [n]."""
    return scores[np.arange(len(scores)), labels]


def evaluate(
    folder: str | os.PathLike[str],
    weights: Any,
    *,
    picture: str | Picture | None = None,
    size: int | None = None,
    labels: str | os.PathLike[str] | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
    batch: int = 32,
    precision: Precision = "float32",
    least_agreement: float = int8.ENOUGH,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compares what a classifier says with the folders that pictures lie in.

    Pictures that cannot be read are listed in `skipped`. Raises ValueError for a folder
    without classes, classes that the network does not have, where no picture can be read, and where
    weights or scores are not finite; the sentence names the first such picture.

    Args:
        folder: a folder for each class, named as the class or, for ImageNet, by its WordNet id.
        weights: whatever `networks.network_of` takes: a fine-tuned folder, a path, `Weights`, a Keras model.
        picture: another way of a picture than the network's own, which is the one that a fine-tuned network was trained
            with, or that published weights were measured with (`pictures.WORDS`).
        size: of the network's input.
        labels: a file of class names.
        preprocess: see `classifier_of`.
        precision, least_agreement: see `classifier_of`; int8 is calibrated on pictures of the folder.
        progress: called with (pictures done, of how many).
    """
    batch = count("batch", batch)
    network = network_of(weights, picture=picture, size=size, labels=labels, preprocess=preprocess)
    pictures = check_classes(folder, network)
    calibration = pictures.paths if precision == "int8" else ()
    more: Any = {"precision": precision, "least_agreement": least_agreement, "calibration": calibration}
    return scored(pictures, classifier_of(network, **more), batch, progress)


def check_classes(folder: str | os.PathLike[str], network: Network) -> Pictures:
    """The pictures of a folder with a network's class numbers.

    Raises:
        ValueError: For a network without a classifier, and for folders that are none of its classes.
    """
    if network.labels is None:
        raise CheckpointError(f"{network.name} has no classifier; give weights with top.")
    return _labelled(folder, network.labels)


def _labelled(folder: str | os.PathLike[str], known: tuple[Label, ...]) -> Pictures:
    """The pictures with the classifier's class numbers; each folder is called by a class's name or WordNet id.

    The name may be spelled as Keras does, where no other class has that very name.
    """
    places: dict[str, list[int]] = {}
    for spelling in ("name", "keras_name", "wnid"):
        spellings: dict[str, list[int]] = {}
        for i, label in enumerate(known):
            spellings.setdefault(getattr(label, spelling), []).append(i)
        places |= {name: of for name, of in spellings.items() if name and name not in places}
    pictures = folders.read(folder, tuple(places))
    numbers = list(places.values())
    for place in np.unique(pictures.labels):
        if len(of := numbers[place]) > 1:
            spelled = " and ".join(known[i].wnid or f"number {i}" for i in of)
            raise ValueError(
                f"{os.fspath(folder)} has the folder {pictures.classes[place]!r}, the name of {len(of)} classes "
                f"({spelled}); call it by the class's WordNet id, or give labels that differ."
            )
    own = tuple(
        f"{label.name} ({label.wnid or i})" if len(places.get(label.name, ())) > 1 else label.name
        for i, label in enumerate(known)
    )
    return Pictures(pictures.paths, np.array([of[0] for of in numbers], np.int64)[pictures.labels], own)


def scored(
    pictures: Pictures, classifier: Classifier, batch: int = 32, progress: Callable[[int, int], None] | None = None
) -> Evaluation:
    """What a classifier says of labelled pictures whose class numbers are its own."""
    kept: list[int] = []
    scores: list[np.ndarray] = []
    skipped: list[tuple[str, str]] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(pictures), batch):
            rows = range(start, min(start + batch, len(pictures)))
            inputs = list(pool.map(lambda i: _prepared(classifier.network, pictures.paths[i]), rows))
            readable = [(i, x) for i, x in zip(rows, inputs, strict=True) if isinstance(x, np.ndarray)]
            skipped += [(pictures.paths[i], x) for i, x in zip(rows, inputs, strict=True) if isinstance(x, str)]
            if readable:
                kept += [i for i, _ in readable]
                given = classifier.scores(np.stack([x for _, x in readable]))
                scores.append(finite(given, [pictures.paths[i] for i, _ in readable]))
            if progress:
                progress(rows.stop, len(pictures))
    if not kept:
        raise ValueError(f"None of the {len(pictures)} pictures can be read; the first: {skipped[0][1]}")
    id = classifier.network.published
    known = published.find(id) if id else None
    return Evaluation(pictures.of(kept), np.concatenate(scores), classifier.network.picture, tuple(skipped), known)


def _prepared(network: Network, path: str) -> np.ndarray | str:
    try:
        return network.input(path)
    except ValueError as error:
        return str(error)
