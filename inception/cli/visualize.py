"""The verbs activations, filters, gradcam, dream and report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli.terminal import Force, Way, err, network, out, quietly, working
from inception.files.errors import LONGEST_NAME, safe

if TYPE_CHECKING:
    from inception.labels import Label
    from inception.networks import Network

ImageFile = Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture file.")]
WeightOption = Annotated[str, typer.Option("--weights", "-w", help='A weight file or published id, or "imagenet".')]
Output = Annotated[Path, typer.Option("--output", "-o", help="The picture to write: .png, .jpg or .webp.")]
Names = Annotated[Path | None, typer.Option(help="Class names, one a line.")]
Unused = Annotated[int, typer.Option(help="Taken as by the other verbs; nothing is random here.")]
FILTER_POINTS = ("Mixed_5b", "Mixed_6a")
Seed = Annotated[int, typer.Option(help="The same seed gives the same picture.")]


def activations(
    image: ImageFile,
    output: Output,
    weights: WeightOption = "imagenet",
    picture: Way = None,
    point: Annotated[list[str] | None, typer.Option(help="An end point; may be repeated.")] = None,
    channels: Annotated[int, typer.Option(min=1, help="Channels of each end point.")] = 64,
    seed: Unused = 0,
    force: Force = False,
) -> None:
    """Draws what the channels of end points see in a picture."""
    began = time.perf_counter()
    _checked(image, output, force)
    loaded = _taken(weights, picture)
    from inception.visualize import activations as run

    with working("activations"):
        result = run(loaded, image, point)
        result.save(output, channels)
    for name, maps in result.maps.items():
        height, width, depth = maps.shape
        dead = int(result.dead[name].sum())
        out.print(f"{name:<16}{height} x {width} x {depth}, {dead} dead for this picture")
    _made(output, began)


def filters(
    output: Output,
    image: Annotated[Path | None, typer.Argument(metavar="[IMAGE]", help="A picture to start from, not noise.")] = None,
    weights: WeightOption = "imagenet",
    picture: Way = None,
    point: Annotated[list[str] | None, typer.Option(help="An end point or layer; may be repeated.")] = None,
    channels: Annotated[int, typer.Option(min=1, help="So many channels of each, from the first.")] = 24,
    size: Annotated[int, typer.Option(min=16, help="Side of each picture, in pixels.")] = 160,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the ascent.")] = 96,
    restarts: Annotated[int, typer.Option(min=1, help="Starts at most for a channel that stays silent.")] = 3,
    jitter: Annotated[int | None, typer.Option(min=0, help="Pixels that a step moves the picture; any.")] = None,
    blur: Annotated[float, typer.Option(min=0, help="Pixels, a blur of the picture on its way; 0: none.")] = 0.6,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Draws the pictures that most excite channels, by gradient ascent."""
    began = time.perf_counter()
    _checked(image, output, force)
    loaded = _taken(weights, picture)
    from inception.visualize import filters as run
    from inception.visualize import pictures

    options: dict[str, Any] = {"size": size, "steps": steps, "restarts": restarts, "seed": seed, "start": image}
    options |= {"jitter_pixels": jitter, "blur_sigma": blur}
    sections = []
    for name in point or FILTER_POINTS:
        with working(safe(name, LONGEST_NAME)) as move:
            result = run(loaded, name, channels, **options, progress=move)
        sections.append(result.section())
        dead = f"dead: {', '.join(map(str, result.channels[result.dead]))}" if result.dead.any() else "none is dead"
        rise = f"mean value {result.losses[:, 0].mean():.3g} -> {result.losses[:, -1].mean():.3g}"
        out.print(f"{name:<16}{len(result.channels)} channels, {rise}; {dead}")
    title = f"Filters of {', '.join(section.title for section in sections)}"
    pictures.save(pictures.sheet(sections, 6, size), output, title, loaded.name)
    _made(output, began)


def gradcam(
    image: ImageFile,
    output: Output,
    weights: WeightOption = "imagenet",
    picture: Way = None,
    label: Annotated[str | None, typer.Option(help="A class: its number, name or wnid. The predicted one.")] = None,
    point: Annotated[str | None, typer.Option(help="An end point or layer; the last whose maps show a place.")] = None,
    labels: Names = None,
    seed: Unused = 0,
    force: Force = False,
) -> None:
    """Draws where in a picture the evidence for a class lies."""
    began = time.perf_counter()
    _checked(image, output, force)
    loaded = _taken(weights, picture, labels, built=False)
    table = _labels(loaded)
    from inception.visualize import gradcam as run
    from inception.visualize.gradcam import LAST, default_point

    point = point or default_point(loaded)
    if point != LAST:
        quietly(loaded, "tensorflow")

    with working("heat map"):
        cam = run(loaded, image, None if label is None else _number(label, table), point)
        cam.save(output, table)
    peak = divmod(int(cam.heat.argmax()), cam.heat.shape[1])
    where = "nothing there speaks for it, so its map is zero" if cam.empty else f"most at pixel {peak[1]}, {peak[0]}"
    out.print(f"{safe(table[cam.label].name, LONGEST_NAME)}: {cam.outputs[cam.label]:.2%} at {cam.point}; {where}")
    _made(output, began)


