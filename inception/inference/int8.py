"""int8: the network in 8-bit numbers, calibrated on images, and how far it then agrees with itself in float32.

The quantization is NNCF's post-training one, of the OpenVINO or ONNX form of the plan. The
stem's five convolutions stay as they are: in 8 bits they alone cost most of the agreement
(of 52 photographs, 96 % with them and all without), and they save a seventh of the time.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from inception import extras
from inception.architecture import BASE, Conv
from inception.inference import engines
from inception.inference import plan as plans
from inception.inference.engines import DEFAULTS, Settings
from inception.inference.plan import Plan
from inception.weights import Weights

ENOUGH = 0.99  # of the held-out images have the same best class; for weights without classes, the mean cosine
SAMPLE = 250  # pictures that are enough to calibrate with and, every fifth, to measure
T = TypeVar("T")
_HELD_OUT = 5  # every fifth image is held out
_FEWEST = 10
_STEM = [f"{row.name}/.*" for row in BASE if isinstance(row, Conv)]


class LowAgreement(UserWarning):
    """An int8 network whose answers differ from the float32 one's more often than in 1 % of the held-out images."""


@dataclass(frozen=True)
class Agreement:
    """How an int8 network compares with the float32 one on held-out images.

    An image for which either network gives numbers that are not finite is a disagreement: cosine 0.

    Attributes:
        images: how many.
        top1: the share of images with the same best class (None without a classifier).
        cosine: of the pooled features, the mean.
        lowest_cosine: the worst image's.
    """

    images: int
    top1: float | None
    cosine: float
    lowest_cosine: float

    @property
    def share(self) -> float:
        """Top-1 agreement; without a classifier the mean cosine."""
        return self.cosine if self.top1 is None else self.top1

    @property
    def enough(self) -> bool:
        """Whether `share` is at least 99 %."""
        return self.share >= ENOUGH

    def check(self, least: float) -> None:
        """ValueError where `share` is below what is asked for."""
        if not self.share >= least:  # so that NaN is refused
            raise ValueError(
                f"{self} At least {least:.2%} is asked for; take bfloat16 or float32, or ask for less with "
                "--least-agreement (least_agreement=)."
            )

    def __str__(self) -> str:
        same = "" if self.top1 is None else f"the same best class as float32 for {self.top1:.1%} of them, "
        cosine = f"cosine of pooled features {self.cosine:.4f} (lowest {self.lowest_cosine:.4f})"
        less = "" if self.enough else f"; less than the {ENOUGH:.0%} that is expected"
        return f"int8 on {self.images} held-out images: {same}{cosine}{less}."


def spread(items: Sequence[T], most: int = SAMPLE) -> list[T]:
    """At most so many of the items, evenly spread and in their order."""
    return [items[int(i)] for i in np.linspace(0, len(items) - 1, min(len(items), most))]


def parts(images: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """(to calibrate with, to measure with): every fifth image is held out. ValueError for fewer than ten."""
    if len(images) < _FEWEST:
        raise ValueError(f"There are {len(images)} calibration images; expected {_FEWEST} at least, better hundreds.")
    held_out = [image for i, image in enumerate(images) if i % _HELD_OUT == _HELD_OUT - 1]
    return [image for i, image in enumerate(images) if i % _HELD_OUT != _HELD_OUT - 1], held_out


def quantized(
    weights: Weights, plan: Plan, images: Sequence[np.ndarray], settings: Settings = DEFAULTS
) -> tuple[Any, Agreement]:
    """The plan as an `openvino.Model` in int8, and how far it agrees with float32 on every fifth image.

    Args:
        images: [h, w, c] each, as the plan takes them.

    Raises:
        ValueError: For fewer than ten.
    """
    openvino = extras.load("openvino")
    from inception.inference.openvino import model_of

    calibration, held_out = parts(images)
    full = measuring(weights, plan)
    model = model_of(full, settings.batch, settings.image_size)
    float32 = _named(full, engines.openvino_runner(model, full.end_points))
    model = quantize(model, calibration)
    int8 = _named(full, engines.openvino_runner(model, full.end_points, Settings("int8")))
    agreed = agreement(float32, int8, held_out)
    wanted = [result for result in model.get_results() if result.input_value(0).names & set(plan.end_points)]
    return openvino.Model(wanted, model.get_parameters(), "InceptionV3"), agreed


def quantized_onnx(weights: Weights, plan: Plan, onnx_of: Callable[[Plan], Any], images: Sequence[np.ndarray]) -> Any:
    """The same as an `onnx.ModelProto`; `onnx_of` writes a plan as one. ONNX Runtime measures its agreement."""
    calibration, held_out = parts(images)
    full = measuring(weights, plan)
    model = onnx_of(full)
    float32 = _named(full, engines.onnxruntime_runner(model, full.end_points))
    model = quantize(model, calibration)
    int8 = _named(full, engines.onnxruntime_runner(model, full.end_points))
    agreed = agreement(float32, int8, held_out)
    for name in set(full.end_points) - set(plan.end_points):
        for kind in (model.graph.output, model.graph.node):
            kind.remove(next(item for item in kind if item.name == name))
    return model, agreed


def _named(plan: Plan, run: engines.Runner) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    return lambda images: dict(zip(plan.end_points, run(images), strict=True))


def measuring(weights: Weights, plan: Plan) -> Plan:
    """The plan with the end points besides its own that agreement is measured at."""
    needed = ("PreLogits", "Predictions") if weights.variant.num_classes else ("PreLogits",)
    points = (*plan.end_points, *(name for name in needed if name not in plan.end_points))
    return plans.plan(weights, points, pixels=plan.pixels)


def quantize(model: Any, images: Sequence[np.ndarray]) -> Any:
    """An `openvino.Model` or `onnx.ModelProto` in int8 but for its stem, ranges taken from images [h, w, c]."""
    nncf = extras.load("nncf")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    dataset = nncf.Dataset([image[None] for image in images], lambda image: {plans.IMAGES: image})
    stem = nncf.IgnoredScope(patterns=_STEM)
    with contextlib.redirect_stdout(io.StringIO()):  # its bars
        return nncf.quantize(model, dataset, subset_size=len(images), ignored_scope=stem)


def agreement(
    float32: Callable[[np.ndarray], dict[str, np.ndarray]],
    int8: Callable[[np.ndarray], dict[str, np.ndarray]],
    images: Sequence[np.ndarray],
) -> Agreement:
    """Both networks on the same images [h, w, c], one by one; they return PreLogits and, if any, Predictions."""
    same, cosines = [], []
    for image in images:
        a, b = float32(image[None]), int8(image[None])
        finite = all(np.isfinite(array).all() for array in (*a.values(), *b.values()))
        if "Predictions" in a:
            same.append(int(finite and a["Predictions"].argmax() == b["Predictions"].argmax()))
        left, right = a["PreLogits"].ravel(), b["PreLogits"].ravel()
        norms = float(np.linalg.norm(left) * np.linalg.norm(right))
        cosines.append(float(left @ right) / norms if finite and norms else 0.0)
    top1 = float(np.mean(same)) if same else None
    return Agreement(len(images), top1, float(np.mean(cosines)), min(cosines))
