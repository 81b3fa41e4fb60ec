"""A folder per class: what is found, how it is split, what it weighs."""

import os

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


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), "2"])
def test_a_weight_is_a_number_of_0_or_more(animals, weight):
    with pytest.raises(ValueError, match="for 'dog'; expected a number, 0 or more"):
        folders.weights_of_classes(folders.read(animals), {"dog": weight})


def test_some_class_must_weigh_something(animals):
    with pytest.raises(ValueError, match="are 0 for every class"):
        folders.weights_of_classes(folders.read(animals), dict.fromkeys(("cat", "dog", "owl"), 0))


def made(root, **classes):
    """A folder a class, of files with the given contents."""
    for name, contents in classes.items():
        (root / name).mkdir()
        for i, content in enumerate(contents):
            (root / name / f"{i:02}.png").write_bytes(content.encode())
    return folders.read(root)


def test_equal_files_stay_on_one_side(tmp_path):
    found = made(tmp_path, a="ABCDEFGABCDEFG", b="HIJKLMNNNNNNNNN")
    for seed in range(20):
        training, held_out = folders.split(found, 0.25, seed)
        assert sorted(training.paths + held_out.paths) == sorted(found.paths)
        assert not folders.shared(held_out, training)
        assert np.bincount(held_out.labels).tolist() == [4, 4] and not folders.in_two_classes(found)


def test_equal_files_of_two_classes_stay_on_one_side_too(tmp_path):
    found = made(tmp_path, a="ABCDEFGH", b="ABIJ", c="AB")
    for seed in range(20):
        training, held_out = folders.split(found, 0.25, seed)
        assert not folders.shared(held_out, training) and {*training.labels} == {*held_out.labels} == {0, 1, 2}
    assert len(folders.in_two_classes(found)) == 4


def test_a_class_of_one_content_has_no_two_sides(tmp_path):
    found = made(tmp_path, a="AB", b="CCC")
    with pytest.raises(ValueError, match="'b' has 1 pictures that can be read and are not the same; expected at least"):
        folders.split(found, 0.5, 0)
    (tmp_path / "other").mkdir()
    triangle = made(tmp_path / "other", a="XY", b="YZ", c="ZX")
    with pytest.raises(ValueError, match="All pictures of the class 'c' are in other classes too"):
        folders.split(triangle, 0.5, 0)


def test_files_are_read_once_for_their_content(animals, monkeypatch):
    seen = []
    content = folders.content
    monkeypatch.setattr(folders, "content", lambda path: seen.append(path) or content(path))
    found = folders.read(animals)
    training, held_out = folders.split(found, 0.25, 0)
    folders.split(found.without(held_out.paths[:1]), 0.25, 0)
    assert folders.in_two_classes(training) and sorted(seen) == sorted(found.paths)


def test_a_sample_has_its_part_of_every_class(tmp_path):
    found = made(tmp_path, a=[f"a{i}" for i in range(30)], b=[f"b{i}" for i in range(60)], c=["c0", "c1", "c2"])
    some = found.sample(31, seed=0)
    assert np.abs(np.bincount(some.labels, minlength=3) - [10, 20, 1]).max() <= 1
    assert sorted(found.sample(99, seed=0).paths) == sorted(found.paths)
    assert found.sample(31, seed=1).paths != some.paths == found.sample(31, seed=0).paths


def test_another_set_has_another_digest(animals):
    before = folders.read(animals).digest
    assert folders.read(animals).digest == before
    (animals / "dog" / "1.JPG").write_bytes(b"yy")  # of the same size
    assert folders.read(animals).digest != before
    (animals / "dog" / "1.JPG").write_bytes(b"xx")
    assert folders.read(animals).digest == before
    os.mkfifo(animals / "dog" / "3.jpg")  # which nobody may open, as it would wait
    (animals / "dog" / "4.jpg").symlink_to("nowhere")
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
