"""Counts and sizes: every integer kind is taken, everything else is a sentence that names the argument."""

import numpy as np
import pytest

from inception import arguments


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), np.array(3)])
def test_every_integer_kind_is_a_count(value):
    found = arguments.count("batch", value)
    assert found == 3 and type(found) is int
    assert arguments.count_or_none("batch", value) == 3 and arguments.count_or_none("batch", None) is None


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (0, "batch is 0; expected at least 1."),
        (-2, "batch is -2; expected at least 1."),
        (True, "batch is True; expected at least 1."),
        (2.0, "batch is 2.0; expected a whole number, at least 1."),
        ("2", "batch is '2'; expected a whole number, at least 1."),
        (None, "batch is None; expected a whole number"),
    ],
)
def test_no_counts(value, sentence):
    with pytest.raises(ValueError) as caught:
        arguments.count("batch", value)
    assert str(caught.value).startswith(sentence)


def test_the_least_is_the_callers():
    assert arguments.count("seed", 0, 0) == 0
    with pytest.raises(ValueError, match="seed is -1; expected at least 0"):
        arguments.count("seed", -1, 0)


@pytest.mark.parametrize("value", [(75, 80), [75, 80], np.array([75, 80]), (np.int32(75), 80)])
def test_every_pair_is_two_sides(value):
    assert arguments.sides("image_size", value) == (75, 80)


def test_one_side_is_a_square_and_none_is_any():
    assert arguments.sides("image_size", np.int64(75)) == (75, 75)
    assert arguments.sides("image_size", None) is None


@pytest.mark.parametrize("value", ["75", (75,), (75, 80, 3), (75, 0), 0, 7.5])
def test_no_sides(value):
    with pytest.raises(ValueError, match="^image_size is "):
        arguments.sides("image_size", value)


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("prelogit", "PreLogits"), ("Mixed_5a", "Mixed_5b"), ("mixed_7C", "Mixed_7c"), ("nothing", ""), ("", ""),
        ("PreLogits" * 10_000, ""), (None, ""),
    ],
)  # fmt: skip
def test_the_nearest_word(word, nearest):
    said = arguments.nearest(word, ["Mixed_5b", "Mixed_7a", "Mixed_7c", "PreLogits"])
    assert said == (f" (did you mean {nearest}?)" if nearest else "")


def test_a_word_that_is_none_is_said_with_the_known_ones():
    assert arguments.chosen("--pool", "avg", ["avg", "max"]) == "avg"
    with pytest.raises(ValueError, match=r"^--pool is 'agv' \(did you mean avg\?\); expected one of avg, max\.$"):
        arguments.chosen("--pool", "agv", ["avg", "max"])
    with pytest.raises(ValueError, match=r"expected one of 0, 1, .*, \.\.\., .*, 99\.$"):
        arguments.chosen("--x", "z", map(str, range(100)))
