"""One idea, one spelling: read off the program, so that a new verb keeps to it or fails here."""

import io
import json
import logging
import re
import subprocess
import sys

import h5py
import pytest
from typer.testing import CliRunner

from inception import cli
from inception.cli import pictures, program, terminal


@pytest.fixture(scope="module")
def conventions(repository):
    sys.path.insert(0, str(repository / "tools"))
    import conventions

    return conventions


def test_every_verb_keeps_every_convention(conventions):
    table = conventions.table()
    broken = [f"{verb}: {name}" for verb, row in table.items() for name, kept in row.items() if kept is False]
    assert broken == [] and len(table) >= 16
    for name in conventions.CONVENTIONS:
        assert any(row[name] for row in table.values()), name


def test_the_table_in_the_docs_is_this_one(conventions, repository):
    written = (repository / "docs" / "figures" / "conventions.md").read_text(encoding="utf-8")
    assert written.startswith(conventions.markdown([]).rstrip("\n"))


def test_an_option_of_two_verbs_is_the_same_option(conventions):
    """In spelling and short form; what it says may name the verb's own default, and some verbs take one value alone."""
    seen = {}
    for verb in conventions.COMMAND.commands.values():
        for name, option in conventions.options(verb).items():
            kind = (tuple(option.opts), option.is_flag)
            assert seen.setdefault(name, kind) == kind, f"{verb.name} {name}"


def test_a_verb_of_old_words_does_not_pass(conventions):
    import typer

    def bad(point: str = "", output: str = "", batch_size: int = 1) -> None:
        """Bad."""

    app = typer.Typer()
    app.command("bad")(bad)
    app.command("other")(bad)
    verb = typer.main.get_command(app).commands["bad"]
    broken = {name for name, kept in conventions.CONVENTIONS.items() if kept(verb) is False}
    assert {"`--end-point`", "`--batch`", "`--json`", "`--quiet`", "examples", "no old word"} <= broken


# --- Old spellings ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "words", "now", "note"),
    [
        ("gradcam", ["x", "--output", "y", "--point", "Mixed_6e"], {"end_point": "Mixed_6e"}, "--point is --end-point"),
        ("gradcam", ["x", "-o", "y", "--seed", "3"], {"sources": ["x"]}, "nothing in it is random"),
        ("activations", ["x", "-o", "y", "--seed=3"], {"sources": ["x"]}, "nothing in it is random"),
        ("dream", ["x", "-o", "y", "--point=a=2"], {"end_point": ["a=2"]}, "--point is --end-point"),
        ("features", ["x", "y", "--endpoint", "A,B"], {"end_point": ["A", "B"]}, "--endpoint is --end-point"),
        ("finetune", ["x", "y", "--batch-size", "8"], {"batch": 8}, "--batch-size is --batch"),
        ("export", ["x", "y", "--accept"], {"least_agreement": 0.0}, "--accept is --least-agreement 0"),
    ],
)
def test_an_old_spelling_works_with_a_note(conventions, verb, words, now, note, capsys):
    context = conventions.COMMAND.commands[verb].make_context(verb, words)
    assert now.items() <= context.params.items()
    terminal.ask(quiet=False)
    assert note in capsys.readouterr().err


def test_a_word_that_only_looks_old_is_left_alone(conventions):
    take = conventions.COMMAND.commands["classify"].make_context
    assert take("classify", ["--", "--point"]).params["sources"] == ["--point"]
    with pytest.raises(program.UsageError):
        take("classify", ["x", "--point", "y"])


@pytest.mark.parametrize("verb", ["convert", "export", "finetune", "statistics"])
@pytest.mark.parametrize("words", [["a", "-o", "b"], ["-o", "b", "a"], ["a", "--out=b"], ["a", "b"]])
def test_what_is_written_is_the_last_argument_or_behind_o(conventions, verb, words):
    params = conventions.COMMAND.commands[verb].make_context(verb, words).params
    assert (str(params.get("source", params.get("folder"))), str(params["target"])) == ("a", "b")


def test_features_takes_several_sources_and_o(conventions):
    params = conventions.COMMAND.commands["features"].make_context("features", ["a", "b", "-o", "c"]).params
    assert (params["source"], params["target"]) == (["a", "b"], "c")


# --- What all verbs do -----------------------------------------------------------------


def run(*words, **more):
    return CliRunner().invoke(cli.app, [str(word) for word in words], **more)


@pytest.fixture
def digits(repository):
    return repository / "checkpoints" / "sample-digits"


