"""Files of statistics: those of every program are read, ours are read by theirs, and nothing runs that a file says."""

import dataclasses
import json
import os
import pickle
import random
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from damage import assert_refused
from metrics.statistics_made import COUNT, COVARIANCE, EDM2, FAMILIES, MEAN, ROWS, WIDTH, hostile

from inception.files.errors import CheckpointError, MissingTensor
from inception.metrics import references, statistics_files
from inception.metrics.statistics import Made, Statistics
from inception.metrics.statistics_files import load, read, write

RECORD = Made({"name": "clean", "ddof": 1}, "ab" * 32, {"resize": "clean", "sides": (299, 299)}, "PreLogits", "0.1.0")
OURS = Statistics(MEAN, COVARIANCE, COUNT, 1, RECORD, "features")
ATTACKS = list(hostile(Path("canary")))


def put(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


def told(content):
    """All that a file says, to the bit."""
    parts = {
        part: (s.mean.tobytes(), s.covariance.tobytes(), s.count, s.ddof, s.made) for part, s in content.parts.items()
    }
    more = [each.read().tobytes() if each else None for each in (content.features, content.pictures)]
    return parts, more


def same(found, count=None, ddof=None, mean=MEAN):
    np.testing.assert_allclose(found.covariance, COVARIANCE, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-15)
    assert (found.count, found.ddof, found.made) == (count, ddof, Made())
    assert found.mean.dtype == found.covariance.dtype == np.float64
    [note] = found.notes
    assert "does not say its protocol, weights, way of a picture or tap" in note and ("count" in note) == (not count)


# ---- every family


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read(family, tmp_path):
    path = put(tmp_path, *FAMILIES[family])
    content = read(path)
    single = family in ("clean-fid", "torch-fidelity")
    if "kid" in family or "features" in family:
        assert content.parts == {} and np.array_equal(content.features.read(), ROWS)
        with pytest.raises(MissingTensor, match="holds features or pictures alone and no statistics called fid"):
            load(path)
    elif family == "stylegan":
        found = load(path)
        np.testing.assert_allclose(found.covariance, np.cov(ROWS.T.astype(np.float64), ddof=0), rtol=1e-12)
        assert (found.count, found.ddof) == (COUNT, 0)
    elif "2" in family or "numpy" in family:
        same(load(path), COUNT, 1)
        assert list(content.parts) == ["fid", "fd_dinov2"] and content.parts["fd_dinov2"].made.tap == "fd_dinov2"
        assert np.array_equal(load(path, "fd_dinov2").mean, MEAN[:3])
    else:
        same(load(path), mean=ROWS.mean(axis=0).astype(np.float64) if single else MEAN)
    if family == "adm":
        assert content.pictures.shape == (3, 8, 8, 3) and content.parts["spatial"].made.tap == "spatial"
        assert np.array_equal(content.parts["spatial"].covariance, COVARIANCE[:4, :4])


def test_arrays_of_any_order_and_type_in_pickles(tmp_path):
    for change in (np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a.astype("f4"), lambda a: a[::1]):
        for protocol in (2, 3, 4, 5):
            path = put(tmp_path, "x.pkl", pickle.dumps({"mu": change(MEAN), "sigma": change(COVARIANCE)}, protocol))
            assert np.array_equal(load(path).covariance, change(COVARIANCE).astype(np.float64))
    many = EDM2 | {"num_images": np.int64(COUNT)}
    assert load(put(tmp_path, "x.pkl", pickle.dumps(many))).count == COUNT


# ---- ours


def test_there_and_back_with_the_whole_record(tmp_path):
    made = dataclasses.replace(RECORD, tap="spatial")
    spatial = dataclasses.replace(OURS, mean=MEAN[:4], covariance=COVARIANCE[:4, :4], made=made)
    write(tmp_path / "x.npz", OURS, spatial=spatial)
    back = read(tmp_path / "x.npz")
    for part, sent in (("fid", OURS), ("spatial", spatial)):
        found = back.parts[part]
        assert np.array_equal(found.mean, sent.mean) and np.array_equal(found.covariance, sent.covariance)
        assert (found.count, found.ddof, found.made, found.notes) == (COUNT, 1, sent.made, ())
    with np.load(tmp_path / "x.npz") as arrays:  # what ADM's evaluator asks for
        assert [arrays[name].dtype for name in ("mu", "sigma", "mu_s", "sigma_s")] == [np.float64] * 4
        assert json.loads(str(arrays["inception_statistics"]))["fid"]["protocol"] == {"name": "clean", "ddof": 1}


def test_the_same_statistics_are_the_same_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        write(tmp_path / name, OURS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_is_overwritten_unasked_nor_half_written(tmp_path):
    path = put(tmp_path, "x.npz", b"mine")
    with pytest.raises(ValueError, match="is there already"):
        write(path, OURS)
    for wrong in ({"mean": MEAN[:3]}, {"covariance": COVARIANCE * np.nan}, {"covariance": -COVARIANCE}):
        with pytest.raises(ValueError, match="the features: its"):
            write(path, dataclasses.replace(OURS, source="the features", **wrong), overwrite=True)
    with pytest.raises(ValueError, match=r"written as \.npz"):
        write(tmp_path / "x.npy", OURS)
    assert path.read_bytes() == b"mine" and os.listdir(tmp_path) == ["x.npz"]
    write(path, OURS, overwrite=True)
    assert load(path).count == COUNT


def test_pytorch_fid_and_clean_fid_read_ours(tmp_path, monkeypatch):
    fid_score = pytest.importorskip("pytorch_fid.fid_score")
    cleanfid = pytest.importorskip("cleanfid.features")
    place = tmp_path / "stats" / "mine_clean_custom_na.npz"
    place.parent.mkdir()
    write(place, OURS)
    monkeypatch.setattr(cleanfid.cleanfid, "__file__", str(tmp_path / "x.py"))
    for mean, covariance in (
        fid_score.compute_statistics_of_path(str(place), None, 1, WIDTH, "cpu"),
        cleanfid.get_reference_statistics("mine", "na", split="custom"),
    ):
        assert np.array_equal(mean, MEAN) and np.array_equal(covariance, COVARIANCE)


def test_what_pytorch_fid_and_clean_fid_write_is_read(tmp_path, monkeypatch):
    """By their own functions, of features that no network need compute."""
    fid_score, cleanfid = pytest.importorskip("pytorch_fid.fid_score"), pytest.importorskip("cleanfid.fid")
    monkeypatch.setattr(fid_score, "InceptionV3", MagicMock())
    monkeypatch.setattr(fid_score, "get_activations", lambda *_: ROWS.astype(np.float64))
    fid_score.save_fid_stats([str(tmp_path), str(tmp_path / "x.npz")], 1, "cpu", 2048)
    same(load(tmp_path / "x.npz"))
    monkeypatch.setattr(cleanfid.cleanfid, "__file__", str(tmp_path / "x.py"))
    for name, value in (("build_feature_extractor", None), ("get_folder_features", ROWS)):
        monkeypatch.setattr(cleanfid, name, lambda *_, value=value, **__: value)
    cleanfid.make_custom_stats("mine", str(tmp_path), device="cpu")
    same(load(tmp_path / "stats" / "mine_clean_custom_na.npz"), mean=ROWS.mean(axis=0).astype(np.float64))
    kept = read(tmp_path / "stats" / "mine_clean_custom_na_kid.npz").features
    assert np.array_equal(kept.read(), ROWS)


def test_torch_fidelitys_own_cache_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    metric, utils = pytest.importorskip("torch_fidelity.metric_fid"), pytest.importorskip("torch_fidelity.utils")
    expected = metric.fid_features_to_statistics(torch.from_numpy(ROWS))
    utils.cache_lookup_one_recompute_on_miss("x", lambda: expected, cache=True, cache_root=str(tmp_path), verbose=False)
    same(load(tmp_path / "x.pt"), mean=expected["mu"].astype(np.float64))
    torch.save({name: torch.from_numpy(value) for name, value in expected.items()}, tmp_path / "tensors.pt")
    same(load(tmp_path / "tensors.pt"), mean=expected["mu"].astype(np.float64))


def test_features_may_be_larger_than_arrays_of_weights_and_moments_not(tmp_path, monkeypatch):
    assert statistics_files.MOST_FEATURES > 4 * 50_000 * 2048
    monkeypatch.setattr(statistics_files, "MOST_FEATURES", 100)
    monkeypatch.setattr(statistics_files, "LARGEST", 8 * WIDTH**2 - 1)
    with pytest.raises(CheckpointError, match="expected 100 at most"):
        read(put(tmp_path, *FAMILIES["clean-fid kid"])).features.read()
    with pytest.raises(CheckpointError, match=r"a covariance of \[6, 6\]"):
        read(put(tmp_path, *FAMILIES["clean-fid"]))


# ---- damage and attacks


@pytest.mark.parametrize("family", [*FAMILIES, "ours"])
def test_five_hundred_damaged_copies(family, tmp_path):
    """Checksums find all damage of npz and torch files; a pickle has none, and may have other values alone."""
    write(tmp_path / "ours.npz", OURS)
    name, content = FAMILIES.get(family, ("ours.npz", (tmp_path / "ours.npz").read_bytes()))
    path, chance = put(tmp_path, name, content), random.Random(family)
    truth, refused = told(read(path)), 0
    for _ in range(500):
        at = chance.randrange(len(content))
        wrong = chance.choice((
            content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :],
            content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :],
            content[:at],
            content[:at] + bytes(min(16, len(content) - at)) + content[at + 16 :],
        ))  # fmt: skip
        path.write_bytes(wrong)
        try:
            found = read(path)
            for part in found.parts.values():
                assert part.covariance.shape == (len(part.mean),) * 2 and np.isfinite(part.covariance).all()
            assert told(found) == truth or name.endswith(".pkl")
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
    assert refused > 100


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_are_one_sentence_and_nothing_runs(attack, tmp_path):
    canary = tmp_path / "canary"
    path = put(tmp_path, *hostile(canary)[attack])
    before = "writes bytes in an unknown way" if "again" in attack else ""  # before the memory is taken
    assert_refused(lambda: read(path), CheckpointError, rf"x\.(npz|pkl|pt|zip).*{before}", seconds=3)
    assert os.listdir(tmp_path) == [path.name]


def test_the_attacks_are_attacks(tmp_path):
    """Python's own reader runs them: else the test above would show nothing."""
    for attack in ("os.system", "eval", "subprocess"):
        pickle.loads(hostile(tmp_path / attack)[attack][1])
        assert (tmp_path / attack).exists()
    assert len(ATTACKS) >= 30


# ---- published files


def test_published_files_are_named_and_not_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path))
    ids = [known.id for known in references.REFERENCES]
    assert len(set(ids)) == len(ids) == len({known.url for known in references.REFERENCES})
    known = references.find("clean-ffhq-trainval70k-256")
    assert known.file == "ffhq_clean_trainval70k_256.npz"
    with pytest.raises(MissingTensor, match=f"fetch {known.url} and put it at {tmp_path / known.file}"):
        references.located(known)
    write(tmp_path / known.file, OURS)
    assert statistics_files.load(references.located(known)).count == COUNT
    assert references.find("nothing") is None
