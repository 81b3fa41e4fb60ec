"""HDF5 through the child process: all that weights need comes back bit for bit, and no hostile file gets anywhere."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from inception.files import hdf5
from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.files.hdf5 import worker
from inception.files.hdf5.values import fletcher32
from inception.weights.canonical import VARIANT

CHECKED = {"libver": ("v110", "v110")}
SECONDS = 5
MEBIBYTE = 1 << 20


@contextlib.contextmanager
def made(path, **options):
    with h5py.File(path, "w", **options) as file:
        yield file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.h5"


@pytest.fixture(autouse=True)
def in_time(monkeypatch):
    """No file may hold a reader up: in processor time, its children's with it, which no busy machine stretches."""

    def spent():
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    def timed(*arguments, read=hdf5.read, **options):
        start = spent()
        try:
            return read(*arguments, **options)
        finally:
            assert spent() - start < SECONDS

    monkeypatch.setattr(hdf5, "read", timed)


def values(content):
    return {name: stored.read() for name, stored in content.tensors.items()}


# ---- what must come back


def numbers(rng, dtype, shape):
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    return rng.integers(0, 100, shape).astype(dtype)


LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (3, 4)},
    "gzip": {"chunks": (3, 4), "compression": "gzip"},
    "shuffled": {"chunks": (3, 4), "compression": "gzip", "shuffle": True},
    "checked": {"chunks": (5, 7), "fletcher32": True},
    "all": {"chunks": (2, 7), "compression": "gzip", "shuffle": True, "fletcher32": True},
    "chunk larger than data": {"chunks": (8, 8), "maxshape": (None, None), "fletcher32": True},
}


@pytest.mark.parametrize("trusted", [False, True])
def test_every_layout_and_type(path, trusted):
    rng = np.random.default_rng(0)
    expected = {}
    with made(path) as file:
        for layout, options in LAYOUTS.items():
            for dtype in ("<f4", ">f4", "<f8", "<f2", "|u1", "<i8"):
                name = f"{layout}/{dtype}"
                expected[name] = numbers(rng, dtype, (5, 7))
                file.create_dataset(name, data=expected[name], **options)
    found = values(hdf5.read(path, trusted=trusted))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].flags.writeable


def test_scalars_and_nothing_at_all(path):
    with made(path) as file:
        file["scalar"] = np.float32(3.5)
        file["empty"] = np.zeros((0, 3), np.float32)
        file.create_dataset("chunked empty", (0, 3), np.float32, maxshape=(None, 3), chunks=(2, 3))
        file["no space"] = h5py.Empty("f4")
    found = values(hdf5.read(path))
    assert found["scalar"].shape == () and found["scalar"] == np.float32(3.5)
    assert found["empty"].shape == (0, 3) and found["no space"].size == 0
    assert found["chunked empty"].shape == (0, 3)


def test_a_file_with_nothing_in_it(path):
    with made(path):
        pass
    content = hdf5.read(path)
    assert not content.tensors and not content.checksummed


def test_groups_attributes_and_what_is_skipped(path):
    with made(path) as file:
        file["model/layer/w"] = np.ones(3, np.float32)
        file["optimizer/vars/0"] = np.ones(3, np.float32)
        file["optimizer_weights/m"] = h5py.SoftLink("/nowhere")
        file.attrs["said"] = np.bytes_(b"{}")
        file.attrs["keras_version"] = "of any length"
    content = hdf5.read(path, attributes=("said", "keras_version"))
    assert list(content.tensors) == ["model/layer/w"]
    assert content.groups == {"model", "model/layer"}
    assert content.attributes == {"said": "{}"}


@pytest.mark.parametrize(
    ("options", "chunks", "expected"),
    [(CHECKED, {"chunks": (4,), "fletcher32": True}, True), (CHECKED, {}, False),
     ({}, {"chunks": (4,), "fletcher32": True}, False)],
)  # fmt: skip
def test_checksums_count_only_on_data_and_metadata_both(path, options, chunks, expected):
    with made(path, **options) as file:
        file.create_dataset("w", data=np.ones(4, np.float32), **chunks)
    assert hdf5.read(path).checksummed is expected


