"""The manual's notebooks: runs them and keeps what they show, or makes pages of them.

usage: python tools/notebooks.py [NAME...]

A notebook is JSON, its cells plain Python without magic, so no Jupyter is needed to run one, to test it, or to
render it: the manual and the tests ask for no more packages. What Jupyter shows of a cell is shown: what it prints, and
of its last expression the HTML or the repr.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
Output = dict[str, Any]


def read(text: str) -> dict[str, Any]:
    return dict(json.loads(text))


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def executed(notebook: dict[str, Any]) -> Iterator[list[Output]]:
    """The outputs of each code cell, run one after the other in the folder that is the current one."""
    names: dict[str, Any] = {"__name__": "__main__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for number, cell in enumerate(cells, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = _run(source(cell), f"cell {number}", names)
        outputs: list[Output] = []
        if printed.getvalue():
            lines = printed.getvalue().splitlines(keepends=True)
            outputs.append({"output_type": "stream", "name": "stdout", "text": lines})
        if value is not None:
            outputs.append(
                {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": _data(value)}
            )
        yield outputs


def _run(text: str, where: str, names: dict[str, Any]) -> Any:
    """What the last statement is worth, if it is an expression."""
    body = ast.parse(text, where).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), where, "exec"), names)
    return eval(compile(ast.Expression(last.value), where, "eval"), names) if isinstance(last, ast.Expr) else None


def _data(value: Any) -> dict[str, list[str]]:
    shown = {"text/plain": repr(value)}
    if hasattr(value, "_repr_html_"):
        shown["text/html"] = value._repr_html_()
    return {kind: text.splitlines(keepends=True) for kind, text in shown.items()}


def markdown(notebook: dict[str, Any]) -> str:
    """The notebook as a page for MyST: code, and what was kept of its outputs."""
    parts = []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(source(cell))
            continue
        parts.append(f"```python\n{source(cell)}\n```")
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "text/html" in data:
                html = "".join(data["text/html"])
                parts.append(f'````{{raw}} html\n<div class="shown">{html}</div>\n````')
            else:
                parts.append(f"```text\n{''.join(output.get('text') or data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    os.chdir(HERE)
    for path in [HERE / f"{name}.ipynb" for name in sys.argv[1:]] or sorted(HERE.glob("*.ipynb")):
        notebook = read(path.read_text(encoding="utf-8"))
        results = list(executed(notebook))
        for number, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), 1):
            cell |= {"outputs": results[number - 1], "execution_count": number}
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
