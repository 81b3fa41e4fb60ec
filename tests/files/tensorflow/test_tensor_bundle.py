"""V2 checkpoints: the same bits through TensorFlow and through us; every forged file is refused."""

from __future__ import annotations

import math
import os
import shutil
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_saver
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf import tensor_bundle_pb2  # type: ignore[import-untyped]
from tensorflow_saver import (
    fingerprint,
    load_with_tensorflow,
    restore_with_tensorflow,
    save_with_tensorflow,
    values,
)

from inception.files.errors import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.files.tensorflow import tensor_bundle
from inception.files.tensorflow.sstable import masked_crc, write_table


def sample() -> dict[str, np.ndarray]:
    return {
        **tensorflow_saver.sample(),
        "half": np.random.default_rng(4).standard_normal((2, 2)).astype(np.float16),
        "ints": np.asarray([1, -1, 2**31 - 1], np.int32),
    }


# ---- round trips


def test_tensorflow_reads_what_we_write(tmp_path):
    arrays, prefix = sample(), tmp_path / "model.ckpt-7"
    tensor_bundle.write(prefix, arrays)
    assert sorted(os.listdir(tmp_path)) == ["model.ckpt-7.data-00000-of-00001", "model.ckpt-7.index"]
    assert fingerprint(load_with_tensorflow(prefix)) == fingerprint(arrays)
    assert fingerprint(restore_with_tensorflow(prefix, arrays)) == fingerprint(arrays)
    assert fingerprint(values(tensor_bundle.read(prefix))) == fingerprint(arrays)


def test_we_read_what_tensorflow_writes(tmp_path):
    arrays, prefix = sample(), tmp_path / "model.ckpt"
    save_with_tensorflow(prefix, arrays)
    tensors = tensor_bundle.read(prefix)
    assert {name: (t.shape, t.dtype) for name, t in tensors.items()} == {
        name: (a.shape, a.dtype) for name, a in arrays.items()
    }
    assert fingerprint(values(tensors)) == fingerprint(arrays)
    fresh = tensors["double"].read()
    fresh[:] = 0
    assert fingerprint({"double": tensors["double"].read()}) == fingerprint({"double": arrays["double"]})


def test_our_data_file_is_tensorflows_byte_for_byte(tmp_path):
    save_with_tensorflow(tmp_path / "theirs", sample())
    tensor_bundle.write(tmp_path / "ours", sample())
    data = "data-00000-of-00001"
    assert (tmp_path / f"ours.{data}").read_bytes() == (tmp_path / f"theirs.{data}").read_bytes()


def test_many_tensors_and_megabytes_both_ways(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"scope_{at % 7}/layer_{at}/BatchNorm/gamma": np.full(at % 50, at, "f4") for at in range(4000)}
    arrays["large"] = rng.standard_normal((1200, 1001), np.float32)
    tensor_bundle.write(tmp_path / "ours", arrays)
    assert os.path.getsize(tmp_path / "ours.index") > 1 << 17
    assert fingerprint(load_with_tensorflow(tmp_path / "ours")) == fingerprint(arrays)
    names = list(arrays)
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "theirs"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=list(arrays.values()),
    )
    assert fingerprint(values(tensor_bundle.read(tmp_path / "theirs"))) == fingerprint(arrays)


def test_several_data_files(tmp_path):
    arrays = sample()
    halves = [dict(list(arrays.items())[:4]), dict(list(arrays.items())[4:])]
    for number, half in enumerate(halves):
        save_with_tensorflow(tmp_path / f"part{number}", half)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(tmp_path / "part0"), str(tmp_path / "part1")],
        destination_prefix=str(tmp_path / "whole"),
    )
    assert (tmp_path / "whole.data-00001-of-00002").exists()
    assert fingerprint(values(tensor_bundle.read(tmp_path / "whole"))) == fingerprint(arrays)
    (tmp_path / "whole.data-00001-of-00002").unlink()
    with pytest.raises(CorruptFile, match="missing"):
        tensor_bundle.read(tmp_path / "whole")