def test_a_checksum_of_zero_counts_only_with_our_own_beside_it(path):
    """A lost sector is zeros too, data and HDF5's checksum alike."""
    with made(path, **CHECKED) as file:
        hdf5.create_dataset(file, "ours", np.zeros(4, np.float32))
    assert hdf5.read(path).checksummed
    with made(path, **CHECKED) as file:
        file.create_dataset("theirs", data=np.zeros(4, np.float32), chunks=(4,), fletcher32=True)
    assert not hdf5.read(path).checksummed
    with made(path, **CHECKED) as file:
        hdf5.create_dataset(file, "ours", np.ones(4, np.float32))
        file["ours"].id.write_direct_chunk((0,), bytes(20))
    with pytest.raises(CorruptFile, match="ours: its checksum is wrong"):
        values(hdf5.read(path))


@pytest.mark.parametrize("kind", ["f4", ">u4", "u8"])
def test_our_checksum_in_another_type_is_none(path, kind):
    with made(path, **CHECKED) as file:
        file["w"] = np.ones(4, np.float32)
        file["w"].attrs[worker.CRC] = np.array(1, kind)
    assert not hdf5.read(path).checksummed


def test_a_filter_that_the_writer_left_out_of_a_chunk(path):
    data = np.arange(8, dtype=np.float32)
    with made(path) as file:
        dataset = file.create_dataset("w", (8,), np.float32, chunks=(8,), compression="gzip", shuffle=True)
        dataset.id.write_direct_chunk((0,), data.tobytes(), filter_mask=0b11)
    np.testing.assert_array_equal(hdf5.read(path).tensors["w"].read(), data)


@pytest.mark.parametrize("size", [4, 5, 255, 2048, 2049, 8193])
@pytest.mark.parametrize("byte", [None, 0, 255])
def test_fletcher32_is_that_of_hdf5(path, size, byte):
    data = np.random.default_rng(size).bytes(size) if byte is None else bytes([byte]) * size
    with made(path) as file:
        stored = file.create_dataset("x", data=np.frombuffer(data, np.uint8), chunks=(size,), fletcher32=True)
        _, raw = stored.id.read_direct_chunk((0,))
    assert int.from_bytes(raw[-4:], "little") == fletcher32(np.frombuffer(data, np.uint8))


def test_nothing_is_left_behind(path, tmp_path, monkeypatch):
    with made(path) as file:
        file["w"] = np.ones(1000, np.float32)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = len(os.listdir("/proc/self/fd"))
    content = hdf5.read(path)
    assert content.tensors["w"].read().sum() == 1000
    assert values(hdf5.read_pieces([path.read_bytes()], "inside"))["w"].sum() == 1000
    assert len(os.listdir("/proc/self/fd")) == before and not list(scratch.iterdir())


# ---- links and other files


def canary_file(tmp_path):
    """A file that must never be opened: 24 bytes that are also an HDF5 file's raw data."""
    canary = tmp_path / "canary.h5"
    with made(canary) as file:
        file["w"] = np.full(6, 42, np.float32)
    return canary


@contextlib.contextmanager
def never_opened(canary):
    """Fails when any process opens the file meanwhile (`sys.addaudithook` does not see what HDF5 opens)."""
    if not sys.platform.startswith("linux"):
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert watch >= 0
    assert libc.inotify_add_watch(watch, os.fsencode(canary), 0x20) >= 0  # IN_OPEN
    try:
        yield
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
    finally:
        os.close(watch)


def external_link(file, canary):
    file["w"] = h5py.ExternalLink(str(canary), "/w")


def external_group(file, canary):
    file["g"] = h5py.ExternalLink(str(canary), "/")


