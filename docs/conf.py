"""Sphinx's settings for the manual: `make docs` builds it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tools")]

import notebooks  # noqa: E402
import sample_site  # noqa: E402

import inception  # noqa: E402

project = "inception"
author = "the inception authors"
release = inception.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
source_suffix = {".md": "markdown", ".ipynb": "markdown"}  # of a notebook `generated` makes Markdown
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"
copybutton_selector = "div.highlight-console pre, div.highlight-python pre, div.highlight-sh pre"
exclude_patterns = ["_build", "figures"]
smartquotes = False
default_role = "literal"  # docstrings have `names` in single quotes, as Markdown has

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = "inception"
html_static_path = ["_static"]
html_css_files = ["manual.css"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def without_factories(
    app: Any, what: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Sphinx cannot parse `<factory>`, the default of a dataclass's field, and then shows the types' whole names."""
    if signature and "<factory>" in signature:
        signature = re.sub(r"~[\w.]*?(\w+)(?![\w.])", r"\1", signature).replace("<factory>", "{}")
    return signature, returns


# --- Pages that are partly generated -------------------------------------------------------


def generated(app: Any, page: str, source: list[str]) -> None:
    """`<!-- verbs -->` becomes the command line's reference, `<!-- figure NAME -->` a file, a notebook Markdown.

    `<!-- built TEXT -->` is text that only the built manual has, for what is made with it.
    """
    if str(app.env.doc2path(page)).endswith(".ipynb"):
        source[0] = notebooks.markdown(notebooks.read(source[0]))
    if "<!-- verbs -->" in source[0]:
        source[0] = source[0].replace("<!-- verbs -->", verbs())
    source[0] = re.sub(r"<!-- built (.*?) -->", r"\1", source[0], flags=re.DOTALL)
    source[0] = re.sub(r"<!-- figure (\S+) -->", lambda m: _figure(m[1]), source[0])


def _figure(name: str) -> str:
    path = HERE / "figures" / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def verbs() -> str:
    """A part for each verb of the command line, with its arguments and options, from the program itself."""
    import typer

    from inception.cli import app

    parts = []
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
        usage = " ".join(["inception", name, *map(_metavar, arguments)])
        rows = [(f"`{_metavar(p)}`", _default(p)) for p in arguments]
        rows += [(", ".join(f"`{o}`" for o in (*p.opts, *p.secondary_opts)) + _set(p), _default(p)) for p in options]
        parts += [f"## {name}", "", " ".join((command.help or "").split()), "", "```text", usage + " [OPTIONS]", "```",
                  "", "| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows), ""]  # fmt: skip
    return "\n".join(parts)


def _set(parameter: Any) -> str:
    """The words of an option that takes one of few."""
    words = getattr(parameter, "metavar", None) or ""
    return f" `{words}`".replace("|", "\\|") if "|" in words else ""


def _metavar(parameter: Any) -> str:
    name = str(parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _default(parameter: Any) -> str:
    text = " ".join((getattr(parameter, "help", "") or "").split()).replace("|", "\\|")
    default = parameter.default
    default = ",".join(default) if isinstance(default, list) else default
    if default in (None, False, True, "", ()) or callable(default) or "Sentinel" in type(default).__name__:
        return text
    return f"{text} *Default: {default}.*"


def with_site(app: Any, error: Exception | None) -> None:
    """The microscope's site of the sample network, beside the pages that link to it."""
    if error is None and app.builder.format == "html":
        sample_site.make(Path(app.outdir) / "microscope")


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", without_factories)
    app.connect("source-read", generated)
    app.connect("build-finished", with_site)
