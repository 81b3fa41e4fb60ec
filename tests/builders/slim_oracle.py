"""tf-slim 1.1.0's own InceptionV3, made buildable on today's TensorFlow so that tests can compare with it.

Three names that TensorFlow or tf_keras moved are put back where tf-slim looks for them.
For tests only: nothing of this is needed, or used, by the package.
"""

from __future__ import annotations

import importlib
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops as tensorflow_ops
from tensorflow.python.ops import control_flow_ops

v1 = tf.compat.v1

for module in ("legacy_tf_layers", "legacy_tf_layers.normalization"):
    found = pytest.importorskip(f"tf_keras.src.{module}", reason="the oracle needs tf_keras")
    sys.modules.setdefault(f"tf_keras.{module}", found)
if not hasattr(tensorflow_ops, "Tensor"):
    tensorflow_ops.Tensor = tf.Tensor
if not hasattr(control_flow_ops, "cond"):
    control_flow_ops.cond = v1.cond

theirs = importlib.import_module("tf_slim.nets.inception_v3")


def random_values(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """A value for each name: kernels that keep the signal's size, statistics that are not trivial."""

    def value(name: str, shape: tuple[int, ...]) -> Any:
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("weights"):
            return generator.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
        if name.endswith(("gamma", "moving_variance")):
            return generator.uniform(0.5, 1.5, shape)
        return generator.normal(0, 0.1, shape)

    return {name: value(name, shape).astype(np.float32) for name, shape in shapes.items()}


def initialize(session: Any, values: Mapping[str, np.ndarray]) -> None:
    """Sets every variable of the default graph to its value by name."""
    variables = {v.op.name: v for v in v1.global_variables()}
    assert variables.keys() == values.keys()
    session.run(
        [v.initializer for v in variables.values()],
        {v.initializer.inputs[1]: values[name] for name, v in variables.items()},
    )


def shapes() -> dict[str, tuple[int, ...]]:
    """{name: shape} of the default graph's variables, in the order they were made."""
    return {v.op.name: tuple(v.shape.as_list()) for v in v1.global_variables()}


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The largest difference, relative to the largest magnitude."""
    assert a.shape == b.shape
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-30))


def images(size: int, batch: int = 2) -> np.ndarray:
    return np.random.default_rng(size).uniform(-1, 1, [batch, size, size, 3]).astype(np.float32)


def nodes(graph: Any) -> dict[str, Any]:
    """{name: NodeDef} of a graph, without the inside of batch norm, which tf-slim leaves to Keras."""
    return {op.name: op.node_def for op in graph.get_operations() if "/BatchNorm/" not in op.name}


def collections(graph: Any) -> dict[str, list[str]]:
    """{collection: names in order} of a graph, for collections of variables, tensors and ops.

    One without items tells only that somebody looked (older TensorFlow's own optimizers do).
    """
    return {
        key: [getattr(item, "op", item).name for item in graph.get_collection(key)]
        for key in graph.get_all_collection_keys()
        if not isinstance(key, tuple) and not str(key).startswith("_") and graph.get_collection(key)
    }


def batch_norms(graph: Any) -> list[tuple[str, float, bool]]:
    """(name, epsilon, is training) of the fused batch norms, in the order they were made."""
    return [
        (op.name, op.get_attr("epsilon"), op.get_attr("is_training"))
        for op in graph.get_operations()
        if op.type == "FusedBatchNormV3"
    ]