def documented(repository):
    """{verb: the keys that the manual says its JSON has}."""
    text = (repository / "docs" / "reference" / "command-line.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)` \| (.*) \|$", text, re.MULTILINE)
    return {verb: set(re.findall(r"`([a-z0-9_]+)`", keys)) for verb, keys in rows}


def keys_of(value):
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    return set(value) if isinstance(value, dict) else set()


JSON = {
    "convert": "convert {sample} {new}.npz",
    "inspect": "inspect {sample}",
    "verify": "verify {sample} {sample} --builder none",
    "published": "published",
    "export": "export {sample} {new}.onnx",
    "classify": "classify {digits}/digit-3.png {digits}/digit-4.png {bad}",
    "features": "features {digits} {new}",
    "evaluate": "evaluate {set}",
    "metrics": "metrics {digits} {digits}",
    "statistics": "statistics {digits} {new}.npz",
    "activations": "activations {digits}/digit-3.png -o {new}.png",
    "filters": "filters -o {new}.png --end-point Mixed_5b --channels 1 --size 32 --steps 1",
    "gradcam": "gradcam {digits}/digit-3.png -o {new}.png",
    "dream": "dream {digits}/digit-3.png -o {new}.png --steps 1 --octaves 1",
    "report": "report {digits}/digit-3.png -o {new} --top 1",
    "microscope": "microscope {sample} -o {new} --end-point Mixed_5b --channels 1 --steps 1",
}


@pytest.mark.parametrize("verb", JSON)
def test_json_is_all_that_stdout_has_and_its_keys_are_in_the_manual(verb, sample, digits, repository, tmp_path):
    (tmp_path / "bad.png").write_text("none")
    for number in "01":
        (tmp_path / "set" / number).mkdir(parents=True)
        (tmp_path / "set" / number / "a.png").write_bytes((digits / f"digit-{number}.png").read_bytes())
    places = {"sample": sample, "digits": digits, "new": tmp_path / "new", "bad": tmp_path / "bad.png",
              "set": tmp_path / "set"}  # fmt: skip
    words = [word.format(**places) for word in JSON[verb].split()]
    words += [] if verb in ("convert", "inspect", "verify", "published", "export", "microscope") else ["-w", sample]
    found = run(*words, "--json", "--quiet")
    assert found.exit_code == (verb == "classify"), found.output
    record = json.loads(found.stdout)
    assert keys_of(record) == documented(repository)[verb] | ({"error"} if verb == "classify" else set())
    if verb not in ("classify", "dream"):
        assert found.stderr == ""


def test_the_manual_has_the_keys_of_every_verb(repository):
    """Those of `finetune` are compared where there is something to learn, in tests/training."""
    said = "out accuracy held_out training_loss inference_loss epochs classes skipped files"
    assert documented(repository)["finetune"] == set(said.split())
    assert documented(repository).keys() == {verb for group in cli.VERBS.values() for verb in group}


def test_numbers_that_json_has_not_are_null():
    record = terminal._json({"a": float("nan"), "b": (1, float("-inf")), "c": 1.5})
    assert json.dumps(record) == '{"a": null, "b": [1, null], "c": 1.5}'


def test_a_table_in_a_pipe_is_a_line_a_row():
    from rich.table import Table

    table = Table("a", "b")
    table.add_row("x\ty", "")
    table.add_row("", "[red]z")
    stream = io.StringIO()
    terminal.Plain(stream, file=stream).print(table)
    assert stream.getvalue() == "a\tb\nx\\ty\n\t[red]z\n"


def test_stdin_is_a_picture_or_names(sample, digits):
    picture = digits / "digit-3.png"
    alone = json.loads(run("classify", "-", "-w", sample, "--json", input=picture.read_bytes()).stdout)
    assert [row["picture"] for row in alone] == ["-"]
    named = run("classify", "-", "-w", sample, "--json", input=f"{picture}\n\n{digits / 'digit-4.png'}\n")
    rows = json.loads(named.stdout)
    assert [row["classes"][0]["name"] for row in rows] == ["3", "4"]
    assert rows[0]["classes"] == alone[0]["classes"]
    pictures._kept.clear()


def test_a_bad_picture_costs_a_line(sample, digits, tmp_path):
    (tmp_path / "bad.png").write_text("none")
    (tmp_path / "good.png").write_bytes((digits / "digit-3.png").read_bytes())
    for words in (["classify", tmp_path], ["gradcam", tmp_path, "-o", tmp_path / "drawn"]):
        found = run(*words, "-w", sample)
        assert found.exit_code == 1 and found.stderr.count("\n") == 1
        assert re.match(r"skipped: \S+bad.png is no picture", found.stderr) and "good" in found.stdout
    assert [path.name for path in (tmp_path / "drawn").iterdir()] == ["good.png"]
    assert run("features", tmp_path, tmp_path / "out", "-w", sample).exit_code == 1


