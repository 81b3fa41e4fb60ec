"""What the table and the weights say by themselves."""

import dataclasses

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, TINY, noise, random_weights

from inception import architecture, compile_inference
from inception.inference.plan import Convolve, Rewrites, plan
from inception.microscope import anatomy, weighing
from inception.microscope.crops import receptive_fields, window
from inception.variants import GOOGLE_2015, KERAS, SLIM


def changed(weights, **arrays):
    """Weights with other values in some arrays, by the place and name below InceptionV3/, `__` for a slash."""
    mine = {f"InceptionV3/{name.replace('__', '/')}": value for name, value in arrays.items()}
    return dataclasses.replace(weights, arrays={**weights.arrays, **mine})


@pytest.mark.parametrize("variant", [KERAS, SLIM, GOOGLE_2015, NARROW_AUX])
def test_the_points_count_what_the_table_counts(variant):
    found = anatomy.points(variant, (299, 299))
    table = variant.table()
    assert sum(p.parameters for p in found) == architecture.count(table, lambda place: place.parameters(variant.gamma))
    assert sum(p.multiply_adds for p in found) == architecture.count(table, lambda place: place.multiply_adds)
    paths = [unit.path for point in found for unit in point.units]
    assert len(set(paths)) == len(paths)
    heads = ["AuxLogits"] * variant.aux_logits + ["PreLogits", "Logits"]
    assert [p.name for p in found] == [*architecture.END_POINTS, *heads]


def test_names_are_those_of_the_vocabularies():
    known = anatomy.names(KERAS)
    assert known["Conv2d_4a_3x3"] == ("Conv2d_4a_3x3", "activation_5", "Conv2d_4a_3x3", "conv_4")
    assert known["MaxPool_3a_3x3"] == ("MaxPool_3a_3x3", "max_pooling2d_1", "", "pool")
    assert known["Mixed_6c"] == ("Mixed_6c", "mixed5", "Mixed_6c", "mixed_5/join")
    [unit] = [
        u for p in anatomy.points(KERAS, (299, 299)) for u in p.units if u.path.endswith("6c/Branch_1/Conv2d_0b_1x7")
    ]
    assert unit.names[1:] == ("conv2d_43", "Mixed_6c.branch7x7_2", "mixed_5/tower/conv_1")


def test_strength_is_the_product_of_the_norms_on_the_way():
    weights = random_weights(NARROW)
    kernels = {
        op.output: np.linalg.norm(op.kernel.reshape(-1, *op.kernel.shape[2:]), axis=0)
        for op in plan(weights, rewrites=Rewrites(pool_behind=False)).operations
        if isinstance(op, Convolve)
    }
    branches = [
        kernels["Mixed_5b/Branch_0/Conv2d_0a_1x1"],
        kernels["Mixed_5b/Branch_1/Conv2d_0a_1x1"] @ kernels["Mixed_5b/Branch_1/Conv2d_0b_5x5"],
        kernels["Mixed_5b/Branch_2/Conv2d_0a_1x1"]
        @ kernels["Mixed_5b/Branch_2/Conv2d_0b_3x3"]
        @ kernels["Mixed_5b/Branch_2/Conv2d_0c_3x3"],
        kernels["Mixed_5b/Branch_3/Conv2d_0b_1x1"],
    ]
    strength = np.concatenate(branches, axis=1)
    found = weighing.weigh(weights)
    before, here = found["MaxPool_5a_3x3"], found["Mixed_5b"]
    shares = strength / strength.sum(0)
    np.testing.assert_array_equal(here.inputs[0][:, 0], strength.argmax(0))
    np.testing.assert_allclose(here.inputs[1][:, 0], shares.max(0), rtol=1e-4)
    np.testing.assert_array_equal(before.outputs[0][:, 0], shares.argmax(1))
    np.testing.assert_allclose(before.outputs[1][:, 0], shares.max(1), rtol=1e-4)
    last = kernels["Mixed_5b/Branch_2/Conv2d_0c_3x3"]
    path, number = here.origin[len(branches[0][0]) + len(branches[1][0]) + 1]
    assert (path, number) == ("Mixed_5b/Branch_2/Conv2d_0c_3x3", 1)
    np.testing.assert_allclose(
        here.norm[len(branches[0][0]) + len(branches[1][0]) + 1], np.linalg.norm(last[:, 1]), rtol=1e-4
    )
    assert here.histogram.sum() >= 0.99 * sum(
        weights.arrays[name].size for name in weights.arrays if "/Mixed_5b/" in name and name.endswith("/weights")
    )