def dream(
    image: ImageFile,
    output: Output,
    weights: WeightOption = "imagenet",
    picture: Way = None,
    point: Annotated[list[str] | None, typer.Option(help="An end point, or NAME=WEIGHT; may be repeated.")] = None,
    recipe: Annotated[str, typer.Option(help="mean: TensorFlow's tutorial; weighted: Keras's example.")] = "mean",
    octaves: Annotated[int | None, typer.Option(min=1, help="Sizes to work at; mean 4, weighted 3.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps at each; mean 30, weighted 20.")] = None,
    rate: Annotated[float, typer.Option(min=0, help="Of a step, in the network's range.")] = 0.01,
    tile: Annotated[int, typer.Option(min=150, help="Pixels; memory grows with its square.")] = 512,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Dreams: changes a picture towards what end points respond to, at several sizes."""
    began = time.perf_counter()
    _checked(image, output, force)
    from inception.visualize.deepdream import DEFAULT_LAYERS

    chosen = _recipe(recipe, dict(map(_weighted, point or DEFAULT_LAYERS)), octaves, steps, rate)
    loaded = _taken(weights, picture)
    from inception.visualize import deepdream

    with working("dreaming") as move:
        last = [0.0]

        def show(step: Any) -> None:
            label = f"octave {step.octave}/{step.octaves}, {step.size[1]} x {step.size[0]}, loss {step.loss:.4g}"
            move((step.octave - 1) * step.steps + step.step, step.octaves * step.steps, label)
            if not err.is_terminal and (step.step == step.steps or time.perf_counter() - last[0] > 10):
                err.print(f"{label}, step {step.step}/{step.steps}")
                last[0] = time.perf_counter()

        dreamt = deepdream(loaded, image, chosen, tile=tile, seed=seed, progress=show)
    dreamt.save(output)
    for number, octave in enumerate(dreamt.octaves, 1):
        height, width = octave.size
        out.print(f"octave {number}: {width} x {height}, loss {octave.losses[0]:.4g} -> {octave.losses[-1]:.4g}")
    _made(output, began)


def report(
    image: ImageFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder; index.html is written there.")],
    weights: WeightOption = "imagenet",
    picture: Way = None,
    point: Annotated[list[str] | None, typer.Option(help="End points whose activations are shown.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes with a heat map.")] = 3,
    labels: Names = None,
    force: Force = False,
) -> None:
    """Writes one HTML page: predictions, heat maps, activations, layers."""
    began = time.perf_counter()
    from inception.visualize.report import check_target

    check_target(output, force)
    loaded = _taken(weights, picture, labels)
    from inception.visualize import report as write
    from inception.visualize.activations import DEFAULT_POINTS

    with working("looking"):
        page = write(image, loaded, output, points=point or DEFAULT_POINTS, classes=top)
    out.print(f"made {page}, {page.stat().st_size / 1e6:.1f} MB, in {time.perf_counter() - began:.1f} s")


# --- Shared ----------------------------------------------------------------------------


def _taken(path: str, picture: str | None, labels: Path | None = None, built: bool = True) -> Network:
    """The network, TensorFlow ready for it. built: it runs as a Keras model."""
    loaded = network(path, picture=picture, labels=labels)
    with working("building the network"):
        quietly(loaded, "tensorflow" if built else "auto")
    return loaded


def _checked(image: Path | None, output: Path, force: bool) -> None:
    """What is wrong with a picture, or with the place to write to, is said before the work."""
    from inception import images
    from inception.visualize import pictures

    pictures.check_target(output, force, [image] if image else [])
    if image is not None:
        images.read(image)


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
        raise ValueError(f"No class is called {text!r}; give one of the names, or a number, 0 to {len(table) - 1}.")
    if text.isdecimal() and named != [int(text)] and any(label.name.isdecimal() for label in table):
        how = "a name" if named else "a number, for no class has that name"
        err.print(f"note: {text} is taken as {how}: class {number}, called {table[number].name}")
    return number


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.partition("=")
    try:
        return name, float(weight) if equals else 1.0
    except ValueError as error:
        raise ValueError(f"--point is {text!r}; expected a name, or NAME=WEIGHT with a number.") from error


def _recipe(name: str, layers: dict[str, float], octaves: int | None, steps: int | None, rate: float) -> Any:
    from inception.visualize import mean_activation, weighted_layers

    if name == "weighted":
        return weighted_layers(layers, octaves=octaves or 3, steps=steps or 20, rate=rate)
    if name != "mean":
        raise ValueError(f"--recipe is {name!r}; expected mean or weighted.")
    powers = range(2 - (octaves or 4), 2) if (octaves or 4) > 1 else (0,)
    return mean_activation(layers, powers=tuple(powers), steps=steps or 30, rate=rate)


def _made(path: Path, began: float) -> None:
    from PIL import Image

    with Image.open(path) as picture:
        size = f"{picture.width} x {picture.height}"
    out.print(f"made {path}, {size}, in {time.perf_counter() - began:.1f} s")
