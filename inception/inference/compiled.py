"""The network compiled for fast inference: arrays of images in, named arrays out.

    run = inception.compile_inference("weights.h5")
    run(images)["Predictions"]

One plan (`plan`), three engines (`engines`).
"""

from __future__ import annotations

import dataclasses
import logging
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from inception import arguments, pictures
from inception.inference import engines, int8
from inception.inference import plan as plans
from inception.inference.engines import ENGINES, PRECISIONS, Engine, Precision, Runner, Settings
from inception.inference.int8 import Agreement
from inception.inference.plan import Plan
from inception.networks import network_of
from inception.pictures import Picture
from inception.weights import Weights


class Inference:
    """A compiled network. Call it with images; `engine`, `end_points`, `plan` and `settings` say what it is.

    The plan is without its operations: their arrays are the engine's, and would lie in memory twice.
    `agreement` is that of an int8 network with the float32 one (see `int8`), otherwise None.
    """

    def __init__(
        self, plan: Plan, engine: str, settings: Settings, run: Runner, agreement: Agreement | None = None
    ) -> None:
        self.plan = dataclasses.replace(plan, operations=())
        self.engine = engine
        self.settings = settings
        self.agreement = agreement
        self._run = run

    @property
    def end_points(self) -> tuple[str, ...]:
        return self.plan.end_points

    @property
    def picture(self) -> Picture:
        """How a picture becomes an input: `run.picture.input("cat.jpg")`."""
        return self.plan.picture.at(self.settings.image_size)

    def __repr__(self) -> str:
        return f"Inference({self.engine}, {', '.join(self.end_points)}, {self.settings.precision})"

    def __call__(self, batch: Any) -> dict[str, np.ndarray]:
        """{end point: array} for images [n, height, width, channels], an array or a tensor, or for picture files.

        Files come in as the weights' `picture` has it. Floats are taken as the network's range
        (`preprocess_input`), uint8 as pixels 0..255, which are scaled first. Maps come back as
        [n, h, w, c], heads as [n, c]. With a fixed batch, any number of images runs in pieces
        of that size, the last one filled up and cut. Raises ValueError for another shape or
        type, and for floats far outside the network's range; warns
        (`pictures.SuspiciousRange`) of what looks like pixels / 255.
        """
        if isinstance(batch, str | os.PathLike) or (isinstance(batch, list | tuple) and _are_files(batch)):
            files = [batch] if isinstance(batch, str | os.PathLike) else batch
            batch = np.stack([self.picture.input(file) for file in files])
        return self.prepared(checked(np.asarray(batch), self.plan, self.settings.image_size))

    def prepared(self, array: np.ndarray) -> dict[str, np.ndarray]:
        """The same for float32 images that are known to fit: nothing is looked at."""
        size = self.settings.batch
        if size is None:
            results = [self._run(array)]
        else:
            results = [self._piece(array[start : start + size], size) for start in range(0, len(array), size)]
        return {name: _joined([piece[i] for piece in results]) for i, name in enumerate(self.end_points)}

    def _piece(self, piece: np.ndarray, size: int) -> list[np.ndarray]:
        missing = size - len(piece)
        full = np.concatenate([piece, np.zeros((missing, *piece.shape[1:]), np.float32)]) if missing else piece
        return [result[: len(piece)] for result in self._run(full)]


def _are_files(batch: Sequence[Any]) -> bool:
    return bool(batch) and all(isinstance(each, str | os.PathLike) for each in batch)


def checked(array: np.ndarray, plan: Plan, image_size: tuple[int, int] | None = None) -> np.ndarray:
    """Images [n, h, w, c] as a float32 plan takes them; uint8 pixels are scaled. ValueError for what does not fit.

    Floats may lie beyond the network's range by half of it: a bicubic resize overshoots.
    """
    channels = plan.variant.channels
    if array.ndim != 4 or array.shape[3] != channels or not len(array):
        raise ValueError(f"images have the shape {array.shape}; expected [n, height, width, {channels}], n > 0.")
    height, width = array.shape[1:3]
    if image_size is None:
        plans.check_size(plan.variant, plan.end_points, (height, width))
    elif (height, width) != image_size:
        raise ValueError(f"images are {height}x{width}; this network was compiled for {image_size[0]}x{image_size[1]}.")
    if array.dtype == np.uint8:
        return np.asarray(plan.picture.scaled(array))
    if array.dtype.kind != "f":
        raise ValueError(f"images are {array.dtype}; expected uint8 pixels, or floats in the network's range.")
    pictures.check_range(array, plan.picture, beyond=pictures.OVERSHOOT, stacklevel=4)
    return np.ascontiguousarray(array, np.float32)


