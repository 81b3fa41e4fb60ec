"""The verb features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli.terminal import Least, Precision, Way, complain, network, noted, out, quietly, working

if TYPE_CHECKING:
    from inception.features import Summary

Engine = Annotated[str, typer.Option(help="openvino, onnxruntime, tensorflow; auto: the first installed; or ray.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Images in each run of the engine.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads that decode; one a core.")]
Workers = Annotated[int | None, typer.Option(min=1, help="On Ray: processes with an engine; one a CPU.")]
Column = Annotated[str | None, typer.Option(help="A Parquet source's column of paths or pictures.")]
ShardRows = Annotated[int | None, typer.Option(min=1, help="Pictures in a file of the dataset.")]


def features(
    source: Annotated[
        list[str],
        typer.Argument(help="Pictures, folders, globs, lists of paths (.txt), Parquet, .zip, .tar; or URLs of them."),
    ],
    target: Annotated[
        str, typer.Argument(metavar="OUT", help="The folder of features, or its URL in a store; run again, it goes on.")
    ],
    weights: Annotated[str, typer.Option(help='A weight file, a published id, or "imagenet".')] = "imagenet",
    endpoint: Annotated[str, typer.Option(help="End points by slim's names, with commas.")] = "PreLogits",
    pool: Annotated[str, typer.Option(help="What becomes of maps: avg, max, or none to keep them.")] = "avg",
    picture: Way = None,
    engine: Engine = "auto",
    precision: Precision = "float32",
    least_agreement: Least = 0.99,
    int8_of: Annotated[
        Path | None, typer.Option(help="A folder of features in int8 whose network is taken, to compare with those.")
    ] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the images; the weights' own.")] = None,
    batch: Batch = None,
    threads: Threads = None,
    workers: Workers = None,
    column: Column = None,
    shard_rows: ShardRows = None,
    check: Annotated[bool, typer.Option("--check", help="Read every byte of what is there already.")] = False,
) -> None:
    """Extracts features of pictures into a Parquet dataset; stopped anywhere, the same command goes on."""
    from inception import extras, features
    from inception.features import dataset, stores
    from inception.features.pieces import PIECES

    extras.load("pyarrow")
    dataset.described(target)  # a folder of other things is said before weights are fetched
    loaded = network(weights, picture=picture, size=size)
    quietly(loaded, engine)
    options: dict[str, Any] = {"end_points": endpoint.split(","), "pool": pool, "engine": engine}
    options |= {"precision": precision, "least_agreement": least_agreement, "int8_of": int8_of}
    options |= {"batch": batch, "threads": threads, "workers": workers}
    options |= {"column": column, "shard_rows": shard_rows, "check": check}
    try:
        with noted(), working("features", "images") as move:

            def progress(done: int, total: int, errors: int) -> None:
                move(done, total, f"features, {errors} unread" if errors else "")

            summary = features.extract(source, target, loaded, **options, progress=progress)
    except KeyboardInterrupt:
        done, total = dataset.finished(target)
        more = ", and a part of a shard beside them" if (stores.place(target) / PIECES).exists() else ""
        complain(f"stopped; {done:,} of {total:,} pictures are in {target}{more}. The same command goes on.")
        raise typer.Exit(130) from None
    for line in _lines(summary):
        out.print(line)


def _lines(summary: Summary) -> Iterator[str]:
    yield f"{summary.out}: {summary.pictures:,} pictures, {summary.rows:,} rows, {summary.errors:,} without"
    if summary.computed:
        speed = f"{summary.images_per_second:.1f} images/s"
        yield f"  {summary.computed:,} computed now with {summary.engine} in {summary.seconds:.1f} s ({speed})"
    if summary.agreement:
        yield f"  {summary.agreement}"
    if summary.computed < summary.pictures:
        yield f"  {summary.pictures - summary.computed:,} were there already"
    if summary.damaged:
        yield f"  done again: {_counted(summary.damaged, 'damaged shard')}"
    if summary.changed:
        yield f"  done again: {_counted(summary.changed, 'shard')} with changed pictures"
    if summary.errors:
        yield f"  {summary.out / '_errors.parquet'} says why {_counted(summary.errors, 'picture')} could not be read"
    if summary.passed_over:
        yield f"  passed over: {_counted(summary.passed_over, 'file')} without a picture's ending"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
