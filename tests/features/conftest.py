"""Small pictures and a tiny network for the tests of extraction."""

import pytest
from made import random_weights, thirty_pictures

from inception import features
from inception.variants import Variant

TINY = Variant(num_classes=5, depth_multiplier=0.02, min_depth=3)


@pytest.fixture(scope="session")
def weights():
    return random_weights(TINY)


@pytest.fixture
def folder(tmp_path):
    return thirty_pictures(tmp_path / "pictures")


@pytest.fixture
def extract(weights):
    """`features.extract`, small and quick."""

    def run(source, out, network=weights, **options):
        options = {"size": 75, "engine": "onnxruntime", "shard_rows": 8} | options
        return features.extract(source, out, network, **options)

    return run
