"""The table of published files, and how a file is known by it."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import re
import subprocess
import sys

import numpy as np
import pytest
from made import NARROW, assert_same, random_weights
from typer.testing import CliRunner

from inception import load_weights
from inception.cli import app, terminal
from inception.cli import weights as verbs
from inception.weights import CheckpointError, UnsupportedFeature, published
from inception.weights.published import Published, cache, catalogue, find, recognise
from inception.weights.published.catalogue import FILES

BY_ID = pytest.mark.parametrize("known", FILES, ids=lambda known: known.id)


@BY_ID
def test_a_line_is_well_formed(known):
    assert re.fullmatch(r"[a-z0-9.-]+", known.id)
    assert find(known.id) is known
    assert known.md5 is None or re.fullmatch(r"[0-9a-f]{32}", known.md5)
    assert known.sha256 is None or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", known.sha256)
    assert known.url is None or re.match(r"https?://", known.url)
    assert known.digest in ("", "md5", "sha256", "sha256/8")
    assert (known.top1 is None) == (known.top5 is None) == (not known.protocol)
    assert known.top1 is None or 70 < known.top1 < known.top5 < 100
    assert known.size is None or catalogue.LEAST_BYTES <= known.size <= catalogue.MOST_BYTES
    assert "/" not in known.file and known.variant.shapes()


def test_what_the_files_are():
    classes = {known.id: (known.variant.num_classes, known.variant.background) for known in FILES}
    assert classes["slim-2016-08-28"] == classes["adv-2017-08-18"] == classes["timm-tf"] == (1001, True)
    assert classes["graph-2015-12-05"] == classes["pytorch-fid-6726825d"] == (1008, True)
    assert classes["nvidia-2015-12-05"] == (1008, True)
    assert classes["keras-v0.5"] == classes["torchvision-0cc3c7bd"] == classes["timm-gluon"] == (1000, False)
    assert classes["keras-v0.5-notop"][0] == 0
    assert find("slim-2016-08-28").archive == "inception_v3_2016_08_28.tar.gz"
    assert find("keras-v0.5").archive is None and find("timm-tf").archive is None
    assert find("imagenet") is find("keras-v0.5") and find("nix") is None
    assert len({known.id for known in FILES}) == len(FILES)


def test_torch_names_carry_the_digits_that_are_checked():
    for known in FILES:
        if known.sha256:
            assert known.file.endswith(f"-{known.sha256}.pth")


# --- Files made here, each with a line of its own --------------------------------------


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """The table, of nothing but files made here: one for each kind of digest."""
    contents = {id: id.encode() * 50 for id in ("by-md5", "by-size-and-md5", "by-sha256", "by-8-digits")}
    md5 = {id: hashlib.md5(content).hexdigest() for id, content in contents.items()}
    sha256 = {id: hashlib.sha256(content).hexdigest() for id, content in contents.items()}
    digests = {
        "by-md5": {"md5": md5["by-md5"]},
        "by-size-and-md5": {"md5": md5["by-size-and-md5"], "size": len(contents["by-size-and-md5"])},
        "by-sha256": {"sha256": sha256["by-sha256"]},
        "by-8-digits": {"sha256": sha256["by-8-digits"][:8]},
    }
    files = [Published(id, "test", f"{id}.pth", NARROW, **fields) for id, fields in digests.items()]
    files.append(Published("of-no-digest", "test", "x.pth", NARROW))
    monkeypatch.setattr(catalogue, "FILES", tuple(files))
    monkeypatch.setattr(catalogue, "LEAST_BYTES", 0)
    return contents


def test_a_file_is_known_whatever_its_name(lines, tmp_path):
    for id, content in lines.items():
        (tmp_path / "renamed.bin").write_bytes(content)
        assert recognise(tmp_path / "renamed.bin").id == id
        (tmp_path / "renamed.bin").write_bytes(content[:-1] + b"!")
        assert recognise(tmp_path / "renamed.bin") is None


def test_a_size_that_is_known_must_be_right(lines, tmp_path):
    of_size = find("by-size-and-md5")
    (tmp_path / "x").write_bytes(lines["by-size-and-md5"])
    assert of_size.matches(tmp_path / "x")
    assert not dataclasses.replace(of_size, size=999).matches(tmp_path / "x")
    assert not find("of-no-digest").matches(tmp_path / "x")


def test_each_digest_is_computed_once_and_only_where_a_size_fits(lines, tmp_path, monkeypatch):
    computed = []
    new = hashlib.new
    monkeypatch.setattr(hashlib, "new", lambda name, **options: (computed.append(name), new(name, **options))[1])
    (tmp_path / "x").write_bytes(b"x" * 500)
    assert recognise(tmp_path / "x") is None
    assert sorted(computed) == ["md5", "sha256"]
    computed.clear()
    (tmp_path / "x").write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 500)
    assert recognise(tmp_path / "x") is None and not computed  # the table has no HDF5 files
    monkeypatch.setattr(catalogue, "MOST_BYTES", 400)
    assert recognise(tmp_path / "x") is None and not computed
    assert recognise(tmp_path) is None and recognise(tmp_path / "none") is None


def test_files_are_found_where_the_user_keeps_them(lines, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.delenv("INCEPTION_WEIGHTS_DIR", raising=False)
    known = find("by-md5")
    keras = dataclasses.replace(known, family="Keras")
    assert cache.home_of(known) == cache.home_of(keras) == tmp_path / "keras" / "models"
    assert published.cached(known) is None
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(tmp_path))
    assert cache.home_of(known) == tmp_path
    assert cache.home_of(keras) == tmp_path / "keras" / "models"
    (tmp_path / known.file).write_bytes(lines["by-8-digits"])
    assert published.cached(known) is None
    (tmp_path / known.file).write_bytes(lines["by-md5"])
    assert published.cached(known) == published.cached(keras) == tmp_path / known.file


def test_cached_imagenet(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert published.cached(find("imagenet")) is None and published.cached(catalogue.FILES[1]) is None
    monkeypatch.setattr(published.Published, "matches", lambda self, path: True)
    assert published.cached(find("imagenet")).name == "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
    assert published.fetch_imagenet(False).name == "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"


# --- Through the front doors -----------------------------------------------------------


@pytest.fixture
def by_id(tmp_path, monkeypatch):
    """Weights whose file is in INCEPTION_WEIGHTS_DIR, with a line in the table: "made"."""
    weights = random_weights(NARROW)
    folder = tmp_path / "weights"
    folder.mkdir()
    weights.save(folder / "made.h5")
    digest = hashlib.sha256((folder / "made.h5").read_bytes()).hexdigest()
    monkeypatch.setattr(catalogue, "FILES", (Published("made", "test", "made.h5", NARROW, sha256=digest[:8]),))
    monkeypatch.setattr(catalogue, "LEAST_BYTES", 0)
    monkeypatch.setenv("INCEPTION_WEIGHTS_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    return weights


def test_weights_are_loaded_by_id(by_id, tmp_path):
    loaded = load_weights("made")
    assert_same(loaded, by_id)
    assert (loaded.source.published, loaded.source.integrity) == ("made", "digest")
    (tmp_path / "made").write_bytes(b"a file of that name comes first")
    with pytest.raises(UnsupportedFeature, match="made is of no format"):
        load_weights("made")


def test_a_model_is_built_by_id(by_id):
    from inception import InceptionV3

    narrow = {"depth_multiplier": 0.1, "min_depth": 4, "input_shape": (75, 75, 3)}
    model = InceptionV3(weights="made", include_top=False, final_endpoint="Conv2d_2a_3x3", **narrow)
    kernel = np.asarray(model.get_layer("conv2d_2").kernel)
    np.testing.assert_array_equal(kernel, by_id.arrays["InceptionV3/Conv2d_2a_3x3/weights"])


def test_no_path_and_no_id(by_id):
    with pytest.raises(CheckpointError, match=r"nix does not exist; give .* an id that `inception published` lists"):
        load_weights("nix")


def test_a_known_file_that_nobody_reads_is_named(by_id, tmp_path, monkeypatch):
    line = dataclasses.replace(catalogue.FILES[0], unread="made for this test")
    monkeypatch.setattr(catalogue, "FILES", (line,))
    for path in ("made", tmp_path / "weights" / "made.h5"):
        with pytest.raises(UnsupportedFeature, match=r"made.* is made, made for this test\."):
            load_weights(path)
    assert "as Keras 1 did it; such files are not read, take keras-v0.5-notop" in FILES[3].unread + "."


def command(*arguments):
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    return result.output


def test_the_command_lists_every_file_whole():
    text = command("published")
    for known in FILES:
        line = next(line for line in text.splitlines() if line.split("\t")[0] == known.id)
        assert (f"{known.top1:.1f}/{known.top5:.1f}" if known.top1 else "") in line
    assert "keras-v0.5-notop\tKeras\t87.9 MB\tnone\tnone\tmd5" in text and "\nimagenet\tKeras\t96.1 MB" in text


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_terminal_s_list_cuts_no_id(width, monkeypatch):
    screen = io.StringIO()
    screen.isatty = lambda: True
    shown = terminal.Plain(screen, file=screen, force_terminal=True, no_color=True)
    shown.width = width
    for module in (terminal, verbs):
        monkeypatch.setattr(module, "out", shown)
    verbs.published()
    lines = screen.getvalue().splitlines()
    for id in ("imagenet", *(known.id for known in FILES)):
        assert any(re.match(rf"(\x1b\[\d+m)?{re.escape(id)} ", line) for line in lines), id


def test_the_command_says_everything_of_one_file():
    text = command("published", "slim-2016-08-28")
    for fact in ("inception_v3_2016_08_28.tar.gz", "5fd07d9834fe14479e4da82df9365ede", "1001", "78.0/93.9", "87.5 %"):
        assert fact in text
    assert "bytes          unknown" in text


def test_the_command_takes_ids_and_says_where_the_file_is(by_id, tmp_path):
    assert "InceptionV3 x 0.1" in command("inspect", "made")
    path = re.escape(str(tmp_path / "weights" / "made.h5"))
    assert re.search(rf"here +yes\npath +{path}\n", command("published", "made"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["published", "nix"], "nix is no id of a published file"),
        (["inspect", "graph-2015-12-05"], "classify_image_graph_def.pb out of it and give the file's path"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(arguments, sentence):
    run = subprocess.run([sys.executable, "-m", "inception", *arguments], capture_output=True, text=True)
    assert run.returncode == 2 and sentence in run.stderr and len(run.stderr.strip().splitlines()) == 1
