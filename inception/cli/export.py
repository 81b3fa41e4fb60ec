"""The verb export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from inception.cli.terminal import Force, Way, WeightFile, complain, network, out, working
from inception.cli.weights import differences_table


def export(
    source: WeightFile,
    target: Annotated[
        Path, typer.Argument(help="What to write: .onnx, .tflite, .xml (OpenVINO), else a SavedModel folder.")
    ],
    end_point: Annotated[
        list[str] | None,
        typer.Option(help="An output, by slim's name; may be repeated. Predictions, without a classifier PreLogits."),
    ] = None,
    size: Annotated[int | None, typer.Option(min=0, help="Side of the images, 0: any; the weights' own.")] = None,
    picture: Way = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images a run; any number where none is given.")] = None,
    uint8: Annotated[bool, typer.Option("--uint8", help="Take pixels 0..255 and scale them inside.")] = False,
    precision: Annotated[str, typer.Option(help="float32, or int8 (.onnx and .xml) with --calibrate.")] = "float32",
    calibrate: Annotated[
        Path | None, typer.Option(help="A folder of pictures for int8; every fifth measures the agreement.")
    ] = None,
    accept: Annotated[bool, typer.Option("--accept", help="Write int8 even when less than 99 % agrees.")] = False,
    force: Force = False,
) -> None:
    """Writes the inference network for another runtime, and proves the file in that runtime."""
    from inception import quiet
    from inception.inference import export as exports
    from inception.inference import int8

    if (precision == "int8") != (calibrate is not None) or precision not in ("float32", "int8"):
        raise ValueError(f"--precision is {precision}; expected float32, or int8 together with --calibrate FOLDER.")
    exports.check_target(target, int8=precision == "int8", overwrite=force, source=source)
    loaded = network(source, picture=picture)
    sizes = loaded.picture.sides if size is None else (size, size) if size else None
    quiet.import_tensorflow()
    pictures = exports.pictures(calibrate, loaded, sizes, uint8) if calibrate else None
    lowest = 0.0 if accept else int8.ENOUGH
    options: dict[str, Any] = {"end_points": end_point, "batch": batch, "image_size": sizes, "pixels": uint8}
    options["overwrite"] = force
    try:
        with working(f"writing and proving {target}"):
            written = exports.export(loaded, target, **options, calibration=pictures, lowest_agreement=lowest)
    except exports.Unproven as error:
        complain(error)
        raise typer.Exit(1) from error
    out.print(f"{source} -> {target}: {written.kind}, {precision}, {', '.join(written.plan.end_points)}")
    if written.agreement:
        out.print(str(written.agreement))
        return
    worst = max(written.differences, key=lambda row: row.relative)
    out.print(differences_table(list(written.differences), exports.RELATIVE))
    out.print(f"equal to the Keras builder: largest difference {worst.absolute:.2e}, {worst.relative:.2e} relative")
