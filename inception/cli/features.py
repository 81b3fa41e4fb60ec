"""The verb features."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli import options, pictures
from inception.cli.terminal import answer, complain, described, missing, network, noted, quietly, working

if TYPE_CHECKING:
    from inception.features import Summary
    from inception.features.task import Task
    from inception.networks import Network

_POOLED = ["PreLogits"]


def features(
    source: options.Pictures,
    target: Annotated[
        str,
        typer.Argument(metavar="OUT", help="Or -o: the folder of features, or its URL; run again, it goes on."),
    ],
    weights: options.Weights = "imagenet",
    end_point: options.EndPoints = _POOLED,
    pool: Annotated[str, options.one_of("--pool", "avg|max|none", "What becomes of maps; none keeps them.")] = "avg",
    picture: options.Way = None,
    size: options.Size = None,
    work: options.Extraction = options.EXTRACTION,
    int8_of: Annotated[
        Path | None, typer.Option(help="A folder of features in int8 whose network is taken, to compare with those.")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Read every byte of what is there already.")] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Extracts features of pictures into a Parquet dataset; stopped anywhere, the same command goes on."""
    from inception import extras, features
    from inception.features import dataset, stores
    from inception.features import sources as lists
    from inception.features.pieces import PIECES

    extras.load("pyarrow")
    dataset.described(target)  # a folder of other things is said before weights are fetched
    sources, given = pictures.named(source), work.arguments()
    named: dict[str, Any] = {"end_points": end_point or [], "pool": pool}
    if known := missing(weights):  # what is wrong is said before the download
        _asked(described(known, picture=picture, size=size), work, named)
        count = len(lists.listed(sources, work.column).items)
        if dry_run:
            first = f"{known.id} would be downloaded first"
            answer({"dry_run": True, "download": known.id, "pictures": count}, f"{first}; nothing was done.")
            return
    loaded = network(weights, picture=picture, size=size)
    if dry_run:
        _plan(sources, target, loaded, work, named)
        return
    quietly(loaded, work.engine)
    try:
        with noted(), working("features", "images") as move:

            def progress(done: int, total: int, errors: int) -> None:
                move(done, total, f"features, {errors} unread" if errors else "")

            summary = features.extract(
                sources, target, loaded, **named, **given, int8_of=int8_of, check=check, progress=progress
            )
    except KeyboardInterrupt:
        done, total = dataset.finished(target)
        more = ", and a part of a shard beside them" if (stores.place(target) / PIECES).exists() else ""
        complain(f"stopped; {done:,} of {total:,} pictures are in {target}{more}. The same command goes on.")
        raise typer.Exit(130) from None
    fields = ("out", "pictures", "rows", "errors", "computed", "damaged", "changed", "passed_over", "engine", "seconds")
    record = {name: getattr(summary, name) for name in fields}
    answer(record | {"agreement": summary.agreement and summary.agreement.share}, *_lines(summary))
    if summary.errors:
        raise typer.Exit(1)


def _asked(found: Network, work: options.Extraction, named: dict[str, Any]) -> Task:
    """The task. ValueError for what does not fit."""
    from inception.features import task

    engine = "auto" if work.engine == "ray" else work.engine
    precision: Any = work.precision
    return task.task_of(found, named["end_points"], named["pool"], None, None, engine, work.batch, None, precision)


def _plan(sources: list[str], target: str, loaded: Network, work: options.Extraction, named: dict[str, Any]) -> None:
    """Says what an extraction would do, after all that it checks first."""
    from inception.features import dataset
    from inception.features import sources as lists

    listing = lists.listed(sources, work.column)
    asked = _asked(loaded, work, named)
    done = 0
    if (before := dataset.described(target)) is not None:
        listed = {"count": len(listing.items), "digest": listing.digest}
        dataset.check_same(target, before, before | asked.metadata() | {"pictures": listed})
        done, _ = dataset.finished(target)
    count = len(listing.items)
    sides = asked.picture.sides
    record = {"dry_run": True, "out": target, "pictures": count, "to_do": count - done, "end_points": asked.end_points,
              "size": sides, "passed_over": listing.passed_over}  # fmt: skip
    what = f"{', '.join(asked.end_points)} at {sides[1]} x {sides[0]} pixels"
    answer(record, f"{target}: {count - done:,} of {count:,} pictures would be computed, {what}; nothing was done.")


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
