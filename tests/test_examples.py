"""Every example runs as a user runs it, in its small size, and says what it promises."""

import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("_"))
# What each prints when it has done its work; an example that is not here has to end well.
SAYS = {
    "bottleneck_features": ["the 2015 way from picture google_2015", "the same, JPEGs decoded accurately", "the scale"],
    "edit_kernel": ["the same array, True", "InceptionV3/Conv2d_1a_3x3/weights differs"],
    "feature_extraction": ["a dense classifier on"],
    "finetune_in_five_steps": ["of the network are bit-equal", "held-out digits are right", "model.ckpt"],
    "train_slim_builder": ["auxiliary", "moving averages kept"],
    "vgg16": ["block5_pool: (40, 512)", "nothing changed: True"],
}
LONG = {"bottleneck_features", "finetune_in_five_steps", "train_slim_builder", "vgg16"}
RUNS = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.thorough] if path.stem in LONG else []) for path in EXAMPLES
]


@pytest.mark.parametrize("path", RUNS)
def test_example_runs(path, tmp_path, monkeypatch, capsys):
    """As `python examples/NAME.py` does, but with TensorFlow started once for all of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    for words in SAYS.get(path.stem, []):
        assert words in printed, printed[-3000:]
    assert not list(tmp_path.iterdir())  # it cleans up after itself
    assert path.read_text(encoding="utf-8").startswith('"""')
