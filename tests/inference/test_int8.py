"""How far int8 agrees, and on which images that is measured; without quantizing anything."""

import numpy as np
import pytest
from made import NARROW, NARROW_NOTOP, random_weights

from inception.inference import int8
from inception.inference import plan as plans


def network(*rows, classes=True):
    """A network that answers its images by number: features, and a class where they are largest."""
    return lambda image: (
        {"PreLogits": np.float32(rows[int(image.max())])[None]}
        | ({"Predictions": np.float32(rows[int(image.max())])[None]} if classes else {})
    )


IMAGES = [np.full((1, 1, 3), i, np.float32) for i in range(4)]


def test_every_fifth_image_is_held_out_and_no_other():
    calibration, held_out = int8.parts(list(range(23)))
    assert held_out == [4, 9, 14, 19] and sorted(calibration + held_out) == list(range(23))
    with pytest.raises(ValueError, match="There are 9 calibration images; expected 10 at least"):
        int8.parts(range(9))


def test_agreement_counts_best_classes_and_angles():
    full = network([3, 4], [1, 0], [0, 2], [5, 0])
    eight = network([6, 8], [0, 1], [0, 1], [3, 4])
    found = int8.agreement(full, eight, IMAGES)
    assert (found.images, found.top1) == (4, 0.5) and not found.enough and found.share == 0.5
    np.testing.assert_allclose((found.cosine, found.lowest_cosine), ((1 + 0 + 1 + 0.6) / 4, 0), atol=1e-7)
    assert "same best class as float32 for 50.0%" in str(found) and "less than the 99% that is expected" in str(found)


def test_without_classes_the_mean_cosine_counts():
    same = network([3, 4], [1, 0], [0, 2], [5, 0], classes=False)
    found = int8.agreement(same, same, IMAGES)
    assert found.top1 is None and found.enough and found.share == found.cosine == pytest.approx(1)
    assert "best class" not in str(found) and "less than" not in str(found)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_disagree(bad):
    full, eight = network([0, 1], [0, 1]), network([0, 1], [bad, 1])
    found = int8.agreement(full, eight, IMAGES[:2])
    assert (found.top1, found.cosine, found.lowest_cosine) == (0.5, 0.5, 0)
    assert int8.agreement(eight, full, IMAGES[1:2]).share == 0
    assert int8.agreement(network([0, 0]), network([0, 0]), IMAGES[:1]).cosine == 0


@pytest.mark.parametrize(
    ("variant", "points", "measured"),
    [
        (NARROW, ("Logits",), ("Logits", "PreLogits", "Predictions")),
        (NARROW, ("Predictions",), ("Predictions", "PreLogits")),
        (NARROW_NOTOP, ("Mixed_5b",), ("Mixed_5b", "PreLogits")),
    ],
)
def test_what_is_measured_is_computed_besides_what_was_asked_for(variant, points, measured):
    weights = random_weights(variant)
    assert int8.measuring(weights, plans.plan(weights, points)).end_points == measured
