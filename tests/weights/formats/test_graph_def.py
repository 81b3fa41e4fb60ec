"""Frozen graphs: every family as TensorFlow makes it, ours as TensorFlow runs it, and graphs made to hurt."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
import tracemalloc

import numpy as np
import pytest
from damage import assert_never_silently_wrong, assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from made import NARROW, NARROW_NOTOP, assert_same, on_tensorflow, random_weights

from inception import load_weights, pictures
from inception.files.errors import (
    CheckpointError,
    CorruptFile,
    MissingTensor,
    ResourceLimit,
    ShapeMismatch,
    UnsupportedFeature,
)
from inception.files.tensor import LARGEST
from inception.files.tensorflow import graph_nodes, wire
from inception.variants import GOOGLE_2015, KERAS, SLIM, TORCHVISION
from inception.weights import formats
from inception.weights.dialects import slim_2016_03
from inception.weights.formats import graph_def

tf = pytest.importorskip("tensorflow")
import frozen  # noqa: E402
from tensorflow.core.framework import graph_pb2  # type: ignore[import-untyped]  # noqa: E402

NORM = ("beta", "gamma", "moving_mean", "moving_variance")
BATCH_NORM = tuple(f"BatchNorm/{name}" for name in NORM)
THIN = {"depth_multiplier": 0.1, "min_depth": 4}
OF_2015 = dataclasses.replace(GOOGLE_2015, **THIN)
WITH_GAMMA = dataclasses.replace(NARROW, gamma=True)
TORCH = dataclasses.replace(TORCHVISION, num_classes=5, aux_kernel=(1, 1), **THIN)
OF_SLIM = dataclasses.replace(SLIM, aux_kernel=(1, 1), **THIN)


def saved(path, graph):
    path.write_bytes(graph.SerializeToString())
    return path


def node(graph, name):
    return next(n for n in graph.node if n.name == name)


@pytest.fixture(scope="module")
def tiny():
    variant = dataclasses.replace(OF_2015, num_classes=2, background=False, depth_multiplier=0.01, min_depth=1)
    return random_weights(variant)


# ---- ours


def test_tensorflow_runs_it_and_gets_what_slims_builder_gets(tmp_path):
    from inception.builders.slim import evaluate, inception_v3_of

    variant = dataclasses.replace(TORCH, last_pool="max")
    weights = random_weights(variant)
    weights.save(tmp_path / "m.pb")
    images = np.random.default_rng(1).uniform(-1, 1, (2, 107, 107, 3)).astype(np.float32)
    names = {}

    def build(inputs):
        end_points = inception_v3_of(variant, inputs)
        names.update({key: tensor.name for key, tensor in end_points.items()})
        return end_points

    expected = evaluate(build, weights.arrays, images)
    graph_def_ = graph_pb2.GraphDef.FromString((tmp_path / "m.pb").read_bytes())
    with tf.Graph().as_default() as graph:
        tf.compat.v1.import_graph_def(graph_def_, name="")
        assert graph.get_tensor_by_name("input:0").shape.as_list() == [None, None, None, 3]
        with tf.compat.v1.Session() as session:
            found = session.run(names, {"input:0": images})
    assert len(found) == 23 and found["Mixed_7c"].shape == (2, 2, 2, 203)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5 * np.abs(value).max(), err_msg=key)


def test_the_digest_is_what_sha256sum_makes_and_is_checked(tmp_path):
    weights = random_weights(NARROW)
    weights.save(tmp_path / "m.pb")
    side = tmp_path / "m.pb.sha256"
    assert side.read_text() == f"{hashlib.sha256((tmp_path / 'm.pb').read_bytes()).hexdigest()}  m.pb\n"
    random_weights(NARROW, seed=1).save(tmp_path / "other.pb")
    os.replace(tmp_path / "other.pb", tmp_path / "m.pb")
    with pytest.raises(CorruptFile, match=r"is not the file that .*m\.pb\.sha256 was made for"):
        load_weights(tmp_path / "m.pb")
    side.write_text("by hand\n")
    with pytest.raises(CorruptFile, match="does not start with a SHA-256 digest"):
        load_weights(tmp_path / "m.pb")
    side.unlink()
    with pytest.warns(formats.UnverifiedFile):
        assert load_weights(tmp_path / "m.pb").source.integrity == "structure"


# ---- the graph of 2015 and retrain.py's


@pytest.mark.parametrize("last_pool", ["max", "avg"])
@pytest.mark.parametrize("prefix", ["", "import"])
def test_the_graph_of_2015(tmp_path, prefix, last_pool):
    weights = random_weights(dataclasses.replace(OF_2015, last_pool=last_pool))
    graph = frozen.Graph2015(weights).graph
    again = graph_def.read(saved(tmp_path / "g.pb", frozen.prefixed(graph, prefix) if prefix else graph))
    assert_same(again, weights)
    assert again.variant == weights.variant and again.variant.num_classes == 1008
    assert again.source.format == "frozen TensorFlow graph (2015-12-05)"
    assert again.source.integrity == "structure"


def test_the_graph_of_2015_computes_what_the_weights_read_from_it_do(tmp_path):
    from inception.builders.slim import evaluate, inception_v3_of

    graph = frozen.Graph2015(random_weights(OF_2015), scale=lambda node: "conv_1" not in node).graph
    weights = graph_def.read(saved(tmp_path / "g.pb", graph))
    pixels = np.random.default_rng(2).integers(0, 256, (1, 299, 299, 3)).astype(np.float32)
    with tf.Graph().as_default():
        tf.compat.v1.import_graph_def(graph, name="")
        with tf.compat.v1.Session() as session:
            names = {"Mixed_7c": "mixed_10/join:0", "Mixed_5c": "mixed_1/join:0", "Logits": "softmax/logits:0"}
            expected = session.run(names, {"ExpandDims:0": pixels})
    variant = weights.variant
    images = weights.picture.scaled(pixels)
    assert weights.picture == pictures.GOOGLE_2015
    found = evaluate(lambda inputs: inception_v3_of(variant, inputs), weights.arrays, images)
    assert variant == OF_2015
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5 * np.abs(value).max(), err_msg=name)


def test_gamma_counts_where_the_batch_norm_says_so(tmp_path):
    weights = random_weights(OF_2015)
    none = graph_def.read(saved(tmp_path / "g.pb", frozen.Graph2015(weights, scale=lambda _: False).graph))
    assert not none.variant.gamma and "94 gammas left out" in none.source.notes[0]
    graph = frozen.Graph2015(weights, scale=lambda node: node != "mixed_5/conv").graph
    some = graph_def.read(saved(tmp_path / "g.pb", graph))
    name = "InceptionV3/Mixed_6c/Branch_0/Conv2d_0a_1x1/BatchNorm/gamma"
    assert some.variant.gamma and (some.arrays[name] == 1).all()
    for other in weights.arrays.keys() - {name}:
        np.testing.assert_array_equal(some.arrays[other], weights.arrays[other])


def test_biases_of_the_classifier_stay_apart_for_the_inception_score(tmp_path):
    weights = random_weights(OF_2015)
    again = graph_def.read(saved(tmp_path / "g.pb", frozen.Graph2015(weights).graph))
    scope = "InceptionV3/Logits/Conv2d_1c_1x1"
    for name in ("weights", "biases"):
        np.testing.assert_array_equal(again.arrays[f"{scope}/{name}"], weights.arrays[f"{scope}/{name}"])
    assert weights.arrays[f"{scope}/biases"].any()


@pytest.mark.parametrize("scope", ["final_training_ops", "final_retrain_ops", ""])
def test_what_retrain_makes_of_the_graph_of_2015(tmp_path, scope):
    weights = random_weights(OF_2015)
    graph = frozen.retrained(frozen.Graph2015(weights).graph, 1001, scope)
    again = graph_def.read(saved(tmp_path / "g.pb", graph))
    expected = dataclasses.replace(OF_2015, num_classes=1001, background=False)
    assert again.variant == expected and list(again.arrays) == list(expected.shapes())
    for name, array in again.arrays.items():
        if "/Logits/" not in name:
            np.testing.assert_array_equal(array, weights.arrays[name])
    matrix = node(graph, f"{scope}/weights/final_weights".strip("/"))
    biases = node(graph, f"{scope}/biases/final_biases".strip("/"))
    scope = "InceptionV3/Logits/Conv2d_1c_1x1"
    np.testing.assert_array_equal(again.arrays[f"{scope}/weights"][0, 0], tf.make_ndarray(matrix.attr["value"].tensor))
    np.testing.assert_array_equal(again.arrays[f"{scope}/biases"], tf.make_ndarray(biases.attr["value"].tensor))
    assert "retrain.py" in again.source.notes[0]


def test_the_graph_of_2015_without_its_classifier(tmp_path):
    base = dataclasses.replace(OF_2015, num_classes=0, background=False)
    weights = random_weights(base)
    graph = frozen.Graph2015(weights).graph
    assert_same(graph_def.read(saved(tmp_path / "g.pb", graph)), weights)
    graph.ClearField("versions")
    with pytest.raises(CorruptFile, match="as if cut short"):
        graph_def.read(saved(tmp_path / "g.pb", graph))


def test_another_epsilon_is_read(tmp_path):
    weights = random_weights(OF_2015)
    again = graph_def.read(saved(tmp_path / "g.pb", frozen.Graph2015(weights, epsilon=0.01).graph))
    assert_same(again, weights)
    assert again.variant == dataclasses.replace(OF_2015, epsilon=0.01)


@pytest.mark.parametrize("epsilon", [-1.0, float("nan"), float("inf")])
def test_an_epsilon_that_is_none_is_refused(tmp_path, epsilon):
    graph = frozen.Graph2015(random_weights(OF_2015), epsilon=epsilon).graph
    with pytest.raises(UnsupportedFeature, match="to the variance"):
        graph_def.read(saved(tmp_path / "g.pb", graph))


@pytest.mark.parametrize("epsilon", [1e-5, 0.001234567891])
def test_another_epsilon_comes_back(tmp_path, epsilon):
    weights = random_weights(dataclasses.replace(NARROW, epsilon=epsilon))
    graph_def.write(tmp_path / "g.pb", weights)
    again = graph_def.read(tmp_path / "g.pb")
    assert_same(again, weights)
    assert np.float32(again.variant.epsilon) == np.float32(epsilon)


def test_what_is_missing_left_over_or_misshapen_is_named(tmp_path):
    def refusal(error, change):
        graph = frozen.Graph2015(random_weights(OF_2015)).graph
        change(graph)
        with pytest.raises(error) as caught:
            graph_def.read(saved(tmp_path / "g.pb", graph))
        return str(caught.value)

    name = "mixed_9/tower/mixed/conv_1/conv2d_params"
    assert "Mixed_7b/Branch_1/Conv2d_0b_3x1" in refusal(MissingTensor, lambda g: g.node.remove(node(g, name)))
    extra = "mixed_9/tower/mixed/conv_2/conv2d_params"
    assert extra in refusal(MissingTensor, lambda g: g.node.add(name=extra).MergeFrom(_renamed(node(g, name), extra)))
    kernel = tf.make_tensor_proto(np.zeros((1, 3, 38, 38), np.float32))
    assert name in refusal(ShapeMismatch, lambda g: node(g, name).attr["value"].tensor.CopyFrom(kernel))
    for name in ("mixed_10/tower_2/pool", "mixed/tower_2/pool"):
        assert "pools" in refusal(UnsupportedFeature, lambda g, name=name: g.node.remove(node(g, name)))
    norm = "mixed_9/conv/batchnorm"
    assert f"{norm}/moving_mean" in refusal(UnsupportedFeature, lambda g: _swap(node(g, norm).input, 1, 3))


def _renamed(found, name):
    new = type(found)()
    new.CopyFrom(found)
    new.name = name
    return new


def _swap(items, a, b):
    items[a], items[b] = items[b], items[a]


# ---- slim's


@pytest.fixture(scope="module")
def slim_graph():
    """slim's narrow network with the auxiliary head, frozen by TensorFlow: (graph, its weights)."""
    weights = random_weights(dataclasses.replace(NARROW, aux_logits=True))
    return frozen.frozen_slim(weights), weights


