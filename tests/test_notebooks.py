"""The manual's notebooks run, and show what they have kept."""

import html
import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NUMBER = re.compile(r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
PATHS = ("/tmp", "/home", "/root", "/work", "file:")  # of somebody's machine

spec = importlib.util.spec_from_file_location("notebooks", ROOT / "tools" / "notebooks.py")
notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(notebooks)


def words(output):
    """What an output shows: of HTML its text, and the sides of its pictures."""
    data = output.get("data", {})
    shown = "".join(data.get("text/html") or data.get("text/plain") or output["text"])
    sides = re.findall(r'<img src="data:image/webp;base64,[^"]{500,}" (width="\d+" height="\d+")', shown)
    return html.unescape(re.sub(r"<[^>]+>", " ", shown)) + " ".join(sides)


def near(one, other):
    """Numbers of two machines: counts are the same, others off by little, or rounding errors both."""
    if "." not in one and "e" not in one:
        return one == other
    a, b = (float(text.replace(",", "")) for text in (one, other))
    return abs(a - b) <= 0.05 * max(abs(a), abs(b)) or max(abs(a), abs(b)) < 1e-5


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_shows_what_it_has_kept(path, tmp_path, monkeypatch):
    for package in ("openvino", "pyarrow", "sklearn") if path.stem == "features" else ():
        pytest.importorskip(package)
    shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints", ignore=shutil.ignore_patterns("*.ckpt*", "*.md"))
    (tmp_path / "docs" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "docs" / "notebooks")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    notebook = notebooks.read(path.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for cell, outputs in zip(cells, notebooks.executed(notebook), strict=True):
        assert [each["output_type"] for each in outputs] == [each["output_type"] for each in cell["outputs"]]
        for kept, found in zip(map(words, cell["outputs"]), map(words, outputs), strict=True):
            assert NUMBER.sub("#", kept) == NUMBER.sub("#", found)
            assert all(near(*pair) for pair in zip(NUMBER.findall(kept), NUMBER.findall(found), strict=True)), found
    assert not list(Path.cwd().iterdir())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_whole_and_of_no_machine(path):
    text = path.read_text(encoding="utf-8")
    notebook = notebooks.read(text)
    assert len(text) < 300_000 and text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [place for place in PATHS if place in re.sub(r"base64,[^\"\\]+", "", text)]
    assert max(len(line) for cell in cells for line in notebooks.source(cell).splitlines()) <= 88  # a page's width
    page = notebooks.markdown(notebook)
    assert page.startswith("# ") and page.count("```python") == len(cells)
    assert page.count('<div class="shown">') == text.count('"text/html"') > 0


def test_there_are_three():
    assert [path.stem for path in NOTEBOOKS] == ["convert", "features", "seeing"]
