"""Drawings of the network as SVG: what the manual and the map of a site are drawn with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from html import escape

from inception import architecture
from inception.architecture import Concat, Conv, Node, Pool, Table

WIDTH = 480
LEGEND = (("convolution", "conv"), ("maximum pool", "max"), ("average pool", "avg"), ("branches", "mixed"))
MARGIN = 16
STYLE = """
 svg { font: 13px system-ui, sans-serif; --card: #f7f8fa; --ink: #1c2024; --soft: #5b6470; }
 .card { fill: var(--card) } text { fill: var(--ink) } .soft { fill: var(--soft) } .bold { font-weight: 600 }
 .line { stroke: var(--soft); fill: none } .chip text, text.chip { fill: #fff; font-size: 12px }
 .conv { fill: #2f6690 } .max { fill: #a8501c } .avg { fill: #3f7d3a } .mixed { fill: #5a4a9c }
 @media (prefers-color-scheme: dark) { svg { --card: #1b1f24; --ink: #e8eaed; --soft: #a3abb5; } }
"""


class Drawing:
    """Lines of SVG on a card of its own, so that it reads on a light page and on a dark one."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.lines: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, kind: str, radius: float = 3) -> None:
        self.lines.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius:g}" class="{kind}"/>'
        )

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        style = f' class="{kind}"' if kind else ""
        self.lines.append(f'<text x="{x:g}" y="{y:g}"{where}{style}>{escape(text, quote=False)}</text>')

    def line(self, *points: tuple[float, float]) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.lines.append(f'<polyline points="{path}" class="line"/>')

    def svg(self, height: float, role: str = "img") -> str:
        """The whole drawing. role: "group" where it holds links, which a picture's role would hide."""
        card = f'<rect width="{WIDTH}" height="{height:g}" rx="10" class="card"/>'
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" role="{role}">'
        )
        title = f"<title>{escape(self.title, quote=False)}</title>"
        return "\n".join([head, title, f"<style>{STYLE}</style>", card, *self.lines, "</svg>", ""])


def kind(node: Node) -> str:
    """The drawing's word for a node: conv, max, avg or mixed."""
    return "mixed" if isinstance(node, Concat) else "conv" if isinstance(node, Conv) else node.kind


def window(node: Conv | Pool) -> str:
    """`3×3`, with its stride where that is not 1."""
    return f"{node.kernel[0]}×{node.kernel[1]}" + (f" / {node.stride}" if node.stride > 1 else "")


def size(shape: Sequence[int | None]) -> str:
    """`35 × 35 × 256`."""
    return " × ".join(map(str, shape))


def network(rows: Table, sides: tuple[int, int] = (299, 299), link: Callable[[str], str | None] | None = None) -> str:
    """A band an end point: as wide as the map's side (its square root), as thick as it has channels.

    Args:
        rows: of a network; its auxiliary head and its classifier are drawn where they are.
        sides: height and width of the picture.
        link: where an end point leads to, by its name; None for nowhere.
    """
    height, width = sides
    drawing, step, middle, y = Drawing(f"InceptionV3 from top to bottom, {height} x {width} pixels"), 29, 66, 34
    drawing.text(MARGIN + 120, y + 4, "a picture")
    drawing.text(WIDTH - MARGIN, y + 4, size((height, width, 3)), "soft", "end")

    @contextlib.contextmanager
    def linked(name: str) -> Iterator[None]:
        target = link(name) if link else None
        if target is not None:
            drawing.lines.append(f'<a href="{escape(target)}">')
            drawing.rect(4, y - step / 2, WIDTH - 8, step, "hit", 6)
        yield
        if target is not None:
            drawing.lines.append("</a>")

    def band(name: str, shape: Sequence[int | None], what: str, colour: str) -> None:
        wide, thick = 100 * ((shape[0] or 0) / height) ** 0.5, 4 + 16 * (shape[2] or 0) / 2048
        drawing.rect(middle - wide / 2, y - thick / 2, wide, thick, colour)
        drawing.text(MARGIN + 120, y + 4, name, "bold" if colour == "mixed" else "")
        drawing.text(300, y + 4, what, "soft")
        drawing.text(WIDTH - MARGIN, y + 4, size(shape), "soft", "end")

    shapes = architecture.end_point_shapes(rows, height, width)
    for row in rows.base:
        y += step
        with linked(row.name):
            band(row.name, shapes[row.name], "" if isinstance(row, Concat) else window(row), kind(row))
        if row.name == architecture.AUX_END_POINT and rows.aux_logits:
            y += step - 6
            with linked("AuxLogits"):
                drawing.text(MARGIN + 140, y + 4, "↳ AuxLogits: a second classifier, for training", "soft")
    y += step
    with linked("PreLogits"):
        band("PreLogits", (1, 1, shapes[rows.base[-1].name][2]), "mean", "avg")
    if rows.logits:
        y += step
        with linked("Logits"):
            band("Logits", (1, 1, getattr(rows.logits[-1], "depth", 0)), "1×1", "conv")
    drawing.lines.insert(0, f'<path d="M{middle} 44V{y}" class="line"/>')
    y += step + 6
    x = float(MARGIN)
    for label, colour in LEGEND:
        drawing.rect(x, y - 10, 12, 12, colour)
        drawing.text(x + 18, y, label, "soft")
        x += 34 + 7.6 * len(label)
    return drawing.svg(y + 18, "group" if link else "img")
