"""Where published files are kept on this disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from inception.files.errors import CheckpointError
from inception.weights.published.catalogue import KERAS_FAMILY, Published


class Kept(Protocol):
    """A file that has its place here."""

    @property
    def family(self) -> str:
        """Whose it is."""

    @property
    def file(self) -> str:
        """Its name."""


def home_of(known: Kept) -> Path:
    """The folder that a file is downloaded to: for Keras's files the one Keras itself uses."""
    home = _home(known)
    if home is None:
        raise CheckpointError(
            f"There is no place for {known.file}: this user has no home folder. Set KERAS_HOME "
            "or INCEPTION_WEIGHTS_DIR to a folder, or give the path of a weight file."
        )
    return home


def shared_with_keras(known: Kept) -> bool:
    """Whether the file has its place in Keras's cache, where Keras too replaces what is wrong."""
    return known.family == KERAS_FAMILY


def cached(known: Published, folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Where the file is, by name and right digest: in `folder`, else INCEPTION_WEIGHTS_DIR or its home. Or None."""
    folders = [Path(folder)] if folder else [_own_folder(), _home(known)]
    paths = (place / known.file for place in folders if place)
    return next((path for path in paths if known.matches(path)), None)


def _home(known: Kept) -> Path | None:
    own = _own_folder()
    return own if own and not shared_with_keras(known) else _keras_cache()


def _own_folder() -> Path | None:
    own = os.path.expanduser(os.environ.get("INCEPTION_WEIGHTS_DIR", ""))
    return None if own.startswith("~") or not own else Path(own)  # for a user without a home the ~ stays


def _keras_cache() -> Path | None:
    base = os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")
    return None if base.startswith("~") else Path(base) / "models"