def _joined(pieces: list[np.ndarray]) -> np.ndarray:
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


def compile_inference(
    weights_or_model: Any,
    *,
    end_points: Sequence[str] = ("Predictions",),
    engine: Engine = "auto",
    precision: Precision = "float32",
    batch: int | None = None,
    threads: int | None = None,
    streams: int = 1,
    image_size: int | Sequence[int] | None = None,
    calibration: Any = None,
    picture: str | Picture | None = None,
    allow_nan: bool = False,
) -> Inference:
    """A network ready to run, with batch norm folded in and nothing in it that `end_points` do not need.

    Args:
        weights_or_model: whatever `networks.network_of` takes and is a whole InceptionV3.
        end_points: slim's names: rows of the base (`Mixed_5b`: [n, h, w, c]), `AuxLogits`,
            `PreLogits` (the pooled features), `Logits`, `Predictions` ([n, c]). Weights without
            a classifier have no Predictions: ask for ("PreLogits",).
        engine: "openvino", "onnxruntime", "tensorflow", or "auto": the first of these that is installed.
        precision: "float32"; "bfloat16" where the processor has it, and "int8" (its stem in bfloat16
            where there is one, else float32): both OpenVINO's.
        batch: images in each run; None for as many as each call brings.
        threads: of the engine; None for its own choice. TensorFlow's are set once a process.
        streams: calls that OpenVINO computes at a time, where as many threads of yours make them: it divides its
            threads among them. More pictures a second for many calls, each of them slower; the others ignore it.
        image_size: a side or (height, width); None for any.
        calibration: for int8, some hundred images as the network will get them, [n, height,
            width, channels]. Every fifth is held out, and `agreement` measured on those; below
            99 % a warning (`int8.LowAgreement`) says so.
        picture: another way of a picture than the weights' own.
        allow_nan: take weights that are not finite. They are refused otherwise, for engines turn
            NaN into plausible numbers (OpenVINO's ReLU makes 0 of it).

    Raises:
        ValueError: for arguments that do not fit each other, the weights or this machine, and
            for weights with NaN or infinity where the end points need them.
        ModuleNotFoundError: naming the extra to install, for an engine that is not there.
    """
    settings = Settings(
        precision,
        arguments.count_or_none("batch", batch),
        arguments.sides("image_size", image_size),
        arguments.count_or_none("threads", threads),
        arguments.count("streams", streams),
    )
    _check(engine, settings, calibration)
    weights = network_of(weights_or_model, picture=picture).inception
    plan = plans.plan(weights, end_points, image_size=settings.image_size, allow_nan=allow_nan)
    if precision == "int8":
        return _quantized(weights, plan, settings, calibration)
    del weights  # of a path: as large as the plan, and nobody's any more
    name = engine if engine != "auto" else engines.preferred() if precision == "float32" else "openvino"
    logging.getLogger(__name__).info("%s is compiled by %s", ", ".join(plan.end_points), name)
    return Inference(plan, name, settings, engines.compiled(name, plan, settings))


def _check(engine: str, settings: Settings, calibration: Any) -> None:
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(
            f"Unknown engine {engine!r}{arguments.nearest(engine, ENGINES)}; expected auto, {', '.join(ENGINES)}."
        )
    check_precision(settings.precision, engine)
    if (settings.precision == "int8") != (calibration is not None):
        need = "needs calibration=, an array of images" if calibration is None else "takes no calibration images"
        raise ValueError(f"precision={settings.precision!r} {need}.")


def check_precision(precision: str, engine: str) -> None:
    """ValueError for a precision that there is not, and for one that an engine does not have."""
    if precision not in PRECISIONS:
        near = arguments.nearest(precision, PRECISIONS)
        raise ValueError(f"Unknown precision {precision!r}{near}; expected one of {', '.join(PRECISIONS)}.")
    if precision != "float32" and engine not in ("auto", "openvino"):
        raise ValueError(f"precision={precision!r} runs on engine='openvino' here, not on {engine!r}.")


def _quantized(weights: Weights, plan: Plan, settings: Settings, calibration: Any) -> Inference:
    images_in = checked(np.asarray(calibration), plan, settings.image_size)
    model, agreement = int8.quantized(weights, plan, list(images_in))
    if not agreement.enough:
        warnings.warn(str(agreement), int8.LowAgreement, stacklevel=3)
    height, width = settings.image_size or (-1, -1)
    model.reshape([settings.batch or -1, height, width, plan.variant.channels])
    return Inference(plan, "openvino", settings, engines.openvino_runner(model, plan.end_points, settings), agreement)
