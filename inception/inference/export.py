"""The inference network as a file for other runtimes, proven in its own before it counts as written.

ONNX, TensorFlow's SavedModel, LiteRT (.tflite) and OpenVINO IR: one input `images`
[n, height, width, channels], one output for each end point under slim's name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inception import arguments, extras, images, verify
from inception import labels as names
from inception import pictures as ways
from inception.files import atomic
from inception.inference import Settings, int8
from inception.inference import plan as plans
from inception.inference.int8 import Agreement
from inception.inference.plan import Plan
from inception.networks import network_of
from inception.verify import Difference
from inception.weights import Weights, formats

KINDS = {".onnx": "ONNX", ".tflite": "LiteRT", ".xml": "OpenVINO IR", "": "SavedModel"}
RELATIVE = 1e-5  # to the Keras builder, of an end point's largest number
ABSOLUTE = 1e-4  # of a probability
_SIGNATURE = "serving_default"
_SAID = Path("assets.extra", "inception.json")  # of a SavedModel: what it is, and all that was written
_CHECKED = 2  # images that every file is run with
PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_MOST_PICTURES = 500
Files = Callable[[np.ndarray], dict[str, np.ndarray]]


class Unproven(ValueError):
    """A file that was made and then not kept: it differs too much from the network it should be."""


@dataclass(frozen=True)
class Export:
    """A file that was written, and how it compared.

    Attributes:
        path: of the file, or the folder.
        kind: its format.
        plan: what is in it.
        differences: to the Keras builder in float32, a row an end point.
        agreement: of int8 with float32.
    """

    path: Path
    kind: str
    plan: Plan
    differences: tuple[Difference, ...]
    agreement: Agreement | None = None


@dataclass(frozen=True)
class _Task:
    """What is written: the plan, the sizes that are fixed, what the file says of itself."""

    weights: Weights
    plan: Plan
    batch: int | None
    image_size: tuple[int, int] | None
    labels: tuple[names.Label, ...] | None


def export(
    network: Any,
    target: str | os.PathLike[str],
    *,
    end_points: Sequence[str] | None = None,
    batch: int | None = None,
    image_size: int | Sequence[int] | None = None,
    pixels: bool = False,
    calibration: np.ndarray | Sequence[np.ndarray] | None = None,
    lowest_agreement: float = 0.0,
    overwrite: bool = True,
) -> Export:
    """Writes `target` and proves it. Its ending names the format: .onnx, .tflite, .xml, or none: a SavedModel folder.

    Args:
        network: whatever `networks.network_of` takes and is a whole InceptionV3.
        end_points: Predictions where none are given, PreLogits (pooled features) of weights
            without a classifier.
        batch, image_size: fixed sizes of the input; None leaves them to the file's user.
        pixels: the file takes uint8 pixels 0..255 and scales them itself.
        calibration: images [h, w, c] as the file will get them; then it is written in int8
            (.onnx and .xml), and every fifth image measures how far it agrees with float32.
        lowest_agreement: below it nothing is written (`int8.ENOUGH` is a good one).
        overwrite: an old file may be replaced, and a folder as long as it holds what was
            written here and nothing else. The file that the weights came from never is.

    Before the file takes its name it is run in its own runtime on fixed images. Raises
    `Unproven`, a ValueError, and leaves what was there before, when it is farther from the Keras
    builder than 1e-5 (relative, any end point) or 1e-4 (a probability), or agrees too little;
    ValueError for arguments that do not fit and weights that are not finite; ModuleNotFoundError
    that names the extra a format needs.
    """
    target = Path(target)
    size, batch = arguments.sides("image_size", image_size), arguments.count_or_none("batch", batch)
    loaded = network_of(network)
    weights = loaded.inception
    kind = check_target(target, int8=calibration is not None, overwrite=overwrite, source=weights.source.path)
    place = Path(os.path.realpath(target)) if target.is_symlink() else target
    points = tuple(end_points or (("Predictions",) if weights.variant.num_classes else ("PreLogits",)))
    plan = plans.plan(weights, points, pixels=pixels, image_size=size)
    unnamed = names.numbered(weights.variant.num_classes)
    task = _Task(weights, plan, batch, size, None if loaded.labels in (None, unnamed) else loaded.labels)
    with atomic.beside(place.absolute().parent) as folder:
        made = folder / (target.name if target.suffix else "saved_model")
        if calibration is not None:
            _check_calibration(calibration, plan)
            agreement = _write_int8(task, made, list(calibration))
            if not agreement.share >= lowest_agreement:  # so that NaN is refused
                raise Unproven(f"{target} was not written: {agreement}")
            differences: tuple[Difference, ...] = ()
        else:
            _WRITERS[kind](task, made)
            agreement, differences = None, compare(task, _READERS[kind](made))
            _refuse_differences(differences, target)
        _put(made, place, overwrite)
    return Export(target, kind, plan, differences, agreement)


def _check_calibration(calibration: np.ndarray | Sequence[np.ndarray], plan: Plan) -> None:
    if not plan.pixels:
        ends = np.array([(np.min(image), np.max(image)) for image in calibration])
        ways.check_range(ends, plan.picture, "calibration images", beyond=ways.OVERSHOOT, stacklevel=4)


def check_target(
    target: str | os.PathLike[str],
    *,
    int8: bool = False,
    overwrite: bool = True,
    source: str | os.PathLike[str] | None = None,
) -> str:
    """Which of `KINDS` will be written. ValueError, before any work, where the target cannot be written or replaced."""
    target = Path(target)
    kind = KINDS.get(target.suffix)
    if kind is None:
        expected = ", ".join(f"{ending} ({name})" for ending, name in KINDS.items() if ending)
        raise ValueError(f"{target.name} has no ending of a format; expected {expected}, or none for a SavedModel.")
    if int8 and kind not in ("ONNX", "OpenVINO IR"):
        raise ValueError(f"{kind} is not written in int8 here; take .onnx or .xml.")
    if kind == "SavedModel":
        _check_folder(target, overwrite)
        return kind
    sources = formats.files_of(source) if source is not None else ()
    files = [target.with_suffix(".bin"), target] if kind == "OpenVINO IR" else [target]
    for file in files:
        atomic.check_target(file, overwrite, sources, follow_links=len(files) == 1)
    return kind


def _check_folder(target: Path, overwrite: bool) -> None:
    place = Path(os.path.realpath(target))
    if not place.parent.is_dir():
        raise ValueError(f"The folder {place.parent} does not exist; make it first.")
    atomic.recover(place)
    if not os.path.lexists(place):
        return
    if not place.is_dir():
        raise ValueError(f"{target} is no folder, which a SavedModel is; give another name.")
    if any(place.iterdir()) and not _is_ours(place):
        raise ValueError(f"{target} is a folder with other things in it than an export; give another name.")
    if any(place.iterdir()) and not overwrite:
        raise ValueError(f"{target} is there already; --force (overwrite=True) replaces it, or give another name.")


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds what was exported, to the last byte, and nothing else."""
    try:
        return bool(json.loads((folder / _SAID).read_bytes())["files"] == _contents(folder))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def _contents(folder: Path) -> dict[str, str]:
    """{path in the folder: SHA-256 of the file, or nothing for what is no file}, but for the file that says it."""
    there = sorted(path for path in folder.rglob("*") if path != folder / _SAID)
    digest = {path: hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "" for path in there}
    return {path.relative_to(folder).as_posix(): digest[path] for path in there}


