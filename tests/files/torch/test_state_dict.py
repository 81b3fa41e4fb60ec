"""torch's files: both kinds of them, made with torch and without, and pickles that want more."""

import builtins
import os
import pickle
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from damage import assert_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from made import NARROW_AUX, NARROW_NOTOP, TINY_TORCH, assert_same, random_weights
from torch_files import (
    MAGIC,
    ORDERED_DICT,
    dictionary,
    number,
    numbers,
    pickled,
    state_dict,
    storage,
    tensor,
    text,
    write_legacy,
    write_zip,
)

from inception import load_weights
from inception.weights import CheckpointError, CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.weights.dialects import torch_names
from inception.weights.formats import torch_pickle

WRITERS = [write_zip, write_legacy]
KEY = "Conv2d_1a_3x3.conv.weight"


def tiny():
    return torch_names.scatter(random_weights(TINY_TORCH))


# ---- files made without torch


@pytest.mark.parametrize("write", WRITERS)
def test_a_state_dict(tmp_path, write):
    back = load_weights(write(tmp_path / "x.pth", tiny()))
    assert_same(back, random_weights(TINY_TORCH))
    assert back.variant == TINY_TORCH
    assert (back.source.format, back.source.integrity) == (
        ("PyTorch (zip)", "checksum") if write is write_zip else ("PyTorch (before 1.6)", "structure")
    )


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_state_dict"])
def test_a_training_checkpoint(tmp_path, write, wrapper):
    arrays = {f"module.{key}": array for key, array in tiny().items()}
    body = dictionary(
        {"epoch": number(3), wrapper: state_dict(arrays), "lr": b"G" + bytes(8), "arch": text("v3")}, b"}"
    )
    assert_same(load_weights(write(tmp_path / "x.pth", arrays, body=pickled(body) if write is write_zip else body)),
                random_weights(TINY_TORCH))  # fmt: skip


@pytest.mark.parametrize("order", ["<", ">"])
def test_byte_order(tmp_path, order):
    arrays = {key: array.astype(array.dtype.newbyteorder(order)) for key, array in tiny().items()}
    content = {"<": b"little", ">": b"big"}[order]
    with zipfile.ZipFile(tmp_path / "z.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickled(state_dict(tiny())))
        archive.writestr("x/byteorder", content)
        for i, array in enumerate(arrays.values()):
            archive.writestr(f"x/data/{i}", array.tobytes())
    assert_same(load_weights(tmp_path / "z.pth"), random_weights(TINY_TORCH))


def test_storages_shared_and_in_other_orders_of_axes(tmp_path):
    arrays, position, made = tiny(), 0, {}
    flat = np.concatenate([array.ravel() for array in arrays.values() if array.dtype == np.float32])
    for key, array in arrays.items():
        if array.dtype != np.float32:
            continue
        shape, strides = array.shape, None
        if len(shape) == 4:  # channels last, as torch's memory format has it
            flat[position : position + array.size] = array.transpose(0, 2, 3, 1).ravel()
            strides = (shape[1] * shape[2] * shape[3], 1, shape[3] * shape[1], shape[1])
        made[key] = tensor(storage("Float", "0", flat.size), shape, strides, position)
        position += array.size
    assert_same(
        load_weights(write_zip(tmp_path / "x.pth", {"": flat}, body=pickled(dictionary(made)))),
        random_weights(TINY_TORCH),
    )


def test_a_checksum_of_0_was_not_computed(tmp_path):
    path = write_zip(tmp_path / "x.pth", tiny())
    with zipfile.ZipFile(path) as archive:
        crc = archive.getinfo("x/data/0").CRC
    path.write_bytes(path.read_bytes().replace(crc.to_bytes(4, "little"), bytes(4)))
    assert load_weights(path).source.integrity == "structure"


# ---- with torch


@pytest.mark.filterwarnings("ignore::inception.weights.canonical.OtherRules")
@pytest.mark.parametrize("variant", [NARROW_AUX, NARROW_NOTOP, TINY_TORCH])
def test_torch_loads_what_we_write(tmp_path, variant):
    torch = pytest.importorskip("torch")
    weights = random_weights(variant)
    weights.save(tmp_path / "x.pth")
    found = torch.load(tmp_path / "x.pth", weights_only=True)
    for key, array in torch_names.scatter(weights).items():
        np.testing.assert_array_equal(found[key].numpy(), array)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_torch_writes(tmp_path, zipped, protocol):
    torch = pytest.importorskip("torch")
    state = {f"module.{k}": torch.nn.Parameter(torch.from_numpy(a), requires_grad=False) for k, a in tiny().items()}
    optimizer = {
        "state": {0: {"step": torch.tensor(1.0)}},
        "param_groups": [{"lr": 0.1, "betas": (0.9, 1), "params": [0]}],
    }
    checkpoint = {"state_dict": state, "epoch": 7, "optimizer": optimizer}
    torch.save(checkpoint, tmp_path / "x.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert_same(load_weights(tmp_path / "x.pth"), random_weights(TINY_TORCH))


def test_a_modules_own_state_dict_takes_ours(tmp_path):
    """The unit as torchvision builds it: our keys, shapes and types are what `load_state_dict` wants."""
    torch = pytest.importorskip("torch")
    weights = random_weights(TINY_TORCH)
    weights.save(tmp_path / "x.pth")
    unit = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(3, 2, 3, bias=False), "bn": torch.nn.BatchNorm2d(2, eps=1e-3)})
    found = torch.load(tmp_path / "x.pth", weights_only=True)
    begin = "Conv2d_1a_3x3."
    unit.load_state_dict({key.removeprefix(begin): value for key, value in found.items() if key.startswith(begin)})
    kernel = weights.arrays["InceptionV3/Conv2d_1a_3x3/weights"]
    x = np.random.default_rng(0).normal(size=(1, 3, 3, 3)).astype(np.float32)
    with torch.no_grad():
        y = unit["conv"](torch.from_numpy(x)).numpy()[0, :, 0, 0]
    np.testing.assert_allclose(y, np.einsum("chw,hwco->o", x[0], kernel), rtol=1e-4, atol=1e-5)


