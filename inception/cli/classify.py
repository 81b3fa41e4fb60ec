"""The verb classify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from inception.cli.terminal import Least, Precision, Way, network, out, quietly, working
from inception.files.errors import LONGEST_NAME, safe


def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    weights: Annotated[
        str, typer.Option(help='A weight file with a classifier, what finetune wrote, or "imagenet".')
    ] = "imagenet",
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line; NAME.labels.txt beside the weights is found."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 5,
    picture: Way = None,
    precision: Precision = "float32",
    least_agreement: Least = 0.99,
) -> None:
    """Names what pictures show: the best classes of each, with bars."""
    from inception import labels as names
    from inception.classify import classifier_of, classify_with

    loaded = network(weights, picture=picture, labels=labels)
    with working(f"classifying {len(pictures)} pictures"):
        quietly(loaded)
        more: Any = {"precision": precision, "calibration": pictures, "least_agreement": least_agreement}
        classifier = classifier_of(loaded, **more)
        scores = classify_with(classifier, pictures)
    for path, row in zip(pictures, scores, strict=True):
        out.print()
        out.print(f"{path}")
        out.print(predictions_table(names.top(row, classifier.labels, top)))


def predictions_table(best: list[Any]) -> Table:
    """The best classes of one picture, a bar each."""
    table = Table.grid(padding=(0, 2))
    for label, score in best:
        table.add_row(f"{score:7.2%}", "#" * round(score * 40), safe(label.name, LONGEST_NAME), label.wnid)
    return table
