"""The verb classify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from inception.cli.terminal import USE, app, imagenet, load, out, working
from inception.foreign import LONGEST_NAME, safe


@app.command(rich_help_panel=USE)
def classify(
    pictures: Annotated[list[Path], typer.Argument(help="Picture files.")],
    weights: Annotated[
        str, typer.Option(help='A weight file with a classifier, what finetune wrote, or "imagenet".')
    ] = "imagenet",
    labels: Annotated[
        Path | None,
        typer.Option(help="Class names, one a line; NAME.labels.txt beside the weights is found."),
    ] = None,
    top: Annotated[int, typer.Option(help="How many classes to show.")] = 5,
    recipe: Annotated[
        str | None, typer.Option(help="keras: the whole picture; slim: its central 87.5 %; as it was fine-tuned.")
    ] = None,
) -> None:
    """Names what pictures show: the best classes of each, with bars."""
    from inception import labels as names
    from inception import quiet
    from inception.classify import classifier_of, classify_with, trained_folder

    source: Any = imagenet() if weights == "imagenet" else weights
    if trained_folder(source) is None:
        source = load(source)
    with working(f"classifying {len(pictures)} pictures"):
        quiet.import_tensorflow()
        network = classifier_of(source, names_file=labels, recipe=recipe)
        scores = classify_with(network, pictures)
    for picture, row in zip(pictures, scores, strict=True):
        out.print()
        out.print(f"{picture}")
        out.print(predictions_table(names.top(row, network.labels, top)))


def predictions_table(best: list[Any]) -> Table:
    """The best classes of one picture, a bar each."""
    table = Table.grid(padding=(0, 2))
    for label, score in best:
        table.add_row(f"{score:7.2%}", "#" * round(score * 40), safe(label.name, LONGEST_NAME), label.wnid)
    return table
