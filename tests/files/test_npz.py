"""npz files of canonical names: exact there and back, and never unpickled."""

import zipfile

import numpy as np
import pytest
from damage import assert_refused
from made import NARROW, TINY, random_weights

from inception import load_weights
from inception.files import npz as container
from inception.weights import (
    CheckpointError,
    CorruptFile,
    MissingTensor,
    ResourceLimit,
    ShapeMismatch,
    UnsafeFile,
    UnsupportedFeature,
)
from inception.weights.formats import npz

FIRST = "InceptionV3/Conv2d_1a_3x3/weights"


def save(path, arrays, savez=np.savez):
    with open(path, "wb") as file:
        savez(file, **arrays)
    return path


def tiny():
    return dict(random_weights(TINY).arrays)


# ---- there and back


def test_numpy_shows_all_there_is(tmp_path):
    weights = random_weights(NARROW)
    weights.save(tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as found:
        assert list(found) == [*weights.arrays, "inception_variant"]
        assert '"num_classes": 7' in str(found["inception_variant"])


@pytest.mark.parametrize("savez", [np.savez, np.savez_compressed])
def test_what_numpy_writes(tmp_path, savez):
    arrays = {name: array.astype("f8").astype(">f8") for name, array in tiny().items()}
    arrays[FIRST] = np.asfortranarray(arrays[FIRST])
    back = npz.read(save(tmp_path / "x.npz", arrays, savez))
    assert back.variant.shapes() == TINY.shapes() and back.source.integrity == "checksum"
    for name, array in tiny().items():
        np.testing.assert_array_equal(back.arrays[name], array)


# ---- damage and other files


def test_what_is_written_is_numpys(tmp_path):
    """Its own bytes, and a name that its function takes for an argument."""
    arrays = {"a/b": np.arange(6.0).reshape(2, 3), "columns": np.asfortranarray(np.ones((3, 4), np.float16))}
    container.write(tmp_path / "ours.npz", arrays)
    assert (tmp_path / "ours.npz").read_bytes() == save(tmp_path / "numpys.npz", arrays).read_bytes()
    container.write(tmp_path / "file.npz", {"file": np.ones(2)})
    assert list(np.load(tmp_path / "file.npz")) == ["file"]


def test_missing_extra_and_misshapen_arrays(tmp_path):
    arrays = tiny()
    kernel = arrays.pop(FIRST)
    with pytest.raises(MissingTensor, match="1 not in the file: InceptionV3/Conv2d_1a_3x3/weights"):
        npz.read(save(tmp_path / "x.npz", arrays))
    with pytest.raises(MissingTensor, match="in the network: InceptionV3/more"):
        npz.read(save(tmp_path / "x.npz", arrays | {FIRST: kernel, "InceptionV3/more": kernel}))
    beta = "InceptionV3/Conv2d_1a_3x3/BatchNorm/beta"
    with pytest.raises(ShapeMismatch, match=r"1 of another shape: .*beta is 2x1, expected 2"):
        npz.read(save(tmp_path / "x.npz", arrays | {FIRST: kernel, beta: arrays[beta][:, None]}))
    with pytest.raises(ShapeMismatch, match="weights is int64"):
        npz.read(save(tmp_path / "x.npz", arrays | {FIRST: kernel.astype(int)}))
    with pytest.raises(CheckpointError, match="weights"):
        npz.read(save(tmp_path / "x.npz", arrays | {FIRST: np.full(kernel.shape, "1.0")}))


def test_other_arrays(tmp_path):
    with pytest.raises(UnsupportedFeature, match=r"no arrays under InceptionV3/ \(found a, b\)"):
        npz.read(save(tmp_path / "x.npz", {"a": np.zeros(3), "b": np.zeros(3)}))
    with zipfile.ZipFile(tmp_path / "y.npz", "w") as archive:
        archive.writestr("a.npy", b"")
        archive.writestr("readme.txt", b"")
    with pytest.raises(UnsupportedFeature, match=r"holds 'readme\.txt'"):
        load_weights(tmp_path / "y.npz")


@pytest.mark.parametrize(
    "variant",
    ["", "[]", "{", '{"border": 1}', '{"depth_multiplier": 0}', '{"num_classes": 1' + "0" * 4000 + "}", "[" * 4000],
)
def test_a_variant_that_is_none(tmp_path, variant):
    with pytest.raises(CorruptFile, match="inception_variant is not a variant's JSON"):
        npz.read(save(tmp_path / "x.npz", tiny() | {"inception_variant": np.array(variant)}))


@pytest.mark.parametrize(
    "variant", [np.zeros(3), np.array(["{}", "{}"]), np.array("x" * 10_000), np.array(b"\xff\xfe")]
)
def test_a_variant_that_is_no_text(tmp_path, variant):
    with pytest.raises(CorruptFile, match="inception_variant is"):
        npz.read(save(tmp_path / "x.npz", tiny() | {"inception_variant": variant}))


def test_a_variant_of_other_shapes_gives_way_to_them(tmp_path):
    said = np.array('{"num_classes": 12, "border": "include", "a field of the future": 1}')
    found = npz.read(save(tmp_path / "x.npz", tiny() | {"inception_variant": said})).variant
    assert (found.num_classes, found.border) == (0, "include")


# ---- hostile members


class Danger:
    def __reduce__(self):
        return print, ("ran",)


def test_pickled_objects_are_not_read(tmp_path, capsys):
    arrays = {name: array for name, array in tiny().items() if name != FIRST}
    save(tmp_path / "x.npz", arrays | {FIRST: np.array([Danger()], dtype=object)})
    with pytest.raises(UnsafeFile, match=r"weights\.npy: holds pickled Python objects"):
        npz.read(tmp_path / "x.npz")
    assert capsys.readouterr().out == ""


def npy(header: bytes, version=b"\1\0", content=b"") -> bytes:
    length = len(header).to_bytes(2 if version[0] == 1 else 4, "little")
    return b"\x93NUMPY" + version + length + header + content


def described(descr="'<f4'", shape="(4,)", order="False") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()


MEMBERS = {
    "empty": b"",
    "no magic": b"hello, world",
    "cut short": npy(described())[:20],
    "version 3": npy(described(), b"\3\0"),
    "version 9": npy(described(), b"\x09\0"),
    "header of a gigabyte": npy(described(), b"\2\0")[:8] + (1 << 30).to_bytes(4, "little") + described(),
    "header of 64 KB": npy(b" " * 65000 + described()),
    "2^62 values": npy(described(shape=f"({1 << 62},)")),
    "10^400 values": npy(described(shape=f"({10**400},)")),
    "0 x 10^400 values": npy(described(shape=f"(0, {10**400})")),
    "2^28 values, none there": npy(described(shape=f"({1 << 28},)")),
    "negative sides": npy(described(shape="(-2, -2)"), content=bytes(16)),
    "sides that are no numbers": npy(described(shape="('a',)")),
    "true sides": npy(described(shape="(True,)"), content=bytes(4)),
    "a side that is no tuple": npy(described(shape="4"), content=bytes(16)),
    "no literal": npy(described(shape="__import__('os').system('false')")),
    "a call": npy(b"print('ran')"),
    "deep": npy(b"(" * 4000),
    "deep literal": npy(b"-" * 4000 + b"1"),
    "open text": npy(b"{'descr"),
    "open bracket": npy(b"{'descr': (\n"),
    "not UTF-8": npy(b"\xff\xfe" * 30),
    "objects": npy(described(descr="'|O'"), content=bytes(32)),
    "records": npy(described(descr="[('a', '<f4')]"), content=bytes(16)),
    "arrays within": npy(described(descr="('<f4', (2,))"), content=bytes(32)),
    "unknown type": npy(described(descr="'<x9'")),
    "an empty tuple of a type": npy(described(descr="()"), content=bytes(16)),
    "a list of an empty tuple": npy(described(descr="[()]"), content=bytes(16)),
    "empty type": npy(described(descr="''")),
    "a type of 2^40 bytes": npy(described(descr=f"'|S{1 << 40}'")),
    "text": npy(described(descr="'<U4'"), content=bytes(64)),
    "complex": npy(described(descr="'<c8'"), content=bytes(32)),
    "dates": npy(described(descr="'<M8[s]'"), content=bytes(32)),
    "too short": npy(described(), content=bytes(15)),
    "too long": npy(described(), content=bytes(17)),
    "many dimensions": npy(described(shape="(" + "1," * 70 + ")"), content=bytes(4)),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_hostile_members_are_refused(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr(f"{FIRST}.npy", MEMBERS[name])
    assert_refused(lambda: npz.read(tmp_path / "x.npz"), CheckpointError, r"x\.npz.*/weights(\.npy:)? ")


def test_an_honest_bomb_is_not_allocated(tmp_path):
    packed = zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED)
    with packed, packed.open(f"{FIRST}.npy", "w") as member:
        member.write(npy(described(shape=f"({1 << 22},)")))
        for _ in range(16):
            member.write(bytes(1 << 20))
    assert_refused(lambda: npz.read(tmp_path / "x.npz"), CheckpointError, "does not match the network", seconds=1)


def test_an_archive_that_unpacks_to_gigabytes(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(1 << 20))
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(
        content.replace((1 << 20).to_bytes(4, "little"), ((1 << 30) + 1).to_bytes(4, "little"))
    )
    assert_refused(lambda: load_weights(tmp_path / "x.npz"), ResourceLimit, "too many for weights")


# ---- writing
