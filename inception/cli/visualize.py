"""The verbs activations, filters, gradcam, dream and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.arguments import nearest
from inception.cli import options, pictures
from inception.cli.terminal import answer, err, network, note, quietly, say, working
from inception.files.errors import LONGEST_NAME, safe

if TYPE_CHECKING:
    from inception.labels import Label
    from inception.networks import Network

FILTER_POINTS = ("Mixed_5b", "Mixed_6a")


def activations(
    sources: options.Pictures,
    out: options.Out,
    weights: options.Weights = "imagenet",
    picture: options.Way = None,
    end_point: options.EndPoints = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of each end point.")] = 64,
    force: options.Force = False,
) -> None:
    """Draws what the channels of end points see in a picture."""
    places = pictures.drawn(sources, out, force)
    loaded = _taken(weights, picture, end_point or ())
    from inception.visualize import activations as run

    def draw(image: Any, target: Path) -> Any:
        began = time.perf_counter()
        with working("activations"):
            result = run(loaded, image, end_point or None)
            result.save(target, channels)
        found = {name: (*maps.shape, int(result.dead[name].sum())) for name, maps in result.maps.items()}
        lines = [f"{name:<16}{h} x {w} x {depth}, {dead} dead for this picture"
                 for name, (h, w, depth, dead) in found.items()]  # fmt: skip
        keys = ("height", "width", "channels", "dead")
        points = {name: dict(zip(keys, row, strict=True)) for name, row in found.items()}
        made, line = _made(target, began)
        return {"end_points": points, **made}, [*lines, line]

    pictures.each(places, draw)


def filters(
    out: options.Out,
    source: options.Start = None,
    weights: options.Weights = "imagenet",
    picture: options.Way = None,
    end_point: options.EndPoints = None,
    channels: Annotated[int, typer.Option(min=1, help="So many channels of each, from the first.")] = 24,
    size: Annotated[int, typer.Option("--size", min=16, help="Side of each picture, in pixels.")] = 160,
    objective: options.Objective = "mean",
    steps: Annotated[int, typer.Option(min=1, help="Steps of the ascent.")] = 96,
    restarts: Annotated[int, typer.Option(min=1, help="Starts at most for a channel that stays silent.")] = 3,
    jitter: Annotated[int | None, typer.Option(min=0, help="Pixels that a step moves the picture; any.")] = None,
    blur: Annotated[float, typer.Option(min=0, help="Pixels, a blur of the picture on its way; 0: none.")] = 0.6,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Draws the pictures that most excite channels, by gradient ascent."""
    began = time.perf_counter()
    start = pictures.drawn(source, out, force)[0][0] if source else None
    if start is None:
        _checked(out, force)
    points = end_point or list(FILTER_POINTS)
    loaded = _taken(weights, picture, points)
    from inception.visualize import filters as run
    from inception.visualize import pictures as sheets

    given: dict[str, Any] = {"size": size, "steps": steps, "restarts": restarts, "seed": seed}
    given |= {"objective": objective}
    given |= {"jitter_pixels": jitter, "blur_sigma": blur, "start": start and pictures.image(start)}
    sections, record, lines = [], {}, []
    for name in points:
        with working(safe(name, LONGEST_NAME)) as move:
            result = run(loaded, name, channels, **given, progress=move)
        sections.append(result.section())
        dead = [int(number) for number in result.channels[result.dead]]
        rise = [float(result.losses[:, at].mean()) for at in (0, -1)]
        record[name] = {"channels": result.channels, "dead": dead, "mean_before": rise[0], "mean_after": rise[1]}
        said = f"dead: {', '.join(map(str, dead))}" if dead else "none is dead"
        lines.append(
            f"{name:<16}{len(result.channels)} channels, {objective} value {rise[0]:.3g} -> {rise[1]:.3g}; {said}"
        )
    title = f"Filters of {', '.join(section.title for section in sections)}"
    sheets.save(sheets.sheet(sections, 6, size), out, title, loaded.name)
    made, line = _made(out, began)
    answer({"end_points": record, **made}, *lines, line)


