"""A small part of `make torture`: every format, damaged at a few places, in processes of their own."""

import random

import pytest
import torture
import torture_sides
import torture_writers
from made import first


@pytest.mark.parametrize("name", list(torture.FORMATS))
def test_damage_is_refused_or_harmless(name):
    counts = torture.torture(name, cases=len(torture.KINDS), seed=1)
    assert torture.failures(name, counts) == {}
    assert counts["cut", "error"] == 1


@pytest.mark.parametrize("name", first(1, ["x.ckpt", "x.h5", "x.npz"]))
def test_killed_writers_leave_the_old_file_or_the_new(name):
    assert set(torture_writers.kills(name, 6, random.Random(1))) <= {"old", "new"}


@pytest.mark.parametrize("name", first(0, ["x.ckpt", "x.keras", "x.h5", "x.safetensors"]))
def test_a_full_disk_leaves_the_old_file(name):
    assert set(torture_writers.full_disk(name, 5)) == {"old"}


@pytest.mark.parametrize("name", first(2, ["x.npz", "x.ckpt", "x.pb"]))
def test_many_writers_of_one_target_all_succeed(name):
    assert set(torture_writers.crowd(name, 12)) <= {"old", "new", "exit 0"}


@pytest.mark.parametrize("name", list(torture_sides.FILES))
def test_a_damaged_side_file_is_one_sentence_or_passed_over(name):
    counts = torture_sides.torture(name, cases=60, seed=1)
    assert counts["taken"] + counts["refused"] == 60, counts
    assert counts["refused"] >= 10