def soft_link(file, canary):
    file["real"] = np.ones(3, np.float32)
    file["w"] = h5py.SoftLink("/real")


def dangling_link(file, canary):
    file["w"] = h5py.SoftLink("/nowhere")


def soft_link_through_an_external(file, canary):
    file["a"] = h5py.SoftLink("/z/w")
    file["z"] = h5py.ExternalLink(str(canary), "/")


def external_storage(file, canary):
    file.create_dataset("w", (6,), np.float32, external=[(str(canary), 0, 24)])


def external_storage_of_nothing(file, canary):
    file.create_dataset("w", (0,), np.float32, external=[(str(canary), 0, h5py.h5f.UNLIMITED)])


def virtual_dataset(file, canary):
    layout = h5py.VirtualLayout((6,), np.float32)
    layout[:] = h5py.VirtualSource(str(canary), "w", (6,))
    file.create_virtual_dataset("w", layout)


def virtual_dataset_of_unknown_length(file, canary):
    layout = h5py.VirtualLayout((6,), np.float32, maxshape=(None,))
    source = h5py.VirtualSource(str(canary), "w", (6,), maxshape=(None,))
    layout[h5py.h5s.UNLIMITED and slice(0, h5py.h5s.UNLIMITED)] = source[0 : h5py.h5s.UNLIMITED]
    file.create_virtual_dataset("w", layout)


def cycle(file, canary):
    file.create_group("a/b")
    file["a/b/c"] = file["a"]


def cycle_to_the_root(file, canary):
    file.create_group("a")
    file["a/b"] = file["/"]


def a_dataset_twice(file, canary):
    file["a"] = np.ones(3, np.float32)
    file["b"] = file["a"]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "fill",
    [external_link, external_group, soft_link, dangling_link, soft_link_through_an_external, external_storage,
     external_storage_of_nothing, virtual_dataset, virtual_dataset_of_unknown_length, cycle, cycle_to_the_root,
     a_dataset_twice],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused_and_not_followed(path, tmp_path, fill, trusted):
    canary = canary_file(tmp_path)
    with made(path) as file:
        fill(file, canary)
    with never_opened(canary), pytest.raises(UnsafeFile, match=r"such files are not read"):
        hdf5.read(path, trusted=trusted)


# ---- shapes, types, filters, limits


def strings(file):
    file["w"] = ["a", "b"]


def fixed_strings(file):
    file["w"] = np.array([b"abcd"] * 3)


def compound(file):
    file["w"] = np.zeros(3, [("a", "f4"), ("b", "i4")])


def objects(file):
    file.create_dataset("w", (2,), h5py.vlen_dtype(np.float32))


def references(file):
    file.create_dataset("w", (2,), h5py.ref_dtype)


def booleans(file):
    file["w"] = np.zeros(3, bool)


def complexes(file):
    file["w"] = np.zeros(3, np.complex64)


def opaque(file):
    file.create_dataset("w", data=np.zeros(3, "V2"))


def named_type(file):
    file["t"] = np.dtype("f4")


def odd_floats(file):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(31, 23, 8, 0, 23)
    kind.set_ebias(100)
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((4,)))


def three_bytes(file):
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_precision(17)
    h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((4,)))


def lzf(file):
    file.create_dataset("w", data=np.ones((4, 4), np.float32), compression="lzf")


def scale_offset(file):
    file.create_dataset("w", data=np.ones((4, 4), np.int32), scaleoffset=4)


def plug_in(file):
    made_with = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made_with.set_chunk((4,))
    made_with.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # Zstandard, from a plug-in
    h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), made_with)


def compact(file):
    made_with = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made_with.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"w", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((4,)), made_with)


def many_dimensions(file):
    file.create_dataset("w", data=np.ones((1,) * 12, np.float32))


