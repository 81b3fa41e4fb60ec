"""The house's rules about imports: what is light stays light, and arrows run one way."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import inception

PACKAGE = Path(inception.__file__).parent
# A module may import from rooms of a lower number, and from its own.
ROOMS = {"architecture": 0, "arguments": 0, "brief": 0, "extras": 0, "foreign": 0, "quiet": 0, "resize": 0,
         "variants": 1, "images": 1, "pictures": 2, "names": 2, "weights": 3, "labels": 3, "inference_plan": 3,
         "builders": 4, "networks": 5, "inference": 6, "quantization": 6, "verify": 6, "classify": 6, "features": 7,
         "export": 7, "training": 8, "visualize": 8, "cli": 9}  # fmt: skip
NUMPY_AT_MOST = ("architecture.py", "variants.py", "names.py", "weights/plan.py", "weights/stored.py")
HEAVY = {"tensorflow", "keras", "tf_slim", "h5py", "torch", "tf_keras", "onnx", "onnxruntime", "openvino", "nncf",
         "ai_edge_litert", "sklearn", "matplotlib", "pyarrow", "ray"}  # fmt: skip
MAY_IMPORT_AT_THE_TOP = {"builders/slim.py", "builders/slim_batch_norm.py", "builders/keras.py",
                         "builders/tensorflow.py"}  # fmt: skip


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def imports(tree: ast.AST, top_only: bool = False):
    nodes = ast.walk(tree) if not top_only else iter(_top_level(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "inception":
            yield from (f"inception.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _top_level(tree):
    return [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_run_one_way(path):
    place = path.relative_to(PACKAGE)
    own = ROOMS[place.parts[0].removesuffix(".py")]
    for name in imports(ast.parse(path.read_text())):
        if name.startswith("inception.") and name != "inception.__version__":
            assert ROOMS[name.split(".")[1]] <= own, f"{place} imports {name}"
        assert not name.startswith("tensorflow.python"), f"{place} imports TensorFlow's own insides: {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_used(path):
    place = str(path.relative_to(PACKAGE))
    found = {name.split(".")[0] for name in imports(ast.parse(path.read_text()), top_only=True)}
    if place not in MAY_IMPORT_AT_THE_TOP and place != "weights/hdf5_worker.py":
        assert not found & HEAVY
    if place in NUMPY_AT_MOST:
        assert found <= set(sys.stdlib_module_names) | {"numpy", "inception"}


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('MODULES', *sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split("MODULES ")[1].split())


def test_import_inception_is_light():
    assert not loaded_by("import inception; inception.Variant; inception.load_weights") & HEAVY


def test_inspect_and_convert_need_no_tensorflow(sample, tmp_path):
    code = (
        "from typer.testing import CliRunner; from inception.cli import app; run = CliRunner().invoke\n"
        f"assert run(app, ['inspect', {str(sample)!r}]).exit_code == 0\n"
        f"assert run(app, ['convert', {str(sample)!r}, {str(tmp_path / 'x.ckpt')!r}]).exit_code == 0\n"
        f"assert run(app, ['inspect', {str(tmp_path / 'x.ckpt')!r}]).exit_code == 0"
    )
    assert not loaded_by(code) & (HEAVY - {"h5py"})


def test_every_public_name_is_there_and_unknown_ones_are_not():
    for name in inception.__all__:
        assert getattr(inception, name) is not None
    assert set(inception.__all__) <= set(dir(inception))
    with pytest.raises(AttributeError, match="has no attribute 'VGG16'"):
        inception.VGG16  # noqa: B018


UNSAFE_CALLS = {"load_model", "from_config", "import_graph_def", "extractall", "eval", "exec", "system", "popen"}
UNSAFE_OF = {"pickle": {"load", "loads", "Unpickler"}, "torch": {"load"}, "yaml": {"load"}, "marshal": {"loads"}}


def unsafe_calls(tree: ast.AST):
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            if function.attr in UNSAFE_CALLS or function.attr in UNSAFE_OF.get(owner, ()):
                yield f"{owner}.{function.attr}"
        elif isinstance(function, ast.Name) and function.id in UNSAFE_CALLS:
            yield function.id
        for keyword in node.keywords:
            if keyword.arg in ("allow_pickle", "shell") and not (
                isinstance(keyword.value, ast.Constant) and keyword.value.value is False
            ):
                yield f"{keyword.arg}="


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_in_the_package_runs_what_a_file_says(path):
    assert list(unsafe_calls(ast.parse(path.read_text()))) == []
