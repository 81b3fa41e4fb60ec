"""Writing that leaves the old file or the complete new one, never a third thing, and loses nothing of the user's.

A hidden folder beside the target takes the new bytes under the target's own name. They
are flushed to the disk, may be read back and checked, and then take the target's place
in one step, with the mode and owner of the file that was there; the target's folder is
flushed last. On any error the hidden folder goes and the target is as it was.

The writer holds a lock on a file in its hidden folder. That is how the next writer tells
what a killed one left, which it clears, from the folder of a living one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from inception.files import regular

_Path = str | os.PathLike[str]
_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_HIDDEN, _TURN, _OLD = ".inception.tmp-", ".inception.turn-", ".inception.old-"
_LEFT_OVER = re.compile(rf"{re.escape(_HIDDEN)}([0-9a-f]{{8}})-[0-9a-f]{{8}}")
_LOCK = "lock"
_DAY = 86_400  # a lock of another machine may be invisible here; what is older than this has no living writer
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
          stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}  # fmt: skip


def check_target(path: _Path, overwrite: bool = True, sources: Iterable[_Path] = (), follow_links: bool = True) -> Path:
    """Where a file of that name will be written, links followed; to be asked before any work.

    Args:
        overwrite: a file that is there may be replaced.
        sources: files that are read for it, and are never replaced, whatever their names.
        follow_links: False refuses a link, for a file that belongs to others beside it.

    Raises:
        ValueError: For what these arguments keep, for whatever is no regular file (folder, pipe, device, socket), and
            where no file can be made.
    """
    path = Path(path)
    there = _stat(path)
    real = Path(os.path.realpath(path)) if path.is_symlink() else path
    if there is not None and not stat.S_ISREG(there.st_mode):
        kind = _KINDS.get(stat.S_IFMT(there.st_mode), "no regular file")
        raise ValueError(f"{path} is {kind}, and only a file is ever replaced; give the name of a file.")
    if real.is_symlink() or (real != path and there is not None and not real.exists()):
        raise ValueError(f"{path} is a link that leads to no file of a name; give the name of a file.")
    if real != path and not follow_links:
        raise ValueError(f"{path} is a link, and belongs to other files beside it; give another name.")
    if there is not None and any(os.path.samestat(there, each) for each in map(_stat, map(Path, sources)) if each):
        raise ValueError(f"{path} is what is read, and would be written over; give another name.")
    if there is not None and not overwrite:
        raise ValueError(f"{path} is there already; --force (overwrite=True) replaces it, or give another name.")
    if not real.parent.is_dir():
        raise ValueError(f"The folder {real.parent} does not exist; make it first.")
    if not os.access(real.parent, os.W_OK):
        raise ValueError(f"The folder {real.parent} cannot be written to; give another one.")
    return real


def _stat(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise


@contextlib.contextmanager
def replacing(*targets: _Path, together: bool = False) -> Iterator[list[Path]]:
    """Yields a temporary path for each target, of the same name; on success each takes its target's place.

    Targets share a folder. They are renamed in the order given: put the file that makes the
    others count (an index) last. If a rename fails, all are as they were. together: an old one
    must not stand beside a new one, so that writers take turns, and the last goes before the
    first is replaced. Raises ValueError for a target that is there and is no regular file; a
    link is followed where the target is alone (see `check_target`).
    """
    alone = len(targets) == 1
    paths = [check_target(target, follow_links=alone) for target in targets]
    with contextlib.ExitStack() as stack:
        if together:
            stack.enter_context(taking_turns(paths[-1]))
        hidden = stack.enter_context(beside(paths[0].parent))
        temporary = [hidden / path.name for path in paths]
        yield temporary
        for made, path in zip(temporary, paths, strict=True):
            check_target(path, follow_links=alone)
            flush(made)
            _keep_mode_and_owner(made, path)
        if alone:
            os.replace(temporary[0], paths[0])
        else:
            _put_all(temporary, paths, together)
        flush(paths[0].parent)


def _put_all(made: Sequence[Path], targets: Sequence[Path], together: bool) -> None:
    kept = {}  # {target: another name of the file that is there}, for the case that a rename fails
    for file, target in zip(made, targets, strict=True):
        if target.exists():
            copy = file.parent.with_name("old") / target.name
            copy.parent.mkdir(exist_ok=True)
            try:
                os.link(target, copy)
            except OSError:  # a disk without hard links
                shutil.copy2(target, copy)
            kept[target] = copy
    try:
        if together and any(target in kept for target in targets[:-1]):
            targets[-1].unlink(missing_ok=True)
        for file, target in zip(made, targets, strict=True):
            os.replace(file, target)
    except BaseException:
        for file, target in zip(made, targets, strict=True):
            with contextlib.suppress(OSError):
                if target in kept:
                    os.replace(kept[target], target)
                elif not file.exists():
                    target.unlink()
        raise


def _keep_mode_and_owner(made: Path, target: Path) -> None:
    """Of the file that is there; the owner where the system lets us, else its group."""
    if (there := _stat(target)) is None:
        return
    if hasattr(os, "chown"):
        for owner in (there.st_uid, -1):
            with contextlib.suppress(OSError):
                os.chown(made, owner, there.st_gid)
                break
    os.chmod(made, stat.S_IMODE(there.st_mode) & 0o777)


def flush(path: Path) -> None:
    """Asks the disk to keep what was written to a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- Hidden folders, and turns ---------------------------------------------------------


