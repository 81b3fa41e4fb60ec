"""The two streams: a text is shown and never obeyed, and what waits moves only where somebody looks."""

import io
import os
import pty
import subprocess
import sys
import warnings

import pytest

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
