"""Batch norm for slim networks on today's TensorFlow.

tf-slim's own `batch_norm` needs `tf_keras.legacy_tf_layers`, which no tf_keras wheel
has, so it cannot be built on TensorFlow 2.16 and later. This one needs TensorFlow and
`slim.model_variable` only. It has the same signature, variables, collections and
numbers, and answers to the same key of `slim.arg_scope`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_slim as slim
from tf_slim.layers import utils

v1 = tf.compat.v1


def _in_slims_arg_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    """`slim.add_arg_scope` under slim.batch_norm's key: one arg scope of either reaches both."""
    key = slim.arg_scope_func_key(slim.batch_norm)

    @functools.wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{**slim.current_arg_scope().get(key, {}), **kwargs})

    scoped._key_op = key  # type: ignore[attr-defined]
    return scoped


@_in_slims_arg_scope
def batch_norm(
    inputs: Any,
    decay: Any = 0.999,
    center: bool = True,
    scale: bool = False,
    epsilon: float = 0.001,
    activation_fn: Callable[..., Any] | None = None,
    param_initializers: dict[str, Any] | None = None,
    param_regularizers: dict[str, Any] | None = None,
    updates_collections: Any = v1.GraphKeys.UPDATE_OPS,
    is_training: Any = True,
    reuse: Any = None,
    variables_collections: Any = None,
    outputs_collections: Any = None,
    trainable: bool = True,
    batch_weights: Any = None,
    fused: bool | None = None,
    data_format: str = "NHWC",
    zero_debias_moving_mean: bool = False,
    scope: Any = None,
    renorm: bool = False,
    renorm_clipping: Any = None,
    renorm_decay: float = 0.99,
    adjustment: Any = None,
) -> Any:
    """`slim.batch_norm`: normalizes [batch, ..., channels] (or [batch, channels, ...] as NCHW) per channel.

    In training by the batch's mean and variance, which also move `moving_mean` and
    `moving_variance`; otherwise by these two. `is_training` is a bool or a bool tensor.
    The two update ops go to `updates_collections`; None runs them with the output.
    `fused=False` computes from `tf.nn.moments`, whose moving variance is the biased one;
    the fused op's, as in tf-slim, is unbiased (n / (n - 1)).

    Raises:
        ValueError: For `batch_weights`, `renorm` and `adjustment`, which are not supported, for another `data_format`,
            and for an unknown rank or number of channels.
    """
    for argument, value in (("batch_weights", batch_weights), ("renorm", renorm), ("adjustment", adjustment)):
        if value is not None and value is not False:
            raise ValueError(f"This batch_norm does not support {argument}; leave it out.")
    if data_format not in ("NHWC", "NCHW"):
        raise ValueError(f"data_format is {data_format!r}; expected 'NHWC' or 'NCHW'.")

    with v1.variable_scope(scope, "BatchNorm", [inputs], reuse=reuse) as outer:
        x = tf.convert_to_tensor(inputs)
        axis = 1 if data_format == "NCHW" else -1
        shape = None if x.shape.rank is None else x.shape.as_list()
        if shape is None or len(shape) < 2 or shape[axis] is None:
            raise ValueError(
                f"{outer.name}: inputs have shape {x.shape}; expected two dimensions or more and known channels."
            )

        # float16 keeps float32 statistics, as the fused op wants them.
        dtype = tf.float32 if x.dtype in (tf.float16, tf.bfloat16) else x.dtype
        initializers, regularizers = param_initializers or {}, param_regularizers or {}

        def variable(name: str, initializer: Any, **options: Any) -> Any:
            return slim.model_variable(
                name,
                shape=[shape[axis]],
                dtype=dtype,
                initializer=initializers.get(name, initializer),
                regularizer=regularizers.get(name),
                collections=utils.get_variable_collections(variables_collections, name),
                **options,
            )

        zeros, ones = v1.zeros_initializer(), v1.ones_initializer()
        beta = variable("beta", zeros, trainable=trainable) if center else tf.zeros([shape[axis]], dtype)
        gamma = variable("gamma", ones, trainable=trainable) if scale else tf.ones([shape[axis]], dtype)
        with v1.variable_scope(v1.get_variable_scope()) as unpartitioned:
            unpartitioned.set_partitioner(None)
            statistic: dict[str, Any] = {
                "trainable": False,
                "synchronization": tf.VariableSynchronization.ON_READ,
                "aggregation": tf.VariableAggregation.MEAN,
            }
            moving_mean = variable("moving_mean", zeros, **statistic)
            moving_variance = variable("moving_variance", ones, **statistic)

        normalize = _fused if fused is not False and len(shape) in (2, 4) and dtype == tf.float32 else _unfused
        y, mean, variance = _cond(
            is_training,
            lambda: normalize(x, gamma, beta, None, epsilon, data_format),
            lambda: normalize(x, gamma, beta, (moving_mean, moving_variance), epsilon, data_format),
        )

        # As in tf-slim, frozen variables have no update ops to collect, but do move in place.
        frozen = not trainable and updates_collections == v1.GraphKeys.UPDATE_OPS
        if _static(is_training) is not False and not frozen:
            shadows = _shadows(moving_mean) if zero_debias_moving_mean else None

            def update() -> tuple[Any, Any]:
                return (
                    _move(moving_mean, mean, decay, shadows),
                    _move(moving_variance, variance, decay),
                )

            updates = _cond(is_training, update, lambda: (moving_mean, moving_variance))
            if updates_collections is None:
                with tf.control_dependencies(updates):
                    y = tf.identity(y)
            else:
                for moved in updates:
                    v1.add_to_collections(updates_collections, moved.op)

        y.set_shape(shape)
        if activation_fn is not None:
            y = activation_fn(y)
        return utils.collect_named_outputs(outputs_collections, outer.name, y)


