"""A dataset a shard at a time, and the recipes of the manual that begin there."""

import re
from pathlib import Path

import numpy as np
import pytest

from inception import features
from inception.features import dataset
from inception.metrics import sides

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"


@pytest.fixture
def out(folder, extract, tmp_path):
    extract(folder, tmp_path / "out", shard_rows=8, end_points=["PreLogits", "Logits"])
    return tmp_path / "out"


def test_shards_together_are_what_load_gives(out):
    whole, parts = features.load(out), list(features.scan(out))
    assert [len(part) + len(part.errors) for part in parts] == [8, 8, 8, 6]
    assert [each for part in parts for each in part.paths] == whole.paths
    assert [each for part in parts for each in part.sha256] == whole.sha256
    assert [each for part in parts for each in part.errors] == whole.errors
    for name, values in whole.arrays.items():
        assert np.array_equal(np.concatenate([part.arrays[name] for part in parts]), values)


def test_a_shard_is_read_when_its_turn_comes(out):
    (out / "part-00002.parquet").write_bytes(b"torn")
    parts = features.scan(out)
    assert len(next(parts)) + len(next(parts)) in (15, 16)
    with pytest.raises(ValueError, match="part-00002.parquet is damaged"):
        next(parts)
    (out / "part-00003.parquet").unlink()
    with pytest.raises(ValueError, match="is not finished"):
        features.scan(out)


def test_a_side_reads_the_end_points_that_it_is_asked_for(out, monkeypatch):
    whole, read = features.load(out), []
    real = dataset.read
    monkeypatch.setattr(dataset, "read", lambda path, said: read.append(path.name) or real(path, said))
    side = sides.side_of(out)
    assert side.count == dataset.rows(out) == len(whole) == 29 and len(read) == 1  # one, for what it says
    pieces = side.pieces("Logits")
    assert np.array_equal(next(pieces), whole.arrays["Logits"][: 8 - len(next(features.scan(out)).errors)])
    assert len(read) == 3
    read.clear()
    for _ in range(2):
        assert np.array_equal(side.rows("PreLogits"), whole.arrays["PreLogits"])
    assert len(read) == 4
    with pytest.raises(ValueError, match="holds PreLogits, Logits; this metric needs Mixed_6e"):
        side.rows("Mixed_6e")


def test_the_recipe_for_torch(folder, extract, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    extract(folder, "features")
    [block] = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {"features": features}
    exec(block, names)
    rows = np.concatenate([batch.numpy() for batch in names["loader"]])
    assert np.array_equal(rows, features.load("features").arrays["PreLogits"])
