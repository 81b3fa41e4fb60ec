"""safetensors files: torch users' keys, our digests, and headers that lie."""

import hashlib
import json

import numpy as np
import pytest
from containers import foreign_safetensors
from damage import assert_refused
from made import NARROW, TINY_TORCH, assert_same, random_weights

from inception import load_weights
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, ShapeMismatch, UnsupportedFeature
from inception.weights.canonical import OtherRules
from inception.weights.dialects import torch_names
from inception.weights.formats import safetensors


def save(path, header, content=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)
    return path


def parts(path):
    """(header, values) of a file."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


@pytest.fixture
def ours(tmp_path):
    safetensors.write(tmp_path / "x.safetensors", random_weights(TINY_TORCH))
    return tmp_path / "x.safetensors"


# ---- there and back


def test_a_warning_for_what_torch_code_would_run(tmp_path):
    with pytest.warns(OtherRules, match="border='exclude'"):
        random_weights(NARROW).save(tmp_path / "x.safetensors")


def test_the_package_of_that_name_reads_ours(ours):
    package = pytest.importorskip("safetensors.numpy")
    found, expected = package.load_file(ours), torch_names.scatter(random_weights(TINY_TORCH))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_we_read_what_the_package_of_that_name_writes(tmp_path):
    package = pytest.importorskip("safetensors.numpy")
    weights = random_weights(TINY_TORCH)
    package.save_file(torch_names.scatter(weights), tmp_path / "x.safetensors")
    back = load_weights(tmp_path / "x.safetensors")
    assert_same(back, weights)
    assert back.source.integrity == "structure"


def test_the_values_are_aligned(ours):
    header, content = parts(ours)
    assert (ours.stat().st_size - len(content)) % 8 == 0
    for name, entry in header.items():
        if name != "__metadata__":
            assert entry["data_offsets"][0] % {"I64": 8, "F32": 4}[entry["dtype"]] == 0


def test_other_types(tmp_path):
    weights = random_weights(TINY_TORCH)
    arrays = {key: array for key, array in torch_names.scatter(weights).items() if array.ndim}
    path = tmp_path / "x.safetensors"
    for dtype in ("f8", "f2"):
        back = safetensors.read(foreign_safetensors(path, {key: array.astype(dtype) for key, array in arrays.items()}))
        np.testing.assert_allclose(back.arrays["InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1/weights"],
                                   weights.arrays["InceptionV3/Mixed_7c/Branch_3/Conv2d_0b_1x1/weights"],
                                   rtol=1e-3, atol=1e-4)  # fmt: skip
    upper = {key: (array.view(np.uint32) >> 16).astype(np.uint16).view("f2") for key, array in arrays.items()}
    back = safetensors.read(foreign_safetensors(path, upper, dict.fromkeys(upper, "BF16")))
    for name, array in weights.arrays.items():
        np.testing.assert_array_equal(back.arrays[name].view(np.uint32), array.view(np.uint32) & 0xFFFF0000)
    with pytest.raises(UnsupportedFeature, match="is of type 'F8_E4M3'"):
        safetensors.read(foreign_safetensors(path, arrays, {"Conv2d_1a_3x3.bn.bias": "F8_E4M3"}))
    arrays["Conv2d_1a_3x3.bn.bias"] = arrays["Conv2d_1a_3x3.bn.bias"].astype("i8")
    with pytest.raises(ShapeMismatch, match=r"Conv2d_1a_3x3\.bn\.bias is int64"):
        safetensors.read(foreign_safetensors(path, arrays))


def test_other_tensors(tmp_path):
    with pytest.raises(UnsupportedFeature, match=r"no InceptionV3's state_dict \(found keys a\)"):
        load_weights(foreign_safetensors(tmp_path / "x", {"a": np.zeros(2, "f4")}))


# ---- digests


def test_a_changed_value_is_named(ours):
    content = bytearray(ours.read_bytes())
    content[-1] ^= 1
    ours.write_bytes(content)
    with pytest.raises(CorruptFile, match=r"tensor 'Mixed_7c\.branch_pool\.bn\.running_var': its digest is wrong"):
        safetensors.read(ours)


def test_a_changed_header_is_noticed(ours):
    header, content = parts(ours)
    header["__metadata__"]["inception_variant"] = header["__metadata__"]["inception_variant"].replace(
        "include", "exclude"
    )
    with pytest.raises(CorruptFile, match="its header's digest is wrong"):
        safetensors.read(save(ours, header, content))


def test_swapped_tensors_are_noticed(ours):
    """Of equal shape, with their digests, so that only the header's own tells."""
    header, content = parts(ours)
    one, two = "Mixed_6b.branch1x1.bn.bias", "Mixed_6c.branch1x1.bn.bias"
    header[one], header[two] = header[two], header[one]
    digests = header["__metadata__"]
    digests[f"sha256:{one}"], digests[f"sha256:{two}"] = digests[f"sha256:{two}"], digests[f"sha256:{one}"]
    with pytest.raises(CorruptFile, match="its header's digest is wrong"):
        safetensors.read(save(ours, header, content))


