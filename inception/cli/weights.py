"""Verbs over weight files: convert, inspect, verify, published."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inception.cli.terminal import Force, Way, WeightFile, load, network, noted, out, quietly, working
from inception.pictures import WORDS

if TYPE_CHECKING:
    from inception.weights import Weights
    from inception.weights.published import Published

Averages = Annotated[bool, typer.Option(help="Take a training checkpoint's moving averages.")]


def convert(
    source: WeightFile,
    target: Annotated[Path, typer.Argument(help="The file to write; its ending names the format: .h5, .ckpt, ...")],
    step: Annotated[
        list[str] | None,
        typer.Option(help="drop-background, add-background, drop-aux, drop-top, fold-gamma or drop-extra."),
    ] = None,
    to: Annotated[str | None, typer.Option("--format", help="The format, where the ending does not tell.")] = None,
    moving_averages: Averages = False,
    exclude: Annotated[list[str] | None, typer.Option(help="A scope of a checkpoint to leave out.")] = None,
    force: Force = False,
) -> None:
    """Converts a weight file into another format, every tensor exactly once."""
    from inception.weights import formats

    to = formats.check_target(target, to, overwrite=force, source=source)
    started = time.perf_counter()
    weights = load(source, moving_averages, exclude or ())
    for name in step or []:
        weights = weights.step(name)
    with noted(), working(f"writing {target}"):
        weights.save(target, to, overwrite=force)
    out.print(f"{source} -> {target}: {len(weights.arrays)} arrays, {weights.parameters:,} values, "
              f"{time.perf_counter() - started:.1f} s")  # fmt: skip
    for note in weights.source.notes:
        out.print(f"  {note}")


def inspect(source: WeightFile, moving_averages: Averages = False) -> None:
    """Says what a weight file is: format, network, classes, heads, width, and which published file."""
    weights = load(source, moving_averages) if moving_averages else network(source).inception
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(weights):
        table.add_row(name, str(value))
    out.print(table)


def _facts(weights: Weights) -> Iterator[tuple[str, object]]:
    variant, source = weights.variant, weights.source
    yield "file", source.path
    yield "format", source.format
    yield "network", "InceptionV3" + (f" x {variant.depth_multiplier:g}" if variant.depth_multiplier != 1 else "")
    yield "published as", source.published or "no published file that is known here"
    yield "classifier", f"{variant.num_classes} classes" if variant.num_classes else "none (notop)"
    yield "background class", "yes, class 0" if variant.background else "no"
    kernel = "x".join(map(str, variant.aux_kernel))
    yield "auxiliary head", f"yes, last kernel {kernel}" if variant.aux_logits else "no"
    yield "batch norm gamma", "yes" if variant.gamma else "no"
    yield "batch norm epsilon", f"{variant.epsilon:g}"
    yield "width", f"depth_multiplier {variant.depth_multiplier:g}, min_depth {variant.min_depth}"
    yield "average pools", f"{variant.border} the border"
    yield "last pool", variant.last_pool
    picture = weights.picture
    yield "picture", f"{picture}: {WORDS[str(picture.at(299))]}" if str(picture.at(299)) in WORDS else str(picture)
    yield "pixels", f"(x - {_numbers(picture.mean)}) / {_numbers(picture.scale)}"
    yield "made for", f"{picture.sides[1]} x {picture.sides[0]} pixels"
    yield "parameters", f"{weights.parameters:,} in {len(weights.arrays)} arrays"
    yield "integrity", source.integrity
    for note in source.notes:
        yield "note", note


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in (values[:1] if len(set(values)) == 1 else values))


def verify(
    a: WeightFile,
    b: Annotated[str, typer.Argument(help="The file to compare it with; none with --against.")] = "",
    against: Annotated[str, typer.Option(help="Instead of a file: keras or torch, the peer's own network.")] = "",
    builder: Annotated[
        str, typer.Option(help="own, each file's own; keras; slim; or none: the inference engine, without TensorFlow.")
    ] = "own",
    image: Annotated[Path | None, typer.Option(help="A picture; one made here where none is given.")] = None,
    size: Annotated[int | None, typer.Option(min=1, help="Its size in pixels; what the weights were made for.")] = None,
    picture: Way = None,
    tolerance: Annotated[
        float | None, typer.Option(help="The largest relative difference allowed; 1e-5, and 1e-4 of torch.")
    ] = None,
) -> None:
    """Runs one picture through two weight files, each in its own builder, and compares every end point."""
    from inception import images
    from inception import verify as verification

    if bool(b) == bool(against) or against not in ("", "keras", "torch"):
        raise ValueError("verify takes a second file, or --against keras, or --against torch; give one of them.")
    if builder not in ("own", "keras", "slim", "none"):
        raise ValueError(f"--builder is {builder}; expected own, keras, slim or none.")
    if tolerance is None:
        tolerance = 1e-4 if against == "torch" else 1e-5
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"--tolerance is {tolerance:g}; expected a number from 0 (no difference at all) up.")
    loaded = network(a, picture=picture, size=size)
    first = loaded.inception
    second = network(b).inception if b else verification.as_peer_runs(first, against)  # type: ignore[arg-type]
    pixels = first.picture.resized(image or images.test_picture(299))
    builders: list[Any] = [verification.own_builder(w) if builder == "own" else builder for w in (first, second)]
    names = ["inference engine" if name == "none" else f"{name} builder" for name in builders]
    if against:
        names[1] = f"{against}'s own network"
    with working(f"running the {names[0]} and the {names[1]} at {pixels.shape[1]} x {pixels.shape[0]}"):
        quietly(loaded, "auto" if builder == "none" and against != "keras" else "tensorflow")
        if against:
            theirs = verification.peer_end_points(first, pixels, against)  # type: ignore[arg-type]
            rows = verification.differences(verification.end_points(first, pixels, builders[0]), theirs)
        else:
            rows = verification.compare(first, second, pixels, (builders[0], builders[1]))
    out.print(f"a: {a} ({names[0]})")
    out.print(f"b: {b or a} ({names[1]})")
    _verdict(rows, tolerance, verification.reasons(first, second))


def _verdict(rows: list[Any], tolerance: float, reasons: list[str]) -> None:
    """Prints the table and what it says; exits with 1 where an end point differs."""
    out.print(differences_table(rows, tolerance))
    worst = max(rows, key=lambda row: row.relative)
    verdict = "equal" if worst.relative <= tolerance else "DIFFERENT"
    summary = f"largest relative difference {worst.relative:.2e} at {worst.end_point}"
    if not worst.finite:
        summary = f"{worst.end_point} has numbers that are not finite"
    out.print(f"{verdict}: {summary} (allowed {tolerance:g})")
    if worst.relative > tolerance:
        out.print(f"first different end point: {next(row.end_point for row in rows if row.relative > tolerance)}")
        for reason in reasons:
            out.print(f"  {reason}")
        raise typer.Exit(1)


def differences_table(rows: list[Any], tolerance: float) -> Table:
    """A row an end point, as `verify` prints it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("end point")
    for name in ("shape", "max abs", "max rel", "cosine", ""):
        table.add_column(name, justify="right")
    for row in rows:
        shape = "x".join(map(str, row.shape))
        mark = "" if row.relative <= tolerance else "<- differs"
        table.add_row(row.end_point, shape, f"{row.absolute:.2e}", f"{row.relative:.2e}", f"{row.cosine:.9f}", mark)
    return table


