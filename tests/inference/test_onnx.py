"""The ONNX builder: what its models hold, and that ONNX Runtime gets the Keras builder's numbers out of them."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, first, random_weights
from reference import SMALL, VARIANTS, assert_close, floats, keras_end_points, pixels

from inception.inference import plan
from inception.inference.plan import Convolve, Join, Rewrites, Scale, Window
from inception.labels import imagenet
from inception.pictures import NAMED, Picture
from inception.variants import Variant
from inception.weights.canonical import written

USUAL = Rewrites()


def onnx_model(weights, end_points=None, rewrites=USUAL, of_pixels=False, **options):
    pytest.importorskip("onnx")
    from inception.inference import onnx

    names = end_points or plan.available(weights.variant)
    return onnx.model_of(plan.plan(weights, names, rewrites=rewrites, pixels=of_pixels), **options)


def run_onnx(model, array):
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": array}), strict=True))


@pytest.mark.parametrize("name", first(5, VARIANTS))
def test_every_end_point_of_every_variant_under_every_rewrite(name):
    weights = random_weights(VARIANTS[name])
    batch = floats(side=107 if weights.variant.aux_logits else SMALL, picture=weights.picture)
    expected, names = keras_end_points(weights, batch), plan.available(weights.variant)
    for flags in itertools.product((False, True), repeat=2):
        assert_close(run_onnx(onnx_model(weights, rewrites=Rewrites(*flags)), batch), expected, names)


def test_the_checker_is_content_and_the_opset_is_the_one_stated():
    onnx = pytest.importorskip("onnx")
    from inception.inference.onnx import IR_VERSION, OPSET

    model = onnx_model(random_weights(NARROW_AUX))
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert model.ir_version == IR_VERSION


def test_names_and_sizes_of_input_and_outputs():
    model = onnx_model(random_weights(), ("Mixed_5b", "Predictions"))
    [entry] = model.graph.input
    sizes = [size.dim_param or size.dim_value for size in entry.type.tensor_type.shape.dim]
    assert (entry.name, sizes) == ("images", ["batch", "height", "width", 3])
    assert [output.name for output in model.graph.output] == ["Mixed_5b", "Predictions"]
    fixed = onnx_model(random_weights(), ("Predictions",), batch=4, image_size=(SMALL, 90))
    assert [size.dim_value for size in fixed.graph.input[0].type.tensor_type.shape.dim] == [4, SMALL, 90, 3]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_one_model_for_any_batch_and_size(count):
    weights = random_weights()
    model = onnx_model(weights, ("Mixed_7c", "Predictions"))
    for height, width in ((SMALL, SMALL), (80, 96)):
        batch = np.random.default_rng(count).uniform(-1, 1, (count, height, width, 3)).astype(np.float32)
        expected = keras_end_points(weights, batch)
        assert_close(run_onnx(model, batch), expected, ["Mixed_7c", "Predictions"])


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("name", ["narrow", "last_pool"])
def test_pixels_are_scaled_inside(name, fold):
    picture = NAMED["google_2015" if name == "last_pool" else "keras"]
    weights = dataclasses.replace(random_weights(VARIANTS[name]), picture=picture)
    names = plan.available(weights.variant)
    found = run_onnx(onnx_model(weights, rewrites=Rewrites(fold=fold), of_pixels=True), pixels())
    assert_close(found, keras_end_points(weights, floats(picture=picture)), names)


def test_pixels_of_unequal_scales():
    picture = Picture(mean=(123.7, 116.3, 103.5), scale=(58.4, 57.1, 57.4))
    weights = dataclasses.replace(random_weights(), picture=picture)
    found = run_onnx(onnx_model(weights, ("Predictions",), of_pixels=True), pixels())
    assert_close(found, keras_end_points(weights, floats(picture=picture)), ["Predictions"])
    with pytest.raises(ValueError, match="Pixels of 1 channels have no scaling of their own"):
        plan.pixel_scaling(picture, 1)


def test_metadata():
    variant = dataclasses.replace(NARROW, num_classes=1000)
    weights = random_weights(variant)
    model = onnx_model(weights, ("Predictions",), labels=imagenet(1000))
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert written(found["inception_variant"], "the model")[0] == variant
    steps = json.loads(found["preprocessing"])
    assert (steps["layout"], steps["dtype"]) == ("NHWC", "float32")
    assert steps["mean"] == steps["scale"] == [127.5] * 3
    assert json.loads(found["labels"])[:2] == ["tench", "goldfish"]
    of_pixels = {entry.key: entry.value for entry in onnx_model(weights, ("Logits",), of_pixels=True).metadata_props}
    assert json.loads(of_pixels["preprocessing"])["dtype"] == "uint8"
    assert "labels" not in of_pixels


# --- The plan itself -------------------------------------------------------------------


def operations(weights, *end_points, **rewrites):
    return plan.plan(weights, end_points, rewrites=Rewrites(**rewrites)).operations


def test_only_what_the_end_points_need_is_there():
    weights = random_weights(NARROW_AUX)
    for operation in operations(weights, "Mixed_5b"):
        assert not operation.output.startswith(("Mixed_5c", "Mixed_6", "Mixed_7", "Aux", "PreLogits", "Logits"))
    assert operations(weights, "Mixed_5b")[-1].output == "Mixed_5b"
    assert not [o for o in operations(weights, "Predictions") if o.output.startswith("AuxLogits")]
    aux = {o.output for o in operations(weights, "AuxLogits")}
    assert "AuxLogits" in aux and not [name for name in aux if name.startswith(("Mixed_7", "PreLogits"))]
    found = [node.name for node in onnx_model(weights, ("Mixed_5b",)).graph.node]
    assert not [name for name in found if name.startswith(("Mixed_5c", "Mixed_6", "Mixed_7", "Aux", "Logits"))]


def test_folding_leaves_a_kernel_and_a_bias_for_each_convolution():
    folded, unfolded = (operations(random_weights(), "Predictions", fold=fold) for fold in (True, False))
    assert sum(isinstance(o, Convolve) for o in folded) == sum(isinstance(o, Convolve) for o in unfolded) == 94
    assert all(o.bias is not None for o in folded if isinstance(o, Convolve))
    assert all(o.scale is None for o in folded if isinstance(o, Scale))
    assert sum(isinstance(o, Scale) for o in unfolded) == 94


def test_average_pools_run_on_fewer_channels_behind_and_the_maximum_stays():
    def before(**variant):
        weights = random_weights(dataclasses.replace(NARROW, **variant))
        made = {o.output: o for o in operations(weights, "Predictions")}
        pools = [o for o in made.values() if isinstance(o, Window) and "Branch_3" in o.output]
        return [type(made.get(pool.input)) for pool in pools]

    assert before() == [Convolve] * 9
    assert before(last_pool="max") == [Convolve] * 8 + [Join]


def test_end_points_that_are_not_there():
    for variant, names, message in [
        (NARROW_NOTOP, ("Predictions",), "has no classifier, so no Predictions; ask for end_points="),
        (NARROW, ("AuxLogits",), "has no auxiliary head"),
        (NARROW, ("Mixed_9z",), "Unknown end point 'Mixed_9z'"),
        (NARROW, "Predictions", "expected a sequence of different names"),
        (NARROW, (), "expected a sequence of different names"),
        (NARROW, ("Logits", "Logits"), "expected a sequence of different names"),
    ]:
        with pytest.raises(ValueError, match=message):
            plan.plan(random_weights(variant), names)


def test_images_that_are_too_small():
    weights = random_weights(dataclasses.replace(NARROW, aux_logits=True))
    with pytest.raises(ValueError, match="too small for a 3x3 window"):
        plan.plan(weights, ("Predictions",), image_size=(60, 60))
    with pytest.raises(ValueError, match="last kernel is 5x5, more than a 107x107 image gives it"):
        plan.plan(weights, ("AuxLogits",), image_size=(107, 107))
    plan.plan(weights, ("Predictions",), image_size=(SMALL, SMALL))
    plan.plan(weights, ("Mixed_5b",), image_size=(40, 40))
    plan.plan(weights, ("AuxLogits",), image_size=(299, 299))


def test_a_plan_of_one_channel():
    weights = random_weights(Variant(num_classes=7, depth_multiplier=0.1, min_depth=4, channels=1))
    batch = np.random.default_rng(0).uniform(-1, 1, (2, SMALL, SMALL, 1)).astype(np.float32)
    found = run_onnx(onnx_model(weights, ("Predictions",)), batch)
    assert_close(found, keras_end_points(weights, batch), ["Predictions"])
