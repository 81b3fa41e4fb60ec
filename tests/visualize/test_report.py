"""The report page, and the verbs that make pictures."""

import re
import subprocess
import sys

import numpy as np
import pytest
from html_pages import Page
from made import NARROW_NOTOP, random_weights
from PIL import Image
from typer.testing import CliRunner

from inception import images, load_weights
from inception.cli import app
from inception.cli.visualize import _number
from inception.visualize import filters, report
from inception.visualize.gradcam import GradCam
from inception.visualize.report import _heats

OUTSIDE = re.compile(r"https?:|//|url\(|<script|<link|@import|<iframe")
POINTS = ["Mixed_5b", "Mixed_6e"]


def parsed(path):
    tags = Page(path)
    assert not OUTSIDE.search(re.sub(r'"data:image/webp;base64,[A-Za-z0-9+/=]+"', '""', tags.source))
    assert tags.wordless == [] and all(image["src"].startswith("data:image/webp;base64,") for image in tags.images)
    return tags.source, tags


@pytest.fixture
def digit(repository):
    return repository / "checkpoints" / "sample-digits" / "digit-4.png"


def test_a_page_has_everything_in_it(sample, digit, tmp_path):
    path = report(digit, load_weights(sample), tmp_path / "new" / "folder", end_points=POINTS)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    page, tags = parsed(path)
    assert len(tags.images) == 1 + 3 + 2  # the picture, three heat maps, two grids
    for words in ("Predictions", "Grad-CAM of the best 3", "Mixed_6e (5 × 5)", "Layers", "10 classes", "digit-4.png"):
        assert words in tags.text, words
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page
    assert re.search(r'class="name">4</span><span class="score">(\d\d)', page)
    [row] = re.findall(r"<tr><th scope=row>Conv2d_1a_3x3</th>(.*?)</tr>", page)
    parameters, additions = 27 * 8 + 3 * 8, 53 * 53 * 27 * 8  # kernel, and batch norm's beta, mean and variance
    cells = re.sub("<.*?>", " ", row.replace("×", "x")).split()
    assert cells == ["53", "x", "53", "x", "8", str(parameters), f"{additions / 1e6:.1f}"]


def test_a_page_without_a_classifier_says_so(tmp_path):
    path = report(images.test_picture(120), random_weights(NARROW_NOTOP), tmp_path, end_points=["Mixed_5b"])
    _, tags = parsed(path)
    assert "no classifier" in tags.text and "Grad-CAM" not in tags.text and len(tags.images) == 2


def test_names_from_outside_are_escaped(sample, digit, tmp_path):
    picture = tmp_path / "<img src=x onerror=alert(1)>&.png"
    picture.write_bytes(digit.read_bytes())
    labels = [images_label(f'<b onclick="x">{i}</b>') for i in range(10)]
    path = report(picture, load_weights(sample), tmp_path / "page", end_points=["Mixed_5b"], labels=labels)
    page, tags = parsed(path)
    assert "<img src=x" not in page and 'onclick="' not in page
    assert "<img src=x onerror=alert(1)>&.png" in tags.text and '<b onclick="x">4</b>' in tags.text


def images_label(name):
    from inception.labels import Label

    return Label("", name)


def test_a_mistake_leaves_no_page(sample, digit, tmp_path):
    with pytest.raises(ValueError, match="no end point or layer 'Mixed_9z'"):
        report(digit, load_weights(sample), tmp_path / "page", end_points=["Mixed_9z"])
    assert not (tmp_path / "page").exists()


