"""A folder per class: what is found, how it is split, what it weighs."""

import numpy as np
import pytest

from inception.training import folders


@pytest.fixture
def animals(tmp_path):
    for name, count in (("cat", 8), ("dog", 3), ("owl", 2)):
        (tmp_path / name / "more").mkdir(parents=True)
        for i in range(count):
            (tmp_path / name / ("more" if i == 0 else "") / f"{i}.JPG").write_bytes(b"x" * (i + 1))
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    (tmp_path / "cat" / ".hidden.jpg").write_text("no picture")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_classes_are_folders_and_pictures_what_ends_like_one(animals):
    found = folders.read(animals)
    assert found.classes == ("cat", "dog", "owl")
    assert np.bincount(found.labels).tolist() == [8, 3, 2]
    assert all(path.endswith(".JPG") and f"/{found.classes[label]}/" in path
               for path, label in zip(found.paths, found.labels, strict=True))  # fmt: skip


def test_split_holds_out_a_part_of_every_class_and_is_repeatable(animals):
    found = folders.read(animals)
    training, held_out = folders.split(found, 0.25, seed=3)
    assert sorted(training.paths + held_out.paths) == sorted(found.paths)
    assert np.bincount(held_out.labels).tolist() == [2, 1, 1]
    assert folders.split(found, 0.25, seed=3)[1].paths == held_out.paths
    assert any(folders.split(found, 0.25, seed=i)[1].paths != held_out.paths for i in range(4, 8))


def test_class_weights_make_classes_count_alike(animals):
    found = folders.read(animals)
    balanced = folders.weights_of_classes(found, "balanced")
    assert [balanced[i] * count for i, count in enumerate((8, 3, 2))] == pytest.approx([13 / 3] * 3)
    assert folders.weights_of_classes(found, {"dog": 2}) == {0: 1.0, 1: 2.0, 2: 1.0}
    for wrong in ("equal", {"cow": 1.0}):
        with pytest.raises(ValueError, match='expected "balanced", or a weight for some of cat, dog, owl'):
            folders.weights_of_classes(found, wrong)


def test_another_set_has_another_digest(animals):
    before = folders.read(animals).digest
    assert folders.read(animals).digest == before
    (animals / "dog" / "1.JPG").write_bytes(b"another")
    assert folders.read(animals).digest != before


def test_folders_that_do_not_fit(animals, tmp_path):
    with pytest.raises(ValueError, match="is no folder"):
        folders.read(tmp_path / "missing")
    with pytest.raises(ValueError, match="has no folders in it"):
        folders.read(animals / "dog" / "more")
    with pytest.raises(ValueError, match="has the class 'dog', which the network has not; it has cat, owl"):
        folders.read(animals, ["cat", "owl"])
    for fraction in (0, 1, -1):
        with pytest.raises(ValueError, match="expected a number between 0 and 1, or a folder"):
            folders.split(folders.read(animals), fraction, 0)
    (animals / "owl" / "1.JPG").unlink()
    with pytest.raises(ValueError, match="The class 'owl' has 1 pictures that can be read; expected at least 2"):
        folders.split(folders.read(animals), 0.5, 0)
    (animals / "emu").mkdir()
    with pytest.raises(ValueError, match="The class 'emu' in .* has no pictures"):
        folders.read(animals)
