"""The verbs metrics and statistics."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli.features import Batch, Column, Engine, ShardRows, Threads, Workers
from inception.cli.terminal import Force, Least, Precision, complain, noted, out, working

if TYPE_CHECKING:
    from inception.metrics.measure import Row

_SIDE = "pictures (folder, .zip, .npz, Parquet), a folder of features, an .npz of features, or a file of statistics."
Weights = Annotated[
    str | None, typer.Option(help="Whatever holds a network; the published one of 2015, which FID is defined by.")
]
Work = Annotated[Path | None, typer.Option(help="A folder for the features, where the same command goes on.")]


def metrics(
    generated: Annotated[str, typer.Argument(help=f"Generated {_SIDE}")],
    reference: Annotated[str, typer.Argument(help=f"The reference: {_SIDE}")],
    protocol: Annotated[str, typer.Option(help="Names with commas: clean, adm, pytorch-fid, ...; or all.")] = "clean",
    metric: Annotated[
        str, typer.Option(help="Names with commas: fid, kid, is, pr, dc, sfid, mifid, fid-infinity.")
    ] = "fid",
    weights: Weights = None,
    work: Work = None,
    engine: Engine = "auto",
    precision: Precision = "float32",
    least_agreement: Least = 0.99,
    batch: Batch = None,
    threads: Threads = None,
    workers: Workers = None,
    column: Column = None,
    shard_rows: ShardRows = None,
    as_json: Annotated[bool, typer.Option("--json", help="A list of rows as JSON, and nothing else.")] = False,
) -> None:
    """Measures generated pictures against a reference: FID and its relatives, a row a protocol and a number."""
    from inception.metrics import measure

    options: dict[str, Any] = {"engine": engine, "batch": batch, "threads": threads, "workers": workers}
    options |= {"column": column, "shard_rows": shard_rows}
    options |= {"precision": precision, "least_agreement": least_agreement}
    with _bar(work) as progress:
        rows = measure.measure(
            generated, reference, protocols=protocol, metrics=metric, weights=weights, work=work,
            progress=progress, **options,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps([row.json() for row in rows], indent=1))
    else:
        out.print(_table(rows))


def statistics(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Pictures, or a folder of features.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.npz", help="The file; pytorch-fid, clean-fid, ADM read it.")],
    protocol: Annotated[str, typer.Option(help="By whose way: clean, adm, pytorch-fid, ...")] = "clean",
    weights: Weights = None,
    work: Work = None,
    engine: Engine = "auto",
    precision: Precision = "float32",
    least_agreement: Least = 0.99,
    batch: Batch = None,
    threads: Threads = None,
    workers: Workers = None,
    column: Column = None,
    shard_rows: ShardRows = None,
    force: Force = False,
) -> None:
    """Writes mean and covariance of pictures' features, and what they are of, for later comparisons."""
    from inception.files.atomic import check_target
    from inception.metrics import measure, statistics_files

    check_target(target, force)
    if target.suffix != ".npz":
        raise ValueError(f"{target}: statistics are written as .npz; give a name that ends so.")
    options: dict[str, Any] = {"engine": engine, "batch": batch, "threads": threads, "workers": workers}
    options |= {"column": column, "shard_rows": shard_rows}
    options |= {"precision": precision, "least_agreement": least_agreement}
    with _bar(work) as progress:
        parts = measure.statistics_of(source, protocol, weights=weights, work=work, progress=progress, **options)
    statistics_files.write(target, parts["fid"], spatial=parts.get("spatial"), overwrite=force)
    out.print(f"{target}: {parts['fid'].count:,} pictures, {protocol}, {', '.join(parts)}")


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