@pytest.mark.parametrize("prefix", ["", "import", "module/tower_0"])
def test_slims_graph(tmp_path, slim_graph, prefix):
    graph, weights = slim_graph
    again = graph_def.read(saved(tmp_path / "g.pb", frozen.prefixed(graph, prefix) if prefix else graph))
    assert_same(again, weights)
    assert again.variant == weights.variant
    assert again.source.format == "frozen TensorFlow graph (slim)"


def test_slims_graph_with_batch_norm_written_out(tmp_path):
    """As the graph frozen from slim's checkpoint of 2016 has it."""
    weights = random_weights(NARROW)
    graph = frozen.frozen_slim(weights, use_fused_batchnorm=False)
    again = graph_def.read(saved(tmp_path / "g.pb", graph))
    assert_same(again, weights)
    assert again.variant == NARROW
    epsilons = [n for n in graph.node if n.name.endswith("/add/y")]
    assert len(epsilons) == 94
    epsilons[50].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.float32(0.002)))
    with pytest.raises(UnsupportedFeature, match=r"adds 0\.002 to the variance, that of .* adds 0\.001"):
        graph_def.read(saved(tmp_path / "g.pb", graph))


def test_slims_graph_with_other_pools_and_gamma(tmp_path):
    variant = dataclasses.replace(WITH_GAMMA, border="include", last_pool="max")
    weights = random_weights(variant)
    again = graph_def.read(saved(tmp_path / "g.pb", frozen.frozen_slim(weights)))
    assert_same(again, weights)
    assert again.variant == variant