@contextlib.contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A hidden folder in another, for what is made and then renamed; gone at the end, or cleared by the next writer."""
    _clear(folder)
    descriptor = None
    while descriptor is None:
        place = folder / f"{_HIDDEN}{_HOST}-{secrets.token_hex(4)}"
        try:
            place.mkdir(0o700)
            with contextlib.suppress(FileNotFoundError):  # another cleared it before it was locked
                descriptor = _held(place / _LOCK)
            if descriptor is not None:
                new = place / "new"
                new.mkdir()
                yield new
        finally:
            try:
                _gone(place, descriptor)
            except BaseException:  # Ctrl-C comes often just when a file has appeared
                shutil.rmtree(place, ignore_errors=True)
                raise


def _gone(place: Path, descriptor: int | None) -> None:
    shutil.rmtree(place, ignore_errors=True)
    if descriptor is not None:
        os.close(descriptor)
        shutil.rmtree(place, ignore_errors=True)  # Windows keeps a file that is open


def is_ours(name: str) -> bool:
    """Whether a name in a folder is a hidden one of this module's: no file of the user's."""
    return name.startswith((_HIDDEN, _TURN, _OLD))


def _held(lock: Path) -> int | None:
    try:
        return regular.held(lock)
    except OSError:  # a disk without locks: writes as well, but is never cleared
        return os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)


def _clear(folder: Path) -> None:
    """Removes what dead writers left in a folder."""
    with os.scandir(folder) as found:
        entries = list(found)
    for entry in entries:
        with contextlib.suppress(OSError):
            path, left = Path(entry.path), _LEFT_OVER.fullmatch(entry.name)
            if entry.name.startswith(_TURN) and entry.is_file(follow_symlinks=False):
                if (descriptor := regular.held(path)) is not None:
                    _let_go(path, descriptor)
            elif left is not None and entry.is_dir(follow_symlinks=False):
                seen = left[1] == _HOST or time.time() - entry.stat().st_mtime > _DAY
                if seen and (descriptor := regular.held(path / _LOCK)) is not None:
                    shutil.rmtree(path, ignore_errors=True)
                    os.close(descriptor)


@contextlib.contextmanager
def taking_turns(target: Path) -> Iterator[None]:
    """Waits until no other process writes the target, and keeps the others waiting."""
    lock = _named(_TURN, target)
    while (descriptor := _held(lock)) is None:
        time.sleep(0.01)
    try:
        yield
    finally:
        _let_go(lock, descriptor)


def _let_go(lock: Path, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        lock.unlink()
    os.close(descriptor)


def _named(mark: str, target: Path) -> Path:
    """A short hidden name beside a target, always the same."""
    return target.with_name(mark + hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16])


# --- Folders ---------------------------------------------------------------------------


def put_folder(made: Path, target: Path) -> None:
    """A folder takes the target's name; one that is there takes the name of `made`. Hold the target's turn.

    In one step where the system can exchange two names. Elsewhere the old one stands aside
    for a moment, comes back if the rename fails, and after a kill when `recover` is called.
    """
    for path in [*made.rglob("*"), made]:
        flush(path)
    _keep_mode_and_owner(made, target)
    aside = _named(_OLD, target)
    shutil.rmtree(aside, ignore_errors=True)  # a killed writer's, whose new folder is at the target
    if not target.exists():
        os.rename(made, target)
    elif not _exchanged(made, target):
        os.rename(target, aside)
        try:
            os.rename(made, target)
        except BaseException:
            os.rename(aside, target)
            raise
        os.rename(aside, made)
    flush(target.parent)


def recover(target: Path) -> None:
    """Puts back a folder that a writer left standing aside when it was killed."""
    aside = _named(_OLD, target)
    if aside.is_dir():
        with taking_turns(target):
            if aside.is_dir() and not target.exists():
                os.rename(aside, target)


def _exchanged(a: Path, b: Path) -> bool:
    """Two folders take each other's names in one step; False where the system or the disk cannot (Linux can)."""
    try:
        exchange = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    here, both = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(exchange(here, os.fsencode(a), here, os.fsencode(b), both) == 0)
