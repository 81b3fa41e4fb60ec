"""The conventions of the command line: a table of verb x convention, read off the program, and the same of other tools.

usage: python tools/conventions.py [--peer PROGRAM]... [--out docs/figures/conventions.md]
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import typer

from inception.cli import app, program
from inception.cli.examples import EXAMPLES

COMMAND: Any = typer.main.get_command(app)
ABOVE = COMMAND.make_context("inception", [], resilient_parsing=True)
# Options of few words, which are shown as a set.
SETS = {"--engine", "--precision", "--builder", "--against", "--pool", "--recipe", "--batch-norm", "--format", "--step",
        "--augment", "--protocol", "--metric"}  # fmt: skip
# {words in an option's name: the one spelling}, but for what means something else.
SPELLINGS = {"weight": ("--weights", "-w"), "point": ("--end-point",), "batch": ("--batch",), "size": ("--size",),
             "out": ("--out", "-o"), "seed": ("--seed",), "picture": ("--picture",), "force": ("--force",)}  # fmt: skip
OTHERS = {"--class-weights", "--batch-norm", "--dropout"}
COMMON = {"--json": ("--json",), "--quiet": ("--quiet", "-q"), "--verbose": ("--verbose",), "--offline": ("--offline",)}
KEY = "yes: kept; ·: the verb has nothing of the kind."
DRY = {"features", "finetune", "metrics", "microscope"}


def options(verb: Any) -> dict[str, Any]:
    """{long spelling: option}."""
    return {p.opts[0]: p for p in verb.params if p.param_type_name == "option"}


def _has(verb: Any, spelled: tuple[str, ...]) -> bool:
    return tuple(getattr(options(verb).get(spelled[0]), "opts", ())) == spelled


def _spelled(verb: Any, words: str) -> bool | None:
    named = [p for name, p in options(verb).items() if words in name and name not in OTHERS and "offline" not in name]
    named = [p for p in named if p.opts[0] != "--without"]
    return all(tuple(p.opts) == SPELLINGS[words] for p in named) if named else None


def _writes(verb: Any) -> bool | None:
    """-o names what is written, whether that is an option or an argument too."""
    names = {p.name for p in verb.params}
    if not names & {"out", program.TARGET}:
        return None
    arguments = [p for p in verb.params if p.param_type_name == "argument" and p.name != program.TARGET and p.required]
    context = verb.make_context(verb.name, [*("x" for _ in arguments), "-o", "there"])
    return str(context.params.get("out") or context.params.get(program.TARGET)) == "there"


def _pictures(verb: Any) -> bool | None:
    taken = [p for p in verb.params if p.param_type_name == "argument" and "icture" in (p.help or "")]
    taken = [p for p in taken if p.name != "folder"]
    return all(p.name in ("generated", "reference", "source", "sources") for p in taken) if taken else None


def _sets(verb: Any) -> bool | None:
    of_words = [p for name, p in options(verb).items() if name in SETS]
    return all("|" in (p.metavar or "") for p in of_words) if of_words else None


def _examples(verb: Any) -> bool:
    for words, _ in EXAMPLES.get(verb.name, ()):
        name, *arguments = shlex.split(words)
        COMMAND.commands[name].make_context(name, arguments)  # which raises for what it does not take
        assert words.split("'")[0] in verb.epilog and name == verb.name
    return len(EXAMPLES.get(verb.name, ())) >= 2


CONVENTIONS: dict[str, Callable[[Any], bool | None]] = {
    "`-h`": lambda verb: "-h" in verb.make_context(verb.name, [], ABOVE, resilient_parsing=True).help_option_names,
    **{f"`{name}`": partial(_has, spelled=opts) for name, opts in COMMON.items()},
    "examples": _examples,
    **{f"`{'/'.join(opts)}`": partial(_spelled, words=words) for words, opts in SPELLINGS.items() if words != "out"},
    "writes to `-o`": _writes,
    "sets shown": _sets,
    "folders, globs, `-`": _pictures,
    "`--dry-run`": lambda verb: "--dry-run" in options(verb) if verb.name in DRY else None,
    "no old word": lambda verb: not options(verb).keys() & program.OLD.keys(),
}  # fmt: skip


def table() -> dict[str, dict[str, bool | None]]:
    """{verb: {convention: whether it keeps it, None where it has nothing to do with it}}."""
    return {
        name: {convention: kept(verb) for convention, kept in CONVENTIONS.items()}
        for name, verb in COMMAND.commands.items()
    }


# --- Other tools, by their --help alone ------------------------------------------------

OF_HELP = {
    "`-h`": r"-h\b",
    "`--json`, or a format": r"--json\b|--format\b|--output-format\b",
    "`-q`": r"-q\b|--quiet\b",
    "`--verbose`": r"--verbose\b",
    "`--offline`": r"--offline\b",
    "`--dry-run`": r"--dry-run\b|--diff\b",
    "examples": r"(?i)\bexamples?\b:?\s*\n",
    "sets shown": r"\[possible values:|\w\|\w|Possible values",
    "environment variables shown": r"(?i)\[env(?: var)?:",
}


def said(command: list[str]) -> tuple[int, str, str]:
    plain = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | plain)
    return run.returncode, run.stdout, run.stderr


def verbs_of(tool: list[str]) -> list[str]:
    """The subcommands that its help lists."""
    _, text, _ = said([*tool, "--help"])
    lines = re.findall(r"^[ │]{1,6}([a-z][a-z-]+)(?: {2,}\S|\s*$)", text, re.MULTILINE)
    return [verb for verb in dict.fromkeys(lines) if verb != "help"]


def measured(tool: list[str]) -> Iterator[tuple[str, str]]:
    verbs = verbs_of(tool)
    helps = [said([*tool, verb, "--help"])[1] for verb in verbs]
    yield "subcommands", str(len(verbs))
    for name, pattern in OF_HELP.items():
        yield name, f"{sum(bool(re.search(pattern, text)) for text in helps)}"
    typos = [said([*tool, verb, "--hlep"]) for verb in verbs]
    yield "a wrong option: exit 2", str(sum(code == 2 for code, _, _ in typos))
    yield "… and one line", str(sum(len(error.strip().splitlines()) == 1 for _, _, error in typos))
    hints = r"(?i)(did you mean|similar|possible options?).{0,60}--help"
    yield "… and the nearest word", str(sum(bool(re.search(hints, " ".join(e.split()))) for _, _, e in typos))
    yield (
        "a wrong verb: the nearest",
        "yes" if verbs[0] in said([*tool, f"{verbs[0]}q"])[2].replace(f"{verbs[0]}q", "") else "no",
    )
    yield "`--version`", "yes" if said([*tool, "--version"])[0] == 0 else "no"


def markdown(peers: list[str]) -> str:
    marks = {True: "yes", False: "**no**", None: "·"}
    rows = table()
    lines = ["| verb | " + " | ".join(CONVENTIONS) + " |", "|---|" + ":-:|" * len(CONVENTIONS)]
    lines += [f"| `{verb}` | " + " | ".join(marks[kept] for kept in row.values()) + " |" for verb, row in rows.items()]
    lines += ["", KEY, *([""] if peers else [])]
    if peers:
        ours = [sys.executable, "-m", "inception"]
        found = {"inception": dict(measured(ours))} | {Path(tool).name: dict(measured([tool])) for tool in peers}
        names = next(iter(found.values()))
        lines += ["| of the subcommands, how many have | " + " | ".join(f"`{tool}`" for tool in found) + " |"]
        lines += ["|---|" + "--:|" * len(found)]
        lines += [f"| {name} | " + " | ".join(row.get(name, "") for row in found.values()) + " |" for name in names]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", action="append", default=[], help="a program to read beside ours, by its path")
    parser.add_argument("--out", type=Path, default=Path("docs/figures/conventions.md"))
    given = parser.parse_args()
    before = given.out.read_text(encoding="utf-8") if given.out.is_file() else ""
    kept = "" if given.peer else before.partition(KEY)[2].lstrip("\n")  # other tools', as they were measured
    given.out.write_text(markdown(given.peer) + (kept and f"\n{kept}"), encoding="utf-8")


if __name__ == "__main__":
    main()
