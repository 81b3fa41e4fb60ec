"""Pictures as verbs take them: from whatever `features` reads or stdin; one that is bad costs a line, not the rest."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from inception.cli import terminal

if TYPE_CHECKING:
    from inception.features.reading import Read
    from inception.features.sources import Item
    from inception.networks import Network

STDIN = "-"
_BATCH = 16
_kept: list[str] = []  # the file of the picture that came by stdin


def named(sources: Sequence[str]) -> list[str]:
    """The sources, those that stdin names in the place of "-": text is names, one a line; all else is a picture."""
    return [name for source in sources for name in (_stdin() if source == STDIN else [source])]


def _stdin() -> list[str]:
    from inception.features.sources import MOST_BYTES

    content = sys.stdin.buffer.read(MOST_BYTES + 1)
    try:
        names = [line for line in content.decode("utf-8").splitlines() if line.strip()]
        if "\0" not in "".join(names):
            if not names:
                raise ValueError("Nothing came by stdin; expected a picture, or names of pictures, one a line.")
            return names
    except UnicodeDecodeError:
        pass
    _kept.append(_file("stdin", content))
    return [_kept[-1]]


def _file(name: str, content: bytes) -> str:
    """A file until the process ends."""
    folder = tempfile.mkdtemp(prefix="inception-stdin-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, name).write_bytes(content)
    return os.path.join(folder, name)


def side(source: str) -> str:
    """A side of a comparison; of stdin's names a list of them."""
    return _file("stdin.txt", "\n".join(_stdin()).encode()) if source == STDIN else source


def listed(given: Sequence[str]) -> list[Item]:
    """All pictures that sources name, each once, in the order of the sources. ValueError for a source without any."""
    from inception.features import sources

    return list(dict.fromkeys(item for name in named(given) for item in sources.listed(name).items))


def name(path: str) -> str:
    """What a picture is called in an answer."""
    return STDIN if path in _kept else path


def read(items: Sequence[Item], loaded: Network) -> Iterator[list[Read]]:
    """Batches of pictures as the network takes them, or with the reason why they cannot be read."""
    from inception.features import reading

    run = partial(reading.read, tensors=lambda pixels: [loaded.input(pixels)], upright=loaded.picture.upright)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for start in range(0, len(items), _BATCH):
            yield list(pool.map(run, items[start : start + _BATCH]))


def skipped(path: str, reason: object) -> None:
    """The line that a bad picture costs."""
    said = str(reason).replace(path, name(path))
    terminal.err.print(f"skipped: {said if name(path) in said else f'{name(path)}: {said}'}", style="yellow")


def unread(item: Item) -> Any:
    """What a function that takes pictures takes: a file's path as it is, pixels of what lies elsewhere."""
    return item.path if os.path.isfile(item.path) else image(item)


def image(item: Item, upright: bool = True) -> Any:
    """A file's path, once it is known to be a picture; pixels, where it lies in a store or an archive."""
    from inception.features import reading

    found = reading.read(item, lambda pixels: [pixels], upright)
    if found.reason:
        raise ValueError(found.reason)
    return item.path if os.path.isfile(item.path) else found.tensors[0]


def drawn(given: Sequence[str], out: Path, force: bool) -> list[tuple[Item, Path]]:
    """Each picture with the file to draw it to: OUT itself of one, NAME.png in the folder OUT of several.

    ValueError, before any work, where a file cannot be written, and for a picture alone that cannot be read.
    """
    from inception.visualize import pictures

    if len(items := listed(given)) == 1 and not out.is_dir():
        pictures.check_target(out, force, [items[0].path])
        image(items[0])
        return [(items[0], out)]
    if out.suffix.lower() in pictures.ENDINGS:
        raise ValueError(f"{len(items)} pictures are given, and {out} is one; give a folder.")
    if not out.is_dir() and (out.exists() or not out.absolute().parent.is_dir()):
        raise ValueError(f"{out} is no folder, nor one that can be made; give a folder for {len(items)} pictures.")
    places = [(item, out / f"{Path(item.path).stem}.png") for item in items]
    if len({target for _, target in places}) < len(places):
        raise ValueError("Two of the pictures have the same name, and one drawing would replace the other; rename one.")
    for item, target in places if out.is_dir() else ():
        pictures.check_target(target, force, [item.path])
    return places


def each(places: Sequence[tuple[Item, Path]], work: Any) -> None:
    """Draws all that can be read; `work(image, target)` gives its record and lines. Exit code 1 with a bad one.

    The answer is a record, of several pictures a list of them.
    """
    records, lines = [], []
    for item, target in places:
        try:
            picture = image(item)
        except ValueError as error:
            skipped(item.path, error)
            records.append({"picture": name(item.path), "error": str(error)})
            continue
        target.parent.mkdir(exist_ok=True)
        record, shown = work(picture, target)
        records.append({"picture": name(item.path), **record})
        lines += [*shown]
    terminal.answer(records if len(places) > 1 else records[0], *lines)
    if any("error" in record for record in records):
        raise typer.Exit(1)