def test_slims_graph_retrained_from_a_hub_module(tmp_path, slim_graph):
    graph, weights = slim_graph
    hub = graph_pb2.GraphDef(versions=graph.versions)
    heads = ("InceptionV3/AuxLogits", "InceptionV3/Predictions")
    hub.node.extend(n for n in graph.node if not n.name.startswith(heads))
    bottleneck = "InceptionV3/Logits/AvgPool_1a_8x8/AvgPool"
    hub = frozen.retrained(frozen.prefixed(hub, "module"), 3, "final_retrain_ops", f"module/{bottleneck}")
    again = graph_def.read(saved(tmp_path / "g.pb", hub))
    assert again.variant == dataclasses.replace(NARROW, num_classes=3)
    for name, array in again.arrays.items():
        if "/Logits/" not in name:
            np.testing.assert_array_equal(array, weights.arrays[name])


def test_a_scale_that_is_no_variable_is_gamma_unless_it_is_one(tmp_path, slim_graph):
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(slim_graph[0])
    [ones] = [n for n in graph.node if n.name.startswith("InceptionV3/InceptionV3/Conv2d_2a_3x3/BatchNorm/ones")]
    ones.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.full(4, 2, np.float32)))
    again = graph_def.read(saved(tmp_path / "g.pb", graph))
    assert again.variant.gamma
    scale = {name: array for name, array in again.arrays.items() if name.endswith("gamma")}
    assert len(scale) == 96
    for name, array in scale.items():
        assert (array == (2 if "Conv2d_2a_3x3/" in name and "Mixed" not in name else 1)).all()


