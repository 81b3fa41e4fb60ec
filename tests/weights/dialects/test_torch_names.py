"""torch's keys: by rule from the table, and what the networks behind them are."""

import contextlib
import dataclasses
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, random_weights

from inception import pictures
from inception.files.tensor import Stored
from inception.variants import GOOGLE_2015, KERAS, TORCHVISION, Variant
from inception.weights import CheckpointError, CorruptFile, MissingTensor, ShapeMismatch, Source, UnsupportedFeature
from inception.weights.canonical import OtherRules
from inception.weights.dialects import torch_names

# The 94 units as torchvision's modules name them, in the order of the table.
STEM = "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 Conv2d_3b_1x1 Conv2d_4a_3x3"
BLOCKS = {
    "5b 5c 5d": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
    "6a": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "6b 6c 6d 6e": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 "
    "branch7x7dbl_4 branch7x7dbl_5 branch_pool",
    "7a": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
    "7b 7c": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a "
    "branch3x3dbl_3b branch_pool",
}
UNITS = STEM.split() + [
    f"Mixed_{row}.{name}" for rows, names in BLOCKS.items() for row in rows.split() for name in names.split()
]
SOURCE = Source("net.pth", "made")
WITH_GAMMA = dataclasses.replace(NARROW, gamma=True, border="include")


def stored(arrays):
    return {name: Stored(a.shape, a.dtype, lambda a=a: a.copy()) for name, a in arrays.items()}


def gather(arrays, like=None):
    return torch_names.gather(stored(arrays), SOURCE, like)


def state_of(variant, seed=0):
    return torch_names.scatter(random_weights(variant, seed))


# ---- names


def test_the_units_are_torchvisions():
    keys = [key for key, _ in torch_names.keys(Variant(num_classes=0)).values()]
    assert [key.removesuffix(".conv.weight") for key in keys if key.endswith(".conv.weight")] == UNITS


def test_the_units_are_those_of_the_table_of_facts(repository):
    facts = repository.parent / "shared" / "FACTS.md"
    if not facts.exists():
        pytest.skip("the table of facts is not beside this checkout")
    rows = re.findall(r"^\| \d+ \| ((?:Conv2d|Mixed)_\S+) \| (\S+) \| \S*conv\S* \|", facts.read_text(), re.MULTILINE)
    assert len(rows) == 94
    keys = torch_names.keys(KERAS)
    for place, unit in rows:
        assert keys[f"InceptionV3/{place}/weights"][0] == f"{unit}.conv.weight"
        assert keys[f"InceptionV3/{place}/BatchNorm/moving_variance"][0] == f"{unit}.bn.running_var"


def test_torchvisions_state_dict_has_580_entries():
    full = dataclasses.replace(TORCHVISION, depth_multiplier=0.01, min_depth=2)
    state = state_of(full)
    assert len(state) == 580
    assert sum(not key.endswith("num_batches_tracked") for key in state) == 484
    assert {key: state[key].shape for key in state if key.startswith(("fc.", "AuxLogits.fc."))} == {
        "AuxLogits.fc.weight": (1000, 7),
        "AuxLogits.fc.bias": (1000,),
        "fc.weight": (1000, 17),
        "fc.bias": (1000,),
    }
    assert state["AuxLogits.conv1.conv.weight"].shape == (7, 2, 5, 5)
    assert state["AuxLogits.conv0.bn.num_batches_tracked"].dtype == np.int64


def test_where_each_number_goes():
    weights = random_weights(WITH_GAMMA)
    state = torch_names.scatter(weights)
    kernel = weights.arrays["InceptionV3/Mixed_6b/Branch_2/Conv2d_0b_7x1/weights"]
    np.testing.assert_array_equal(state["Mixed_6b.branch7x7dbl_2.conv.weight"][3, 2], kernel[:, :, 2, 3])
    for theirs, ours in (
        ("weight", "gamma"),
        ("bias", "beta"),
        ("running_mean", "moving_mean"),
        ("running_var", "moving_variance"),
    ):
        beside = weights.arrays[f"InceptionV3/Mixed_7b/Branch_1/Conv2d_0b_3x1/BatchNorm/{ours}"]
        np.testing.assert_array_equal(state[f"Mixed_7b.branch3x3_2b.bn.{theirs}"], beside)
    classifier = weights.arrays["InceptionV3/Logits/Conv2d_1c_1x1/weights"]
    np.testing.assert_array_equal(state["fc.weight"], classifier[0, 0].T)


