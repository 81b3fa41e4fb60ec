"""One page about one picture: predictions, Grad-CAM, activation grids and the layer table.

The page is one HTML file with its pictures inside (data: URIs), and asks for nothing from
outside. It reads in light and dark and on a phone.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inception import architecture, brief
from inception.arguments import renamed
from inception.files import atomic
from inception.labels import Label, top
from inception.networks import Network, network_of
from inception.pictures import ImageLike, Picture
from inception.variants import SCOPE
from inception.visualize import model_points, pictures
from inception.visualize.activations import DEFAULT_POINTS, Activations, activations, taking
from inception.visualize.gradcam import GradCam, of_classes
from inception.visualize.pictures import HEAT, PAPER
from inception.weights import Weights

PAGE = "index.html"
_PHOTO, _CELL, _GAP, _COLUMNS, _CHANNELS = 720, 64, 2, 8, 64
_GAP_COLOUR = (92, 96, 104)  # between tiles, on white and on black


@dataclass(frozen=True)
class _Part:
    title: str
    body: str


@renamed(points="end_points")
def report(
    image: ImageLike,
    weights: Any,
    folder: str | os.PathLike[str],
    *,
    end_points: Sequence[str] = DEFAULT_POINTS,
    classes: int = 3,
    labels: str | os.PathLike[str] | Sequence[Label] | None = None,
    picture: str | Picture | None = None,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Writes `folder`/index.html about a picture (a file, or uint8 [h, w, 3]) and a network; the page's path.

    Args:
        weights: whatever `networks.network_of` takes and is a whole InceptionV3.
        labels, picture: as there.
        end_points: slim's names of those whose activations are shown.
        classes: how many get a heat map. Weights without a classifier give a page without predictions and heat maps,
            which says so.

    Raises:
        ValueError: For an unknown end point, or a picture that cannot be read.
    """
    say = progress or (lambda what: None)
    target = check_target(folder)
    network = network_of(weights, picture=picture, labels=labels)
    photo = network.picture.read(image)
    name = os.path.basename(os.fspath(image)) if isinstance(image, str | os.PathLike) else "picture"
    say("building the network")
    network = dataclasses.replace(network, model=network.built())
    say("activations")
    shown = activations(network, photo, end_points)
    parts = _classifier_parts(network, photo, classes, say)
    parts.append(_activation_part(shown))
    if network.weights is not None:
        parts.append(_table(network.weights, network.picture.sides))
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(target) as (temporary,):
        temporary.write_text(_page(name, photo, network, parts), encoding="utf-8")
    return target


def check_target(folder: str | os.PathLike[str], overwrite: bool = True) -> Path:
    """The page that a report in a folder is. ValueError where it cannot be written there, or must not be."""
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; expected a folder for the report.")
    if place.is_dir():
        atomic.check_target(place / PAGE, overwrite)
    return place / PAGE


# --- Parts -----------------------------------------------------------------------------


def _classifier_parts(network: Network, photo: np.ndarray, classes: int, say: Callable[[str], None]) -> list[_Part]:
    if network.labels is None:
        words = "These weights have no classifier, so there are no predictions and no heat maps of classes."
        return [_Part("Predictions", f'<p class="note">{words}</p>')]
    opened = model_points.open_model(network.built())
    image = taking(opened, network).input(photo)[None]
    scores = model_points.values(opened, {"scores": opened.outputs[0]}, image)["scores"][0]
    say("heat maps")
    best = [int(c) for c in np.argsort(-scores, kind="stable")[:classes]]
    heats = of_classes(network, photo, best)
    return [
        _Part("Predictions", _bars(scores, network.labels)),
        _Part("Where it looks", _heats(heats, network.labels)),
    ]


def _bars(scores: np.ndarray, labels: Sequence[Label]) -> str:
    rows = [
        f'<li><span class="name">{brief.text(label.name)}</span><span class="score">{score:.1%}</span>'
        f'<span class="bar"><i style="width:{max(score, 0):.2%}"></i></span></li>'
        for label, score in top(scores, labels, 5)
    ]
    return f'<ol class="bars">{"".join(rows)}</ol>'


def _heats(heats: Sequence[GradCam], labels: Sequence[Label]) -> str:
    figures = []
    for cam in heats:
        name = brief.text(labels[cam.label].name)
        caption = f"<b>{name}</b> {cam.outputs[cam.label]:.1%}"
        if cam.empty:
            caption += "; nothing here speaks for it, so its map is zero everywhere"
        alt = f"Heat map of {labels[cam.label].name} over the picture"
        figures.append(_figure(_small(cam.overlay(), 480), alt, caption))
    height, width, depth = cam.maps.shape[0], cam.maps.shape[1], len(heats)
    colours = ", ".join(f"rgb{anchor}" for anchor in HEAT)
    return (
        f"<p>Grad-CAM of the best {depth} at <code>{brief.text(cam.point)}</code> ({height} &times; {width}): "
        "which places speak for the class.</p>"
        f'<div class="cards">{"".join(figures)}</div>'
        f'<div class="legend"><i style="background:linear-gradient(90deg, {colours})"></i>'
        "<span>nothing</span><span>most evidence</span></div>"
    )


