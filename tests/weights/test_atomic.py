"""The target is the old file or the complete new one."""

import pytest

from inception.weights.atomic import replacing


def test_the_target_changes_only_at_the_end(tmp_path):
    target = tmp_path / "x[1].h5"
    target.write_text("old")
    with replacing(target) as [temporary]:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "x.h5"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(target) as [temporary]:
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / "x.h5.tmp-dead").write_text("half")
    (tmp_path / "y.h5.tmp-dead").write_text("another file's")
    with replacing(tmp_path / "x.h5") as [temporary]:
        temporary.write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.h5", "y.h5.tmp-dead"]
