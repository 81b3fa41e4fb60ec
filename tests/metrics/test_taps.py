"""The features of a protocol against the tools' own network with the same random weights in the shape of 2015."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from made import noise, random_weights
from PIL import Image

from inception import features
from inception.metrics import protocols, taps
from inception.metrics.protocols import PROTOCOLS
from inception.variants import GOOGLE_2015
from inception.weights.formats import save

SIZES = [(32, 32), (64, 64), (256, 256), (299, 299), (150, 90)]


@pytest.fixture(scope="module")
def weights():
    return random_weights(GOOGLE_2015)


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    pytest.importorskip("torch")
    return save(weights, tmp_path_factory.mktemp("weights") / "pt_inception.pth")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, size in enumerate(SIZES):
        Image.fromarray(noise(*size, 3, seed=i)).save(folder / f"{i}.png")
    return folder


def relative(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def test_features_are_pytorch_fid_s(file, pictures, tmp_path, monkeypatch):
    torch, tool = pytest.importorskip("torch"), pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(tool, "load_state_dict_from_url", lambda *_, **__: torch.load(file))
    network = tool.InceptionV3([0, 1, 2, 3]).eval()
    ends = tuple(protocols.WIDTHS.values())
    features.extract(pictures, tmp_path / "out", file, picture=PROTOCOLS["pytorch-fid"].picture, end_points=ends)
    found = features.load(tmp_path / "out").arrays
    for i, size in enumerate(SIZES):
        planes = torch.from_numpy(noise(*size, 3, seed=i).transpose(2, 0, 1).copy())[None].float() / 255
        for name, map in zip(ends, network(planes), strict=True):
            theirs = map.mean((2, 3))[0].numpy()
            assert found[name][i].shape == theirs.shape and relative(found[name][i], theirs) < 1e-5


def test_features_logits_and_spatial_values_are_torch_fidelity_s(file, weights, pictures, tmp_path):
    torch, tool = pytest.importorskip("torch"), pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    made = tool.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file))
    maps = []
    made.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, map: maps.append(map))
    ends = (protocols.FEATURES, protocols.SPATIAL)
    features.extract(pictures, tmp_path / "out", file, picture=PROTOCOLS["adm"].picture, end_points=ends)
    found = features.load(tmp_path / "out")
    spatial = taps.spatial(found.arrays[protocols.SPATIAL])
    assert spatial.shape == (len(SIZES), 2023)
    for i, size in enumerate(SIZES):
        pooled, logits = made(torch.from_numpy(noise(*size, 3, seed=i).transpose(2, 0, 1).copy())[None])
        assert relative(found.arrays[protocols.FEATURES][i], pooled[0].numpy()) < 1e-5
        assert relative(taps.logits(found.arrays[protocols.FEATURES], weights)[i], logits[0].numpy()) < 1e-5
        theirs = maps[-1][0, :7].permute(1, 2, 0).numpy().ravel()  # y, x, channel: ADM's order
        assert relative(spatial[i], theirs) < 1e-5


def test_logits_have_no_bias(weights):
    pooled = np.random.default_rng(0).random((3, 2048), np.float32)
    found = taps.logits(pooled, weights)
    assert found.shape == (3, 1008) and found.dtype == np.float32
    kernel = weights.arrays["InceptionV3/Logits/Conv2d_1c_1x1/weights"].reshape(2048, 1008)
    np.testing.assert_allclose(found, pooled.astype(float) @ kernel, rtol=0, atol=1e-4)


def test_the_network_of_2015_by_its_table():
    """In NVIDIA's container its gammas, which are 1, are left out."""
    for change, same in (
        ({}, True),
        ({"gamma": False}, True),
        ({"last_pool": "avg"}, False),
        ({"num_classes": 5}, False),
    ):
        variant = dataclasses.replace(GOOGLE_2015, **change)
        assert taps.is_2015(json.loads(json.dumps(dataclasses.asdict(variant)))) == same


def test_every_protocol_has_its_tools_features(repository, tmp_path):
    """By `tools/metrics_parity.py`, whose figure stands in the manual, of one picture a side at each size."""
    for package in ("cleanfid", "pytorch_fid", "torch_fidelity", "torchmetrics"):
        pytest.importorskip(package)
    command = [sys.executable, repository / "tools/metrics_parity.py", "--pictures", "1", "--rows", "0"]
    run = subprocess.run([*command, "--out", tmp_path / "parity.md"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "parity.md").read_text().splitlines()[2:]]
    assert {name.strip("*") for name, *_ in rows} == set(PROTOCOLS)
    assert max(float(apart) for _, _, *six in rows for apart in six) < 1e-5
