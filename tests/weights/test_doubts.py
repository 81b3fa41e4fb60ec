"""Numbers that no trained network has are named; trained networks raise no doubt."""

import warnings

import numpy as np
import pytest
from made import NARROW, random_weights

from inception import load_weights
from inception.weights.canonical import DoubtfulWeights, UnverifiedFile, doubts

NAMES = [name for name in NARROW.shapes() if name.endswith(("/weights", "/moving_variance"))]


@pytest.mark.parametrize("seed", range(30))
def test_every_seeded_fault_is_named(seed):
    rng = np.random.default_rng(seed)
    arrays = dict(random_weights(NARROW).arrays)
    fault = ("nan", "inf", "negative", "zeros")[seed % 4]
    name = str(rng.choice([n for n in NAMES if n.endswith("/moving_variance" if fault == "negative" else "/weights")]))
    array = arrays[name].copy()
    if fault == "zeros":
        array[:] = 0
    else:
        array.flat[rng.integers(array.size)] = {"nan": np.nan, "inf": -np.inf, "negative": -1e-6}[fault]
    arrays[name] = array
    [sentence] = doubts(arrays)
    assert sentence.startswith(name)


def test_loading_warns_and_keeps_the_doubt_as_a_note(tmp_path):
    weights = random_weights(NARROW)
    weights.arrays["InceptionV3/Conv2d_1a_3x3/weights"][0, 0, 0, 0] = np.nan
    weights.save(tmp_path / "x.ckpt")
    with pytest.warns(DoubtfulWeights, match="Conv2d_1a_3x3/weights has 1 values that are not finite"):
        loaded = load_weights(tmp_path / "x.ckpt")
    assert "not finite" in loaded.source.notes[-1]


def test_the_sample_and_real_weights_raise_no_doubt(sample, real_h5):
    for path in (sample, real_h5):
        assert list(doubts(load_weights(path).arrays)) == []


def test_a_file_without_checksums_is_warned_of_and_one_with_is_not(real_h5, sample):
    with pytest.warns(UnverifiedFile, match="has no checksums"):
        load_weights(real_h5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_weights(sample)
