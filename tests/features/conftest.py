"""Small pictures and a tiny network for the tests of extraction."""

import numpy as np
import pytest
from made import random_weights
from PIL import Image

from inception import features, images
from inception.variants import Variant

TINY = Variant(num_classes=5, depth_multiplier=0.02, min_depth=3)


@pytest.fixture(scope="session")
def weights():
    return random_weights(TINY)


@pytest.fixture
def folder(tmp_path):
    """30 JPEGs, each another, in two folders; number 11 is broken."""
    whole = images.test_picture(200)
    place = tmp_path / "pictures"
    for i in range(30):
        path = place / ("even", "odd")[i % 2] / f"{i:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(whole, 7 * i, 0)[: 80 + i, : 110 - i]).save(path)
    (place / "odd" / "11.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return place


@pytest.fixture
def extract(weights):
    """`features.extract`, small and quick."""

    def run(source, out, network=weights, **options):
        options = {"size": 75, "engine": "onnxruntime", "shard_rows": 8} | options
        return features.extract(source, out, network, **options)

    return run
