"""What every format that we write promises: the same weights there and back, and old files that stay whole."""

from __future__ import annotations

import dataclasses
import os
import resource

import numpy as np
import pytest
from damage import fingerprint
from made import assert_same, random_weights

from inception import load_weights, pictures
from inception.variants import GOOGLE_2015, SLIM, TORCHVISION, Variant
from inception.weights import CheckpointError, formats

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::inception.weights.canonical.{name}")
    for name in ("OtherRules", "AssumedPicture")
]

THIN = {"depth_multiplier": 0.02, "min_depth": 2}
PLAIN = Variant(num_classes=7, **THIN)
VARIANTS = {
    "plain": PLAIN,
    "no top": dataclasses.replace(PLAIN, num_classes=0),
    "aux": dataclasses.replace(PLAIN, aux_logits=True, aux_kernel=(1, 1)),
    "gray": dataclasses.replace(PLAIN, channels=1),
    "background": dataclasses.replace(PLAIN, num_classes=6, background=True, gamma=True, border="include",
                                      last_pool="max"),
    "torchvision": dataclasses.replace(TORCHVISION, num_classes=5, aux_kernel=(1, 1), **THIN),
    "2015": dataclasses.replace(GOOGLE_2015, **THIN),
    "slim": dataclasses.replace(SLIM, aux_kernel=(1, 1), **THIN),
}  # fmt: skip
SILENT = ("slim", "slim-v1")  # they hold variables alone: what shapes and names do not tell is slim's own


@pytest.fixture(params=formats.FORMATS)
def format(request):
    if request.param == "torch":
        pytest.importorskip("torch")
    return request.param


def named(format, name="x"):
    return f"{name}{formats.FORMATS[format].endings[0]}"


def saved(format, folder, weights, name="x"):
    path = weights.save(folder / named(format, name))
    return path, sorted(os.listdir(folder))


# ---- there and back


@pytest.mark.parametrize("kind", VARIANTS)
def test_there_and_back_is_exact(tmp_path, format, kind):
    variant = VARIANTS[kind]
    picture = dataclasses.replace(pictures.GOOGLE_2015.at(variant.aux_size), crop=0.75)
    weights = dataclasses.replace(random_weights(variant), picture=picture)
    path, _ = saved(format, tmp_path, weights)
    back = load_weights(path)
    assert_same(back, weights)
    assert back.source.integrity == "checksum" and not back.extra
    if format not in SILENT:
        assert (back.variant, back.picture) == (variant, picture)


def test_content_tells_the_format_and_every_ending_names_it(tmp_path, format):
    module, endings = formats.FORMATS[format].module, formats.FORMATS[format].endings
    path, _ = saved(format, tmp_path, random_weights(PLAIN))
    assert {formats.format_of(path.with_name(f"y{ending}")) for ending in endings} == {format}
    expected = "keras_hdf5" if path.suffix == ".h5" else module  # which tells the HDF5 layouts apart
    assert formats.recognise(str(path)).__name__.rpartition(".")[2] == expected
    said = load_weights(path).source
    assert said.path == str(path) and said.format and said.published is None


# ---- the old file stays


def test_what_is_there_or_read_is_not_written_over(tmp_path, format):
    old = random_weights(PLAIN)
    path, files = saved(format, tmp_path, old)
    for name in files:
        folder = tmp_path / f"only {name}"
        folder.mkdir()
        (folder / name).write_text("mine")
        with pytest.raises(CheckpointError, match="is there already"):
            random_weights(PLAIN, 1).save(folder / path.name, overwrite=False)
        assert (folder / name).read_text() == "mine" and os.listdir(folder) == [name]
    with pytest.raises(CheckpointError, match="is what is read"):
        formats.check_target(path, source=path)
    assert set(formats.files_of(path)) == {tmp_path / name for name in files}
    assert_same(load_weights(random_weights(PLAIN, 1).save(path, overwrite=True)), random_weights(PLAIN, 1))


@pytest.mark.parametrize(("step", "there"), [("replace", True), ("replace", False), ("fsync", True)])
def test_a_failure_at_any_step_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch, format, step, there):
    old, new = random_weights(PLAIN), random_weights(PLAIN, 1)
    real, failed, n = getattr(os, step), True, 0
    while failed and n < 20:
        folder = tmp_path / str(n)
        folder.mkdir()
        path = folder / named(format)
        if there:
            saved(format, folder, old)
        calls = iter(range(99))

        def failing(*arguments, calls=calls, n=n):
            if next(calls) == n:
                raise OSError("no")
            return real(*arguments)

        monkeypatch.setattr(os, step, failing)
        try:
            new.save(path)
            failed = False
        except OSError:
            failed = True
        monkeypatch.undo()
        if failed and not there:
            assert not path.exists()
        else:
            found = fingerprint(load_weights(path))
            assert found == fingerprint(new) or (failed and found == fingerprint(old))
        assert not [name for name in os.listdir(folder) if not name.startswith(path.name)]
        n += 1
    assert 0 < n < 20


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_full_disk_leaves_the_old_file(tmp_path, format, share):
    old = random_weights(PLAIN)
    path, files = saved(format, tmp_path, old)
    largest = max((tmp_path / name).stat().st_size for name in files)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * largest), limits[1]))
    try:
        with pytest.raises(OSError):
            random_weights(PLAIN, 1).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_same(load_weights(path), old)
    assert sorted(os.listdir(tmp_path)) == files


# ---- damage


def test_damage_is_never_silent_and_every_cut_is_refused(tmp_path, format):
    path, files = saved(format, tmp_path, random_weights(PLAIN))
    count = 4 if format in ("keras-h5", "keras-weights") else 12  # a process each
    for name in files:
        if name.endswith(".sha256"):  # of which the digest alone is looked at, and is compared
            continue
        file = tmp_path / name
        whole = file.read_bytes()
        ends = [0, min(100, len(whole) - 1), len(whole) - 1]
        places = sorted({*ends, *np.linspace(0, len(whole) - 1, count).astype(int).tolist()})
        truth = fingerprint(load_weights(path))
        for place in places:
            for wrong in (whole[place] ^ 0xFF, whole[place] ^ 1 << place % 8, None):
                tail = b"" if wrong is None else bytes([wrong]) + whole[place + 1 :]
                file.write_bytes(whole[:place] + tail)
                try:
                    assert fingerprint(load_weights(path)) == truth and wrong is not None, (name, place)
                except CheckpointError as error:
                    assert str(tmp_path) in str(error)
        file.write_bytes(whole)
