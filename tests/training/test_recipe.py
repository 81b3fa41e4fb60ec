"""The paper's recipe, step by step, against plain numpy and TensorFlow 1's own optimizer."""

import dataclasses
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import inception
from inception.training import PAPER, compile, optimizer, scaled, targets

FEW = dataclasses.replace(PAPER, images=8, batch_size=4, epochs=4, epochs_per_decay=1.0, moving_average=0.6)


def gradients(steps=9):
    rng = np.random.default_rng(5)
    return [[rng.normal(0, size, (3, 4)).astype(np.float32), rng.normal(0, size, 4).astype(np.float32)]
            for size in np.geomspace(0.05, 5, steps)]  # fmt: skip


def start():
    rng = np.random.default_rng(6)
    return [rng.normal(size=(3, 4)).astype(np.float32), rng.normal(size=4).astype(np.float32)]


def numpy_steps(recipe, ms_start):
    """The formulas of `optimizer`'s docstring, in float64: variables and their moving averages after each step."""
    values = [value.astype(np.float64) for value in start()]
    ms = [np.full(value.shape, ms_start) for value in values]
    mom = [np.zeros(value.shape) for value in values]
    averages, found = None, []
    for step, raw in enumerate(gradients()):
        norm = np.sqrt(sum(np.sum(np.square(g, dtype=np.float64)) for g in raw))
        for i, g in enumerate(raw):
            g = g * min(1.0, recipe.clip_norm / norm)
            ms[i] = recipe.rms_decay * ms[i] + (1 - recipe.rms_decay) * g**2
            mom[i] = recipe.momentum * mom[i] + recipe.rate(step) * g / np.sqrt(ms[i] + recipe.epsilon)
            values[i] = values[i] - mom[i]
        new = [value.copy() for value in values]
        keep = recipe.moving_average
        averages = new if averages is None else [keep * a + (1 - keep) * v for a, v in zip(averages, new, strict=True)]
        found.append((new, averages))
    return found


def test_the_numbers_of_the_paper():
    assert (PAPER.learning_rate, PAPER.rate_decay, PAPER.epochs_per_decay) == (0.045, 0.94, 2)
    assert (PAPER.rms_decay, PAPER.momentum, PAPER.epsilon, PAPER.clip_norm) == (0.9, 0.9, 1.0, 2.0)
    assert (PAPER.label_smoothing, PAPER.aux_weight, PAPER.weight_decay) == (0.1, 0.4, 4e-5)
    assert (PAPER.moving_average, PAPER.batch_size, PAPER.epochs) == (0.9999, 32, 100)
    assert PAPER.rate(2 * PAPER.steps_per_epoch - 1) == 0.045
    assert PAPER.rate(2 * PAPER.steps_per_epoch) == pytest.approx(0.045 * 0.94)


def test_optimizer_is_the_formula():
    variables = [keras.Variable(value) for value in start()]
    made = optimizer(FEW, variables)
    for raw, (values, _) in zip(gradients(), numpy_steps(FEW, ms_start=1.0), strict=True):
        made.apply([tf.constant(g) for g in raw])
        for variable, value in zip(variables, values, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=2e-6, atol=1e-6)
    made.finalize_variable_values(variables)
    _, averages = numpy_steps(FEW, ms_start=1.0)[-1]
    for variable, value in zip(variables, averages, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-6, atol=1e-6)


def test_optimizer_is_tensorflow_1s_and_keras_s_own_start_is_not():
    v1, recipe = tf.compat.v1, dataclasses.replace(FEW, moving_average=None)
    with tf.Graph().as_default(), v1.Session() as session:
        step = v1.train.get_or_create_global_step()
        stairs = v1.train.exponential_decay(recipe.learning_rate, step, 2, recipe.rate_decay, staircase=True)
        slots = v1.train.RMSPropOptimizer(stairs, recipe.rms_decay, recipe.momentum, recipe.epsilon)
        theirs = [v1.get_variable(f"v{i}", initializer=value) for i, value in enumerate(start())]
        fed = [v1.placeholder(tf.float32, value.shape) for value in start()]
        clipped, _ = tf.clip_by_global_norm(fed, recipe.clip_norm)
        update = slots.apply_gradients(zip(clipped, theirs, strict=True), step)
        session.run(v1.global_variables_initializer())
        for raw in gradients():
            session.run(update, dict(zip(fed, raw, strict=True)))
        expected = session.run(theirs)
    ours = [keras.Variable(value) for value in start()]
    made = optimizer(recipe, ours)
    for raw in gradients():
        made.apply([tf.constant(g) for g in raw])
    plain, _ = numpy_steps(FEW, ms_start=0.0)[-1]
    for variable, value, other in zip(ours, expected, plain, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=2e-6, atol=1e-6)
        assert np.abs(other - value).max() > 0.005  # what a start at 0 would give