# ---- there and back


@pytest.mark.parametrize("variant", [NARROW, NARROW_AUX, NARROW_NOTOP, WITH_GAMMA])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_there_and_back_is_exact(variant, prefix):
    weights = random_weights(variant)
    state = {f"{prefix}{key}": array for key, array in torch_names.scatter(weights).items()}
    back = gather(state, like=variant)
    assert_same(back, weights)
    assert back.variant == variant


def test_of_a_file_that_does_not_say_its_variant():
    found = gather(state_of(NARROW_AUX)).variant
    assert found.gamma and found.aux_logits and found.border == "include" and found.last_pool == "avg"
    assert (found.num_classes, found.background, found.aux_kernel) == (7, False, (1, 1))


@pytest.mark.parametrize(
    ("classes", "background", "border", "last_pool"),
    [(1000, False, "include", "avg"), (1001, True, "include", "avg"), (1008, True, "exclude", "max")],
)
def test_what_the_number_of_classes_tells(classes, background, border, last_pool):
    narrow = dataclasses.replace(WITH_GAMMA, num_classes=classes)
    weights = gather(state_of(narrow))
    found = weights.variant
    assert (found.num_classes, found.background, found.border, found.last_pool) == (
        classes,
        background,
        border,
        last_pool,
    )
    assert weights.picture == pictures.NAMED["google_2015" if classes == 1008 else "torchvision"]


def test_old_files_count_no_batches():
    state = {key: array for key, array in state_of(NARROW).items() if not key.endswith("num_batches_tracked")}
    assert gather(state).variant.gamma


def test_gamma_of_ones_stays_gamma():
    assert all(np.all(a == 1) for n, a in gather(state_of(NARROW)).arrays.items() if n.endswith("gamma"))


def test_ones_that_are_none_are_an_error():
    state = state_of(NARROW)
    state["Mixed_6a.branch3x3.bn.weight"][1] = 1.5
    with pytest.raises(CorruptFile, match=r"has no gamma, but Mixed_6a\.branch3x3\.bn\.weight is not all ones"):
        gather(state, like=NARROW)


# ---- errors


def test_what_is_missing_left_over_or_misshapen_is_listed():
    state = state_of(NARROW)
    state.pop("Mixed_7c.branch_pool.bn.bias")
    state["extra"] = np.zeros(3, np.float32)
    with pytest.raises(MissingTensor, match=r"1 not in the file: .*Mixed_7c.*beta\. 1 in the file but not .*: extra"):
        gather(state)
    del state["extra"]
    state["Mixed_7c.branch_pool.bn.bias"] = np.zeros((3, 1), np.float32)
    with pytest.raises(ShapeMismatch, match=r"Mixed_7c\.branch_pool\.bn\.bias is 3x1"):
        gather(state)


@pytest.mark.parametrize("key", ["Mixed_5b.branch1x1.conv.weight", "fc.weight", "AuxLogits.conv1.conv.weight"])
@pytest.mark.parametrize("shape", [(), (4,), (4, 4, 4), (1, 2, 3, 4, 5), (0, 0, 0, 0)])
def test_any_rank_is_refused_with_a_sentence(key, shape):
    with pytest.raises(CheckpointError, match=r"^net\.pth \(made\) does not match the network"):
        gather(state_of(NARROW_AUX) | {key: np.zeros(shape, np.float32)})


sides = st.one_of(st.integers(0, 12), st.integers(0, (1 << 62) - 1))