@pytest.mark.parametrize(
    "fill",
    [strings, fixed_strings, compound, objects, references, booleans, complexes, opaque, named_type, odd_floats,
     three_bytes, lzf, scale_offset, plug_in, compact, many_dimensions],
)  # fmt: skip
def test_what_weights_do_not_have_is_named(path, fill):
    with made(path) as file:
        fill(file)
    with pytest.raises(UnsupportedFeature, match=r"x\.h5: (w|t) "):
        hdf5.read(path)


def nothing_stored(file):
    file.create_dataset("w", (1 << 18,), np.float32)


def no_chunk_stored(file):
    file.create_dataset("w", (1 << 18,), np.float32, chunks=(1 << 10,))


def some_chunks_stored(file):
    file.create_dataset("w", (1 << 18,), np.float32, chunks=(1 << 10,))[: 1 << 17] = 1


def chunk_of_two_bytes(file):
    file.create_dataset("w", (8,), np.float32, chunks=(8,)).id.write_direct_chunk((0,), b"\1\2")


def checked_chunk_of_two_bytes(file):
    """CVE-2026-19028: HDF5 1.14.6 and 2.0.0 die of this one."""
    file.create_dataset("w", (8,), np.float32, chunks=(8,), fletcher32=True).id.write_direct_chunk((0,), b"\1\2")


def checked_chunk_of_four_bytes(file):
    file.create_dataset("w", (8,), np.float32, chunks=(8,), fletcher32=True).id.write_direct_chunk((0,), bytes(4))


def wrong_checksum(file):
    dataset = file.create_dataset("w", (8,), np.float32, chunks=(8,), fletcher32=True)
    dataset.id.write_direct_chunk((0,), bytes(32) + b"abcd")


def packed_too_short(file):
    dataset = file.create_dataset("w", (8,), np.float32, chunks=(8,), compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(31)))


def packed_and_cut(file):
    dataset = file.create_dataset("w", (8,), np.float32, chunks=(8,), compression="gzip")
    dataset.id.write_direct_chunk((0,), zlib.compress(bytes(32))[:-3])


def not_packed(file):
    dataset = file.create_dataset("w", (8,), np.float32, chunks=(8,), compression="gzip")
    dataset.id.write_direct_chunk((0,), bytes(range(32)))


@pytest.mark.parametrize(
    "fill",
    [nothing_stored, no_chunk_stored, some_chunks_stored, chunk_of_two_bytes, checked_chunk_of_two_bytes,
     checked_chunk_of_four_bytes, wrong_checksum, packed_too_short, packed_and_cut, not_packed],
)  # fmt: skip
def test_values_that_are_not_all_there_are_damage(path, fill):
    with made(path) as file:
        fill(file)
    with pytest.raises(CorruptFile, match=r"w.*the file is damaged"):
        values(hdf5.read(path))


def huge_shape(file):
    file.create_dataset("w", (1 << 40,), np.float32)


def overflowing_shape(file):
    file.create_dataset("w", (1 << 31, 1 << 31), np.float32, chunks=(1, 1))


def many_middling(file):
    for i in range(8):
        file.create_dataset(f"w{i}", (50 << 20,), np.float32)


def many_chunks(file):
    file.create_dataset("w", (1 << 20,), np.float32, chunks=(1,))


def huge_chunk(file):
    file.create_dataset("w", (4,), np.float32, chunks=(1 << 28,), maxshape=(None,))


def many_objects(file):
    for i in range(worker.MOST_OBJECTS + 1):
        h5py.h5g.create(file.id, str(i).encode())


def deep(file):
    group = file
    for _ in range(worker.LONGEST_PATH):
        group = group.create_group("g")


def long_name(file):
    file["n" * 5000] = np.ones(3, np.float32)


def huge_attribute(file):
    file["w"] = np.ones(3, np.float32)
    file.attrs[VARIANT] = np.bytes_(b"x" * 60_000)