def test_the_epsilon_of_every_batch_norm_counts(tmp_path, slim_graph):
    for epsilon in (0.01, None):
        graph = graph_pb2.GraphDef()
        graph.CopyFrom(slim_graph[0])
        norm = [n for n in graph.node if n.op == "FusedBatchNormV3"][50]
        if epsilon is None:
            del norm.attr["epsilon"]  # TensorFlow's default is 0.0001
        else:
            norm.attr["epsilon"].f = epsilon
        with pytest.raises(UnsupportedFeature, match=r"adds 0\.0\d*1 to the variance, that of .* adds 0\.001"):
            graph_def.read(saved(tmp_path / "g.pb", graph))


def test_graphs_without_their_numbers_are_refused_with_a_reason(tmp_path, slim_graph):
    for change, reason in ((not_frozen, "is not frozen: its weights are in"), (training, "while training")):
        graph = graph_pb2.GraphDef()
        graph.CopyFrom(slim_graph[0])
        change(graph)
        with pytest.raises(UnsupportedFeature, match=reason):
            graph_def.read(saved(tmp_path / "g.pb", graph))


def not_frozen(graph):
    constants = {n.name for n in graph.node if n.op == "Const" and n.name.startswith("InceptionV3/")}
    for n in graph.node:
        if n.name in constants and n.name.rpartition("/")[2] in ("weights", "biases", *NORM):
            n.op = "VarHandleOp"
        elif n.op == "Identity" and n.input[0] in constants:
            n.op = "ReadVariableOp"


def training(graph):
    """Fused batch norms read no moving statistics while training, so these are not frozen with the rest."""
    for n in graph.node:
        if n.op == "FusedBatchNormV3":
            n.attr["is_training"].b = True
            n.input[3:] = ["empty", "empty"]
    frozen_constant(graph, "empty", np.zeros(0, np.float32))
    kept = [n for n in graph.node if "moving_" not in n.name and not any("moving_" in name for name in n.input)]
    del graph.node[:]
    graph.node.extend(kept)


def test_the_older_slim_family(tmp_path, slim_graph):
    graph, weights = frozen.prefixed(slim_graph[0], "inception_v3"), slim_graph[1]
    scopes = slim_2016_03.scopes(weights.variant.aux_kernel).values()
    found = {f"{scope}/{end}": (5, 5, 1, 1) for scope in scopes for end in ("weights", "biases", *BATCH_NORM)}
    older = {f"inception_v3/{c.canonical}": c for c in slim_2016_03.claims(found)}
    for n in graph.node:
        n.input[:] = [older[i].stored if i in older else i for i in n.input]
        if n.name in older:
            array = older[n.name].layout.to_file(tf.make_ndarray(n.attr["value"].tensor))
            n.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
            n.name = older[n.name].stored
    again = graph_def.read(saved(tmp_path / "g.pb", graph))
    assert_same(again, weights)
    assert again.variant == weights.variant
    assert again.source.format == "frozen TensorFlow graph (slim of 2016-03)"


