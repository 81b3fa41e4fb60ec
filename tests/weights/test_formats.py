"""Finding out what a file is, and where it cannot go."""

import pytest
from made import NARROW, random_weights

from inception import load_weights
from inception.weights import CheckpointError, UnsupportedFeature


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="none.h5 does not exist; give the path of a weight file"):
        load_weights(tmp_path / "none.h5")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 4096])
def test_a_file_of_no_format(tmp_path, content):
    (tmp_path / "x.h5").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.h5"):
        load_weights(tmp_path / "x.h5")


def test_a_folder_without_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
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
