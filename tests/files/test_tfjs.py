"""TensorFlow.js models: shards in a row, quantized values, and manifests that point elsewhere."""

import json

import numpy as np
import pytest
from damage import assert_refused
from made import NARROW, NARROW_NOTOP, TINY, assert_same, random_weights

from inception import load_weights
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.weights.dialects import keras_layers
from inception.weights.formats import tfjs


def weights_of(weights, first=1):
    """{"conv2d_1/kernel": array}, counted from `first`, batch norms before convolutions as TensorFlow.js has them."""
    found = {}
    for layer, arrays in keras_layers.scatter(weights).items():
        kind, _, number = layer.rpartition("_")
        layer = f"{kind}_{int(number) + first - 1}" if number.isdigit() else layer
        found |= {f"{layer}/{weight}": array for weight, array in arrays.items()}
    return dict(sorted(found.items()))


def quantized(array, kind):
    """(bytes, what the manifest says of them)."""
    if kind is None:
        return array.tobytes(), {}
    if kind == "float16":
        return array.astype("<f2").tobytes(), {"quantization": {"dtype": kind, "original_dtype": "float32"}}
    low, levels = float(array.min()), np.iinfo(kind).max
    scale = (float(array.max()) - low) / levels or 1.0
    values = np.round((array - low) / scale).astype(np.dtype(kind).newbyteorder("<"))
    return values.tobytes(), {"quantization": {"dtype": kind, "scale": scale, "min": low}}


def save(folder, arrays, kind=None, shard=4096, change=lambda model: None):
    """A model.json and its shards; `change` edits what the model says before it is written."""
    entries, content = [], b""
    for name, array in arrays.items():
        data, more = quantized(array, kind)
        entries.append({"name": name, "shape": list(array.shape), "dtype": "float32"} | more)
        content += data
    count = -(-len(content) // shard)
    paths = [f"group1-shard{i + 1}of{count}" for i in range(count)]
    for i, path in enumerate(paths):
        (folder / path).write_bytes(content[i * shard : (i + 1) * shard])
    model = {"modelTopology": {"keras_version": "2.2.4"}, "weightsManifest": [{"paths": paths, "weights": entries}]}
    change(model)
    (folder / "model.json").write_text(json.dumps(model))
    return folder / "model.json"


def small(folder, change=lambda model: None):
    return save(folder, {"conv2d_1/kernel": np.zeros((3, 3, 3, 2), "f4")}, change=change)


def group_of(model):
    return model["weightsManifest"][0]


def entry_of(model):
    return group_of(model)["weights"][0]


# ---- models


@pytest.mark.parametrize("variant", [NARROW, NARROW_NOTOP])
@pytest.mark.parametrize("shard", [10_007, 1 << 22])
def test_float32(tmp_path, variant, shard):
    weights = random_weights(variant)
    back = load_weights(save(tmp_path, weights_of(weights, first=95), shard=shard))
    assert_same(back, weights)
    assert back.variant == variant
    assert back.source.integrity == "structure"


@pytest.mark.parametrize(("kind", "steps"), [("uint8", 255), ("uint16", 65535), ("float16", 2000)])
def test_quantized(tmp_path, kind, steps):
    weights = random_weights(TINY)
    back = load_weights(save(tmp_path, weights_of(weights), kind))
    assert back.variant.shapes() == TINY.shapes()
    for name, array in weights.arrays.items():
        assert back.arrays[name].dtype == np.float32
        np.testing.assert_allclose(back.arrays[name], array, atol=max(float(np.ptp(array)), 1) / steps)


def test_values_are_reckoned_in_double_precision(tmp_path):
    arrays = weights_of(random_weights(TINY))
    path = save(tmp_path, arrays, "uint8")
    [entry] = [e for e in group_of(json.loads(path.read_text()))["weights"] if e["name"] == "conv2d_1/kernel"]
    kernel = arrays["conv2d_1/kernel"]
    scale, low = entry["quantization"]["scale"], entry["quantization"]["min"]
    codes = np.round((kernel - low) / scale)
    expected = (codes.astype("f8") * scale + low).astype("f4")
    np.testing.assert_array_equal(load_weights(path).arrays["InceptionV3/Conv2d_1a_3x3/weights"], expected)


def test_several_groups(tmp_path):
    weights = random_weights(TINY)
    arrays = weights_of(weights)
    half = len(arrays) // 2
    groups = []
    for i, part in enumerate((dict(list(arrays.items())[:half]), dict(list(arrays.items())[half:]))):
        (tmp_path / f"group{i}").write_bytes(b"".join(array.tobytes() for array in part.values()))
        entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in part.items()]
        groups.append({"paths": [f"group{i}"], "weights": entries})
    (tmp_path / "model.json").write_text(json.dumps({"format": "layers-model", "weightsManifest": groups}))
    assert_same(load_weights(tmp_path / "model.json"), weights)


def test_another_head_is_kept_aside(tmp_path):
    head = np.arange(17 * 5, dtype="f4").reshape(17, 5)
    weights = load_weights(save(tmp_path, weights_of(random_weights(TINY)) | {"dense_1/kernel": head}))
    np.testing.assert_array_equal(weights.extra["dense_1/kernel"], head)
    assert "1 arrays beyond InceptionV3 kept aside: dense_1/kernel" in weights.source.notes


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({}, "JSON without a weightsManifest"),
        ({"weightsManifest": 3}, "JSON without a weightsManifest"),
        ({"format": "graph-model", "weightsManifest": [{"paths": [], "weights": []}]}, "a TensorFlow.js graph model"),
        ({"weightsManifest": []}, "none of InceptionV3's convolutions"),
    ],
)
def test_other_json(tmp_path, model, words):
    (tmp_path / "model.json").write_text(json.dumps(model))
    with pytest.raises(UnsupportedFeature, match=words):
        load_weights(tmp_path / "model.json")


