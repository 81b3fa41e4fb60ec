"""Keras's batch norm, of which a training step in half precision on TensorFlow is one fused operation.

Keras makes it of a dozen operations in float32, which take a third of a training step in bfloat16.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

_HALF = ("bfloat16", "float16")


def batch_norm(axis: int, **options: Any) -> layers.Layer:
    """A batch norm as the precision asks for; in float32, and on other backends, Keras's own as it is."""
    half = keras.config.dtype_policy().compute_dtype in _HALF and keras.backend.backend() == "tensorflow"
    return (BatchNormalization if half else layers.BatchNormalization)(axis, **options)


class BatchNormalization(layers.BatchNormalization):  # type: ignore[misc]
    """`keras.layers.BatchNormalization`: its numbers, variables and files; a training step costs less."""

    __module__ = "keras.layers"  # so files name Keras's own layer, and are read where there is no inception

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if training and self.trainable and mask is None and self._fuses(inputs):
            return self._fused(inputs)
        return super().call(inputs, training=training, mask=mask)

    def _fuses(self, inputs: Any) -> bool:
        """Whether it can be one operation; in float32 Keras's are almost as fast, and keep the bits of its network."""
        half = keras.backend.standardize_dtype(inputs.dtype) in _HALF
        return half and len(inputs.shape) == 4 and self.axis in (-1, 3) and not self.synchronized

    def _fused(self, inputs: Any) -> Any:
        import tensorflow as tf

        channels = [inputs.shape[-1]]
        gamma = tf.ones(channels) if self.gamma is None else tf.convert_to_tensor(self.gamma)
        beta = tf.zeros(channels) if self.beta is None else tf.convert_to_tensor(self.beta)
        y, mean, variance = tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)
        count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
        variance *= (count - 1) / count  # the operation's is unbiased, Keras's is not
        for moving, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + now * (1 - self.momentum))
        return y