@pytest.mark.parametrize(
    "fill",
    [huge_shape, overflowing_shape, many_middling, many_chunks, huge_chunk, many_objects, deep, long_name,
     huge_attribute],
)  # fmt: skip
def test_what_asks_for_too_much_is_refused(path, fill):
    with made(path) as file:
        fill(file)
    assert path.stat().st_size < 16 * MEBIBYTE
    with pytest.raises(ResourceLimit, match=r"no weight file"):
        hdf5.read(path, attributes=(VARIANT,))
    assert child_peak(path) < 150 * MEBIBYTE


@pytest.mark.parametrize("size", [4, 300])
def test_a_chunk_that_unpacks_without_end(path, size):
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(bytes(MEBIBYTE)) for _ in range(size)) + packer.flush()
    with made(path) as file:
        dataset = file.create_dataset("w", (1 << 20,), np.float32, chunks=(1 << 20,), compression="gzip")
        dataset.id.write_direct_chunk((0,), bomb)
    tracemalloc.start()
    with pytest.raises(ResourceLimit if size > 4 else CorruptFile, match=r"w at "):
        if size == 4:
            path.write_bytes(path.read_bytes().replace(bomb, bomb[:-1] + b"?"))
        values(hdf5.read(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20 * MEBIBYTE and child_peak(path) < 150 * MEBIBYTE


def test_packed_values_may_be_much_smaller_but_not_without_end(path):
    with made(path) as file:
        for i in range(20):
            file.create_dataset(f"w{i}", data=np.zeros(1 << 20, np.float32), chunks=(1 << 20,), compression="gzip")
    with pytest.raises(ResourceLimit, match="no weight file"):
        hdf5.read(path)
    with made(path) as file:
        file.create_dataset("w", data=np.zeros(1 << 20, np.float32), chunks=(1 << 20,), compression="gzip")
    assert not hdf5.read(path).tensors["w"].read().any()


def test_a_huge_attribute_that_nobody_asked_for_is_not_read(path):
    with made(path, **CHECKED) as file:
        file["w"] = np.ones(3, np.float32)
        file.attrs["other"] = np.zeros(50 * MEBIBYTE, np.uint8)
    assert hdf5.read(path).tensors["w"].read().sum() == 3


LAUNCHER = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-I", "-S", *sys.argv[1:]], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def child_peak(path):
    """Peak memory of the child in bytes; from a small parent, because a child counts its parent's before it starts."""
    request = {"path": str(path), "attributes": [VARIANT], "libraries": hdf5._libraries()}
    command = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(hdf5._WORKER), json.dumps(request)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout) * 1024


# ---- damage


def plain_keras_file(path):
    with made(path) as file:
        file.attrs["model_config"] = json.dumps({"layers": ["x" * 500]})
        file.attrs["keras_version"] = "2.15.0"
        for i in range(6):
            file[f"layer_{i}/w"] = np.full((4, 4), i, np.float32)


def test_a_heap_of_zeros_where_hdf5_would_hang(path):
    plain_keras_file(path)
    data = bytearray(path.read_bytes())
    heap = data.index(b"GCOL")
    data[heap + 16 : heap + 16 + 64] = bytes(64)
    path.write_bytes(data)
    with contextlib.suppress(CheckpointError):
        assert len(hdf5.read(path).tensors) == 6


# ---- files that cannot be opened


def test_a_file_that_is_being_written(path):
    with made(path) as file, pytest.raises(CheckpointError, match="being written"):
        file["w"] = np.ones(3, np.float32)
        hdf5.read(path)


def test_any_name_will_do(tmp_path):
    odd = os.fsdecode(os.fsencode(str(tmp_path)) + b"/a b\xff'\n\"$.h5")
    with made(tmp_path / "x.h5") as file:
        file["w"] = np.ones(3, np.float32)
    os.rename(tmp_path / "x.h5", odd)
    assert hdf5.read(odd).tensors["w"].read().sum() == 3
    assert hdf5.read(os.fsencode(odd)).tensors["w"].read().sum() == 3


# ---- a child that goes wrong


@pytest.fixture
def child(monkeypatch, tmp_path, path):
    """Puts another program in the child's place."""
    with made(path) as file:
        file["w"] = np.ones(3, np.float32)

    def put(program):
        script = tmp_path / "child.py"
        script.write_text(program)
        monkeypatch.setattr(hdf5, "_WORKER", script)

    return put


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        ("raise ImportError('no h5py')", "exit code 1"),
        ("while True: pass", "took more than 1 s"),
        ("import time; time.sleep(60)", "took more than 1 s"),
        ("pass", "makes no sense"),
        ("print('hello, this is a library')", "makes no sense"),
    ],
)
def test_a_child_that_dies_or_hangs(child, path, monkeypatch, program, said):
    monkeypatch.setattr(hdf5, "WALL_SECONDS", 1)
    child(program)
    with pytest.raises(CorruptFile, match=rf"{said}.*damaged or hostile"):
        hdf5.read(path)


