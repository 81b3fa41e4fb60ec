"""TorchScript programs, and the names that pytorch-fid's class and NVIDIA's program have."""

import dataclasses
import pickle
import warnings

import numpy as np
import pytest
from damage import assert_never_silently_wrong, assert_refused, fingerprint
from made import assert_same, random_weights
from torch_files import module, modules, number, pickled, storage, tensor, text, write_script, write_zip

from inception import load_weights
from inception.variants import GOOGLE_2015, TORCHVISION, Variant
from inception.weights import CorruptFile, ResourceLimit, UnsafeFile, UnsupportedFeature
from inception.weights.dialects import torch_names

TINY = Variant(num_classes=0, depth_multiplier=0.01, min_depth=2, gamma=True, border="include")
TINY_2015 = dataclasses.replace(GOOGLE_2015, depth_multiplier=0.01, min_depth=2)
BLOCKS = {
    "Conv2d_1a_3x3": "0.0", "Conv2d_2a_3x3": "0.1", "Conv2d_2b_3x3": "0.2", "Conv2d_3b_1x1": "1.0",
    "Conv2d_4a_3x3": "1.1", "Mixed_5b": "2.0", "Mixed_5c": "2.1", "Mixed_5d": "2.2", "Mixed_6a": "2.3",
    "Mixed_6b": "2.4", "Mixed_6c": "2.5", "Mixed_6d": "2.6", "Mixed_6e": "2.7", "Mixed_7a": "3.0", "Mixed_7b": "3.1",
    "Mixed_7c": "3.2",
}  # fmt: skip
# Attribute paths in miemie2013/miemieGAN's copy of NVIDIA's program, with the places of slim's that have their shapes.
NVIDIA = {
    "layers.conv": "Conv2d_1a_3x3", "layers.conv_4": "Conv2d_4a_3x3",
    "layers.mixed.conv": "Mixed_5b/Branch_0/Conv2d_0a_1x1",
    "layers.mixed.tower.conv_1": "Mixed_5b/Branch_1/Conv2d_0b_5x5",
    "layers.mixed_1.tower_2.conv": "Mixed_5c/Branch_3/Conv2d_0b_1x1",
    "layers.mixed_3.tower.conv_2": "Mixed_6a/Branch_1/Conv2d_1a_1x1",
    "layers.mixed_4.tower_1.conv_4": "Mixed_6b/Branch_2/Conv2d_0e_1x7",
    "layers.mixed_8.tower.conv_1": "Mixed_7a/Branch_0/Conv2d_1a_3x3",
    "layers.mixed_8.tower_1.conv_3": "Mixed_7a/Branch_1/Conv2d_1a_3x3",
    "layers.mixed_9.tower_conv": "Mixed_7b/Branch_1/Conv2d_0a_1x1",
    "layers.mixed_9.tower_1_conv_1": "Mixed_7b/Branch_2/Conv2d_0b_3x3",
    "layers.mixed_10.tower_mixed_conv": "Mixed_7c/Branch_1/Conv2d_0b_1x3",
    "layers.mixed_10.tower_1_mixed_conv_1": "Mixed_7c/Branch_2/Conv2d_0d_3x1",
    "layers.mixed_10.tower_2_conv": "Mixed_7c/Branch_3/Conv2d_0b_1x1",
}  # fmt: skip


def tiny(variant=TINY, seed=0):
    return torch_names.scatter(random_weights(variant, seed))


def in_blocks(arrays):
    """A state_dict with torchvision's names as pytorch-fid's class has it."""
    rows = ((key.partition("."), value) for key, value in arrays.items() if not key.startswith(("fc.", "AuxLogits.")))
    return {f"blocks.{BLOCKS[row]}.{rest}": value for (row, _, rest), value in rows}


def of_nvidia():
    """The weights of 2015 without gamma, and the same as NVIDIA's program names them."""
    weights = random_weights(dataclasses.replace(TINY_2015, gamma=False))
    named = torch_names._of_nvidia(weights.variant)
    return weights, {named[name][0]: named[name][1].to_file(array) for name, array in weights.arrays.items()}


# ---- programs


def test_a_program_is_the_state_dict_of_its_modules(tmp_path):
    arrays = tiny()
    read = load_weights(write_script(tmp_path / "x.pt", arrays))
    assert_same(read, random_weights(TINY))
    assert read.variant == TINY
    assert (read.source.format, read.source.integrity) == ("TorchScript", "checksum")
    inner = {f"net.inception.{key}": array for key, array in arrays.items()}
    assert_same(load_weights(write_script(tmp_path / "y.pt", inner)), random_weights(TINY))


