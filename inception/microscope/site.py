"""The whole work: what is known of a network, part by part, each kept as soon as it is there, and the pages of it."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inception import inference, quiet
from inception.arguments import count, nearest
from inception.features import sources
from inception.features.sources import Listing, PictureSource
from inception.features.task import digest
from inception.inference import plan as plans
from inception.labels import Label
from inception.microscope import anatomy, crops, excite, html, survey, weighing
from inception.microscope import looks as lookers
from inception.microscope.known import Known, Look, Side
from inception.microscope.look_page import data_script, look_page
from inception.microscope.looks import Looked
from inception.microscope.map_page import map_page
from inception.microscope.pieces import LOOKS, POINTS, Pieces, address, write
from inception.microscope.point_page import point_page
from inception.microscope.survey import Move
from inception.networks import Network, network_of
from inception.pictures import ImageLike, Picture
from inception.visualize import Ascent

WAVES = Ascent(size=176, steps=64, rate=0.05, restarts=2, parameterisation="waves")
_PAGES = "pages"


@dataclass(frozen=True)
class Summary:
    """What a run made.

    Attributes:
        site: the folder.
        pages: of end points.
        channels: on these pages.
        excited: channels with a picture that excites them, and how many shall have one.
        pictures: of the user's that were seen, and that could not be read.
        bytes: of the whole site.
        seconds: of this run.
    """

    site: Path
    pages: int
    channels: int
    excited: tuple[int, int]
    pictures: tuple[int, int]
    bytes: int
    seconds: float


def microscope(
    weights: Any,
    site: str | os.PathLike[str],
    *,
    images: PictureSource | Sequence[PictureSource] = (),
    looks: Sequence[ImageLike] = (),
    beside: Any = None,
    end_points: Sequence[str] | None = None,
    labels: str | os.PathLike[str] | Sequence[Label] | None = None,
    picture: str | Picture | None = None,
    size: int | tuple[int, int] | None = None,
    channels: int = 32,
    best: int = 4,
    ascent: Ascent = WAVES,
    minutes: float | None = None,
    seed: int = 0,
    engine: str = "auto",
    precision: inference.Precision = "float32",
    batch: int = 8,
    force: bool = False,
    dry_run: bool = False,
    progress: Move | None = None,
) -> Summary:
    """Writes a site of a network: its map, a page an end point, a page a picture; run again, it goes on.

    The site is a folder of HTML files that open from a disk and ask for nothing outside. Stopped anywhere, the same
    call finishes the work and comes to the same files; other end points, pictures and channels are added to what is
    there.

    Args:
        weights: whatever `networks.network_of` takes and is a whole InceptionV3.
        site: the folder: a new one, an empty one, or the site of the same network.
        images: pictures, folders, globs, ... (`features.sources.listed`) that all channels are shown.
        looks: pictures that get a page each.
        beside: another network of the same shape, which this one is compared with.
        end_points: slim's names, of which pages are made, of rows and of convolutions inside them
            ("Mixed_5b/Branch_0/Conv2d_0a_1x1"); None for the rows of the base and the classifier.
        labels, picture, size: see `networks.network_of`.
        channels: of each end point, that get a picture made by gradient ascent; 0 for none.
        best: crops of the images that are kept of each channel.
        ascent: how those are made; its size is the greatest, early end points take less.
        minutes: after which no further picture is begun; what is there makes the pages, the same call goes on.
        seed: of the ascent.
        engine, precision, batch: of the pass over the images (see `features.extract`).
        force: make the site anew where the folder is another network's.
        dry_run: check everything, write nothing, and say what would be made.
        progress: called with (done, of how many, words).

    Raises:
        ValueError: For arguments that do not fit, a folder that holds something else, and the site of another network.
    """
    began = time.monotonic()
    channels, best, batch = count("channels", channels, 0), count("best", best), count("batch", batch)

    def late() -> bool:
        return minutes is not None and time.monotonic() - began > 60 * minutes

    network = _whole(network_of(weights, picture=picture, size=size, labels=labels))
    other = None if beside is None else _whole(network_of(beside, picture=network.picture))
    alike = _shared(network, other) if other is not None else set()
    seen = [lookers.read(image, network) for image in looks]
    listing = sources.listed(images) if images else Listing(())
    variant, sides = network.inception.variant, network.picture.sides
    asked = pages_of(network, end_points)
    pieces, known_digest = Pieces(Path(site)), digest(network.inception.arrays)
    identity = {"weights": known_digest, "network": dataclasses.asdict(variant), "picture": network.picture.json()}
    asked += pieces.before(identity, force)
    points = anatomy.points(variant, sides, asked)
    pages = [point.name for point in points if point.name in asked]
    known = Known(pieces.site, network, points, weighing.weigh(network.inception, pages), pages, Side())
    dead = {name: weighed.dead for name, weighed in known.weighed.items()}
    plan = excite.wanted([point for point in points if point.name in pages], points, dead, channels, ascent)
    if dry_run:
        return dataclasses.replace(_summary(known, plan, 0.0), pictures=(len(listing.items), 0))
    if plan or seen or (listing.items and "tensorflow" in (engine, inference.preferred())):
        quiet.import_tensorflow()
    pieces.begin(identity, pages)
    parts = [_Part(network, known_digest, "", pages)]
    if other is not None:
        theirs = [name for name in pages if name in alike or name not in ("AuxLogits", "Logits")]
        parts.append(_Part(other, digest(other.inception.arrays), "beside-", theirs))
        changes = weighing.changes(network.inception, other.inception)
        known = dataclasses.replace(known, other=html.title(other.name), changes=changes, beside=Side())
    how = survey.How(best, batch, engine, precision, progress or (lambda done, total, words: None), late)
    known = _made(pieces, known, parts, plan, listing, seen, seed, how)
    return _summary(known, plan, time.monotonic() - began)


@dataclass(frozen=True, eq=False)
class _Part:
    """A network of a site: its digest, what the names of its files begin with, and its end points."""

    network: Network
    weights: str
    tag: str
    pages: Sequence[str]


def _made(
    pieces: Pieces,
    known: Known,
    parts: Sequence[_Part],
    plan: Sequence[excite.Wanted],
    listing: Listing,
    seen: Sequence[Looked],
    seed: int,
    how: survey.How,
) -> Known:
    """Everything that is known in the end. The pages are written as soon as there is something on them."""

    def excited(part: _Part, late: Callable[[], bool]) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        theirs = [each for each in plan if each.point in part.pages]
        move = how.move
        return excite.excite(
            pieces, part.network, theirs, weights=part.weights, seed=seed, tag=part.tag, move=move, late=late
        )

    def with_sides(known: Known, sides: Sequence[Side]) -> Known:
        return dataclasses.replace(known, side=sides[0], beside=sides[1] if len(sides) > 1 else None)

    networks = [(part.network, part.weights) for part in parts]
    sides = [Side(excited=excited(part, lambda: True)) for part in parts]  # those of runs before
    known = _looked(pieces, with_sides(known, sides), [], networks, how.move)
    if not (known.site / html.INDEX).is_file():
        _write(known)
    if listing.items:
        shapes = {point.name: (point.shape[0] or 1, point.shape[1] or 1) for point in known.points}
        for i, part in enumerate(parts):
            found = survey.survey(
                part.network, part.pages, listing, known.site, weights=part.weights, tag=part.tag, how=how
            )
            cut = crops.cut(pieces, part.network, found, listing, shapes, part.tag, how.move)
            sides[i] = dataclasses.replace(sides[i], survey=found, crops=cut)
        known = with_sides(known, sides)
        _write(known)
    sides = [
        dataclasses.replace(side, excited=excited(part, how.late)) for side, part in zip(sides, parts, strict=True)
    ]
    known = _looked(pieces, with_sides(known, sides), seen, networks, how.move)
    _write(known)
    return known


def _whole(network: Network) -> Network:
    """The network as its weights. ValueError where there are none of a whole, finite InceptionV3 of pictures."""
    weights = network.inception
    if weights.variant.channels != 3:
        raise ValueError(f"{network.name} takes {weights.variant.channels} channels; pictures have 3.")
    plans.plan(weights, plans.available(weights.variant))  # refuses what is not finite
    return dataclasses.replace(network, loaded=weights, model=None)


def _shared(network: Network, other: Network) -> set[str]:
    """The heads that two networks of one base have in common. ValueError for other bases."""
    mine, theirs = (dict(each.inception.variant.shapes()) for each in (network, other))
    heads = {name: [key for key in mine | theirs if f"/{name}/" in key] for name in ("AuxLogits", "Logits")}
    base = (mine | theirs).keys() - {key for keys in heads.values() for key in keys}
    differ = sorted(key for key in base if mine.get(key) != theirs.get(key))
    if differ:
        raise ValueError(
            f"{other.name} has other shapes than {network.name} ({differ[0]}, ...); "
            "two networks are compared channel by channel: give one of the same table."
        )
    return {name for name, keys in heads.items() if all(mine.get(key) == theirs.get(key) for key in keys)}


def pages_of(network: Network, wanted: Sequence[str] | None) -> list[str]:
    """The end points that have a page: those wanted, or by themselves the base's and the classifier.

    ValueError for one that the network has not, or not for pictures of its size. The arrays are not looked at.
    """
    variant = network.inception.variant
    there = [name for name in plans.available(variant) if name != "Predictions"]
    if wanted is None:
        return [name for name in there if name not in ("AuxLogits", "PreLogits")]
    unknown = [name for name in wanted if name not in {*there, *plans.units(variant)}]
    if unknown or not wanted:
        what = f"Unknown end point {unknown[0]!r}{nearest(unknown[0], there)}" if unknown else ""
        raise ValueError(f"{what or 'No end point is asked for'}; expected some of {', '.join(there)}.")
    plans.check_size(variant, wanted, network.picture.sides)
    return list(wanted)


def _looked(
    pieces: Pieces, known: Known, seen: Sequence[Looked], sides: Sequence[tuple[Network, str]], move: Move
) -> Known:
    """The pages about pictures, those of runs before included; with them in it, what is known."""
    heads = {point.name for point in known.points if point.node is None}
    points = [name for name in known.pages if name not in heads]
    channels = {
        name: [c for piece in known.side.excited.get(name, ())[:1] for c in piece["channels"]] for name in points
    }
    for each in seen:
        said = lookers.look(pieces, sides, each, points, channels, move)
        write(known.site / LOOKS / f"{each.page}.js", data_script(said).encode())
        brief = said | {"sides": [{"name": side["name"], "classes": side["classes"]} for side in said["sides"]]}
        pieces.keep(f"look-{each.page}", sides[0][1], brief)
    briefs = pieces.all("look-", sides[0][1])
    looks = tuple(Look(said["name"], said["page"], _answer(said)) for said in briefs)
    known = dataclasses.replace(known, looks=looks)
    for one, said in zip(looks, briefs, strict=True):
        write(known.site / LOOKS / f"{one.page}.html", look_page(known, one, said).encode())
    return known


def _answer(said: Mapping[str, Any]) -> str:
    best = said["sides"][0]["classes"]
    return f"{best[0][1]}, {best[0][2]:.0%}" if best else ""


def _write(known: Known) -> None:
    """All pages of what is known so far."""
    html.put_assets(known.site)
    for point in known.points:
        if point.name in known.pages:
            write(known.site / POINTS / f"{address(point.name)}.html", point_page(known, point).encode())
    write(known.site / html.INDEX, map_page(known).encode())


def _summary(known: Known, plan: Sequence[excite.Wanted], seconds: float) -> Summary:
    found = known.side.survey
    excited = sum(len(piece["channels"]) for pieces in known.side.excited.values() for piece in pieces)
    files = [path for path in known.site.rglob("*") if path.is_file()]
    return Summary(
        site=known.site,
        pages=len(known.pages),
        channels=sum(point.channels for point in known.points if point.name in known.pages),
        excited=(excited, sum(len(each.channels) for each in plan)),
        pictures=(found.count, found.unread) if found else (0, 0),
        bytes=sum(path.stat().st_size for path in files),
        seconds=seconds,
    )