@given(
    st.dictionaries(st.sampled_from(sorted(state_of(NARROW_AUX))), st.lists(sides, max_size=6), min_size=1),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_any_shapes_are_refused_with_a_sentence(changes, all_zero):
    shapes = {key: array.shape for key, array in state_of(NARROW_AUX).items()}
    if all_zero:
        shapes = {key: (*shape[:-1], 0) for key, shape in shapes.items()}
    shapes |= {key: tuple(shape) for key, shape in changes.items()}
    tensors = {
        key: Stored(shape, np.dtype(np.float32), lambda s=shape: np.zeros(s, "f4")) for key, shape in shapes.items()
    }
    with contextlib.suppress(CheckpointError):
        torch_names.gather(tensors, SOURCE)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {},
        lambda state: {"conv1.weight": state["fc.weight"]},
        lambda state: state | {f"ema.{key}": array for key, array in state.items()},
        lambda state: {f"x{key}": array for key, array in state.items()},
        lambda state: {f"module.{key}": array for key, array in state.items()} | {"loss.weight": state["fc.bias"]},
    ],
)
def test_what_is_no_state_dict_of_one_network(change):
    with pytest.raises(UnsupportedFeature, match=r"^net\.pth \(made\)"):
        gather(change(state_of(NARROW)))


def test_whole_numbers_are_no_weights():
    state = state_of(NARROW)
    state["fc.weight"] = state["fc.weight"].astype(np.int8)
    with pytest.raises(ShapeMismatch, match=r"fc\.weight is int8; expected floating-point"):
        gather(state)


# ---- rules that torch code does not know


@pytest.mark.parametrize("variant", [WITH_GAMMA, dataclasses.replace(GOOGLE_2015, depth_multiplier=0.01, min_depth=2)])
def test_no_warning_for_what_torch_code_runs_by_itself(variant):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        way = "google_2015" if variant.num_classes == 1008 else "torchvision"
        weights = dataclasses.replace(random_weights(variant), picture=pictures.NAMED[way])
        torch_names.warn_of_rules(weights, "x")


def test_a_warning_for_other_rules():
    with pytest.warns(OtherRules, match=r"x: these weights need border='exclude' \(torch code has 'include'\)"):
        torch_names.warn_of_rules(random_weights(NARROW), "x")


# ---- from torch to slim


def normalized(x, arrays, unit):
    """A convolution of one pixel and its batch norm, in double precision."""
    part = {name.rpartition("/")[2]: a.astype(np.float64) for name, a in arrays.items() if name.startswith(unit)}
    y = np.einsum("hwi,hwio->o", x, part["weights"]) - part["moving_mean"]
    return y / np.sqrt(part["moving_variance"] + 1e-3) * part.get("gamma", 1) + part["beta"]


def test_folding_gamma_keeps_the_numbers_of_inference():
    weights = random_weights(WITH_GAMMA)
    for name, array in weights.arrays.items():
        if name.endswith("gamma"):
            array[::2] *= -1
            array[-1] = 0
    folded = weights.step("fold-gamma")
    assert folded.variant == dataclasses.replace(WITH_GAMMA, gamma=False)
    assert list(folded.arrays) == list(folded.variant.shapes())
    assert "for inference only" in folded.source.notes[-1]
    unit = "InceptionV3/Mixed_6b/Branch_1/Conv2d_0b_1x7/"
    x = np.random.default_rng(1).normal(size=weights.arrays[f"{unit}weights"].shape[:3])
    # atol: a gamma of 0 leaves nothing but rounding to compare
    np.testing.assert_allclose(
        normalized(x, folded.arrays, unit), normalized(x, weights.arrays, unit), rtol=1e-5, atol=1e-6
    )
    for name in ("beta", "moving_variance"):
        np.testing.assert_array_equal(
            folded.arrays[f"{unit}BatchNorm/{name}"], weights.arrays[f"{unit}BatchNorm/{name}"]
        )


def test_folding_ones_changes_no_bit():
    weights = random_weights(NARROW)
    assert_same(gather(torch_names.scatter(weights)).step("fold-gamma"), weights)


def test_folding_what_has_no_gamma():
    with pytest.raises(CheckpointError, match="has no gamma; leave the step out"):
        random_weights(NARROW).step("fold-gamma")
