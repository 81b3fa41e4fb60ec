"""Verbs over weight files: convert, inspect, verify, published."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inception.arguments import nearest
from inception.cli import options, pictures
from inception.cli.terminal import answer, load, network, noted, out, quietly, working
from inception.pictures import WORDS

if TYPE_CHECKING:
    from inception.weights import Weights
    from inception.weights.published import Published

STEPS = "drop-background|add-background|drop-aux|drop-top|drop-extra|fold-gamma"
FORMATS = "keras-h5|keras|keras-weights|slim|slim-v1|torch|safetensors|safetensors-slim|npz|graph-def"


def convert(
    source: options.WeightFile,
    target: Annotated[
        Path, typer.Argument(help="Or -o: the file to write; its ending names the format: .h5, .ckpt, ...")
    ],
    step: Annotated[
        list[str] | None, options.some_of("--step", STEPS, "Changes on the way, in this order, with commas.")
    ] = None,
    to: Annotated[
        str | None, options.one_of("--format", FORMATS, "The format, where the ending does not tell.")
    ] = None,
    moving_averages: options.Averages = False,
    exclude: Annotated[list[str] | None, typer.Option(help="A scope of a checkpoint to leave out.")] = None,
    force: options.Force = False,
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
    seconds, counts = time.perf_counter() - started, f"{len(weights.arrays)} arrays, {weights.parameters:,} values"
    record = {"out": target, "format": to, "arrays": len(weights.arrays), "values": weights.parameters}
    record |= {"notes": weights.source.notes, "seconds": seconds}
    notes = (f"  {note}" for note in weights.source.notes)
    answer(record, f"{source} -> {target}: {counts}, {seconds:.1f} s", *notes)


def inspect(source: options.WeightFile, moving_averages: options.Averages = False) -> None:
    """Says what a weight file is: format, network, classes, heads, width, and which published file."""
    weights = load(source, moving_averages) if moving_averages else network(source).inception
    table = Table.grid(padding=(0, 2))
    for name, value in _facts(weights):
        table.add_row(name, str(value))
    kept = weights.source
    record = {"file": kept.path, "format": kept.format, "published": kept.published, "integrity": kept.integrity}
    record |= dataclasses.asdict(weights.variant) | {"picture": weights.picture.json(), "notes": kept.notes}
    answer(record | {"arrays": len(weights.arrays), "parameters": weights.parameters}, table)


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
    a: options.WeightFile,
    b: Annotated[str, typer.Argument(help="The file to compare it with; none with --against.")] = "",
    against: Annotated[
        str, options.one_of("--against", "keras|torch", "Instead of a file: the peer's own network.")
    ] = "",
    builder: Annotated[
        str,
        options.one_of("--builder", "own|keras|slim|none", "own: each file's; none: the engine, without TensorFlow."),
    ] = "own",
    image: Annotated[
        str | None, typer.Option(help="A picture, or - for stdin; one made here where none is given.")
    ] = None,
    size: options.Size = None,
    picture: options.Way = None,
    tolerance: Annotated[
        float | None, typer.Option(help="The largest relative difference allowed; 1e-5, and 1e-4 of torch.")
    ] = None,
) -> None:
    """Runs one picture through two weight files, each in its own builder, and compares every end point."""
    from inception import images
    from inception import verify as verification

    if bool(b) == bool(against):
        raise ValueError("verify takes a second file, or --against keras, or --against torch; give one of them.")
    if tolerance is None:
        tolerance = 1e-4 if against == "torch" else 1e-5
    if not 0 <= tolerance < float("inf"):
        raise ValueError(f"--tolerance is {tolerance:g}; expected a number from 0 (no difference at all) up.")
    shown = _only(image) if image else images.test_picture(299)
    loaded = network(a, picture=picture, size=size)
    first = loaded.inception
    second = network(b).inception if b else verification.as_peer_runs(first, against)  # type: ignore[arg-type]
    pixels = first.picture.resized(shown)
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
    sides = {"a": a, "b": b or a, "a_runs_in": names[0], "b_runs_in": names[1]}
    _verdict(sides, rows, tolerance, verification.reasons(first, second))


def _only(image: str) -> Any:
    items = pictures.listed([image])
    if len(items) > 1:
        raise ValueError(f"--image is {image}, which has {len(items)} pictures; give one.")
    return pictures.image(items[0])


def _verdict(sides: dict[str, str], rows: list[Any], tolerance: float, reasons: list[str]) -> None:
    """Says the table and what it means; exits with 1 where an end point differs."""
    worst = max(rows, key=lambda row: row.relative)
    verdict = "equal" if worst.relative <= tolerance else "DIFFERENT"
    summary = f"largest relative difference {worst.relative:.2e} at {worst.end_point}"
    if not worst.finite:
        summary = f"{worst.end_point} has numbers that are not finite"
    first = next((row.end_point for row in rows if row.relative > tolerance), None)
    lines = [f"{name}: {sides[name]} ({sides[f'{name}_runs_in']})" for name in "ab"]
    more = [f"first different end point: {first}", *(f"  {reason}" for reason in reasons)] if first else []
    record = sides | {"equal": not first, "tolerance": tolerance, "end_points": differences(rows)}
    record |= {"first_different": first, "reasons": reasons if first else []}
    table = differences_table(rows, tolerance)
    answer(record, *lines, table, f"{verdict}: {summary} (allowed {tolerance:g})", *more)
    if first:
        raise typer.Exit(1)


def differences(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """The rows of `differences_table` as JSON has them."""
    keys = ("end_point", "shape", "absolute", "relative", "cosine", "finite")
    return [{key: getattr(row, key) for key in keys} for row in rows]


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
    from inception.weights import CheckpointError
    from inception.weights.published import catalogue

    ids = {catalogue.IMAGENET: catalogue.FILES[0]} | {known.id: known for known in catalogue.FILES}
    if id is None:
        key = ("", *_PUBLISHED_KEY) if out.is_terminal else ()
        answer([_published_record(name, known) for name, known in ids.items()], _published_table(ids), *key)
        return
    if id not in ids:
        raise CheckpointError(f"{id} is no id of a published file{nearest(id, ids)}; `inception published` lists them.")
    facts = _published_facts(ids[id])
    answer(_published_record(id, ids[id]), *(f"{name:<15}{value or 'unknown'}" for name, value in facts))


_PUBLISHED_KEY = (
    "here     no: downloaded when it is asked for; by hand: fetch it and give its path; unread: no reader takes it",
    "digest   sha256/8: only the first 8 digits are known; enough to recognise a file, not to tell a forgery",
)


def _published_table(files: Mapping[str, Published]) -> Table:
    """An id is never cut, however narrow the terminal is."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column("id", no_wrap=True, min_width=max(map(len, files)))
    for name in ("family", "size", "classes", "top-1/5", "digest", "here"):
        table.add_column(name, justify="right" if name in ("size", "classes", "top-1/5") else "left", overflow="fold")
    for id, known in files.items():
        facts = dict(_published_facts(known)) | {"id": id}
        table.add_row(*(facts[str(column.header)] or "unknown" for column in table.columns))
    return table


def _published_record(id: str, known: Published) -> dict[str, Any]:
    fields = ("family", "file", "url", "size", "digest", "hex", "top1", "top5", "protocol", "licence", "unread")
    facts = dict(_published_facts(known))
    record = {"id": id, **{name: getattr(known, name) for name in fields}, "classes": known.variant.num_classes}
    return record | {"here": facts["here"], "path": facts.get("path")}


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
