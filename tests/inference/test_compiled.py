"""Compiled inference: each engine against the Keras builder, and what the callable makes of its input."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, random_weights, with_nan
from reference import SMALL, VARIANTS, assert_close, floats, keras_end_points, pixels

import inception
from inception import extras, inference, pictures
from inception.inference import Settings, compile_inference, engines
from inception.inference import int8 as quantization
from inception.inference import plan as plans
from inception.inference.plan import Rewrites

ENGINES = ["openvino", "onnxruntime", "tensorflow"]


@pytest.fixture(params=ENGINES)
def engine(request):
    for package in inference.ENGINES[request.param]:
        pytest.importorskip(package)
    return request.param


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("engine", ["openvino", "tensorflow"], indirect=True)  # ONNX Runtime's: test_onnx.py
def test_every_end_point_of_every_variant(name, engine):
    weights = random_weights(VARIANTS[name])
    batch = floats(side=107 if weights.variant.aux_logits else SMALL, picture=weights.picture)
    names = plans.available(weights.variant)
    run = compile_inference(weights, end_points=names, engine=engine)
    assert_close(run(batch), keras_end_points(weights, batch), names)


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True)])
def test_rewrites_in_tensorflow(flags):
    weights = random_weights(dataclasses.replace(NARROW, border="include"))
    names = plans.available(weights.variant)
    plan = plans.plan(weights, names, rewrites=Rewrites(*flags))
    found = dict(zip(names, engines.compiled("tensorflow", plan, Settings())(floats()), strict=True))
    assert_close(found, keras_end_points(weights, floats()), names)


def test_any_number_of_images(engine):
    weights = random_weights()
    free, fixed = (compile_inference(weights, engine=engine, batch=batch, image_size=SMALL) for batch in (None, 3))
    for count in (1, 3, 2 * 2 * (os.cpu_count() or 1) + 1):  # the last: more than two of TensorFlow's pieces
        batch = floats(count)
        expected = keras_end_points(weights, batch)
        assert_close(free(batch), expected, ["Predictions"])
        assert_close(fixed(batch), expected, ["Predictions"])


def test_any_size_of_images(engine):
    """In any order; the first may be compiled for itself."""
    weights = random_weights()
    run = compile_inference(weights, engine=engine)
    for side in (SMALL, 107, 90, SMALL):
        batch = floats(side=side)
        assert_close(run(batch), keras_end_points(weights, batch), ["Predictions"])


def test_the_same_pixels_as_uint8_floats_and_tensors():
    import tensorflow as tf

    weights = random_weights(VARIANTS["last_pool"])
    run = compile_inference(weights, engine="tensorflow")
    expected = run(floats(picture=weights.picture))["Predictions"]
    for same in (
        pixels(),
        floats(picture=weights.picture).astype(np.float64),
        tf.constant(floats(picture=weights.picture)),
        np.asfortranarray(floats(picture=weights.picture)),
    ):
        np.testing.assert_allclose(run(same)["Predictions"], expected, rtol=1e-6)


def test_results_stay_when_the_next_images_come(engine):
    run = compile_inference(random_weights(), engine=engine, end_points=("Mixed_5b",))
    first = run(floats())["Mixed_5b"]
    kept = first.copy()
    run(-floats())
    np.testing.assert_array_equal(first, kept)


def test_paths_weights_and_models_are_taken(sample):
    from inception.builders.keras import model_of

    weights = random_weights()
    from_model = compile_inference(model_of(weights, input_shape=(SMALL, SMALL, 3)), engine="tensorflow")
    assert_close(from_model(floats()), keras_end_points(weights, floats()), ["Predictions"])
    size = inception.load_weights(sample).picture.size
    run = compile_inference(sample, engine="tensorflow", end_points=("PreLogits",))
    assert run(floats(1, size))["PreLogits"].shape[0] == 1
    assert run.end_points == ("PreLogits",) and run.engine == "tensorflow"
    with pytest.raises(ValueError, match="The network is a int; expected a path"):
        compile_inference(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"engine": "tensorrt"}, "Unknown engine 'tensorrt'"),
        ({"precision": "int4"}, "Unknown precision 'int4'"),
        ({"batch": 0}, "batch is 0; expected at least 1"),
        ({"threads": 0}, "threads is 0; expected at least 1"),
        ({"batch": 2.0}, "batch is 2.0; expected a whole number"),
        ({"image_size": (75, 75, 3)}, r"image_size is \(75, 75, 3\); expected a side, or \(height, width\)"),
        ({"precision": "int8"}, "needs calibration="),
        ({"calibration": []}, "takes no calibration images"),
        ({"precision": "bfloat16", "engine": "tensorflow"}, "runs on engine='openvino' here, not on 'tensorflow'"),
        ({"image_size": 60}, "too small"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        compile_inference(random_weights(), **arguments)


def test_weights_without_a_classifier_have_no_predictions():
    with pytest.raises(ValueError, match="has no classifier, so no Predictions; ask for end_points="):
        compile_inference(random_weights(NARROW_NOTOP))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.zeros((SMALL, SMALL, 3), np.float32), r"expected \[n, height, width, 3\]"),
        (np.zeros((0, SMALL, SMALL, 3), np.float32), "n > 0"),
        (np.zeros((1, 3, SMALL, SMALL), np.float32), r"expected \[n, height, width, 3\]"),
        (np.zeros((1, SMALL, SMALL, 3), np.int64), "images are int64; expected uint8 pixels, or floats"),
        (np.zeros((1, 60, 60, 3), np.float32), "too small"),
    ],
)
def test_images_that_do_not_fit(batch, message):
    run = compile_inference(random_weights(), engine="tensorflow")
    with pytest.raises(ValueError, match=message):
        run(batch)


def test_sizes_and_batches_of_every_integer_kind():
    run = compile_inference(random_weights(), engine="tensorflow", batch=np.int64(2), image_size=[SMALL, np.int32(80)])
    assert run.settings == Settings(batch=2, image_size=(SMALL, 80))
    assert run(np.zeros((3, SMALL, 80, 3), np.float32))["Predictions"].shape == (3, 7)
    assert compile_inference(random_weights(), image_size=np.int64(SMALL)).settings.image_size == (SMALL, SMALL)


@pytest.mark.parametrize("picture", ["keras", "google_2015"])  # (x - 127.5) / 127.5, and 128
def test_floats_of_another_range_are_refused_or_doubted(picture):
    run = compile_inference(random_weights(), engine="tensorflow", picture=picture)
    for wrong in (pixels().astype(np.float32), pixels(1).astype(np.float64), floats() * np.float32(np.nan)):
        with pytest.raises(ValueError, match="The images have values from .*; these weights take -1 to .*Give pixels"):
            run(wrong)
    with pytest.warns(pictures.SuspiciousRange, match="Were pixels divided by 255"):
        run(pixels() / np.float32(255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(floats(picture=picture) * np.float32(1.5))  # a bicubic resize overshoots
        run.prepared(pixels() / np.float32(255))


def test_the_doubt_points_at_the_call():
    run = compile_inference(random_weights(), engine="tensorflow")
    with pytest.warns(pictures.SuspiciousRange) as caught:
        run(pixels() / np.float32(255))
    assert caught[0].filename == __file__


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    ("name", "operation"),
    [
        ("Conv2d_1a_3x3/weights", "Conv2d_1a_3x3"),
        ("Mixed_5b/Branch_0/Conv2d_0a_1x1/BatchNorm/moving_variance", "Mixed_5b/Branch_0/Conv2d_0a_1x1"),
        ("Mixed_6a/Branch_0/Conv2d_1a_1x1/BatchNorm/beta", "Mixed_6a/Branch_0/Conv2d_1a_1x1"),
        ("Logits/Conv2d_1c_1x1/biases", "Logits"),
    ],
)
def test_weights_that_are_not_finite_are_refused(name, operation, value):
    if name.endswith("variance"):
        value = -1.0 if value == np.inf else value  # an infinite variance makes zeros
    with pytest.raises(ValueError, match=f"made has weights that are not finite .* for {operation};"):
        compile_inference(with_nan(name=name, value=value))


def test_what_nobody_computes_may_be_anything():
    weights = with_nan(name="Logits/Conv2d_1c_1x1/biases")
    found = compile_inference(weights, end_points=("PreLogits",), engine="tensorflow")(floats())
    assert_close(found, keras_end_points(random_weights(), floats()), ["PreLogits"])


def test_weights_that_are_not_finite_run_when_asked_for():
    run = compile_inference(with_nan(), engine="tensorflow", allow_nan=True)
    assert run(floats())["Predictions"].shape == (2, 7)


def test_another_size_than_the_compiled_one():
    run = compile_inference(random_weights(), engine="tensorflow", image_size=(SMALL, 80))
    assert run(np.zeros((1, SMALL, 80, 3), np.float32))["Predictions"].shape == (1, 7)
    with pytest.raises(ValueError, match="images are 80x80; this network was compiled for 75x80"):
        run(np.zeros((1, 80, 80, 3), np.float32))


def test_threads(engine):
    weights = random_weights()
    if engine == "tensorflow":
        compile_inference(weights, engine=engine)(floats())
        with pytest.raises(ValueError, match="threads=3 comes too late for TensorFlow"):
            compile_inference(weights, engine=engine, threads=3)
    else:
        found = compile_inference(weights, engine=engine, threads=1)(floats())
        assert_close(found, keras_end_points(weights, floats()), ["Predictions"])


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"], indirect=True)
def test_engines_get_the_plan_s_own_arrays(engine):
    """A network of 83 MB would lie in memory twice."""
    plan = plans.plan(random_weights(), ("Predictions",))
    if engine == "openvino":
        from inception.inference.openvino import model_of

        model = model_of(plan)
        arrays = [each.data for each in model.get_ops() if each.get_type_name() == "Constant"]
    else:
        from inception.inference.onnx import model_of

        outside = {}
        model = model_of(plan, outside=outside)
        arrays = list(outside.values())
        assert len(model.SerializeToString()) < 100_000
    kernels = [each.kernel for each in plan.operations if isinstance(each, plans.Convolve | plans.Dense)]
    assert len(kernels) == 95 and all(any(np.shares_memory(kernel, array) for array in arrays) for kernel in kernels)
    assert compile_inference(random_weights(), engine=engine).plan.operations == ()


# --- The choice of an engine -----------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"openvino", "onnxruntime", "onnx"}, "openvino"),
        ({"openvino"}, "openvino"),
        ({"onnxruntime"}, "tensorflow"),
        ({"onnxruntime", "onnx"}, "onnxruntime"),
        ({"onnx"}, "tensorflow"),
        (set(), "tensorflow"),
    ],
)
def test_auto_takes_the_first_engine_that_is_installed(there, chosen, monkeypatch):
    monkeypatch.setattr(extras, "installed", there.__contains__)
    compiled = []
    monkeypatch.setattr(engines, "compiled", lambda *arguments: compiled.append(arguments))
    assert inference.preferred() == chosen
    run = compile_inference(random_weights(), threads=3)
    assert run.engine == chosen
    assert [(engine, settings.threads) for engine, _, settings in compiled] == [(chosen, 3)]


def test_auto_asks_no_distribution_for_its_name(monkeypatch):
    """onnxruntime-gpu, tensorflow-cpu and openvino-nightly bring the modules under other names."""

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert compile_inference(random_weights()).engine == inference.preferred()


@pytest.mark.parametrize(
    ("engine", "package"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("onnxruntime", "onnx")]
)
def test_a_missing_extra_is_named(engine, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    needed = rf"The package {package} is not installed; pip install 'inception-v3\[{extras.EXTRAS[package]}\]'"
    with pytest.raises(ModuleNotFoundError, match=needed):
        compile_inference(random_weights(), engine=engine)


# --- Other precisions ------------------------------------------------------------------


def test_bfloat16_is_near_where_the_processor_has_it():
    openvino = pytest.importorskip("openvino")
    weights = random_weights(NARROW_NOTOP)
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(ValueError, match="This processor has no bfloat16"):
            compile_inference(weights, end_points=("PreLogits",), precision="bfloat16")
        return
    found = compile_inference(weights, end_points=("PreLogits",), precision="bfloat16")(floats())["PreLogits"]
    expected = keras_end_points(weights, floats())["PreLogits"]
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


@pytest.fixture(scope="module")
def int8():
    for package in ("nncf", "openvino"):
        pytest.importorskip(package)
    return compile_inference(random_weights(NARROW_AUX), precision="int8", calibration=floats(20, 107), batch=2)


def test_int8_says_how_far_it_agrees(int8):
    found = int8(floats(3, 107))
    assert list(found) == ["Predictions"] and found["Predictions"].shape == (3, 7)
    assert int8.agreement.images == 4 and int8.agreement.cosine > 0.98
    expected = keras_end_points(random_weights(NARROW_AUX), floats(3, 107))["Predictions"]
    assert 0 < np.abs(found["Predictions"] - expected).max() < 0.1


def test_every_fifth_calibration_image_is_held_out():
    used, held_out = quantization.parts(list(range(12)))
    assert held_out == [4, 9] and sorted(used + held_out) == list(range(12))
    with pytest.raises(ValueError, match="There are 9 calibration images; expected 10 at least"):
        quantization.parts(list(range(9)))


def test_agreement_of_networks():
    def network(best, features):
        return lambda image: {"PreLogits": np.asarray([features], np.float32), "Predictions": np.eye(3)[[best]]}

    same = quantization.agreement(network(1, [1, 2]), network(1, [1, 2]), [np.zeros((2, 2, 3))] * 3)
    assert (same.images, same.top1, same.enough) == (3, 1.0, True) and same.cosine == pytest.approx(1)
    other = quantization.agreement(network(1, [1, 0]), network(2, [1, 1]), [np.zeros((2, 2, 3))] * 3)
    assert (other.top1, other.enough) == (0.0, False) and other.cosine == pytest.approx(0.5**0.5)
    assert "less than the 99% that is expected" in str(other) and "less than" not in str(same)
    for broken in ([1, np.nan], [np.inf, 2]):  # not the same, whichever comes first and whatever the classes say
        for pair in ((network(1, [1, 2]), network(1, broken)), (network(1, broken), network(1, [1, 2]))):
            found = quantization.agreement(*pair, [np.zeros((2, 2, 3))] * 3)
            assert (found.top1, found.cosine, found.lowest_cosine, found.enough) == (0, 0, 0, False)
    features = quantization.Agreement(3, None, 0.995, 0.9)
    assert features.enough and "best class" not in str(features)


def test_calls_from_many_threads_share_an_engine_of_two_streams():
    network, points = random_weights(), ("Mixed_7c", "Predictions")
    run = compile_inference(network, engine="openvino", streams=2, end_points=points)
    one = compile_inference(network, engine="openvino", end_points=points)
    batches = [floats(1 + i % 3) * (1 - i / 12) for i in range(12)]  # the shape of the first, and others
    with ThreadPoolExecutor(4) as pool:
        for batch, results in zip(batches, pool.map(run, batches), strict=True):
            assert_close(results, one(batch), points)


@pytest.mark.parametrize("streams", [0, -1, 1.5, True])
def test_streams_are_a_count(streams):
    with pytest.raises(ValueError, match="streams is"):
        compile_inference(random_weights(), streams=streams)