# ---- Keras's


@on_tensorflow
def test_a_keras_graph_whatever_its_constants_are_called(tmp_path):
    keras = pytest.importorskip("keras")
    weights = random_weights(NARROW)
    graph = frozen.frozen_function(keras, weights)
    for made in (graph, frozen.anonymous(graph)):
        again = graph_def.read(saved(tmp_path / "g.pb", made))
        assert_same(again, weights)
        assert again.variant == NARROW
        assert again.source.format == "frozen TensorFlow graph (by its wiring)"


def test_a_keras_2_graph_frozen_as_tensorflow_2_does(tmp_path):
    keras = pytest.importorskip("tf_keras")
    weights = random_weights(dataclasses.replace(NARROW_NOTOP, gamma=True))
    again = graph_def.read(saved(tmp_path / "g.pb", frozen.frozen_function(keras, weights)))
    assert_same(again, weights)
    assert again.variant == weights.variant


def test_a_keras_2_graph_frozen_as_tensorflow_1_did(tmp_path):
    keras = pytest.importorskip("tf_keras")
    from tf_keras.src import backend

    weights = random_weights(NARROW)
    graph = frozen.frozen_session(keras, backend, weights)
    assert any(n.name == "batch_normalization_93/moving_mean" for n in graph.node)
    assert_same(graph_def.read(saved(tmp_path / "g.pb", graph)), weights)


@on_tensorflow
def test_our_own_keras_model_with_both_heads(tmp_path):
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from inception.builders.keras import model_of

    weights = random_weights(dataclasses.replace(WITH_GAMMA, aux_logits=True, aux_kernel=(1, 1)))
    model = model_of(weights, input_shape=(107, 107, 3))
    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec([None, 107, 107, 3], tf.float32))
    again = graph_def.read(saved(tmp_path / "g.pb", convert_variables_to_constants_v2(concrete).graph.as_graph_def()))
    assert_same(again, weights)
    assert again.variant == weights.variant


def test_a_users_own_head_is_left_out_and_said_so(tmp_path, slim_graph):
    graph = graph_pb2.GraphDef()
    graph.CopyFrom(slim_graph[0])
    renames = {n.name: f"unnamed_{i}" for i, n in enumerate(graph.node) if n.op == "Const" and n.name[0] == "I"}
    for n in graph.node:
        n.name, n.input[:] = renames.get(n.name, n.name), [renames.get(i, i) for i in n.input]
    assert_same(graph_def.read(saved(tmp_path / "g.pb", graph)), slim_graph[1])
    logits = node(graph, "InceptionV3/Logits/Conv2d_1c_1x1/BiasAdd")
    graph.node.add(name="mine", op="Relu", input=[logits.name])  # a hidden layer, then
    node(graph, "InceptionV3/AuxLogits/Conv2d_2b_1x1/BiasAdd").op = "Relu"
    again = graph_def.read(saved(tmp_path / "g.pb", graph))
    assert_same(again, slim_graph[1].step("drop-top"))
    assert "no classifier" in again.source.notes[0]


# ---- other files


def test_other_protobufs_are_known(tmp_path, slim_graph):
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

    meta = meta_graph_pb2.MetaGraphDef(graph_def=slim_graph[0])
    meta.meta_info_def.stripped_op_list.op.add(name="Add")
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    with pytest.raises(UnsupportedFeature, match=r"is a SavedModel.*variables/variables"):
        load_weights(saved(tmp_path / "saved_model.pb", model))
    with pytest.raises(UnsupportedFeature, match=r"is a MetaGraph.*checkpoint"):
        load_weights(saved(tmp_path / "model.ckpt-7.meta", meta))
    (tmp_path / "g.pbtxt").write_text("node {\n  name: 'a'\n}")
    with pytest.raises(UnsupportedFeature, match="no format that is read here"):
        load_weights(tmp_path / "g.pbtxt")
    other = graph_pb2.GraphDef()
    frozen_constant(other, "conv2d0_w", np.zeros((7, 7, 3, 64), np.float32))
    with pytest.raises(UnsupportedFeature, match=r"not of an InceptionV3 at inference .*conv2d0_w"):
        load_weights(saved(tmp_path / "g.pb", other))


