"""What every verb shares: the two streams, answers (text, TSV, JSON), weights by path or id, notes, waiting lines."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
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

    def print(self, *shown: Any, **options: Any) -> None:
        """As rich's own; a table in a pipe is a line a row, its cells between tabs."""
        if len(shown) == 1 and isinstance(shown[0], Table) and not self.is_terminal:
            head = shown[0].show_header
            columns = [[*([column.header] if head else []), *column.cells] for column in shown[0].columns]
            for row in zip(*columns, strict=True):
                self.file.write("\t".join(map(safe, row)).rstrip("\t") + "\n")
            return
        super().print(*shown, **options)

    def render_str(self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any) -> Text:
        return Text(safe(text), style, justify=justify, overflow=overflow)


out = Plain(sys.stdout, soft_wrap=not sys.stdout.isatty())
err = Plain(sys.stderr, stderr=True, soft_wrap=True)


@dataclasses.dataclass
class Asked:
    """What is asked of all verbs: see `options.Common`."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    offline: bool = False


asked = Asked()
log = logging.getLogger("inception")
_waiting: list[str] = []  # notes on the command itself, from before it was known whether they are wanted
_said: set[str] = set()  # notes that are said once a process


def ask(**wanted: bool) -> None:
    """Takes what is asked of all verbs, from here to the next command."""
    asked.__dict__.update(wanted)
    if asked.offline:
        os.environ["INCEPTION_OFFLINE"] = "1"  # which child processes see
    if asked.verbose:
        logging.basicConfig(format="%(relativeCreated)6.0f ms  %(name)s: %(message)s", stream=sys.stderr)
    log.setLevel(logging.DEBUG if asked.verbose else logging.WARNING)
    while _waiting:
        note(_waiting.pop(0))


def later(sentence: str) -> None:
    """A note on how a command is spelled."""
    _waiting.append(sentence)


def note(sentence: object) -> None:
    """A line beside the answer, unless --quiet."""
    if not asked.quiet:
        err.print(f"note: {sentence}", style="yellow")


def say(line: str) -> None:
    """A line on how the work goes, unless --quiet."""
    if not asked.quiet:
        err.print(line)


def complain(error: object) -> None:
    """What ends a command, as one sentence."""
    if isinstance(error, BaseException):
        log.debug("where it happened", exc_info=error)
    err.print(f"inception: {error}", style="red")


def answer(record: Any, *shown: Any) -> None:
    """What a verb found: with --json the record alone, otherwise what is shown (lines and tables)."""
    if asked.json:
        out.file.write(json.dumps(_json(record), indent=1) + "\n")
        return
    for each in shown:
        out.print(each)


def _json(value: Any) -> Any:
    """Of values of JSON alone; a number that is not finite is null."""
    if hasattr(value, "item") and not getattr(value, "shape", ()):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _json(each) for key, each in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_json(each) for each in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def fetched(known: Published) -> Path:
    """A published file on this disk, downloaded if need be."""
    from inception.weights.published import download

    with working(known.file, "MB", 1e6) as move:
        return download.fetch(known, progress=move)


def missing(path: str) -> Published | None:
    """The published file that an id names and that would have to be downloaded."""
    from inception.weights import published

    known = None if os.path.exists(path) else published.find(path)
    return None if known is None or published.cached(known) else known


def described(known: Published, **arguments: Any) -> Network:
    """The network of a published file as the catalogue has it, without arrays: for what is checked before a download.

    Arguments as those of `network_of`.
    """
    from inception.networks import network_of
    from inception.weights import Source, Weights

    return network_of(Weights({}, known.variant, Source(known.id, known.family), picture=known.picture), **arguments)


def load(path: str, moving_averages: bool = False, exclude: Sequence[str] = ()) -> Weights:
    from inception.weights import load, published

    known = None if os.path.exists(path) else published.find(path)
    place = fetched(known) if known else path
    with noted(), working(f"reading {path}"):
        return load(place, moving_averages=moving_averages, exclude=exclude)


def network(path: str, check: Callable[[Network], Any] | None = None, **arguments: Any) -> Network:
    """The network at a path or id, "imagenet" being Keras's own file; arguments as those of `network_of`.

    Args:
        check: what looks at names; of a published file before it is fetched too, with the network as it is `described`.
    """
    from inception import quiet
    from inception.networks import description, network_of, trained_folder
    from inception.weights import published

    if (folder := trained_folder(path)) and description(folder)["end_point"] != "PreLogits":  # to be built
        quiet.import_tensorflow()
    known = None if os.path.exists(path) else published.find(path)
    if known and check:
        check(described(known, **arguments))
    place = fetched(known) if known else path
    with noted(), working(f"reading {path}"):
        found = network_of(place, **arguments)
    if check:
        check(found)
    log.info("%s is read", found.name)
    return found


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
    from inception.weights.canonical import UnverifiedFile

    for warning in caught:
        sentence = str(warning.message)
        if not issubclass(warning.category, UserWarning) or sentence in _said:
            continue
        if issubclass(warning.category, UnverifiedFile):
            _said.add(sentence)
        note(sentence)


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
    moving = err.is_terminal and not asked.quiet
    # On a stream of its own: while TensorFlow is imported nothing else of stderr is seen (`quiet`).
    stream = os.fdopen(os.dup(sys.stderr.fileno()), "w") if moving else sys.stderr
    bar = Progress(*columns, console=Plain(stream, file=stream), transient=True, disable=not moving)
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
        if moving:
            stream.close()
