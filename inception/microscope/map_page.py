"""The first page: the network drawn from its table, every end point with what its weights say and what excites it."""

from __future__ import annotations

import numpy as np

from inception.brief import text
from inception.microscope import drawing, html
from inception.microscope.anatomy import VOCABULARIES, Point
from inception.microscope.html import number
from inception.microscope.known import Known
from inception.microscope.pieces import LOOKS, POINTS, address

_TILES = 8  # of an end point


def map_page(known: Known) -> str:
    """The page as HTML."""
    variant = known.network.inception.variant
    name = text(html.title(known.network.name))
    svg = drawing.network(variant.table(), known.network.picture.sides, lambda point: _target(known, point))
    strips, head = _strips(known)
    body = (
        f'<h1>InceptionV3 <bdi class="name">{name}</bdi></h1><p class="note">{_facts(known)}</p>'
        f'<div class="map"><section aria-label="The network from top to bottom">{svg}</section>'
        f"<div>{_looks(known)}{strips}</div></div>{_beside(known)}<h2>End points</h2>{_table(known)}"
    )
    return html.page(f"InceptionV3 {name}", body, [("index.html", "Map"), *_ways(known)], head=head)


def _ways(known: Known) -> list[tuple[str, str]]:
    return [(f"{LOOKS}/{look.page}.html", f'<span class="name">{text(look.name)}</span>') for look in known.looks[:3]]


def _target(known: Known, point: str) -> str | None:
    return f"{POINTS}/{address(point)}.html" if point in known.pages else f"#{point}"


def _facts(known: Known) -> str:
    variant = known.network.inception.variant
    words = [f"{known.network.inception.parameters:,} parameters"]
    words.append(f"{variant.num_classes:,} classes" if variant.num_classes else "no classifier")
    words += [f"width {variant.depth_multiplier:g}"] if variant.depth_multiplier != 1 else []
    words.append(f"pictures brought in as {text(str(known.network.picture))}")
    if known.side.survey is not None:
        unread = known.side.survey.unread
        words.append(
            f"{known.side.survey.count:,} pictures seen" + (f", {unread:,} could not be read" if unread else "")
        )
    return "; ".join(words)


def _looks(known: Known) -> str:
    if not known.looks:
        return ""
    figures = "".join(
        f'<figure><a href="{LOOKS}/{look.page}.html">'
        f'<img src="{LOOKS}/{look.page}-small.webp" alt="{text(look.name)}"></a>'
        f'<figcaption><span class="name">{text(look.name)}</span>'
        f"{f'<br>{text(look.answer)}' if look.answer else ''}</figcaption></figure>"
        for look in known.looks
    )
    return f'<section aria-label="Pictures"><h2>Your pictures</h2><div class="thumbs">{figures}</div></section>'


def _strips(known: Known) -> tuple[str, str]:
    """What excites some channels of each end point, and the style for it."""
    rows, files = [], []
    for point in known.pages:
        tiles = []
        for piece in known.side.excited.get(point, ()):
            files.append(piece["files"][0])
            for row, channel in enumerate(piece["channels"]):
                words = f"What excites channel {channel} of {point}"
                style = f"--r:{row};--n:{len(piece['channels'])}"
                tiles.append(
                    f'<a class="s m m{len(files) - 1}" style="{style}" '
                    f'href="{POINTS}/{address(point)}.html#channel-{channel}" '
                    f'aria-label="{words}" title="{words}"></a>'
                )
            if len(tiles) >= _TILES:
                break
        if tiles:
            rows.append(f'<a href="{POINTS}/{address(point)}.html">{point}</a><div>{"".join(tiles[:_TILES])}</div>')
    if not rows:
        return "", ""
    style = html.sheet_rules(files, "m", "") + "<style>.m{width:64px}</style>"
    words = "Pictures made by gradient ascent from noise: what some channels of each end point answer most."
    head = f'<section><h2>What excites channels</h2><p class="note">{words}</p>'
    return f'{head}<div class="strips">{"".join(rows)}</div></section>', style


def _beside(known: Known) -> str:
    if not known.changes:
        return ""
    rows = []
    for point in known.points:
        change = known.change(point.name)
        if change is None or not change.size or not point.units or not point.parameters:
            continue
        bar = f'<span class="bar"><i style="width:{min(float(change.mean()), 1):.1%}"></i></span>'
        most = int(change.argmax())
        where = (
            f'<a href="{POINTS}/{address(point.name)}.html#channel-{most}">{most}</a>'
            if point.name in known.pages
            else str(most)
        )
        rows.append(
            [_linked(known, point), html.percent(float(change.mean())), html.percent(float(change.max())), where, bar]
        )
    head = ["End point", "mean change", "greatest", "its channel", "&nbsp;"]
    words = (
        f'Beside <bdi class="name">{text(known.other)}</bdi>: how far the kernels that make each channel, batch norm '
        "in them, are from the other network's, as a share of their norm. Inner convolutions are on the end points' "
        "pages."
    )
    return f"<h2>What differs</h2><p>{words}</p>{html.table(head, rows, 'What differs', left=[4])}"


def _linked(known: Known, point: Point) -> str:
    target = _target(known, point.name)
    return f'<a href="{target}">{point.name}</a>' if point.name in known.pages else point.name


def _table(known: Known) -> str:
    rows = []
    for point in known.points:
        weighed = known.weighed[point.name]
        others = [f"<code>{text(name)}</code>" if name else "–" for name in point.names[1:]]
        dead = int(weighed.dead.sum())
        rows.append([
            f'<span id="{point.name}">{_linked(known, point)}</span>',
            drawing.size(point.shape),
            f"{point.parameters:,}" if point.parameters else "–",
            f"{point.multiply_adds / 1e6:,.1f}" if point.multiply_adds else "–",
            number(float(np.mean(weighed.norm))),
            f"{dead}" if dead else "–",
            html.histogram(weighed.histogram, weighed.reach),
            *others,
        ])  # fmt: skip
    head = ["slim, and here", "Output", "Parameters", "Multiply-adds, millions", "Mean norm", "Dead", "Kernel values"]
    words = (
        "Norms are of the kernel that makes a channel, with batch norm in it. A dead channel is above zero for no "
        "picture. Heights of the bars are square roots of counts."
    )
    left = [6, 7, 8, 9]
    return f'<p class="note">{words}</p>{html.table([*head, *VOCABULARIES[1:]], rows, "End points", left)}'