def test_graphs_are_recognised_by_their_first_bytes(tmp_path):
    for name in ("x", "a" * 123, "b" * 127, "c" * 128, "d" * 700, "scope/Const_1"):
        for size in (0, 1, 4000):
            graph = graph_pb2.GraphDef()
            frozen_constant(graph, name, np.zeros(size, np.float32))
            assert graph_nodes.is_graph(graph.SerializeToString()[:1024])
    # A first node of 123 bytes starts like JSON after a line feed.
    graph = graph_pb2.GraphDef()
    graph.node.add(name="a" * 108, op="Identity").input.append("b")
    assert graph.SerializeToString().lstrip()[:1] == b"{"
    assert formats.recognise(str(saved(tmp_path / "g.pb", graph))).__name__.endswith("graph_def")
    others = [b"", b"\n", b"\n\x05", b'{"format": 1}', b"PK\3\4", b"\x89HDF", b'\n{\n  "a": 1}', b"\x08\x07\x12\5torch"]
    for other in others:
        assert not graph_nodes.is_graph(other)


# ---- graphs made to hurt


def frozen_constant(graph, name, array, **value):
    made = graph.node.add(name=name, op="Const")
    made.attr["dtype"].type = 1
    made.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    return made


def constant(*sides, dtype=1, said=None, **numbers) -> bytes:
    """A graph of one constant, as told."""
    graph = graph_pb2.GraphDef()
    made = graph.node.add(name="conv/conv2d_params", op="Const")
    made.attr["dtype"].type = dtype if said is None else said
    tensor = made.attr["value"].tensor
    tensor.dtype = dtype
    for side in sides:
        tensor.tensor_shape.dim.add().size = side
    for field, content in numbers.items():
        if field == "tensor_content":
            tensor.tensor_content = content
        else:
            getattr(tensor, field).extend(content)
    return graph.SerializeToString()


def nested(depth: int) -> bytes:
    value = b""
    for _ in range(depth):
        value = wire.encode_data(1, value)
    return value


def graph_of(*nodes) -> bytes:
    return graph_pb2.GraphDef(node=[graph_pb2.GraphDef().node.add(**n) for n in nodes]).SerializeToString()


def one_node(op: str, **attributes: bytes) -> bytes:
    pairs = ((wire.encode_data(1, key.encode()), wire.encode_data(2, value)) for key, value in attributes.items())
    entries = [wire.encode_data(5, *pair) for pair in pairs]
    return wire.encode_data(1, b"\n\1a", wire.encode_data(2, op.encode()), *entries)


def ring(op: str, inputs: int) -> bytes:
    return graph_of(*({"name": f"n{i}", "op": op, "input": [f"n{(i + 1) % 9}"] * inputs} for i in range(9)))


def chain(op: str, inputs: int) -> bytes:
    """Many nodes, each reading the one before."""
    node_ = b"\n\5%05d" + wire.encode_data(2, op.encode()) + b"\x1a\5%05d" * inputs
    numbers_ = (wire.encode_data(1, node_ % (i, *[i - 1] * inputs)) for i in range(1, 25_000))
    return b"".join(numbers_) + constant(1, float_val=[1])


