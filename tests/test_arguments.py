"""Counts and sizes: every integer kind is taken, everything else is a sentence that names the argument."""

import inspect
import warnings

import numpy as np
import pytest

from inception import arguments, visualize


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


def test_a_keyword_of_the_version_before_works_with_a_warning():
    @arguments.renamed(points="end_points")
    def seen(image, end_points=None):
        """What is seen."""
        return image, end_points

    with pytest.warns(DeprecationWarning, match=r"seen\(points=\) is end_points= now") as said:
        assert seen(1, points=["a"]) == (1, ["a"])
    assert said[0].filename == __file__  # the caller's line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert seen(1, ["a"]) == seen(1, end_points=["a"]) == (1, ["a"])
    with pytest.raises(TypeError, match="Both are given"):
        seen(1, points=["a"], end_points=["b"])
    assert list(inspect.signature(seen).parameters) == ["image", "end_points"] and seen.__doc__ == "What is seen."


@pytest.mark.parametrize(
    ("function", "old"),
    [("activations", "points"), ("report", "points"), ("gradcam", "point"), ("filters", "point")],
)
def test_the_tools_that_had_other_words_take_them(function, old, tmp_path):
    given = {"image": "none.png", "model": 1, "weights": 1, "folder": tmp_path / "new"}
    tool = getattr(visualize, function)
    needed = [name for name, each in inspect.signature(tool).parameters.items() if each.default is each.empty]
    with pytest.warns(DeprecationWarning, match=f"end_{old}= now"), pytest.raises(ValueError, match="network is a int"):
        tool(**{name: given[name] for name in needed if name in given}, **{old: "Mixed_5b"})
