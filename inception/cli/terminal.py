"""What every verb shares: the app, the two streams, weights by path or id, notes and waiting lines."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from inception.networks import Network
    from inception.weights import Weights
    from inception.weights.published import Published

app = typer.Typer(
    help="InceptionV3: weight files of every kind, read, converted, proven and used.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, soft_wrap=True)

# The groups of verbs in the help.
FILES, USE, SEE = "Weight files", "What people do with the network", "What the network sees"

Way = Annotated[
    str | None,
    typer.Option(
        "--picture",
        help="How a picture becomes the input: keras, slim, google_2015, torchvision, timm, whole, ..., "
        "and fields as in slim,size=107 or upright=false; the network's own.",
    ),
]
Source = Annotated[
    str, typer.Argument(help="A weight file of any format, a checkpoint's prefix, or the id of a published file.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there; without, it is refused.")]


def fetched(known: Published) -> Path:
    """A published file on this disk, downloaded under a bar if that takes longer than a second."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    from inception.weights import download

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    task, began = bar.add_task(known.file), time.perf_counter()

    def show(done: int, total: int | None) -> None:
        bar.update(task, completed=done, total=total)
        if time.perf_counter() - began > 1:
            bar.start()

    try:
        return download.fetch(known, progress=show)
    finally:
        bar.stop()


def load(path: str, moving_averages: bool = False, exclude: Sequence[str] = ()) -> Weights:
    from inception.weights import load, published

    known = None if os.path.exists(path) else published.find(path)
    place = fetched(known) if known else path
    with noted(), working(f"reading {path}"):
        return load(place, moving_averages=moving_averages, exclude=exclude)


def network(path: str, **arguments: Any) -> Network:
    """The network at a path or id, "imagenet" being Keras's own file; arguments as those of `network_of`."""
    from inception import quiet
    from inception.networks import network_of, trained_folder
    from inception.weights import published

    if trained_folder(path):  # which may have to be built
        quiet.import_tensorflow()
    known = None if os.path.exists(path) else published.find(path)
    place = fetched(known) if known else path
    with noted(), working(f"reading {path}"):
        return network_of(place, **arguments)


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Warnings as notes, a line each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            err.print(f"note: {warning.message}", style="yellow", markup=False)


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A moving line on a terminal while something takes its time; nothing in a pipe."""
    if not err.is_terminal:
        yield
        return
    with err.status(what):
        yield
