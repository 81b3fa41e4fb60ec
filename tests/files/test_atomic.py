"""The target is the old file or the complete new one, and nothing of the user's is replaced."""

import contextlib
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made import NARROW, first, random_weights

from inception.files import atomic, regular
from inception.files.atomic import check_target, put_folder, recover, replacing, taking_turns
from inception.weights import CheckpointError, formats


def names(folder):
    return sorted(os.listdir(folder))


def write(target, text):
    with replacing(target) as [temporary]:
        temporary.write_text(text)


def test_the_target_changes_only_at_the_end(tmp_path):
    target = tmp_path / "x[1].h5"
    target.write_text("old")
    with replacing(target) as [temporary]:
        temporary.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == [target.name]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "x.h5"
    target.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(target) as [temporary]:
        temporary.write_text("half")
        raise OSError("disk full")
    assert target.read_text() == "old"
    assert names(tmp_path) == [target.name]


def interrupted(call, n):
    """Ctrl-C at the n-th place where Python looks for one: a function begins, one of C ends. False: too late."""
    left = iter(range(n))

    def look(frame, event, _argument):
        if sys.version_info < (3, 11) and event == "call" and frame.f_lasti >= 0:
            return  # a generator goes on; 3.10 would leave it without its `finally`, as no signal does
        if event in ("call", "c_return") and next(left, None) is None:
            sys.setprofile(None)
            raise KeyboardInterrupt

    sys.setprofile(look)
    try:
        call()
        return False
    except (KeyboardInterrupt, OSError):  # shutil.rmtree makes an OSError of one (a bad descriptor)
        return True
    finally:
        sys.setprofile(None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of a folder half listed
@pytest.mark.parametrize(
    ("old", "together"),
    first(3, [(("a", "b"), False), (("b",), None), ((), None), (("b",), False), ((), False), (("a", "b"), None)]),
)
def test_ctrl_c_at_any_moment_leaves_the_old_files_or_the_new_ones_and_nothing_else(tmp_path, old, together):
    wanted = ["b"] if together is None else ["a", "b"]

    def save():
        with replacing(*(tmp_path / name for name in wanted), together=bool(together)) as temporary:
            for path in temporary:
                path.write_text("new")

    n, stopped = 0, True
    while stopped:
        for name in old:
            (tmp_path / name).write_text("old")
        stopped = interrupted(save, n)
        if any(map(atomic.is_ours, names(tmp_path))):
            gc.collect()  # stopped as a `with` began to end, it ends when nothing holds it
        found = {name: (tmp_path / name).read_text() for name in names(tmp_path)}
        whole = dict.fromkeys(old, "old") | dict.fromkeys(wanted, "new")
        assert found == whole or (stopped and found == dict.fromkeys(old, "old")), n
        for name in found:
            (tmp_path / name).unlink()
        n += 1
    assert n > 100


# --- Several writers, and killed ones ----------------------------------------------------


def killed_while_writing(target, last="with replacing(target) as [temporary]: temporary.write_text('half'); die()"):
    """A process that is killed (SIGKILL) in the middle of its work."""
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from inception.files.atomic import replacing, taking_turns\n"
        "target = Path(sys.argv[1]); die = lambda: os.kill(os.getpid(), signal.SIGKILL)\n" + last
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == -signal.SIGKILL


def test_what_a_killed_writer_left_is_cleared_by_the_next_of_any_name(tmp_path):
    killed_while_writing(tmp_path / "x.h5")
    killed_while_writing(tmp_path / "x.h5", "with taking_turns(target): die()")
    assert len(names(tmp_path)) == 2
    write(tmp_path / "y.h5", "new")
    assert names(tmp_path) == ["y.h5"]


def test_what_others_have_there_stays(tmp_path):
    """Living writers', strangers' of any name, and for a day those of another machine, whose locks may not be seen."""
    for name in ("x.h5.tmp-mine", f"{atomic._HIDDEN}mine"):
        (tmp_path / name).write_text("mine")
    other = tmp_path / f"{atomic._HIDDEN}{'0' * 8}-{'0' * 8}"
    other.mkdir()
    before = names(tmp_path)
    with replacing(tmp_path / "x.h5") as [first], taking_turns(tmp_path / "x.h5"):
        first.write_text("first")
        living = names(tmp_path)
        write(tmp_path / "x.h5", "second")
        assert names(tmp_path) == sorted([*living, "x.h5"])
    assert (tmp_path / "x.h5").read_text() == "first"
    assert names(tmp_path) == sorted([*before, "x.h5"])
    os.utime(other, (0, 0))
    write(tmp_path / "x.h5", "third")
    assert names(tmp_path) == sorted({*before, "x.h5"} - {other.name})


def test_64_writers_of_one_target_all_succeed(tmp_path):
    together, texts = threading.Barrier(64), [f"{i} " * 1000 for i in range(64)]

    def one(text):
        together.wait()
        write(tmp_path / "x", text)

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(one, texts))
    assert (tmp_path / "x").read_text() in texts and names(tmp_path) == ["x"]