def _fused(x: Any, gamma: Any, beta: Any, moments: Any, epsilon: float, data_format: str) -> tuple[Any, Any, Any]:
    """(normalized x, mean, unbiased variance), by the batch's statistics or by given `moments`."""
    maps = x
    if x.shape.rank == 2:
        maps = x[:, :, None, None] if data_format == "NCHW" else x[:, None, None, :]
    options = {} if moments is None else {"mean": moments[0], "variance": moments[1], "is_training": False}
    y, mean, variance = v1.nn.fused_batch_norm(maps, gamma, beta, epsilon=epsilon, data_format=data_format, **options)
    return (tf.reshape(y, tf.shape(x)) if maps is not x else y), mean, variance


def _unfused(x: Any, gamma: Any, beta: Any, moments: Any, epsilon: float, data_format: str) -> tuple[Any, Any, Any]:
    """The same by elementary ops, for any rank; the variance is the biased one."""
    channels = 1 if data_format == "NCHW" else x.shape.rank - 1
    values = tf.cast(x, gamma.dtype)
    mean, variance = moments or tf.nn.moments(values, [i for i in range(x.shape.rank) if i != channels])
    broadcast = [-1 if i == channels else 1 for i in range(x.shape.rank)]
    y = tf.nn.batch_normalization(values, *(tf.reshape(p, broadcast) for p in (mean, variance, beta, gamma)), epsilon)
    return tf.cast(y, x.dtype), mean, variance


def _shadows(variable: Any) -> tuple[Any, Any]:
    """The biased mean and its count of updates; tf-slim's names repeat the scope, so these do."""
    with v1.variable_scope(variable.op.name):
        biased = v1.get_variable(
            "biased", variable.shape, variable.dtype.base_dtype, v1.zeros_initializer(), trainable=False
        )
        step = v1.get_variable("local_step", [], variable.dtype.base_dtype, v1.zeros_initializer(), trainable=False)
    return biased, step


def _move(variable: Any, value: Any, decay: Any, shadows: tuple[Any, Any] | None = None) -> Any:
    """Moves a moving average towards `value`; with `shadows`, freed of its start at zero."""
    with v1.name_scope("AssignMovingAvg"):
        # In float32, as tf-slim's layer does: 1 - 0.9997 is 3e-5 off the rate computed in Python.
        rate = 1.0 - tf.cast(decay, variable.dtype)
        if shadows is None:
            return v1.assign_sub(variable, (variable - value) * rate)
        biased, step = shadows
        moved = v1.assign_sub(biased, (biased - value) * rate)
        return v1.assign(variable, moved / (1 - tf.pow(1 - rate, v1.assign_add(step, 1.0))))


def _static(flag: Any) -> bool | None:
    """The flag's value where it is known while the graph is built, else None."""
    if flag is None:
        raise ValueError("is_training is None; expected a bool or a bool tensor.")
    if isinstance(flag, tf.Variable):
        return None
    value = tf.get_static_value(flag) if tf.is_tensor(flag) else flag
    return None if value is None else bool(value)


def _cond(flag: Any, then: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    value = _static(flag)
    if value is not None:
        return then() if value else otherwise()

    def tensors(branch: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: tf.nest.map_structure(tf.convert_to_tensor, branch())

    return v1.cond(flag, tensors(then), tensors(otherwise))
