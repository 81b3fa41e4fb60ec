"""V1 checkpoints: the same bits through TensorFlow and through us; every forged file is refused."""

from __future__ import annotations

import os
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_saver
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.core.util import saved_tensor_slice_pb2  # type: ignore[import-untyped]
from tensorflow_saver import (
    V1,
    fingerprint,
    load_with_tensorflow,
    restore_with_tensorflow,
    save_with_tensorflow,
    values,
)

from inception.files.errors import CheckpointError, ResourceLimit, UnsupportedFeature
from inception.files.tensorflow import tensor_slices
from inception.files.tensorflow.sstable import read_table, write_table


def sample() -> dict[str, np.ndarray]:
    return {
        **tensorflow_saver.sample(),
        "ints": np.asarray([1, -1, 2**31 - 1, -(2**31)], np.int32),
        "zero": np.asarray(0, np.int64),
    }


# ---- round trips


def test_tensorflow_reads_what_we_write(tmp_path):
    arrays, path = sample(), tmp_path / "inception_v3.ckpt"
    tensor_slices.write(path, arrays)
    assert os.listdir(tmp_path) == ["inception_v3.ckpt"]
    assert fingerprint(load_with_tensorflow(path)) == fingerprint(arrays)
    assert fingerprint(restore_with_tensorflow(path, arrays)) == fingerprint(arrays)
    assert fingerprint(values(tensor_slices.read(path))) == fingerprint(arrays)


def test_we_read_what_tensorflow_writes(tmp_path):
    arrays, path = sample(), tmp_path / "theirs.ckpt"
    save_with_tensorflow(path, arrays, V1)
    tensors = tensor_slices.read(path)
    assert {name: (t.shape, t.dtype) for name, t in tensors.items()} == {
        name: (a.shape, a.dtype) for name, a in arrays.items()
    }
    assert fingerprint(values(tensors)) == fingerprint(arrays)
    fresh = tensors["double"].read()
    fresh[:] = 0
    assert fingerprint({"double": tensors["double"].read()}) == fingerprint({"double": arrays["double"]})


def test_our_keys_and_numbers_are_tensorflows_byte_for_byte(tmp_path):
    save_with_tensorflow(tmp_path / "theirs", sample(), V1)
    tensor_slices.write(tmp_path / "ours", sample())
    theirs, ours = read_table(tmp_path / "theirs"), read_table(tmp_path / "ours")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        message = saved_tensor_slice_pb2.SavedTensorSlices.FromString
        assert message(ours[key]) == message(value) or (b"beta" in key and ours[key] == value)  # NaN != NaN


