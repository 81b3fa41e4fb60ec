"""Verification: equal networks are found equal, and every seeded mistake is found."""

import dataclasses
import re

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, first, random_weights, with_nan
from typer.testing import CliRunner

from inception import architecture, images, labels, load_weights, verify
from inception.cli import app
from inception.variants import TORCHVISION
from inception.weights import CheckpointError, Weights

BOTH = ("keras", "slim")
EACH = [BOTH, ("keras", "none")]  # "none": the inference engine


@pytest.mark.parametrize(
    ("name", "builder"),
    [("x.ckpt", "slim"), ("x.v1.ckpt", "slim"), ("x.pb", "slim"), ("x.h5", "keras"), ("x.slim.safetensors", "keras")],
)
def test_each_format_has_its_own_builder(name, builder, tmp_path):
    path = tmp_path / name
    random_weights(NARROW).save(path)
    assert verify.own_builder(load_weights(path)) == builder


@pytest.mark.parametrize(("variant", "size"), first(1, [(NARROW_AUX, 107), (NARROW, 75), (NARROW_NOTOP, 150)]))
@pytest.mark.parametrize("builders", EACH)
def test_the_builders_agree_at_every_end_point(variant, size, builders):
    weights = random_weights(variant)
    rows = verify.compare(weights, weights, images.test_picture(size), builders)
    heads = ["AuxLogits"] * variant.aux_logits + ["PreLogits"] + ["Logits", "Predictions"] * bool(variant.num_classes)
    assert [row.end_point for row in rows] == [*architecture.END_POINTS, *heads]
    assert max(row.relative for row in rows) < 1e-5
    assert min(row.cosine for row in rows) > 1 - 1e-9


def test_the_background_class_is_left_out_where_the_other_has_none():
    weights = random_weights(NARROW)
    rows = verify.compare(weights, weights.step("add-background"), images.test_picture(75), BOTH)
    assert max(row.relative for row in rows) < 1e-5


def test_imagenet_classes_are_compared_in_one_order():
    ours = random_weights(dataclasses.replace(NARROW, num_classes=1000))
    order, other = labels.wnid_order(1008), dataclasses.replace(NARROW, num_classes=1008, background=True)
    arrays = dict(ours.arrays)
    for name, shape in other.shapes().items():
        if name.startswith("InceptionV3/Logits/"):
            arrays[name] = np.zeros(shape, np.float32)
            arrays[name][..., order] = ours.arrays[name]
    theirs = Weights(arrays, other, ours.source)
    rows = [row for row in verify.compare(ours, theirs, images.test_picture(75)) if row.end_point != "Predictions"]
    assert rows[-1].end_point == "Logits" and rows[-1].shape == (1000,)
    assert max(row.relative for row in rows) < 1e-5


def mistaken(weights: Weights, mistake: str) -> Weights:
    arrays = dict(weights.arrays)
    unit = "InceptionV3/Mixed_6c/Branch_1/Conv2d_0b_1x7"
    if mistake == "transposed kernel":
        arrays[f"{unit}/weights"] = arrays[f"{unit}/weights"].swapaxes(2, 3).copy()
    elif mistake == "swapped statistics":
        a, b = f"{unit}/BatchNorm/moving_mean", f"{unit}/BatchNorm/moving_variance"
        arrays[a], arrays[b] = arrays[b], np.abs(arrays[a])
    elif mistake == "swapped branches":
        a, b = (f"InceptionV3/Mixed_6e/Branch_{i}/Conv2d_0a_1x1/weights" for i in (1, 2))
        arrays[a], arrays[b] = arrays[b], arrays[a]
    elif mistake == "wrong epsilon":
        for name in arrays:
            if name.endswith("moving_variance"):
                arrays[name] = arrays[name] + np.float32(9e-3)
    return Weights(arrays, weights.variant, weights.source)


@pytest.mark.parametrize(
    ("mistake", "first", "why"),
    first(1, [
        ("transposed kernel", "Mixed_6c", r"1x7/weights: transposed in b \(input and output"),
        ("swapped statistics", "Mixed_6c", "moving_mean: b has a's .*1x7/BatchNorm/moving_variance here"),
        ("swapped branches", "Mixed_6e", "Branch_1/Conv2d_0a_1x1/weights: b has a's .*Branch_2/.* here"),
        ("wrong epsilon", "Conv2d_1a_3x3", "Conv2d_1a_3x3/.*moving_variance: other values in b, by up to 0.009"),
    ]),
)  # fmt: skip
def test_a_seeded_mistake_is_found_where_it_is(mistake, first, why):
    weights = random_weights(NARROW)
    wrong = mistaken(weights, mistake)
    rows = verify.compare(weights, wrong, images.test_picture(75), BOTH)
    assert next(row.end_point for row in rows if row.relative > 1e-5) == first
    [reason, *_] = verify.reasons(weights, wrong)
    assert re.search(why, reason)


