"""What every verb shares: the two streams, weights by path or id, notes and waiting lines."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
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


Way = Annotated[
    str | None,
    typer.Option(
        "--picture",
        help="How a picture becomes the input: keras, slim, google_2015, torchvision, timm, whole, ..., "
        "and fields as in slim,size=107 or upright=false; the network's own.",
    ),
]
WeightFile = Annotated[
    str, typer.Argument(help="A weight file of any format, a checkpoint's prefix, or the id of a published file.")
]
Precision = Annotated[str, typer.Option(help="float32; bfloat16, twice as fast where the processor has it; int8.")]
Least = Annotated[
    float, typer.Option(min=0, max=1, help="Of int8 with float32 on some of the pictures; below it is refused.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there; without, it is refused.")]


def fetched(known: Published) -> Path:
    """A published file on this disk, downloaded if need be."""
    from inception.weights.published import download

    with working(known.file, "MB", 1e6) as move:
        return download.fetch(known, progress=move)


def load(path: str, moving_averages: bool = False, exclude: Sequence[str] = ()) -> Weights:
    from inception.weights import load, published

    known = None if os.path.exists(path) else published.find(path)
    place = fetched(known) if known else path
    with noted(), working(f"reading {path}"):
        return load(place, moving_averages=moving_averages, exclude=exclude)


def network(path: str, **arguments: Any) -> Network:
    """The network at a path or id, "imagenet" being Keras's own file; arguments as those of `network_of`."""
    from inception import quiet
    from inception.networks import description, network_of, trained_folder
    from inception.weights import published

    if (folder := trained_folder(path)) and description(folder)["end_point"] != "PreLogits":  # to be built
        quiet.import_tensorflow()
    known = None if os.path.exists(path) else published.find(path)
    place = fetched(known) if known else path
    with noted(), working(f"reading {path}"):
        return network_of(place, **arguments)


def quietly(loaded: Network, engine: str = "auto") -> None:
    """Imports TensorFlow without its lines where it is what the network runs on; nowhere else."""
    from inception import inference, quiet

    if loaded.model is not None or "tensorflow" in (engine, inference.preferred() if engine == "auto" else ""):
        quiet.import_tensorflow()


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
def working(what: str, unit: str = "", each: float = 1) -> Iterator[Callable[..., None]]:
    """A moving line on a terminal while something takes longer than a second; nothing in a pipe.

    What libraries print to stdout meanwhile (Ray, of a worker that died) goes to stderr: stdout is a command's answer.
    Yields a function of (done, of how many or None, words in place of `what`), which makes a bar of it.

    Args:
        what: what is being done.
        unit: what is counted, as "images", shown with the speed.
        each: how many of what the function is given make one unit, as 1e6 bytes a MB.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    text = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[count]}", markup=False)
    columns = text[0], BarColumn(), text[1], TimeElapsedColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    task = bar.add_task(safe(what), total=None, count="")

    def move(done: float, total: float | None, words: str = "") -> None:
        bar.update(task, completed=done, total=total, description=safe(words or what))
        speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
        rate = f", {speed / each:.1f} {unit}/s" if speed and unit else ""
        bar.update(task, count=f"{done / each:,.0f}/{(total or 0) / each:,.0f} {unit}{rate}" if total else "")

    start = threading.Timer(1, bar.start)
    start.daemon = True
    start.start()
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield move
    finally:
        start.cancel()
        start.join()
        bar.stop()
