"""The `inception` command: thin verbs over the package's functions, a module a group of them."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Annotated

import typer

import inception
from inception import extras
from inception.cli import (
    classify,
    export,
    features,
    metrics,
    microscope,
    options,
    program,
    training,
    visualize,
    weights,
)
from inception.cli.examples import epilog
from inception.cli.terminal import complain

__all__ = ["VERBS", "app", "main"]

# {group: {verb: function}}, in the order of the help.
VERBS: dict[str, dict[str, Callable[..., None]]] = {
    "Weight files": {
        "convert": weights.convert,
        "inspect": weights.inspect,
        "verify": weights.verify,
        "published": weights.published,
        "export": export.export,
    },
    "What people do with the network": {
        "classify": classify.classify,
        "features": features.features,
        "finetune": training.finetune,
        "evaluate": training.evaluate,
    },
    "Generated images": {
        "metrics": metrics.metrics,
        "statistics": metrics.statistics,
    },
    "What the network sees": {
        "activations": visualize.activations,
        "filters": visualize.filters,
        "gradcam": visualize.gradcam,
        "dream": visualize.dream,
        "report": visualize.report,
        "microscope": microscope.microscope,
    },
}
app = typer.Typer(
    help="InceptionV3: weight files of every kind, read, converted, proven and used.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for group, verbs in VERBS.items():
    for verb, function in verbs.items():
        app.command(verb, cls=program.Verb, rich_help_panel=group, epilog=epilog(verb))(options.flattened(function))


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"inception {inception.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", is_eager=True, callback=_say_version)
    ] = False,
) -> None:
    """Those that are no verb's."""


def main() -> None:
    """Runs the command; a user's mistake is one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name in letters that a pipe's encoding lacks
    try:
        sys.exit(typer.main.get_command(app).main(prog_name="inception", standalone_mode=False) or 0)
    except program.UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
        else:
            complain(program.sentence(error))
    except (extras.MissingPackage, ValueError, OSError) as error:
        complain(error)
    except ModuleNotFoundError as error:
        complain(f"this needs {error.name}, which is not installed; pip install {error.name} brings it.")
    except MemoryError:
        complain("there is not enough memory for this; free some, or give fewer or smaller pictures at a time.")
    except typer.Abort:
        complain("stopped.")
        sys.exit(130)
    sys.exit(2)
