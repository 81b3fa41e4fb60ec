"""The files that the world publishes: what each is, where it is kept, and how it comes."""

from __future__ import annotations

import os
from pathlib import Path

from inception.weights.published.cache import cached
from inception.weights.published.catalogue import Published, find, recognise

__all__ = ["Published", "cached", "fetch_imagenet", "find", "located", "recognise"]


def located(path: str | os.PathLike[str]) -> str | os.PathLike[str]:
    """The path as it is, or for the id of a published file the file's own: found here, or else downloaded."""
    if not isinstance(path, str) or os.path.exists(path) or (known := find(path)) is None:
        return path
    from inception.weights.published import download

    return download.fetch(known)


def fetch_imagenet(include_top: bool = True) -> Path:
    """The Keras ImageNet file, from Keras's own cache or downloaded into it.

    Without a network, raises `CheckpointError` that says what to fetch by hand and where
    to put it.
    """
    from inception.weights.published import catalogue, download

    return download.fetch(catalogue.FILES[0 if include_top else 1])