def test_lists_of_known_kinds_and_a_module_met_twice(tmp_path):
    arrays = tiny()
    shared = b"c__torch__.net\nRelu\n)\x81}bq\x07"
    ints = b"ctorch.jit._pickle\nbuild_intlist\n](K\x01K\x02e\x85R"
    tagged = b"ctorch.jit._pickle\nrestore_type_tag\n(}" + text("Dict[str, int]") + b"tR"
    body = modules(arrays)[:-2] + text("relu") + shared + text("again") + b"h\x07" + text("ints") + ints
    body += text("tagged") + tagged + b"ub"
    assert_same(load_weights(write_script(tmp_path / "x.pt", arrays, body)), random_weights(TINY))


def test_a_frozen_program_is_refused(tmp_path):
    path = write_script(tmp_path / "x.pt", {}, module({}), **{"constants/0": bytes(8)})
    with pytest.raises(UnsupportedFeature, match="freeze leaves it.* save the program as it was before freezing"):
        load_weights(path)


class Danger:
    def __reduce__(self):
        return __import__("os").system, ("touch ran",)


DANGER = pickle.dumps(Danger(), 2)[2:-1]
HOSTILE = {
    "os.system": (module({"a": DANGER}), UnsafeFile, "names (posix|nt).system"),
    "os.system in a module's place": (DANGER, UnsafeFile, "names (posix|nt).system"),
    "a class that is not the program's": (b"ccollections\nOrderedDict\n)\x81", UnsafeFile, "instruction NEWOBJ"),
    "a class of torch's": (b"ctorch.nn\nModule\n)\x81}b", UnsafeFile, "names torch.nn.Module"),
    "a class called as a function": (b"c__torch__.net\nNet\n(K\x01K\x02tR}b", UnsupportedFeature, "without tensors"),
    "a state that is no dictionary": (b"c__torch__.net\nNet\n)\x81K\x01b", UnsafeFile, "sets attributes"),
    "a module in itself": (
        b"c__torch__.net\nNet\n)\x81q\x09}(" + text("self") + b"h\x09ub", UnsupportedFeature, "without tensors",
    ),
    "a deep tree": (
        b"".join(b"c__torch__.net\nN\n)\x81}(" + text("a" * 9) for _ in range(20_000)) + b"N" + b"ub" * 20_000,
        ResourceLimit, "longer than 1024",
    ),
    "a tree that doubles": (
        (b"c__torch__.net\nN\n)\x81}(" + text("a")) * 60 + module({})
        + b"".join(b"q" + bytes([n]) + text("b") + b"h" + bytes([n]) + b"ub" for n in range(60)),
        UnsupportedFeature, "without tensors",
    ),
    "an attribute twice": (module({})[:-1] + b"(" + (text("a") + b"N") * 2 + b"ub", CorruptFile, "'a' twice"),
    "a storage that is not there": (
        module({"weight": tensor(storage("Float", "9", 4), (4,))}), CorruptFile, "names 1 storages, not the 1"),
    "a storage that is too short": (
        module({"weight": tensor(storage("Float", "0", 400), (400,))}), CorruptFile, "not of the size"),
    "a tensor beyond its storage": (
        module({"weight": tensor(storage("Float", "0", 4), (2, 4))}), CorruptFile, "outside of a storage"),
}  # fmt: skip


