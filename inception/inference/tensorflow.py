"""The TensorFlow builder for inference: the plan as a graph of constants, without variables.

Constants matter for speed: TensorFlow then brings each kernel into the layout its
convolutions want once, where it would do so in every run with variables.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import tensorflow as tf

from inception.inference import plan as plans
from inception.inference.plan import Plan, Runner

v1 = tf.compat.v1


def outputs_of(plan: Plan, images: Any) -> dict[str, Any]:
    """{end point: tensor} of a plan for a tensor of images, in the graph or function being built."""
    return plans.run(_Tensors(), plan, tf.cast(images, tf.float32))


def spec_of(plan: Plan, batch: int | None = None, image_size: tuple[int, int] | None = None) -> tf.TensorSpec:
    """What a plan's input is: shape and type, named `images`."""
    height, width = image_size or (None, None)
    kind = tf.uint8 if plan.pixels else tf.float32
    return tf.TensorSpec([batch, height, width, plan.variant.channels], kind, name=plans.IMAGES)


def frozen(plan: Plan, *, image_size: tuple[int, int] | None = None, threads: int | None = None) -> Runner:
    """A function of the images (an array) that returns the plan's end points, in its order.

    The graph runs in a session of its own, whose one optimizer joins a convolution with its
    bias and ReLU; TensorFlow's other optimizers copy a hundred megabytes of constants about
    for seconds and find nothing. Without a GPU, large batches run in pieces (`_in_pieces`).
    `threads` counts only before TensorFlow's first operation in the process: it has one pool
    of threads; ValueError where it is too late for another number.
    """
    if threads is not None:
        _set_threads(threads)
    with tf.Graph().as_default() as graph:
        spec = spec_of(plan, None, image_size)
        images = v1.placeholder(spec.dtype, spec.shape, spec.name)
        outputs = outputs_of(plan, images)
    config = v1.ConfigProto(intra_op_parallelism_threads=threads or 0)
    config.gpu_options.allow_growth = True
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if not on_gpu:
        config.graph_options.rewrite_options.optimizers.append("remap")
    session = v1.Session(graph=graph, config=config)
    call: Runner = session.make_callable(list(outputs.values()), [images])
    return call if on_gpu else _in_pieces(call, 2 * (threads or os.cpu_count() or 1))


def _in_pieces(call: Runner, size: int) -> Runner:
    """Batches of two pieces and more run two pieces at a time: one fills the gaps that the other leaves its threads.

    A piece's maps are also small enough to stay in the processor's caches from one operation to the next.
    """
    pool = ThreadPoolExecutor(2, "inception-pieces")

    def run(images: np.ndarray) -> Sequence[np.ndarray]:
        if len(images) < 2 * size:
            return call(images)
        pieces = [images[start : start + size] for start in range(0, len(images), size)]
        return [np.concatenate(parts) for parts in zip(*pool.map(call, pieces), strict=True)]

    return run


def _set_threads(threads: int) -> None:
    if tf.config.threading.get_intra_op_parallelism_threads() == threads:
        return
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError as error:
        raise ValueError(
            f"threads={threads} comes too late for TensorFlow, which has run in this process already; "
            "compile before, call tf.config.threading.set_intra_op_parallelism_threads first, or leave threads out."
        ) from error


class _Tensors(plans.Interpreter[Any]):
    """The operations as TensorFlow's."""

    def convolve(self, operation: plans.Convolve, x: Any) -> Any:
        y = tf.nn.conv2d(x, tf.constant(operation.kernel), operation.stride, operation.padding)
        if operation.bias is not None:
            y = tf.nn.bias_add(y, operation.bias)
        return tf.nn.relu(y) if operation.relu else y

    def scale(self, operation: plans.Scale, x: Any) -> Any:
        if operation.scale is not None:
            x = x * operation.scale
        if operation.offset is not None:
            x = x + operation.offset
        return tf.nn.relu(x) if operation.relu else x

    def window(self, operation: plans.Window, x: Any) -> Any:
        padding = operation.padding
        if operation.borders:
            x, padding = tf.pad(x, [(0, 0), *operation.borders, (0, 0)]), "VALID"
        pool = tf.nn.max_pool2d if operation.kind == "max" else tf.nn.avg_pool2d
        return pool(x, operation.kernel, operation.stride, padding)

    def join(self, operation: plans.Join, xs: list[Any]) -> Any:
        return tf.concat(xs, 3)

    def average(self, operation: plans.Average, x: Any) -> Any:
        return tf.reduce_mean(x, [1, 2])

    def dense(self, operation: plans.Dense, x: Any) -> Any:
        return tf.nn.bias_add(tf.matmul(x, operation.kernel), operation.bias)

    def softmax(self, operation: plans.Softmax, x: Any) -> Any:
        return tf.nn.softmax(x)
