"""`make matrix`: the tests on every Python here, on the oldest TensorFlow, on Keras's other backends, from the sdist.

`nox -s tests-3.12 -- tests/weights` runs a part; what follows `--` goes to pytest.
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

import nox

nox.options.error_on_missing_interpreters = False
nox.options.reuse_venv = "yes"

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
PYTEST = ("python", "-m", "pytest", "-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
# What runs on a backend of Keras; the rest of the package is TensorFlow's or nobody's.
ON_BACKENDS = (
    "tests/builders/test_keras.py",
    "tests/builders/test_keras_batch_norm.py",
    "tests/weights",
    "tests/visualize",
)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite."""
    session.install("--editable", ".[test]")
    session.run(*PYTEST, *session.posargs, env=QUIET)


@nox.session(python="3.11")
def oldest(session: nox.Session) -> None:
    """The whole suite on the oldest TensorFlow we claim."""
    # Later ones want a newer NumPy, ml_dtypes or protobuf than it has.
    beside = ("numpy<2", "onnx<1.18", "pyarrow<20", "nncf<2.18")
    session.install("--editable", ".[test]", "tensorflow==2.16.1", "tf_keras==2.16.0", *beside)
    session.run(*PYTEST, *session.posargs, env=QUIET)


@nox.session(python="3.11")
@nox.parametrize("backend", ["jax", "torch"])
def backend(session: nox.Session, backend: str) -> None:
    """The Keras builder, weights and visualize where Keras computes with another library."""
    session.install("--editable", ".[test]", backend)
    session.run(*PYTEST, *(session.posargs or ON_BACKENDS), env={**QUIET, "KERAS_BACKEND": backend})


@nox.session(python="3.11")
def sdist(session: nox.Session) -> None:
    """The suite that a source distribution carries, run where it was unpacked."""
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:  # nox's own lies in the environment, where Ray refuses to work
        session.run("python", "-m", "build", "--outdir", folder, ".")
        [archive] = Path(folder).glob("*.tar.gz")
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        with session.chdir(Path(folder) / archive.name.removesuffix(".tar.gz")):
            session.install(".[test]")
            session.run(*PYTEST, *session.posargs, env=QUIET)