def pictures(
    folder: str | os.PathLike[str], network: Any, image_size: tuple[int, int] | None = None, pixels: bool = False
) -> list[np.ndarray]:
    """The pictures in a folder (by their endings; at most 500, evenly spread) as calibration images [h, w, c].

    Brought to `image_size`, or the size of the network's picture, as that says; floats in the
    network's range, or uint8 where `pixels` says so. Raises ValueError for a folder without
    pictures and for one that cannot be read.
    """
    paths = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in PICTURES)
    if not paths:
        raise ValueError(f"The folder {os.fspath(folder)} has no pictures; expected files as {', '.join(PICTURES)}.")
    picture = network_of(network).picture.at(image_size)
    chosen = int8.spread(paths, _MOST_PICTURES)
    if pixels:
        return [np.rint(picture.resized(path)).astype(np.uint8) for path in chosen]
    return [picture.input(path) for path in chosen]


# --- The check -------------------------------------------------------------------------


def compare(task: _Task, run: Files) -> tuple[Difference, ...]:
    """A written file against the Keras builder, on fixed images: a row for each end point."""
    variant = task.weights.variant
    height, width = task.image_size or task.weights.picture.sides
    pixels = _fixed_images(height, width, variant.channels, task.batch or _CHECKED)
    floats = np.asarray(task.weights.picture.scaled(pixels))
    expected = _keras(task.weights, task.plan.end_points, floats)
    outputs = run(pixels if task.plan.pixels else floats)
    return tuple(_difference(name, expected[name], outputs[name]) for name in task.plan.end_points)


