"""The page of an end point: what is in it, and a card a channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inception.brief import text
from inception.microscope import drawing, html
from inception.microscope.anatomy import VOCABULARIES, Point
from inception.microscope.crops import ROWS
from inception.microscope.html import number, percent
from inception.microscope.known import Known, Side
from inception.microscope.pieces import address

_Tiles = Mapping[int, tuple[int, int, int, float, bool]]  # channel: sheet, row, rows, value, dead


def point_page(known: Known, point: Point) -> str:
    """The page as HTML."""
    tiles, sheets = _tiles(known.side, point.name)
    others, other_sheets = _tiles(known.beside, point.name)
    cropped = list(known.side.crops.get(point.name, {}).get("files", ()))
    cropped_others = list(known.beside.crops.get(point.name, {}).get("files", ())) if known.beside else []
    head = "".join(
        html.sheet_rules(files, kind, "../")
        for files, kind in ((sheets, "e"), (other_sheets, "f"), (cropped, "k"), (cropped_others, "l"))
        if files
    )
    cards = _Cards(known, point, tiles, others)
    best = known.side.survey.points[point.name].scores.shape[1] if known.side.survey and cropped else 1
    head += f"<style>.ch .k{{aspect-ratio:{best};--k:{best}}}</style>"
    orders = "".join(f'<option value="{i - 1}">{name}</option>' for i, name in enumerate(["number", *cards.columns]))
    tools = (
        '<form class="tools" role="search" hidden onsubmit="return false"><label>Search (key /): a number, 10-20, a '
        'branch, dead, silent<input type="search" autocomplete="off"></label>'
        f'<label>Strongest first, by<select autocomplete="off">{orders}</select></label>'
        '<output aria-live="polite"></output></form>'
    )
    body = (
        f"<h1>{point.name}</h1><p class='note'>{_facts(known, point)}</p>{_names(point)}{_inside(known, point)}"
        f'<h2 id="channels">Channels</h2>{_words(known, point)}{tools}'
        f'<section class="channels" aria-label="Channels of {point.name}">'
        f"{''.join(map(cards.card, range(point.channels)))}</section>"
    )
    return html.page(f"{point.name} – InceptionV3", body, _ways(known, point.name), "../", ["../channels.js"], head)


def _ways(known: Known, name: str) -> list[tuple[str, str]]:
    at = known.pages.index(name)
    ways = [("../index.html", "Map")]
    ways += [(f"{address(known.pages[at - 1])}.html", f"← {known.pages[at - 1]}")] if at else []
    ways += [(f"{address(known.pages[at + 1])}.html", f"{known.pages[at + 1]} →")] if at + 1 < len(known.pages) else []
    return ways


def _facts(known: Known, point: Point) -> str:
    weighed = known.weighed[point.name]
    facts = [drawing.size(point.shape)]
    if point.parameters:
        much = point.multiply_adds
        times = f"{much / 1e6:,.1f} million" if much >= 100_000 else f"{much:,}"
        facts += [f"{point.parameters:,} parameters", f"{times} multiply-adds"]
    dead = np.flatnonzero(weighed.dead)
    which = ", ".join(f'<a href="#channel-{c}">{c}</a>' for c in dead[:20]) + (", ..." if len(dead) > 20 else "")
    facts.append(f"dead by their weights: {which}" if len(dead) else "no channel is dead by its weights")
    return "; ".join(facts)


def _names(point: Point) -> str:
    rows = "".join(
        f"<div><dt>{which}</dt><dd><code>{text(name) or '–'}</code></dd></div>"
        for which, name in zip(VOCABULARIES, point.names, strict=True)
    )
    return f'<dl class="names">{rows}</dl>'


def _inside(known: Known, point: Point) -> str:
    if not point.units:
        return ""
    weighed = known.weighed[point.name]
    rows = []
    for unit in point.units:
        own = unit.path.removeprefix(f"{point.name}/")
        alone = unit.path in known.pages and unit.path != point.name
        change = known.changes.get(unit.path)
        rows.append([
            f'<a href="{address(unit.path)}.html"><code>{own}</code></a>' if alone else f"<code>{own}</code>",
            drawing.window(unit.node),
            drawing.size(unit.shape),
            f"{unit.parameters:,}" if unit.parameters else "–",
            f"{unit.multiply_adds / 1e6:,.1f}" if unit.multiply_adds else "–",
            *([percent(float(change.mean())) if change is not None else "–"] if known.changes else []),
            *(f"<code>{text(name) or '–'}</code>" for name in unit.names[1:]),
        ])  # fmt: skip
    head = ["Convolution or pool", "Window", "Output", "Parameters", "Multiply-adds, millions"]
    head += ["Mean change"] if known.changes else []
    columns = range(len(head), len(head) + 3)
    values = html.histogram(weighed.histogram, weighed.reach, 220, 40)
    kernels = f"<p>{values}<br><span class=note>Kernel values, ±{weighed.reach:.3g}</span></p>" if values else ""
    inside = html.table([*head, *VOCABULARIES[1:]], rows, f"What is in {point.name}", list(columns))
    return f"<details><summary>What is in it ({len(rows)})</summary>{inside}{kernels}</details>"


def _words(known: Known, point: Point) -> str:
    words = []
    if known.side.excited.get(point.name):
        words.append("Square: what gradient ascent from noise finds to excite the channel.")
    if known.side.crops.get(point.name):
        words.append("Row: the parts of your pictures that it answers most, with its values there.")
        words.append("Dead: no picture can bring it above zero; silent: none of yours does.")
    if known.beside is not None:
        words.append(f'Lower, with a mark: the same in <bdi class="name">{text(known.other)}</bdi>.')
    words.append(
        "From: the channels before it that are strongest in it; to: those behind that it is strongest in; "
        "each with the share of all that comes in there."
    )
    return f'<p class="note">{" ".join(words)}</p>'


def _tiles(side: Side | None, point: str) -> tuple[dict[int, tuple[int, int, int, float, bool]], list[str]]:
    found, files = {}, []
    pieces: Sequence[Mapping[str, Any]] = side.excited.get(point, ()) if side else ()
    for sheet, piece in enumerate(pieces):
        files.append(piece["files"][0])
        for row, channel in enumerate(piece["channels"]):
            found[channel] = sheet, row, len(piece["channels"]), piece["values"][row], piece["dead"][row]
    return found, files


class _Cards:
    """The cards of an end point's channels; `columns` names what they can be ordered by."""

    def __init__(self, known: Known, point: Point, tiles: _Tiles, others: _Tiles) -> None:
        self._known, self._point, self._tiles, self._others = known, point, tiles, others
        self._weighed = known.weighed[point.name]
        self._seen = known.side.survey.points.get(point.name) if known.side.survey else None
        self._change = known.change(point.name)
        count = known.side.survey.count if known.side.survey else 0
        self._count = max(count, 1)
        self.columns = ["norm"]
        self.columns += ["mean answer", "greatest answer", "share of pictures"] if self._seen else []
        self.columns += ["value of its picture"] if tiles else []
        self.columns += ["change"] if self._change is not None else []

    def card(self, channel: int) -> str:
        weighed = self._weighed
        path, inner = weighed.origin[channel] if channel < len(weighed.origin) else ("", channel)
        unit = path.removeprefix(f"{self._point.name}/")
        label = self._known.labels[channel].name if self._point.name in ("Logits", "AuxLogits") else ""
        values = [float(weighed.norm[channel])]
        facts = [f"<span>norm</span> <b>{number(values[0])}</b>"]
        if self._seen is not None:
            mean, share = self._seen.total[channel] / self._count, self._seen.on[channel] / self._count
            values += [float(mean), float(self._seen.most[channel]), float(share)]
            facts.append(f"<span>mean</span> <b>{number(mean)}</b>")
            facts.append(f"<span>most</span> <b>{number(float(self._seen.most[channel]))}</b>")
            facts.append(f"<span>on</span> <b>{percent(share)}</b>")
        tile = self._tiles.get(channel)
        if self._tiles:
            values.append(tile[3] if tile else float("nan"))
        if self._change is not None:
            values.append(float(self._change[channel]))
            facts.append(f"<span>changed</span> <b>{percent(values[-1])}</b>")
        state = "dead" if weighed.dead[channel] else ""
        if not state and self._seen is not None and not self._seen.on[channel]:
            state = "silent"
        tag = f' <span class="tag">{state}</span>' if state else ""
        words = f"{unit} {label} {state}".lower()
        return (
            f'<article class="ch" id="channel-{channel}" data-v="{" ".join(f"{v:.4g}" for v in values)}" '
            f'data-t="{text(words)}"><h3><a href="#channel-{channel}">{channel}</a>'
            f"<small>{text(label) if label else f'{text(unit)} {inner}'}</small>{tag}</h3>"
            f"{self._pictures(channel, self._known.side, self._tiles, 'e', 'k')}"
            f"{self._pictures(channel, self._known.beside, self._others, 'f', 'l')}"
            f"<p>{' '.join(facts)}</p>{self._neighbours(channel)}</article>"
        )

    def _pictures(self, channel: int, side: Side | None, tiles: _Tiles, kind: str, strip: str) -> str:
        name, parts = self._point.name, []
        mark = "" if kind == "e" else f" in {text(self._known.other)}"
        if channel in tiles:
            sheet, row, rows, value, dead = tiles[channel]
            words = f"What excites channel {channel}{mark}: value {number(value)}{', never above zero' if dead else ''}"
            parts.append(html.sprite(row, rows, f"e {kind}{sheet}", words))
        if side is not None and side.survey is not None and side.crops.get(name):
            seen, names = side.survey.points[name], side.survey.names
            each = [(names[p], s) for p, s in zip(seen.pictures[channel], seen.scores[channel], strict=True) if p >= 0]
            files = side.crops[name]["files"]
            sheet, row = divmod(channel, ROWS)
            rows = min(ROWS, self._point.channels - sheet * ROWS)
            words = ", ".join(f"{text(n)} {number(float(s))}" for n, s in each)
            if sheet < len(files):
                scores = "".join(f'<span title="{text(n)}">{number(float(s))}</span>' for n, s in each)
                crops = html.sprite(row, rows, f"k {strip}{sheet}", f"Answered most{mark}: {words}")
                parts.append(f'<div class="c">{crops}<span>{scores}</span></div>')
        where = f'<span class="tag">{text(self._known.other)}</span>' if mark and parts else ""
        return f'{where}<div class="both">{"".join(parts)}</div>' if parts else ""

    def _neighbours(self, channel: int) -> str:
        weighed, behind = self._weighed, self._weighed
        if behind.behind == "PreLogits":  # the mean of a channel has its number
            behind = self._known.weighed["PreLogits"]
        before = "Mixed_7c" if weighed.before == "PreLogits" else weighed.before
        lines = [("from", before, weighed.inputs)] if before else []
        lines += [("to", behind.behind, behind.outputs)] if behind.outputs is not None else []
        found = []
        for word, other, (numbers, shares) in lines:
            each = " ".join(
                f"{self._link(other, int(n))}&nbsp;{percent(float(s))}"
                for n, s in zip(numbers[channel], shares[channel], strict=True)
                if s > 0
            )
            if each:
                found.append(f"<p><span>{word} {other}</span> {each}</p>")
        return "".join(found)

    def _link(self, point: str, channel: int) -> str:
        label = text(self._known.labels[channel].name) if point == "Logits" and self._known.labels else channel
        return (
            f'<a href="{address(point)}.html#channel-{channel}">{label}</a>'
            if point in self._known.pages
            else f"{label}"
        )