def test_scaled_keeps_the_shape_of_the_training():
    short = scaled(PAPER, images=1000, epochs=20)
    assert short.steps == 32 * 20
    assert short.rate(short.steps - 1) == pytest.approx(PAPER.rate(PAPER.steps - 1))
    assert short.moving_average**short.steps < 0.002  # of the random start
    assert short.batch_norm_momentum < 0.99
    assert scaled(PAPER, PAPER.images, PAPER.epochs) == PAPER
    with pytest.raises(ValueError, match="expected at least 1 of each"):
        scaled(PAPER, 0, 3)


@pytest.mark.parametrize(("images", "epochs"), [(32, 10), (100, 10), (1000, 20), (3, 60)])
def test_a_short_training_lets_the_rate_fall_as_far(images, epochs):
    short = scaled(PAPER, images, epochs)
    assert short.rate(short.steps - 1) == pytest.approx(PAPER.rate(PAPER.steps - 1), rel=1e-9)
    schedule = optimizer(short, [keras.Variable([0.0])])._learning_rate
    for step in {0, 1, short.steps // 2, short.steps - 1}:
        assert float(schedule(step)) == pytest.approx(short.rate(step), rel=1e-5)


@pytest.fixture(scope="module")
def with_aux():
    """A model like InceptionV3's end: two named classifiers on one base."""
    image = keras.Input((6, 6, 3))
    seed = keras.initializers.GlorotUniform
    x = keras.layers.Conv2D(4, 3, use_bias=False, kernel_initializer=seed(1))(image)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.BatchNormalization()(x))
    heads = {name: keras.layers.Dense(3, "softmax", kernel_initializer=seed(i), name=name)(x)
             for i, name in enumerate(("predictions", "aux_predictions"))}  # fmt: skip
    return keras.Model(image, heads)


def test_the_loss_is_two_smoothed_cross_entropies_and_the_decay(with_aux):
    rng = np.random.default_rng(1)
    x, labels = rng.normal(size=(5, 6, 6, 3)).astype(np.float32), np.array([0, 1, 2, 0, 1])
    compile(with_aux, FEW)
    y = targets(with_aux, labels)
    found = with_aux.evaluate(x, y, verbose=0, return_dict=True)
    smooth = np.eye(3)[labels] * 0.9 + 0.1 / 3
    entropy = {head: -np.mean(np.sum(smooth * np.log(np.asarray(p)), -1)) for head, p in with_aux(x).items()}
    kernels = [layer.kernel for layer in with_aux.layers if hasattr(layer, "kernel")]
    decay = 4e-5 / 2 * sum(float(np.sum(np.square(kernel))) for kernel in kernels)
    assert len(kernels) == 3
    assert found["predictions_loss"] == pytest.approx(entropy["predictions"], rel=1e-5)
    assert found["aux_predictions_loss"] == pytest.approx(entropy["aux_predictions"], rel=1e-5)
    assert found["loss"] == pytest.approx(entropy["predictions"] + 0.4 * entropy["aux_predictions"] + decay, rel=1e-5)


def test_inceptionv3_trains_both_heads_and_its_history_shows_them():
    model = inception.InceptionV3(weights=None, input_shape=(107, 107, 3), classes=3, aux_logits=True,
                                  depth_multiplier=0.05, min_depth=2)  # fmt: skip
    compile(model, FEW)
    before = {head: model.get_layer(head).kernel.numpy() for head in ("predictions", "aux_predictions")}
    x, labels = np.random.default_rng(0).uniform(-1, 1, (4, 107, 107, 3)).astype(np.float32), np.arange(4) % 3
    model.run_eagerly = True  # tracing 96 convolutions would take longer than this one step
    history = model.fit(x, targets(model, labels), batch_size=4, epochs=1, verbose=0).history
    assert {"loss", "predictions_loss", "aux_predictions_loss", "predictions_accuracy"} <= set(history)
    for head, kernel in before.items():
        assert np.abs(model.get_layer(head).kernel.numpy() - kernel).max() > 0
    assert model.get_layer("batch_normalization_1").momentum == FEW.batch_norm_momentum


def test_targets_and_models_that_do_not_fit(with_aux):
    single = keras.Model(with_aux.input, with_aux.output["predictions"])
    assert targets(single, [2, 0]).tolist() == [[0, 0, 1], [1, 0, 0]]
    for labels in ([0, 3], [-1], [[0]], [0.5]):
        with pytest.raises(ValueError, match="expected one class number a picture, 0 to 2"):
            targets(single, labels)
    maps = keras.Model(with_aux.input, with_aux.layers[1].output)
    with pytest.raises(ValueError, match="no classifier; build it with include_top=True"):
        compile(maps)


def dense(*after, activation=None):
    layers = [keras.layers.Flatten(), keras.layers.Dense(3, activation), *after]
    return keras.Sequential([keras.Input((2, 2, 3)), *layers])


def nested(inner, after=lambda x: x):
    image = keras.Input((2, 2, 3))
    return keras.Model(image, after(inner(image)))


