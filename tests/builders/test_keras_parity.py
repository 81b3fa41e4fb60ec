"""Our Keras network against `keras.applications.InceptionV3` at full width, and against our slim network."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from made import NARROW, first, random_weights

from inception import images, verify
from inception.architecture import END_POINTS
from inception.builders.keras import InceptionV3, end_points, model_of, to_weights
from inception.variants import GOOGLE_2015, KERAS, TORCHVISION
from inception.weights import Weights

peer = keras.applications.InceptionV3
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights(KERAS)


@pytest.fixture(scope="module")
def notop_file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the layout of the published notop one."""
    return weights.step("drop-top").save(tmp_path_factory.mktemp("keras") / "notop.h5")


@pytest.fixture(scope="module")
def tops(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, keras.Model]:
    """Theirs and ours for 299 pixels, ours built from the weights of a file that theirs has read."""
    path = weights.save(tmp_path_factory.mktemp("keras") / "top.h5")
    return peer(weights=path), InceptionV3(weights=path)


@pytest.fixture(scope="module")
def bases(notop_file: Path) -> tuple[keras.Model, keras.Model]:
    """Theirs and ours for any size, without top."""
    return tuple(build(weights=notop_file, include_top=False, pooling="avg") for build in (peer, InceptionV3))


def relative(theirs, ours) -> float:
    theirs, ours = (keras.ops.convert_to_numpy(x).astype(np.float64) for x in (theirs, ours))
    assert theirs.shape == ours.shape
    return float(np.abs(theirs - ours).max() / np.abs(theirs).max())


def batch(size: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(size).uniform(-1, 1, [count, size, size, 3]).astype(np.float32)


# --- The same numbers ------------------------------------------------------------------


def differences(theirs: keras.Model, ours: keras.Model, size: int) -> dict[str, float]:
    values = [keras.Model(m.input, end_points(m))(batch(size), training=False) for m in (theirs, ours)]
    assert list(values[0]) == list(values[1])
    return {name: relative(value, values[1][name]) for name, value in values[0].items()}


def test_every_end_point_at_299(tops):
    found = differences(*tops, 299)
    assert list(found) == [*END_POINTS, "PreLogits", "Logits", "Predictions"]
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("size", [150, 75])
def test_every_end_point_at_other_sizes(bases, size):
    found = differences(*bases, size)
    assert list(found) == [*END_POINTS, "PreLogits"]
    assert max(found.values()) < TOLERANCE, found


@pytest.mark.parametrize("training", [False, True])
def test_gradients_and_moving_averages(bases, training):
    """Of a loss that weighs every feature; in training with the statistics of the batch, which move on."""
    pixels = batch(75, 16)
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(16, 2048)).astype(np.float32)
    results = []
    for model in bases:
        before = [variable.numpy() for variable in model.non_trainable_variables]
        results.append(gradients(model, pixels, factors, training))
        moved = [np.any(v.numpy() != old) for v, old in zip(model.non_trainable_variables, before, strict=True)]
        assert all(moved) if training else not any(moved)
    theirs, ours = results
    assert len(theirs) == len(ours) == 1 + 188  # the image; a kernel and a beta each
    assert max(map(relative, theirs, ours)) < TOLERANCE
    statistics = [model.non_trainable_variables for model in bases]
    assert max(map(relative, *statistics)) < TOLERANCE


def gradients(model: keras.Model, pixels: np.ndarray, factors: np.ndarray, training: bool) -> list[tf.Tensor]:
    image = tf.constant(pixels)
    with tf.GradientTape() as tape:
        tape.watch(image)
        loss = tf.reduce_sum(model(image, training=training) * factors)
    return tape.gradient(loss, [image, *model.trainable_variables])


# --- The same model --------------------------------------------------------------------


def test_the_signature_is_theirs_and_then_some():
    theirs, ours = (list(inspect.signature(build).parameters.values()) for build in (peer, InceptionV3))
    for field in ("name", "default", "kind"):
        assert [getattr(p, field) for p in ours[: len(theirs)]] == [getattr(p, field) for p in theirs], field
    assert all(p.kind is inspect.Parameter.KEYWORD_ONLY for p in ours[len(theirs) :])


@contextlib.contextmanager
def image_data_format(value: str) -> Iterator[None]:
    kept = keras.config.image_data_format()
    keras.config.set_image_data_format(value)
    try:
        yield
    finally:
        keras.config.set_image_data_format(kept)


def assert_layers_are_equal(theirs: keras.Model, ours: keras.Model) -> None:
    """In the order of `model.layers`: class, shape and configuration; only names may differ."""
    assert (theirs.name, theirs.input_shape, theirs.output_shape) == (ours.name, ours.input_shape, ours.output_shape)
    assert [described(layer) for layer in theirs.layers] == [described(layer) for layer in ours.layers]


def test_every_layer_is_theirs(tops, bases):
    assert_layers_are_equal(*tops)
    assert_layers_are_equal(*bases)
    assert (tops[1].input_shape, tops[1].output_shape) == ((None, 299, 299, 3), (None, 1000))
    assert (bases[1].input_shape, bases[1].output_shape) == ((None, None, None, 3), (None, 2048))


