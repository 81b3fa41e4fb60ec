"""ONNX models: those of exporters, with batch norms or without, and our own."""

import dataclasses
import functools
import importlib.util
import subprocess
import sys
import warnings

import numpy as np
import onnx_files
import pytest
from damage import assert_refused
from made import NARROW, NARROW_AUX, NARROW_NOTOP, assert_same, random_weights
from onnx_files import field, model, node, outside, tensor

from inception import load_weights
from inception.files import onnx
from inception.files.tensorflow import wire
from inception.inference import compile_inference
from inception.inference.export import export
from inception.variants import GOOGLE_2015, TORCHVISION
from inception.weights import (
    CheckpointError,
    CorruptFile,
    MissingTensor,
    ResourceLimit,
    UnsafeFile,
    UnsupportedFeature,
)
from inception.weights.canonical import AssumedPicture
from inception.weights.dialects import torch_names

SIZE = 107
NARROW_TORCH = dataclasses.replace(TORCHVISION, num_classes=7, depth_multiplier=0.1, min_depth=4, aux_logits=False)
NARROW_2015 = dataclasses.replace(GOOGLE_2015, depth_multiplier=0.1, min_depth=4)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_weights(path)


def outputs(weights, images, end_points):
    network = compile_inference(weights, end_points=end_points, engine="tensorflow")
    return {name: np.asarray(value) for name, value in network(images).items()}


def images(seed=0, size=SIZE):
    return np.random.default_rng(seed).uniform(-1, 1, (2, size, size, 3)).astype(np.float32)


def assert_close(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted).max())


# ---- models of others


@pytest.mark.parametrize("how", [{}, {"flat": True}, {"outside": True}], ids=["plain", "flat joins", "external data"])
@pytest.mark.parametrize("variant", [NARROW, NARROW_AUX, NARROW_NOTOP, NARROW_TORCH, NARROW_2015,
                                     dataclasses.replace(NARROW, epsilon=0.01)])  # fmt: skip
def test_kept_batch_norms_come_back_to_the_bit(tmp_path, variant, how):
    weights = random_weights(variant)
    back = read(onnx_files.write(tmp_path / "x.onnx", weights, **how))
    assert_same(back if variant.gamma else back.step("fold-gamma"), weights)
    assert back.variant == dataclasses.replace(variant, gamma=True)
    assert (back.source.format, back.source.integrity) == ("ONNX (by its wiring)", "structure")
    assert not any("folded" in note for note in back.source.notes)


@pytest.mark.parametrize("variant", [NARROW, NARROW_TORCH, NARROW_2015])
def test_folded_batch_norms_are_an_equivalent_network(tmp_path, variant):
    weights = random_weights(variant)
    path = onnx_files.write(tmp_path / "x.onnx", weights, folded=True, flat=True)
    back = read(path)
    assert back.variant == dataclasses.replace(variant, gamma=False)
    assert "the same network at inference" in back.source.notes[-1]
    wanted, found = (outputs(w, images(), ("Mixed_7c", "PreLogits", "Logits")) for w in (weights, back))
    for name, value in wanted.items():
        assert_close(found[name], value)
    again = read(onnx_files.write(tmp_path / "again.onnx", back, folded=True))  # the numbers are as they were
    for name, array in back.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], array)


@pytest.mark.parametrize(("variant", "way"), [(NARROW, "keras"), (NARROW_TORCH, "torchvision"),
                                              (NARROW_2015, "google_2015")])  # fmt: skip
def test_what_the_file_does_not_say_is_said(tmp_path, variant, way):
    path = onnx_files.write(tmp_path / "x.onnx", random_weights(variant))
    with pytest.warns(AssumedPicture, match=f"does not say which values its network takes: {way}'s way"):
        assert str(load_weights(path).picture) == way