GIGABYTE = 1 << 28
LARGE = {  # read as a graph, and refused when the values are asked for
    "1 GiB from 61 bytes": constant(GIGABYTE, float_val=[1]),
    "1 GiB from none": constant(GIGABYTE),
    "2^40 numbers": constant(1 << 40, float_val=[1]),
    "2^40 x 2^40": constant(1 << 40, 1 << 40, float_val=[1]),
    "0 x 2^62": constant(0, 1 << 62),
    "2^62 x 4 wraps to 0": constant(1 << 62, 4),
    "bfloat16": constant(2, dtype=14, half_val=[1, 1]),
    "quantized": constant(2, dtype=12, tensor_content=b"\1\1"),
}
HOSTILE = {
    "side -1": constant(-1, float_val=[1]),
    "sides -2 x -2": constant(-2, -2, float_val=[1] * 4),
    "rank 300": constant(*[1] * 300, float_val=[1]),
    "type 0": constant(4, dtype=0, said=0, float_val=[0] * 4),
    "type 99": constant(4, dtype=99, said=99, float_val=[0] * 4),
    "reference type": constant(4, dtype=101, said=101, float_val=[0] * 4),
    "node of another type": constant(4, said=2, float_val=[0] * 4),
    "content too short": constant(4, tensor_content=bytes(15)),
    "content too long": constant(4, tensor_content=bytes(17)),
    "content for a scalar": constant(tensor_content=bytes(8)),
    "too many numbers": constant(3, float_val=[0] * 4),
    "numbers in two forms": constant(4, float_val=[0] * 4, tensor_content=bytes(16)),
    "doubles one by one, too many": constant(3, dtype=2, double_val=[0] * 4),
    "half numbers one by one": constant(2, dtype=19, half_val=[1, 1]),
    "numbers cut": constant(4, float_val=[0] * 4).replace(b"\x2a\x10", b"\x2a\x0f"),
    "shape unknown": one_node("Const", value=b"\x42\x06\x08\1\x12\2\x18\1"),
    "two nodes of one name": graph_of({"name": "a", "op": "NoOp"}, {"name": "a", "op": "Relu"}),
    "no name": graph_of({"op": "Const"}),
    "no operation": graph_of({"name": "a"}),
    "name of 2000 bytes": graph_of({"name": "a" * 2000, "op": "NoOp"}),
    "name is not UTF-8": wire.encode_data(1, b"\n\2\xff\xfe\x12\5Const"),
    "input is a number": wire.encode_data(1, b"\n\1a\x12\4Relu\x18\1"),
    "name twice": wire.encode_data(1, b"\n\1a\n\1b\x12\4Relu"),
    "an attribute twice": wire.encode_data(1, b"\n\1a\x12\5Const", b"*\x0b\n\5dtype\x12\2\x30\1" * 2),
    "100 attributes": wire.encode_data(1, b"\n\1a\x12\4Relu", b"*\x0b\n\5dtype\x12\2\x30\1" * 100),
    "node is a number": b"\x08\1",
    "no protobuf": b"\xff" * 40,
    "empty": b"",
    "group": b"\x0b\x0c",
    "cut": constant(4, float_val=[0] * 4)[:-3],
    "depth 5000": one_node("Const", value=nested(5000)),
    "depth 5000 in a function": wire.encode_data(2, nested(5000)),
    "an Identity of itself": graph_of({"name": "a", "op": "Identity", "input": ["a"]}),
    "a ring": ring("AddV2", 2),
    "a ring of joins": ring("Concat", 5),
    "a ring of nothing": ring("Identity", 1),
    "norm of itself": graph_of({"name": "a", "op": "FusedBatchNorm", "input": ["a"] * 5}),
    "convolution of nothing": graph_of({"name": "a", "op": "Conv2D"}, {"name": "b", "op": "ConcatV2"}),
}


def refusal(path, content, read=graph_def.read) -> str:
    """The sentence that a file is refused with, at once and without room for what it asks."""
    path.write_bytes(content)
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(CheckpointError) as caught:
            read(path)
        assert time.process_time() - start < 2
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_graphs_are_refused(tmp_path, name):
    refusal(tmp_path / "g.pb", HOSTILE[name])


@pytest.mark.parametrize("name", LARGE)
def test_what_is_too_large_is_listed_and_not_read(tmp_path, name):
    def values(path):
        return [stored.read() for stored in graph_nodes.read(path).constants.values()]

    refusal(tmp_path / "g.pb", LARGE[name], values)
    refusal(tmp_path / "g.pb", LARGE[name])


def test_the_forger_can_make_good_constants(tmp_path):
    def value(content):
        (tmp_path / "g.pb").write_bytes(content)
        [stored] = graph_nodes.read(tmp_path / "g.pb").constants.values()
        return stored.read().tolist()

    assert value(constant(3, float_val=[0, 1, 2])) == [0, 1, 2]
    assert value(constant(3, tensor_content=np.arange(3, dtype="<f4").tobytes())) == [0, 1, 2]
    assert value(constant(3, dtype=2, double_val=[0, 1, 2])) == [0, 1, 2]
    assert value(constant(3, dtype=19, tensor_content=np.arange(3, dtype="<f2").tobytes())) == [0, 1, 2]
    # As TensorFlow reads them: the last stands for the rest, none for zeros.
    assert value(constant(4, float_val=[7, 5])) == [7, 5, 5, 5]
    assert value(constant(2, 2)) == [[0, 0], [0, 0]]
    assert value(constant(float_val=[3])) == 3
    # One by one, as protobuf may write what is repeated.
    one_by_one = b"\x08\1\x12\4\x12\2\x08\2" + b"".join(b"\x2d" + np.float32(x).tobytes() for x in (1, 2))
    assert value(one_node("Const", value=wire.encode_data(8, one_by_one))) == [1, 2]


