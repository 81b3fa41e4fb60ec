"""What sources name: folders, globs, lists, Parquet files; sorted, each picture once."""

import os
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inception.features import sources
from inception.features.sources import Item, listed, stored


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b/z.jpg", "b/a.JPEG", "b/deep/er/m.png", "notes.txt", "b/readme.md", "a.tif", "b/[x].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def paths(*sources, **options):
    return [item.path for item in listed(list(sources), **options).items]


def test_a_folder_is_walked_sorted_and_says_what_it_passed_over(tree):
    assert paths("b") == ["b/[x].jpg", "b/a.JPEG", "b/deep/er/m.png", "b/z.jpg"]
    assert listed(tree).passed_over == 2


def test_globs_and_files_and_overlaps(tree):
    assert paths("b/*.jpg") == ["b/[x].jpg", "b/z.jpg"]
    assert paths("b/[x].jpg") == ["b/[x].jpg"]  # a file's name before a pattern
    assert paths("**/*.png") == ["b/deep/er/m.png"]
    assert paths("b", "b/z.jpg", "a.tif", "b/*.jpg") == ["a.tif", *paths("b")]
    assert paths("?") == paths("b")


def test_a_list_of_paths(tree):
    (tree / "list.txt").write_bytes("\ufeffb/z.jpg\r\n\r\nmissing.jpg\nb/z.jpg\nname \u00e9.jpg\n".encode())
    assert paths("list.txt") == ["b/z.jpg", "missing.jpg", "name \u00e9.jpg"]


def test_parquet_with_paths(tree):
    pq.write_table(pa.table({"label": ["x", "y"], "path": ["b/z.jpg", "a.tif"]}), "p.parquet")
    assert paths("p.parquet") == ["a.tif", "b/z.jpg"]
    assert paths("p.parquet", column="label") == ["x", "y"]


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.struct([("bytes", pa.binary()), ("path", pa.string())])]
)
def test_parquet_with_pictures_is_read_row_by_row(tree, kind):
    values = [b"%d" % i for i in range(25)]
    values[7] = None
    cells = [{"bytes": v, "path": "p"} for v in values] if pa.types.is_struct(kind) else values
    pq.write_table(pa.table({"image": pa.array(cells, kind), "path": ["p"] * 25}), "p.parquet", row_group_size=4)
    items = listed("p.parquet").items
    assert [item.path for item in items][:2] == ["p.parquet#00", "p.parquet#01"]
    assert [stored(item) for item in items] == values
    assert [stored(items[i]) for i in (24, 0, 9, 9)] == [b"24", b"0", b"9", b"9"]


@pytest.fixture
def group(tree):
    """A file of one row group, 24 MB of 400 pictures, in pages of a megabyte."""
    rng = np.random.default_rng(0)
    values = [rng.bytes(60_000) for _ in range(400)]
    pq.write_table(pa.table({"image": values}), "one.parquet", row_group_size=400, write_batch_size=16)
    return values


def nearly_in_order(count):
    """As threads ask: no row more than 20 places from its own."""
    return np.argsort(np.arange(count) + np.random.default_rng(0).uniform(0, 20, count)).tolist()


def test_a_row_group_is_never_held_whole(group):
    before, most = pa.total_allocated_bytes(), 0
    items = listed("one.parquet").items
    for i in nearly_in_order(400):
        assert stored(items[i]) == group[i]
        most = max(most, pa.total_allocated_bytes() - before)
    assert 1e6 < most < 12e6


@pytest.mark.parametrize("size", [400, 72, 1])
def test_a_row_is_read_once(group, size, monkeypatch):
    pq.write_table(pa.table({"image": group}), "p.parquet", row_group_size=size)
    read, parquet = [], sources.parquet_file

    class Counted:
        def __init__(self, path):
            self._file = parquet(path)

        def iter_batches(self, *arguments, **named):
            for batch in self._file.iter_batches(*arguments, **named):
                read.append(len(batch))
                yield batch

        def __getattr__(self, name):
            return getattr(self._file, name)

    items = listed("p.parquet").items
    monkeypatch.setattr(sources, "parquet_file", Counted)
    for i in nearly_in_order(400) if size > 1 else range(400):
        assert stored(items[i]) == group[i]
    assert sum(read) == 400