def hostile(folder, body):
    return write_script(folder / "x.pt", {"a": np.zeros(4, "f4")} if b"FloatStorage" in body else {}, body)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_programs(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    body, error, message = HOSTILE[name]
    path = hostile(tmp_path, body)
    assert_refused(lambda: load_weights(path), error, message, seconds=4)
    assert not (tmp_path / "ran").exists()


def test_a_state_dict_may_still_not_hold_objects(tmp_path):
    path = write_zip(tmp_path / "x.pth", {"a": np.zeros(4, "f4")}, body=pickled(module({"a": number(1)})))
    with pytest.raises(UnsafeFile, match="names __torch__.net.Net"):
        load_weights(path)


def test_no_damage_to_a_program_goes_unnoticed(tmp_path):
    path = write_script(tmp_path / "x.pt", tiny())
    size = path.stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_never_silently_wrong(path, lambda p: fingerprint(load_weights(p)), range(0, size, size // 12))


# ---- other spellings


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("write", [write_zip, write_script])
def test_the_class_of_pytorch_fid(tmp_path, write, prefix):
    wanted = random_weights(dataclasses.replace(TINY_2015, num_classes=0, background=False))
    arrays = {f"{prefix}{key}": value for key, value in in_blocks(torch_names.scatter(wanted)).items()}
    read = load_weights(write(tmp_path / "x.pth", arrays))
    assert_same(read, wanted)
    assert (read.variant, str(read.picture)) == (wanted.variant, "google_2015")
    assert "use_fid_inception=False" in read.source.notes[0]


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_the_class_of_pytorch_fid_cut_short(tmp_path, blocks):
    arrays = {key: value for key, value in in_blocks(tiny()).items() if int(key.split(".")[1]) < blocks}
    with pytest.raises(UnsupportedFeature, match=rf"holds {blocks} of the 4 blocks .* save InceptionV3\(\[3\]\)"):
        load_weights(write_zip(tmp_path / "x.pth", arrays))


@pytest.mark.parametrize("write", [write_zip, write_script])
def test_the_program_of_nvidia(tmp_path, write):
    weights, arrays = of_nvidia()
    for path, place in NVIDIA.items():
        kernel = weights.arrays[f"InceptionV3/{place}/weights"]
        np.testing.assert_array_equal(arrays[f"{path}.weight"], kernel.transpose(3, 2, 0, 1))
        for attribute, variable in {"beta": "beta", "mean": "moving_mean", "var": "moving_variance"}.items():
            array = weights.arrays[f"InceptionV3/{place}/BatchNorm/{variable}"]
            np.testing.assert_array_equal(arrays[f"{path}.{attribute}"], array)
    assert arrays["output.weight"].shape[0] == len(arrays["output.bias"]) == 1008
    read = load_weights(write(tmp_path / "x.pt", arrays))
    assert_same(read, weights)
    assert (read.variant, str(read.picture), read.source.assumed) == (weights.variant, "google_2015", "")


def test_two_spellings_in_one_file_are_refused(tmp_path):
    with pytest.raises(UnsupportedFeature, match="found 2 networks"):
        load_weights(write_zip(tmp_path / "x.pth", tiny() | in_blocks(tiny())))


# ---- torch itself


@pytest.fixture(scope="module")
def torchvision_net():
    torch = pytest.importorskip("torch")
    net = pytest.importorskip("torchvision").models.inception_v3(weights=None, init_weights=False).eval()
    weights = random_weights(TORCHVISION)
    net.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in torch_names.scatter(weights).items()})
    return net, weights


@pytest.mark.parametrize("kind", ["script", "trace"])
@pytest.mark.filterwarnings("ignore")
def test_what_torch_writes(tmp_path, torchvision_net, kind):
    import torch

    net, weights = torchvision_net
    made = torch.jit.script(net) if kind == "script" else torch.jit.trace(net, torch.zeros(1, 3, 299, 299))
    torch.jit.save(made, tmp_path / "x.pt")
    assert_same(load_weights(tmp_path / "x.pt"), weights)
    torch.jit.save(torch.jit.freeze(torch.jit.script(net)), tmp_path / "frozen.pt")
    with pytest.raises(UnsupportedFeature, match="as it was before freezing"):
        load_weights(tmp_path / "frozen.pt")


@pytest.mark.filterwarnings("ignore")
def test_features_of_pytorch_fids_class(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    theirs = pytest.importorskip("pytorch_fid.inception")
    from inception.builders.keras import model_of

    state = {k: torch.from_numpy(v.copy()) for k, v in torch_names.scatter(random_weights(GOOGLE_2015)).items()}
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: state)
    peer = theirs.InceptionV3([3], resize_input=False, normalize_input=False).eval()
    torch.save(peer.state_dict(), tmp_path / "x.pth")
    weights = load_weights(tmp_path / "x.pth")
    x = np.random.default_rng(0).uniform(-1, 1, (2, 139, 147, 3)).astype(np.float32)
    ours = np.asarray(model_of(weights, input_shape=(139, 147, 3))(x)).mean((1, 2))
    with torch.no_grad():
        wanted = peer(torch.from_numpy(x.transpose(0, 3, 1, 2)))[0].numpy()[:, :, 0, 0]
    np.testing.assert_allclose(ours, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())
    torch.save(theirs.InceptionV3([2]).state_dict(), tmp_path / "short.pth")
    with pytest.raises(UnsupportedFeature, match="holds 3 of the 4 blocks"):
        load_weights(tmp_path / "short.pth")