def _fixed_images(height: int, width: int, channels: int, count: int) -> np.ndarray:
    """Pictures that are always the same, none like the other: uint8 [count, height, width, channels]."""
    picture = images.test_picture(max(height, width))[:height, :width]
    turned = [picture, 255 - picture[:, ::-1]] * count
    planes = np.stack(turned[:count])
    return np.ascontiguousarray(planes[..., np.arange(channels) % 3])


def _keras(weights: Weights, end_points: Sequence[str], floats: np.ndarray) -> dict[str, np.ndarray]:
    if weights.variant.aux_logits and "AuxLogits" not in end_points:
        weights = weights.step("drop-aux")
    return verify.keras_end_points(weights, floats, end_points)


def _difference(name: str, expected: np.ndarray, output: np.ndarray) -> Difference:
    if expected.shape != output.shape:
        raise Unproven(f"{name} comes out of the file as {output.shape}; the Keras builder has {expected.shape}.")
    return verify.difference(name, expected.astype(np.float64), output.astype(np.float64))


def _refuse_differences(differences: Sequence[Difference], target: Path) -> None:
    for row in differences:
        # Comparisons are turned round, so that NaN is refused.
        if not row.relative <= RELATIVE or (row.end_point == "Predictions" and not row.absolute <= ABSOLUTE):
            raise Unproven(
                f"{target} was not written: its {row.end_point} differ from the Keras builder's by {row.absolute:.2e} "
                f"({row.relative:.2e} relative); allowed are {RELATIVE:g} relative, and {ABSOLUTE:g} of a probability."
            )


# --- Formats ---------------------------------------------------------------------------


def _onnx_model(task: _Task, plan: Plan) -> Any:
    from inception.inference import onnx

    return onnx.model_of(plan, batch=task.batch, image_size=task.image_size, labels=task.labels)


def _metadata(task: _Task) -> dict[str, str]:
    from inception.inference import onnx

    return onnx.metadata(task.plan, task.labels)


def _write_onnx(task: _Task, made: Path) -> None:
    made.write_bytes(_onnx_model(task, task.plan).SerializeToString())


