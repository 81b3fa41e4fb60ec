"""The manual and the README: every block runs, every command exists, every link leads somewhere."""

import re
import runpy
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer
from made import first, random_weights
from typer.testing import CliRunner

import inception
from inception import architecture
from inception.cli import app
from inception.variants import KERAS
from inception.weights import published
from inception.weights.formats import FORMATS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "figures" not in page.parts)
ALL = [ROOT / "README.md", *PAGES]
BLOCK = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LONG = ("finetuning.md",)  # its blocks run thoroughly; training has tests of its own
CHEAP = ("inspect", "convert", "published")  # verbs that are run, in the order of the page
HERE = ("classify", "verify")  # and those, where all that they need is in a checkout


def blocks(page, language):
    return [text for kind, text in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def commands(page):
    """The `inception ...` lines of console blocks, continued ones joined."""
    for block in blocks(page, "console"):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("$ inception "):
                yield shlex.split(line.removeprefix("$ inception "), comments=True)


def synopses(page):
    """The lines `inception VERB ARGUMENTS   what it does` of blocks without a language."""
    for block in blocks(page, ""):
        for line in block.splitlines():
            if line.startswith("inception "):
                yield shlex.split(re.split(r" {2,}", line.removeprefix("inception "))[0])


def parsed(verb, *arguments):
    """By the program itself, which raises for what it does not take."""
    program = typer.main.get_command(app)
    assert verb in program.commands, f"there is no verb {verb}"
    program.commands[verb].make_context(verb, list(arguments))


def named(pages):
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder that looks like a checkout to the pages: with checkpoints/, and nothing on the network."""
    shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints", ignore=shutil.ignore_patterns("*.ckpt*", "*.md"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    return random_weights(KERAS).save(tmp_path_factory.mktemp("imagenet") / "imagenet.h5")


@pytest.fixture
def no_network(imagenet, monkeypatch):
    """What no test fetches: ImageNet's file."""
    monkeypatch.setattr(published, "fetch_imagenet", lambda top=True: imagenet)


RUN = [page for page in ALL if blocks(page, "python")]
RUN.sort(key=lambda page: page.name in LONG)


@pytest.mark.parametrize("page", first(len(RUN) - len(LONG), RUN), ids=lambda page: str(page.relative_to(ROOT)))
def test_python_blocks_run(page, checkout, no_network):
    """Those of one page one after the other, as its reader would paste them, from the top of a checkout."""
    names = {}
    for number, block in enumerate(blocks(page, "python")):
        program = checkout / f"block_{number}.py"
        program.write_text(block, encoding="utf-8")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names |= runpy.run_path(str(program), names, "page")


@pytest.mark.parametrize("page", named(page for page in ALL if any(commands(page))))
def test_commands_are_those_of_the_program(page, checkout):
    """Each is parsed; the cheap ones are run, so that later ones find their files."""
    for verb, *arguments in commands(page):
        parsed(verb, *arguments)
        if verb in CHEAP or (verb in HERE and "checkpoints/" in "".join(arguments)):
            run = CliRunner().invoke(app, [verb, *arguments])
            assert run.exit_code == 0, f"inception {verb} {shlex.join(arguments)}: {run.output} {run.exception}"


@pytest.mark.parametrize("page", named(page for page in ALL if any(synopses(page))))
def test_synopses_are_those_of_the_program(page):
    for words in synopses(page):
        parsed(*words)


@pytest.mark.parametrize("page", named(PAGES))
def test_code_is_no_wider_than_the_page(page):
    """A reader on a wide screen sees 88 columns; longer lines hide their end."""
    for kind in ("python", "console"):
        assert [line for block in blocks(page, kind) for line in block.splitlines() if len(line) > 88] == []


LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)|^```\{(?:image|include)\} (\S+)", re.MULTILINE)
KNOWN_SITES = ("https://arxiv.org/", "https://www.tensorflow.org/", "https://keras.io/")


@pytest.mark.parametrize("page", named(ALL))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in (link or file for link, file in LINK.findall(text)):
        if "://" in target:
            assert target.startswith(KNOWN_SITES), f"a page that may move: {target}"
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path) if path else page
        assert there.is_file(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, target


def test_every_page_is_in_a_table_of_contents():
    listed = set()
    for page in PAGES:
        for entries in re.findall(r"^```\{toctree\}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            names = [line for line in entries.splitlines() if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert {page.resolve() for page in PAGES} - listed == {DOCS / "index.md"}


def test_the_reference_has_every_public_name():
    text = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    there = set(re.findall(r"^\.\. auto\w+:: inception\.(\w+)$", text, re.MULTILINE))
    assert set(inception.__all__) <= there


def test_every_format_has_a_page():
    text = "\n".join(page.read_text() for page in (DOCS / "converting").glob("*.md"))
    table = (DOCS / "figures" / "formats.md").read_text()
    for name, form in FORMATS.items():
        assert f"| {name} |" in table
        assert all(f"`{ending}`" in text + table for ending in form.endings)


def test_figures_are_what_the_code_makes(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["figures.py", "--check"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(ROOT / "tools" / "figures.py"), run_name="__main__")
    assert not left.value.code, left.value


def test_the_drawing_has_every_end_point_and_stays_small():
    text = (DOCS / "figures" / "network.svg").read_text()
    for name, shape in architecture.end_point_shapes(architecture.table(), 299, 299).items():
        assert f">{name}<" in text and f">{' × '.join(map(str, shape))}<" in text
    assert len(text) < 20_000 and "prefers-color-scheme: dark" in text


def test_the_manual_builds_without_a_warning(tmp_path):
    """As `make docs` does; in a process of its own, for Sphinx leaves its marks on signatures."""
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    pytest.importorskip("myst_parser", reason="the extra docs is not installed")
    pytest.importorskip("furo", reason="the extra docs is not installed")
    pytest.importorskip("sphinx_copybutton", reason="the extra docs is not installed")
    options = ["-W", "--keep-going", "-q", "-d", str(tmp_path / "trees")]
    command = [sys.executable, "-m", "sphinx", *options, str(DOCS), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "index.html").is_file() and (tmp_path / "reference" / "networks.html").is_file()
    assert "formatCopyText(text, '$ ', false," in (tmp_path / "_static" / "copybutton.js").read_text()  # no prompts
    notebook = (tmp_path / "notebooks" / "seeing.html").read_text()
    assert notebook.count('<div class="shown">') == 6 and notebook.count('src="data:image/webp;base64,') == 5
    for page in ("index", "seeing"):  # the sample network's site, for which these pages have words in the built manual
        links = re.findall(r'href="(microscope/[^"]+)"', (tmp_path / f"{page}.html").read_text())
        assert "microscope/index.html" in links and all((tmp_path / link).is_file() for link in links)
    site = tmp_path / "microscope"
    assert {page.stem for page in (site / "points").iterdir()} >= {*architecture.END_POINTS, "Logits"}
    assert len(list((site / "pictures").glob("*.html"))) == 2 and 'class="s m ' in (site / "index.html").read_text()
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) < 6e6
