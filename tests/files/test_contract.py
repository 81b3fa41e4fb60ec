"""What every container of tensors promises: the same arrays there and back, and one of our sentences for the rest."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import time
import tracemalloc

import numpy as np
import pytest
from containers import CONTAINERS
from damage import damaged
from hypothesis import given, settings
from hypothesis import strategies as st

from inception.files.errors import CheckpointError, CorruptFile, UnsupportedFeature
from inception.files.regular import RegularFile

OURS = [name for name, container in CONTAINERS.items() if container.atomic]
CHECKED = [name for name, container in CONTAINERS.items() if container.checked]
NAMES = ["InceptionV3/Conv2d_1a_3x3/weights", "a b", "名é", "a'\"$%s{}", "n" * 200, "-1", "#", "A", "\N{PILE OF POO}"]


def container_of(name):
    if name == "torch":
        pytest.importorskip("torch")
    return CONTAINERS[name]


@pytest.fixture(params=CONTAINERS)
def container(request):
    return container_of(request.param)


@pytest.fixture(params=OURS)
def ours(request):
    return container_of(request.param)


@pytest.fixture(params=CHECKED)
def checked(request):
    return container_of(request.param)


def sample(container):
    """Numbers of every kind, shape and bit pattern that the container has."""
    rng = np.random.default_rng(3)
    odd_bits = rng.integers(0, 1 << 32, (5, 2), np.uint32).view("f4")
    odd_bits[0] = np.nan, -np.inf
    arrays = {
        "InceptionV3/Conv2d_1a_3x3/weights": rng.standard_normal((3, 3, 3, 4), np.float32),
        "InceptionV3/Conv2d_1a_3x3/BatchNorm/beta": odd_bits,
        "InceptionV3/Conv2d_1a_3x3/weights/ExponentialMovingAverage": rng.standard_normal((3, 1, 1, 4), np.float32),
        "beta1_power": np.asarray(0.9, np.float32),
        "double": rng.standard_normal(3),
        "empty": np.zeros((0, 3), np.float32),
        "global_step": np.asarray(-(1 << 40) - 7, np.int64),
        "zero": np.asarray(0, np.int64),
        "half": rng.standard_normal((2, 2)).astype(np.float16),
        "ints": np.asarray([1, -1, 2**31 - 1, -(2**31)], np.int32),
        "octets": np.frombuffer(rng.bytes(50), np.uint8),
        "no octets": np.zeros(0, np.uint8),
    }
    if container.slow:  # in HDF5 what holds an array holds no other
        del arrays["InceptionV3/Conv2d_1a_3x3/weights/ExponentialMovingAverage"]
    return {name: array for name, array in arrays.items() if container.takes(array)}


def small(container, seed=0):
    """A few numbers, so that every byte of their file can be tried."""
    rng = np.random.default_rng(seed)
    arrays = {"w": rng.standard_normal(6, np.float32).reshape(2, 3), "b/x": rng.standard_normal(3, np.float32)}
    if container.flat:
        return {name: np.frombuffer(array.tobytes(), np.uint8) for name, array in arrays.items()}
    return arrays


def expected(arrays):
    return {name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()}


def made(container, folder, arrays=None):
    path = folder / container.file
    container.write(path, small(container) if arrays is None else arrays)
    assert sorted(os.listdir(folder)) == sorted(container.files)
    return path


# ---- there and back


def test_what_is_written_is_read(container, tmp_path):
    arrays = sample(container)
    path = made(container, tmp_path, arrays)
    assert container.fingerprint(path) == expected(arrays)


def test_values_are_fresh_each_time(container, tmp_path):
    tensors = container.read(made(container, tmp_path))
    tensors["w"].read()[:] = 0
    assert tensors["w"].read().tobytes() == small(container)["w"].tobytes()


def test_a_file_of_nothing(container, tmp_path):
    if container.file == "x.pth":
        with pytest.raises(UnsupportedFeature, match="holds nothing and no state_dict"):
            container.read(made(container, tmp_path, {}))
    else:
        assert container.fingerprint(made(container, tmp_path, {})) == {}


def test_odd_names(container, tmp_path):
    arrays = {name: np.full(3, at, "u1" if container.flat else "f4") for at, name in enumerate(NAMES)}
    assert container.fingerprint(made(container, tmp_path, arrays)) == expected(arrays)


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20),
        st.tuples(st.sampled_from(["f4", "f8", "f2", "i4", "i8"]), st.lists(st.integers(0, 4), max_size=5)),
        max_size=8,
    )
)
@pytest.mark.parametrize("name", ["tensor bundle", "tensor slices", "safetensors"])
@settings(max_examples=30, deadline=None)
def test_any_arrays_come_back(tmp_path_factory, name, plan):
    container, rng = CONTAINERS[name], np.random.default_rng(1)
    arrays = {name: (rng.standard_normal(shape) * 99).astype(kind) for name, (kind, shape) in plan.items()}
    arrays = {name: array for name, array in arrays.items() if container.takes(array)}
    path = tmp_path_factory.mktemp("any") / container.file
    container.write(path, arrays)
    assert container.fingerprint(path) == expected(arrays)


# ---- damage


def damage(container, folder, places):
    """(file, its damaged bytes) at each of some places of each file."""
    for part in container.files:
        file = folder / part
        whole = file.read_bytes()
        for wrong in damaged(whole, range(0, len(whole), max(1, len(whole) // places))):
            yield file, wrong
        file.write_bytes(whole)


def test_damage_is_never_silent_and_raises_nothing_else(container, tmp_path):
    """A byte, a bit, a hole, a cut, all over the file; and where there are no checksums, no error of another kind."""
    path = made(container, tmp_path)
    truth, refused = container.fingerprint(path), 0
    for file, wrong in damage(container, tmp_path, 3 if container.slow else 60):
        file.write_bytes(wrong)
        try:
            found = container.fingerprint(path)
            assert found == truth or not container.checked
        except CheckpointError as error:
            refused += 1
            assert str(tmp_path) in str(error)
    assert refused


def test_every_flipped_byte_is_noticed(checked, tmp_path):
    """All but those that mean nothing, as what pads a table's end, a date or a version in a ZIP."""
    if checked.slow:
        pytest.skip("HDF5 has bytes that nothing reads")
    path, passed = made(checked, tmp_path), 0
    for part in checked.files:
        file = tmp_path / part
        whole = file.read_bytes()
        for place in range(len(whole)):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
            with contextlib.suppress(CheckpointError):
                assert checked.fingerprint(path) == expected(small(checked)), place
                passed += 1
        file.write_bytes(whole)
    assert passed <= checked.idle


