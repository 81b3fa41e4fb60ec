"""Frozen graphs for tests, made by TensorFlow from given weights: the graph of 2015, retrain.py's, slim's, Keras's."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_slim as slim
from tensorflow.core.framework import graph_pb2  # type: ignore[import-untyped]

from inception import architecture
from inception.architecture import Concat, Conv, Ops, Pool
from inception.builders.slim import inception_v3, inception_v3_arg_scope
from inception.pictures import GOOGLE_2015
from inception.variants import SCOPE
from inception.weights import Weights
from inception.weights.dialects import graph_names

v1 = tf.compat.v1


# ---- the graph of 2015


class Graph2015(Ops[str]):
    """A graph with the nodes and operations of 2015-12-05, whose values are `weights`."""

    def __init__(self, weights: Weights, epsilon: float = 0.001, scale: Callable[[str], bool] = lambda node: True):
        self.graph = graph_pb2.GraphDef()
        self.graph.versions.producer = 8
        self.weights, self.epsilon, self.scale = weights, epsilon, scale
        rows = weights.variant.table()
        self.name_of = graph_names.nodes(rows)
        y = list(architecture.fold(self, rows.base, self._input()).values())[-1]
        y = self.node("pool_3", "AvgPool", [y], T=tf.float32, ksize=[1, 8, 8, 1], strides=[1, 1, 1, 1], padding="VALID")
        features = y
        if rows.logits:
            width = self.array("Logits/Conv2d_1c_1x1/weights").shape[2]
            shape = self.constant("pool_3/_reshape/shape", np.array([-1, width], np.int32))
            features = self.node("pool_3/_reshape", "Reshape", [y, shape], T=tf.float32)
            matrix = self.constant("softmax/weights", self.array("Logits/Conv2d_1c_1x1/weights")[0, 0])
            biases = self.constant("softmax/biases", self.array("Logits/Conv2d_1c_1x1/biases"))
            product = self.node("softmax/logits/MatMul", "MatMul", [features, matrix], T=tf.float32)
            logits = self.node("softmax/logits", "BiasAdd", [product, biases], T=tf.float32)
            self.node("softmax", "Softmax", [logits], T=tf.float32)

    def array(self, name: str) -> np.ndarray:
        return self.weights.arrays[f"{SCOPE}/{name}"]

    def _input(self) -> str:
        x = self.node("ExpandDims", "Placeholder", [], dtype=tf.float32)
        size = self.constant("ResizeBilinear/size", np.array([299, 299], np.int32))
        x = self.node("ResizeBilinear", "ResizeBilinear", [x, size], T=tf.float32)
        mean = self.constant("Sub/y", np.float32(GOOGLE_2015.mean[0]))
        x = self.node("Sub", "Sub", [x, mean], T=tf.float32)
        factor = self.constant("Mul/y", np.float32(1 / GOOGLE_2015.scale[0]))
        return self.node("Mul", "Mul", [x, factor], T=tf.float32)

    def conv(self, node: Conv, x: str, path: str) -> str:
        name = self.name_of[path]
        kernel = self.constant(f"{name}/conv2d_params", self.array(f"{path}/weights"))
        strides = [1, node.stride, node.stride, 1]
        x = self.node(f"{name}/Conv2D", "Conv2D", [x, kernel], T=tf.float32, strides=strides, padding=node.padding)
        order = ("moving_mean", "moving_variance", "beta", "gamma")
        values = dict.fromkeys(order, np.ones(node.depth, np.float32))
        values |= {n: self.array(f"{path}/BatchNorm/{n}") for n in order if n != "gamma" or self.weights.variant.gamma}
        inputs = [self.constant(f"{name}/batchnorm/{n}", array) for n, array in values.items()]
        scale = self.scale(name)
        options = {"variance_epsilon": self.epsilon, "scale_after_normalization": scale, "T": tf.float32}
        x = self.node(f"{name}/batchnorm", "BatchNormWithGlobalNormalization", [x, *inputs], **options)
        self.node(f"{name}/CheckNumerics", "CheckNumerics", [x], T=tf.float32, message="not finite")
        x = self.node(f"{name}/control_dependency", "Identity", [x, f"^{name}/CheckNumerics"], T=tf.float32)
        return self.node(name, "Relu", [x], T=tf.float32)

    def pool(self, node: Pool, x: str, path: str) -> str:
        strides, ksize = [1, node.stride, node.stride, 1], [1, *node.kernel, 1]
        options = {} if node.kind == "max" else {"T": tf.float32}  # as in the file, which its editors stumbled over
        op = {"max": "MaxPool", "avg": "AvgPool"}[node.kind]
        return self.node(self.name_of[path], op, [x], ksize=ksize, strides=strides, padding=node.padding, **options)

    def concat(self, node: Concat, xs: list[str], path: str) -> str:
        rows = [row.name for row in architecture.BASE if isinstance(row, Concat)]
        row = rows.index(path.split("/")[0])
        name = f"mixed_{row}" if row else "mixed"
        tower = {"Branch_1": "/tower/mixed", "Branch_2": "/tower_1/mixed"}.get(path.rpartition("/")[2], "")
        axis = self.constant(f"{name}{tower}/join/concat_dim", np.array(3, np.int32))
        return self.node(f"{name}{tower}/join", "Concat", [axis, *xs], T=tf.float32, N=len(xs))

    def constant(self, name: str, value: Any) -> str:
        node = self.graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = tf.as_dtype(np.asarray(value).dtype).as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))
        return name

    def node(self, name: str, op: str, inputs: list[str], **attributes: Any) -> str:
        node = self.graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            target = node.attr[key]
            if isinstance(value, bool):
                target.b = value
            elif isinstance(value, int):
                target.i = value
            elif isinstance(value, float):
                target.f = value
            elif isinstance(value, str):
                target.s = value.encode()
            elif isinstance(value, list):
                target.list.i.extend(value)
            else:
                target.type = value.as_datatype_enum
        return name


def retrained(graph: Any, classes: int, scope: str = "final_training_ops", bottleneck: str = "pool_3/_reshape") -> Any:
    """What retrain.py makes of a graph: the old classifier out, one of its own (in `scope`) behind the bottleneck."""
    new = graph_pb2.GraphDef(versions=graph.versions)
    new.node.extend(n for n in graph.node if not n.name.startswith("softmax"))
    width = 203
    rng = np.random.default_rng(9)
    where = f"{scope}/" if scope else ""
    with tf.Graph().as_default() as head:
        x = v1.placeholder(tf.float32, [None, width], "bottleneck")
        x = v1.placeholder_with_default(x, [None, width], name="input/BottleneckInputPlaceholder")
        numbers = rng.normal(size=(width + 1, classes)).astype(np.float32)
        weights = tf.constant(numbers[1:], name=f"{where}weights/final_weights")
        biases = tf.constant(numbers[0], name=f"{where}biases/final_biases")
        read = [tf.identity(value, name=f"{value.op.name}/read") for value in (weights, biases)]
        product = tf.matmul(x, read[0], name=f"{where}Wx_plus_b/MatMul")
        tf.nn.softmax(v1.add(product, read[1], name=f"{where}Wx_plus_b/add"), name="final_result")
    for node in head.as_graph_def().node:
        if node.name != "bottleneck":
            new.node.add().CopyFrom(node)
            new.node[-1].input[:] = [i if i != "bottleneck" else bottleneck for i in node.input]
    return new


# ---- slim's


def frozen_slim(weights: Weights, training: bool = False, freeze: bool = True, **scope: Any) -> Any:
    """slim's graph with the variables' values as constants, by TensorFlow."""
    variant = weights.variant
    with tf.Graph().as_default() as graph, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = v1.placeholder(tf.float32, [None, 299, 299, 3], "input")
        with slim.arg_scope(inception_v3_arg_scope(batch_norm_scale=variant.gamma, **scope)):
            _, end_points = inception_v3(
                *(x, variant.num_classes, training),
                min_depth=variant.min_depth,
                depth_multiplier=variant.depth_multiplier,
                create_aux_logits=variant.aux_logits,
                border=variant.border,
                last_pool=variant.last_pool,
            )
        with v1.Session() as session:
            variables = {v.op.name: v for v in v1.global_variables()}
            fed = {v.initializer.inputs[1]: weights.arrays[name] for name, v in variables.items()}
            session.run([v.initializer for v in variables.values()], fed)
            outputs = [end_points[n].op.name for n in ("AuxLogits", "Predictions", "AvgPool_1a") if n in end_points]
            if not freeze:
                return graph.as_graph_def()
            return v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)


def prefixed(graph: Any, prefix: str) -> Any:
    """The graph as it is after `tf.import_graph_def(graph, name=prefix)`."""
    new = graph_pb2.GraphDef()
    new.CopyFrom(graph)
    for node in new.node:
        node.name = f"{prefix}/{node.name}"
        node.input[:] = [_under(prefix, name) for name in node.input]
    return new


def _under(prefix: str, name: str) -> str:
    return f"^{prefix}/{name[1:]}" if name[0] == "^" else f"{prefix}/{name}"


# ---- Keras's


class KerasModel(Ops[Any]):
    """The network in any Keras, its layers named by that Keras itself, as in keras.applications."""

    def __init__(self, keras: Any, weights: Weights):
        self.keras, self.weights = keras, weights
        self.layers: list[tuple[str, Any]] = []
        rows = weights.variant.table()
        inputs = keras.Input((299, 299, 3))
        y = list(architecture.fold(self, rows.base, inputs).values())[-1]
        if rows.logits:
            y = keras.layers.GlobalAveragePooling2D(name="avg_pool")(y)
            classifier = keras.layers.Dense(weights.variant.num_classes, activation="softmax", name="predictions")
            y = classifier(y)
            self.layers.append(("Logits/Conv2d_1c_1x1", classifier))
        self.model = keras.Model(inputs, y, name="inception_v3")

    def values(self) -> list[tuple[Any, np.ndarray]]:
        """Each variable of the model with its value."""
        pairs = []
        for place, layer in self.layers:
            names = [n for n in self.weights.arrays if n.rpartition("/")[0] == f"{SCOPE}/{place}"]
            # Keras lists gamma before beta.
            names.sort(key=lambda n: not n.endswith("gamma") if place.endswith("BatchNorm") else 0)
            for variable, name in zip(layer.weights, names, strict=True):
                array = self.weights.arrays[name]
                pairs.append((variable, array.reshape(variable.shape)))
        return pairs

    def conv(self, node: Conv, x: Any, path: str) -> Any:
        layers = self.keras.layers
        conv = layers.Conv2D(node.depth, node.kernel, node.stride, node.padding.lower(), use_bias=False)
        norm = layers.BatchNormalization(scale=self.weights.variant.gamma)
        self.layers += [(path, conv), (f"{path}/BatchNorm", norm)]
        return layers.Activation("relu")(norm(conv(x)))

    def pool(self, node: Pool, x: Any, path: str) -> Any:
        layer = {"max": self.keras.layers.MaxPooling2D, "avg": self.keras.layers.AveragePooling2D}[node.kind]
        return layer(node.kernel, node.stride, node.padding.lower())(x)

    def concat(self, node: Concat, xs: list[Any], path: str) -> Any:
        return self.keras.layers.concatenate(xs, axis=3)


def frozen_function(keras: Any, weights: Weights) -> Any:
    """A Keras model frozen as TensorFlow 2 does it, with `convert_variables_to_constants_v2`."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    made = KerasModel(keras, weights)
    for variable, array in made.values():
        variable.assign(array)
    function = tf.function(lambda x: made.model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec([None, 299, 299, 3], tf.float32))
    return convert_variables_to_constants_v2(concrete).graph.as_graph_def()


def frozen_session(keras: Any, backend: Any, weights: Weights) -> Any:
    """A Keras 2 model frozen as TensorFlow 1 did it, out of Keras's session: constants are `conv2d/kernel`."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        backend.set_session(session)
        backend.set_learning_phase(0)
        made = KerasModel(keras, weights)
        fed = {variable.initializer.inputs[1]: array for variable, array in made.values()}
        session.run([variable.initializer for variable, _ in made.values()], fed)
        output = made.model.output.op.name
        return v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), [output])


def anonymous(graph: Any) -> Any:
    """The graph as it is when frozen from a loaded SavedModel: its variables are called `unknown`, `unknown_0`, ..."""
    new = graph_pb2.GraphDef()
    new.CopyFrom(graph)
    variables = [node.name for node in new.node if node.op == "Const" and node.name.endswith("/resource")]
    names = {name: f"unknown_{n}" for n, name in enumerate(variables)}
    for node in new.node:
        node.name = names.get(node.name, f"StatefulPartitionedCall/{node.name}")
        node.input[:] = [names.get(i) or _under("StatefulPartitionedCall", i) for i in node.input]
    return new
