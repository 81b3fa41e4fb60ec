"""What a training draws and lists: curves, the confusion matrix, the most wrong images, tables. Files appear whole."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inception import extras
from inception.files.atomic import replacing
from inception.files.errors import safe
from inception.training.evaluation import Evaluation
from inception.training.loop import Epoch
from inception.visualize import pictures

_MOST_SHOWN = 12  # most wrong images
_NUMBERED = 20  # classes up to which a confusion matrix has numbers in it
_NAMED = 60  # and names beside it
_LONGEST = 24  # letters of a name
_LINE = 32  # of a line above a picture


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file. A path that is no Unicode is written as `dataset.shown` has it."""
    with replacing(path) as [temporary], temporary.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def curves(history: Sequence[Epoch], path: Path, weights: str = "") -> None:
    """Loss and accuracy of every epoch, in training and on the validation set; stages side by side, the best marked."""
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    steps = np.arange(1, len(history) + 1)
    best = int(np.argmin([np.inf if np.isnan(row.val_loss) else row.val_loss for row in history]))
    for axes, name in ((left, "loss"), (right, "accuracy")):
        axes.plot(steps, [getattr(row, name) for row in history], label="training", color="#888888")
        axes.plot(steps, [getattr(row, f"val_{name}") for row in history], label="validation", color="#c0392b")
        star = {"marker": "*", "markersize": 13, "color": "#c0392b", "markeredgecolor": "white", "linestyle": ""}
        axes.plot(best + 1, getattr(history[best], f"val_{name}"), label=f"the best, epoch {best + 1}", **star)
        axes.set_xlabel("epoch")
        axes.set_title(name)
        axes.grid(alpha=0.25)
        axes.xaxis.get_major_locator().set_params(integer=True)
    highest = max(max(row.loss, row.val_loss) for row in history)
    left.set_ylim(0, 1.15 * highest)
    right.set_ylim(top=1.02)
    starts = [i for i in range(1, len(history)) if history[i].stage != history[i - 1].stage]
    for start in starts:
        for axes in (left, right):
            axes.axvline(start + 0.5, color="black", linewidth=0.8, linestyle=":")
        left.text(start + 0.4, 1.12 * highest, f"{history[start - 1].stage} ", ha="right", va="top", fontsize=8)
        left.text(start + 0.6, 1.12 * highest, f" {history[start].stage}", ha="left", va="top", fontsize=8)
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    _save(figure, path, f"Training of {len(history)} epochs", weights)


def confusion(evaluation: Evaluation, path: Path, weights: str = "") -> None:
    """Rows are what the pictures show, columns what they were taken for; shaded by the part of the row."""
    counts, names = evaluation.confusion, [_short(name) for name in evaluation.pictures.classes]
    side = min(4.0 + 0.35 * len(names), 16.0)
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    parts = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _NUMBERED:
        for row, column in np.argwhere(counts):
            dark = parts[row, column] > 0.5
            axes.text(column, row, counts[row, column], ha="center", va="center", color="white" if dark else "black")
    if len(names) <= _NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("taken for")
    axes.set_ylabel("is")
    axes.set_title(f"{len(evaluation.pictures)} pictures, {evaluation.top1:.1%} right")
    figure.colorbar(shown, ax=axes, fraction=0.046, label="part of the class")
    _save(figure, path, f"Confusion of {len(evaluation.pictures)} pictures", weights)


def most_wrong(evaluation: Evaluation, path: Path, weights: str = "") -> None:
    """The pictures whose own class had the least probability, with what they were taken for."""
    rows = evaluation.most_wrong[:_MOST_SHOWN]
    figure = _figure(9, 3.0 * max(1, -(-len(rows) // 4)))
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.08)
    if not rows:
        figure.text(0.5, 0.5, f"None of {len(evaluation.pictures)} pictures is wrong.", ha="center", va="center")
    names = evaluation.pictures.classes
    for place, row in enumerate(rows):
        axes = figure.add_subplot(-(-len(rows) // 4), 4, place + 1)
        axes.imshow(evaluation.picture.read(evaluation.pictures.paths[row]))
        taken, shown = int(evaluation.predicted[row]), int(evaluation.pictures.labels[row])
        said = f"said {_short(names[taken])} ({100 * evaluation.scores[row, taken]:.0f} %),"
        shows = f"is {_short(names[shown])}"
        axes.set_title(f"{said}{' ' if len(said + shows) < _LINE else chr(10)}{shows}", fontsize=8)
        axes.set_xlabel(_short(Path(evaluation.pictures.paths[row]).name), fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])
    _save(figure, path, f"The most wrong of {len(evaluation.pictures)} pictures", weights)


def _short(name: str) -> str:
    name = safe(name)
    name = name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
    return name.replace("$", "\\$")  # which would begin a formula


def _figure(width: float, height: float) -> Any:
    return extras.load("matplotlib.figure").Figure(figsize=(width, height), dpi=110, layout="constrained")


def _save(figure: Any, path: Path, title: str, weights: str) -> None:
    with replacing(path) as [temporary]:
        figure.savefig(temporary, format="png", metadata=pictures.said(title, weights))
