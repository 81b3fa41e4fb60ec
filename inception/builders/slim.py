"""InceptionV3 for slim code: a drop-in for `tf_slim.nets.inception_v3` on today's TensorFlow.

The same signatures, scopes, variable and op names, end points, collections and numbers
as tf-slim 1.1.0, and the additions of the later `nets/inception_v3.py` (`global_pool`,
`num_classes` of None). Input values are expected in [-1, 1].

    with slim.arg_scope(inception_v3_arg_scope()):
        logits, end_points = inception_v3(images, num_classes=1001, is_training=False)

These functions build a graph: call them inside a `tf.Graph` or `tf.compat.v1.wrap_function`.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import numpy as np
import tensorflow as tf
import tf_slim as slim

from inception import architecture
from inception.architecture import Border, Concat, Conv, Pool, Table
from inception.builders.slim_batch_norm import batch_norm
from inception.variants import Variant

__all__ = ["batch_norm", "evaluate", "inception_v3", "inception_v3_arg_scope", "inception_v3_base"]

v1 = tf.compat.v1

_HEAD_POOL = cast(Pool, architecture.LOGITS[0])  # its stride of 2 shows above 330 pixels only
# What slim's head leaves to the arg scopes around it; everywhere else a scope of slim's own says both.
_UNSAID = {"AvgPool_1a_8x8": ("stride",), "Conv2d_1c_1x1": ("stride", "padding")}
EndPoints = dict[str, Any]


def inception_v3_base(
    inputs: Any,
    final_endpoint: str = "Mixed_7c",
    min_depth: int = 16,
    depth_multiplier: float = 1.0,
    scope: Any = None,
    *,
    border: Border = "exclude",
    last_pool: Literal["avg", "max"] = "avg",
) -> tuple[Any, EndPoints]:
    """The network up to `final_endpoint`, without heads: (its tensor, {end point: tensor}).

    The arguments are those of `inception_v3`; batch norm is in training mode unless an arg
    scope of `slim.batch_norm` says otherwise. Raises ValueError for an unknown
    `final_endpoint`, an image that is too small, and arguments out of range.
    """
    rows = _table(None, depth_multiplier, min_depth, border, last_pool).up_to(final_endpoint)
    _check_inputs(rows, inputs)
    with _normalizer():
        return _base(rows, inputs, scope, _SlimOps(border))


def inception_v3(
    inputs: Any,
    num_classes: int | None = 1000,
    is_training: Any = True,
    dropout_keep_prob: Any = 0.8,
    min_depth: int = 16,
    depth_multiplier: float = 1.0,
    prediction_fn: Callable[..., Any] = slim.softmax,
    spatial_squeeze: bool = True,
    reuse: Any = None,
    create_aux_logits: bool = True,
    scope: Any = "InceptionV3",
    global_pool: bool = False,
    *,
    border: Border = "exclude",
    last_pool: Literal["avg", "max"] = "avg",
) -> tuple[Any, EndPoints]:
    """The whole network: (logits [batch, classes], {end point: tensor}).

    Args:
        inputs: [batch, height, width, channels], values in [-1, 1]; batch, height and
            width may be unknown. At least 75x75, with the auxiliary head 107x107.
        num_classes: 1001 for slim's checkpoints (0 is background). None or 0 returns the
            pooled features [batch, 1, 1, 2048] instead of logits.
        is_training: a bool or a bool tensor, for batch norm and dropout.
        dropout_keep_prob: the part of the pooled features that dropout keeps.
        min_depth: no convolution is narrower than this.
        depth_multiplier: scales the width of every convolution.
        prediction_fn: called as `prediction_fn(logits, scope="Predictions")`.
        spatial_squeeze: drops the two size-one dimensions of both heads' logits.
        reuse: True to use the variables of a network built before under `scope`.
        create_aux_logits: builds the auxiliary head on Mixed_6e. Its last variable is
            named after its kernel: `Conv2d_2a_5x5` from 299 pixels on, smaller below.
        scope: the variable scope.
        global_pool: averages over the whole last map rather than an 8x8 window of it,
            so that larger images have one row of logits as well.
        border: whether average pools of padding SAME count the zeros outside the map:
            "exclude" (TensorFlow, slim's weights) or "include" (torchvision's weights).
        last_pool: the pool of Mixed_7c: "max" in the graph of 2015, "avg" elsewhere.

    The end points are the 18 of the base, AuxLogits, AvgPool_1a or global_pool, PreLogits
    (after dropout), Logits and Predictions. Raises ValueError for an image too small or,
    while squeezing, too large, and for arguments out of range.
    """
    rows = _table(num_classes, depth_multiplier, min_depth, border, last_pool, create_aux_logits)
    _check_inputs(rows, inputs, spatial_squeeze, global_pool)
    ops = _SlimOps(border)
    with (
        _normalizer(),
        v1.variable_scope(scope, "InceptionV3", [inputs], reuse=reuse) as opened,
        slim.arg_scope([slim.batch_norm, slim.dropout], is_training=is_training),
    ):
        net, end_points = _base(rows, inputs, opened, ops)
        if rows.aux_logits:
            with ops.scope("AuxLogits"):
                start = end_points[architecture.AUX_END_POINT]
                *_, logits = architecture.fold(ops, rows.aux_logits, start, "AuxLogits").values()
                end_points["AuxLogits"] = _squeeze(logits) if spatial_squeeze else logits

        with ops.scope("Logits"):
            if global_pool:
                net = tf.reduce_mean(net, [1, 2], keepdims=True, name="GlobalPool")
                end_points["global_pool"] = net
            else:
                net = ops.pool(_HEAD_POOL, net, "Logits")
                end_points["AvgPool_1a"] = net
            if not rows.logits:
                return net, end_points
            net = slim.dropout(net, keep_prob=dropout_keep_prob, scope="Dropout_1b")
            end_points["PreLogits"] = net
            *_, logits = architecture.fold(ops, rows.logits[1:], net, "Logits").values()
            if spatial_squeeze:
                logits = _squeeze(logits)
        end_points["Logits"] = logits
        end_points["Predictions"] = prediction_fn(logits, scope="Predictions")
    return logits, end_points


inception_v3.default_image_size = 299  # type: ignore[attr-defined]


def inception_v3_arg_scope(
    weight_decay: float = 0.00004,
    batch_norm_var_collection: str = "moving_vars",
    batch_norm_decay: float = 0.9997,
    batch_norm_epsilon: float = architecture.EPSILON,
    updates_collections: Any = v1.GraphKeys.UPDATE_OPS,
    use_fused_batchnorm: bool = True,
    *,
    use_batch_norm: bool = True,
    activation_fn: Callable[..., Any] | None = tf.nn.relu,
    batch_norm_updates_collections: Any = v1.GraphKeys.UPDATE_OPS,
    batch_norm_scale: bool = False,
) -> dict[Any, Any]:
    """The arg scope InceptionV3 is built in: batch norm, ReLU, initializers, weight decay.

    tf-slim's arguments, then those of the later `inception_utils.inception_arg_scope`, whose
    name for `updates_collections` is `batch_norm_updates_collections` (it wins where both
    are set). None for it moves the statistics with every forward pass.
    """
    if batch_norm_updates_collections != v1.GraphKeys.UPDATE_OPS:
        updates_collections = batch_norm_updates_collections
    moving = [batch_norm_var_collection]
    parameters: dict[str, Any] = {
        "decay": batch_norm_decay,
        "epsilon": batch_norm_epsilon,
        "updates_collections": updates_collections,
        "fused": use_fused_batchnorm,
        "variables_collections": {"moving_mean": moving, "moving_variance": moving},
    }
    if batch_norm_scale:  # else unsaid: an arg scope of slim.batch_norm may say it
        parameters["scale"] = True
    decay = slim.l2_regularizer(weight_decay)
    with (
        slim.arg_scope([slim.conv2d, slim.fully_connected], weights_regularizer=decay),
        slim.arg_scope(
            [slim.conv2d],
            weights_initializer=slim.variance_scaling_initializer(),
            activation_fn=activation_fn,
            normalizer_fn=batch_norm if use_batch_norm else None,
            normalizer_params=parameters if use_batch_norm else {},
        ) as scope,
    ):
        return scope


def inception_v3_of(variant: Variant, inputs: Any) -> EndPoints:
    """The end points of the inference network that `variant` describes, pooled over the whole last map."""
    with slim.arg_scope(inception_v3_arg_scope(batch_norm_epsilon=variant.epsilon, batch_norm_scale=variant.gamma)):
        net, end_points = inception_v3(
            inputs,
            variant.num_classes,
            is_training=False,
            min_depth=variant.min_depth,
            depth_multiplier=variant.depth_multiplier,
            create_aux_logits=variant.aux_logits,
            global_pool=True,
            border=variant.border,
            last_pool=variant.last_pool,
        )
    return end_points if variant.num_classes else end_points | {"PreLogits": net}


def evaluate(
    build: Callable[[Any], Mapping[str, Any]], arrays: Mapping[str, np.ndarray], images: np.ndarray
) -> dict[str, np.ndarray]:
    """The end points of a network with given weights, for float32 `images`, as arrays.

    `build(inputs)` builds the network in a fresh graph and returns its end points.
    `arrays` are the values of all its variables under their names (`InceptionV3/...`);
    one too few, too many or of another shape is a ValueError that lists them.
    """
    images = np.asarray(images, np.float32)
    with tf.Graph().as_default():
        inputs = v1.placeholder(tf.float32, images.shape, "images")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`layer.apply` is deprecated")  # tf-slim's own business
            end_points = dict(build(inputs))
        variables = {v.op.name: v for v in v1.global_variables()}
        expected = {name: tuple(v.shape.as_list()) for name, v in variables.items()}
        found = {name: np.shape(array) for name, array in arrays.items()}
        misfits = [
            f"{name} is {found.get(name, 'missing')}, expected {expected.get(name, 'none of this name')}"
            for name in sorted(expected.keys() | found.keys())
            if expected.get(name) != found.get(name)
        ]
        if misfits:
            raise ValueError(f"The arrays do not fit the network's variables: {'; '.join(misfits)}.")
        with v1.Session() as session:
            # The initial values are fed, so no random ones are drawn.
            session.run(
                [v.initializer for v in variables.values()],
                {v.initializer.inputs[1]: arrays[name] for name, v in variables.items()},
            )
            return session.run(end_points, {inputs: images})


# --- The fold --------------------------------------------------------------------------


class _SlimOps(architecture.Ops[Any]):
    """What `Conv`, `Pool` and `Concat` mean in slim."""

    def __init__(self, border: Border):
        self.border = border

    def conv(self, node: Conv, x: Any, path: str) -> Any:
        window = _window(node)
        node = _fit(node, x)
        special: dict[str, Any] = {}
        if node.stddev is not None:
            special["weights_initializer"] = v1.truncated_normal_initializer(0.0, node.stddev)
        if not node.batch_norm:
            special |= {"activation_fn": None, "normalizer_fn": None}
        return slim.conv2d(x, node.depth, node.kernel, scope=node.name, **window, **special)

    def pool(self, node: Pool, x: Any, path: str) -> Any:
        window = _window(node)
        node = _fit(node, x)
        pool = {"max": slim.max_pool2d, "avg": slim.avg_pool2d}[node.kind]
        if borders := node.borders(self.border):
            x, window["padding"] = tf.pad(x, [(0, 0), *borders, (0, 0)]), "VALID"
        return pool(x, node.kernel, scope=node.name, **window)

    def concat(self, node: Concat, xs: list[Any], path: str) -> Any:
        return tf.concat(xs, 3)

    def scope(self, name: str) -> contextlib.AbstractContextManager[object]:
        return v1.variable_scope(name)


def _base(rows: Table, inputs: Any, scope: Any, ops: _SlimOps) -> tuple[Any, EndPoints]:
    with v1.variable_scope(scope, "InceptionV3", [inputs]):
        end_points = architecture.fold(ops, rows.base, inputs)
    return end_points[rows.base[-1].name], end_points


def _squeeze(logits: Any) -> Any:
    return tf.squeeze(logits, [1, 2], name="SpatialSqueeze")


def _window(node: Conv | Pool) -> dict[str, Any]:
    """The arguments that slim gives a node's window."""
    given = {"stride": node.stride, "padding": node.padding}
    return {name: value for name, value in given.items() if name not in _UNSAID.get(node.name, ())}


