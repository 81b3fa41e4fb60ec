"""Variables that TensorFlow 1's Saver writes into a checkpoint and reads back, of either version."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saver_pb2  # type: ignore[import-untyped]

tf1 = tf.compat.v1
V1, V2 = saver_pb2.SaverDef.V1, saver_pb2.SaverDef.V2
EMA = "InceptionV3/Conv2d_1a_3x3/weights/ExponentialMovingAverage"


def sample() -> dict[str, np.ndarray]:
    """What both versions hold: kernels, odd bits, an average, steps, numbers of 64 bits, and none."""
    rng = np.random.default_rng(3)
    odd_bits = rng.integers(0, 1 << 32, (5, 2), np.uint32).view(np.float32)
    odd_bits[0] = np.nan, -np.inf
    return {
        "InceptionV3/Conv2d_1a_3x3/weights": rng.standard_normal((3, 3, 3, 4), np.float32),
        "InceptionV3/Conv2d_1a_3x3/BatchNorm/beta": odd_bits,
        EMA: rng.standard_normal((3, 3, 3, 4), np.float32),
        "beta1_power": np.asarray(0.9, np.float32),
        "double": rng.standard_normal(3),
        "empty": np.zeros((0, 3), np.float32),
        "global_step": np.asarray(-(1 << 40) - 7, np.int64),
    }


def values(tensors) -> dict[str, np.ndarray]:
    return {name: tensor.read() for name, tensor in tensors.items()}


def fingerprint(arrays) -> dict[str, tuple]:
    return {name: (a.shape, np.dtype(a.dtype), np.asarray(a).tobytes()) for name, a in arrays.items()}


def save_with_tensorflow(path, arrays, version=V2):
    with tf.Graph().as_default(), tf1.Session() as session:
        for name, array in arrays.items():
            tf1.get_variable(name, initializer=tf.constant(array), use_resource=False)
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver(write_version=version)
        saver.save(session, str(path), write_meta_graph=False, write_state=False)


def restore_with_tensorflow(path, arrays) -> dict[str, np.ndarray]:
    with tf.Graph().as_default(), tf1.Session() as session:
        variables = {
            name: tf1.get_variable(name, initializer=tf.zeros(a.shape, a.dtype), use_resource=False)
            for name, a in arrays.items()
        }
        tf1.train.Saver().restore(session, str(path))
        return {name: np.asarray(value) for name, value in session.run(variables).items()}


def load_with_tensorflow(path) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(path))
    return {name: np.asarray(reader.get_tensor(name)) for name in reader.get_variable_to_shape_map()}