def test_an_object_checkpoint_lists_its_strings_and_refuses_to_read_them(tmp_path):
    weights = tf.Variable(np.arange(6, dtype=np.float32).reshape(2, 3))
    flag, brain = tf.Variable(True), tf.Variable(tf.constant([1.5], tf.bfloat16))
    prefix = tf.train.Checkpoint(weights=weights, flag=flag, brain=brain).write(str(tmp_path / "object"))
    tensors = tensor_bundle.read(prefix)
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    assert np.array_equal(tensors[f"weights{suffix}"].read(), weights.numpy())
    for name in ("_CHECKPOINTABLE_OBJECT_GRAPH", f"flag{suffix}", f"brain{suffix}"):
        with pytest.raises(UnsupportedFeature, match="type"):
            tensors[name].read()


def test_a_partitioned_variable_is_refused(tmp_path):
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "sliced"),
        tensor_names=["w", "w"],
        shape_and_slices=["4 3 0,2:-", "4 3 2,2:-"],
        tensors=[np.zeros((2, 3), np.float32)] * 2,
    )
    with pytest.raises(UnsupportedFeature, match="partitioned"):
        tensor_bundle.read(tmp_path / "sliced")


# ---- writing safely


@pytest.mark.parametrize("before", [0, 1, 2])
def test_a_stop_before_any_rename_leaves_the_old_or_the_new(tmp_path, monkeypatch, before):
    """`before` checkpoints of the same prefix are there already; the n-th rename fails, for every n."""
    rename, generations = os.replace, [{"w": np.full(9, at, np.float32)} for at in range(3)]
    for allowed in range(4):
        folder = tmp_path / str(allowed)
        folder.mkdir()
        prefix = folder / "model.ckpt"
        for at in range(before):
            tensor_bundle.write(prefix, generations[at])
        calls: list[str] = []

        def failing(source, target, calls=calls, allowed=allowed):
            calls.append(target)
            if len(calls) > allowed:
                raise OSError("stopped")
            rename(source, target)

        monkeypatch.setattr(os, "replace", failing)
        try:
            tensor_bundle.write(prefix, generations[before])
            expected = generations[before]
        except OSError:
            expected = generations[before - 1] if before else None
        monkeypatch.undo()
        if expected is None:
            assert not os.path.exists(f"{prefix}.index")
            continue
        assert fingerprint(values(tensor_bundle.read(prefix))) == fingerprint(expected)
        assert fingerprint(load_with_tensorflow(prefix)) == fingerprint(expected)
        tensor_bundle.write(prefix, generations[2])
        assert fingerprint(values(tensor_bundle.read(prefix))) == fingerprint(generations[2])
        assert not [name for name in os.listdir(folder) if ".tmp-" in name]
        assert len({name[-5:] for name in os.listdir(folder) if ".data-" in name}) == 1


# ---- damage


def outcome(prefix) -> dict[str, tuple] | None:
    """The tensors, or None after one of our errors; any other error fails the test."""
    try:
        return fingerprint(values(tensor_bundle.read(prefix)))
    except CheckpointError as error:
        assert str(prefix) in str(error)
        return None


def test_sectors_of_zeros(tmp_path):
    arrays = sample() | {"large": np.random.default_rng(0).standard_normal(3000, np.float32)}
    tensor_bundle.write(tmp_path / "m", arrays)
    for part in ("index", "data-00000-of-00001"):
        target = tmp_path / f"m.{part}"
        whole = target.read_bytes()
        for start in range(0, len(whole), 512):
            hole = whole[:start] + bytes(len(whole[start : start + 512])) + whole[start + 512 :]
            target.write_bytes(hole)
            assert outcome(tmp_path / "m") is None
        target.write_bytes(whole)


def test_the_data_file_of_another_checkpoint_is_refused(tmp_path):
    tensor_bundle.write(tmp_path / "a", {"w": np.zeros(4, np.float32)})
    tensor_bundle.write(tmp_path / "b", {"w": np.ones(4, np.float32)})
    shutil.copy(tmp_path / "a.data-00000-of-00001", tmp_path / "b.data-00000-of-00001")
    with pytest.raises(CorruptFile, match=r"b\.data-00000-of-00001: tensor 'w': its checksum"):
        tensor_bundle.read(tmp_path / "b")["w"].read()


