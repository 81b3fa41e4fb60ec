"""Files of statistics as every known program writes them, without these programs; pickles made by hand to attack."""

from __future__ import annotations

import codecs
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np

WIDTH, COUNT = 6, 40
ROWS = np.random.default_rng(5).gamma(0.5, 0.8, (COUNT, WIDTH)).astype(np.float32)
MEAN, COVARIANCE = ROWS.mean(axis=0, dtype=np.float64), np.cov(ROWS.astype(np.float64), rowvar=False)
MOMENTS = {"mu": MEAN, "sigma": COVARIANCE}
_TOTAL, _OUTER = ROWS.sum(axis=0, dtype=np.float64), ROWS.astype(np.float64).T @ ROWS.astype(np.float64)
_STYLEGAN = {"capture_all": False, "capture_mean_cov": True, "max_items": None, "num_items": COUNT,
             "num_features": WIDTH, "all_features": None, "raw_mean": _TOTAL, "raw_cov": _OUTER}  # fmt: skip
_ADM = {"arr_0": np.zeros((3, 8, 8, 3), np.uint8), **MOMENTS, "mu_s": MEAN[:4], "sigma_s": COVARIANCE[:4, :4]}
EDM2 = {"num_images": COUNT, "fid": MOMENTS, "fd_dinov2": {"mu": MEAN[:3], "sigma": COVARIANCE[:3, :3]}}


