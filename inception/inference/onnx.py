"""The ONNX builder: the inference plan as a model that any ONNX runtime takes.

One input, `images`; one output for each end point, under slim's name. Images and maps are
[n, height, width, channels], as everywhere here; inside, the graph is channels-first, as
ONNX's operators want it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from inception import __version__, extras
from inception.architecture import END_POINTS, Padding
from inception.inference import plan as plans
from inception.inference.plan import Plan
from inception.labels import Label
from inception.weights.canonical import VARIANT, variant_json

OPSET = 17
IR_VERSION = 8  # the oldest file version that opset 17 goes with, so that older runtimes read it
_TO_FIRST, _TO_LAST = [0, 3, 1, 2], [0, 2, 3, 1]  # channels-last <-> channels-first


def model_of(
    plan: Plan,
    *,
    batch: int | None = None,
    image_size: tuple[int, int] | None = None,
    labels: Sequence[Label] | None = None,
    outside: dict[str, np.ndarray] | None = None,
) -> Any:
    """The `onnx.ModelProto` of a plan.

    Args:
        plan: what to compute. Where it takes pixels, `images` is uint8, otherwise float32.
        batch, image_size: fixed sizes of the input; unknown ones are left to the caller of the model.
        labels: the names of the classes, for the metadata.
        outside: takes the arrays, by the names that the model then has in their places; None leaves them in the model.

    The metadata are `inception_variant` (the `Variant` and the `Picture` as JSON), `preprocessing` (JSON: what to
    do to pixels 0..255 before the model gets them) and, where given, `labels` (a JSON list).
    Raises ModuleNotFoundError with one sentence without the package onnx.
    """
    onnx = extras.load("onnx")
    sizes = (batch or "batch", *(image_size or ("height", "width")))
    kind = onnx.TensorProto.UINT8 if plan.pixels else onnx.TensorProto.FLOAT
    images = onnx.helper.make_tensor_value_info(plans.IMAGES, kind, [*sizes, plan.variant.channels])
    graph = _Graph(onnx, outside)
    values = plans.run(graph, plan, graph.first(plan))
    outputs = [graph.result(name, value, sizes[0]) for name, value in values.items()]
    model = onnx.helper.make_model(
        onnx.helper.make_graph(graph.nodes, "InceptionV3", [images], outputs, graph.constants),
        producer_name="inception",
        producer_version=__version__,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.helper.set_model_props(model, metadata(plan, labels))
    return model


def metadata(plan: Plan, labels: Sequence[Label] | None = None) -> dict[str, str]:
    """What a file of this plan says about itself, for any format that keeps such pairs of text."""
    picture = plan.picture
    steps: dict[str, Any] = {"layout": "NHWC", "colours": "BGR" if picture.bgr else "RGB", "picture": str(picture)}
    steps |= {name: value for name, value in picture.json().items() if name not in ("mean", "scale", "bgr")}
    if plan.pixels:
        steps |= {"dtype": "uint8", "range": [0, 255], "inside": "(x - mean) / scale is part of the model"}
    else:
        steps |= {"dtype": "float32", "formula": "(pixel - mean) / scale, pixels being 0..255"}
    steps |= {"mean": picture.mean, "scale": picture.scale}
    named = {"labels": json.dumps([label.name for label in labels])} if labels else {}
    return {VARIANT: variant_json(plan), "preprocessing": json.dumps(steps)} | named


class _Graph(plans.Interpreter[str]):
    """The operations as ONNX nodes; values are tensor names, maps channels-first."""

    def __init__(self, onnx: Any, outside: dict[str, np.ndarray] | None) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._onnx = onnx
        self._outside = outside

    def _node(self, kind: str, output: str, *inputs: str, **attributes: Any) -> str:
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def _constant(self, name: str, array: np.ndarray) -> str:
        array = np.ascontiguousarray(array)
        if self._outside is None:
            self.constants.append(self._onnx.numpy_helper.from_array(array, name))
            return name
        self._outside[name] = array
        tensor = self._onnx.TensorProto(name=name, dims=array.shape, data_type=self._onnx.TensorProto.FLOAT)
        tensor.data_location = self._onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="memory")
        self.constants.append(tensor)
        return name

    def first(self, plan: Plan) -> str:
        """The input as the operations take it: channels-first, and float32."""
        x = self._node("Transpose", "images/nchw", plans.IMAGES, perm=_TO_FIRST)
        return self._node("Cast", "images/float", x, to=self._onnx.TensorProto.FLOAT) if plan.pixels else x

    def result(self, name: str, value: str, batch: int | str) -> Any:
        """An output under the end point's own name: maps channels-last, vectors as they are."""
        is_map = name.partition("/")[0] in END_POINTS
        self._node("Transpose", name, value, perm=_TO_LAST) if is_map else self._node("Identity", name, value)
        shape = [batch, None, None, None] if is_map else [batch, None]
        return self._onnx.helper.make_tensor_value_info(name, self._onnx.TensorProto.FLOAT, shape)

    def convolve(self, operation: plans.Convolve, x: str) -> str:
        name, kernel = operation.output, operation.kernel
        arrays = {"kernel": kernel.transpose(3, 2, 0, 1), "bias": operation.bias}
        constants = [self._constant(f"{name}/{key}", array) for key, array in arrays.items() if array is not None]
        strides, pads = [operation.stride] * 2, _pads(kernel.shape[:2], operation.stride, operation.padding)
        y = self._node("Conv", f"{name}/nchw", x, *constants, kernel_shape=kernel.shape[:2], strides=strides, pads=pads)
        return self._node("Relu", f"{name}/relu", y) if operation.relu else y

    def scale(self, operation: plans.Scale, x: str) -> str:
        for kind, key, array in (("Mul", "scale", operation.scale), ("Add", "offset", operation.offset)):
            if array is not None:
                constant = self._constant(f"{operation.output}/{key}", array.reshape(1, -1, 1, 1))
                x = self._node(kind, f"{operation.output}/{kind.lower()}", x, constant)
        return self._node("Relu", f"{operation.output}/relu", x) if operation.relu else x

    def window(self, operation: plans.Window, x: str) -> str:
        strides, pads = [operation.stride] * 2, _pads(operation.kernel, operation.stride, operation.padding)
        sizes: dict[str, Any] = {"kernel_shape": operation.kernel, "strides": strides, "pads": pads}
        name = f"{operation.output}/nchw"
        if operation.kind == "max":
            return self._node("MaxPool", name, x, **sizes)
        return self._node("AveragePool", name, x, **sizes, count_include_pad=int(operation.borders is not None))

    def join(self, operation: plans.Join, xs: list[str]) -> str:
        return self._node("Concat", f"{operation.output}/nchw", *xs, axis=1)

    def average(self, operation: plans.Average, x: str) -> str:
        pooled = self._node("GlobalAveragePool", f"{operation.output}/nchw", x)
        return self._node("Flatten", f"{operation.output}/vector", pooled, axis=1)

    def dense(self, operation: plans.Dense, x: str) -> str:
        name, arrays = operation.output, {"kernel": operation.kernel, "bias": operation.bias}
        constants = [self._constant(f"{name}/{key}", array) for key, array in arrays.items()]
        return self._node("Gemm", f"{name}/dense", x, *constants)

    def softmax(self, operation: plans.Softmax, x: str) -> str:
        return self._node("Softmax", f"{operation.output}/softmax", x, axis=-1)


def _pads(kernel: Sequence[int], stride: int, padding: Padding) -> list[int]:
    """(top, left, bottom, right). Windows of padding SAME move by one here, so nothing depends on the map's size."""
    if padding == "VALID":
        return [0, 0, 0, 0]
    assert stride == 1
    (top, bottom), (left, right) = (((side - 1) // 2, side // 2) for side in kernel)
    return [top, left, bottom, right]
