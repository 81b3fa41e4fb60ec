"""The house's rules about imports: arrows run one way, no circle, what is private stays so, what is light too."""

import ast
import dataclasses
import graphlib
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import inception
from inception import extras, moved

PACKAGE = Path(inception.__file__).parent
# A module may import from rooms of a lower rank, and from its own. The longest name that fits says the room.
RANKS = {
    "files": 0,
    "architecture": 1, "arguments": 1, "brief": 1, "extras": 1, "moved": 1, "quiet": 1, "resize": 1,
    "variants": 2, "images": 2,
    "pictures": 3,
    "weights.steps": 4, "weights.canonical": 4, "weights.plan": 5,
    "weights.dialects": 6, "weights.published": 6,
    "weights.formats": 7,
    "weights": 8,
    "labels": 9, "builders": 9,
    "networks": 10,
    "verify": 12, "inference": 12, "classify": 12,
    "features": 13,
    "metrics": 14, "training": 14, "visualize": 14,
    "microscope": 15,
    "cli": 16,
    "": 17,
}  # fmt: skip
LATE = {("inception.weights.canonical", "inception.weights.formats")}  # `weights.save(path)`, the one exception
NUMPY_AT_MOST = ("architecture.py", "variants.py", "weights/plan.py", "weights/steps.py", "files/tensor.py",
                 "weights/dialects/keras_layers.py", "weights/dialects/keras_config.py")  # fmt: skip
HEAVY = {"tensorflow", "keras", "tf_slim", "h5py", "torch", "tf_keras", "onnx", "onnxruntime", "openvino", "nncf",
         "ai_edge_litert", "sklearn", "matplotlib", "pyarrow", "ray", "pooch", "requests", "filelock",
         "fsspec", "s3fs"}  # fmt: skip
MAY_IMPORT_AT_THE_TOP = {"builders/slim.py", "builders/slim_batch_norm.py", "builders/keras.py",
                         "builders/keras_batch_norm.py", "inference/tensorflow.py", "files/hdf5/worker.py"}  # fmt: skip