def test_files_that_belong_together_are_those_of_one_writer(tmp_path):
    together = threading.Barrier(16)

    def one(i):
        together.wait()
        with replacing(tmp_path / "a", tmp_path / "b", together=True) as temporary:
            assert regular.held(atomic._named(atomic._TURN, tmp_path / "b")) is None  # the others wait
            for path in temporary:
                path.write_text(str(i))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(16)))
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() and names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("old", [("a", "b"), ("b",), ()])
@pytest.mark.parametrize("n", [0, 1])
def test_where_one_of_several_renames_fails_all_are_as_they_were(tmp_path, monkeypatch, together, old, n):
    for name in old:
        (tmp_path / name).write_text("old")
    calls, real = iter(range(99)), os.replace
    failing = lambda a, b: real(a, b) if next(calls) != n else (_ for _ in ()).throw(OSError("no"))  # noqa: E731
    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="no"), replacing(tmp_path / "a", tmp_path / "b", together=together) as temporary:
        for path in temporary:
            path.write_text("new")
    assert {name: (tmp_path / name).read_text() for name in names(tmp_path)} == dict.fromkeys(old, "old")


def test_a_disk_without_locks_takes_files_and_keeps_what_may_be_living(tmp_path, monkeypatch):
    killed_while_writing(tmp_path / "x")
    left = names(tmp_path)

    def none(descriptor, blocking):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("filelock.lock_descriptor", none)
    with replacing(tmp_path / "a", tmp_path / "b", together=True) as temporary:
        for path in temporary:
            path.write_text("new")
    assert names(tmp_path) == sorted(["a", "b", *left])


# --- What may be replaced ----------------------------------------------------------------


def pipe(path):
    os.mkfifo(path)


def bound(path):
    socket.socket(socket.AF_UNIX).bind(str(path))


ODD = {
    "a folder": (Path.mkdir, "is a folder, and only a file is ever replaced"),
    "a pipe": (pipe, "is a pipe"),
    "a socket": (bound, "is a socket"),
    "a link to a device": (lambda path: path.symlink_to(os.devnull), "is a device"),
    "a link to itself": (lambda path: path.symlink_to(path), "is a link that leads to no file"),
    "a link to a pipe": (lambda path: (pipe(path.with_name("p")), path.symlink_to("p")), "is a pipe"),
    "a link into nowhere": (lambda path: path.symlink_to("none/x.npz"), "none does not exist; make it first"),
}


@pytest.mark.parametrize("make, sentence", ODD.values(), ids=ODD)
@pytest.mark.parametrize("target", ["x.npz", "x.ckpt.index", "x.pb"])
def test_what_is_no_regular_file_is_refused_and_stays(tmp_path, monkeypatch, make, sentence, target):
    monkeypatch.chdir(tmp_path)
    make(Path(target))
    before = {name: os.lstat(name)[:3] for name in names(tmp_path)}
    several = "link" in sentence or "none" in sentence
    with pytest.raises(CheckpointError, match=f"{sentence}|is a link, and" if several else sentence):
        random_weights(NARROW).save(target.removesuffix(".index"))
    with pytest.raises(ValueError, match=sentence), replacing(target):
        pass
    assert {name: os.lstat(name)[:3] for name in names(tmp_path)} == before


def test_a_pipe_that_appears_meanwhile_stays(tmp_path):
    with pytest.raises(ValueError, match="is a pipe"), replacing(tmp_path / "x") as [temporary]:
        temporary.write_text("new")
        os.mkfifo(tmp_path / "x")
    assert stat.S_ISFIFO(os.stat(tmp_path / "x").st_mode)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_followed_and_stays(tmp_path, there):
    (tmp_path / "far").mkdir()
    if there:
        (tmp_path / "far" / "x").write_text("old")
    (tmp_path / "link").symlink_to(Path("far", "x"))
    write(tmp_path / "link", "new")
    assert os.readlink(tmp_path / "link") == "far/x" and (tmp_path / "far" / "x").read_text() == "new"
    assert names(tmp_path / "far") == ["x"] and names(tmp_path) == ["far", "link"]


@pytest.mark.parametrize("name", ["x.pb", "x.pb.sha256", "x.ckpt.index"])
def test_a_link_that_belongs_to_other_files_is_refused(tmp_path, name):
    (tmp_path / "far").write_text("mine")
    (tmp_path / name).symlink_to("far")
    with pytest.raises(CheckpointError, match="is a link, and belongs to other files beside it"):
        random_weights(NARROW).save(tmp_path / name.removesuffix(".sha256").removesuffix(".index"))
    assert (tmp_path / "far").read_text() == "mine" and names(tmp_path) == sorted(["far", name])