def test_channels_that_no_picture_can_bring_above_zero_are_dead_and_no_others():
    weights = random_weights(NARROW)
    path = "InceptionV3/Conv2d_2b_3x3"
    kernel, beta = (weights.arrays[f"{path}/{n}"].copy() for n in ("weights", "BatchNorm/beta"))
    mean = np.zeros_like(beta)
    kernel[..., 0], beta[0] = 0, -0.1  # nothing comes in
    kernel[..., 1], beta[1] = -np.abs(kernel[..., 1]), -0.1  # only what pulls down
    kernel[..., 2], beta[2] = -np.abs(kernel[..., 2]), 0.1  # above zero where all is dark
    mine = {"Conv2d_2b_3x3__weights": kernel, "Conv2d_2b_3x3__BatchNorm__beta": beta,
            "Conv2d_2b_3x3__BatchNorm__moving_mean": mean}  # fmt: skip
    later = weights.arrays["InceptionV3/Conv2d_3b_1x1/weights"].copy()
    later[..., 3] = -np.abs(later[..., 3])
    later[:, :, :2, 3] *= -1  # of the dead ones only
    offset = np.full_like(weights.arrays["InceptionV3/Conv2d_3b_1x1/BatchNorm/beta"], -0.1)
    mine |= {"Conv2d_3b_1x1__weights": later, "Conv2d_3b_1x1__BatchNorm__beta": offset,
             "Conv2d_3b_1x1__BatchNorm__moving_mean": np.zeros_like(offset)}  # fmt: skip
    weights = changed(weights, **mine)
    found = weighing.weigh(weights)
    points = ("Conv2d_2b_3x3", "MaxPool_3a_3x3", "Conv2d_3b_1x1")
    assert [np.flatnonzero(found[name].dead).tolist() for name in points] == [[0, 1], [0, 1], [3]]
    run = compile_inference(weights, end_points=points, engine="tensorflow")
    for name, values in run(noise(8, 75, 75, 3)).items():
        assert not values[..., found[name].dead].any()


def test_changes_are_shares_of_the_norm():
    weights = random_weights(TINY)
    name = "Mixed_5c/Branch_0/Conv2d_0a_1x1"
    still = {n: weights.arrays[f"InceptionV3/{name}/BatchNorm/{n}"] * 0 for n in ("beta", "moving_mean")}
    weights = changed(weights, **{f"{name}/BatchNorm/{n}": v for n, v in still.items()})
    found = weighing.changes(
        weights, changed(weights, **{f"{name}/weights": weights.arrays[f"InceptionV3/{name}/weights"] * 1.25})
    )
    np.testing.assert_allclose(found.pop(name), 0.25, rtol=1e-4)
    assert not any(each.any() for each in found.values())


def test_receptive_fields_and_the_windows_made_of_them():
    """The fields of the stem and of Mixed_5b by hand: (kernel - 1) times the step, added up."""
    fields = receptive_fields(KERAS.table())
    known = {"Conv2d_1a_3x3": 3, "Conv2d_2a_3x3": 7, "Conv2d_2b_3x3": 11, "MaxPool_3a_3x3": 15, "Conv2d_3b_1x1": 15,
             "Conv2d_4a_3x3": 23, "MaxPool_5a_3x3": 31, "Mixed_5b": 63}  # fmt: skip
    assert {name: fields[name] for name in known} == known
    half = 5 * 64**0.5 / 2
    assert window(64, np.array([17, 17]), (35, 35), (299, 299)) == pytest.approx(
        tuple((149.5 + s * half) / 299 for s in (-1, -1, 1, 1))
    )
    top, left, bottom, right = window(64, np.array([0, 34]), (35, 35), (299, 299))
    assert (top, right) == (0, 1) and bottom == pytest.approx(2 * half / 299) and left == pytest.approx(1 - bottom)
    assert window(None, np.array([0, 0]), (1, 1), (299, 299)) == (0, 0, 1, 1)
