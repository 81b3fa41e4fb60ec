"""The `inception` command: thin verbs over the package's functions, a module a group of them."""

from __future__ import annotations

import sys

from inception import extras
from inception.cli import weights  # noqa: F401  (importing a module adds its verbs; help lists them in this order)

# isort: split
from inception.cli import classify, export, features, training, visualize  # noqa: F401
from inception.cli.terminal import app, err

__all__ = ["app", "main"]


def main() -> None:
    """Runs the command; a user's mistake is one sentence and exit code 2."""
    try:
        app()
    except extras.MissingPackage as error:
        err.print(f"inception: {error}", style="red", markup=False)
        sys.exit(2)
    except ModuleNotFoundError as error:
        sentence = f"inception: this needs {error.name}, which is not installed; pip install {error.name} brings it."
        err.print(sentence, style="red", markup=False)
        sys.exit(2)
    except (ValueError, OSError) as error:
        err.print(f"inception: {error}", style="red", markup=False)
        sys.exit(2)