def gradcam(
    sources: options.Pictures,
    out: options.Out,
    weights: options.Weights = "imagenet",
    picture: options.Way = None,
    label: Annotated[str | None, typer.Option(help="A class: its number, name or wnid. The predicted one.")] = None,
    end_point: options.EndPoint = None,
    labels: options.Labels = None,
    force: options.Force = False,
) -> None:
    """Draws where in a picture the evidence for a class lies."""
    places = pictures.drawn(sources, out, force)
    from inception.visualize import gradcam as run
    from inception.visualize import model_points
    from inception.visualize.gradcam import LAST, default_point

    def check(found: Network) -> None:
        _labels(found)
        model_points.check(found, [end_point] if end_point else [])

    loaded = network(weights, check, picture=picture, labels=labels)
    table = _labels(loaded)
    wanted = None if label is None else _number(label, table)
    point = end_point or default_point(loaded)
    with working("building the network"):
        quietly(loaded, "auto" if point == LAST else "tensorflow")

    def draw(image: Any, target: Path) -> Any:
        began = time.perf_counter()
        with working("heat map"):
            cam = run(loaded, image, wanted, point)
            cam.save(target, table)
        y, x = divmod(int(cam.heat.argmax()), cam.heat.shape[1])
        where = "nothing there speaks for it, so its map is zero" if cam.empty else f"most at pixel {x}, {y}"
        name, score = table[cam.label].name, float(cam.outputs[cam.label])
        found = {"class": cam.label, "name": name, "score": score, "end_point": cam.point}
        found |= {"most_at": None if cam.empty else [x, y]}
        made, line = _made(target, began)
        return found | made, [f"{safe(name, LONGEST_NAME)}: {score:.2%} at {cam.point}; {where}", line]

    pictures.each(places, draw)


def dream(
    sources: options.Pictures,
    out: options.Out,
    weights: options.Weights = "imagenet",
    picture: options.Way = None,
    end_point: Annotated[
        list[str] | None,
        typer.Option(options.END_POINT, help="An end point or layer, or NAME=WEIGHT: with commas, or said again."),
    ] = None,
    recipe: Annotated[
        str, options.one_of("--recipe", "mean|weighted", "mean: TensorFlow's tutorial; weighted: Keras's example.")
    ] = "mean",
    octaves: Annotated[int | None, typer.Option(min=1, help="Sizes to work at; mean 4, weighted 3.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps at each; mean 30, weighted 20.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Of a step, in the network's range.")] = 0.01,
    tile: Annotated[int, typer.Option(min=150, help="Pixels; memory grows with its square.")] = 512,
    seed: options.Seed = 0,
    force: options.Force = False,
) -> None:
    """Dreams: changes a picture towards what end points respond to, at several sizes."""
    places = pictures.drawn(sources, out, force)
    from inception.visualize.deepdream import DEFAULT_LAYERS

    layers = dict(map(_weighted, options.parted(end_point) or DEFAULT_LAYERS))
    chosen = _recipe(recipe, layers, octaves, steps, rate)
    loaded = _taken(weights, picture, list(layers))
    from inception.visualize import deepdream

    def draw(image: Any, target: Path) -> Any:
        began = last = time.perf_counter()
        with working("dreaming") as move:

            def show(step: Any) -> None:
                nonlocal last
                label = f"octave {step.octave}/{step.octaves}, {step.size[1]} x {step.size[0]}, loss {step.loss:.4g}"
                move((step.octave - 1) * step.steps + step.step, step.octaves * step.steps, label)
                if not err.is_terminal and (step.step == step.steps or time.perf_counter() - last > 10):
                    say(f"{label}, step {step.step}/{step.steps}")
                    last = time.perf_counter()

            dreamt = deepdream(loaded, image, chosen, tile=tile, seed=seed, progress=show)
        dreamt.save(target)
        found = [{"height": o.size[0], "width": o.size[1], "loss_before": o.losses[0], "loss_after": o.losses[-1]}
                 for o in dreamt.octaves]  # fmt: skip
        lines = [
            f"octave {n}: {o['width']} x {o['height']}, loss {o['loss_before']:.4g} -> {o['loss_after']:.4g}"
            for n, o in enumerate(found, 1)
        ]
        made, line = _made(target, began)
        return {"octaves": found, **made}, [*lines, line]

    pictures.each(places, draw)