def test_links_and_pipes_are_not_followed_to_the_values(tmp_path):
    tensor_bundle.write(tmp_path / "m", {"w": np.zeros(4, np.float32)})
    data = tmp_path / "m.data-00000-of-00001"
    data.rename(tmp_path / "elsewhere")
    data.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile, match="link"):
        tensor_bundle.read(tmp_path / "m")
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(UnsafeFile, match="regular"):
        tensor_bundle.read(tmp_path / "m")


# ---- forged files whose checksums are right

CONTENT = np.arange(16, dtype="<f4").tobytes()
BIG = 1 << 38


def entry(sides=(16,), *, dtype=1, size=64, content=CONTENT, **changes) -> bytes:
    message = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, size=size, crc32c=masked_crc(content), **changes)
    for side in sides:
        message.shape.dim.add().size = side
    return message.SerializeToString()


def sliced(start: int, length: int) -> bytes:
    message = tensor_bundle_pb2.BundleEntryProto.FromString(entry())
    message.slices.add().extent.add(start=start, length=length)
    return message.SerializeToString()


def unknown_rank() -> bytes:
    message = tensor_bundle_pb2.BundleEntryProto.FromString(entry(()))
    message.shape.unknown_rank = True
    return message.SerializeToString()


def header(shards=1, endianness=0, producer=1, **version) -> bytes:
    message = tensor_bundle_pb2.BundleHeaderProto(num_shards=shards, endianness=endianness)
    message.version.producer = producer
    for field, value in version.items():
        getattr(message.version, field).extend(value) if isinstance(value, list) else setattr(
            message.version, field, value
        )
    return message.SerializeToString()


def forge(prefix, value: bytes, head: bytes | None = None, key: bytes = b"w") -> None:
    with open(f"{prefix}.index", "wb") as file:
        write_table(file, [(b"", header() if head is None else head), (key, value)])
    with open(f"{prefix}.data-00000-of-00001", "wb") as file:
        file.write(CONTENT)


FORGED_ENTRIES = {
    "side -1": entry((-1,)),
    "side -5": entry((4, -5)),
    "two negative sides": entry((-4, -4)),
    "2^40 x 2^40": entry((1 << 40, 1 << 40)),
    "2^40 x 2^40, size to match 64 bits": entry((1 << 40, 1 << 40), size=0),
    "2^38": entry((BIG,)),
    "2^38, size to match": entry((BIG,), size=4 * BIG),
    "0 x 2^62 x 2^62": entry((0, 1 << 62, 1 << 62), size=0),
    "rank 300": entry((1,) * 300, size=4),
    "unknown rank": unknown_rank(),
    "type 0": entry(dtype=0),
    "type 999": entry(dtype=999),
    "reference type": entry(dtype=101),
    "type -1": entry(dtype=-1),
    "string of 2^34": entry((1 << 34,), dtype=7),
    "variant": entry(dtype=21),
    "resource": entry(dtype=20),
    "data file 1 of 1": entry(shard_id=1),
    "data file -1": entry(shard_id=-1),
    "data file 2^31 - 1": entry(shard_id=2**31 - 1),
    "offset past the end": entry(offset=8),
    "offset 2^62": entry(offset=1 << 62),
    "offset -4": entry(offset=-4),
    "size -64": entry(size=-64),
    "size 0": entry(size=0),
    "size 60": entry(size=60),
    "size 2^62": entry(size=1 << 62),
    "wrong checksum": entry(content=b"other"),
    "slice": sliced(0, 16),
    "negative slice": sliced(-1, -4),
    "slice out of range": sliced(100, 100),
    "no protobuf": b"\xff" * 20,
    "protobuf cut short": entry()[:-1],
    "numbers where messages belong": b"\x08\x01\x10\x05\x28\x40",
    "type given twice": b"\x08\x01" + entry(),
    "empty": b"",
}
FORGED_HEADERS = {
    "big endian": header(endianness=1),
    "byte order 7": header(endianness=7),
    "version 99": header(producer=99),
    "for readers of version 99": header(min_consumer=99),
    "bad consumers": header(bad_consumers=[1]),
    "no data files": header(shards=0),
    "-1 data files": header(shards=-1),
    "2^31 - 1 data files": header(shards=2**31 - 1),
    "no protobuf": b"\xff" * 9,
}