def _fit(node: Any, x: Any) -> Any:
    return architecture.fit(node, *tf.TensorShape(x.shape).as_list()[1:3])


# --- What is refused, and what is warned of ----------------------------------------------


def _table(
    num_classes: int | None,
    depth_multiplier: float,
    min_depth: int,
    border: str,
    last_pool: Literal["avg", "max"],
    aux_logits: bool = False,
) -> Table:
    if num_classes is not None and num_classes < 0:
        raise ValueError(f"num_classes is {num_classes}; expected a number, or None for the pooled features.")
    if border not in ("exclude", "include"):
        raise ValueError(f"border is {border!r}; expected 'exclude' or 'include'.")
    if last_pool not in ("avg", "max"):
        raise ValueError(f"last_pool is {last_pool!r}; expected 'avg' or 'max'.")
    return architecture.table(
        num_classes,
        aux_logits=aux_logits,
        depth_multiplier=depth_multiplier,
        min_depth=min_depth,
        last_pool=last_pool,
    )


def _check_inputs(rows: Table, inputs: Any, squeeze: bool = False, global_pool: bool = False) -> None:
    """ValueError, before any op is made, for inputs that the network cannot be built for."""
    if tf.executing_eagerly():
        raise ValueError(
            "InceptionV3 is built eagerly, where each call has new variables; "
            "call it inside a tf.Graph or tf.compat.v1.wrap_function."
        )
    shape = tf.TensorShape(inputs.shape)
    if shape.rank != 4 or shape.as_list()[3] is None:
        raise ValueError(
            f"inputs have shape {shape}; expected [batch, height, width, channels], with a known number of channels."
        )
    _, height, width, channels = shape.as_list()
    shapes = {place.path: place.output_shape for place in architecture.walk(rows, height, width, channels)}
    heads = {"AuxLogits": rows.aux_logits, "Logits": () if global_pool or _users_window() else rows.logits}
    for head, nodes in heads.items():
        size: tuple[int | None, ...] = shapes[f"{head}/{nodes[-1].name}"][:2] if squeeze and nodes else ()
        if set(size) - {None, 1}:
            raise ValueError(
                f"{head} of a {height}x{width} image is a map of {size[0]}x{size[1]}, which "
                "cannot be squeezed; pass spatial_squeeze=False, "
                "or create_aux_logits=False and global_pool=True."
            )


def _users_window() -> bool:
    """Whether an arg scope changes the last windows, so that their map is not the table's."""
    return any(
        {"stride", "padding"} & slim.current_arg_scope().get(slim.arg_scope_func_key(function), {}).keys()
        for function in (slim.conv2d, slim.avg_pool2d)
    )


def _normalizer() -> contextlib.AbstractContextManager[object]:
    """Our batch norm where the user's arg scope says slim's; a warning where it says nothing at all."""
    arguments = slim.current_arg_scope().get(slim.arg_scope_func_key(slim.conv2d), {})
    if "normalizer_fn" not in arguments:
        warnings.warn(
            "InceptionV3 is built without batch norm, because no arg scope sets a normalizer_fn "
            "for slim.conv2d; build it inside slim.arg_scope(inception_v3_arg_scope()), "
            "or say use_batch_norm=False there.",
            stacklevel=3,
        )
    if arguments.get("normalizer_fn") is slim.batch_norm:
        return slim.arg_scope([slim.conv2d], normalizer_fn=batch_norm)
    return contextlib.nullcontext()
