"""What comes out of files is data: it is shown, and neither a terminal nor a page obeys it."""

import os
import random

import numpy as np
import pytest
from made import random_weights
from PIL import Image
from typer.testing import CliRunner

from inception import images, load_weights
from inception.cli import app, main, terminal
from inception.files.errors import LONGEST_SENTENCE, safe
from inception.variants import Variant
from inception.weights import CheckpointError

PIECES = ["[/x]", "[red]", "[/red]", "[link=http://a.b]", "[bold", "\\[", ":smile:", "\x1b[31m", "\x1b]0;title\x07",
          "\x9b2J", "\r", "\n", "\t", "\b", "\x7f", "\u202e", "\u2066", "\u200f", "\u061c", "\u2028", "\u200b",
          "<script>alert(1)</script>", '"><img src=x onerror=y>', "&amp;", "$\\frac{", "{0}", "%s", "é", "名", "שלום",
          "a b", "\U000e0041", "\ufeff"]  # fmt: skip


def names(count=200, *, file=False):
    """Different names made of all that could be obeyed, one long; with surrogates, as a name in a folder has them."""
    chance = random.Random(0)
    pieces = [*PIECES, "\udc80", "\udcff"] if file else PIECES
    made = [f"{i}{''.join(chance.sample(pieces, 3))}" for i in range(count)]
    made[1] = "1" + "x" * (150 if file else 100_000)
    return [name.replace("/", "\\") for name in made] if file else made


def shown(*arguments, code=0):
    """A verb's output, which a terminal would show as it is."""
    run = CliRunner().invoke(app, list(map(os.fspath, arguments)))
    if code == 2:
        assert isinstance(run.exception, ValueError | OSError) and not isinstance(run.exception, UnicodeError)
    else:
        assert run.exit_code == code, f"{run.output} {run.exception!r}"
    assert all(cell.isprintable() for line in run.output.split("\n") for cell in line.split("\t"))
    return run.output


@pytest.fixture(scope="module")
def made_of_names(tmp_path_factory):
    """A network of 200 classes, which are called so."""
    place = tmp_path_factory.mktemp("names")
    weights = random_weights(Variant(num_classes=200, depth_multiplier=0.02, min_depth=3))
    weights.save(place / "[red]x.npz")
    listed = [name.replace("\n", "").replace("\r", "") for name in names()]
    for odd in "\x85\x0b\x0c\x1c\x1d\x1e\u2028\u2029":
        listed = [name.replace(odd, "") for name in listed]
    (place / "[red]x.labels.txt").write_text("\n".join(listed), encoding="utf-8")
    return place / "[red]x.npz", [name.strip() for name in listed]


def test_safe_text_is_one_printable_line_that_says_what_is_in_it():
    for name in [*names(), *names(file=True)]:
        said = safe(name)
        assert said.isprintable() and said.encode() and safe(said) == said and len(said) <= LONGEST_SENTENCE
        for piece in PIECES:
            assert piece not in name or len(name) > 999 or safe(piece) in said
    assert safe("a\x1b[31m\n\u202e\udc80[red]é") == r"a\x1b[31m\n\u202e\udc80[red]é"
    long = safe("begin" + "x" * 100_000 + "end", 40)
    assert long.startswith("beginx") and long.endswith("end") and len(long) == 40
    assert all(len(safe("\x1b" * 5000, n)) <= n for n in (20, 50, 2000))


def test_an_error_about_a_file_is_a_sentence_that_can_be_shown():
    sentence = str(CheckpointError("x.h5 holds " + "\x1b[2J\n" * 20_000 + "; fetch it again."))
    assert sentence.isprintable() and len(sentence) <= LONGEST_SENTENCE and sentence.endswith("fetch it again.")


def test_a_console_obeys_nothing(capsys):
    from rich.table import Table

    for name in names():
        table = Table(name)
        table.add_row(name)
        terminal.out.print(name)
        terminal.out.print(table)
        terminal.complain(name)
    said = capsys.readouterr()
    assert all(cell.isprintable() for text in said for line in text.split("\n") for cell in line.split("\t"))
    assert all(said.out.count(safe(name)) == 3 and safe(name) in said.err for name in names() if len(name) < 200)


