"""The verb microscope."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli.terminal import Way, WeightFile, complain, network, noted, out, quietly, working

if TYPE_CHECKING:
    from inception.microscope import Summary

Out = Annotated[Path, typer.Option("--out", "-o", metavar="SITE", help="The folder; run again, it goes on.")]
Images = Annotated[
    list[str] | None,
    typer.Option("--images", help="Pictures, folders, globs, archives that all channels are shown; may be repeated."),
]
Looks = Annotated[
    list[Path] | None, typer.Option("--look", help="A picture that gets a page of its own; may be repeated.")
]
Points = Annotated[
    list[str] | None, typer.Option("--end-point", help="End points that get a page, with commas or repeated; all.")
]


def microscope(
    weights: WeightFile,
    out_: Out,
    images: Images = None,
    look: Looks = None,
    beside: Annotated[str | None, typer.Option(help="Another network of the same shape, to compare with.")] = None,
    end_point: Points = None,
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line.")] = None,
    picture: Way = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the input; the weights' own.")] = None,
    channels: Annotated[int, typer.Option(min=0, help="Of each end point, with a picture that excites them.")] = 32,
    best: Annotated[int, typer.Option(min=1, help="Crops of the images for each channel.")] = 4,
    objective: Annotated[str, typer.Option(help="What excites: the mean, centre or maximum of a channel.")] = "mean",
    steps: Annotated[int, typer.Option(min=1, help="Of the ascent to each picture.")] = 64,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="After which no further picture is begun; the same command goes on.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    engine: Annotated[
        str, typer.Option(help="That sees the images: openvino, onnxruntime, tensorflow, auto.")
    ] = "auto",
    precision: Annotated[str, typer.Option(help="Of the engine: float32, or bfloat16.")] = "float32",
    batch: Annotated[int, typer.Option(min=1, help="Images in each run of the engine.")] = 8,
    force: Annotated[bool, typer.Option("--force", help="Make the site of another network anew.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was made, as one line of JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but what goes wrong.")] = False,
) -> None:
    """Writes a site to look into a whole network: its map, its channels, your pictures; no server, no network."""
    loaded = network(weights, picture=picture, size=size, labels=labels)
    other = network(beside) if beside else None
    if channels:
        quietly(loaded, "tensorflow")
    from inception.microscope import WAVES
    from inception.microscope import microscope as run

    options: dict[str, Any] = {
        "images": images or (),
        "looks": look or (),
        "beside": other,
        "end_points": [name for text in end_point for name in text.split(",")] if end_point else None,
        "channels": channels,
        "best": best,
        "ascent": dataclasses.replace(WAVES, objective=objective, steps=steps),
        "minutes": minutes,
        "seed": seed,
        "engine": engine,
        "precision": precision,
        "batch": batch,
        "force": force,
        "dry_run": dry_run,
    }
    try:
        with noted(), working("microscope") as move:
            made = run(loaded, out_, **options, progress=move)
    except KeyboardInterrupt:
        complain(f"stopped; what is finished stays in {out_}. The same command goes on.")
        raise typer.Exit(130) from None
    if as_json:
        said = dataclasses.asdict(made) | {"site": str(made.site)}
        out.print(json.dumps(said))
    elif not quiet:
        for line in _lines(made, dry_run):
            out.print(line)


def _lines(made: Summary, dry_run: bool) -> list[str]:
    done, wanted = made.excited
    pages = f"{made.pages} end points, {made.channels:,} channels"
    if dry_run:
        return [f"{made.site}: {pages}, {wanted:,} of them to be excited, {made.pictures[0]:,} pictures to be seen"]
    seen = f"{made.pictures[0]:,} pictures seen" + (f", {made.pictures[1]:,} unread" if made.pictures[1] else "")
    left = f"{done:,} of {wanted:,} pictures that excite channels"
    lines = [f"made {made.site / 'index.html'}: {pages}, {seen}, {left}"]
    lines.append(f"  {made.bytes / 1e6:.1f} MB, in {made.seconds:.0f} s")
    if done < wanted:
        lines.append("  out of time; the same command goes on")
    return lines