def test_every_cut_is_refused(container, tmp_path):
    if container.read is CONTAINERS["graph"].read:
        pytest.skip("a graph that ends behind a node is whole")
    path = made(container, tmp_path)
    for part in container.files:
        file = tmp_path / part
        whole = file.read_bytes()
        for length in range(0, len(whole), max(1, len(whole) // 8) if container.slow else 1):
            file.write_bytes(whole[:length])
            with pytest.raises(CorruptFile if length > 24 else CheckpointError):  # or it is none of the format's
                container.fingerprint(path)
        file.write_bytes(whole)


@pytest.mark.parametrize("change", [lambda file: os.utime(file, (1, 1)), os.unlink], ids=["touched", "gone"])
def test_a_changed_file_is_noticed_when_its_values_are_read(container, change, tmp_path):
    if container.at_once:
        pytest.skip("values are read with the list")
    path = made(container, tmp_path)
    tensors = container.read(path)
    change(tmp_path / container.files[-1])
    with pytest.raises(CorruptFile, match="was changed while it was being read"):
        tensors["w"].read()


# ---- what is no file


def nothing(path):
    pass


def pipe(path):
    os.mkfifo(path)


THINGS = {
    "nothing": nothing,
    "an empty file": lambda path: path.write_bytes(b""),
    "a folder": lambda path: path.mkdir(),
    "a pipe": pipe,
    "a link to nothing": lambda path: path.symlink_to("none"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_file_is_one_sentence(container, tmp_path, thing):
    path = made(container, tmp_path)
    for part in container.files:
        file = tmp_path / part
        whole = file.read_bytes()
        file.unlink()
        THINGS[thing](file)
        if (container.file, thing) != ("x.pb", "an empty file"):  # a graph of no nodes
            with pytest.raises(CheckpointError) as caught:
                container.fingerprint(path)
            assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
            assert thing != "nothing" or re.search("no such file|is missing", str(caught.value))
        file.rmdir() if file.is_dir() else file.unlink(missing_ok=True)
        file.write_bytes(whole)


def test_a_terabyte_of_holes_costs_nothing(container, tmp_path):
    """It is refused, or what lies behind the tensors is passed over."""
    path = made(container, tmp_path)
    truth = container.fingerprint(path)
    for part in container.files:
        whole = (tmp_path / part).read_bytes()
        os.truncate(tmp_path / part, 1 << 40)
        tracemalloc.start()
        start = time.process_time()
        with contextlib.suppress(CheckpointError):
            assert container.fingerprint(path) == truth
        assert time.process_time() - start < 2 and tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()
        (tmp_path / part).write_bytes(whole)


# ---- writing


def test_arrays_of_any_memory_order(ours, tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {"t": base.T, "step": base[::2, ::-2], "fortran": np.asfortranarray(base)}
    assert ours.fingerprint(made(ours, tmp_path, arrays)) == expected(arrays)


@pytest.mark.parametrize("name", ["tensor bundle", "tensor slices"])
@pytest.mark.parametrize(
    ("key", "array"),
    [
        ("", np.zeros(1, "f4")),
        ("a\0b", np.zeros(1, "f4")),
        ("\ud800", np.zeros(1, "f4")),
        ("a", np.zeros(1, bool)),
        ("a", np.zeros(1, "c8")),
        ("a", np.array(["text"])),
        ("a", np.array([None])),
        ("a", np.zeros((1,) * 9, "f4")),
    ],
)
def test_what_a_checkpoint_cannot_hold_is_refused_before_anything_is_written(tmp_path, name, key, array):
    with pytest.raises(UnsupportedFeature):
        CONTAINERS[name].write(tmp_path / "model", {"fine": np.zeros(1, "f4"), key: array})
    assert os.listdir(tmp_path) == []


def test_bytes_lost_on_the_way_to_the_disk_are_noticed_before_the_file_has_its_name(ours, tmp_path, monkeypatch):
    path = made(ours, tmp_path)
    lost = np.array([1.5, 2.5, 3.5], np.float32)
    opened = RegularFile.__init__

    def losing(self, place, **options):
        with open(place, "r+b") as file:
            content = file.read()
            file.seek(content.find(lost.tobytes()) + 2)
            if lost.tobytes() in content:
                file.write(b"\xff")
        opened(self, place, **options)

    monkeypatch.setattr(RegularFile, "__init__", losing)
    with pytest.raises(CorruptFile):
        ours.write(path, {"w": lost})
    monkeypatch.undo()
    assert ours.fingerprint(path) == expected(small(ours)) and sorted(os.listdir(tmp_path)) == sorted(ours.files)


@pytest.mark.parametrize("room", [0, 1, 50, 300, 4096, 30_000, 41_000])
def test_a_full_disk_leaves_the_old_file(ours, tmp_path, room):
    path = made(ours, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(OSError):
            ours.write(path, {"w": np.ones(10_300, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ours.fingerprint(path) == expected(small(ours)) and sorted(os.listdir(tmp_path)) == sorted(ours.files)