def test_mode_and_owner_of_the_replaced_file_stay(tmp_path):
    target = tmp_path / "x"
    target.write_text("old")
    if os.getuid() == 0:
        os.chown(target, 12345, 54321)
    before = os.stat(target)
    for mode in (0o640, 0o400, 0o666):
        target.chmod(mode)
        write(target, "new")
        now = os.stat(target)
        assert stat.S_IMODE(now.st_mode) == mode
        assert (now.st_uid, now.st_gid) == (before.st_uid, before.st_gid)


def test_the_longest_name_and_our_own_names(tmp_path):
    for name in ("x" * 251 + ".npz", "lock", "old", "new"):
        write(tmp_path / name, "new")
        assert (tmp_path / name).read_text() == "new"
        with replacing(tmp_path / name, tmp_path / "other", together=True) as temporary:
            for path in temporary:
                path.write_text("newer")
        assert (tmp_path / name).read_text() == "newer"
    assert len(names(tmp_path)) == 5


def test_an_existing_file_and_what_is_read_are_refused_on_request(tmp_path):
    target, link = tmp_path / "x", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    os.link(target, tmp_path / "hard")
    with pytest.raises(ValueError, match=r"x is there already; --force \(overwrite=True\) replaces it"):
        check_target(target, overwrite=False)
    for path in (target, link, tmp_path / "hard"):
        with pytest.raises(ValueError, match="is what is read, and would be written over"):
            check_target(path, sources=[tmp_path / "none", target])
    assert check_target(tmp_path / "new", overwrite=False, sources=[target]) == tmp_path / "new"


def test_every_file_of_what_is_read_is_known(tmp_path):
    weights = random_weights(NARROW)
    for name in ("x.ckpt", "x.pb"):
        weights.save(tmp_path / name)
    there = sorted(tmp_path.iterdir())
    assert sorted(formats.files_of(tmp_path / "x.pb")) == [path for path in there if ".pb" in path.name]
    for part in ("x.ckpt", "x.ckpt.index", "x.ckpt.data-00000-of-00001"):
        assert set(formats.files_of(tmp_path / part)) == {path for path in there if ".ckpt" in path.name}
    for name in ("model.json", "group1-shard1of2.bin", "group1-shard2of2"):
        (tmp_path / name).write_text("{}")
    assert {path.name for path in formats.files_of(str(tmp_path / "model.json"))} == {
        "model.json", "group1-shard1of2.bin", "group1-shard2of2"}  # fmt: skip
    assert set(formats.files_of(tmp_path)) == set(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="index is what is read"):
        formats.check_target(tmp_path / "x.ckpt.index", "npz", source=tmp_path / "x.ckpt")


# --- Folders ---------------------------------------------------------------------------


def two_folders(place):
    for name in ("target", "made"):
        (place / name).mkdir(parents=True)
        (place / name / "what").write_text({"target": "old", "made": "new"}[name])
    return place / "made", place / "target"


@pytest.fixture(params=[True, False], ids=["exchange", "aside"])
def exchange(request, monkeypatch, tmp_path):
    """Both ways of the swap, whatever this system can."""
    if not request.param:
        monkeypatch.setattr(atomic, "_exchanged", lambda a, b: False)
    elif not atomic._exchanged(*two_folders(tmp_path / "can")):
        pytest.skip("this system cannot exchange two names")
    return request.param


def test_a_folder_takes_the_place_of_another(tmp_path, exchange):
    made, target = two_folders(tmp_path / "x")
    target.chmod(0o750)
    put_folder(made, target)
    assert (target / "what").read_text() == "new" and (made / "what").read_text() == "old"
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    assert names(tmp_path / "x") == ["made", "target"]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_a_rename_that_fails_or_is_the_last_act_loses_no_folder(tmp_path, exchange, monkeypatch, n):
    """The second rename fails and the old folder is back; or the process dies there, and `recover` brings it back."""
    real = os.rename
    for dies in (False, True):
        made, target = two_folders(tmp_path / str(dies))
        calls = iter(range(99))

        def stopping(a, b, calls=calls, dies=dies):
            if (call := next(calls)) == n or (dies and call > n):
                raise OSError("no")
            return real(a, b)

        monkeypatch.setattr(os, "rename", stopping)
        with contextlib.suppress(OSError):
            put_folder(made, target)
        monkeypatch.setattr(os, "rename", real)
        if not dies:
            assert target.is_dir()
        recover(target)
        assert (target / "what").read_text() == ("new" if exchange or n == 2 else "old")
        assert {p.read_text() for p in (tmp_path / str(dies)).glob("*/what")} == {"old", "new"}
        if n < 2 and not exchange:
            put_folder(made, target)
            assert names(tmp_path / str(dies)) == ["made", "target"]
