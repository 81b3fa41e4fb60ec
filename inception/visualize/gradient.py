"""The gradient of a loss with respect to a picture, on whichever backend Keras runs.

`gradient(loss)` makes a function of numpy arrays. The loss is written in `keras.ops` and
returns a value for each picture of the batch, so that pictures do not mix: the gradient
of the sum is each one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Loss = Callable[..., Any]  # (images [n, h, w, c], further tensors) -> [n]
Gradient = Callable[..., tuple[np.ndarray, np.ndarray]]  # the same arguments -> (losses [n], gradient [n, h, w, c])


def gradient(loss: Loss, compiled: bool = True) -> Gradient:
    """A function (images, further arrays) -> (losses, gradient for the images), numpy in and out.

    Args:
        compiled: traced once for pictures of every size (TensorFlow), or compiled for each size (JAX). False is faster
            for a single call.

    Raises:
        ValueError: On a backend without gradients (numpy, OpenVINO).
    """
    import keras

    backend = keras.backend.backend()
    if backend not in _BACKENDS:
        raise ValueError(
            f"Keras runs on the backend {backend}, which has no gradients; set KERAS_BACKEND to one of "
            f"{', '.join(_BACKENDS)} before Keras is imported."
        )
    return _BACKENDS[backend](loss, compiled)


def _tensorflow(loss: Loss, compiled: bool) -> Gradient:
    import tensorflow as tf

    def step(x: Any, *others: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            losses = loss(x, *others)
        return losses, tape.gradient(losses, x, unconnected_gradients="zero")

    traced: list[Any] = []

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not traced:
            traced.append(tf.function(step, input_signature=[_any_size(a) for a in arrays]) if compiled else step)
        losses, slopes = traced[0](*map(tf.convert_to_tensor, arrays))
        return losses.numpy(), slopes.numpy()

    def _any_size(array: np.ndarray) -> Any:
        free = [None] * array.ndim if array.ndim < 4 else [None, None, None, array.shape[-1]]
        return tf.TensorSpec(free, array.dtype)

    return run


def _torch(loss: Loss, compiled: bool) -> Gradient:
    import torch
    from keras import ops

    def run(x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = ops.convert_to_tensor(x).requires_grad_(True)
        losses = loss(image, *map(ops.convert_to_tensor, others))
        (slopes,) = torch.autograd.grad(losses.sum(), image, allow_unused=True)
        slopes = torch.zeros_like(image) if slopes is None else slopes
        return ops.convert_to_numpy(losses), ops.convert_to_numpy(slopes)

    return run


def _jax(loss: Loss, compiled: bool) -> Gradient:
    import jax

    def total(x: Any, *others: Any) -> Any:
        losses = loss(x, *others)
        return losses.sum(), losses

    step = jax.value_and_grad(total, has_aux=True)
    step = jax.jit(step) if compiled else step

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (_, losses), slopes = step(*map(jax.numpy.asarray, arrays))
        return np.asarray(losses), np.asarray(slopes)

    return run


_BACKENDS: dict[str, Callable[[Loss, bool], Gradient]] = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
