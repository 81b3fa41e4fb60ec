"""Hundreds of hostile files against the readers of weights, statistics and pictures: nothing crashes, hangs, grows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    subprocess.run([sys.executable, HERE / "make.py", folder], check=True, capture_output=True)
    run = subprocess.run([sys.executable, HERE / "run.py", folder], check=True, capture_output=True, text=True)
    assert not list(folder.rglob("ran"))  # what the pickles would have written
    return json.loads(run.stdout)


def test_each_is_refused(rows):
    assert len(rows) > 300
    assert [row for row in rows if row[1] not in ("refused", "left alone")] == []


def test_none_takes_long_or_much(rows):
    assert [row for row in rows if row[2] > 5] == []
    assert [row for row in rows if row[3] > 800] == []
