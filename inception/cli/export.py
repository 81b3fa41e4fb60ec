"""The verb export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from inception.cli import options
from inception.cli.terminal import answer, complain, network, working
from inception.cli.weights import differences, differences_table

if TYPE_CHECKING:
    from inception.networks import Network


def export(
    source: options.WeightFile,
    target: Annotated[
        Path, typer.Argument(help="Or -o: what to write, .onnx, .tflite, .xml (OpenVINO), else a SavedModel folder.")
    ],
    end_point: options.EndPoints = None,
    size: Annotated[
        int | None, typer.Option("--size", min=0, help="Side of the input in pixels, 0: any; the weights' own.")
    ] = None,
    picture: options.Way = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Pictures at a time; any number where none is given.")
    ] = None,
    uint8: Annotated[bool, typer.Option("--uint8", help="Take pixels 0..255 and scale them inside.")] = False,
    precision: Annotated[
        str, options.one_of("--precision", "float32|int8", "int8: of .onnx and .xml, with --calibrate.")
    ] = "float32",
    calibrate: Annotated[
        Path | None, typer.Option(help="A folder of pictures for int8; every fifth measures the agreement.")
    ] = None,
    least_agreement: options.LeastAgreement = 0.99,
    force: options.Force = False,
) -> None:
    """Writes the inference network for another runtime, and proves the file in that runtime."""
    from inception import quiet
    from inception.inference import export as exports
    from inception.inference import plan as plans

    if (precision == "int8") != (calibrate is not None):
        raise ValueError(f"--precision is {precision}; expected float32, or int8 together with --calibrate FOLDER.")
    exports.check_target(target, int8=precision == "int8", overwrite=force, source=source)

    def check(found: Network) -> None:
        if end_point:
            plans.check_end_points(found.inception, end_point)

    loaded = network(source, check, picture=picture)
    sizes = loaded.picture.sides if size is None else (size, size) if size else None
    quiet.import_tensorflow()
    pictures = exports.pictures(calibrate, loaded, sizes, uint8) if calibrate else None
    given: dict[str, Any] = {"end_points": end_point, "batch": batch, "image_size": sizes, "pixels": uint8}
    given |= {"overwrite": force, "calibration": pictures, "lowest_agreement": least_agreement}
    try:
        with working(f"writing and proving {target}"), quiet.held():
            written = exports.export(loaded, target, **given)
    except exports.Unproven as error:
        complain(error)
        raise typer.Exit(1) from error
    made = f"{source} -> {target}: {written.kind}, {precision}, {', '.join(written.plan.end_points)}"
    record = {"out": target, "kind": written.kind, "precision": precision, "end_points": written.plan.end_points}
    record |= {"agreement": written.agreement and written.agreement.share}
    record |= {"differences": differences(written.differences)}
    if written.agreement:
        answer(record, made, str(written.agreement))
        return
    worst = max(written.differences, key=lambda row: row.relative)
    equal = f"equal to the Keras builder: largest difference {worst.absolute:.2e}, {worst.relative:.2e} relative"
    answer(record, made, differences_table(list(written.differences), exports.RELATIVE), equal)