def report(
    sources: options.Pictures,
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder; index.html is written there.")],
    weights: options.Weights = "imagenet",
    picture: options.Way = None,
    end_point: options.EndPoints = None,
    top: Annotated[int, typer.Option(min=1, help="Classes with a heat map.")] = 3,
    labels: options.Labels = None,
    force: options.Force = False,
) -> None:
    """Writes one HTML page: predictions, heat maps, activations, layers; of several pictures a page each."""
    from inception.visualize.report import PAGE, check_target

    items = pictures.listed(sources)
    folders = [out] if len(items) == 1 else [out / Path(item.path).stem for item in items]
    for folder in folders:
        check_target(folder, force)
    if len(items) == 1:
        pictures.image(items[0])
    loaded = _taken(weights, picture, end_point or (), labels)
    from inception.visualize import report as write
    from inception.visualize.activations import DEFAULT_POINTS

    def draw(image: Any, target: Path) -> Any:
        began = time.perf_counter()
        with working("looking"):
            page = write(image, loaded, target.parent, end_points=end_point or DEFAULT_POINTS, classes=top)
        size, seconds = page.stat().st_size, time.perf_counter() - began
        line = f"made {page}, {size / 1e6:.1f} MB, in {seconds:.1f} s"
        return {"out": page, "bytes": size, "seconds": seconds}, [line]

    pictures.each([(item, folder / PAGE) for item, folder in zip(items, folders, strict=True)], draw)


# --- Shared ----------------------------------------------------------------------------


def _taken(path: str, picture: str | None, points: Sequence[str], labels: Path | None = None) -> Network:
    """The network, TensorFlow ready for it; the points that are asked for are looked at before."""
    from inception.visualize import model_points

    loaded = network(path, lambda found: model_points.check(found, points), picture=picture, labels=labels)
    with working("building the network"):
        quietly(loaded, "tensorflow")
    return loaded


def _checked(out: Path, force: bool) -> None:
    from inception.visualize import pictures as sheets

    sheets.check_target(out, force)


def _labels(loaded: Network) -> tuple[Label, ...]:
    if loaded.labels is None:
        raise ValueError(f"{loaded.name} has no classifier, so no class has a heat map; give weights with top.")
    return loaded.labels


def _number(text: str, table: Sequence[Label]) -> int:
    """A class by its name or wnid, else by its number; says which it was where names are numbers too."""
    named = [i for i, label in enumerate(table) if label.is_called(text)]
    if len(named) > 1:
        raise ValueError(f"{text!r} is what the classes {', '.join(map(str, named))} are called; give a number.")
    number = named[0] if named else int(text) if text.isdecimal() else len(table)
    if number >= len(table):
        near = nearest(text, (name for label in table for name in (label.name, label.wnid) if name))
        raise ValueError(
            f"No class is called {text!r}{near}; give one of the names, or a number, 0 to {len(table) - 1}."
        )
    if text.isdecimal() and named != [int(text)] and any(label.name.isdecimal() for label in table):
        how = "a name" if named else "a number, for no class has that name"
        note(f"{text} is taken as {how}: class {number}, called {table[number].name}")
    return number


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.partition("=")
    try:
        return name, float(weight) if equals else 1.0
    except ValueError as error:
        raise ValueError(f"--end-point is {text!r}; expected a name, or NAME=WEIGHT with a number.") from error


def _recipe(name: str, layers: dict[str, float], octaves: int | None, steps: int | None, rate: float) -> Any:
    from inception.visualize import mean_activation, weighted_layers

    if name == "weighted":
        return weighted_layers(layers, octaves=octaves or 3, steps=steps or 20, rate=rate)
    powers = range(2 - (octaves or 4), 2) if (octaves or 4) > 1 else (0,)
    return mean_activation(layers, powers=tuple(powers), steps=steps or 30, rate=rate)


def _made(path: Path, began: float) -> tuple[dict[str, Any], str]:
    """What was drawn, for JSON and as a line."""
    from PIL import Image

    with Image.open(path) as picture:
        width, height = picture.size
    seconds = time.perf_counter() - began
    record = {"out": path, "width": width, "height": height, "seconds": seconds}
    return record, f"made {path}, {width} x {height}, in {seconds:.1f} s"