def test_digests_are_what_they_say(ours):
    header, content = parts(ours)
    start, stop = header["Conv2d_1a_3x3.conv.weight"]["data_offsets"]
    digest = hashlib.sha256(content[start:stop]).hexdigest()
    assert header["__metadata__"]["sha256:Conv2d_1a_3x3.conv.weight"] == digest


# ---- hostile headers


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more


HEADERS = {
    "empty file": b"",
    "header of 2^63 bytes": (1 << 63).to_bytes(8, "little") + b"{}",
    "header of 100 MB": (100_000_000).to_bytes(8, "little") + b"{}",
    "header longer than the file": (50).to_bytes(8, "little") + b"{}",
    "no JSON": b"{'a'}",
    "no object": b"[1, 2]",
    "not UTF-8": b'{"\xff": 1}',
    "deep": b'{"a":' * 100_000,
    "deep list": b'{"a":' + b"[" * 200_000,
    "a number of 10,000 digits": b'{"a":' + b"1" * 10_000 + b"}",
    "a name twice": b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2),
    "no entry": {"a": 1},
    "an entry without shape": {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
    "an entry with more": {"a": entry(more=1)},
    "a type that is no text": {"a": entry(dtype=["F32"])},
    "an unknown type": {"a": entry(dtype="C64")},
    "a negative side": {"a": entry(shape=(-2,))},
    "a side of 1.5": {"a": entry(shape=(2.0,))},
    "a true side": {"a": entry(shape=(True, 2))},
    "a side of 2^62": {"a": entry(shape=(1 << 62,), offsets=(0, 1 << 64))},
    "a side of 0 and one of 2^61": {"a": entry(shape=(0, 1 << 61), offsets=(0, 0)), "b": entry()},
    "300 sides": {"a": entry(shape=(1,) * 300)},
    "one offset": {"a": entry(offsets=(8,))},
    "offsets the wrong way round": {"a": entry(offsets=(8, 0))},
    "negative offsets": {"a": entry(offsets=(-8, 0))},
    "a size that is not the shape's": {"a": entry(offsets=(0, 4))},
    "past the end": {"a": entry(offsets=(8, 16))},
    "a gap": {"a": entry(shape=(1,), offsets=(0, 4)), "b": entry(shape=(0,), offsets=(8, 8))},
    "an overlap": {"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(shape=(1,), offsets=(4, 8))},
    "the same bytes twice": {"a": entry(), "b": entry()},
    "bytes that nothing names": {"a": entry(shape=(1,), offsets=(0, 4))},
    "a gigabyte that is not there": {"a": entry(shape=(1 << 28,), offsets=(0, 1 << 30))},
    "metadata that is no object": {"__metadata__": [], "a": entry()},
    "metadata that is no text": {"__metadata__": {"a": 1}, "a": entry()},
    "a variant that is none": {"__metadata__": {"inception_variant": "{"}, "a": entry()},
    "a digest that is none": {"__metadata__": {"inception_sha256": "zz"}, "a": entry()},
}


@pytest.mark.parametrize("name", HEADERS)
def test_hostile_headers_are_refused(tmp_path, name):
    path, header = tmp_path / "x.safetensors", HEADERS[name]
    if isinstance(header, bytes) and not header.startswith((b"{", b"[")):
        path.write_bytes(header)
    else:
        save(path, header, bytes(8))
    assert_refused(lambda: safetensors.read(path), CheckpointError, "x.safetensors")


def test_a_header_too_long_for_weights(tmp_path):
    with pytest.raises(ResourceLimit, match="bytes of header"):
        load_weights(save(tmp_path / "x.safetensors", b"{" + b" " * (2 << 20) + b"}"))
