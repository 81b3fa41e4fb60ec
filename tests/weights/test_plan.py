"""Every tensor exactly once, or one sentence that lists what is wrong."""

import numpy as np
import pytest

from inception.weights import MissingTensor, ShapeMismatch
from inception.weights.plan import MATRIX, Claim, Layout, match

EXPECTED = {"a": (3,), "b": (2, 2), "c": (1, 1, 4, 5)}


def claims(*names):
    return [Claim(name, name) for name in names or EXPECTED]


def test_a_complete_plan_comes_in_the_networks_order():
    rows = match(EXPECTED, reversed(claims()), EXPECTED, "x.h5")
    assert [row.canonical for row in rows] == ["a", "b", "c"]


def test_one_message_lists_every_fault():
    found = {"a": (3,), "A": (3,), "c": (1, 1, 5, 4), "slot": (9,)}
    with pytest.raises(ShapeMismatch) as caught:
        match(EXPECTED, [*claims("a", "c"), Claim("A", "a")], found, "x.h5")
    message = str(caught.value)
    assert message.startswith("x.h5 does not match the network")
    assert "1 not in the file: b" in message
    assert "1 in the file but not in the network: slot" in message
    assert "1 there more than once: a" in message
    assert "1 of another shape: c is 1x1x5x4, expected 1x1x4x5" in message


def test_one_tensor_cannot_fill_two_places():
    expected = {"a": (3,), "b": (3,)}
    with pytest.raises(MissingTensor, match="1 there more than once: x"):
        match(expected, [Claim("x", "a"), Claim("x", "b")], {"x": (3,)}, "f")


def test_long_lists_are_cut():
    with pytest.raises(MissingTensor, match="9 not in the file: v0, v1, v2, v3, v4, v5 and 3 more"):
        match({f"v{i}": (1,) for i in range(9)}, [], {}, "f")


@pytest.mark.parametrize(
    ("layout", "shape", "stored"),
    [
        (Layout(), (3, 3, 4, 5), (3, 3, 4, 5)),
        (MATRIX, (1, 1, 4, 5), (4, 5)),
        (Layout((3, 2, 0, 1)), (1, 7, 4, 5), (5, 4, 1, 7)),
        (Layout((3, 2, 0, 1), matrix=True), (1, 1, 4, 5), (5, 4)),
        (Layout(), (5,), (5,)),
    ],
)
def test_every_layout_has_an_exact_inverse(layout, shape, stored):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    there = layout.to_file(array)
    assert there.shape == layout.file_shape(shape) == stored
    np.testing.assert_array_equal(layout.from_file(there, shape), array)


def test_a_transposed_kernel_is_laid_out_as_torch_has_it():
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    there = Layout((3, 2, 0, 1)).to_file(array)
    assert there[4, 3, 1, 2] == array[1, 2, 3, 4]
