"""Finding out what a file is, and where it cannot go."""

import os
import pwd
import threading

import pytest
from made import NARROW, random_weights

from inception import load_weights
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsupportedFeature, formats, plan, published


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="none.h5 does not exist; give the path of a weight file"):
        load_weights(tmp_path / "none.h5")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 4096])
def test_a_file_of_no_format(tmp_path, content):
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.h5"):
        load_weights(tmp_path / "x.h5")


def test_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder without a weight file of its own: it holds no checkpoint"):
        load_weights(tmp_path)


def test_targets_that_cannot_be_written(tmp_path):
    weights = random_weights(NARROW)
    with pytest.raises(UnsupportedFeature, match=r"x\.bin has no ending that names a format; expected one of \.h5"):
        weights.save(tmp_path / "x.bin")
    with pytest.raises(UnsupportedFeature, match="Unknown format 'caffe'"):
        weights.save(tmp_path / "x.h5", format="caffe")
    with pytest.raises(CheckpointError, match="none does not exist; make it first"):
        weights.save(tmp_path / "none" / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_scopes_are_left_out_on_request(tmp_path):
    random_weights(NARROW).save(tmp_path / "x.ckpt")
    assert load_weights(tmp_path / "x.ckpt", exclude=["Logits"]).variant.num_classes == 0


def test_moving_averages_of_a_file_that_has_none(tmp_path):
    random_weights(NARROW).save(tmp_path / "x.h5")
    with pytest.raises(CheckpointError, match="no moving averages"):
        load_weights(tmp_path / "x.h5", moving_averages=True)


# ---- one file, one version of it


ENDINGS = (".npz", ".h5", ".weights.h5", ".safetensors", ".keras", ".pb", ".v1.ckpt")


@pytest.fixture(params=ENDINGS)
def two(tmp_path, request):
    """A file, and another one of the same size and format."""
    paths = tmp_path / f"x{request.param}", tmp_path / f"other{request.param}"
    for seed, path in enumerate(paths):
        random_weights(NARROW, seed).save(path)
        path.with_name(f"{path.name}.sha256").unlink(missing_ok=True)  # a graph's, which would refuse the other one too
    return paths


pytestmark = [
    pytest.mark.filterwarnings(f"ignore::inception.weights.{name}")
    for name in ("canonical.UnverifiedFile", "canonical.OtherRules")
]


def test_a_file_replaced_after_its_digest_was_taken_is_refused(two, monkeypatch):
    path, other = two
    recognise, module, replaced = published.recognise, formats.recognise(os.fspath(path)), threading.Event()
    read = module.read
    monkeypatch.setattr(
        published, "recognise", lambda place: (recognise(place), os.replace(other, path), replaced.set())[0]
    )
    monkeypatch.setattr(module, "read", lambda place: read(place) if replaced.wait(60) else None)
    with pytest.raises(CorruptFile, match="was changed while it was being read"):
        load_weights(path)
    monkeypatch.undo()
    load_weights(path)


def test_a_file_replaced_while_it_is_read_and_put_back_is_refused(two, monkeypatch):
    path, other = two
    module = formats.recognise(os.fspath(path))

    def read(place, read=module.read):
        os.rename(path, f"{path}.aside")
        os.rename(other, path)
        try:
            return read(place)
        finally:
            os.rename(path, other)
            os.rename(f"{path}.aside", path)

    monkeypatch.setattr(module, "read", read)
    with pytest.raises(CorruptFile, match="was changed while it was being read"):
        load_weights(path)


# ---- a machine that lacks something


def test_no_memory_is_one_sentence(two, monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(plan, "load", none_left)
    with pytest.raises(ResourceLimit, match=r"x\..*: there is not enough memory to read it"):
        load_weights(two[0])


def test_a_user_without_a_home(tmp_path, monkeypatch):
    """As in a container that runs under a number which no user has."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "KERAS_HOME", "XDG_CACHE_HOME", "INCEPTION_WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    assert published.cached(published.find("imagenet")) is None
    with pytest.raises(CheckpointError, match=r"no home folder. Set KERAS_HOME or INCEPTION_WEIGHTS_DIR"):
        load_weights("imagenet")
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", "~/weights")
    assert published.cached(published.find("imagenet")) is None
    assert list(tmp_path.iterdir()) == []
