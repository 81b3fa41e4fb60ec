"""Fixtures for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("COLUMNS", None)  # of the terminal that starts the tests: verbs here write into pipes

REPOSITORY = Path(__file__).resolve().parents[1]
REAL = REPOSITORY.parent / "shared" / "real_weights" / "write_keras_h5.py"


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def sample() -> Path:
    """The embedded, trained, narrow network."""
    return REPOSITORY / "checkpoints" / "sample.h5"


@pytest.fixture(scope="session")
def real_h5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real, trained InceptionV3 weights in the published notop layout, where the folder with them is there."""
    if not REAL.exists():
        pytest.skip("the real weights are not beside this checkout")
    target = tmp_path_factory.mktemp("real") / "real.h5"
    subprocess.run([sys.executable, str(REAL), str(target)], check=True)
    return target
