"""What every verb shares: the app, the two streams, weights by path or id, notes and waiting lines."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

from inception.files.errors import safe

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
_WIDEST = 1000  # columns of a table in a pipe, where nobody's terminal is the limit


class Plain(Console):
    """A stream on which a text is shown and never obeyed: no markup, no emoji names, no controls (`errors.safe`).

    That holds for every string that is printed, a table's cells and headings included.
    """

    def __init__(self, stream: TextIO, **options: Any) -> None:
        columns = None if stream.isatty() or "COLUMNS" in os.environ else _WIDEST
        super().__init__(highlight=False, width=columns, **options)

    def render_str(self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any) -> Text:
        return Text(safe(text), style, justify=justify, overflow=overflow)


out = Plain(sys.stdout, soft_wrap=not sys.stdout.isatty())
err = Plain(sys.stderr, stderr=True, soft_wrap=True)


def complain(error: object) -> None:
    """What ends a command, as one sentence."""
    err.print(f"inception: {error}", style="red")


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

    from inception.weights.published import download

    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
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
            err.print(f"note: {warning.message}", style="yellow")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A moving line on a terminal while something takes its time; nothing in a pipe."""
    if not err.is_terminal:
        yield
        return
    with err.status(Text(safe(what))):
        yield