# ---- shards that are not beside the model

ELSEWHERE = ["../secret", "/etc/hostname", "a/b", "..", ".", "", "..\\secret", "C:secret", "x\0y", "http://x/y"]


@pytest.mark.parametrize("path", ELSEWHERE)
def test_shards_stay_in_the_folder(tmp_path, path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(216))
    model = small(folder, lambda model: group_of(model).update(paths=[path]))
    assert_refused(lambda: load_weights(model), UnsafeFile, "which is not a file beside it")


def test_links_are_not_followed(tmp_path):
    model = small(tmp_path)
    (tmp_path / "group1-shard1of1").rename(tmp_path / "secret")
    (tmp_path / "group1-shard1of1").symlink_to(tmp_path / "secret")
    with pytest.raises(UnsafeFile, match="is a link"):
        load_weights(model)


# ---- manifests that lie

CHANGES = {
    "no groups": lambda m: m.update(weightsManifest=[1]),
    "no weights": lambda m: group_of(m).pop("weights"),
    "weights that are no list": lambda m: group_of(m).update(weights={}),
    "no paths": lambda m: group_of(m).pop("paths"),
    "paths that are no texts": lambda m: group_of(m).update(paths=[1]),
    "the same shard twice": lambda m: group_of(m)["paths"].append("group1-shard1of1"),
    "a weight that is none": lambda m: group_of(m)["weights"].append(3),
    "a weight without name": lambda m: entry_of(m).pop("name"),
    "a weight twice": lambda m: m["weightsManifest"].append(group_of(m)),
    "no shape": lambda m: entry_of(m).pop("shape"),
    "another shape": lambda m: entry_of(m).update(shape=[3, 3, 3, 3]),
    "a negative side": lambda m: entry_of(m).update(shape=[3, 3, -3, -2]),
    "2^61 values": lambda m: entry_of(m).update(shape=[1 << 61]),
    "2^80 values": lambda m: entry_of(m).update(shape=[1 << 40, 1 << 40]),
    "2^28 values": lambda m: entry_of(m).update(shape=[1 << 28]),
    "sides of 1.5": lambda m: entry_of(m).update(shape=[1.5]),
    "an unknown type": lambda m: entry_of(m).update(dtype="string"),
    "a type that is none": lambda m: entry_of(m).update(dtype=["float32"]),
    "a quantization that is none": lambda m: entry_of(m).update(quantization=[1]),
    "an unknown quantization": lambda m: entry_of(m).update(quantization={"dtype": "int4"}),
    "no scale": lambda m: entry_of(m).update(quantization={"dtype": "uint8", "min": 0}, shape=[216]),
    "a scale that is a text": lambda m: entry_of(m).update(
        quantization={"dtype": "uint8", "min": 0, "scale": "1"}, shape=[216]
    ),
    "an infinite scale": lambda m: entry_of(m).update(
        quantization={"dtype": "uint8", "min": 0, "scale": float("inf")}, shape=[216]
    ),
    "a scale of 10^400": lambda m: entry_of(m).update(
        quantization={"dtype": "uint8", "min": 0, "scale": 10**400}, shape=[216]
    ),
    "a shard cut short": lambda m: entry_of(m).update(shape=[55]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_manifests_that_lie_are_refused(tmp_path, name):
    model = small(tmp_path, CHANGES[name])
    assert_refused(lambda: load_weights(model), CheckpointError, r"model\.json", seconds=1)


def test_shards_cut_short(tmp_path):
    model = save(tmp_path, weights_of(random_weights(TINY)))
    shards = sorted(tmp_path.glob("group*"))
    for shard in shards:
        content = shard.read_bytes()
        shard.write_bytes(content[:-1])
        with pytest.raises(CorruptFile, match="describes"):
            load_weights(model)
        shard.write_bytes(content)


def test_values_that_overflow_become_infinite_and_are_doubted(tmp_path):
    entry = {"dtype": "uint8", "min": 0, "scale": 2e38}
    model = save(
        tmp_path,
        weights_of(random_weights(TINY)),
        "uint8",
        change=lambda m: [w.update(quantization=entry) for w in group_of(m)["weights"]],
    )
    assert np.isinf(tfjs.read(model).arrays["InceptionV3/Conv2d_1a_3x3/weights"]).any()


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b'{"a":1,"a":2}',
        b'{"a":' + b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"\xff":1}',
        b'{"a":' + b"1" * 9999 + b"}",
    ],
)
def test_json_that_is_none(tmp_path, text):
    (tmp_path / "model.json").write_bytes(text)
    assert_refused(lambda: load_weights(tmp_path / "model.json"), CorruptFile, "its JSON cannot be read")


def test_json_too_long_for_a_model(tmp_path):
    (tmp_path / "model.json").write_bytes(b"{" + b" " * (5 << 20) + b"}")
    with pytest.raises(ResourceLimit, match="bytes of JSON"):
        load_weights(tmp_path / "model.json")


def test_more_shards_than_there_can_be(tmp_path):
    model = small(tmp_path, lambda model: group_of(model).update(paths=["group1-shard1of1"] * 2000))
    with pytest.raises(ResourceLimit, match="names 2000 shards"):
        load_weights(model)
