"""150 mistakes over all verbs: exit code 2, one sentence, nothing left behind, and no TensorFlow started for it."""

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest

from inception import cli
from inception.cli import options

# In a folder with: s.h5 (the sample), n.npz (without a classifier), d.png and e.png (digits), digits/ (of digits),
# bad.png and bad.h5 (no such things), empty/, set/ (a folder a class, 0 and 1), strange/ (a class that nobody knows),
# one/ (one class), names.txt (two names), mine.txt (a user's), s.csv, f/ (other files).
MISTAKES = """
clasify d.png
--versoin
convert
convert s.h5
convert nowhere.h5 x.h5
convert bad.h5 x.h5
convert s.h5 x.bin
convert s.h5 x.h5 --format keras-h6
convert s.h5 none/x.h5
convert s.h5 mine.txt --format npz
convert s.h5 s.h5
convert s.h5 x.h5 --step drop-axu
convert s.h5 x.h5 --step drop-background
convert s.h5 x.h5 --step drop-aux,drop-aux
convert s.h5 x.h5 --moving-averages
convert s.h5 x.h5 --exclude Logits
convert s.h5 x.h5 --froce
convert imagnet x.h5
convert --offline imagenet x.h5
inspect
inspect nowhere.h5
inspect bad.h5
inspect empty
inspect d.png
inspect keras-v0.55
inspect s.h5 n.npz
inspect keras-v0.2
inspect s.h5 --jsno
inspect --offline slim-2016-08-28
inspect ''
published nix
published keras-v0.55
published imagenet more
published --all
verify s.h5
verify s.h5 nowhere.ckpt
verify nowhere.h5 s.h5
verify s.h5 s.h5 --against keras
verify s.h5 --against tensorflow
verify s.h5 --against torhc
verify s.h5 s.h5 --builder slm
verify s.h5 s.h5 --image nowhere.png
verify s.h5 s.h5 --image bad.png
verify s.h5 s.h5 --image digits
verify s.h5 s.h5 --tolerance -1
verify s.h5 s.h5 --tolerance much
verify s.h5 s.h5 --size 0
verify s.h5 s.h5 --picture slmi
verify s.h5 s.h5 --picture size=big
export s.h5
export s.h5 x.onx
export nowhere.h5 x.onnx
export s.h5 none/x.onnx
export s.h5 mine.onnx
export s.h5 x.onnx --end-point PreLogit
export n.npz x.onnx --end-point Predictions
export s.h5 x.onnx --end-point PreLogits,PreLogits
export s.h5 x.onnx --precision int8
export s.h5 x.onnx --calibrate digits
export s.h5 x.tflite --precision int8 --calibrate digits
export s.h5 x.onnx --precision int7
export s.h5 x.onnx --batch 0
export s.h5 x.onnx --size -1
export s.h5 f
classify
classify nowhere.png -w s.h5
classify bad.png -w s.h5
classify empty -w s.h5
classify 'none/*.png' -w s.h5
classify d.png nowhere.png -w s.h5
classify d.png -w nowhere.h5
classify d.png -w bad.h5
classify d.png -w n.npz
classify d.png -w s.h5 --labels nowhere.txt
classify d.png -w s.h5 --labels names.txt
classify d.png -w s.h5 --top 0
classify d.png -w s.h5 --top five
classify d.png -w s.h5 --picture kears
classify d.png -w s.h5 --precision float16
classify d.png -w s.h5 --precision int8
classify d.png -w s.h5 --least-agreement 2
classify d.png -w s.h5 --size 0
classify -
classify d.png --offline
classify d.png -w s.h5 --weigths s.h5
features digits
features nowhere out -w s.h5
features empty out -w s.h5
features digits f -w s.h5
features digits mine.txt -w s.h5
features digits out -w nowhere.h5
features digits out -w s.h5 --end-point PreLogit
features digits out -w s.h5 --end-point mixed_6e
features digits out -w s.h5 --end-point Mixed_6e:x
features n.npz out -w n.npz --end-point Predictions
features digits out -w s.h5 --pool average
features digits out -w s.h5 --engine openvno
features digits out -w s.h5 --engine onnxruntime --precision bfloat16
features digits out -w s.h5 --precision int9
features digits out -w s.h5 --batch 0
features digits out -w s.h5 --threads none
features digits out -w s.h5 --shard-rows 0
features digits out -w s.h5 --picture crop=much
features digits out -w s.h5 --size 3
features s.csv out -w s.h5 --end-point ''
features digits out -w s.h5 --end-point PreLogit --dry-run
features nowhere out -w s.h5 --dry-run
finetune set
finetune nowhere out -w s.h5
finetune empty out -w s.h5
finetune one out -w s.h5 --dry-run
finetune set f -w s.h5
finetune set mine.txt -w s.h5
finetune set out -w nowhere.h5
finetune set out -w s.h5 --unfreeze Mixed_7d
finetune set out -w s.h5 --end-point Mixed_9a
finetune set out -w s.h5 --end-point Mixed_6a --unfreeze Mixed_7a
finetune set out -w s.h5 --validation 1.5
finetune set out -w s.h5 --validation nowhere
finetune set out -w s.h5 --augment flip,turn
finetune set out -w s.h5 --class-weights cat=2
finetune set out -w s.h5 --class-weights 0=much
finetune set out -w s.h5 --class-weights balancd
finetune set out -w s.h5 --batch-norm thawed
finetune set out -w s.h5 --learning-rate 0
finetune set out -w s.h5 --dropout 1
finetune set out -w s.h5 --epochs 0
finetune set out -w s.h5 --precision int8
finetune set out -w s.h5 --seed -1
finetune set out -w s.h5 --engine torch
evaluate
evaluate nowhere -w s.h5
evaluate empty -w s.h5
evaluate strange -w s.h5
evaluate set -w n.npz
evaluate set -w s.h5 --labels names.txt
evaluate set -w s.h5 --errors mine.txt
evaluate set -w s.h5 --errors none/x.csv
evaluate set -w s.h5 --batch 0
evaluate set -w s.h5 --picture torchvison
metrics digits
metrics nowhere digits -w s.h5
metrics digits empty -w s.h5
metrics d.png digits -w s.h5
metrics digits digits --protocol claen
metrics digits digits --metric fdi
metrics digits digits -w nowhere.h5
metrics digits digits --offline
metrics digits bad.npz -w s.h5
metrics digits digits --engine openvino,ray
metrics digits nowhere --dry-run
statistics digits
statistics digits x.txt
statistics digits mine.npz -w s.h5
statistics digits none/x.npz -w s.h5
statistics nowhere x.npz -w s.h5
statistics digits x.npz --protocol adn
statistics digits x.npz -w nowhere.h5
activations
activations d.png
activations nowhere.png -o x.png -w s.h5
activations bad.png -o x.png -w s.h5
activations d.png -o x.bmp -w s.h5
activations d.png -o none/x.png -w s.h5
activations d.png -o mine.png -w s.h5
activations d.png -o d.png --force -w s.h5
activations digits -o x.png -w s.h5
activations digits -o mine.txt -w s.h5
activations d.png -o x.png -w s.h5 --end-point Mixed_5a
activations d.png -o x.png -w s.h5 --end-point conv2d_95
activations d.png -o x.png -w s.h5 --end-point Predictions
activations d.png -o x.png -w s.h5 --channels 0
filters
filters -o x.gif -w s.h5
filters -o x.png -w s.h5 --end-point Mixed_9z
filters -o x.png -w s.h5 --size 8
filters -o x.png -w s.h5 --blur -1
filters nowhere.png -o x.png -w s.h5
filters -o x.png -w s.h5 --seed -2
filters -o x.png -w s.h5 --objective center
gradcam d.png -o x.png -w n.npz
gradcam d.png -o x.png -w s.h5 --label cat
gradcam d.png -o x.png -w s.h5 --label 10
gradcam d.png -o x.png -w s.h5 --label class5
gradcam d.png -o x.png -w s.h5 --labels nowhere.txt
gradcam d.png -o x.png -w s.h5 --end-point Mixed_7d
gradcam bad.png -o x.png -w s.h5
gradcam empty -o x.png -w s.h5
dream d.png -o x.png -w s.h5 --recipe deep
dream d.png -o x.png -w s.h5 --end-point Mixed_5b=much
dream d.png -o x.png -w s.h5 --end-point Mixed_5x=2
dream d.png -o x.png -w s.h5 --tile 9
dream d.png -o x.png -w s.h5 --rate -1
dream bad.png -o x.jpg -w s.h5
report d.png
report d.png -o mine.txt -w s.h5
report nowhere.png -o page -w s.h5
report bad.png -o page -w s.h5
report d.png -o page -w s.h5 --end-point Mixed
report d.png -o page -w s.h5 --top 0
report d.png -o page -w nowhere.h5
microscope s.h5
microscope nowhere.h5 -o site
microscope s.h5 -o f
microscope s.h5 -o site --end-point Mixed_9z
microscope slim-2016-08-28 -o site --end-point Mixed_9z
microscope s.h5 -o site --look nowhere.png
microscope s.h5 -o site --images nowhere
microscope s.h5 -o site --objective neuron
""".strip().splitlines()

