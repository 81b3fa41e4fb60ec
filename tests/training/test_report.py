"""The pictures of a training: what is marked in them, and what they say."""

import numpy as np
import pytest
from PIL import Image

import inception
from inception.pictures import NAMED
from inception.training import report
from inception.training.evaluation import Evaluation
from inception.training.folders import Pictures
from inception.training.loop import Epoch

STAGES = ("classifier", "classifier", "blocks")
NAN = float("nan")


@pytest.fixture
def drawn(monkeypatch):
    """The figures, in the order that they are saved in."""
    figures, save = [], report._save
    monkeypatch.setattr(report, "_save", lambda figure, *more: (figures.append(figure), save(figure, *more)))
    return figures


@pytest.mark.parametrize(("losses", "best"), [((3, 1, 2), 2), ((3, 1, 0.5), 3), ((NAN, 2, 3), 2), ((NAN, NAN, NAN), 1)])
def test_the_best_epoch_is_marked_and_the_legend_hides_no_curve(losses, best, drawn, tmp_path):
    history = [Epoch(stage, 1, 0.1, 1.0, 0.5, loss, loss / 9) for stage, loss in zip(STAGES, losses, strict=True)]
    report.curves(history, tmp_path / "curves.png", "/home/me/weights.h5")
    [figure] = drawn
    for axes, name in zip(figure.axes, ("val_loss", "val_accuracy"), strict=True):
        [star] = [line for line in axes.lines if line.get_marker() == "*"]
        np.testing.assert_array_equal(star.get_xydata(), [[best, getattr(history[best - 1], name)]])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["training", "validation", f"the best, epoch {best}"]
    assert legend.get_window_extent().x0 >= figure.axes[1].get_window_extent().x1
    with Image.open(tmp_path / "curves.png") as picture:
        assert picture.text["Title"] == "Training of 3 epochs" and picture.text["Source"] == "weights.h5"
        assert picture.text["Software"] == f"inception {inception.__version__}"


def test_the_most_wrong_say_what_was_said_and_what_is(drawn, tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for path in paths:
        Image.new("RGB", (20, 30)).save(path)
    names = (*"0123456", "a class of many letters and words", "8", "9")
    scores = np.zeros((2, 10))
    scores[0, [8, 1, 2]], scores[1, [7, 3]] = (0.37, 0.33, 0.3), (0.6, 0.4)
    found = Evaluation(Pictures(tuple(paths), np.array([1, 3]), names), scores, NAMED["whole"])
    report.most_wrong(found, tmp_path / "wrong.png")
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles == ["said 8 (37 %), is 1", "said a class of many letters… (60 %),\nis 3"]