def test_damage_costs_the_rows_behind_it_in_its_group(group, tree):
    pq.write_table(pa.table({"image": group}), "two.parquet", row_group_size=200, write_batch_size=16)
    content = bytearray((tree / "two.parquet").read_bytes())
    content[len(content) // 4 : len(content) // 3] = bytes(len(content) // 3 - len(content) // 4)  # the head of a page
    (tree / "two.parquet").write_bytes(content)
    items = listed("two.parquet").items
    assert [stored(item) for item in items[:60]] == group[:60]
    for i in (199, 150, 199):
        with pytest.raises(ValueError, match=r"two.parquet cannot be read from row \d+ on \("):
            stored(items[i])
    assert [stored(item) for item in items[200:]] == group[200:]


def test_the_digest_is_of_the_paths_in_their_order(tree):
    assert listed("b").digest == listed(["b/z.jpg", "b"]).digest
    assert listed("b").digest != listed(["b", "a.tif"]).digest


def test_a_name_that_is_no_utf8_is_a_name(tree):
    name = os.fsdecode(b"b/\xff.jpg")
    try:
        open(name, "wb").close()
    except OSError:
        pytest.skip("this disk wants UTF-8 names")
    assert Item(name) in listed("b").items
    assert listed("b").digest


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ("nowhere", "nowhere does not exist; expected a picture, a folder, a glob"),
        ("b/*.bmp", r"b/\*.bmp has no pictures"),
        ("empty", "empty has no pictures; expected files that end in .jpg"),
        ([], "No pictures were given"),
        ("latin.txt", "is not UTF-8 text"),
        ("bad.parquet", "bad.parquet is no Parquet file that can be read"),
        ("two.parquet", "several columns of text: a, b; name one with column="),
        ("numbers.parquet", "no column of paths or of pictures; it has n"),
    ],
)
def test_sources_that_name_nothing(tree, sources, message):
    (tree / "empty").mkdir()
    (tree / "latin.txt").write_bytes(b"caf\xe9.jpg")
    (tree / "bad.parquet").write_bytes(b"PAR1 and no more")
    pq.write_table(pa.table({"a": ["x"], "b": ["y"]}), "two.parquet")
    pq.write_table(pa.table({"n": [1]}), "numbers.parquet")
    with pytest.raises(ValueError, match=message):
        listed(sources)


def test_a_column_that_is_not_there(tree):
    pq.write_table(pa.table({"n": [1], "path": ["x"]}), "p.parquet")
    with pytest.raises(ValueError, match="no column 'image' of paths or bytes; it has n, path"):
        listed("p.parquet", column="image")
    with pytest.raises(ValueError, match="no column 'n'"):
        listed("p.parquet", column="n")


def test_archives_are_pictures_each(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 7, 3), np.uint8)
    for name, save in (("a.npz", np.savez), ("b.npz", np.savez_compressed)):
        save(tmp_path / name, arr_0=pixels, arr_1=np.arange(12))
        items = listed(tmp_path / name).items
        assert [item.path for item in items[:2]] == [f"{tmp_path / name}#00", f"{tmp_path / name}#01"]
        np.testing.assert_array_equal([stored(item) for item in items[::-1]], pixels[::-1])
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("d/", "d/x.png", "y.JPG", "read.me"):
            archive.writestr(name, name.encode())
    listing = listed(tmp_path / "c.zip")
    assert [stored(item) for item in listing.items] == [b"d/x.png", b"y.JPG"] and listing.passed_over == 1


def test_archives_without_pictures_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.arange(3))
    np.savez(tmp_path / "b.npz", arr_0=np.zeros((2, 4, 4, 3)))
    np.savez(tmp_path / "c.npz", arr_0=np.zeros((2, 40, 40, 3), np.uint8))
    damaged = bytearray((tmp_path / "c.npz").read_bytes())
    damaged[300] ^= 1
    (tmp_path / "c.npz").write_bytes(damaged)
    (tmp_path / "d.zip").write_bytes(b"PK\3\4 and no more")
    for name, reason in (("a", "holds labels; expected arr_0"), ("b", "float64 of shape"), ("c", "checksum is wrong"),
                         ("d", "without its end")):  # fmt: skip
        with pytest.raises(ValueError, match=reason):
            listed(tmp_path / (f"{name}.zip" if name == "d" else f"{name}.npz"))
