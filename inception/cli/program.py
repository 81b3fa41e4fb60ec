"""The program as click sees it: old spellings, `-o` for what is written, and a sentence for every mistake."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand

from inception.arguments import nearest
from inception.cli import terminal

# Spellings of 0.2 that work for one release more, and what they are now.
OLD = {
    "--point": "--end-point",
    "--endpoint": "--end-point",
    "--output": "--out",
    "--batch-size": "--batch",
    "--accept": "--least-agreement=0",
}
GONE = {"activations": "--seed", "gradcam": "--seed"}  # which nothing in these depends on
TARGET = "target"  # the argument that -o and --out give too

UsageError: Any = typer.BadParameter.__mro__[1]  # click's, or that of the click within typer


class Verb(TyperCommand):
    """A verb."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments in today's spelling, before click sees them."""
        end = args.index("--") if "--" in args else len(args)
        given, rest = self._today(ctx, args[:end]), args[end:]
        if any(parameter.name == TARGET for parameter in self.params):
            given, rest = _with_target(given, rest)
        return super().parse_args(ctx, [*given, *rest])

    def _today(self, ctx: Any, args: list[str]) -> list[str]:
        known = {option for parameter in self.params for option in parameter.opts}
        now: list[str] = []
        words = iter(args)
        for word in words:
            name, equals, value = word.partition("=")
            new = OLD.get(name, "")
            if name in known or not (new or name == GONE.get(self.name or "")):
                now.append(word)
            elif not new:
                value = value if equals else next(words, "")
                terminal.later(f"{name} is no option of {self.name} any more: nothing in it is random.")
            elif new.partition("=")[0] in known or new == "--out":
                now.append(new + equals + value)
                terminal.later(f"{name} is {new.replace('=', ' ')} now; the old spelling goes with the next release.")
            else:
                now.append(word)
        return now


def _with_target(given: list[str], rest: list[str]) -> tuple[list[str], list[str]]:
    """What stands behind -o or --out as the last of the arguments."""
    for at, word in enumerate(given):
        name, equals, value = word.partition("=")
        if name in ("-o", "--out") and (equals or at + 1 < len(given)):
            value, behind = (value, given[at + 1 :]) if equals else (given[at + 1], given[at + 2 :])
            return [*given[:at], *behind], [*(rest or ["--"]), value]
    return given, rest


def sentence(error: Any) -> str:
    """A mistake in the spelling of a command as one sentence."""
    context = error.ctx
    verb = f" {context.command.name}" if context is not None and context.parent is not None else ""
    help = f"inception{verb} -h says what it takes."
    kind = type(error).__name__
    if kind == "NoSuchOption":
        known = ["--help", *(o for p in context.command.params for o in p.opts if o.startswith("--"))]
        return f"There is no option {error.option_name}{nearest(error.option_name, known)}; {help}"
    text = " ".join(str(error.format_message()).split()).rstrip(".")
    if text.startswith("No such command") and context is not None:
        word = text.partition("'")[2].partition("'")[0]
        return f"There is no verb {word}{nearest(word, context.command.commands)}; {help}"
    return f"{text}; {help}"
