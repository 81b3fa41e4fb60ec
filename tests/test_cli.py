"""The command line, as a user meets it."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from made import assert_same

from inception import classify as classification
from inception import cli, load_weights


def process(*arguments, code=0):
    """The command as a process of its own: what it prints to either stream."""
    command = [sys.executable, "-m", "inception.cli", *map(str, arguments)]
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
    assert text.split("<- differs")[0].splitlines()[-1].startswith("Mixed_6b")


def test_classify_names_real_digits(inception, sample, repository):
    pictures = sorted((repository / "checkpoints" / "sample-digits").glob("*.png"))
    text = inception("classify", *pictures, "--weights", sample, "--top", 1)
    found = [line.split()[-1] for line in text.splitlines() if "%" in line]
    assert found == [picture.stem[-1] for picture in pictures]


def test_classify_without_names_shows_indices(inception, sample, repository, tmp_path):
    shutil.copy(sample, tmp_path / "mine.h5")
    picture = repository / "checkpoints" / "sample-digits" / "digit-4.png"
    assert "class 4" in inception("classify", picture, "--weights", tmp_path / "mine.h5")
    (tmp_path / "names.txt").write_text("\n".join("abcdefghij"))
    text = inception("classify", picture, "--weights", tmp_path / "mine.h5", "--labels", tmp_path / "names.txt")
    assert next(line for line in text.splitlines() if "%" in line).split()[-1] == "e"


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
