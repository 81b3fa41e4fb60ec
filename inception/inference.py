"""The network compiled for fast inference: arrays of images in, named arrays out.

    run = inception.compile_inference("weights.h5", engine="auto")
    run(images)["Predictions"]

One plan (`inference_plan`), three engines: OpenVINO and ONNX Runtime take it as ONNX,
TensorFlow as a frozen graph.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inception import extras, images
from inception import inference_plan as plans
from inception.inference_plan import Plan
from inception.weights import Weights, atomic, formats, inert_json

if TYPE_CHECKING:
    from inception.quantization import Agreement

Engine = Literal["auto", "openvino", "onnxruntime", "tensorflow"]
Precision = Literal["float32", "bfloat16", "int8"]
Runner = Callable[[np.ndarray], Sequence[np.ndarray]]

# The packages that each engine needs; those in front win where nothing was measured.
ENGINES: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "tensorflow": (),
}
PRECISIONS = ("float32", "bfloat16", "int8")
_MOST_MEASURED = 8  # images of a batch that `auto` measures with
_ROUNDS = 3
_MOST_REMEMBERED = 200


@dataclass(frozen=True)
class Settings:
    """How a plan is to be run: sizes that are fixed (None: any), threads (None: the engine's own choice)."""

    precision: Precision = "float32"
    batch: int | None = None
    image_size: tuple[int, int] | None = None
    threads: int | None = None


DEFAULTS = Settings()


class Inference:
    """A compiled network. Call it with images; `engine`, `end_points`, `plan` and `settings` say what it is.

    `agreement` is that of an int8 network with the float32 one (see `quantization`), otherwise None.
    """

    def __init__(
        self, plan: Plan, engine: str, settings: Settings, run: Runner, agreement: Agreement | None = None
    ) -> None:
        self.plan = plan
        self.engine = engine
        self.settings = settings
        self.agreement = agreement
        self._run = run

    @property
    def end_points(self) -> tuple[str, ...]:
        return self.plan.end_points

    def __call__(self, batch: Any) -> dict[str, np.ndarray]:
        """{end point: array} for images [n, height, width, channels], an array or a tensor.

        Floats are taken as the network's range (`images.preprocess_input`), uint8 as pixels
        0..255, which are scaled first. Maps come back as [n, h, w, c], heads as [n, c]. With a
        fixed batch, any number of images runs in pieces of that size, the last one filled up
        and cut. Raises ValueError for another shape or type.
        """
        array = checked(np.asarray(batch), self.plan, self.settings.image_size)
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


def checked(array: np.ndarray, plan: Plan, image_size: tuple[int, int] | None = None) -> np.ndarray:
    """Images [n, h, w, c] as a float32 plan takes them; uint8 pixels are scaled. ValueError for what does not fit."""
    channels = plan.variant.channels
    if array.ndim != 4 or array.shape[3] != channels or not len(array):
        raise ValueError(f"images have the shape {array.shape}; expected [n, height, width, {channels}], n > 0.")
    height, width = array.shape[1:3]
    if image_size is None:
        plans.check_size(plan.variant, plan.end_points, (height, width))
    elif (height, width) != image_size:
        raise ValueError(f"images are {height}x{width}; this network was compiled for {image_size[0]}x{image_size[1]}.")
    if array.dtype == np.uint8:
        return images.preprocess_input(array, variant=plan.variant)
    if array.dtype.kind != "f":
        raise ValueError(f"images are {array.dtype}; expected uint8 pixels, or floats in the network's range.")
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
    image_size: int | tuple[int, int] | None = None,
    calibration: Any = None,
) -> Inference:
    """A network ready to run, with batch norm folded in and nothing in it that `end_points` do not need.

    Args:
        weights_or_model: a weight file's path (any format read here) or a published id,
            `Weights`, or a Keras InceptionV3 model.
        end_points: slim's names: rows of the base (`Mixed_5b`: [n, h, w, c]), `AuxLogits`,
            `PreLogits` (the pooled features), `Logits`, `Predictions` ([n, c]). Weights without
            a classifier have no Predictions: ask for ("PreLogits",).
        engine: "openvino", "onnxruntime", "tensorflow", or "auto": the fastest of those installed.
            That is measured once (some seconds, batches of up to 8 images) for each machine,
            precision, batch, size and width, and remembered in `cache_file()`.
        precision: "float32"; "bfloat16" where the processor has it, and "int8" (its stem in bfloat16
            where there is one, else float32): both OpenVINO's.
        batch: images in each run; None for as many as each call brings.
        threads: of the engine; None for its own choice. TensorFlow's are set once a process.
        image_size: a side or (height, width); None for any.
        calibration: for int8, some hundred images as the network will get them, [n, height,
            width, channels]. Every fifth is held out, and `agreement` measured on those; below
            99 % a warning (`quantization.LowAgreement`) says so.

    Raises:
        ValueError: for arguments that do not fit each other, the weights or this machine.
        ModuleNotFoundError: naming the extra to install, for an engine that is not there.
    """
    settings = Settings(precision, batch, _size(image_size), threads)
    _check(engine, settings, calibration)
    weights = weights_of(weights_or_model)
    plan = plans.plan(weights, end_points, image_size=settings.image_size)
    if precision == "int8":
        return _quantized(weights, plan, settings, calibration)
    if precision == "bfloat16":
        return Inference(plan, "openvino", settings, compiled("openvino", plan, settings))
    name, run = (engine, compiled(engine, plan, settings)) if engine != "auto" else _fastest(plan, settings)
    return Inference(plan, name, settings, run)


def weights_of(weights_or_model: Any) -> Weights:
    """Canonical weights from a path, from a Keras InceptionV3, or as they are. ValueError for anything else."""
    if isinstance(weights_or_model, Weights):
        return weights_or_model
    if isinstance(weights_or_model, str | os.PathLike):
        return formats.load(weights_or_model)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(weights_or_model, keras.Model):
        from inception.builders.keras import to_weights

        return to_weights(weights_or_model)
    kind = type(weights_or_model).__name__
    raise ValueError(f"weights_or_model is a {kind}; expected a path, Weights, or a Keras InceptionV3 model.")


def _size(image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    return (image_size, image_size) if isinstance(image_size, int) else image_size


def _check(engine: str, settings: Settings, calibration: Any) -> None:
    if engine != "auto" and engine not in ENGINES:
        raise ValueError(f"Unknown engine {engine!r}; expected auto, {', '.join(ENGINES)}.")
    if settings.precision not in PRECISIONS:
        raise ValueError(f"Unknown precision {settings.precision!r}; expected one of {', '.join(PRECISIONS)}.")
    for name in ("batch", "threads"):
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} is {value}; expected at least 1, or None.")
    if settings.precision != "float32" and engine not in ("auto", "openvino"):
        raise ValueError(f"precision={settings.precision!r} runs on engine='openvino' here, not on {engine!r}.")
    if (settings.precision == "int8") != (calibration is not None):
        need = "needs calibration=, an array of images" if calibration is None else "takes no calibration images"
        raise ValueError(f"precision={settings.precision!r} {need}.")


# --- Engines ---------------------------------------------------------------------------


def compiled(engine: str, plan: Plan, settings: Settings) -> Runner:
    """A function of float32 (or, where the plan says so, uint8) images that returns the end points in their order."""
    return {"openvino": _openvino, "onnxruntime": _onnxruntime, "tensorflow": _tensorflow}[engine](plan, settings)


def _tensorflow(plan: Plan, settings: Settings) -> Runner:
    from inception.builders.tensorflow import frozen

    return frozen(plan, image_size=settings.image_size, threads=settings.threads)


def _onnxruntime(plan: Plan, settings: Settings) -> Runner:
    extras.load("onnxruntime")
    from inception.builders import onnx

    model = onnx.model_of(plan, batch=settings.batch, image_size=settings.image_size)
    return onnxruntime_runner(model, plan.end_points, settings)


def onnxruntime_runner(model: Any, end_points: Sequence[str], settings: Settings = DEFAULTS) -> Runner:
    """An `onnx.ModelProto` in ONNX Runtime, on the processor."""
    runtime = extras.load("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = settings.threads or 0
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(list(end_points), {plans.IMAGES: images})


def _openvino(plan: Plan, settings: Settings) -> Runner:
    return openvino_runner(openvino_model(plan, settings), plan.end_points, settings)


def openvino_model(plan: Plan, settings: Settings) -> Any:
    """The plan as an `openvino.Model`."""
    openvino = extras.load("openvino")
    from inception.builders import onnx

    model = onnx.model_of(plan, batch=settings.batch, image_size=settings.image_size)
    return openvino.Core().read_model(model.SerializeToString())


def openvino_runner(model: Any, end_points: Sequence[str], settings: Settings = DEFAULTS) -> Runner:
    """An OpenVINO model compiled for the processor. ValueError where it has no bfloat16 and that is asked for."""
    openvino = extras.load("openvino")
    core = openvino.Core()
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if settings.precision == "bfloat16" and not has_bfloat16:
        raise ValueError("This processor has no bfloat16; take precision='float32'.")
    # Said for float32 as well: OpenVINO would take bfloat16 by itself where the processor is fast at it.
    precision = "f32" if settings.precision == "float32" or not has_bfloat16 else "bf16"
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if settings.threads:
        options["INFERENCE_NUM_THREADS"] = str(settings.threads)
    request = core.compile_model(model, "CPU", options).create_infer_request()
    lock = threading.Lock()  # a request holds the buffers of one run

    def run(images: np.ndarray) -> list[np.ndarray]:
        with lock:
            results = request.infer({plans.IMAGES: images}, share_inputs=True)
            return [results[name] for name in end_points]

    return run


def _quantized(weights: Weights, plan: Plan, settings: Settings, calibration: Any) -> Inference:
    from inception import quantization

    images_in = checked(np.asarray(calibration), plan, settings.image_size)
    model, agreement = quantization.quantized(weights, plan, list(images_in))
    if not agreement.enough:
        warnings.warn(str(agreement), quantization.LowAgreement, stacklevel=3)
    height, width = settings.image_size or (-1, -1)
    model.reshape([settings.batch or -1, height, width, plan.variant.channels])
    return Inference(plan, "openvino", settings, openvino_runner(model, plan.end_points, settings), agreement)


# --- The fastest of them ---------------------------------------------------------------


def cache_file() -> Path | None:
    """Where the fastest engines are remembered: `inception/engines.json` in XDG_CACHE_HOME, else in ~/.cache.

    None for a user who has no home folder.
    """
    folder = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return None if folder.startswith("~") else Path(folder) / "inception" / "engines.json"


def _fastest(plan: Plan, settings: Settings) -> tuple[str, Runner]:
    """The fastest engine that is installed and a runner of it: remembered, or measured now."""
    there = [name for name, packages in ENGINES.items() if all(map(extras.installed, packages))]
    if len(there) == 1:
        return there[0], compiled(there[0], plan, settings)
    key = _key(there, plan, settings)
    best = _remembered().get(key)
    if best in there:
        return best, compiled(best, plan, settings)
    runners = {name: compiled(name, plan, settings) for name in there}
    seconds = measured(runners, _random_images(plan, settings))
    best = min(seconds, key=lambda name: seconds[name])
    _remember(key, best)
    return best, runners[best]


def _key(engines: Sequence[str], plan: Plan, settings: Settings) -> str:
    """What the choice depends on: the machine, the engines' versions, what is computed and how."""
    packages = {"tensorflow", *(package for name in engines for package in ENGINES[name])}
    versions = {package: importlib.metadata.version(package) for package in sorted(packages)}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    what = [settings.batch, settings.image_size, settings.threads, plan.variant.depth_multiplier, plan.end_points]
    return json.dumps([_processor(), cores, versions, what])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _random_images(plan: Plan, settings: Settings) -> np.ndarray:
    """A batch like the ones to come: 8 images where their number is open, the weights' own size where that is."""
    size = plan.variant.image_size
    batch = settings.batch or _MOST_MEASURED
    shape = (batch, *(settings.image_size or (size, size)), plan.variant.channels)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def measured(runners: Mapping[str, Runner], images: np.ndarray) -> dict[str, float]:
    """{name: seconds of its fastest run}: a run to warm up, then each in turn, so that none has the quiet minute."""
    for run in runners.values():
        run(images)
    seconds = {name: float("inf") for name in runners}
    for _ in range(_ROUNDS):
        for name, run in runners.items():
            start = time.perf_counter()
            run(images)
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def _remembered() -> dict[str, str]:
    """What is in the cache; nothing where it is missing or no longer readable."""
    if (file := cache_file()) is None:
        return {}
    try:
        return inert_json.side_file(file, {})
    except ValueError:
        return {}


def _remember(key: str, engine: str) -> None:
    """Adds to the cache; where it cannot be written, the next process measures again."""
    if (file := cache_file()) is None:
        return
    entries = list((_remembered() | {key: engine}).items())[-_MOST_REMEMBERED:]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic.replacing(file) as (temporary,):
            temporary.write_text(json.dumps(dict(entries), indent=1), encoding="utf-8")
    except OSError:
        return