def _savez(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _compressed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def torch_zip(pickled: bytes) -> bytes:
    """What torch.save writes of objects that hold no tensors."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}.items():
            archive.writestr(f"x/{name}", content)
    return file.getvalue()


FAMILIES: dict[str, tuple[str, bytes]] = {
    "pytorch-fid": ("x.npz", _compressed(**MOMENTS)),
    "edm": ("x.npz", _savez(**MOMENTS)),
    "adm": ("VIRTUAL_x.npz", _savez(**_ADM)),
    "clean-fid": ("x_clean_train_32.npz", _compressed(mu=ROWS.mean(axis=0), sigma=COVARIANCE)),
    "clean-fid kid": ("x_clean_train_32_kid.npz", _compressed(feats=ROWS)),
    "torch-fidelity": ("x.pt", torch_zip(pickle.dumps({"mu": ROWS.mean(axis=0), "sigma": COVARIANCE}, 2))),
    "stylegan": ("x.pkl", pickle.dumps(_STYLEGAN)),
    "stylegan features": ("x.pkl", pickle.dumps(_STYLEGAN | {"raw_mean": None, "raw_cov": None,
                                                             "all_features": [ROWS[:30], ROWS[30:]]})),
    **{f"edm2 protocol {n}": ("x.pkl", pickle.dumps(EDM2, n)) for n in (2, 3, 4, 5)},
    "numpy 1": ("x.pkl", pickle.dumps(EDM2, 2).replace(b"cnumpy._core", b"cnumpy.core")),
}  # fmt: skip


# ---- pickles by hand


def reduced(name: str, *arguments: object, state: object = None) -> object:
    """An object that pickles as a call of a name that this process need not have."""
    module, _, attribute = name.rpartition(".")

    class Caller:
        def __reduce__(self) -> object:
            return (named(module, attribute), arguments, state) if state is not None else (
                named(module, attribute), arguments)  # fmt: skip

    return Caller()


class _Named:
    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        """Only callables can be pickled as the function of a call."""


def named(module: str, name: str) -> _Named:
    """A global by its name."""
    return _Named(module, name)


class _Pickler(pickle._Pickler):  # type: ignore[misc, name-defined]
    """Python's own pickler in Python, which writes names of ours without looking them up."""

    def save(self, obj: object, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        else:
            super().save(obj, save_persistent_id)


def dumps(value: object, protocol: int = 4) -> bytes:
    """A pickle of a value with `reduced` objects and `named` globals in it."""
    file = io.BytesIO()
    _Pickler(file, protocol).dump(value)
    return file.getvalue()


def array(shape: object = (2,), kind: object = None, content: object = bytes(16), fortran: object = False) -> object:
    """NumPy's way to pickle an array, each part of it free."""
    kind = dtype() if kind is None else kind
    return reduced("numpy._core.multiarray._reconstruct", named("numpy", "ndarray"), (0,), b"b",
                   state=(1, shape, kind, fortran, content))  # fmt: skip


def dtype(code: str = "f8", order: str = "<") -> object:
    return reduced("numpy.dtype", code, False, True, state=(3, order, None, None, None, -1, -1, 0))


def hostile(canary: Path) -> dict[str, tuple[str, bytes]]:
    """{what is wrong: (name, content)}; what would run one of them makes the file `canary`."""
    touch = f"touch {canary}"
    two, eye = array((2,)), array((2, 2), content=np.eye(2).tobytes())
    moments = {"mu": two, "sigma": eye}
    good = {"mu": np.zeros(2), "sigma": np.eye(2)}
    objects = np.array([None, {}], object)
    huge = _savez(**good).replace(b"'shape': (2,)", b"'shape': (9,)")
    calls = {
        "os.system": ("os", "system", touch), "posix.system": ("posix", "system", touch),
        "subprocess": ("subprocess", "getoutput", touch), "eval": ("builtins", "eval", f"open({str(canary)!r}, 'w')"),
        "exec": ("__builtin__", "exec", f"open({str(canary)!r}, 'w')"), "getattr": ("builtins", "getattr", "x"),
        "codecs.open": ("codecs", "open", str(canary)), "numpy.load": ("numpy", "load", str(canary)),
        "numpy.memmap": ("numpy", "memmap", str(canary)), "runstring": ("numpy.testing", "runstring", touch),
        "fromfile": ("numpy", "fromfile", str(canary)), "copyreg": ("copyreg", "_reconstructor", "x"),
    }  # fmt: skip
    return {
        **{name: ("x.pkl", dumps({"mu": reduced(f"{m}.{f}", arg), "sigma": 1})) for name, (m, f, arg) in calls.items()},
        "in a torch file": ("x.pt", torch_zip(dumps({"mu": reduced("os.system", touch)}, 2))),
        "a class": ("x.pkl", dumps({"mu": named("os", "environ")})),
        "objects in a pickle": ("x.pkl", pickle.dumps({"mu": objects, "sigma": objects})),
        "objects in npz": ("x.npz", _savez(mu=objects, sigma=np.eye(2))),
        "an unknown dtype": ("x.pkl", dumps(moments | {"mu": array(kind=reduced("numpy.dtype", "V99", 0, 1))})),
        "complex": ("x.pkl", pickle.dumps(good | {"sigma": np.eye(2) * 1j})),
        "complex in npz": ("x.npz", _savez(**good | {"sigma": np.eye(2) * 1j})),
        "too few bytes": ("x.pkl", dumps(moments | {"mu": array((3,))})),
        "2^62 numbers of no bytes": ("x.pkl", dumps(moments | {"mu": array((0, 1 << 61), content=b"")})),
        "2^70": ("x.pkl", dumps(moments | {"mu": array((1 << 70,))})),
        "a negative side": ("x.pkl", dumps(moments | {"mu": array((-2,))})),
        "ninety dimensions": ("x.pkl", dumps(moments | {"mu": array((1,) * 90, content=bytes(8))})),
        "a shape of texts": ("x.pkl", dumps(moments | {"mu": array(("a",))})),
        "no values": ("x.pkl", dumps(moments | {"mu": reduced("numpy.dtype", "f8")})),
        "an array of another class": ("x.pkl", dumps({"mu": reduced("numpy._core.multiarray._reconstruct", 1, (0,))})),
        "a call of what is none": ("x.pkl", b"\x80\x04}(\x8c\x02mu)}Ru."),
        "a state for a dictionary": ("x.pkl", b"\x80\x04}}b."),
        "a function without arguments": ("x.pkl", dumps({"mu": reduced("numpy._core.numeric._frombuffer")})),
        "seven arguments": ("x.pkl", dumps({"mu": reduced("numpy._core.numeric._frombuffer", *range(7))})),
        "another encoding": ("x.pkl", dumps({"mu": reduced("_codecs.encode", "cat", "rot13")})),
        "no latin1": ("x.pkl", dumps({"mu": reduced("_codecs.encode", "\u20ac", "latin1")})),
        "one text made bytes again and again": ("x.pkl", b"\x80\x02}X\x02\x00\x00\x00mu(c_codecs\nencode\nq\x00X"
            + (100_000).to_bytes(4, "little") + b"a" * 100_000 + b"q\x01X\x06\x00\x00\x00latin1q\x02\x86R"
            + b"h\x00h\x01h\x02\x86R" * 50_000 + b"ts."),
        "a list in itself": ("x.pkl", b"\x80\x04}\x8c\x02mu]\x94h\x00as."),
        "lists in lists": ("x.pkl", b"\x80\x04}\x8c\x02mu" + b"]" * 2000 + b"a" * 1999 + b"s."),
        "a persistent id": ("x.pkl", b"\x80\x04}\x8c\x02mu\x8c\x01aQs."),
        "an extension": ("x.pkl", b"\x80\x04\x82\x01."),
        "an object of a class": ("x.pkl", b"\x80\x04cos\nenviron\n)\x81."),
        "a second pickle": ("x.pkl", pickle.dumps(good) + pickle.dumps(good)),
        "a list": ("x.pkl", pickle.dumps([1, 2])),
        "nothing": ("x.pkl", b""),
        "text": ("x.pkl", codecs.encode(b"mu sigma", "base64")),
        "too long for its header": ("x.npz", huge),
        "one of both": ("x.npz", _savez(mu=np.zeros(2))),
        "another file": ("x.npz", _savez(weights=np.zeros(2))),
        "a ZIP of something": ("x.zip", _savez(a=np.zeros(2)).replace(b"a.npy", b"a.txt")),
        "NaN": ("x.npz", _savez(**good | {"mu": np.array([0, np.nan])})),
        "infinity": ("x.npz", _savez(**good | {"sigma": np.diag([1, np.inf])})),
        "a negative variance": ("x.npz", _savez(**good | {"sigma": np.diag([1.0, -1])})),
        "not symmetric": ("x.npz", _savez(**good | {"sigma": np.array([[1, 0.5], [0, 1]])})),
        "not square": ("x.npz", _savez(**good | {"sigma": np.ones((2, 3))})),
        "of two widths": ("x.npz", _savez(**good | {"mu": np.zeros(3)})),
        "of no width": ("x.npz", _savez(mu=np.zeros(0), sigma=np.zeros((0, 0)))),
        "whole numbers": ("x.npz", _savez(**good | {"mu": np.zeros(2, int)})),
        "too wide": ("x.npz", _compressed(mu=np.zeros(6000, np.float32), sigma=np.zeros((6000, 6000), np.float32))),
        "a count of none": ("x.pkl", pickle.dumps(_STYLEGAN | {"num_items": 0})),
        "a count of text": ("x.pkl", pickle.dumps(EDM2 | {"num_images": "forty"})),
        "sums that are none": ("x.pkl", pickle.dumps(_STYLEGAN | {"raw_mean": _TOTAL * 1e300})),
        "features of two widths": ("x.pkl", pickle.dumps(_STYLEGAN | {"all_features": [ROWS, ROWS[:, :2]]})),
        **{f"the record {said[:20]}": ("x.npz", _savez(**good, inception_statistics=np.array(said)))
           for said in ('{"fid": 3}', '{"fid": {"count": "x"}}', "[" * 3000, '{"fid": {"ddof": 7}}', "")},
    }  # fmt: skip
