"""The command line, as a user meets it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made import assert_same, random_weights
from typer.testing import CliRunner

from inception import classify as classification
from inception import cli, load_weights


def process(*arguments, code=0):
    """The command as a process of its own: what it prints to either stream."""
    command = [sys.executable, "-m", "inception", *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout if code == 0 else run.stdout + run.stderr


@pytest.fixture
def inception(capsys, monkeypatch):
    """The same in this process, where TensorFlow, which takes its time to start, is there already."""

    def run(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["inception", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        said, complained = capsys.readouterr()
        assert (left.value.code or 0) == code, said + complained
        return said if code == 0 else said + complained

    return run


def test_what_is_no_verb_s(inception):
    from inception import __version__

    assert inception("--version") == f"inception {__version__}\n"
    assert inception("-h") == inception("--help") and "Usage: inception" in inception("convert", "-h")
    assert "complete_bash" in inception("--show-completion", "bash")


def test_convert_there_and_back(sample, tmp_path):
    assert "388 arrays, 492,770 values" in process("convert", sample, tmp_path / "x.ckpt")
    process("convert", tmp_path / "x.ckpt", tmp_path / "y.h5")
    assert_same(load_weights(tmp_path / "y.h5"), load_weights(sample))


def test_convert_with_steps_says_what_it_changed(inception, sample, tmp_path):
    text = inception("convert", sample, tmp_path / "x.h5", "--step", "drop-aux", "--step", "add-background")
    assert "drop-aux: the auxiliary head was removed" in text and "add-background: a class 0" in text
    assert load_weights(tmp_path / "x.h5").variant.num_classes == 11


def test_the_tool_of_a_checkout_is_the_same(repository, sample, tmp_path):
    subprocess.run([sys.executable, repository / "tools" / "convert.py", sample, tmp_path / "x.ckpt"], check=True)
    assert_same(load_weights(tmp_path / "x.ckpt"), load_weights(sample))


def test_inspect(inception, sample):
    text = inception("inspect", sample)
    for fact in ("Keras HDF5", "10 classes", "yes, last kernel 1x1", "depth_multiplier 0.15", "107 x 107", "492,770"):
        assert fact in text


def test_verify_passes_and_fails_by_its_exit_code(inception, sample, tmp_path):
    inception("convert", sample, tmp_path / "x.ckpt")
    text = inception("verify", sample, tmp_path / "x.ckpt")
    assert "equal: largest relative difference" in text and "(slim builder)" in text
    weights = load_weights(sample)
    weights.arrays["InceptionV3/Mixed_6b/Branch_0/Conv2d_0a_1x1/BatchNorm/beta"][0] += 1
    weights.save(tmp_path / "bad.h5")
    text = inception("verify", sample, tmp_path / "bad.h5", code=1)
    assert "DIFFERENT" in text
    assert text.split("<- differs")[0].splitlines()[-1].startswith("Mixed_6b\t")


def test_classify_names_real_digits(inception, sample, repository):
    pictures = sorted((repository / "checkpoints" / "sample-digits").glob("*.png"))
    text = inception("classify", *pictures, "--weights", sample, "--top", 1)
    rows = [line.split("\t") for line in text.splitlines()]
    assert rows[0] == ["picture", "probability", "class", "wnid"]
    assert [(row[0], row[2]) for row in rows[1:]] == [(str(picture), picture.stem[-1]) for picture in pictures]


def test_classify_without_names_shows_indices(inception, sample, repository, tmp_path):
    shutil.copy(sample, tmp_path / "mine.h5")
    picture = repository / "checkpoints" / "sample-digits" / "digit-4.png"
    assert "class 4" in inception("classify", picture, "--weights", tmp_path / "mine.h5")
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    text = inception("classify", picture, "--weights", tmp_path / "mine.h5", "--labels", tmp_path / "names.txt")
    assert text.splitlines()[1].split("\t")[2] == "e"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["inspect", "nowhere.h5"], "nowhere.h5 does not exist"),
        (["convert", "SAMPLE", "x.bin"], "x.bin has no ending that names a format"),
        (["convert", "SAMPLE", "none/x.h5"], "does not exist; make it first"),
        (["convert", "SAMPLE", "x.h5", "--step", "drop-background"], "has no background class"),
        (["classify", "nowhere.png", "--weights", "SAMPLE"], "nowhere.png does not exist"),
        (["verify", "SAMPLE", "nowhere.ckpt"], "nowhere.ckpt does not exist"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(inception, sample, tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    run = process if arguments == ["inspect", "nowhere.h5"] else inception
    text = run(*[sample if a == "SAMPLE" else a for a in arguments], code=2)
    assert sentence in text.replace("\n", " ")
    assert "Traceback" not in text and len(text.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


# --- Nothing of the user's is lost ---------------------------------------------------------


def refusal(*arguments):
    """The sentence with which a verb refuses."""
    run = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert isinstance(run.exception, ValueError), f"{run.output} {run.exception!r}"
    return str(run.exception)


def contents(folder):
    return {path.name: path.read_bytes() if path.is_file() else os.lstat(path)[:3] for path in folder.iterdir()}


def test_an_existing_file_is_replaced_by_force_alone(inception, tmp_path):
    source, target = random_weights().save(tmp_path / "x.safetensors"), tmp_path / "x.npz"
    target.write_text("mine")
    text = inception("convert", source, target, code=2)
    assert "is there already; --force (overwrite=True) replaces it" in text.replace("\n", " ")
    assert target.read_text() == "mine"
    inception("convert", source, target, "--force")
    assert_same(load_weights(target), load_weights(source))


@pytest.mark.parametrize(
    "source, target, form",
    [
        ("x.npz", "x.npz", "npz"),
        ("x.npz", "soft.npz", "safetensors"),
        ("x.npz", "hard.pb", "graph-def"),
        ("soft.npz", "x.npz", "npz"),
        ("y.ckpt", "y.ckpt", "slim"),
        ("y.ckpt", "y.ckpt.index", "npz"),
        ("y.ckpt", "piece", "npz"),
        ("y.ckpt.index", "y.ckpt.data-00000-of-00001", "npz"),
    ],
)
def test_what_is_read_is_never_written_over(tmp_path, monkeypatch, source, target, form):
    monkeypatch.chdir(tmp_path)
    weights = random_weights()
    for name in ("x.npz", "y.ckpt"):
        weights.save(name)
    os.symlink("x.npz", "soft.npz")
    os.link("x.npz", "hard.pb")
    os.symlink("y.ckpt.data-00000-of-00001", "piece")
    before = contents(tmp_path)
    text = refusal("convert", source, target, "--format", form, "--force")
    assert "is what is read, and would be written over" in text
    assert contents(tmp_path) == before


ODD = {"folder": os.mkdir, "pipe": os.mkfifo, "link to a device": lambda path: os.symlink(os.devnull, path)}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize(
    "verb, target", [("convert", "x.h5"), ("export", "x.onnx"), ("export", "x.bin"), ("export", "x")]
)
def test_only_a_file_is_replaced(sample, tmp_path, make, verb, target):
    make(tmp_path / target)
    if (tmp_path / target).is_dir():
        (tmp_path / target / "thesis.txt").write_text("mine")
    before = contents(tmp_path)
    text = refusal(verb, sample, tmp_path / target.replace(".bin", ".xml"), "--force")
    assert "only a file is ever replaced" in text or "no folder" in text or "with other things in it" in text
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "arguments, made",
    [
        (["convert", "SAMPLE", "x.npz"], "x.npz"),
        (["export", "SAMPLE", "x.onnx"], "x.onnx"),
        (["export", "SAMPLE", "x.xml"], "x.bin"),
        (["activations", "DIGIT", "-o", "x.png"], "x.png"),
        (["filters", "-o", "x.png"], "x.png"),
        (["gradcam", "DIGIT", "-o", "x.png"], "x.png"),
        (["dream", "DIGIT", "-o", "x.png"], "x.png"),
        (["report", "DIGIT", "-o", "."], "index.html"),
        (["evaluate", "DIGITS", "--errors", "x.csv"], "x.csv"),
    ],
)
def test_every_target_is_looked_at_before_the_work(sample, repository, tmp_path, monkeypatch, arguments, made):
    def work(*arguments, **options):
        raise AssertionError("the work has begun")

    monkeypatch.chdir(tmp_path)
    for name in ("weights", "export", "visualize", "training"):
        monkeypatch.setattr(f"inception.cli.{name}.{'load' if name == 'weights' else 'network'}", work)
    digits = repository / "checkpoints" / "sample-digits"
    given = {"SAMPLE": sample, "DIGIT": digits / "digit-4.png", "DIGITS": digits.parent}
    arguments = [given.get(each, each) for each in arguments]
    Path(made).write_text("mine")
    assert "is there already; --force" in refusal(*arguments)
    assert Path(made).read_text() == "mine"
    run = CliRunner().invoke(cli.app, [*map(str, arguments), "--force"])
    assert isinstance(run.exception, AssertionError), run.exception
    if made != "index.html":
        Path(made).unlink()
        target = next(each for each in arguments if str(each).startswith("x."))
        elsewhere = [f"none/{each}" if each == target else each for each in arguments]
        assert "The folder none does not exist; make it first" in refusal(*elsewhere)


def test_a_picture_is_not_drawn_over_itself(repository, tmp_path):
    shutil.copy(repository / "checkpoints" / "sample-digits" / "digit-4.png", tmp_path / "x.png")
    before = contents(tmp_path)
    text = refusal("dream", tmp_path / "x.png", "-o", tmp_path / "x.png", "--force")
    assert "is what is read" in text and contents(tmp_path) == before


def test_the_samples_accuracy_is_what_is_written_beside_it(sample, monkeypatch):
    import json

    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    sys.path.insert(0, str(sample.parents[1] / "tools"))
    from make_sample import HELD_OUT, picture

    digits = load_digits()
    _, images, _, labels = train_test_split(
        digits.images, digits.target, test_size=HELD_OUT, stratify=digits.target, random_state=0
    )
    pixels = [np.asarray(picture(image).convert("RGB")) for image in images]
    monkeypatch.setattr(classification, "_BATCH", HELD_OUT)  # one batch takes a tenth of the time of many small ones
    scores = classification.classify(pixels, load_weights(sample))
    accuracy = float(np.mean(scores.argmax(-1) == labels))
    written = json.loads(sample.with_suffix(".json").read_text())
    assert accuracy == pytest.approx(written["held_out_accuracy"]["predictions"], abs=1 / HELD_OUT)
    assert accuracy >= 0.97
    assert sample.stat().st_size < 3_000_000