def _activation_part(found: Activations) -> _Part:
    blocks = []
    cell = pictures.fitted(found.photo.shape, _CELL)
    for name in found.maps:
        shown = found.tiles(name, _CHANNELS, _CELL)
        grid = pictures.grid(shown, _COLUMNS, cell, _GAP, _GAP_COLOUR, PAPER)
        caption = f"<b>{brief.text(name)}</b> {found.note(name, _CHANNELS)}"
        blocks.append(_figure(_open_ended(grid, len(shown), cell), f"Activations of {name}", caption, "grid"))
    words = (
        "Channels with their numbers, the strongest first, each on its own scale, dark to light. Dead ones are crossed."
    )
    return _Part("What the channels see", f'<p>{words}</p><div class="grids">{"".join(blocks)}</div>')


def _open_ended(grid: np.ndarray, tiles: int, cell: tuple[int, int]) -> np.ndarray:
    """The grid with what its last row leaves empty transparent: uint8 [h, w, 4]."""
    opaque = np.full((*grid.shape[:2], 1), 255, np.uint8)
    last = tiles % _COLUMNS
    if last and tiles > _COLUMNS:
        opaque[-(cell[0] + pictures.CAPTION) :, last * (cell[1] + _GAP) :] = 0
    return np.concatenate([grid, opaque], axis=2)


def _table(weights: Weights, sides: tuple[int, int]) -> _Part:
    variant = dataclasses.replace(weights.variant, aux_logits=False)
    rows = [
        (b.name, " × ".join(map(str, b.output_shape)), f"{b.parameters:,}", f"{b.multiply_adds / 1e6:,.1f}")
        for b in architecture.blocks(variant.table(), *sides, variant.channels, variant.gamma)
    ]
    table = brief.table(("End point", "Output", "Parameters", "Multiply-adds, millions"), rows)
    words = f"For pictures of {sides[0]} &times; {sides[1]} pixels; names are slim's, below <code>{SCOPE}/</code>."
    return _Part("Layers", f"<p>{words}</p>{table}")


# --- HTML ------------------------------------------------------------------------------


def _figure(picture: np.ndarray, alt: str, caption: str, kind: str = "card") -> str:
    return f'<figure class="{kind}">{brief.image(picture, alt)}<figcaption>{caption}</figcaption></figure>'


def _small(picture: np.ndarray, most: int) -> np.ndarray:
    height, width = picture.shape[:2]
    part = min(1.0, most / max(height, width))
    return pictures.resize(picture, max(round(height * part), 1), max(round(width * part), 1))


def _page(name: str, photo: np.ndarray, network: Network, parts: Sequence[_Part]) -> str:
    multiplier = network.weights.variant.depth_multiplier if network.weights is not None else 1
    title = f"What InceptionV3 sees in {brief.text(name)}"
    classes = f"{len(network.labels)} classes" if network.labels else "no classifier"
    width = "" if multiplier == 1 else f", width {multiplier:g}"
    source = f"<bdi>{brief.text(os.path.basename(network.name))}</bdi>, {classes}{width}"
    way = brief.text(str(network.picture))
    facts = f"{photo.shape[1]} &times; {photo.shape[0]} pixels, brought in as {way}; weights: {source}"
    first, *rest = parts
    photo_figure = _figure(_small(photo, _PHOTO), "The picture", brief.text(name))
    sections = "".join(f"<section><h2>{part.title}</h2>{part.body}</section>" for part in rest)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{_STYLE}</style></head>'
        f'<body><header><h1>{title}</h1><p class="note">{facts}</p></header><main>'
        f'<section class="first">{photo_figure}<div><h2>{first.title}</h2>{first.body}</div></section>'
        f"{sections}</main></body></html>\n"
    )


_STYLE = """
:root { --paper: #fff; --ink: #1c1e22; --faint: #5d646d; --line: #dfe2e6; --bar: #2f6fde; --soft: #f4f5f7 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14161a; --ink: #e8eaee; --faint: #a2a9b4; --line: #31353c; --bar: #6ea0ff; --soft: #1d2026 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 1120px; padding: 24px 20px 48px; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere }
h2 { font-size: 1.15rem; margin: 0 0 8px }
p { margin: 0 0 12px } .note { color: var(--faint) }
section { margin-top: 32px; padding-top: 20px; border-top: 1px solid var(--line) }
.first { display: grid; gap: 24px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)) }
figure { margin: 0 } img { display: block; width: 100%; height: auto; border-radius: 6px }
figcaption { color: var(--faint); font-size: .875rem; margin-top: 6px; overflow-wrap: anywhere }
figcaption b { color: var(--ink) } figcaption b, .name { unicode-bidi: isolate }
.bars { list-style: none; margin: 0; padding: 0 }
.bars li { display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; margin-bottom: 12px }
.bars .name { overflow-wrap: anywhere } .bars .score { font-variant-numeric: tabular-nums }
.bar { grid-column: 1 / -1; height: 8px; border-radius: 4px; background: var(--soft); overflow: hidden }
.bar i { display: block; height: 100%; background: var(--bar); min-width: 1px }
.cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 240px), 1fr)) }
.grids { display: grid; gap: 24px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)) }
.legend { display: grid; grid-template-columns: 1fr 1fr; max-width: 320px; margin-top: 12px; font-size: .875rem;
  color: var(--faint) }
.legend i { grid-column: 1 / -1; height: 10px; border-radius: 5px } .legend span + span { text-align: right }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9375rem }
th, td { padding: 6px 10px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child { text-align: left; padding-left: 0 } tbody th { font-weight: 500 }
thead th { color: var(--faint); font-weight: 500; vertical-align: bottom; white-space: normal }
"""
