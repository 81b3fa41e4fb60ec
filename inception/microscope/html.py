"""The frame of every page, and its small parts. Somebody else's words come in by `brief.text`."""

from __future__ import annotations

import importlib.resources
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from inception.microscope.pieces import PICTURES, write

ASSETS = ("site.css", "channels.js", "look.js")
INDEX = "index.html"


def title(network: str) -> str:
    """What a network is called on a page: its file's name; of a fine-tuned folder's model, the folder's too."""
    path = Path(network)
    return f"{path.parent.name}/{path.name}" if path.stem == "model" and path.parent.name else path.name or network


def number(value: float) -> str:
    """Three digits of a number: 0.0123, 1.23, 1,230."""
    if not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def page(
    title: str, body: str, way: Sequence[tuple[str, str]], root: str = "", scripts: Sequence[str] = (), head: str = ""
) -> str:
    """A whole page.

    Args:
        title, body: markup.
        way: (where to, markup) of the links at the top.
        root: what leads from the page to the site's folder, as "../".
        scripts: files that run when the page is there.
        head: markup.
    """
    links = "".join(f'<a href="{escape(target)}">{words}</a>' for target, words in way)
    run = "".join(f'<script defer src="{escape(script)}"></script>' for script in scripts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title>'
        f'<link rel="stylesheet" href="{root}site.css">{head}{run}</head><body>'
        '<a class="skip" href="#main">Skip to the content</a>'
        f'<header><nav class="way" aria-label="This site">{links}</nav></header>'
        f'<main id="main" tabindex="-1">{body}</main>'
        "<footer>Made by <code>inception microscope</code>. These files need no server and ask for nothing outside."
        "</footer></body></html>\n"
    )


def put_assets(site: Path) -> None:
    """The style and the scripts of all pages."""
    for name in ASSETS:
        write(site / name, (importlib.resources.files("inception") / "data" / "microscope" / name).read_bytes())


def sprite(row: int, rows: int, kind: str, words: str) -> str:
    """A tile of a column of tiles that the class `kind` shows. words: markup, what is to be seen."""
    return f'<i class="s {kind}" style="--r:{row};--n:{rows}" role="img" aria-label="{words}"></i>'


def sheet_rules(files: Sequence[str], kind: str, root: str) -> str:
    """The style that makes `kind`0, `kind`1, ... show pictures of the site."""
    rules = "".join(f".{kind}{i}{{background-image:url({root}{PICTURES}/{f})}}" for i, f in enumerate(files))
    return f"<style>{rules}</style>"


def histogram(counts: np.ndarray, reach: float, width: int = 110, height: int = 26) -> str:
    """How values are spread from -reach to reach, as bars whose heights are square roots of the counts."""
    if not counts.sum():
        return ""
    tall = np.sqrt(counts / counts.max()) * height
    step = width / len(counts)
    path = "".join(
        f"M{i * step:.1f} {height - t:.1f}h{step:.1f}V{height}h-{step:.1f}z" for i, t in enumerate(tall) if t > 0.05
    )
    words = f"Kernel values from {-reach:.3g} to {reach:.3g}"
    return (
        f'<svg class="bars" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{words}"><title>{words}</title><path d="{path}"/></svg>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: str, left: Sequence[int] = ()) -> str:
    """A table that scrolls by itself where it is too wide; the first cell of a row is its heading. All markup.

    Args:
        words: what the table is, for those who do not see it.
        left: columns that are set from the left.
    """
    side = ["" if i not in left else ' class="l"' for i in range(len(head))]
    top = "".join(f"<th scope=col{side[i]}>{cell}</th>" for i, cell in enumerate(head))
    lines = "".join(
        f"<tr><th scope=row>{first}</th>{''.join(f'<td{side[i]}>{cell}</td>' for i, cell in enumerate(rest, 1))}</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{words}" tabindex="0"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )
