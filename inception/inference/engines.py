"""The engines that run a plan: OpenVINO, ONNX Runtime, and TensorFlow with a frozen graph."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Literal

import numpy as np

from inception import extras
from inception.inference import plan as plans
from inception.inference.plan import Plan
from inception.inference.plan import Runner as Runner

Engine = Literal["auto", "openvino", "onnxruntime", "tensorflow"]
Precision = Literal["float32", "bfloat16", "int8"]

# The packages that each engine needs. `auto` takes the first that is installed; TensorFlow always is.
ENGINES: dict[str, tuple[str, ...]] = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnx"),
    "tensorflow": (),
}
PRECISIONS = ("float32", "bfloat16", "int8")


@dataclass(frozen=True)
class Settings:
    """How a plan runs.

    Attributes:
        precision: "float32", "bfloat16" or "int8".
        batch: images in a run; None for any number.
        image_size: (height, width); None for any.
        threads: None for the engine's own choice.
        streams: runs at a time, the threads divided among them: OpenVINO's alone.
    """

    precision: Precision = "float32"
    batch: int | None = None
    image_size: tuple[int, int] | None = None
    threads: int | None = None
    streams: int = 1


DEFAULTS = Settings()


def preferred() -> str:
    """The engine that "auto" takes here: the first of `ENGINES` whose packages can be imported."""
    return next(name for name, packages in ENGINES.items() if all(map(extras.installed, packages)))


def compiled(engine: str, plan: Plan, settings: Settings) -> Runner:
    """A function of float32 (or, where the plan says so, uint8) images that returns the end points in their order."""
    return {"openvino": _openvino, "onnxruntime": _onnxruntime, "tensorflow": _tensorflow}[engine](plan, settings)


def _tensorflow(plan: Plan, settings: Settings) -> Runner:
    from inception.inference.tensorflow import frozen

    return frozen(plan, image_size=settings.image_size, threads=settings.threads)


def _onnxruntime(plan: Plan, settings: Settings) -> Runner:
    extras.load("onnxruntime")
    from inception.inference import onnx

    arrays: dict[str, np.ndarray] = {}
    model = onnx.model_of(plan, batch=settings.batch, image_size=settings.image_size, outside=arrays)
    return onnxruntime_runner(model, plan.end_points, settings, arrays)


def onnxruntime_runner(
    model: Any,
    end_points: Sequence[str],
    settings: Settings = DEFAULTS,
    outside: Mapping[str, np.ndarray] | None = None,
) -> Runner:
    """An `onnx.ModelProto` in ONNX Runtime, on the processor. outside: arrays that the model only names."""
    runtime = extras.load("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = settings.threads or 0
    options.log_severity_level = 3
    values = {name: runtime.OrtValue.ortvalue_from_numpy(array) for name, array in (outside or {}).items()}
    options.add_external_initializers(list(values), list(values.values()))
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(images: np.ndarray, _alive: Any = values) -> list[np.ndarray]:  # the session does not keep them
        return session.run(list(end_points), {plans.IMAGES: images})

    return run


def _openvino(plan: Plan, settings: Settings) -> Runner:
    extras.load("openvino")
    from inception.inference import openvino

    return openvino_runner(openvino.model_of(plan, settings.batch, settings.image_size), plan.end_points, settings)


def openvino_runner(model: Any, end_points: Sequence[str], settings: Settings = DEFAULTS) -> Runner:
    """An OpenVINO model compiled for the processor. ValueError where it has no bfloat16 and that is asked for."""
    openvino = extras.load("openvino")
    core = openvino.Core()
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if settings.precision == "bfloat16" and not has_bfloat16:
        raise ValueError("This processor has no bfloat16; take precision='float32'.")
    # Said for float32 as well: OpenVINO would take bfloat16 by itself where the processor is fast at it.
    precision = "f32" if settings.precision == "float32" or not has_bfloat16 else "bf16"
    options = {"INFERENCE_PRECISION_HINT": precision}
    options |= {"NUM_STREAMS": str(settings.streams)} if settings.streams > 1 else {"PERFORMANCE_HINT": "LATENCY"}
    if settings.threads:
        options["INFERENCE_NUM_THREADS"] = str(settings.threads)

    def requests(fitted: Any) -> SimpleQueue[Any]:
        free: SimpleQueue[Any] = SimpleQueue()  # a request holds the buffers of one run
        network = core.compile_model(fitted, "CPU", options)
        for _ in range(settings.streams):
            free.put(network.create_infer_request())
        return free

    networks = _Networks(model, requests)

    def run(images: np.ndarray) -> list[np.ndarray]:
        free = networks.of(images.shape)
        request = free.get()
        try:
            results = request.infer({plans.IMAGES: images}, share_inputs=True)
            return [results[name] for name in end_points]
        finally:
            free.put(request)

    return run


class _Networks:
    """OpenVINO's of a model: one for the shape of images that comes first, which is 6 % faster, one for all others."""

    def __init__(self, model: Any, compile: Callable[[Any], SimpleQueue[Any]]) -> None:
        static = model.inputs[0].partial_shape.is_static
        self._open: Any = None if static else model  # keeps its kernels
        self._compile = compile
        self._lock = threading.Lock()
        self._made: dict[tuple[int, ...] | None, SimpleQueue[Any]] = {}
        if static:
            self._made[tuple(model.inputs[0].shape)] = compile(model)

    def of(self, shape: tuple[int, ...]) -> SimpleQueue[Any]:
        """The requests of the one for images of a shape, made when it is first needed."""
        with self._lock:
            if shape in self._made:
                return self._made[shape]
            if not self._made:
                fitted = self._open.clone()
                fitted.reshape(list(shape))
                return self._made.setdefault(shape, self._compile(fitted))
            if None not in self._made:
                self._made[None] = self._compile(self._open)
            return self._made[None]