@pytest.mark.parametrize("kind", ["f2", "f8"])
def test_other_precisions(tmp_path, monkeypatch, kind):
    weights = random_weights(NARROW_NOTOP)
    arrays = {name: array.astype(kind).astype(np.float32) for name, array in weights.arrays.items()}
    monkeypatch.setattr(onnx_files, "tensor", lambda name, array: tensor(name, array.astype(kind)))
    back = read(onnx_files.write(tmp_path / "x.onnx", weights))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array)


def test_numbers_one_by_one_and_in_bfloat16_and_in_constants(tmp_path):
    floats = b"\x08\x02" + wire.encode_integer(2, 1) + field(8, "a") + field(4, np.float32([1, 2]).tobytes())
    halves = b"\x08\x02" + wire.encode_integer(2, 16) + field(8, "b") + field(9, b"\x80\x3f\x00\x40")
    constant = field(2, "c") + field(4, "Constant") + field(5, field(1, "value"), field(5, floats))
    (tmp_path / "x.onnx").write_bytes(model([constant], [floats, halves]))
    read_back = onnx.read(tmp_path / "x.onnx").tensors
    assert [read_back[name].read().tolist() for name in "abc"] == [[1, 2]] * 3


def changed(weights, change):
    graph = onnx_files.Graph(weights)
    change(graph)
    return model(graph.nodes, graph.tensors)


def with_head(graph):
    graph.nodes[-2:] = [node("Gemm", ["v1:0", "onnx::0", "onnx::1"], "h"), node("Elu", ["h"], "y")]


def replaced(old, new):
    def change(graph):
        graph.nodes = [n.replace(old, new) for n in graph.nodes]

    return change