def test_one_number_for_a_whole_network_is_no_way_to_fill_the_memory(tmp_path):
    weights = random_weights(dataclasses.replace(OF_2015, num_classes=4, background=False))
    graph = frozen.Graph2015(weights).graph
    for name, sides in (("softmax/weights", (203, 300_000)), ("softmax/biases", (300_000,))):
        tensor = node(graph, name).attr["value"].tensor
        tensor.CopyFrom(tf.make_tensor_proto(np.float32(1)))
        for side in sides:
            tensor.tensor_shape.dim.add().size = side
    path = saved(tmp_path / "g.pb", graph)
    assert_refused(lambda: graph_def.read(path), ResourceLimit, "its tensors take .* bytes from a file of")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"".join(wire.encode_data(1, b"\n\1%c\x12\4NoOp" % n, b"\x1a\0" * 100_000) for n in range(65, 105)), "beside"),
        (wire.encode_data(1, b"\n\1a\x12\4NoOp", b"\x78\0" * 200_000), "fields"),
        (b"".join(wire.encode_data(1, b"\n\1%c\x12\4NoOp" % n, b"\x78\0" * 100_000) for n in range(65, 95)), "beside"),
        (b"\n\0" * 100_000, "nodes"),
        (b"\x78\0" * 200_000, "fields"),
        (chain("BiasAdd", 2), "InceptionV3"),
        (chain("AddV2", 2), "InceptionV3"),
        (chain("Identity", 1), "InceptionV3"),
    ],
    ids=["inputs", "a node's fields", "nodes' fields", "nodes", "fields", "sums", "a ladder", "a chain"],
)
def test_a_large_graph_costs_little(tmp_path, content, sentence):
    (tmp_path / "g.pb").write_bytes(content)
    assert_refused(lambda: graph_def.read(tmp_path / "g.pb"), CheckpointError, sentence, seconds=5)


def test_every_byte_of_a_small_graph(tmp_path):
    """Flips, cuts and holes: one of our errors, or nodes and shapes as they were; only values and words may change."""
    graph = graph_pb2.GraphDef()
    frozen_constant(graph, "conv/conv2d_params", np.arange(6, dtype=np.float32).reshape(2, 3))
    graph.node.add(name="conv", op="Relu", input=["conv/conv2d_params"])
    frozen_constant(graph, "softmax/biases", np.ones(5, np.float32))
    content = graph.SerializeToString()
    path = tmp_path / "g.pb"
    for position in range(len(content)):
        for wrong in (content[position] ^ 0xFF, content[position] ^ 1 << position % 8, None):
            tail = b"" if wrong is None else bytes([wrong]) + content[position + 1 :]
            path.write_bytes(content[:position] + tail)
            try:
                constants = graph_nodes.read(path).constants
                for stored in constants.values():
                    assert stored.dtype == object or stored.read().shape == stored.shape
            except CheckpointError as error:
                assert str(path) in str(error)


def shapes_of(path):
    weights = graph_def.read(path)
    return weights.variant.table(), [(name, array.shape) for name, array in weights.arrays.items()]


def test_damage_never_renames_or_reshapes(tmp_path, tiny):
    path = saved(tmp_path / "g.pb", frozen.Graph2015(tiny).graph)
    positions = np.random.default_rng(7).integers(0, path.stat().st_size, 25)
    assert_never_silently_wrong(path, shapes_of, positions)


sides = st.lists(st.one_of(st.integers(0, 3), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=4)
numbers = st.one_of(
    st.lists(st.floats(width=32), max_size=20).map(lambda found: {"float_val": found}),
    st.lists(st.floats(), max_size=20).map(lambda found: {"double_val": found}),
    st.binary(max_size=80).map(lambda found: {"tensor_content": found}),
)


@given(sides, st.integers(0, 40), numbers)
@settings(max_examples=300, deadline=None)
def test_any_constant_is_read_or_refused(tmp_path_factory, sides, dtype, numbers):
    path = tmp_path_factory.getbasetemp() / "fuzz.pb"
    path.write_bytes(constant(*sides, dtype=dtype, **numbers))
    try:
        [stored] = graph_nodes.read(path).constants.values()
        assert stored.read().shape == tuple(sides) == stored.shape
    except CheckpointError as error:
        assert str(path) in str(error)


def test_full_size_weights_fit_the_limits():
    """The real network is far from them, so that they are no bother."""
    assert sum(np.prod(shape) for shape in KERAS.shapes().values()) * 4 < LARGEST / 2