def test_classify_shows_every_name(made_of_names, tmp_path):
    weights, listed = made_of_names
    pictures = [tmp_path / f"{name}.png" for name in names(8, file=True)]
    for picture in pictures:
        Image.fromarray(images.test_picture(75)).save(picture, format="PNG")
    text = shown("classify", *pictures, "--weights", weights, "--top", "200")
    assert all(safe(picture) in text for picture in pictures)
    missing = [name for name in listed if text.count(f"\t{safe(name, 200)}\n") < len(pictures)]
    assert missing == []


def test_inspect_convert_and_verify_show_files_and_tensors(made_of_names, tmp_path):
    weights, _ = made_of_names
    arrays = dict(np.load(weights))
    shown("verify", weights, weights)
    for i, name in enumerate(names(4, file=True)):
        target = tmp_path / f"{name}.npz"
        assert safe(target) in shown("convert", weights, target)
        assert safe(target) in shown("inspect", target)
        strange = f"InceptionV3/{name}".encode("utf-8", "replace").decode()
        np.savez(tmp_path / "more.npz", **arrays, **{strange: np.zeros(3, "f4")})
        with pytest.raises(CheckpointError) as caught:
            load_weights(tmp_path / "more.npz")
        assert str(caught.value).isprintable() and f"InceptionV3/{i}" in str(caught.value)


def test_evaluate_shows_classes(made_of_names, tmp_path):
    weights, listed = made_of_names
    # `folders.read` refuses a folder whose name is not printable.
    printable = [name for name in listed if name.isprintable() and "/" not in name and len(name) < 99][:15]
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(listed), encoding="utf-8")
    for name in printable:
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(images.test_picture(75)).save(tmp_path / "set" / name / "[bold]\x1b[31m.png")
        (tmp_path / "set" / name / "broken\u202e.png").write_bytes(b"")
    text = shown("evaluate", tmp_path / "set", "--weights", weights, "--labels", labels, code=1)  # some are broken
    assert len(printable) == 15 and all(safe(name) in text for name in printable)
    (tmp_path / "set" / "a\x1b[31m\nb").mkdir()
    shown("evaluate", tmp_path / "set", "--weights", weights, "--labels", labels, code=2)


def test_features_of_200_such_files(made_of_names, tmp_path):
    from inception import features

    weights, _ = made_of_names
    place = tmp_path / "pictures"
    place.mkdir()
    for i, name in enumerate(names(file=True)):
        content = np.full((75, 75, 3), i, np.uint8)
        Image.fromarray(content).save(place / f"{name}.png", format="PNG")
    out = tmp_path / "out[/red]\x1b[31m"
    assert safe(out) in shown("features", place, out, "--weights", weights, "--engine", "onnxruntime", "--size", "75")
    assert len(features.load(out)) == 200
    text = shown("features", place, out, "--weights", weights, "--engine", "onnxruntime", "--pool", "max", code=2)
    assert text == ""


def test_a_page_and_pictures_obey_nothing(made_of_names, tmp_path):
    weights, _ = made_of_names
    photo = tmp_path / "<script>\udc80\u202e$x$.png"
    Image.fromarray(images.test_picture(100)).save(photo, format="PNG")
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(f"<b>{i}\x1b[31m\u202e$\\frac" for i in range(200)), encoding="utf-8")
    shown("report", photo, "-o", tmp_path / "page", "--weights", weights, "--labels", labels, "--end-point", "Mixed_5b")
    page = (tmp_path / "page" / "index.html").read_text(encoding="utf-8")
    assert page.replace("\n", "").isprintable() and "<script" not in page and "<b>1" not in page
    assert r"&lt;script&gt;\udc80\u202e$x$.png" in page and r"\x1b[31m\u202e$\frac" in page
    of = ("--weights", weights, "--labels", labels, "--end-point", "Mixed_5b")
    shown("gradcam", photo, "-o", tmp_path / "cam.png", *of)


def test_a_pipe_of_few_letters_takes_all_names(made_of_names, monkeypatch, tmp_path):
    import io
    import sys

    target = tmp_path / "名é\udc80.npz"
    os.link(made_of_names[0], target)
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["inception", "inspect", os.fspath(target)])
    with pytest.raises(SystemExit) as ended:
        main()
    stream.flush()
    assert ended.value.code == 0 and rb"\u540d\xe9\udc80.npz" in stream.buffer.getvalue()