OTHER_NETWORKS = {
    "another head": (with_head, UnsupportedFeature, "another head than InceptionV3's classifier .*Gemm, Elu"),
    "another activation": (replaced(b"Relu", b"Tanh"), UnsupportedFeature, "not of an InceptionV3"),
    "quantized": (lambda graph: graph.put("DequantizeLinear", ["v1:0"]), UnsupportedFeature, "is quantized"),
    "another join": (replaced(b"Concat", b"Concet"), UnsupportedFeature, "not of an InceptionV3"),
    "a value twice": (replaced(b"v2:0", b"v1:0"), CorruptFile, "given by two operations"),
    "a value of nothing": (replaced(b"onnx::7", b"onnx::x"), CorruptFile, "which nothing before it gives"),
    "no nodes": (lambda graph: graph.nodes.clear(), UnsupportedFeature, "not of an InceptionV3"),
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_other_networks(tmp_path, name):
    change, error, message = OTHER_NETWORKS[name]
    (tmp_path / "x.onnx").write_bytes(changed(random_weights(NARROW), change))
    assert_refused(lambda: load_weights(tmp_path / "x.onnx"), error, message)


def test_a_model_exported_while_training(tmp_path):
    graph = onnx_files.Graph(random_weights(NARROW))
    mode = field(5, field(1, "training_mode"), b"\x18\x01")
    nodes = [n + mode if b"BatchNormalization" in n else n for n in graph.nodes]
    (tmp_path / "x.onnx").write_bytes(model(nodes, graph.tensors))
    with pytest.raises(UnsupportedFeature, match="was exported in training mode"):
        load_weights(tmp_path / "x.onnx")


# ---- our own


@pytest.mark.parametrize("variant", [NARROW, NARROW_TORCH, NARROW_2015])
def test_an_export_of_ours_is_the_same_network(tmp_path, variant):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    weights = random_weights(variant)
    export(weights, tmp_path / "x.onnx", image_size=SIZE)
    back = load_weights(tmp_path / "x.onnx")
    assert (back.variant, back.picture) == (dataclasses.replace(variant, gamma=False), weights.picture)
    assert "folded" in back.source.notes[0]
    session = runtime.InferenceSession(tmp_path / "x.onnx")
    names = [output.name for output in session.get_outputs()]
    wanted = dict(zip(names, session.run(None, {"images": images()}), strict=True))
    for name, value in outputs(back, images(), tuple(names)).items():
        assert_close(value, wanted[name])


@pytest.mark.parametrize("end_points", [("PreLogits",), ("AuxLogits", "Predictions")])
def test_an_export_of_some_end_points(tmp_path, end_points):
    pytest.importorskip("onnx")
    from inception.inference import onnx as writer
    from inception.inference.plan import plan

    weights = random_weights(NARROW_AUX)
    made = writer.model_of(plan(weights, end_points))
    (tmp_path / "x.onnx").write_bytes(made.SerializeToString())
    back = load_weights(tmp_path / "x.onnx")
    assert (back.variant.num_classes, back.variant.aux_logits) == ((0, False) if len(end_points) == 1 else (7, True))
    wanted = outputs(weights, images(), end_points)
    for name, value in outputs(back, images(), end_points).items():
        assert_close(value, wanted[name])


def test_exports_that_hold_too_little(tmp_path):
    pytest.importorskip("onnx")
    from inception.inference import onnx as writer
    from inception.inference.plan import plan

    weights = random_weights(NARROW)
    (tmp_path / "x.onnx").write_bytes(writer.model_of(plan(weights, pixels=True)).SerializeToString())
    with pytest.raises(UnsupportedFeature, match="takes pixels, whose scaling is a part of its first kernel"):
        load_weights(tmp_path / "x.onnx")
    (tmp_path / "y.onnx").write_bytes(writer.model_of(plan(weights, ("Mixed_6e",))).SerializeToString())
    with pytest.raises(MissingTensor, match="Mixed_7a"):
        load_weights(tmp_path / "y.onnx")


# ---- hostile and damaged


def dims(*sides, numbers=b""):
    sizes = b"".join(b"\x08" + wire.encode_varint(side) for side in sides)
    return sizes + wire.encode_integer(2, 1) + field(8, "t") + field(9, numbers)


def elsewhere(place, **said):
    return outside("t", (2,), ("location", place), *said.items())


HOSTILE = {
    "huge sides": (dims(1 << 40, 1 << 40), CorruptFile, "has 0 bytes of numbers"),
    "a side of nothing and a huge one": (dims(0, 1 << 62), None, ""),
    "a negative side": (dims(-1), CorruptFile, "negative side"),
    "two negative sides": (dims(-1, -1, numbers=bytes(4)), CorruptFile, "negative side"),
    "too many sides": (dims(*[1] * 99, numbers=bytes(4)), CorruptFile, "more than the 8 numbers"),
    "too few numbers": (dims(2, numbers=bytes(4)), CorruptFile, "expects 8"),
    "numbers outside the folder": (elsewhere("../canary.h5"), UnsafeFile, "own folder"),
    "numbers in a folder": (elsewhere("a/b"), UnsafeFile, "own folder"),
    "numbers at the root": (elsewhere("/etc/passwd"), UnsafeFile, "own folder"),
    "numbers at a drive": (elsewhere("C:x"), UnsafeFile, "own folder"),
    "numbers in the folder itself": (elsewhere("."), UnsafeFile, "own folder"),
    "numbers nowhere": (elsewhere(""), UnsafeFile, "own folder"),
    "numbers in no file": (elsewhere("y.data"), CheckpointError, "no such file"),
    "a length that does not fit": (elsewhere("x.onnx", length="9"), CorruptFile, "do not fit its shape"),
    "a negative offset": (elsewhere("x.onnx", offset="-1"), CorruptFile, "do not fit its shape"),
    "a huge offset": (elsewhere("x.onnx", offset="9" * 18), CorruptFile, "ends behind"),
    "an offset of many digits": (elsewhere("x.onnx", offset="9" * 40_000), CorruptFile, "do not fit its shape"),
    "many fields": (dims() + b"\x60\x01" * 200_000, ResourceLimit, "fields"),
    "a name of nine megabytes": (dims() + field(12, "a" * (9 << 20)), ResourceLimit, "beside its numbers"),
}  # fmt: skip


def hostile(folder, content):
    (folder / "x.onnx").write_bytes(model([], [content]))
    return folder / "x.onnx"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_models(tmp_path, name):
    content, error, message = HOSTILE[name]
    path = hostile(tmp_path, content)
    assert_refused(functools.partial(load_weights, path), error or UnsupportedFeature, message, seconds=4)


def test_a_link_is_not_followed(tmp_path):
    path = onnx_files.write(tmp_path / "x.onnx", random_weights(NARROW_NOTOP), outside=True)
    (tmp_path / "x.onnx.data").rename(tmp_path / "elsewhere")
    (tmp_path / "x.onnx.data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafeFile, match="is a link"):
        load_weights(path)


def test_a_graph_def_is_not_taken_for_a_model(tmp_path):
    random_weights(NARROW).save(tmp_path / "x.pb")
    assert not onnx.is_model((tmp_path / "x.pb").read_bytes()[:1024])
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x04\x0a\x00\x12\x00")
    assert not onnx.is_model((tmp_path / "saved_model.pb").read_bytes())
    path = onnx_files.write(tmp_path / "renamed.pb", random_weights(NARROW))
    assert read(path).source.format == "ONNX (by its wiring)"


def test_a_second_file_is_never_written_over(tmp_path):
    from inception.weights import formats

    path = onnx_files.write(tmp_path / "x.onnx", random_weights(NARROW_NOTOP), outside=True)
    assert formats.files_of(path) == [path, tmp_path / "x.onnx.data"]


# ---- exporters themselves


# In a process of its own: torchvision crashes as it loads beside some TensorFlows.
TORCH_EXPORTS = """
import sys
import numpy as np, torch, torchvision

how, state, path = sys.argv[1:]
net = torchvision.models.inception_v3(weights=None, init_weights=False).eval()
with np.load(state) as arrays:
    net.load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays})
kept = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
arguments = {"dynamo": how == "dynamo", **(kept if how == "kept" else {})}
torch.onnx.export(net, (torch.zeros(1, 3, 299, 299),), path, **arguments)
"""


def assert_same_in_onnxruntime(back, path, x, name):
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    [wanted] = session.run(None, {session.get_inputs()[0].name: x})
    x = x.transpose(0, 2, 3, 1) if x.shape[1] == 3 else x
    assert_close(outputs(back, x, (name,))[name], wanted)


@pytest.mark.parametrize("how", ["folded", "kept", "dynamo"])
def test_what_torch_exports(tmp_path, how):
    for library in ["torchvision", *(["onnxscript"] if how == "dynamo" else [])]:
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    weights = random_weights(TORCHVISION)
    np.savez(tmp_path / "state.npz", **torch_names.scatter(weights))
    weights = weights.step("drop-aux")
    command = [sys.executable, "-c", TORCH_EXPORTS, how, tmp_path / "state.npz", tmp_path / "x.onnx"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    back = read(tmp_path / "x.onnx")
    assert back.variant == dataclasses.replace(weights.variant, gamma=how == "kept")
    if how == "kept":
        assert_same(back, weights)
    assert_same_in_onnxruntime(back, tmp_path / "x.onnx", images(size=299)[:1].transpose(0, 3, 1, 2), "Logits")


def test_what_keras_exports(tmp_path):
    pytest.importorskip("tf2onnx")
    from inception.builders.keras import model_of

    keras_model = model_of(random_weights(NARROW), input_shape=(SIZE, SIZE, 3))
    keras_model(images())
    keras_model.export(tmp_path / "x.onnx", format="onnx", verbose=False)
    back = read(tmp_path / "x.onnx")
    assert back.variant == NARROW
    assert_same_in_onnxruntime(back, tmp_path / "x.onnx", images(), "Predictions")
