"""The `inception` command: thin verbs over the package's functions, a module a group of them."""

from __future__ import annotations

import io
import sys

from inception import extras
from inception.cli import weights  # noqa: F401  (importing a module adds its verbs; help lists them in this order)

# isort: split
from inception.cli import classify, export, features, training, visualize  # noqa: F401
from inception.cli.terminal import app, complain

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command; a user's mistake is one sentence and exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name in letters that a pipe's encoding lacks
    try:
        app()
    except (extras.MissingPackage, ValueError, OSError) as error:
        complain(error)
    except ModuleNotFoundError as error:
        complain(f"this needs {error.name}, which is not installed; pip install {error.name} brings it.")
    except MemoryError:
        complain("there is not enough memory for this; free some, or give fewer or smaller pictures at a time.")
    sys.exit(2)
