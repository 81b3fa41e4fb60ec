"""Fine-tuning: what is frozen stays, the same seed gives the same numbers, a kill changes nothing."""

import csv
import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from made import NARROW_NOTOP, random_weights
from PIL import Image
from typer.testing import CliRunner

import inception
from inception import classify, features
from inception import pictures as pictures_
from inception.cli import app
from inception.files import atomic
from inception.inference import engines
from inception.networks import Network
from inception.training import evaluate, finetune, finetuning, folders, loop, maps
from inception.training import network as networks
from inception.training.finetuning import Diverged, Doubled, Result, compare_modes

# The first rows of a narrow network, so that tracing takes no time.
SMALL = {"size": 75, "end_point": "Mixed_5b", "unfreeze": "Conv2d_4a_3x3", "epochs": 2, "head_epochs": 4,
         "batch_size": 8, "learning_rate": 1e-3, "head_learning_rate": 0.05, "validation": 0.25, "engine": "tensorflow",
         "early_stopping": None, "picture": "whole"}  # fmt: skip
FROZEN_LAYERS = 4  # convolutions before Conv2d_4a_3x3


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Two classes, noise of two colours; and a file that is no picture."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, colour in (("red", (180, 90, 90)), ("blue", (90, 90, 180))):
        (root / name).mkdir()
        for i in range(12):
            noise = np.clip(rng.normal(colour, 60, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(noise).save(root / name / f"{i}.png")
    (root / "red" / "damaged.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return random_weights(NARROW_NOTOP).save(tmp_path_factory.mktemp("weights") / "narrow.npz")


@pytest.fixture(scope="module")
def run(pictures, weights, tmp_path_factory):
    return finetune(pictures, weights, tmp_path_factory.mktemp("run") / "out", **SMALL)


@pytest.fixture
def any_epoch(monkeypatch):
    """An epoch is better than the start, whatever its loss."""
    train = loop.train
    monkeypatch.setattr(loop, "train", lambda model, stage, *rest: train(model, replace(stage, start=np.inf), *rest))


def arrays(out):
    """{(layer, variable): array} of a saved model, read by Keras itself."""
    model = keras.saving.load_model(out / "model.keras")
    return {(layer.name, v.name): v.numpy() for layer in model.layers for v in layer.weights}


def given(weights, end_point="Mixed_5b"):
    network = networks.trunk_of(weights, 75, end_point=end_point)
    return network, {(layer.name, v.name): v.numpy() for layer in network.base.layers for v in layer.weights}


def test_frozen_blocks_and_all_statistics_are_bit_equal(run, weights):
    network, before = given(weights)
    unfrozen, after = network.from_block(SMALL["unfreeze"]), arrays(run.out)
    frozen = [place for place in before if place[0] not in unfrozen]
    assert len(frozen) == FROZEN_LAYERS * 4
    for place, array in before.items():
        kernel = place[0] in unfrozen and place[1] == "kernel"
        assert np.array_equal(after[place], array) != kernel, place


def test_batch_norm_that_trains_moves_in_unfrozen_blocks_alone(pictures, weights, any_epoch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Diverged)
        finetune(pictures, weights, tmp_path / "out", **{**SMALL, "epochs": 1, "batch_norm": "train"})
    network, before = given(weights)
    unfrozen, after = network.from_block(SMALL["unfreeze"]), arrays(tmp_path / "out")
    for place, array in before.items():
        assert np.array_equal(after[place], array) != (place[0] in unfrozen), place


def test_the_classifier_alone_leaves_the_whole_network_as_it_was(pictures, weights, tmp_path):
    result = finetune(pictures, weights, tmp_path / "out", **{**SMALL, "unfreeze": None, "end_point": None})
    assert {row.stage for row in result.history} == {"classifier"}
    slim, whole = inception.load_weights(result.out / "model.ckpt"), inception.load_weights(result.out / "model.keras")
    before = inception.load_weights(weights).arrays
    assert all(np.array_equal(whole.arrays[name], array) for name, array in before.items())
    assert slim.variant.num_classes == 2 and whole.arrays.keys() == slim.arrays.keys()
    assert all(np.array_equal(slim.arrays[name], array) for name, array in whole.arrays.items())
    said = CliRunner().invoke(app, ["classify", str(pictures / "red" / "0.png"), "--weights", str(result.out)])
    assert said.exit_code == 0 and "red" in said.output and "blue" in said.output


def test_a_whole_network_is_finetuned_from_a_block_on(pictures, weights, any_epoch, tmp_path):
    tf.config.run_functions_eagerly(True)  # tracing 94 convolutions backwards would take longer
    try:
        settings = {**SMALL, "unfreeze": "Mixed_7c", "end_point": None, "epochs": 1, "batch_size": 16}
        result = finetune(pictures, weights, tmp_path / "out", **settings)
    finally:
        tf.config.run_functions_eagerly(False)
    before, after = inception.load_weights(weights).arrays, inception.load_weights(result.out / "model.ckpt").arrays
    changed = {name for name, array in before.items() if not np.array_equal(after[name], array)}
    assert changed == {name for name in before if name.startswith("InceptionV3/Mixed_7c") and name.endswith("/weights")}
    assert set(after) - set(before) == {f"InceptionV3/Logits/Conv2d_1c_1x1/{name}" for name in ("weights", "biases")}


def test_it_learns_and_writes_everything(run, pictures):
    first, alone, last = (run.history[i].val_loss for i in (0, 3, -1))
    assert last < alone < first and last == pytest.approx(run.evaluation.loss, rel=1e-4)
    names = {path.name for path in run.out.iterdir()}
    assert names == {"model.keras", "model.json", "model.labels.txt", "history.csv", "curves.png", "confusion.png",
                     "most_wrong.png", "skipped.csv", "work"}  # fmt: skip
    assert (run.out / "model.labels.txt").read_text() == "blue\nred\n"
    rows = list(csv.DictReader((run.out / "history.csv").open()))
    expected = [("classifier", str(i + 1)) for i in range(4)] + [("blocks", "1"), ("blocks", "2")]
    assert [(row["stage"], row["epoch"]) for row in rows] == expected
    assert [float(row["val_loss"]) for row in rows] == [row.val_loss for row in run.history]
    [(path, reason)] = list(csv.reader((run.out / "skipped.csv").open()))[1:]
    assert path == str(pictures / "red" / "damaged.jpg") and "damaged" in reason
    for name in ("curves", "confusion", "most_wrong"):
        with Image.open(run.out / f"{name}.png") as picture:
            assert min(picture.size) > 200


def test_the_result_gives_the_same_scores_everywhere(run, pictures):
    """Our reader, Keras's, and the fine-tuning's own evaluation."""
    found = evaluate(pictures, run.out)
    assert (found.picture, len(found.skipped)) == (pictures_.NAMED["whole"].at(75), 1)
    network = classify.classifier_of(run.out)
    model = keras.saving.load_model(run.out / "model.keras")
    inputs = np.stack([network.network.input(path) for path in found.pictures.paths])
    np.testing.assert_allclose(found.scores, model(inputs), atol=1e-6)
    mine = dict(zip(found.pictures.paths, found.scores, strict=True))
    theirs = run.evaluation
    np.testing.assert_allclose([mine[path] for path in theirs.pictures.paths], theirs.scores, atol=1e-6)


def test_augmentation_is_in_the_model_and_sleeps_at_inference(run):
    model = keras.saving.load_model(run.out / "model.keras")
    names = [layer.name for layer in model.layers]
    assert [name for name in names if name.startswith("augment_")] == [
        f"augment_{each}" for each in networks.AUGMENTATIONS
    ]
    x = np.random.default_rng(0).uniform(-1, 1, (2, 75, 75, 3)).astype(np.float32)
    seen = keras.Model(model.input, model.get_layer("augment_zoom").output)
    assert np.array_equal(seen(x, training=False), x) and np.array_equal(seen(x), x)
    assert not np.allclose(seen(x, training=True), x)


KILLED = """
import json, os, signal, sys
from inception.training import finetune
pictures, weights, out, line, settings = sys.argv[1:]
def say(text):
    if text.startswith(line):
        os.kill(os.getpid(), signal.SIGKILL)
finetune(pictures, weights, out, say=say, **json.loads(settings))
"""


@pytest.mark.thorough  # test_loop.py stops and resumes a training of two numbers
def test_a_run_killed_twice_resumes_to_the_numbers_of_another_process(run, pictures, weights, tmp_path):
    out = tmp_path / "out"
    for line, settings in (("classifier 2/4", SMALL), ("blocks 1/2", {**SMALL, "resume": True})):
        command = [sys.executable, "-c", KILLED, str(pictures), str(weights), str(out), line, json.dumps(settings)]
        assert subprocess.run(command, capture_output=True).returncode == -9
        assert not (out / "model.keras").exists()
    with pytest.raises(ValueError, match="has a fine-tuning already; resume it"):
        finetune(pictures, weights, out, **SMALL)
    with pytest.raises(ValueError, match=r"another seed .0, now 1.; resume it with the same"):
        finetune(pictures, weights, out, **SMALL, seed=1, resume=True)
    lines: list[str] = []
    resumed = finetune(pictures, weights, out, **SMALL, resume=True, say=lines.append)
    assert resumed.history == run.history
    assert lines[0].startswith("features of 24 pictures (0 now")
    assert [line for line in lines if "/" in line and "loss" in line] == [
        line for line in lines if "blocks 2/2" in line
    ]
    mine, theirs = arrays(run.out), arrays(out)
    assert all(np.array_equal(mine[place], theirs[place]) for place in mine)


def test_a_folder_in_use_is_refused(run, pictures, weights, tmp_path):
    out = tmp_path / "out"
    with finetuning._locked(out), pytest.raises(ValueError, match="Another process is fine-tuning into .*out; wait"):
        finetune(pictures, weights, out, **SMALL)
    shutil.copytree(run.out, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    with finetuning._locked(tmp_path / "run"), pytest.raises(ValueError, match="Another process is fine-tuning"):
        finetune(pictures, weights, tmp_path / "run", **SMALL, resume=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


@pytest.mark.parametrize("left", [".", "work", "work/lock", f"work/{atomic._HIDDEN}{atomic._HOST}-{'0' * 8}"])
@pytest.mark.parametrize("resume", [True, False])
def test_stopped_between_its_first_writes_it_begins_again(tmp_path, left, resume):
    out = tmp_path / "out"
    (out / left).mkdir(parents=True) if left != "work/lock" else out.joinpath("work").mkdir(parents=True)
    if left == "work/lock":
        (out / left).touch()
    with finetuning._locked(out):
        finetuning._begin(out, {"seed": 0}, resume)
    assert sorted(path.name for path in (out / "work").iterdir()) == ["lock", "settings.json"]
    (tmp_path / "mine" / "work").mkdir(parents=True)
    (tmp_path / "mine" / "work" / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files .work/thesis.txt."):
        finetuning.check_target(tmp_path / "mine", resume)


def test_resuming_notices_a_replaced_picture_by_its_content(run, pictures, weights, tmp_path):
    """Of the same name, size and time."""
    shutil.copytree(run.out, tmp_path / "run")
    shutil.copytree(pictures, tmp_path / "pictures")
    path = tmp_path / "pictures" / "red" / "damaged.jpg"
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ValueError, match="has a fine-tuning with another pictures"):
        finetune(tmp_path / "pictures", weights, tmp_path / "run", **SMALL, resume=True)


def test_frozen_blocks_are_run_once_over_each_version(pictures, weights, tmp_path, monkeypatch):
    """Those that a killed run left are taken; with versions=0 nothing is kept."""
    seen = []
    augmented = maps.Maps._augmented

    def counted(self, inputs, version, first):
        seen.append((version, first))
        return augmented(self, inputs, version, first)

    monkeypatch.setattr(maps.Maps, "_augmented", counted)
    settings = {**SMALL, "epochs": 3, "versions": 2}

    def killed(line):
        if line.startswith("blocks 1/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(pictures, weights, tmp_path / "out", **settings, say=killed)
    assert seen == [(1, 0), (1, 8), (1, 16)] and (tmp_path / "out" / "work" / "maps" / "training-1.npy").exists()
    result = finetune(pictures, weights, tmp_path / "out", **settings, resume=True)
    assert seen == [(version, first) for version in (1, 2) for first in (0, 8, 16)]
    assert not (tmp_path / "out" / "work" / "maps").exists()
    whole = finetune(pictures, weights, tmp_path / "whole", **settings)
    assert result.history == whole.history
    seen.clear()
    finetune(pictures, weights, tmp_path / "fly", **{**settings, "versions": 0})
    assert set(seen) == {(epoch, first) for epoch in (1, 2, 3) for first in (0, 8, 16)}  # Keras looks at some twice
    assert not (tmp_path / "fly" / "work" / "maps").exists()


def test_another_seed_gives_other_numbers(run, pictures, weights, tmp_path):
    other = finetune(pictures, weights, tmp_path / "out", **{**SMALL, "unfreeze": None}, seed=1)
    assert other.history[0] != run.history[0]


def test_a_torn_state_is_one_sentence(run, weights, pictures, tmp_path):
    file = tmp_path / "classifier.npz"
    file.write_bytes((run.out / "work" / "classifier.npz").read_bytes()[:-500])
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])
    with pytest.raises(ValueError, match="is damaged .*; delete it, and the stage starts again"):
        loop.train(model, loop.Stage("classifier", 1, 0.1, None, None), lambda i: None, None, file, print)


def test_early_stopping_keeps_the_best_epoch(tmp_path):
    """A rate so high that the loss rises again after the first epoch."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 4)).astype(np.float32), rng.integers(0, 2, 32)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, "softmax")])
    kernels: list[np.ndarray] = []
    batches = loop.array_batches(x, y, 8)
    stage = loop.Stage("classifier", 50, 3.0, 2, None, start=1e9)
    state = loop.train(model, stage, lambda i: batches, batches, tmp_path / "state.npz",
                       lambda row: kernels.append(model.layers[-1].kernel.numpy()))  # fmt: skip
    losses = [row.val_loss for row in state.history]
    assert len(losses) < 50 and len(losses) == state.best + 2
    assert losses[state.best - 1] == min(losses)
    assert np.array_equal(model.layers[-1].kernel.numpy(), kernels[state.best - 1])


class Noise(keras.layers.Layer):
    """A layer of a user's, with a kernel and chance of its own."""

    def __init__(self):
        super().__init__()
        self.chance = keras.random.SeedGenerator(1)
        self.kernel = self.add_weight(shape=(1,), initializer="ones")

    def call(self, x, training=False):
        return self.kernel * x + (keras.random.normal(keras.ops.shape(x), seed=self.chance) if training else 0)


def normalized(trainable):
    image = keras.Input((8, 8, 3))
    x = keras.layers.RandAugment((-9, 9), seed=2)(keras.layers.RandomFlip(name="flip")(image))
    asleep = [keras.Input((8, 8, 3)), keras.layers.Dropout(0.5), keras.layers.AlphaDropout(0.5), Noise()]
    x = keras.layers.Conv2D(4, 3, name="convolution")(keras.Sequential(asleep)(x))
    x = keras.layers.BatchNormalization(name="normalization", trainable=trainable)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU()(x))
    return keras.Model(image, keras.layers.Dense(3, "softmax", name="predictions")(keras.layers.Dropout(0.5)(x)))


def test_modes_are_compared_without_dropout_and_augmentation():
    keras.utils.set_random_seed(0)
    x, y = np.random.default_rng(0).normal(2, 3, (6, 8, 8, 3)).astype(np.float32), np.arange(6) % 3
    frozen = normalized(trainable=False)
    training, inference = compare_modes(frozen, x, y)
    own = np.asarray(frozen(x, training=False))[np.arange(6), y]
    assert training == inference == pytest.approx(-np.mean(np.log(own)), rel=1e-6)
    moving = normalized(trainable=True)
    moving.get_layer("normalization").moving_mean.assign([9.0] * 4)
    before = moving.get_weights()
    training, inference = compare_modes(moving, x, y)
    assert abs(training - inference) > 0.001
    assert all(np.array_equal(a, b) for a, b in zip(before, moving.get_weights(), strict=True))


def test_it_warns_when_the_modes_diverge(pictures, weights, tmp_path, monkeypatch):
    compared = []
    monkeypatch.setattr("inception.training.finetuning._COMPARED", 6)
    monkeypatch.setattr("inception.training.finetuning.compare_modes", lambda *a: compared.extend(a[2]) or (0.2, 1.6))
    with pytest.warns(Diverged, match="0.200 in training mode and 1.600 in inference mode"):
        finetune(pictures, weights, tmp_path / "out", **{**SMALL, "unfreeze": None})
    assert np.bincount(compared).tolist() == [3, 3]  # of both classes


def test_any_keras_model_with_its_own_preprocessing(pictures, tmp_path):
    image = keras.Input((20, 20, 3))
    x = image
    for i in range(3):
        x = keras.layers.Conv2D(4, 3, activation="relu", name=f"block{i}")(x)
    model = keras.Model(image, x, name="small")
    before = {layer.name: layer.get_weights() for layer in model.layers}
    result = finetune(pictures, model, tmp_path / "out", unfreeze="block2", preprocess=halved, epochs=1, head_epochs=2,
                      batch_size=8, validation=0.25)  # fmt: skip
    assert not (tmp_path / "out" / "model.ckpt.index").exists()
    saved = keras.saving.load_model(result.out / "model.keras")
    for name, same in (("block0", True), ("block1", True), ("block2", False)):
        assert np.array_equal(saved.get_layer(name).kernel, before[name][0]) == same
    found = evaluate(pictures, saved, preprocess=halved, labels=result.out / "model.labels.txt")
    held_out = dict(zip(found.pictures.paths, found.scores, strict=True))
    theirs = result.evaluation
    np.testing.assert_allclose([held_out[path] for path in theirs.pictures.paths], theirs.scores, atol=1e-6)
    with pytest.raises(ValueError, match="which only Python can load"):
        evaluate(pictures, result.out)
    with pytest.raises(
        ValueError,
        match=r"no block 'block9' to unfreeze \(did you mean block\d\?\); expected one of block0, block1, block2",
    ):
        finetune(pictures, model, tmp_path / "other", unfreeze="block9", preprocess=halved)
    for call in (lambda: finetune(pictures, model, tmp_path / "other"), lambda: evaluate(pictures, saved)):
        with pytest.raises(ValueError, match="is no InceptionV3 that takes its pictures as they come: say which"):
            call()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("unfreeze", ["first", "inner", "last"])
def test_another_family_is_cut_anywhere(pictures, tmp_path, unfreeze, precision):
    """At its input, which has no name of ours, below a model inside it, above it; what is saved is float32."""
    image = keras.Input((20, 20, 3))
    inner = keras.Sequential([keras.Input((18, 18, 4)), keras.layers.Conv2D(4, 3)], name="inner")
    x = inner(keras.layers.Conv2D(4, 3, name="first")(image))
    model = keras.Model(image, keras.layers.Conv2D(4, 3, name="last")(x))
    before = {layer.name: layer.get_weights() for layer in model.layers if layer.weights}
    result = finetune(pictures, model, tmp_path / "out", unfreeze=unfreeze, preprocess=halved, epochs=1, head_epochs=1,
                      batch_size=8, validation=0.25, precision=precision)  # fmt: skip
    saved = keras.saving.load_model(result.out / "model.keras")
    assert {layer.compute_dtype for layer in saved.layers} == {"float32"}
    frozen = list(before)[: list(before).index(unfreeze)]
    for name in frozen:
        assert all(map(np.array_equal, saved.get_layer(name).get_weights(), before[name]))
    assert np.isfinite([row.loss for row in result.history]).all() and result.history[-1].stage == "blocks"


def halved(pixels):
    return pixels / 255 - 0.5


def test_validation_from_a_folder_and_class_weights(pictures, weights, tmp_path):
    settings = {**SMALL, "unfreeze": None, "validation": pictures, "class_weights": {"red": 0.0}}
    with pytest.warns(Doubled, match=r"25 of 25 pictures for validation are among those for training too \(as"):
        result = finetune(pictures, weights, tmp_path / "out", **settings)
    assert len(result.evaluation.pictures) == 24
    assert set(result.evaluation.predicted) == {0}  # red costs nothing, so all is blue


@pytest.mark.parametrize(("change", "sentence"), [
    ({"unfreeze": "Mixed_9z"}, "no block 'Mixed_9z' to unfreeze .*; expected one of Conv2d_1a_3x3"),
    ({"end_point": "Mixed_1a"}, "Unknown end_point 'Mixed_1a'"),
    ({"augment": ["mirror"]}, "Unknown augmentation 'mirror'; expected some of flip, shift, rotate, zoom"),
    ({"batch_norm": "off"}, 'batch_norm is \'off\'; expected "frozen" or "train"'),
    ({"picture": "vgg"}, "Unknown way of a picture 'vgg'"),
    ({"learning_rate": 0.0}, "learning_rate is 0.0; expected a number above 0"),
    ({"preprocess": halved}, "preprocess is for other models"),
    ({"size": 40}, "needs images of at least 75x75"),
    ({"class_weights": {"red": -1.0}}, "class_weights has -1.0 for 'red'; expected a number, 0 or more"),
    ({"engine": "abacus", "unfreeze": None}, "Unknown engine 'abacus'"),
])  # fmt: skip
def test_arguments_that_do_not_fit_leave_no_folder(pictures, weights, tmp_path, change, sentence):
    with pytest.raises(ValueError, match=sentence):
        finetune(pictures, weights, tmp_path / "out", **{**SMALL, "end_point": None, **change})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unfreeze", [None, "conv"])
def test_weights_that_are_not_finite_leave_no_folder(pictures, weights, tiny, tmp_path, unfreeze):
    before = inception.load_weights(weights)
    name = next(name for name in before.arrays if name.endswith("Conv2d_2a_3x3/weights"))
    network = replace(before, arrays={**before.arrays, name: before.arrays[name] * np.nan})
    kernel, bias = tiny.get_layer("conv").get_weights()
    tiny.get_layer("conv").set_weights([kernel * np.inf, bias])
    for taken, settings in ((network, {**SMALL, "unfreeze": None}), (tiny, {**TINY, "unfreeze": unfreeze})):
        with pytest.raises(ValueError, match="has weights that are not finite"):
            finetune(pictures, taken, tmp_path / "out", **settings)
        assert not (tmp_path / "out").exists()


def test_frozen_maps_are_of_one_engine(pictures, weights, tmp_path, monkeypatch):
    """What "auto" takes may have changed when a killed run is resumed: then its maps would be of two engines."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")

    def killed(line):
        if line.startswith("blocks 1/2"):
            raise KeyboardInterrupt

    settings = {**SMALL, "engine": "auto"}
    monkeypatch.setattr(engines, "preferred", lambda: "tensorflow")
    with pytest.raises(KeyboardInterrupt):
        finetune(pictures, weights, tmp_path / "out", **settings, say=killed)
    monkeypatch.setattr(engines, "preferred", lambda: "onnxruntime")
    with pytest.raises(ValueError, match="a fine-tuning with another engine .*tensorflow.*, now .*onnxruntime"):
        finetune(pictures, weights, tmp_path / "out", **settings, resume=True)
    finetune(pictures, weights, tmp_path / "out", **{**settings, "engine": "tensorflow"}, resume=True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_engine_makes_features_in_the_precision_and_evaluates(pictures, weights, tmp_path, monkeypatch, precision):
    """The whole network's own scores are those of the file that was saved, by whatever reads it."""
    core = pytest.importorskip("openvino").Core()
    if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("This processor has no bfloat16.")
    monkeypatch.setattr(keras.Model, "fit", lambda model, *given, **options: Fitted)
    settings = {**SMALL, "unfreeze": "Mixed_7c", "end_point": None, "epochs": 1, "head_epochs": 1, "engine": "openvino"}
    result = finetune(pictures, weights, tmp_path / "out", **settings, precision=precision)
    assert features.load(result.out / "work" / "features").metadata["precision"] == precision
    model = keras.saving.load_model(result.out / "model.keras")
    inputs = np.stack([classify.classifier_of(result.out).network.input(p) for p in result.evaluation.pictures.paths])
    np.testing.assert_allclose(result.evaluation.scores, model(inputs), atol=1e-5)


class Fitted:
    history = dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), (1.0,))


def test_the_command_line(pictures, weights, tmp_path):
    out, call = tmp_path / "out", CliRunner().invoke
    options = [str(pictures), str(out), "--weights", str(weights), "--size", "75", "--end-point", "Mixed_5b",
               "--head-epochs", "2", "--validation", "0.25", "--augment", "none", "--engine", "tensorflow"]  # fmt: skip
    done = call(app, ["finetune", *options])
    assert done.exit_code == 0, done.output
    assert "held-out pictures are right" in done.output and "model.keras" in done.output
    again = json.loads(call(app, ["finetune", *options, "--resume", "--json", "-q"]).stdout)
    keys = "out accuracy held_out training_loss inference_loss epochs classes skipped files"  # which the manual has
    assert again.keys() == set(keys.split()) and again["classes"] == sorted(again["classes"])
    found = call(app, ["evaluate", str(pictures), "--weights", str(out), "--errors", str(tmp_path / "errors.csv")])
    assert found.exit_code == 1 and "top-1" in found.output and "top-5" not in found.output  # one cannot be read
    assert "the shorter side to 342" in found.output and "damaged" in found.output
    assert (tmp_path / "errors.csv").read_text().startswith("path,class,probability,taken for")
    with pytest.raises(ValueError, match="holds other files"):
        call(app, ["finetune", str(pictures), str(pictures), "--weights", str(weights)], catch_exceptions=False)


def test_blocks_that_only_get_worse_leave_the_classifier_alone(run, pictures, weights, tmp_path):
    lines: list[str] = []
    result = finetune(
        pictures, weights, tmp_path / "out", **{**SMALL, "epochs": 1, "learning_rate": 30.0}, say=lines.append
    )
    assert "blocks: what was there before is the best" in lines
    _, before = given(weights)
    after = arrays(result.out)
    assert all(np.array_equal(after[place], array) for place, array in before.items())


# --- A small network of another family, for what does not depend on InceptionV3 ---------

TINY = {"unfreeze": "norm", "preprocess": halved, "epochs": 1, "head_epochs": 1, "batch_size": 32, "validation": 0.25,
        "learning_rate": 1e-9, "augment": None, "dropout": 0.0, "engine": "tensorflow"}  # fmt: skip


@pytest.fixture
def tiny():
    image = keras.Input((20, 20, 3))
    x = keras.layers.Conv2D(4, 3, name="conv", kernel_initializer=keras.initializers.GlorotUniform(0))(image)
    return keras.Model(image, keras.layers.BatchNormalization(name="norm")(x), name="tiny")


def test_class_weights_and_dropout_reach_the_blocks(pictures, tiny, tmp_path):
    weighed = finetune(pictures, tiny, tmp_path / "weighed", **TINY, class_weights={"red": 3.0, "blue": 3.0})
    dropped = finetune(pictures, tiny, tmp_path / "dropped", **{**TINY, "dropout": 0.9})
    assert weighed.history[-1].stage == dropped.history[-1].stage == "blocks"
    assert weighed.history[-1].loss == pytest.approx(3 * weighed.inference_loss, rel=1e-4)
    assert abs(dropped.history[-1].loss / dropped.inference_loss - 1) > 0.01


def test_batch_norm_forgets_old_statistics_in_a_short_training(pictures, tiny, tmp_path):
    """One step: half of the old statistics stay, not 99 %."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Diverged)
        finetune(pictures, tiny, tmp_path / "out", **TINY, batch_norm="train")
    every = folders.read(pictures)
    training, _ = folders.split(every.without([str(pictures / "red" / "damaged.jpg")]), 0.25, 0)
    trunk = networks.trunk_of(tiny, preprocess=halved)
    inputs = np.stack([trunk.network.input(path) for path in training.paths])
    mean = tiny.get_layer("conv")(inputs).numpy().mean((0, 1, 2))
    assert np.abs(mean).min() > 1e-3
    with np.load(tmp_path / "out" / "work" / "blocks.npz") as state:
        stored = [state[name] for name in state.files if name.startswith("model")]
    assert any(array.shape == (4,) and np.allclose(array, mean / 2, rtol=1e-4) for array in stored)


def test_own_layers_resume_in_one_process_and_are_not_saved(pictures, tiny, tmp_path):
    own = [keras.layers.RandomBrightness(0.3), "flip", keras.Sequential([keras.layers.RandomContrast(0.3)])]
    settings = {**TINY, "epochs": 3, "learning_rate": 1e-2, "augment": own, "early_stopping": None}
    whole = finetune(pictures, tiny, tmp_path / "whole", **settings)

    def stop(line):
        if line.startswith("blocks 2/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(pictures, tiny, tmp_path / "stopped", **settings, say=stop)
    resumed = finetune(pictures, tiny, tmp_path / "stopped", **settings, resume=True)
    assert resumed.history == whole.history and len({row.loss for row in whole.history}) == 4
    saved = keras.saving.load_model(resumed.out / "model.keras")
    assert [layer.name for layer in saved.layers if "augment" in layer.name] == ["augment_flip"]


def taking(picture="keras", preprocess=None):
    return Network("made", pictures_.named(picture).at(20), preprocess=preprocess)


@pytest.mark.parametrize("network", [taking(), taking("torchvision"), taking(preprocess=halved),
                                     taking(preprocess=keras.applications.vgg16.preprocess_input)],
                         ids=["keras", "torchvision", "halved", "bgr"])  # fmt: skip
@pytest.mark.parametrize("own", [keras.layers.RandomBrightness(0.4), keras.layers.RandomSaturation(0.5),
                                 keras.layers.RandomInvert(1.0), keras.layers.RandomHue(0.3),
                                 keras.layers.RandAugment()])  # fmt: skip
def test_own_layers_see_pixels(network, own):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, 20, 20, 3)).astype(np.uint8)
    [layer] = networks.augmentation([own], 5, network)
    x = np.stack([network.input(each) for each in pixels])
    assert np.array_equal(layer(x, training=False), x)
    changed = np.asarray(layer(x, training=True))
    fresh = type(own).from_config(own.get_config() | {"seed": 6})
    expected = np.array(fresh(np.stack([network.picture.resized(each) for each in pixels]), training=True))
    scaled = np.asarray((network.preprocess or network.picture.scaled)(expected))
    assert np.abs(changed - scaled).mean() < np.ptp(x) / 2550  # a tenth of a grey level
    assert np.abs(changed - x).mean() > np.ptp(x) / 100
    assert not [v for v in own.variables if v.dtype.startswith("float")] and layer.own is not own


@pytest.mark.parametrize(("own", "preprocess", "sentence"), [
    (keras.layers.RandomBrightness(0.1, value_range=(-1, 1)), None, "see pixels of 0 to 255 here, which is its"),
    (keras.Sequential([keras.layers.MixUp()]), None, "MixUp mixes pictures of several classes; leave it out"),
    (keras.layers.RandomCrop(10, 10), None, r"makes \(10, 10, 3\) of \(20, 20, 3\); expected the same"),
    (keras.layers.RandomFlip(), lambda x: x**2, "does more than scale the channels of a picture"),
    (keras.layers.RandomFlip(), lambda x: x * 0, "does more than scale the channels of a picture"),
    (np.flip, None, "Unknown augmentation .*; expected some of flip, shift"),
])  # fmt: skip
def test_own_layers_that_do_not_fit(own, preprocess, sentence):
    with pytest.raises(ValueError, match=sentence):
        networks.augmentation([own], 0, taking(preprocess=preprocess))


def test_a_picture_in_two_classes_is_said(pictures, tiny, tmp_path):
    lines: list[str] = []
    for name in ("red", "blue"):
        (tmp_path / "both" / name).mkdir(parents=True)
        for i in range(3):
            (tmp_path / "both" / name / f"{i}.png").write_bytes((pictures / name / f"{i}.png").read_bytes())
    (tmp_path / "both" / "red" / "copy.png").write_bytes((pictures / "blue" / "0.png").read_bytes())
    with pytest.warns(Doubled, match="1 of 7 pictures are in another class too .as .*0.png and .*copy.png"):
        finetune(tmp_path / "both", tiny, tmp_path / "out", **{**TINY, "unfreeze": None}, say=lines.append)
    assert "1 pictures are copies of others; equal ones stay on one side" in lines


def test_classes_with_names_of_two_imagenet_classes_are_one_s_own(pictures, tiny, tmp_path):
    for name, source in (("crane", "red"), ("maillot", "blue")):
        (tmp_path / "own" / name).mkdir(parents=True)
        for i in range(4):
            (tmp_path / "own" / name / f"{i}.png").write_bytes((pictures / source / f"{i}.png").read_bytes())
    result = finetune(tmp_path / "own", tiny, tmp_path / "out", **{**TINY, "unfreeze": None})
    model = keras.saving.load_model(result.out / "model.keras")
    found = evaluate(tmp_path / "own", model, preprocess=halved, labels=result.out / "model.labels.txt")
    assert found.pictures.classes == ("crane", "maillot") and found.pictures.labels.tolist() == [0] * 4 + [1] * 4


def test_a_loss_that_is_no_number_has_diverged(tmp_path):
    for losses, diverged in (((1.0, 1.0), False), ((1.0, np.nan), True), ((np.nan, 1.0), True), ((np.inf, 1.0), True)):
        assert Result(tmp_path, (), (), None, *losses, ()).diverged is diverged
