"""The verb microscope."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli import options
from inception.cli.terminal import answer, complain, network, working

if TYPE_CHECKING:
    from inception.networks import Network

Out = Annotated[Path, typer.Option("--out", "-o", metavar="SITE", help="The folder; run again, it goes on.")]
Images = Annotated[
    list[str] | None,
    typer.Option("--images", help="Pictures, folders, globs, archives that all channels are shown; said again, more."),
]
Looks = Annotated[list[Path] | None, typer.Option("--look", help="A picture with a page of its own; said again, more.")]
Precision = Annotated[str, options.one_of("--precision", "float32|bfloat16", "Of the engine that sees the images.")]


def microscope(
    weights: options.WeightFile,
    out: Out,
    images: Images = None,
    look: Looks = None,
    beside: Annotated[str | None, typer.Option(help="Another network of the same base, to compare with.")] = None,
    end_point: options.EndPoints = None,
    labels: options.Labels = None,
    picture: options.Way = None,
    size: options.Size = None,
    channels: Annotated[int, typer.Option(min=0, help="Of each end point, with a picture that excites them.")] = 32,
    best: Annotated[int, typer.Option(min=1, help="Crops of the images for each channel.")] = 4,
    objective: options.Objective = "mean",
    steps: Annotated[int, typer.Option(min=1, help="Of the ascent to each picture.")] = 64,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="After which no further picture is begun; the same command goes on.")
    ] = None,
    seed: options.Seed = 0,
    engine: options.EngineHere = "auto",
    precision: Precision = "float32",
    batch: options.Batch = None,
    force: options.Force = False,
    dry_run: options.DryRun = False,
) -> None:
    """Writes a site to look into a whole network: its map, its channels, your pictures; no server, no network."""
    from inception.microscope import WAVES, pages_of
    from inception.microscope import microscope as run

    def check(found: Network) -> None:
        pages_of(found, end_point or None)

    loaded = network(weights, check, picture=picture, size=size, labels=labels)
    given: dict[str, Any] = {"images": images or (), "looks": look or (), "end_points": end_point or None}
    given |= {"channels": channels, "best": best, "minutes": minutes, "seed": seed, "batch": batch or 8}
    given |= {"ascent": dataclasses.replace(WAVES, objective=objective, steps=steps), "force": force}
    given |= {"engine": engine, "precision": precision, "beside": network(beside) if beside else None}
    try:
        with working("microscope") as move:
            made = run(loaded, out, **given, dry_run=dry_run, progress=move)
    except KeyboardInterrupt:
        complain(f"stopped; what is finished stays in {out}. The same command goes on.")
        raise typer.Exit(130) from None
    done, wanted = made.excited
    pages = f"{made.pages} end points, {made.channels:,} channels"
    seen = f"{made.pictures[0]:,} pictures" + (f" ({made.pictures[1]:,} unread)" if made.pictures[1] else "")
    lines = [f"{out}: {pages}, {wanted:,} of them to be excited; {seen} to be seen"]
    if not dry_run:
        lines = [f"made {out / 'index.html'}: {pages}; {done:,} of {wanted:,} excited, {seen} seen"]
        lines += [f"  {made.bytes / 1e6:.1f} MB, in {made.seconds:.0f} s"]
        lines += ["  out of time; the same command goes on"] if done < wanted else []
    record = {"out": str(out)} | {key: value for key, value in dataclasses.asdict(made).items() if key != "site"}
    answer(record, *lines)