@pytest.mark.parametrize(("make", "logits"), [
    (lambda: dense(), True),
    (lambda: dense(activation="softmax"), False),
    (lambda: dense(keras.layers.Identity()), True),
    (lambda: dense(keras.layers.Reshape((3, 1)), keras.layers.Flatten()), True),
    (lambda: dense(keras.layers.Activation("linear"), activation="softmax"), False),
    (lambda: dense(keras.layers.Softmax()), False),
    (lambda: nested(dense()), True),
    (lambda: nested(dense(activation="softmax")), False),
    (lambda: nested(dense(), lambda x: keras.ops.reshape(x, (-1, 3))), True),
    (lambda: nested(dense(keras.layers.Dropout(0.1)), keras.layers.Softmax()), False),
])  # fmt: skip
def test_logits_are_told_from_probabilities_whatever_stands_after_them(make, logits):
    model = make()
    compile(model, dataclasses.replace(FEW, weight_decay=0.0))
    x, y = np.random.default_rng(0).normal(size=(4, 2, 2, 3)).astype(np.float32), targets(model, [0, 1, 2, 0])
    made = np.asarray(model(x), np.float64)
    p = np.exp(made) / np.exp(made).sum(-1, keepdims=True) if logits else made
    expected = -np.mean(np.sum((y * 0.9 + 0.1 / 3) * np.log(p), -1))
    assert model.evaluate(x, y, verbose=0, return_dict=True)["loss"] == pytest.approx(expected, rel=1e-5)


def test_layers_of_nested_models_are_given_the_recipe():
    inner = keras.Sequential([keras.Input((6, 6, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization()])
    model = keras.Sequential([keras.Input((6, 6, 3)), functional(inner), keras.layers.Flatten(),
                              keras.layers.Dense(3, "softmax")])  # fmt: skip
    compile(model, FEW)
    kernels = [inner.layers[0].kernel, model.layers[-1].kernel]
    expected = sum(FEW.weight_decay / 2 * float(np.sum(np.square(kernel))) for kernel in kernels)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    assert inner.layers[1].momentum == FEW.batch_norm_momentum
    assert model.fit(np.zeros((4, 6, 6, 3)), targets(model, [0, 1, 2, 0]), verbose=0).history["loss"][0] > 0


def functional(inner):
    image = keras.Input((6, 6, 3))
    return keras.Model(image, inner(image))


def test_an_end_that_nobody_can_tell_is_refused():
    image = keras.Input((2, 2, 3))
    both = keras.Model(image, keras.layers.Add(name="both")([dense()(image), dense()(image)]))
    with pytest.raises(ValueError, match=r"ends in the layer both \(Add\), which may give logits or probabilities"):
        compile(both)
    with pytest.raises(ValueError, match="has no layer yet that knows its shape; start it with keras.Input"):
        compile(keras.Sequential([keras.layers.Dense(3)]))
    inner = dense()
    with pytest.raises(ValueError, match="ends in outputs of one name"):
        compile(keras.Model(image, [inner(image), inner(image)]))


DEVICES = """
import dataclasses, sys
import numpy as np, tensorflow as tf, keras
from inception.training import PAPER, compile, targets
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
recipe = dataclasses.replace(PAPER, images=24, batch_size=8, epochs=2)

def losses(strategy, batch_norm):
    with strategy.scope():
        image = keras.Input((12, 12, 3))
        seed = keras.initializers.GlorotUniform
        x = keras.layers.Conv2D(4, 3, use_bias=False, kernel_initializer=seed(1))(image)
        x = keras.layers.BatchNormalization(
            scale=False, trainable=batch_norm != "frozen", synchronized=batch_norm == "synchronized")(x)
        x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
        heads = {name: keras.layers.Dense(3, "softmax", kernel_initializer=seed(2), name=name)(x)
                 for name in ("predictions", "aux_predictions")}
        model = keras.Model(image, heads)
        compile(model, recipe)
    clip = model.optimizer.global_clipnorm * strategy.num_replicas_in_sync
    assert clip == recipe.clip_norm
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(24, 12, 12, 3)).astype("float32"), rng.integers(0, 3, 24)
    history = model.fit(x, targets(model, labels), batch_size=8, epochs=2, shuffle=False, verbose=0).history
    return np.array([history[f"{name}loss"] for name in ("", "predictions_", "aux_predictions_")])

both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for batch_norm in ("frozen", "synchronized", "own"):
    one = losses(tf.distribute.get_strategy(), batch_norm)
    two = losses(both, batch_norm)
    print("RESULT", batch_norm, np.abs(one / two - 1).max(), np.ptp(one[0]))
"""


@pytest.mark.thorough
def test_two_devices_give_the_losses_of_one():
    run = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True)
    found = {line.split()[1]: [float(word) for word in line.split()[2:]]
             for line in run.stdout.splitlines() if line.startswith("RESULT")}  # fmt: skip
    assert set(found) == {"frozen", "synchronized", "own"}, run.stderr[-2000:]
    for batch_norm in ("frozen", "synchronized"):
        difference, learned = found[batch_norm]
        assert difference < 1e-5 and learned > 1e-4
    assert found["own"][0] > 1e-4  # each device normalizes with its own half of the batch