@pytest.mark.parametrize(
    ("arguments", "data_format", "output_shape"),
    [
        (
            {"classes": 10, "classifier_activation": None, "input_shape": (150, 150, 1), "name": "grey"},
            "channels_last",
            (None, 10),
        ),
        ({"include_top": False, "pooling": "max", "input_shape": (75, 139, 3)}, "channels_last", (None, 2048)),
        ({"include_top": False, "input_shape": (3, 75, 139)}, "channels_first", (None, 2048, 1, 3)),
    ],
    ids=["grey", "pooling", "channels_first"],
)
def test_every_layer_is_theirs_with_other_arguments(arguments, data_format, output_shape):
    with image_data_format(data_format):
        theirs, ours = (build(weights=None, **arguments) for build in (peer, InceptionV3))
    assert_layers_are_equal(theirs, ours)
    assert ours.output_shape == output_shape


def described(layer: keras.Layer) -> tuple[type, object, dict]:
    config = layer.get_config()
    del config["name"]
    config.pop("batch_shape", None)  # of the input; as a tuple or a list, and compared as input_shape
    return type(layer), layer.output.shape, config


def test_channels_first_gives_the_same_numbers():
    pixels = batch(75)
    last = model_of(random_weights(NARROW), input_shape=(75, 75, 3))(pixels, training=False)
    with image_data_format("channels_first"):
        model = model_of(random_weights(NARROW), input_shape=(3, 75, 75))
        assert end_points(model)["Mixed_5b"].shape == (None, 25, 7, 7)
        model.compile(jit_compile=True)  # op by op, TensorFlow has it only on processors where oneDNN is on
        first = model.predict_on_batch(pixels.transpose(0, 3, 1, 2))
    assert relative(last, first) < TOLERANCE


def test_parameter_counts(tops, bases):
    assert [model.count_params() for model in tops] == [23_851_784] * 2
    assert [model.count_params() for model in bases] == [21_802_784] * 2


FROM_KERAS_APPLICATIONS = """
base = InceptionV3(weights=PATH, include_top=False, input_shape=(150, 150, 3))
middle = keras.Model(base.input, [base.get_layer("mixed3").output, base.get_layer("mixed7").output])
x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 1, kernel_initializer="ones")(base.output))
x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 1, kernel_initializer="ones")(x))
head = keras.Model(base.input, x)
for layer in base.layers:
    layer.trainable = False
top = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, kernel_initializer="ones", activation="softmax")]
classifier = keras.Sequential([base, *top])
results = [*middle(PIXELS), head(PIXELS), classifier(PIXELS)]
"""


def test_code_written_for_keras_applications_runs_with_one_import_changed(notop_file):
    results = []
    for build in (peer, InceptionV3):
        names = {"InceptionV3": build, "PATH": notop_file, "PIXELS": batch(150), "keras": keras}
        exec(FROM_KERAS_APPLICATIONS, names)
        assert len(names["classifier"].trainable_variables) == 2
        results.append(names["results"])
    assert [value.shape for value in results[1]] == [(1, 7, 7, 768), (1, 7, 7, 768), (1, 3, 3, 8), (1, 3)]
    assert max(map(relative, *results)) < TOLERANCE


def test_real_weights_from_a_file_on_disk(real_h5):
    theirs, ours = (build(weights=real_h5, include_top=False, pooling="avg") for build in (peer, InceptionV3))
    found = differences(theirs, ours, 150)
    assert max(found.values()) < TOLERANCE, found
    assert float(keras.ops.max(ours(batch(150), training=False))) > 0


def test_weights_are_taken_from_their_model_bit_for_bit(tops, weights):
    for model in tops:
        found = to_weights(model)
        assert found.variant == weights.variant
        assert found.arrays.keys() == weights.arrays.keys()
        for name, array in weights.arrays.items():
            np.testing.assert_array_equal(found.arrays[name], array, err_msg=name)


# --- The same network as slim's --------------------------------------------------------


def worst(weights: Weights, size: int) -> verify.Difference:
    rows = verify.compare(weights, weights, images.test_picture(size), builders=("keras", "slim"))
    assert len(rows) >= len(END_POINTS) + 3
    return max(rows, key=lambda row: row.relative)


def test_our_slim_network_at_299_and_full_width(weights):
    assert worst(weights, 299).relative < TOLERANCE


@pytest.mark.parametrize(
    ("rules", "size", "aux_kernel"),
    first(1, [(TORCHVISION, 107, (1, 1)), (GOOGLE_2015, 150, None), (TORCHVISION, 299, (5, 5))]),
)
def test_our_slim_network_with_other_rules(rules, size, aux_kernel):
    """Gamma, borders that count, the auxiliary head; a maximum pool at the end."""
    narrow = dataclasses.replace(rules, num_classes=7, depth_multiplier=0.1, min_depth=4)
    found = worst(random_weights(dataclasses.replace(narrow, aux_kernel=aux_kernel or narrow.aux_kernel)), size)
    assert found.relative < TOLERANCE, found


def test_the_last_pool_makes_a_difference():
    """So that the tests above can fail: the same arrays with the other pool give other numbers, from there on."""
    weights = random_weights(NARROW)
    other = dataclasses.replace(weights, variant=dataclasses.replace(NARROW, last_pool="max"))
    rows = verify.compare(weights, other, images.test_picture(107), ("keras", "keras"))
    changed = [row.end_point for row in rows if row.relative > 1e-3]
    assert changed == ["Mixed_7c", "PreLogits", "Logits", "Predictions"]