def test_several_pictures_are_drawn_into_a_folder(sample, digits, tmp_path):
    found = run("activations", f"{digits}/digit-[34].png", "-o", tmp_path / "drawn", "-w", sample, "--end-point",
                "Mixed_5b", "--json")  # fmt: skip
    assert [row["out"] for row in json.loads(found.stdout)] == [
        str(tmp_path / "drawn" / f"digit-{n}.png") for n in "34"
    ]
    again = run("activations", f"{digits}/digit-[34].png", "-o", tmp_path / "drawn", "-w", sample)
    assert "is there already; --force" in str(again.exception)


def without_checksums(path, target):
    with h5py.File(path) as given, h5py.File(target, "w") as made:

        def copy(name, each):
            made.create_dataset(name, data=each[()]) if isinstance(each, h5py.Dataset) else made.require_group(name)
            made[name].attrs.update(each.attrs)

        given.visititems(copy)
        made.attrs.update(given.attrs)
    return target


def test_quiet_says_no_note_and_a_note_on_a_file_comes_once(sample, tmp_path):
    sample = without_checksums(sample, tmp_path / "x.h5")
    terminal._said.clear()
    assert "no checksums" in run("inspect", sample).stderr
    assert run("inspect", sample).stderr == ""
    terminal._said.clear()
    assert run("inspect", sample, "-q").stderr == ""
    assert run("inspect", sample, env={"INCEPTION_QUIET": "1"}).stderr == ""


def test_verbose_is_pythons_logging(sample, caplog):
    with caplog.at_level(logging.DEBUG, "inception"):
        assert run("inspect", sample, "--verbose").exit_code == 0
    assert any(record.name == "inception" and "is read" in record.getMessage() for record in caplog.records)


def test_offline_downloads_nothing(monkeypatch, tmp_path):
    for name in ("KERAS_HOME", "INCEPTION_WEIGHTS_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("INCEPTION_OFFLINE", "0")
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("the network was asked"))
    found = run("inspect", "imagenet", "--offline")
    assert "keras-v0.5 is not on this disk, and downloads are off" in str(found.exception)
    monkeypatch.setenv("INCEPTION_OFFLINE", "1")
    from inception.weights import CheckpointError
    from inception.weights.published import fetch_imagenet

    with pytest.raises(CheckpointError, match="downloads are off"):
        fetch_imagenet()


def test_weights_from_the_environment(sample, digits):
    found = run("classify", digits / "digit-3.png", "--json", env={"INCEPTION_WEIGHTS": str(sample)})
    assert json.loads(found.stdout)[0]["classes"][0]["name"] == "3"


@pytest.mark.parametrize(
    "words",
    [
        ["features", "DIGITS", "new", "-w", "SAMPLE"],
        ["metrics", "DIGITS", "DIGITS", "-w", "SAMPLE", "--protocol", "clean,adm"],
        ["finetune", "SET", "new", "-w", "SAMPLE", "--unfreeze", "Mixed_7a", "--validation", "0.5"],
    ],
)
def test_a_dry_run_counts_and_writes_nothing(words, sample, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, path in enumerate(sorted(digits.iterdir())):
        (tmp_path / "set" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / str(i % 2) / path.name).write_bytes(path.read_bytes())
    given = {"DIGITS": digits, "SAMPLE": sample, "SET": tmp_path / "set"}
    found = run(*[given.get(word, word) for word in words], "--dry-run", "--json", "-q")
    record = json.loads(found.stdout)
    assert record["dry_run"] is True and [path.name for path in tmp_path.iterdir()] == ["set"]
    counts = {"features": lambda: (record["pictures"], record["to_do"]),
              "metrics": lambda: tuple(side["pictures"] for side in record["sides"]),
              "finetune": lambda: (record["training"] + record["validation"], 10)}  # fmt: skip
    assert counts[words[0]]() == (10, 10)


def test_no_library_says_anything(sample, digits, tmp_path):
    """In processes of their own, as their start-up lines come but once."""
    for words in (["gradcam", digits / "digit-3.png", "-o", tmp_path / "x.png", "--end-point", "Mixed_6e"],
                  ["verify", sample, sample], ["features", digits, tmp_path / "f"]):  # fmt: skip
        words += ["-w", sample] if words[0] != "verify" else []
        done = subprocess.run(
            [sys.executable, "-m", "inception", *map(str, words), "-q"], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, ""), words
