"""The verb classify."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from inception.cli import options, pictures
from inception.cli.terminal import answer, network, out, quietly, working
from inception.files.errors import LONGEST_NAME, safe


def classify(
    sources: options.Pictures,
    weights: options.Weights = "imagenet",
    labels: options.Labels = None,
    top: options.Top = 5,
    size: options.Size = None,
    picture: options.Way = None,
    precision: options.Precision = "float32",
    least_agreement: options.LeastAgreement = 0.99,
) -> None:
    """Names what pictures show: the best classes of each, with bars."""
    from inception import labels as names
    from inception.classify import classifier_of, finite
    from inception.inference import int8

    items = pictures.listed(sources)
    loaded = network(weights, picture=picture, size=size, labels=labels)
    batches = pictures.read(items, loaded)
    first = next(batches)
    if all(each.reason for each in first) and len(first) == len(items):
        raise ValueError(first[0].reason)
    best: dict[str, Any] = {}
    with working(f"classifying {len(items)} pictures", "pictures") as move:
        quietly(loaded)
        some = [pictures.unread(item) for item in int8.spread(items)] if precision == "int8" else []
        more: Any = {"precision": precision, "calibration": some, "least_agreement": least_agreement}
        classifier = classifier_of(loaded, **more)
        for batch in (first, *batches):
            good = [each for each in batch if not each.reason]
            rows = iter(finite(classifier.scores(_stacked(good)), [each.path for each in good]) if good else ())
            best |= {r.path: r.reason or names.top(next(rows), classifier.labels, top) for r in batch}
            move(len(best), len(items))
    _show(best)


def _stacked(reads: list[Any]) -> Any:
    import numpy as np

    return np.stack([each.tensors[0] for each in reads])


def _show(best: dict[str, Any]) -> None:
    """best: {picture: [(label, score)], or the reason why there are none}."""
    bad = {path: reason for path, reason in best.items() if isinstance(reason, str)}
    good = {path: rows for path, rows in best.items() if path not in bad}
    for path, reason in bad.items():
        pictures.skipped(path, reason)
    record = [
        {"picture": pictures.name(path), "error": rows}
        if path in bad
        else {
            "picture": pictures.name(path),
            "classes": [{"name": label.name, "wnid": label.wnid, "score": score} for label, score in rows],
        }
        for path, rows in best.items()
    ]
    answer(record, *(_grids(good) if out.is_terminal else [_rows(good)]))
    if bad:
        raise typer.Exit(1)


def _grids(best: dict[str, Any]) -> Any:
    for path, rows in best.items():
        table = Table.grid(padding=(0, 2))
        for label, score in rows:
            table.add_row(f"{score:7.2%}", "#" * round(score * 40), safe(label.name, LONGEST_NAME), label.wnid)
        yield from ("", pictures.name(path), table)


def _rows(best: dict[str, Any]) -> Table:
    table = Table("picture", "probability", "class", "wnid")
    for path, rows in best.items():
        for label, score in rows:
            table.add_row(pictures.name(path), f"{score:.6f}", safe(label.name, LONGEST_NAME), label.wnid)
    return table