def test_the_border_rule_is_a_difference():
    include = dataclasses.replace(TORCHVISION, num_classes=7, depth_multiplier=0.1, min_depth=4, aux_logits=False)
    weights = random_weights(include)
    other = Weights(weights.arrays, dataclasses.replace(include, border="exclude"), weights.source)
    rows = verify.compare(weights, other, images.test_picture(75))
    assert next(row.end_point for row in rows if row.relative > 1e-5) == "Mixed_5b"
    assert verify.reasons(weights, other) == ["border rule of the average pools: include in a, exclude in b"]


def test_networks_of_other_classes_are_not_compared():
    other = random_weights(dataclasses.replace(NARROW, num_classes=9))
    with pytest.raises(CheckpointError, match="verify compares networks with the same classes"):
        verify.compare(random_weights(NARROW), other, images.test_picture(75))


def test_real_weights_through_both_builders_at_299(real_h5, tmp_path):
    weights = load_weights(real_h5)
    weights.save(tmp_path / "x.ckpt")
    rows = verify.compare(weights, load_weights(tmp_path / "x.ckpt"))
    assert len(rows) == 19
    assert max(row.relative for row in rows) < 1e-5


def test_keras_applications_own_network_computes_the_same(real_h5):
    weights, pixels = load_weights(real_h5), images.test_picture(150)
    rows = verify.differences(
        verify.end_points(weights, pixels, "slim"), verify.peer_end_points(weights, pixels, "keras")
    )
    assert len(rows) == 19
    assert max(row.relative for row in rows) < 1e-5


def test_torchvisions_own_network_computes_the_same():
    pytest.importorskip("torchvision")
    weights = random_weights(TORCHVISION)
    pixels = images.test_picture(299)
    rows = verify.differences(
        verify.end_points(weights, pixels, "keras"), verify.peer_end_points(weights, pixels, "torch")
    )
    assert max(row.relative for row in rows) < 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["left", "right", "both"])
def test_numbers_that_are_not_finite_are_a_difference(value, where):
    arrays = {"left": np.arange(1.0, 5.0), "right": np.arange(1.0, 5.0)}
    assert verify.difference("x", *arrays.values()) == verify.Difference("x", (4,), 0, 0, pytest.approx(1))
    for side in arrays if where == "both" else [where]:
        arrays[side][2] = value
    found = verify.difference("x", *arrays.values())
    assert (found.relative, found.absolute, found.cosine, found.finite) == (np.inf, np.inf, 0, False)
    sound = verify.difference("y", np.ones(2), np.ones(2))
    for rows in ([found, sound], [sound, found]):  # max() of NaN would depend on the order
        assert max(rows, key=lambda row: row.relative) is found


def command(*arguments):
    return CliRunner().invoke(app, ["verify", *map(str, arguments)])


def test_the_command_finds_nan_different(tmp_path):
    good, wrong = random_weights().save(tmp_path / "good.npz"), with_nan().save(tmp_path / "nan.ckpt")
    run = command(good, wrong, "--size", 75)
    assert run.exit_code == 1, run.output
    text = " ".join(run.output.split())
    assert "DIFFERENT: Mixed_5b has numbers that are not finite" in text
    assert "Mixed_5b/Branch_0/Conv2d_0a_1x1/weights: has numbers that are not finite in b" in text
    assert run.output.split("<- differs")[0].splitlines()[-1].startswith("Mixed_5b")


@pytest.mark.parametrize(
    ("a", "b", "where"),
    [(random_weights, with_nan, "b"), (with_nan, random_weights, "a"), (with_nan, with_nan, "a and b")],
)
def test_reasons_name_the_array_that_is_not_finite(a, b, where):
    [reason] = verify.reasons(a(), b())
    name = "InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/weights"
    assert reason == f"{name}: has numbers that are not finite in {where}"


@pytest.mark.parametrize(("given", "code"), [((), 0), (("--tolerance", 2e-6), 0), (("--tolerance", 0), 1)])
def test_a_tolerance_of_zero_is_zero(sample, monkeypatch, given, code):
    row = verify.difference("Mixed_5b", np.ones(3), np.array([1, 1, 1 + 1e-6]))
    monkeypatch.setattr(verify, "compare", lambda *arguments: [row])
    run = command(sample, sample, *given)
    assert run.exit_code == code and (code == 0 or "(allowed 0)" in run.output)


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf"])
def test_no_tolerances(sample, tolerance):
    run = command(sample, sample, "--tolerance", tolerance)
    assert f"--tolerance is {tolerance}; expected a number from 0" in str(run.exception)


def test_a_size_of_zero_is_refused(sample):
    assert command(sample, sample, "--size", 0).exit_code == 2


def test_no_peer_is_narrow():
    with pytest.raises(CheckpointError, match="is narrow, as no peer is"):
        verify.peer_end_points(random_weights(NARROW), images.test_picture(75), "keras")