def test_an_endless_loop_is_ended_from_outside(tmp_path):
    """The timer of a step ends the process even where no Python code runs."""
    program = f"import runpy; w = runpy.run_path({str(hdf5._WORKER)!r}); w['_step'](); sum(iter(int, 1))"
    program = program.replace("w['_step']", "w['_step'].__globals__.__setitem__('STEP_SECONDS', 0.3); w['_step']")
    ended = subprocess.run([sys.executable, "-I", "-c", program], check=False, timeout=60)
    assert hdf5._ending(ended.returncode) == "SIGPROF"


def answer(text):
    return f"import sys; sys.stdout.write({text if isinstance(text, str) else json.dumps(text)!r})"


def listed(**changes):
    entry = {"name": "w", "shape": [4], "dtype": "<f4", "crc": None}
    place = {"chunk": None, "filters": [], "pieces": [[0, 16, 0]]}
    return {"datasets": [entry | place | changes], "groups": [], "attributes": {}}


def test_a_right_answer(child, path):
    child(answer(listed()))
    assert hdf5.read(path).tensors["w"].read().tobytes() == path.read_bytes()[:16]


@pytest.mark.parametrize(
    "wrong",
    [
        {"shape": [1 << 40, 1 << 40, -1]},
        {"shape": [-4]},
        {"shape": [4.0]},
        {"shape": 4},
        {"shape": [1] * 40},
        {"chunk": [3, 3]},
        {"chunk": [0]},
        {"chunk": [3]},
        {"chunk": 3},
        {"pieces": []},
        {"pieces": [[0, 16, 0]] * 2},
        {"pieces": [[0, 16]]},
        {"pieces": [[-1, 16, 0]]},
        {"pieces": [[None, 16, 0]]},
        {"pieces": 3},
        {"shape": [0]},
        {"filters": [[32000, 0]]},
        {"filters": [[1]]},
        {"filters": [1]},
        {"filters": None},
        {"dtype": "O"},
        {"dtype": "<f3"},
        {"dtype": "|f1"},
        {"dtype": 4},
        {"crc": "1"},
    ],
)
def test_a_dataset_that_makes_no_sense(child, path, wrong):
    child(answer(listed(**wrong)))
    with pytest.raises(CorruptFile, match="makes no sense"):
        hdf5.read(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pieces": [[1 << 60, 16, 0]]},
        {"pieces": [[0, 17, 0]]},
        {"pieces": [[0, 1 << 60, 0]]},
        {"chunk": [4], "pieces": [[1 << 60, 16, 0]]},
        {"chunk": [4], "pieces": [[0, 1 << 60, 0]], "filters": [[1, 0]]},
        {"chunk": [4], "filters": [[1, 0]]},
        {"chunk": [4], "filters": [[2, 3]]},
        {"chunk": [4], "filters": [[3, 0]]},
        {"chunk": [4], "filters": [[3, 0]], "pieces": [[0, 0, 0]]},
        {"crc": 1},
    ],
)
def test_a_dataset_that_is_not_where_it_should_be(child, path, wrong):
    child(answer(listed(**wrong)))
    with pytest.raises(CorruptFile, match="the file is damaged"):
        values(hdf5.read(path))


