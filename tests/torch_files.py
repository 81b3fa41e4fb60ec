"""torch's files made without torch: the pickle instructions of a state_dict, and the two kinds of file around them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

STORAGES = {"f4": "Float", "f8": "Double", "f2": "Half", "i8": "Long", "u2": "BFloat16"}
MAGIC = b"\x80\x02\x8a\x0a" + (0x1950A86A20F9469CFC6C).to_bytes(10, "little") + b"."
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def numbers(values) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind: str, key: str, size: int) -> bytes:
    return b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu") + number(size) + b"tQ"


def tensor(stored: bytes, shape, strides=None, offset: int = 0) -> bytes:
    strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))] if strides is None else strides
    place = number(offset) + numbers(shape) + numbers(strides) + b"\x89" + ORDERED_DICT
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + stored + place + b"tR"


def dictionary(items: Mapping[str, bytes], start: bytes = ORDERED_DICT) -> bytes:
    return start + b"(" + b"".join(text(key) + value for key, value in items.items()) + b"u"


def pickled(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def state_dict(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The instructions that make a state_dict of arrays, each with a storage of its own, called 0, 1, ..."""
    return dictionary(
        {
            name: tensor(storage(STORAGES[array.dtype.str[1:]], str(i), array.size), array.shape)
            for i, (name, array) in enumerate(arrays.items())
        }
    )


def write_zip(path: Path, arrays: Mapping[str, np.ndarray], body: bytes | None = None, **more: bytes) -> Path:
    """A file of PyTorch 1.6 or later; `body` takes the place of the state_dict's pickle, `more` are members."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled(state_dict(arrays) if body is None else body))
        archive.writestr("x/byteorder", b"little")
        for i, array in enumerate(arrays.values()):
            archive.writestr(f"x/data/{i}", array.tobytes())
        for name, content in ({"version": b"3\n"} | more).items():
            archive.writestr(f"x/{name}", content)
    return path


def module(attributes: Mapping[str, bytes], name: str = "__torch__.net.Net") -> bytes:
    """An object of a class of the program's own, as C++ pickles it."""
    scope, _, kind = name.rpartition(".")
    return f"c{scope}\n{kind}\n".encode() + b")\x81" + dictionary(attributes, start=b"}") + b"b"


def modules(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The instructions that make a module tree, a module for each part of the arrays' dotted names."""
    tree: dict = {}
    for i, (name, array) in enumerate(arrays.items()):
        *path, last = name.split(".")
        place = tree
        for part in path:
            place = place.setdefault(part, {"training": b"\x89", "bias": b"N"})
        place[last] = tensor(storage(STORAGES[array.dtype.str[1:]], str(i), array.size), array.shape)

    def made(place: dict) -> bytes:
        return module({name: made(value) if isinstance(value, dict) else value for name, value in place.items()})

    return made(tree)


def write_script(path: Path, arrays: Mapping[str, np.ndarray], body: bytes | None = None, **more: bytes) -> Path:
    """A TorchScript program as torch.jit.save writes it; `body` takes the place of its modules."""
    code = {"constants.pkl": pickled(b")"), "code/__torch__/net.py": b"raise SystemExit\n"}
    return write_zip(path, arrays, pickled(modules(arrays) if body is None else body), **code, **more)


def write_legacy(path: Path, arrays: Mapping[str, np.ndarray], body: bytes | None = None) -> Path:
    """A file as torch wrote them before 1.6."""
    system = dictionary({"protocol_version": number(1001), "little_endian": b"\x88", "type_sizes": b"}"}, start=b"}")
    keys = b"](" + b"".join(text(str(i)) for i in range(len(arrays))) + b"e"
    made = state_dict(arrays) if body is None else body
    pickles = MAGIC + b"".join(map(pickled, (number(1001), system, made, keys)))
    values = b"".join(array.size.to_bytes(8, "little") + array.tobytes() for array in arrays.values())
    path.write_bytes(pickles + values)
    return path
