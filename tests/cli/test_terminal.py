"""The two streams: a text is shown and never obeyed, and what waits moves only where somebody looks."""

import io
import os
import pty
import subprocess
import sys
import warnings

import pytest
from typer.testing import CliRunner

from inception import cli
from inception.cli import terminal


@pytest.fixture
def stream(monkeypatch):
    """What `err` prints."""
    written = io.StringIO()
    monkeypatch.setattr(terminal, "err", terminal.Plain(written, file=written, soft_wrap=True))
    return written


def test_markup_emoji_names_and_controls_are_text(stream):
    terminal.err.print("[red]a[/red] :smile: \x1b[2Jb\rc")
    assert stream.getvalue() == "[red]a[/red] :smile: \\x1b[2Jb\\rc\n"


def test_a_long_sentence_stays_one_line(stream):
    terminal.complain("word " * 500)
    assert stream.getvalue().count("\n") == 1 and stream.getvalue().startswith("inception: word word")


def test_a_pipe_is_wide_and_a_terminal_as_wide_as_it_is(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert terminal.Plain(io.StringIO(), file=io.StringIO()).width == terminal._WIDEST
    monkeypatch.setenv("COLUMNS", "70")
    assert terminal.Plain(io.StringIO(), file=io.StringIO()).width == 70


def test_warnings_for_users_become_notes_and_others_are_none(stream):
    with terminal.noted():
        warnings.warn("look [here]", UserWarning, stacklevel=1)
        warnings.warn("look [here]", UserWarning, stacklevel=1)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert stream.getvalue() == "note: look [here]\n" * 2


def test_an_error_is_not_swallowed_by_notes(stream):
    with pytest.raises(ValueError, match="wrong"), terminal.noted():
        raise ValueError("wrong")


def test_nothing_moves_in_a_pipe(stream):
    with terminal.working("reading", "MB", 1e6) as move:
        move(5e5, 1e6)
        move(1e6, None, "writing")
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    "command",
    [
        "activations {digit} -o {new}.png -w slim-2016-08-28 --end-point Mixed_5a",
        "filters -o {new}.png -w torchvision-0cc3c7bd --end-point Mixed_5a",
        "gradcam {digit} -o {new}.png -w imagenet --end-point Mixed_5a",
        "report {digit} -o {new} -w keras-v0.5 --end-point Mixed_5a",
        "microscope slim-2016-08-28 -o {new} --end-point Mixed_5a",
        "export slim-2016-08-28 {new}.onnx --end-point Mixed_5a",
        "features {digit} {new} -w keras-v0.5-notop --end-point Mixed_5a",
        "features {digit} {new} -w keras-v0.5-notop --end-point Mixed_5a --dry-run",
        "finetune {classes} {new} -w slim-2016-08-28 --end-point Mixed_5a",
        "finetune {classes} {new} -w slim-2016-08-28 --end-point Mixed_5a --dry-run",
    ],
)
def test_the_end_points_of_a_published_file_are_looked_at_before_it_is_fetched(
    command, repository, tmp_path, monkeypatch
):
    for name in ("KERAS_HOME", "XDG_CACHE_HOME", "INCEPTION_WEIGHTS_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "caches"))
    monkeypatch.setattr(terminal, "fetched", lambda known: pytest.fail(f"{known.id} is fetched"))
    digits = repository / "checkpoints" / "sample-digits"
    for kind in "ab":
        (tmp_path / "classes" / kind).mkdir(parents=True)
        for i in range(3):
            picture = digits / f"digit-{2 * i + (kind == 'b')}.png"
            (tmp_path / "classes" / kind / picture.name).write_bytes(picture.read_bytes())
    places = {"digit": digits / "digit-4.png", "new": tmp_path / "new", "classes": tmp_path / "classes"}
    result = CliRunner().invoke(cli.app, command.format(**places).split())
    assert isinstance(result.exception, ValueError)  # of which `cli.main` makes a sentence and 2
    assert "'Mixed_5a' (did you mean Mixed_5" in str(result.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classes"]


WAITING = """
from inception import quiet
from inception.cli import terminal
with terminal.working("waiting for it"):
    quiet.import_tensorflow()
"""


def test_on_a_terminal_the_line_moves_while_tensorflow_is_imported_and_nothing_else(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os, time\nos.write(2, b'noise')\ntime.sleep(2.5)\n")
    ours, theirs = pty.openpty()
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "TERM": "xterm"}
    child = subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:  # Linux's end of a terminal
            break
        said += piece
        if not piece:
            break
    assert child.communicate()[0] == b"" and child.returncode == 0
    assert said.count(b"waiting for it") > 2 and b"noise" not in said


def test_an_id_is_fetched_and_a_path_is_not(monkeypatch, sample, tmp_path):
    fetched = []
    monkeypatch.setattr(terminal, "fetched", lambda known: fetched.append(known.id) or sample)
    assert terminal.load(str(sample)).variant.num_classes == 10 and not fetched
    assert terminal.load("imagenet").variant.num_classes == 10 and fetched == ["keras-v0.5"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "imagenet").write_bytes(sample.read_bytes())  # a file of that name is what is meant
    assert terminal.load("imagenet").source.path == "imagenet" and fetched == ["keras-v0.5"]
    assert terminal.network(str(sample)).inception.variant.num_classes == 10
