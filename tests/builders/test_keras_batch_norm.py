"""A training step's batch norm in half precision, beside Keras's own: the same numbers, the same files."""

import json

import keras
import numpy as np
import pytest
from keras import layers

import inception
from inception.builders.keras_batch_norm import BatchNormalization

RELATIVE = {"mixed_bfloat16": 2e-2, "mixed_float16": 3e-3, "float32": 0}  # of a gradient, to the largest in it
TENSORFLOW = keras.backend.backend() == "tensorflow"
on_tensorflow = pytest.mark.skipif(not TENSORFLOW, reason="other backends have Keras's own")


def trained(norm, policy, jit):
    """{path: how a variable changed in a step}, of batch norm between two convolutions."""
    rng = np.random.default_rng(0)
    x = rng.normal(0.5, 2, (2, 4, 4, 3)).astype(np.float32)
    image = keras.Input(x.shape[1:])
    first = layers.Conv2D(5, 2, use_bias=False, dtype=policy, name="first")
    last = layers.Conv2D(4, 3, dtype=policy, name="last")
    model = keras.Model(image, last(layers.Activation("relu", dtype=policy)(norm(first(image)))))
    for variable in model.weights:
        variable.assign(np.abs(rng.normal(1, 0.3, variable.shape)).astype(np.float32))
    before = [np.array(keras.ops.convert_to_numpy(each)) for each in model.weights]
    wanted = rng.normal(size=(2, *model.output_shape[1:])).astype(np.float32)
    model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=jit)
    model.train_on_batch(x, wanted)
    after = [keras.ops.convert_to_numpy(each) for each in model.weights]
    return {each.path: new - old for each, old, new in zip(model.weights, before, after, strict=True)}


@on_tensorflow
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("gamma", [False, True])
@pytest.mark.parametrize("policy", RELATIVE)
def test_a_step_is_that_of_kerass_own(policy, gamma, jit):
    ours = BatchNormalization(3, 0.9, 10.0, scale=gamma, dtype=policy, name="norm")
    theirs = layers.BatchNormalization.from_config(ours.get_config())
    found, expected = trained(ours, policy, jit), trained(theirs, policy, jit)
    assert found.keys() == expected.keys() and len(found) == 6 + gamma
    for name, change in expected.items():
        most = np.abs(change).max()
        assert most > 0
        statistic = 1e-5 if "moving" in name and policy != "float32" else 1  # of float32 in all
        atol = min(statistic, RELATIVE[policy]) * most
        np.testing.assert_allclose(found[name], change, rtol=0, atol=atol, err_msg=name)


@on_tensorflow
@pytest.mark.parametrize("policy", RELATIVE)
def test_a_step_is_one_operation_in_the_layers_own_precision(policy):
    import tensorflow as tf

    norm = BatchNormalization(dtype=policy)
    norm.build((None, 4, 4, 3))
    x = tf.zeros((1, 4, 4, 3), norm.compute_dtype)
    for training, trainable, count in ((True, True, 1), (False, True, 0), (True, False, 0)):
        norm.trainable = trainable
        graph = tf.function(lambda x, training=training: norm(x, training=training)).get_concrete_function(x).graph
        fused = [each for each in graph.get_operations() if each.type.startswith("FusedBatchNorm")]
        assert [each.inputs[0].dtype for each in fused] == [x.dtype] * (count if policy != "float32" else 0)


@on_tensorflow
@pytest.mark.parametrize(
    ("options", "shape", "fused"),
    [
        ({"axis": 3}, (1, 4, 4, 4), True),
        ({"axis": -1}, (1, 4), False),
        ({"axis": 1}, (1, 4, 4, 4), False),
        ({"axis": 3, "synchronized": True}, (1, 4, 4, 4), False),
    ],
)
def test_what_the_operation_cannot_do_is_left_to_keras(options, shape, fused):
    import tensorflow as tf

    assert BatchNormalization(**options)._fuses(tf.zeros(shape, tf.bfloat16)) == fused


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_builders_layer_and_its_files(policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = inception.InceptionV3(weights=None, include_top=False, depth_multiplier=0.1, input_shape=(75, 75, 3))
    finally:
        keras.config.set_dtype_policy(before)
    ours = TENSORFLOW and policy != "float32"
    expected = {BatchNormalization if ours else layers.BatchNormalization}
    assert kinds(model) == kinds(keras.models.clone_model(model)) == expected
    said = [each for each in json.loads(model.to_json())["config"]["layers"] if "batch" in each["name"]]
    assert {(each["module"], each["class_name"]) for each in said} == {("keras.layers", "BatchNormalization")}
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert kinds(again) == {layers.BatchNormalization}
    for one, other in zip(model.layers, again.layers, strict=True):
        assert one.get_config() == other.get_config()


def kinds(model):
    return {type(layer) for layer in model.layers if "batch" in layer.name}
