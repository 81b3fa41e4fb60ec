"""The page of a picture: predictions as text, and what `look.js` draws of the maps beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from inception.brief import text
from inception.microscope import html
from inception.microscope.known import Known, Look
from inception.visualize.pictures import HEAT, VIRIDIS


def data_script(said: Mapping[str, Any]) -> str:
    """What a page draws, as a script: a page from a disk may read no other file."""
    return f"look({json.dumps(said, separators=(',', ':'))});\n"


def look_page(known: Known, look: Look, said: Mapping[str, Any]) -> str:
    """The page as HTML."""
    name = text(look.name)
    pages = [[each.page, each.name] for each in known.looks]
    settings = {"page": look.page, "pages": pages, "heat": HEAT, "viridis": VIRIDIS, "points": list(known.pages)}
    width, height = said["size"][1], said["size"][0]
    photo = f'<img src="{look.page}.webp" width="{width}" height="{height}" alt="{name}">'
    body = (
        f'<h1><bdi class="name">{name}</bdi></h1>{_predictions(said["sides"])}'
        '<h2>What the network sees in it</h2><p class="note">Choose an end point; below each picture are the '
        "channels that answer it strongest. A channel, or a class, is laid over the picture. The arrow keys move over "
        f"it once it has the focus.</p><noscript><p>Without scripts there is the picture alone.</p>{photo}</noscript>"
        f'<div id="look" data-settings="{escape(json.dumps(settings))}"></div>'
    )
    ways = [("../index.html", "Map")]
    ways += [
        (f"{each.page}.html", f'<span class="name">{text(each.name)}</span>') for each in known.looks if each != look
    ]
    return html.page(f"{name} – InceptionV3", body, ways[:8], "../", ["../look.js", f"{look.page}.js"])


def _predictions(sides: Sequence[Mapping[str, Any]]) -> str:
    blocks = []
    for side in sides:
        if side["classes"]:
            rows = "".join(
                f'<li><span class="name">{text(name)}</span><span>{score:.1%}</span>'
                f'<span class="bar"><i style="width:{max(score, 0):.2%}"></i></span></li>'
                for _, name, score in side["classes"]
            )
            which = f'<p class="note"><bdi class="name">{text(side["name"])}</bdi></p>' if len(sides) > 1 else ""
            blocks.append(f'<div>{which}<ol class="best">{rows}</ol></div>')
    if not blocks:
        return '<p class="note">These weights have no classifier, so there are no predictions and no heat maps.</p>'
    return f'<h2>Predictions</h2><div class="look">{"".join(blocks)}</div>'