def refusal(prefix) -> CheckpointError:
    """The error that reading raises, which must come at once, in time of this process's own, and take no memory."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(CheckpointError) as caught:
            values(tensor_bundle.read(prefix))
        assert time.process_time() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert str(prefix) in str(caught.value)
    return caught.value


def test_the_forger_can_make_a_good_file(tmp_path):
    forge(tmp_path / "m", entry())
    assert np.array_equal(tensor_bundle.read(tmp_path / "m")["w"].read(), np.arange(16))


@pytest.mark.parametrize("name", FORGED_ENTRIES)
def test_forged_entries_are_refused(tmp_path, name):
    forge(tmp_path / "m", FORGED_ENTRIES[name])
    refusal(tmp_path / "m")


@pytest.mark.parametrize("name", FORGED_HEADERS)
def test_forged_headers_are_refused(tmp_path, name):
    forge(tmp_path / "m", entry(), FORGED_HEADERS[name])
    refusal(tmp_path / "m")


@pytest.mark.parametrize("key", [b"\xff\xfe", b"\0w\0\1\1\2"])
def test_forged_names_are_refused(tmp_path, key):
    forge(tmp_path / "m", entry(), key=key)
    refusal(tmp_path / "m")


@pytest.mark.parametrize("dtype", [1, 7])
def test_a_place_outside_the_data_file_is_refused_before_anything_is_read(tmp_path, dtype):
    forge(tmp_path / "m", entry(dtype=dtype, offset=8))
    with pytest.raises(CorruptFile, match="claims 64 bytes at 8"):
        tensor_bundle.read(tmp_path / "m")


def test_an_index_without_header_is_refused(tmp_path):
    with open(tmp_path / "m.index", "wb") as file:
        write_table(file, [(b"w", entry())])
    refusal(tmp_path / "m")


def test_a_gigabyte_of_holes_is_refused(tmp_path):
    forge(tmp_path / "m", entry((1 << 28,), size=1 << 30))
    os.truncate(tmp_path / "m.data-00000-of-00001", 1 << 30)
    assert isinstance(refusal(tmp_path / "m"), ResourceLimit)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path):
    forge(tmp_path / "m", entry(), key=b"../../etc/passwd")
    assert list(tensor_bundle.read(tmp_path / "m")) == ["../../etc/passwd"]


numbers = st.one_of(st.integers(-2, 20), st.integers(-(1 << 63), (1 << 63) - 1))


@given(
    st.lists(st.one_of(st.integers(0, 5), numbers), max_size=10),
    st.one_of(st.sampled_from([1, 2, 3, 9, 19]), st.integers(-1, 110)),
    st.one_of(st.just(0), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.one_of(st.just(0), numbers),
    st.one_of(st.none(), numbers),
)
@settings(max_examples=500, deadline=None)
def test_any_entry_is_read_or_refused(tmp_path_factory, sides, dtype, shard, offset, size):
    prefix = tmp_path_factory.getbasetemp() / "fuzz"
    if size is None:
        size = min(math.prod(sides) * {2: 8, 9: 8, 19: 2}.get(dtype, 4), (1 << 63) - 1)
        size = max(size, -(1 << 63))
    content = CONTENT[offset : offset + size] if min(offset, size) >= 0 else b""
    forge(prefix, entry(sides, dtype=dtype, size=size, content=content, shard_id=shard, offset=offset))
    found = outcome(prefix)
    assert found is None or found["w"] == (tuple(sides), tensor_bundle.wire.DTYPES[dtype], content)