@pytest.mark.parametrize("shape", [[1 << 40], [1 << 27], [1 << 61, 2]])
def test_a_dataset_that_is_too_large(child, path, shape):
    child(answer(listed(shape=shape)))
    with pytest.raises(ResourceLimit, match="no weight file"):
        hdf5.read(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"datasets": listed()["datasets"] * 2, "groups": [], "attributes": {}},
        {"datasets": [{}], "groups": [], "attributes": {}},
        {"datasets": [3], "groups": [], "attributes": {}},
        {"datasets": 3},
        {"datasets": [], "groups": 3, "attributes": {}},
        {"datasets": [], "groups": [], "attributes": 3},
        {},
        {"refused": ["surprise", "?"]},
        {"refused": 3},
        {"refused": []},
        {"refused": [[], "?"]},
        {"refused": {"corrupt": 1}},
        "[1]",
        "[" * 100_000,
        "{",
        '{"a": 1, "a": 2}',
    ],
)
def test_an_answer_that_makes_no_sense(child, path, wrong):
    child(answer(wrong))
    with pytest.raises(CorruptFile, match="makes no sense"):
        hdf5.read(path)


def test_an_answer_without_end(child, path, monkeypatch):
    monkeypatch.setattr(worker, "LARGEST_LISTING", 1000)
    child("print('[' + '1,' * 1_000_000)")
    with pytest.raises(CorruptFile, match="makes no sense"):
        hdf5.read(path)


def test_what_a_child_says_is_kept_short(child, path):
    child(answer({"refused": ["unsafe", "x" * 100_000]}))
    with pytest.raises(UnsafeFile) as caught:
        hdf5.read(path)
    assert len(str(caught.value)) < 1000


def test_a_child_that_cannot_start(path, monkeypatch):
    with made(path) as file:
        file["w"] = np.ones(3, np.float32)
    for program in ("/nowhere/python", None, ""):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(CheckpointError, match="cannot be started"):
            hdf5.read(path)


def test_no_room_to_unpack(path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(CheckpointError, match="inside: cannot be unpacked.*TMPDIR"):
        hdf5.read_pieces([b"x"], "inside")


def test_no_room_for_the_list(path, monkeypatch):
    with made(path) as file:
        file["w"] = np.ones(3, np.float32)
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(CheckpointError, match="x.h5: the list .* cannot be written.*set TMPDIR") as caught:
        hdf5.read(path)
    assert not isinstance(caught.value, CorruptFile)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_full_temporary_folder_is_not_the_files_fault(path, monkeypatch):
    with made(path) as file:
        file["w"] = np.ones(3, np.float32)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda: open("/dev/full", "w+b", buffering=0))  # noqa: SIM115
    with pytest.raises(CheckpointError, match="x.h5: the list .* cannot be written.*set TMPDIR") as caught:
        hdf5.read(path)
    assert not isinstance(caught.value, CorruptFile)


def test_a_killed_child_may_be_a_machine_without_memory(child, path):
    child("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(ResourceLimit, match="was killed; the machine may be out of memory"):
        hdf5.read(path)


def test_a_limit_of_memory_is_named(child, path, monkeypatch):
    resource = pytest.importorskip("resource")
    child("raise MemoryError")
    with pytest.raises(CorruptFile, match="listing it ended the HDF5 library"):
        hdf5.read(path)
    monkeypatch.setattr(resource, "getrlimit", lambda what: (64 << 20, 64 << 20))
    with pytest.raises(ResourceLimit, match=r"takes 512 MB of address space, .* may have 64 MB here.*ulimit"):
        hdf5.read(path)