def test_a_torchscript_program(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        for name in ("x/data.pkl", "x/code/__torch__.py", "x/constants.pkl", "x/version"):
            archive.writestr(name, b"")
    with pytest.raises(CorruptFile, match="the pickle ends in the middle"):
        load_weights(tmp_path / "x.pt")


def test_a_whole_module_is_code(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.pth")
    with pytest.raises(UnsafeFile, match=r"names torch\.nn\.modules\.linear\.Linear, which is code"):
        load_weights(tmp_path / "x.pth")


def test_writing_without_torch(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name == "torch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(
        UnsupportedFeature, match=r"needs torch, which is not installed; install it, or write \.safetensors"
    ):
        random_weights(TINY_TORCH).save(tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []


def test_reading_imports_no_torch(tmp_path):
    write_zip(tmp_path / "x.pth", tiny())
    code = (
        f"import sys, inception; inception.load_weights({str(tmp_path / 'x.pth')!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- damage


# ---- pickles that want more than a state_dict needs


class Danger:
    def __reduce__(self):
        return os.system, ("echo ran > ran",)


GOOD = storage("Float", "0", 4)
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
UNSAFE = {
    "os.system": pickle.dumps(Danger(), 2)[2:-1],
    "os.system by STACK_GLOBAL": pickle.dumps(Danger(), 4)[2:-1],
    "nested": dictionary({"a": dictionary({"b": pickle.dumps([{"c": (Danger(),)}], 2)[2:-1]})}),
    "builtins.eval": b"cbuiltins\neval\n" + text("1") + b"\x85R",
    "built-in getattr": b"cbuiltins\ngetattr\n",
    "a name with dots": b"\x8c\x0bcollections\x8c\x18OrderedDict.__subclasses\x93",
    "an attribute of an allowed name": b"\x8c\x0ctorch._utils\x8c\x0f_rebuild.system\x93",
    "torch.load": b"ctorch\nload\n" + text("x") + b"\x85R",
    "torch._utils._rebuild_device_tensor_from_numpy": b"ctorch._utils\n_rebuild_device_tensor_from_numpy\n",
    "a module": b"ctorchvision.models.inception\nInception3\n)\x81",
    "NEWOBJ": b"ccollections\nOrderedDict\n)\x81",
    "NEWOBJ_EX": b"ccollections\nOrderedDict\n)}\x92",
    "INST": b"(icollections\nOrderedDict\n",
    "OBJ": b"(ccollections\nOrderedDict\no",
    "an extension": b"\x82\x01",
    "PERSID": b"Pstorage\n",
    "LONG4": b"\x8b\xff\xff\xff\x7f" + b"\xff" * 100,
    "a text number": b"I1\n",
    "a long text number": b"L" + b"9" * 100_000 + b"L\n",
    "DUP": b"]2",
    "POP": b"]0",
    "a set": b"\x8f",
    "buffers": b"\x97",
    "BUILD of a tensor": tensor(GOOD, (4,)) + b"}b",
    "BUILD of a storage": GOOD + b"}b",
    "BUILD of a dictionary": b"}}b",
    "BUILD without a dictionary": ORDERED_DICT + b")b",
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", UNSAFE)
def test_code_is_refused_and_named(tmp_path, monkeypatch, write, name):
    monkeypatch.chdir(tmp_path)
    body = UNSAFE[name]
    write(tmp_path / "x.pth", {"a": np.zeros(4, "f4")}, body=pickled(body) if write is write_zip else body)
    assert_refused(lambda: torch_pickle.read(tmp_path / "x.pth"), UnsafeFile, r"x\.pth: the pickle ", seconds=1)
    assert not (tmp_path / "ran").exists()


def test_the_global_is_named(tmp_path):
    with pytest.raises(
        UnsafeFile, match=r"the pickle names (posix|nt)\.system, which is code and not weights; save model"
    ):
        load_weights(write_zip(tmp_path / "x.pth", {}, body=pickle.dumps({"state_dict": Danger()}, 2)))


HUGE = b"\x8a\x09" + (1 << 70).to_bytes(9, "little")
BROKEN = {
    "nothing": b"",
    "only a number": number(1),
    "two objects": b"]]",
    "a mark left over": b"](",
    "empty stack": b"0",
    "append to nothing": b"a",
    "append to a tuple": b")]a",
    "SETITEMS without a mark": b"}u",
    "a key without a value": b"}(" + text("a") + b"u",
    "the same key twice": b"}(" + text("a") + b"]" + text("a") + b"]u",
    "a list as key": b"}]]s",
    "a tuple as key": b"})]s",
    "memo of nothing": b"h\x05",
    "PUT of nothing": b"q\x05",
    "a frame of 2^63": b"\x95" + (1 << 63).to_bytes(8, "little") + b"]",
    "a text of 4 GB": b"X\xff\xff\xff\xff]",
    "a text of 2^63": b"\x8d" + (1 << 63).to_bytes(8, "little"),
    "a text that is not UTF-8": b"X\2\0\0\0\xff\xfe",
    "an endless global": b"cx" + b"y" * 1000,
    "unknown instruction": b"\xff",
    "calling a dictionary": b"})R",
    "calling a storage class": b"ctorch\nFloatStorage\n)R",
    "arguments that are no tuple": b"ccollections\nOrderedDict\n]R",
    "an OrderedDict of numbers": b"ccollections\nOrderedDict\n" + number(1) + b"\x85R",
    "an OrderedDict of a billion": b"ccollections\nOrderedDict\n]" + number(10**9) + b"a\x85R",
    "a reference to no storage": number(1) + b"Q",
    "a storage of another class": b"(" + text("storage") + b"]" + text("0") + text("cpu") + number(4) + b"tQ",
    "a storage of -1 values": storage("Float", "0", -1),
    "a storage in two sizes": b"(" + GOOD + storage("Float", "0", 5) + b"t",
    "a storage that is not there": b"(" + GOOD + storage("Float", "1", 4) + b"t",
    "a storage of 10 values in 16 bytes": storage("Float", "0", 10),
    "a storage named outside": storage("Float", "../../x", 4),
    "a tensor of nothing": REBUILD + b")R",
    "a tensor of no storage": tensor(b"]", (4,)),
    "a tensor past the end": tensor(GOOD, (4,), offset=1),
    "a tensor of more": tensor(GOOD, (5,)),
    "a tensor before the start": tensor(GOOD, (4,), offset=-1),
    "a negative side": tensor(GOOD, (-4,), (1,)),
    "negative strides": tensor(GOOD, (4,), (-1,), 3),
    "fewer strides than sides": tensor(GOOD, (2, 2), (1,)),
    "a side of 2^70": REBUILD + b"(" + GOOD + number(0) + HUGE + b"\x85" + numbers((1,)) + b"tR",
    "no side and one of 2^70": REBUILD + b"(" + GOOD + number(0) + number(0) + HUGE + b"\x86" + numbers((1, 1)) + b"tR",
    "50 sides": tensor(GOOD, (1,) * 50),
    "the same value 2^20 times": tensor(GOOD, (1024, 1024), (0, 0)),
    "overlapping rows": tensor(GOOD, (2, 2), (1, 1)),
    "gaps": tensor(GOOD, (2,), (2,)),
    "a parameter of nothing": b"ctorch._utils\n_rebuild_parameter\n)R",
    "a state_dict of more than tensors": dictionary({"a": tensor(GOOD, (4,)), "b": number(1)}),
    "a state_dict with numbers as keys": b"}" + number(1) + tensor(GOOD, (4,)) + b"s",
    "no tensors": dictionary({"a": number(1)}),
}


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", BROKEN)
def test_nonsense_is_refused(tmp_path, write, name):
    body = BROKEN[name]
    write(tmp_path / "x.pth", {"a": np.zeros(4, "f4")}, body=pickled(body) if write is write_zip else body)
    assert_refused(lambda: torch_pickle.read(tmp_path / "x.pth"), CheckpointError, r"x\.pth", seconds=1)


PIECES = [
    *(bytes([code]) for code in b")](}teausRbQN\x85\x86\x87\x88\x93\x94"),
    *(number(value) for value in (0, 4, -1)),
    *(text(value) for value in ("storage", "a", "state_dict", "_metadata", "inception_variant")),
    *(b"q\0", b"h\0", b"ctorch\nFloatStorage\n", REBUILD, ORDERED_DICT, GOOD, tensor(GOOD, (4,)), numbers((4,))),
    dictionary({"a": tensor(GOOD, (4,))}),
]


@given(st.lists(st.sampled_from(PIECES), max_size=25), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_pickle_is_read_or_refused(tmp_path_factory, pieces, within):
    body = dictionary({"a": tensor(GOOD, (4,)), "b": b"".join(pieces)}) if within else b"".join(pieces)
    path = write_legacy(tmp_path_factory.getbasetemp() / "fuzz.pth", {"a": np.zeros(4, "f4")}, body=body)
    with pytest.raises(CheckpointError, match=r"fuzz\.pth"):  # four zeros are no InceptionV3
        torch_pickle.read(path)


BOMBS = {
    "deep lists": b"](" * 100_000 + b"e" * 100_000,
    "deep tuples": b")" + b"\x85" * 500_000,
    "deep dictionaries": (b"}" + text("a")) * 100_000 + b"]" + b"s" * 100_000,
    "doubling tuples": b")q\0" + b"h\0h\0\x86q\0" * 50_000,
    "doubling lists": b"]q\0" + b"](h\0h\0eq\0" * 50_000,
    "many memos": b"]" + b"\x94" * 900_000,
    "far memos": b"]" + b"r\xff\xff\xff\xff" * 100_000,
    "many marks": b"(" * 900_000,
    "many dictionaries": b"]" + b"(" + b"}" * 900_000 + b"e",
    "many OrderedDicts": b"]ccollections\nOrderedDict\nq\0(" + b"h\0)R" * 200_000 + b"e",
    "a list in itself": b"]q\0h\0a",
    "a dictionary in itself": b"}q\0" + text("state_dict") + b"h\0s",
    "a million numbers": b"](" + b"K\1" * 500_000 + b"e",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_go_off_in_vain(tmp_path, name):
    path = write_zip(tmp_path / "x.pth", {}, body=pickled(BOMBS[name]))
    assert_refused(lambda: torch_pickle.read(path), CheckpointError, r"x\.pth", seconds=4)


def test_a_pickle_too_long_for_a_state_dict(tmp_path):
    path = write_zip(tmp_path / "x.pth", {}, body=pickled(b"]" * (1 << 20)))
    with pytest.raises(ResourceLimit, match="save the state_dict alone"):
        load_weights(path)


def test_two_hundred_tensors_of_one_large_storage_read_it_once(tmp_path):
    arrays = tiny()
    flat = np.zeros(8 << 20, np.float32)
    made = {k: tensor(storage("Float", "0", flat.size), a.shape) for k, a in arrays.items() if a.dtype == np.float32}
    write_zip(tmp_path / "x.pth", {"": flat}, body=pickled(dictionary(made)))
    found = torch_pickle.read(tmp_path / "x.pth")
    assert all(array.base is None or array.base.size <= 1 << 20 for array in found.arrays.values())


# ---- archives and old files that are something else


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"data/99": b"1234"}, CorruptFile),
        ({"data/../x": b"1234"}, UnsafeFile),
        ({"readme.txt": b""}, UnsupportedFeature),
        ({"code/x.py": b""}, UnsupportedFeature),
        ({"constants.pkl": b""}, UnsupportedFeature),
        ({"../y/data.pkl": b""}, UnsafeFile),
    ],
)
def test_members_that_do_not_belong(tmp_path, more, error):
    with pytest.raises(error, match=r"x\.pth"):
        load_weights(write_zip(tmp_path / "x.pth", {"a": np.zeros(4, "f4")}, **more))


def test_two_roots(tmp_path):
    write_zip(tmp_path / "x.pth", {"a": np.zeros(4, "f4")})
    with zipfile.ZipFile(tmp_path / "x.pth", "a") as archive:
        archive.writestr("y/data.pkl", b"")
    with pytest.raises(UnsupportedFeature, match=r"is not of torch\.save"):
        load_weights(tmp_path / "x.pth")


@pytest.mark.parametrize("order", [b"", b"middle", b"little" * 100])
def test_a_byte_order_that_is_none(tmp_path, order):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("x/data.pkl", pickled(state_dict({})))
        archive.writestr("x/byteorder", order)
    with pytest.raises(CorruptFile, match="neither little nor big"):
        load_weights(tmp_path / "x.pth")


def old(*pickles: bytes) -> bytes:
    return MAGIC + b"".join(map(pickled, pickles))


SYSTEM = dictionary({"little_endian": b"\x88"}, b"}")
OLD_FILES = {
    "a pickle of something else": pickle.dumps({"a": 1}, 2),
    "a pickle of protocol 5": pickle.dumps({"a": 1}, 5),
    "a dangerous pickle": pickle.dumps(Danger(), 2),
    "the mark alone": MAGIC,
    "another protocol": old(number(1002), SYSTEM, b"}", b"]"),
    "big-endian": old(number(1001), dictionary({"little_endian": b"\x89"}, b"}"), b"}", b"]"),
    "keys that are numbers": old(number(1001), SYSTEM, GOOD, b"]" + number(0) + b"a"),
    "a key twice": old(number(1001), SYSTEM, GOOD, b"](" + text("0") * 2 + b"e"),
    "no keys": old(number(1001), SYSTEM, GOOD, b"]"),
    "another length": old(number(1001), SYSTEM, GOOD, b"]" + text("0") + b"a") + (5).to_bytes(8, "little") + bytes(16),
    "negative length": old(number(1001), SYSTEM, GOOD, b"]" + text("0") + b"a") + b"\xff" * 8 + bytes(16),
    "more behind": old(number(1001), SYSTEM, GOOD, b"]" + text("0") + b"a") + (4).to_bytes(8, "little") + bytes(17),
}


@pytest.mark.parametrize("name", OLD_FILES)
def test_old_files_that_contradict_themselves(tmp_path, name):
    (tmp_path / "x.pth").write_bytes(OLD_FILES[name])
    assert_refused(lambda: load_weights(tmp_path / "x.pth"), CheckpointError, r"x\.pth", seconds=1)