def published(
    id: Annotated[str | None, typer.Argument(help="One of them, to see everything that is known of it.")] = None,
) -> None:
    """Lists the published weight files by their ids, which every command takes where it takes a weight file."""
    from inception.weights import CheckpointError, published
    from inception.weights.published import catalogue

    if id is None:
        out.print(_published_table(catalogue.FILES))
        out.print()
        for line in _PUBLISHED_KEY:
            out.print(line)
        return
    if (known := published.find(id)) is None:
        raise CheckpointError(f"{id} is no id of a published file; `inception published` lists them.")
    for name, value in _published_facts(known):
        out.print(f"{name:<15}{value or 'unknown'}", soft_wrap=True)


_PUBLISHED_KEY = (
    "here     no: downloaded when it is asked for; by hand: fetch it and give its path; unread: no reader takes it",
    "digest   sha256/8: only the first 8 digits are known; enough to recognise a file, not to tell a forgery",
)


def _published_table(files: Iterable[Published]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("id", "family", "size", "classes", "top-1/5", "digest", "here"):
        table.add_column(name, justify="right" if name in ("size", "classes", "top-1/5") else "left", no_wrap=True)
    for known in files:
        facts = dict(_published_facts(known))
        table.add_row(*(facts[str(column.header)] or "unknown" for column in table.columns))
    return table


def _published_facts(known: Published) -> Iterator[tuple[str, str | None]]:
    from inception.weights import published

    classes, place = known.variant.num_classes, published.cached(known)
    missing = "no" if known.digest and known.url else "by hand"
    yield "id", known.id
    yield "family", known.family
    yield "file", known.file
    yield "address", known.url
    yield "size", f"{known.size / 1e6:.1f} MB" if known.size else None
    yield "bytes", f"{known.size:,}" if known.size else None
    yield "digest", known.digest
    yield "hex", known.hex
    yield "classes", str(classes or "none")
    yield "top-1/5", (f"{known.top1:.1f}/{known.top5:.1f}" if known.top1 else None) if classes else "none"
    yield "measured with", known.protocol
    yield "recipe", known.recipe
    yield "licence", known.licence
    yield "here", "yes" if place else "unread" if known.unread else missing
    if place:
        yield "path", os.fspath(place)
