"""Steps by name: what they change, that they say so, and that what is lossless has an inverse."""

import dataclasses

import numpy as np
import pytest
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, random_weights

from inception.weights import CheckpointError

HEAD = "InceptionV3/Logits/Conv2d_1c_1x1"


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("variant", [NARROW, NARROW_AUX])
def test_add_then_drop_background_is_exact(variant):
    weights = random_weights(variant)
    there = weights.step("add-background")
    assert there.variant.num_classes == 8 and there.variant.background
    assert_same(there.step("drop-background"), weights)
    assert len(there.step("drop-background").source.notes) == 2


def test_an_added_background_class_changes_no_probability():
    weights = random_weights(NARROW)
    there = weights.step("add-background")
    features = np.random.default_rng(1).uniform(0, 2, (5, NARROW.shapes()[f"{HEAD}/weights"][2])).astype(np.float32)
    logits = features @ there.arrays[f"{HEAD}/weights"][0, 0] + there.arrays[f"{HEAD}/biases"]
    assert (softmax(logits)[:, 0] == 0).all()
    with_it, without = softmax(logits.astype(np.float64)), softmax(logits[:, 1:].astype(np.float64))
    # Sums of 8 and of 7 numbers, in whatever order a processor likes: a rounding or two a term.
    np.testing.assert_allclose(with_it[:, 1:], without, rtol=2 * 8 * np.finfo(np.float64).eps)


def test_drop_aux_and_drop_top_leave_the_rest_as_it_is():
    weights = random_weights(NARROW_AUX)
    for step, kept in (("drop-aux", NARROW), ("drop-top", NARROW_NOTOP)):
        changed = weights.step(step)
        assert list(changed.arrays) == list(kept.shapes())
        assert all(changed.arrays[name] is weights.arrays[name] for name in changed.arrays)


@pytest.mark.parametrize(
    ("variant", "step", "message"),
    [
        (NARROW, "drop-background", "has no background class"),
        (dataclasses.replace(NARROW, background=True), "add-background", "has a background class already"),
        (NARROW_NOTOP, "add-background", "has no classifier"),
        (NARROW, "drop-aux", "has no auxiliary head"),
        (NARROW_NOTOP, "drop-top", "has no classifier"),
        (NARROW, "fold", "Unknown step 'fold'; expected one of drop-background"),
    ],
)
def test_a_step_that_cannot_be_done_says_why(variant, step, message):
    with pytest.raises(CheckpointError, match=message):
        random_weights(variant).step(step)
