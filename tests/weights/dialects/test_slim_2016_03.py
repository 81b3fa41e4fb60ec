"""The older slim family: its names as the program wrote them, its checkpoints through the canonical weights."""

import dataclasses

import numpy as np
import pytest
from made import NARROW, assert_same, random_weights

from inception import architecture, load_weights
from inception.files.tensorflow import tensor_bundle, tensor_slices
from inception.variants import SLIM
from inception.weights import MissingTensor, ShapeMismatch
from inception.weights.dialects import slim_2016_03
from inception.weights.formats import slim_checkpoint
from inception.weights.plan import MATRIX

OLD = dataclasses.replace(SLIM, depth_multiplier=0.1, min_depth=4, aux_kernel=(3, 3))
NORM = ("beta", "gamma", "moving_mean", "moving_variance")
ENDS = ("weights", "biases", *(f"BatchNorm/{name}" for name in NORM))
# The branches of each row and the kernels in them, in the order of the program that made the checkpoints.
_35 = "branch1x1 1x1, branch5x5 1x1 5x5, branch3x3dbl 1x1 3x3 3x3, branch_pool 1x1"
_17 = "branch1x1 1x1, branch7x7 1x1 1x7 7x1, branch7x7dbl 1x1 7x1 1x7 7x1 1x7, branch_pool 1x1"
_8 = "branch1x1 1x1, branch3x3 1x1 1x3 3x1, branch3x3dbl 1x1 3x3 1x3 3x1, branch_pool 1x1"
PROGRAM = {
    "mixed_35x35x256a": _35,
    "mixed_35x35x288a": _35,
    "mixed_35x35x288b": _35,
    "mixed_17x17x768a": "branch3x3 3x3, branch3x3dbl 1x1 3x3 3x3",
    "mixed_17x17x768b": _17,
    "mixed_17x17x768c": _17,
    "mixed_17x17x768d": _17,
    "mixed_17x17x768e": _17,
    "mixed_17x17x1280a": "branch3x3 1x1 3x3, branch7x7x3 1x1 1x7 7x1 3x3",
    "mixed_8x8x2048a": _8,
    "mixed_8x8x2048b": _8,
}


def scopes_of_the_program() -> dict[str, str]:
    """{scope: kernel} in the order the program makes its convolutions."""
    found = {"conv0": "3x3", "conv1": "3x3", "conv2": "3x3", "conv3": "1x1", "conv4": "3x3"}
    for row, branches in PROGRAM.items():
        for branch in branches.split(", "):
            name, *kernels = branch.split()
            found |= {f"{row}/{name}/Conv{f'_{n}' if n else ''}": kernel for n, kernel in enumerate(kernels)}
    return found | {"aux_logits/proj": "1x1", "aux_logits/Conv": "5x5", "aux_logits/FC": "1x1", "logits/logits": "1x1"}


def test_names_are_those_of_the_program():
    scopes = slim_2016_03.scopes()
    places = [p for p in architecture.walk(SLIM.table()) if p.variables()]
    assert list(scopes) == [p.path for p in places]
    kernels = {scopes[p.path]: "x".join(map(str, p.node.kernel)) for p in places}
    assert kernels == scopes_of_the_program()


def older(weights) -> dict[str, np.ndarray]:
    """The arrays as such a checkpoint has them."""
    kernel = weights.variant.aux_kernel
    scopes = slim_2016_03.scopes(kernel).values()
    shapes = {f"{s}/{end}": () for s in scopes for end in ENDS} | {"aux_logits/Conv/weights": (*kernel, 1, 1)}
    claims = [c for c in slim_2016_03.claims(shapes) if c.canonical in weights.arrays]
    return {c.stored: c.layout.to_file(weights.arrays[c.canonical]) for c in claims}


NO_AUX = {"aux_logits": False, "aux_kernel": (5, 5)}


@pytest.mark.parametrize("changes", [{}, {"aux_kernel": (5, 5)}, NO_AUX, {"gamma": True}])
@pytest.mark.parametrize("version", [1, 2])
def test_a_checkpoint_is_read_as_it_is(tmp_path, version, changes):
    weights = random_weights(dataclasses.replace(OLD, **changes))
    arrays = older(weights)
    assert len(arrays) == len(weights.arrays)
    container = tensor_slices if version == 1 else tensor_bundle
    container.write(tmp_path / "model.ckpt-157585", arrays)
    again = load_weights(tmp_path / "model.ckpt-157585")
    assert_same(again, weights)
    assert again.variant == weights.variant
    assert again.variant.background and again.source.integrity == "checksum"


def test_classifiers_are_matrices(tmp_path):
    arrays = older(random_weights(OLD))
    assert arrays["logits/logits/weights"].shape == (203, 1001)
    assert arrays["aux_logits/FC/weights"].shape == (76, 1001)
    found = {name: array.shape for name, array in arrays.items()}
    matrices = {c.stored for c in slim_2016_03.claims(found) if c.layout == MATRIX}
    assert matrices == {"logits/logits/weights", "aux_logits/FC/weights"}


def test_slots_are_left_out_and_averages_taken_when_asked_for(tmp_path):
    weights = random_weights(OLD)
    arrays = older(weights)
    training = dict(arrays)
    for name, array in arrays.items():
        training |= {f"{name}/RMSProp": array * 0, f"{name}/RMSProp_1": array * 0}
        training[f"{name}/ExponentialMovingAverage"] = array + 1
    training["global_step"] = np.int64(157585)
    tensor_bundle.write(str(tmp_path / "m.ckpt"), training)
    assert_same(load_weights(tmp_path / "m.ckpt"), weights)
    averaged = load_weights(tmp_path / "m.ckpt", moving_averages=True)
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(averaged.arrays[name], array + 1)


def test_heads_can_be_left_out(tmp_path):
    weights = random_weights(OLD)
    tensor_bundle.write(str(tmp_path / "m.ckpt"), older(weights))
    base = slim_checkpoint.read(tmp_path / "m.ckpt", exclude=("logits", "aux_logits"))
    assert_same(base, weights.step("drop-top"))
    assert_same(slim_checkpoint.read(tmp_path / "m.ckpt", exclude=["aux_logits"]), weights.step("drop-aux"))


def test_what_is_left_over_is_kept_aside(tmp_path):
    weights, extra = random_weights(OLD), "mixed_8x8x2048a/branch3x3/Conv_3/weights"
    tensor_bundle.write(str(tmp_path / "m.ckpt"), older(weights) | {extra: np.ones((3, 1), np.float32)})
    again = load_weights(tmp_path / "m.ckpt")
    assert list(again.extra) == [extra] and extra in again.source.notes[-1]


def test_what_is_missing_or_misshapen_is_named(tmp_path):
    arrays = older(random_weights(OLD))

    def refusal(error, changed):
        tensor_bundle.write(str(tmp_path / "m.ckpt"), changed)
        with pytest.raises(error) as caught:
            load_weights(tmp_path / "m.ckpt")
        return str(caught.value)

    gone = "mixed_8x8x2048a/branch3x3/Conv_2/weights"
    assert "Mixed_7b/Branch_1/Conv2d_0b_3x1/weights" in refusal(
        MissingTensor, {name: array for name, array in arrays.items() if name != gone}
    )
    assert gone in refusal(ShapeMismatch, arrays | {gone: arrays[gone].transpose(1, 0, 2, 3)})


def test_other_checkpoints_are_not_of_the_family():
    assert not slim_2016_03.is_family(["conv0/weights", "InceptionV3/Conv2d_1a_3x3/weights"])
    assert not slim_2016_03.is_family(random_weights(NARROW).arrays)
