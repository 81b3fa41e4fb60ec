"""The OpenVINO builder: the inference plan as a model of its operations, around the plan's own arrays.

Images and maps are [n, height, width, channels] outside and channels-first inside, as in
the ONNX builder; end points have slim's names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inception import extras
from inception.architecture import END_POINTS
from inception.inference import plan as plans
from inception.inference.plan import Plan

_TO_FIRST, _TO_LAST = np.array([0, 3, 1, 2]), np.array([0, 2, 3, 1])  # channels-last <-> channels-first
_PADDING = {"SAME": "same_upper", "VALID": "valid"}


def model_of(plan: Plan, batch: int | None = None, image_size: tuple[int, int] | None = None) -> Any:
    """The `openvino.Model` of a plan. Its kernels are the plan's, not copies: the model keeps them alive.

    Args:
        plan: what to compute. Where it takes pixels, `images` is uint8, otherwise float32.
        batch: images in a run; None for any number.
        image_size: (height, width); None for any.

    Raises:
        ModuleNotFoundError: With one sentence, without the package openvino.
    """
    openvino = extras.load("openvino")
    ops = openvino.opset13
    shape = [batch or -1, *(image_size or (-1, -1)), plan.variant.channels]
    images = ops.parameter(shape, np.uint8 if plan.pixels else np.float32, name=plans.IMAGES)
    images.output(0).set_names({plans.IMAGES})
    values = plans.run(_Graph(openvino), plan, ops.transpose(ops.convert(images, "f32"), _TO_FIRST))
    results = []
    for name, value in values.items():
        is_map = name.partition("/")[0] in END_POINTS
        value = ops.transpose(value, _TO_LAST) if is_map else value
        value.output(0).set_names({name})
        results.append(ops.result(value))
    return openvino.Model(results, [images], "InceptionV3")


class _Graph(plans.Interpreter[Any]):
    """The operations as OpenVINO's; each has the name of the plan's and, behind a slash, its own kind."""

    def __init__(self, openvino: Any) -> None:
        self._ops = openvino.opset13
        self._openvino = openvino

    def _constant(self, array: np.ndarray) -> Any:
        return self._openvino.op.Constant(np.ascontiguousarray(array), shared_memory=True)

    def _channels(self, array: np.ndarray) -> Any:
        return self._constant(array.reshape(1, -1, 1, 1))

    def convolve(self, operation: plans.Convolve, x: Any) -> Any:
        name, strides, padding = f"{operation.output}/nchw", [operation.stride] * 2, _PADDING[operation.padding]
        kernel = self._constant(operation.kernel.transpose(3, 2, 0, 1))
        x = self._ops.convolution(x, kernel, strides, [0, 0], [0, 0], [1, 1], auto_pad=padding, name=name)
        return self.scale(plans.Scale(operation.output, "", None, operation.bias, operation.relu), x)

    def scale(self, operation: plans.Scale, x: Any) -> Any:
        if operation.scale is not None:
            x = self._ops.multiply(x, self._channels(operation.scale), name=f"{operation.output}/mul")
        if operation.offset is not None:
            x = self._ops.add(x, self._channels(operation.offset), name=f"{operation.output}/add")
        return self._ops.relu(x, name=f"{operation.output}/relu") if operation.relu else x

    def window(self, operation: plans.Window, x: Any) -> Any:
        strides, kernel, padding = [operation.stride] * 2, list(operation.kernel), _PADDING[operation.padding]
        if operation.kind == "max":
            x = self._ops.max_pool(x, strides, [1, 1], [0, 0], [0, 0], kernel, auto_pad=padding)
            return x.output(0)  # the second is where the largest were
        return self._ops.avg_pool(x, strides, [0, 0], [0, 0], kernel, operation.borders is None, auto_pad=padding)

    def join(self, operation: plans.Join, xs: list[Any]) -> Any:
        return self._ops.concat(xs, 1)

    def average(self, operation: plans.Average, x: Any) -> Any:
        return self._ops.reduce_mean(x, np.array([2, 3]))

    def dense(self, operation: plans.Dense, x: Any) -> Any:
        product = self._ops.matmul(x, self._constant(operation.kernel), False, False)
        return self._ops.add(product, self._constant(operation.bias))

    def softmax(self, operation: plans.Softmax, x: Any) -> Any:
        return self._ops.softmax(x, -1)
