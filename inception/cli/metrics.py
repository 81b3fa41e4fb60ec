"""The verbs metrics and statistics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli import options, pictures
from inception.cli.terminal import answer, complain, missing, noted, working

if TYPE_CHECKING:
    from inception.metrics.measure import Row

_CLEAN, _FID = ["clean"], ["fid"]
_SIDE = "pictures (folder, glob, .zip, .npz, Parquet, - for stdin), a folder or .npz of features, or statistics."
Work = Annotated[Path | None, typer.Option("--work", help="A folder for the features, where the same command goes on.")]


def metrics(
    generated: Annotated[str, typer.Argument(help=f"Generated {_SIDE}")],
    reference: Annotated[str, typer.Argument(help=f"The reference: {_SIDE}")],
    protocol: Annotated[
        list[str], options.some_of("--protocol", f"{options.PROTOCOLS}|all", "By whose way: names with commas, or all.")
    ] = _CLEAN,
    metric: Annotated[
        list[str], options.some_of("--metric", options.METRICS, "Which numbers: names with commas.")
    ] = _FID,
    weights: options.Weights2015 = None,
    work: Work = None,
    how: options.Extraction = options.EXTRACTION,
    dry_run: options.DryRun = False,
) -> None:
    """Measures generated pictures against a reference: FID and its relatives, a row a protocol and a number."""
    from inception.metrics import measure, taps

    generated, reference = pictures.side(generated), pictures.side(reference)
    named: dict[str, Any] = {"protocols": "all" if "all" in protocol else protocol, "metrics": metric}
    if dry_run:
        sides = measure.planned(generated, reference, **named, column=how.column)
        known = missing(weights or taps.PUBLISHED)
        first = [f"{known.id} would be downloaded first"] if known else []
        lines = [_planned(side) for side in sides]
        record = {"dry_run": True, "sides": sides, "download": known and known.id}
        answer(record, *first, *lines, "nothing was done")
        return
    with _bar(work) as progress:
        rows = measure.measure(
            generated, reference, **named, weights=weights, work=work, progress=progress, **how.arguments()
        )
    answer([row.json() for row in rows], _table(rows))


def _planned(side: dict[str, Any]) -> str:
    count = "" if side["pictures"] is None else f"{side['pictures']:,} "
    ways = f", each by {len(side['ways'])} ways of a picture" if side["ways"] else ""
    return f"{side['name']}: {count}{side['holds']}{ways}"


def statistics(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Pictures (- is stdin), or a folder of features.")],
    target: Annotated[
        Path, typer.Argument(metavar="OUT.npz", help="Or -o: the file; pytorch-fid, clean-fid, ADM read it.")
    ],
    protocol: Annotated[str, options.one_of("--protocol", options.PROTOCOLS, "By whose way.")] = "clean",
    weights: options.Weights2015 = None,
    work: Work = None,
    how: options.Extraction = options.EXTRACTION,
    force: options.Force = False,
) -> None:
    """Writes mean and covariance of pictures' features, and what they are of, for later comparisons."""
    from inception.files.atomic import check_target
    from inception.metrics import measure, statistics_files

    check_target(target, force)
    if target.suffix != ".npz":
        raise ValueError(f"{target}: statistics are written as .npz; give a name that ends so.")
    with _bar(work) as progress:
        parts = measure.statistics_of(
            pictures.side(source), protocol, weights=weights, work=work, progress=progress, **how.arguments()
        )
    statistics_files.write(target, parts["fid"], spatial=parts.get("spatial"), overwrite=force)
    count = parts["fid"].count
    record = {"out": target, "pictures": count, "protocol": protocol, "parts": list(parts)}
    answer(record, f"{target}: {count:,} pictures, {protocol}, {', '.join(parts)}")


@contextlib.contextmanager
def _bar(work: Path | None) -> Iterator[Callable[[str, int, int], None]]:
    from inception import inference, quiet

    if inference.preferred() == "tensorflow":
        quiet.import_tensorflow()
    try:
        with noted(), working("features", "images") as move:
            yield lambda side, done, total: move(done, total, side)
    except KeyboardInterrupt:
        complain(f"stopped; the same command goes on with what is in {work}." if work else
                 "stopped; with --work DIR the same command would go on.")  # fmt: skip
        raise typer.Exit(130) from None


def _table(rows: list[Row]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("metric", "protocol", "value", "error", "generated", "reference", "picture", "weights"):
        table.add_column(name, justify="right" if name in ("value", "error", "generated", "reference") else "left")
    for row in rows:
        counts = ("" if n is None else f"{n:,}" for n in (row.n_generated, row.n_reference))
        error = "" if row.error is None else f"{row.error:.2g}"
        table.add_row(row.metric, row.protocol, f"{row.value:.7g}", error, *counts, row.picture, row.weights)
    return table