CHILD = """
import contextlib, io, json, os, sys, time
from inception import cli

def contents():
    return sorted((os.path.join(place, name), os.lstat(os.path.join(place, name)).st_mtime_ns)
                  for place, folders, files in os.walk(".") for name in files + folders)

for line in sys.stdin.read().splitlines():
    words, said, complained = json.loads(line), io.StringIO(), io.StringIO()
    sys.argv, sys.stdin, before, began = ["inception", *words], io.TextIOWrapper(io.BytesIO()), contents(), time.time()
    os.environ["INCEPTION_OFFLINE"] = ""
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        try:
            cli.main()
        except SystemExit as left:
            code = left.code
        except BaseException as error:
            code = repr(error)
    print(json.dumps({"code": code, "said": said.getvalue(), "complained": complained.getvalue(),
                      "left": contents() != before, "tensorflow": "tensorflow" in sys.modules,
                      "seconds": time.time() - began}), flush=True)
    sys.modules.pop("tensorflow", None)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, sample, repository):
    from inception import load_weights

    folder = tmp_path_factory.mktemp("mistakes")
    digits = sorted((repository / "checkpoints" / "sample-digits").glob("*.png"))
    links = {"s.h5": sample, "d.png": digits[3], "e.png": digits[4], "set/0/a.png": digits[0], "set/1/b.png": digits[1],
             "set/0/c.png": digits[2], "set/1/d.png": digits[3], "strange/cat/a.png": digits[0],
             "one/0/a.png": digits[0], "one/0/b.png": digits[1], "digits/0.png": digits[0],
             "digits/1.png": digits[1]}  # fmt: skip
    for name, source in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.read_bytes())
    for name in ("bad.png", "bad.h5", "bad.npz", "mine.txt", "mine.png", "mine.onnx", "mine.npz", "s.csv", "f/mine"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "names.txt").write_text("a\nb\n")
    (folder / "empty").mkdir()
    weights = load_weights(sample).step("drop-aux").step("drop-top")
    np.savez(folder / "n.npz", **weights.arrays)
    weights.save(folder / "n.npz")
    return folder


@pytest.fixture(scope="module")
def outcomes(place, tmp_path_factory):
    empty = tmp_path_factory.mktemp("caches")
    caches = {"KERAS_HOME": str(empty), "XDG_CACHE_HOME": str(empty), "INCEPTION_WEIGHTS_DIR": str(empty)}
    given = "\n".join(json.dumps(shlex.split(mistake)) for mistake in MISTAKES)
    run = subprocess.run([sys.executable, "-c", CHILD], input=given, cwd=place, env=os.environ | caches,
                         capture_output=True, text=True, check=True)  # fmt: skip
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(found) == len(MISTAKES)
    return dict(zip(MISTAKES, found, strict=True))


def test_there_are_150_of_all_verbs():
    assert len(set(MISTAKES)) == len(MISTAKES) >= 150
    verbs = {verb for group in cli.VERBS.values() for verb in group}
    counted = {verb: sum(mistake.split()[0] == verb for mistake in MISTAKES) for verb in verbs}
    assert all(count >= 3 for count in counted.values()), counted


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_costs_a_sentence(outcomes, mistake):
    found = outcomes[mistake]
    lines = [line for line in found["complained"].splitlines() if not line.startswith("note: ")]
    assert found["code"] == 2, found
    assert len(lines) == 1 and lines[0].startswith("inception: ") and len(lines[0]) > 20, found
    assert "Traceback" not in lines[0] and found["said"] == ""
    assert not found["left"] and not found["tensorflow"], found


@pytest.mark.parametrize(
    ("mistake", "suggested"),
    [
        ("clasify d.png", "classify"),
        ("convert s.h5 x.h5 --format keras-h6", "keras-h5"),
        ("convert s.h5 x.h5 --step drop-axu", "drop-aux"),
        ("published keras-v0.55", "keras-v0.5"),
        ("inspect keras-v0.55", "keras-v0.5"),
        ("classify d.png -w s.h5 --weigths s.h5", "--weights"),
        ("classify d.png -w s.h5 --picture kears", "keras"),
        ("features digits out -w s.h5 --end-point PreLogit", "PreLogits"),
        ("features digits out -w s.h5 --end-point mixed_6e", "Mixed_6e"),
        ("features digits out -w s.h5 --engine openvno", "openvino"),
        ("finetune set out -w s.h5 --unfreeze Mixed_7d", "Mixed_7"),
        ("finetune set out -w s.h5 --class-weights balancd", "balanced"),
        ("metrics digits digits --protocol claen", "clean"),
        ("metrics digits digits --metric fdi", "fid"),
        ("activations d.png -o x.png -w s.h5 --end-point Mixed_5a", "Mixed_5"),
        ("gradcam d.png -o x.png -w s.h5 --label class5", "class 5"),
    ],
)
def test_the_nearest_word_is_suggested(outcomes, mistake, suggested):
    assert f"(did you mean {suggested}" in outcomes[mistake]["complained"]


def test_words_of_options_are_those_of_the_library():
    from inception import inference
    from inception.cli import weights
    from inception.metrics import measure, protocols
    from inception.weights.formats import FORMATS
    from inception.weights.steps import STEPS

    assert options.PROTOCOLS.split("|") and set(options.PROTOCOLS.split("|")) == set(protocols.PROTOCOLS)
    assert options.METRICS.split("|") == list(measure.METRICS)
    assert weights.STEPS.split("|") == list(STEPS) and weights.FORMATS.split("|") == list(FORMATS)
    assert list(inference.ENGINES) == ["openvino", "onnxruntime", "tensorflow"]