# --- Verbs -----------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_filters_climbs_the_objective_that_is_asked_for(sample, tmp_path):
    given = {"size": 48, "steps": 3}
    words = ["--end-point", "Mixed_5b", "--channels", 2, *(f"--{name}={value}" for name, value in given.items())]
    pictures = []
    for objective in ("mean", "centre"):
        path = tmp_path / f"{objective}.png"
        result = run("filters", "-o", path, "-w", sample, *words, "--objective", objective)
        assert result.exit_code == 0 and f"2 channels, {objective} value" in result.output
        found = filters(load_weights(sample), "Mixed_5b", 2, objective=objective, **given)
        pictures.append(np.asarray(Image.open(path)))
        np.testing.assert_array_equal(pictures[-1], found.picture())
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("activations", ["--end-point", "Mixed_5b", "--channels", 8], "Mixed_5b        11 x 11 x 40"),
        ("gradcam", ["--label", "4"], "4: 9"),
        ("filters", ["--end-point", "Mixed_5b", "--channels", 2, "--size", 48, "--steps", 3], "2 channels, mean value"),
        ("dream", ["--end-point", "Mixed_5b=2", "--steps", 2, "--octaves", 2], "octave 2: 139 x 139, loss"),
        ("dream", ["--end-point", "Mixed_5b", "--recipe", "weighted", "--steps", 2], "octave 2: 107 x 107, loss"),
    ],
)
def test_a_verb_makes_a_picture_and_says_what_and_how_long(verb, options, said, sample, digit, tmp_path):
    outputs = [tmp_path / name for name in ("one.png", "two.png")]
    for output in outputs:
        result = run(verb, digit, "--weights", sample, "-o", output, "--seed", 3, *options)
        assert result.exit_code == 0, result.output
    assert said in result.output
    assert re.search(r"made \S+two.png, \d+ x \d+, in \d+\.\d s", result.output.replace("\n", " "))
    one, two = (np.asarray(Image.open(output)) for output in outputs)
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("names", "label", "number", "note"),
    [
        ("0123456789", "4", 4, ""),
        ("9876543210", "4", 5, "note: 4 is taken as a name: class 5, called 4\n"),
        (range(0, 100, 10), "20", 2, "note: 20 is taken as a name: class 2, called 20\n"),
        (range(0, 100, 10), "2", 2, "note: 2 is taken as a number, for no class has that name: class 2, called 20\n"),
        ("abcdefghij", "4", 4, ""),
        ("abcdefghij", "E", 4, ""),
    ],
)
def test_a_class_by_its_name_before_its_number(names, label, number, note, capsys):
    assert _number(label, [images_label(str(name)) for name in names]) == number
    assert capsys.readouterr().err == note


def test_the_verb_takes_the_name(sample, digit, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("".join(f"{9 - i}\n" for i in range(10)))
    result = run("gradcam", digit, "-w", sample, "-o", tmp_path / "x.png", "--labels", file, "--label", "5")
    assert result.exit_code == 0 and "\n5: 9" in result.output  # the picture's class is 4, here called 5
    assert "note: 5 is taken as a name: class 4, called 5" in result.output


@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("crane", "'crane' is what the classes 2, 7 are called; give a number"),
        ("10", "No class is called '10'; give one of the names, or a number, 0 to 9"),
        ("-1", "No class is called '-1'"),
    ],
)
def test_no_one_class(label, sentence):
    table = [images_label(name) for name in ("a", "b", "crane", "c", "d", "e", "f", "crane", "g", "h")]
    with pytest.raises(ValueError, match=re.escape(sentence)):
        _number(label, table)


def test_a_map_without_evidence_is_said(sample, digit, tmp_path):
    result = run("gradcam", digit, "-w", sample, "-o", tmp_path / "x.png", "--end-point", "Mixed_6e")
    assert result.exit_code == 0 and "at Mixed_6e; nothing there speaks for it, so its map is zero" in result.output


def test_the_page_says_of_a_map_that_it_has_no_evidence():
    photo, table = np.zeros((8, 8, 3), np.uint8), [images_label("a"), images_label("b")]
    some, none = (GradCam(np.full((8, 8), v), np.full((2, 2), v), photo, 0, np.ones(2), "x") for v in (1.0, 0.0))
    words = "; nothing here speaks for it, so its map is zero everywhere"
    assert words in _heats([none], table) and words not in _heats([some], table)


def test_report_is_a_verb(sample, digit, tmp_path):
    result = run("report", digit, "-w", sample, "-o", tmp_path / "page", "--end-point", "Mixed_5b", "--top", 1)
    assert result.exit_code == 0 and "MB, in" in result.output
    assert len(parsed(tmp_path / "page" / "index.html")[1].images) == 3


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["gradcam", "DIGIT", "-o", "x.bmp"], "no ending of a picture"),
        (["gradcam", "none.png", "-o", "x.png"], "none.png does not exist"),
        (["gradcam", "DIGIT", "-o", "x.png", "--label", "cat"], "No class is called 'cat'"),
        (["dream", "DIGIT", "-o", "x.png", "--recipe", "deep"], "--recipe is 'deep'; expected one of mean, weighted"),
        (["dream", "DIGIT", "-o", "x.png", "--end-point", "Mixed_5b=much"], "expected a name, or NAME=WEIGHT"),
        (["filters", "-o", "none/x.png"], "The folder none does not exist"),
        (["activations", "DIGIT", "-o", "x.png", "--end-point", "Predictions"], "expected maps"),
    ],
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(arguments, sentence, sample, digit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*[digit if a == "DIGIT" else a for a in arguments], "-w", sample)
    assert isinstance(result.exception, ValueError) and sentence in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_help_loads_no_tensorflow():
    code = (
        "import sys; from typer.testing import CliRunner; from inception.cli import app\n"
        "assert CliRunner().invoke(app, ['dream', '--help']).exit_code == 0\n"
        "import inception.visualize; assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