def test_many_tensors_and_megabytes_both_ways(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {f"scope_{at % 7}/layer_{at}/BatchNorm/gamma": np.full(at % 90, at, "f4") for at in range(1000)}
    arrays |= {f"scope_{at}/weights": rng.standard_normal((40, 40, 60 + at), np.float32) for at in range(7)}
    arrays["steps"] = rng.integers(-(1 << 62), 1 << 62, 20_000)
    tensor_slices.write(tmp_path / "ours", arrays)
    assert fingerprint(load_with_tensorflow(tmp_path / "ours")) == fingerprint(arrays)
    names = list(arrays)
    tf.raw_ops.SaveSlices(
        filename=str(tmp_path / "theirs"),
        tensor_names=names,
        shapes_and_slices=[""] * len(names),
        data=list(arrays.values()),
    )
    assert fingerprint(values(tensor_slices.read(tmp_path / "theirs"))) == fingerprint(arrays)


def test_other_types_are_listed_and_not_read(tmp_path):
    save_with_tensorflow(tmp_path / "m", {"flag": np.array(True), "half": np.ones(2, "f2"), "w": np.ones(2, "f4")}, V1)
    tensors = tensor_slices.read(tmp_path / "m")
    assert tensors["w"].read().tolist() == [1, 1]
    for name in ("flag", "half"):
        with pytest.raises(UnsupportedFeature, match="type"):
            tensors[name].read()


def test_a_partitioned_variable_is_refused(tmp_path):
    tf.raw_ops.SaveSlices(
        filename=str(tmp_path / "sliced"),
        tensor_names=["w", "w"],
        shapes_and_slices=["4 3 0,2:-", "4 3 2,2:-"],
        data=[np.zeros((2, 3), np.float32)] * 2,
    )
    with pytest.raises(UnsupportedFeature, match="partitioned"):
        tensor_slices.read(tmp_path / "sliced")


# ---- writing safely


# ---- damage


def outcome(path) -> dict[str, tuple] | None:
    """The tensors, or None after one of our errors; any other error fails the test."""
    try:
        return fingerprint(values(tensor_slices.read(path)))
    except CheckpointError as error:
        assert str(path) in str(error)
        return None


def test_random_damage_to_many_blocks(tmp_path):
    rng = np.random.default_rng(5)
    arrays = {f"layer_{at}/weights": rng.standard_normal(30_000, np.float32) for at in range(9)}
    target = tmp_path / "large.ckpt"
    tensor_slices.write(target, arrays)
    whole = target.read_bytes()
    for place in rng.integers(0, len(whole) - 48, 40):
        for damage in (bytes([whole[place] ^ 0xFF]), bytes(512)):
            target.write_bytes(whole[:place] + damage + whole[place + len(damage) :])
            assert outcome(target) is None


# ---- forged files whose checksums are right


def listing(*tensors, producer=1, consumer=0) -> bytes:
    """The list of tensors: (name, sides, type, slices, each a list of extents) for each."""
    message = saved_tensor_slice_pb2.SavedTensorSlices()
    message.meta.versions.producer, message.meta.versions.min_consumer = producer, consumer
    for name, sides, dtype, slices in tensors:
        listed = message.meta.tensor.add(name=name, type=dtype)
        listed.shape.SetInParent()
        for side in sides:
            listed.shape.dim.add().size = side
        for extents in slices:
            part = listed.slice.add()
            for extent in extents:
                part.extent.add(**extent)
    return message.SerializeToString()


def numbers(name="w", rank=1, **tensor) -> bytes:
    message = saved_tensor_slice_pb2.SavedTensorSlices()
    message.data.name = name
    for _ in range(rank):
        message.data.slice.extent.add()
    message.data.data.SetInParent()
    for field, content in tensor.items():
        if field == "tensor_content":
            message.data.data.tensor_content = content
        else:
            getattr(message.data.data, field).extend(content)
    return message.SerializeToString()


def forge(path, listed: bytes, content: bytes | None, rank: int = 1) -> None:
    pairs = [(b"", listed)]
    if content is not None:
        pairs.append((b"\0w\0\1" + (bytes([1, rank]) if rank else b"\0") + b"\x80\x7f" * rank, content))
    with open(path, "wb") as file:
        write_table(file, pairs)


WHOLE: list[list[dict[str, int]]] = [[{}]]
FOUR = numbers(float_val=[0, 1, 2, 3])
FORGED = {
    "side -1": (listing(("w", [-1], 1, WHOLE)), FOUR, 1),
    "2^40 x 2^40": (listing(("w", [1 << 40] * 2, 1, [[{}, {}]])), numbers(rank=2), 2),
    "2^38": (listing(("w", [1 << 38], 1, WHOLE)), FOUR, 1),
    "0 x 2^62": (listing(("w", [0, 1 << 62], 1, [[{}, {}]])), numbers(rank=2), 2),
    "2^62 x 4 wraps to 0": (listing(("w", [1 << 62, 4], 1, [[{}, {}]])), numbers(rank=2), 2),
    "rank 300": (listing(("w", [1] * 300, 1, [[{}] * 300])), FOUR, 1),
    "type 0": (listing(("w", [4], 0, WHOLE)), FOUR, 1),
    "type 999": (listing(("w", [4], 999, WHOLE)), FOUR, 1),
    "reference type": (listing(("w", [4], 101, WHOLE)), FOUR, 1),
    "string": (listing(("w", [1 << 34], 7, WHOLE)), numbers(string_val=[b"x"]), 1),
    "no slice": (listing(("w", [4], 1, [])), FOUR, 1),
    "two slices": (listing(("w", [4], 1, WHOLE * 2)), FOUR, 1),
    "slice with a start": (listing(("w", [4], 1, [[{"start": 1}]])), FOUR, 1),
    "slice with a length": (listing(("w", [4], 1, [[{"length": 4}]])), FOUR, 1),
    "negative slice": (listing(("w", [4], 1, [[{"start": -1, "length": -4}]])), FOUR, 1),
    "slice of another rank": (listing(("w", [4], 1, [[{}, {}]])), FOUR, 1),
    "listed twice": (listing(("w", [4], 1, WHOLE), ("w", [4], 1, WHOLE)), FOUR, 1),
    "values missing": (listing(("w", [4], 1, WHOLE)), None, 1),
    "values of another tensor": (listing(("w", [4], 1, WHOLE)), numbers("v", float_val=[0] * 4), 1),
    "too few values": (listing(("w", [5], 1, WHOLE)), FOUR, 1),
    "one value for many": (listing(("w", [4], 1, WHOLE)), numbers(float_val=[0]), 1),
    "too many values": (listing(("w", [3], 1, WHOLE)), FOUR, 1),
    "values of another type": (listing(("w", [4], 1, WHOLE)), numbers(double_val=[0] * 4), 1),
    "content cut short": (listing(("w", [4], 1, WHOLE)), numbers(tensor_content=bytes(15)), 1),
    "too many integers": (listing(("w", [3], 9, WHOLE)), numbers(int64_val=[0] * 4), 1),
    "too few integers": (listing(("w", [5], 9, WHOLE)), numbers(int64_val=[0] * 4), 1),
    "integers cut short": (listing(("w", [1], 9, WHOLE)), b"\x12\x08\x0a\x01w\x1a\x03\x52\x01\x80", 1),
    "integer of 40 bits as int32": (
        listing(("w", [1], 3, WHOLE)),
        b"\x12\x0d\x0a\x01w\x1a\x08\x3a\x06\x80\x80\x80\x80\x80\x01",
        1,
    ),
    "version 99": (listing(("w", [4], 1, WHOLE), producer=99), FOUR, 1),
    "for readers of version 99": (listing(("w", [4], 1, WHOLE), consumer=99), FOUR, 1),
    "list is no protobuf": (b"\xff" * 20, FOUR, 1),
    "list is a number": (b"\x08\x01", FOUR, 1),
    "name is not UTF-8": (b"\x0a\x06\x0a\x04\x0a\x02\xff\xfe", FOUR, 1),
    "values are no protobuf": (listing(("w", [4], 1, WHOLE)), b"\xff" * 20, 1),
    "values are a number": (listing(("w", [4], 1, WHOLE)), b"\x10\x01", 1),
}


def refusal(path) -> CheckpointError:
    """The error that reading raises, which must come at once, in time of this process's own, and take no memory."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(CheckpointError) as caught:
            values(tensor_slices.read(path))
        assert time.process_time() - start < 1
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("dtype", "content"),
    [
        (1, FOUR),
        (1, numbers(tensor_content=np.arange(4, dtype="<f4").tobytes())),
        (2, numbers(double_val=[0, 1, 2, 3])),
        (9, numbers(tensor_content=np.arange(4, dtype="<i8").tobytes())),
        (9, b"\x12\x0d\x0a\x01w\x1a\x08\x50\x00\x50\x01\x52\x02\x02\x03"),
    ],
)
def test_the_forger_can_make_good_files(tmp_path, dtype, content):
    forge(tmp_path / "m", listing(("w", [4], dtype, WHOLE)), content)
    assert tensor_slices.read(tmp_path / "m")["w"].read().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused(tmp_path, name):
    listed, content, rank = FORGED[name]
    forge(tmp_path / "m", listed, content, rank)
    refusal(tmp_path / "m")


def test_a_table_without_list_is_refused(tmp_path):
    with open(tmp_path / "m", "wb") as file:
        write_table(file, [(b"w", b"")])
    refusal(tmp_path / "m")


def test_a_large_shape_is_refused_before_room_is_made(tmp_path):
    forge(tmp_path / "m", listing(("w", [1 << 27], 1, WHOLE)), FOUR)
    assert isinstance(refusal(tmp_path / "m"), ResourceLimit)


sides = st.lists(st.one_of(st.integers(0, 3), st.integers(-(1 << 63), (1 << 63) - 1)), max_size=4)
contents = st.one_of(
    st.lists(st.floats(width=32), max_size=20).map(lambda found: {"float_val": found}),
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20).map(lambda found: {"int64_val": found}),
    st.binary(max_size=80).map(lambda found: {"tensor_content": found}),
)


@given(sides, st.integers(-1, 20), st.lists(st.fixed_dictionaries({}), max_size=4), contents)
@settings(max_examples=500, deadline=None)
def test_any_tensor_is_read_or_refused(tmp_path_factory, sides, dtype, extents, content):
    path = tmp_path_factory.getbasetemp() / "fuzz.ckpt"
    rank = len(extents)
    forge(path, listing(("w", sides, dtype, [extents])), numbers(rank=rank, **content), rank)
    found = outcome(path)
    assert found is None or found["w"][0] == tuple(sides)