def dotted(path):
    return ".".join(["inception", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


MODULES = {dotted(path): ast.parse(path.read_text()) for path in sorted(PACKAGE.rglob("*.py"))}


def rank(module):
    name = module.removeprefix("inception").removeprefix(".")
    while name not in RANKS:
        name = name.rpartition(".")[0]
    return RANKS[name]


def nodes_of(tree):
    """Every node that runs: not what is for the type checker alone."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from nodes_of(node)


def imported(nodes):
    """(what is imported by its full name, the name it has here)."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((f"{node.module}.{alias.name}", alias.asname or alias.name) for alias in node.names)


def module_of(name):
    """The module of ours that a full name lies in, or the name itself."""
    return name if name in MODULES or not name.startswith("inception.") else name.rpartition(".")[0]


def edges(module):
    found = {module_of(name) for name, _ in imported(nodes_of(MODULES[module]))}
    return {name for name in found if name in MODULES and name != module and (module, name) not in LATE}


@pytest.mark.parametrize("module", MODULES)
def test_arrows_run_one_way(module):
    for name in edges(module) - {"inception"}:  # of the package itself nothing but its version
        assert rank(name) <= rank(module), f"{module} imports {name}"
    names = [name for name, _ in imported(nodes_of(MODULES[module]))]
    assert not [name for name in names if name.startswith("tensorflow.python")]  # TensorFlow's own insides
    if module.startswith("inception.files"):
        assert [n for n in names if n.startswith("inception") and not n.startswith("inception.files.")] == []


def test_no_modules_import_each_other():
    """Imports in functions count."""
    list(graphlib.TopologicalSorter({module: edges(module) for module in MODULES}).static_order())  # or CycleError


@pytest.mark.parametrize("module", MODULES)
def test_private_names_stay_in_their_module(module):
    tree = MODULES[module]
    of_ours = {here: name for name, here in imported(nodes_of(tree)) if name.startswith("inception")}
    reached = [name for name in of_ours.values() if "._" in name]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in of_ours:
            reached += [f"{of_ours[node.value.id]}.{node.attr}"] if node.attr[:1] == "_" != node.attr[1:2] else []
    assert set(reached) <= {"inception.__version__"}


def test_no_folder_is_a_heap():
    for folder in {path.parent for path in PACKAGE.rglob("*.py")}:
        assert len([path for path in folder.iterdir() if path.suffix == ".py"]) <= 16, folder


@pytest.mark.parametrize("module", MODULES)
def test_heavy_packages_are_imported_where_used(module):
    place = f"{module.removeprefix('inception').removeprefix('.').replace('.', '/')}.py"
    top = [node for node in MODULES[module].body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {name.split(".")[0] for name, _ in imported(top)}
    if place not in MAY_IMPORT_AT_THE_TOP:
        assert not found & HEAVY
    if place in NUMPY_AT_MOST:
        assert found <= set(sys.stdlib_module_names) | {"numpy", "inception"}


@pytest.mark.parametrize("old", moved.MOVED)
def test_a_module_that_has_moved_says_where_it_is(old):
    with pytest.raises(ImportError, match=f"{old} is {moved.MOVED[old]} now"):
        importlib.import_module(old)
    importlib.import_module(moved.MOVED[old])


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('MODULES', *sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split("MODULES ")[1].split())


def test_import_inception_is_light():
    assert not loaded_by("import inception; inception.Variant; inception.load_weights") & HEAVY


def test_inspect_and_convert_need_nothing_heavy(sample, tmp_path):
    code = (
        "from typer.testing import CliRunner; from inception.cli import app; run = CliRunner().invoke\n"
        f"assert run(app, ['inspect', {str(sample)!r}]).exit_code == 0\n"
        f"assert run(app, ['convert', {str(sample)!r}, {str(tmp_path / 'x.ckpt')!r}]).exit_code == 0\n"
        f"assert run(app, ['inspect', {str(tmp_path / 'x.ckpt')!r}]).exit_code == 0"
    )
    assert not loaded_by(code) & (HEAVY - {"h5py", "filelock"})


def test_openvino_and_nncf_tell_nobody_of_their_use():
    if not all(map(extras.installed, ("openvino", "nncf", "openvino_telemetry"))):
        pytest.skip("one of them is not installed")
    assert "openvino_telemetry" not in loaded_by("from inception import extras; extras.load('nncf')")


TENSORFLOW = {"tensorflow", "keras", "tf_keras", "openvino_telemetry"}
VERBS = {
    "classify": "classify {digit} --weights {sample}",
    "classify as fine-tuned": "classify {digit} --weights {trained}",
    "evaluate": "evaluate {digits} --weights {trained}",
    "gradcam": "gradcam {digit} -o {new}.png --weights {sample} --picture size=299",  # where Mixed_7c shows a place
    "features": "features {digits} {new} --weights {sample}",
    "metrics": "metrics {digits} {digits} --weights {sample}",
    "statistics": "statistics {digits} {new}.npz --weights {sample}",
    "inspect": "inspect {sample}",
    "convert": "convert {sample} {new}.ckpt",
    "verify": "verify {sample} {trained} --builder none",
    "published": "published",
}


@pytest.mark.parametrize(("verb", "without"), [*((verb, ()) for verb in VERBS), ("classify", ("openvino",))])
def test_verbs_that_leave_tensorflow_alone(verb, without, sample, repository, tmp_path):
    for package in {"openvino", "onnxruntime", "onnx", "pyarrow"} - {*without}:
        pytest.importorskip(package)
    digit = repository / "checkpoints" / "sample-digits" / "digit-3.png"
    shutil.copytree(digit.parent, tmp_path / "digits" / "3")
    (tmp_path / "trained").mkdir()
    weights = inception.load_weights(sample)
    weights.save(tmp_path / "trained" / "model.keras")
    said = {"network": "InceptionV3", "end_point": "PreLogits", "picture": weights.picture.json()}
    said |= {"variant": dataclasses.asdict(weights.variant), "classes": [str(i) for i in range(10)]}
    (tmp_path / "trained" / "model.json").write_text(json.dumps(said))
    places = {"digit": digit, "sample": sample} | {name: tmp_path / name for name in ("digits", "trained", "new")}
    words = [word.format(**places) for word in VERBS[verb].split()]
    code = (
        f"sys.modules.update(dict.fromkeys({without}))\n"
        "from typer.testing import CliRunner; from inception.cli import app\n"
        f"done = CliRunner().invoke(app, {words}); assert done.exit_code == 0, done.output"
    )
    assert not loaded_by(code) & TENSORFLOW


def test_every_public_name_is_there_and_unknown_ones_are_not():
    for name in inception.__all__:
        assert getattr(inception, name) is not None
    assert {*inception.__all__, "__version__", "features", "metrics", "training", "visualize"} <= set(dir(inception))
    assert all(hasattr(inception, name) for name in dir(inception))
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


@pytest.mark.parametrize("module", MODULES)
def test_nothing_in_the_package_runs_what_a_file_says(module):
    assert list(unsafe_calls(MODULES[module])) == []