def _read_onnx(made: Path) -> Files:
    runtime = extras.load("onnxruntime")
    session = runtime.InferenceSession(os.fspath(made), providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    return lambda array: dict(zip(outputs, session.run(outputs, {plans.IMAGES: array}), strict=True))


def _write_saved_model(task: _Task, made: Path) -> None:
    import tensorflow as tf

    from inception.inference import tensorflow as builder

    module = tf.Module()
    module.serve = tf.function(
        lambda images: builder.outputs_of(task.plan, images),
        input_signature=[builder.spec_of(task.plan, task.batch, task.image_size)],
        autograph=False,
    )
    tf.saved_model.save(module, os.fspath(made), signatures={_SIGNATURE: module.serve})
    said = made / _SAID
    said.parent.mkdir()
    said.write_text(json.dumps(_metadata(task) | {"files": _contents(made)}, indent=1), encoding="utf-8")


def _read_saved_model(made: Path) -> Files:
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(made))
    serve = loaded.signatures[_SIGNATURE]

    def run(array: np.ndarray, _keep_alive: Any = loaded) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in serve(images=tf.constant(array)).items()}

    return run


def _write_tflite(task: _Task, made: Path) -> None:
    import tensorflow as tf

    saved_model = made.with_suffix("")
    _write_saved_model(task, saved_model)
    converter = tf.lite.TFLiteConverter.from_saved_model(os.fspath(saved_model), signature_keys=[_SIGNATURE])
    made.write_bytes(converter.convert())
    shutil.rmtree(saved_model)


def _read_tflite(made: Path) -> Files:
    if extras.installed("ai_edge_litert"):
        from ai_edge_litert.interpreter import Interpreter
    else:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*tf.lite.Interpreter is deprecated")
        interpreter = Interpreter(model_path=os.fspath(made))

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        return dict(interpreter.get_signature_runner(_SIGNATURE)(images=array))

    return run


def _write_openvino(task: _Task, made: Path) -> None:
    from inception.inference.openvino import model_of

    _save_openvino(model_of(task.plan, task.batch, task.image_size), task, made)


def _save_openvino(model: Any, task: _Task, made: Path) -> None:
    for key, value in _metadata(task).items():
        model.set_rt_info(value, ["inception", key])
    extras.load("openvino").save_model(model, os.fspath(made), compress_to_fp16=False)


def _read_openvino(made: Path) -> Files:
    openvino = extras.load("openvino")
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(os.fspath(made)), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    outputs = [output.get_any_name() for output in compiled.outputs]

    def run(array: np.ndarray) -> dict[str, np.ndarray]:
        results = compiled(array)
        return {name: results[name] for name in outputs}

    return run


def _write_int8(task: _Task, made: Path, calibration: Sequence[np.ndarray]) -> Agreement:
    """The file in int8; the agreement is measured in the file's own runtime."""
    if made.suffix == ".xml":
        settings = Settings(batch=task.batch, image_size=task.image_size)
        model, agreement = int8.quantized(task.weights, task.plan, calibration, settings)
        _save_openvino(model, task, made)
    else:
        model, agreement = int8.quantized_onnx(task.weights, task.plan, partial(_onnx_model, task), calibration)
        made.write_bytes(model.SerializeToString())
    return agreement


_WRITERS: dict[str, Callable[[_Task, Path], None]] = {
    "ONNX": _write_onnx,
    "SavedModel": _write_saved_model,
    "LiteRT": _write_tflite,
    "OpenVINO IR": _write_openvino,
}
_READERS: dict[str, Callable[[Path], Files]] = {
    "ONNX": _read_onnx,
    "SavedModel": _read_saved_model,
    "LiteRT": _read_tflite,
    "OpenVINO IR": _read_openvino,
}


# --- Whole or not at all ---------------------------------------------------------------


def _put(made: Path, target: Path, overwrite: bool) -> None:
    """What was made takes its place: a file, the two of OpenVINO's IR, or a folder."""
    if made.is_dir():
        with atomic.taking_turns(target):
            _check_folder(target, overwrite)
            atomic.put_folder(made, target)
        return
    files = [made.with_suffix(".bin"), made] if made.suffix == ".xml" else [made]
    targets = [target.with_name(file.name) for file in files]
    with atomic.replacing(*targets, together=len(files) > 1) as temporary:
        for file, place in zip(files, temporary, strict=True):
            file.rename(place)
