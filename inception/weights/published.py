"""The InceptionV3 files that the world has: where each is, how to know it, what it scored.

A file is known by its digest, whatever it is called. Sources of the figures: keras.io's
table of applications, research/slim's README.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from inception.variants import KERAS, SLIM, Variant
from inception.weights.errors import CheckpointError

_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
_KERAS_NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels"


@dataclass(frozen=True)
class Published:
    """One published file. `size` is in bytes, None where nobody wrote it down; accuracies in percent."""

    id: str
    file: str
    url: str
    md5: str
    variant: Variant
    size: int | None = None
    top1: float | None = None
    top5: float | None = None
    protocol: str = ""
    licence: str = ""

    def variant_of(self, found: Variant) -> Variant:
        """What the shapes told, completed by what they cannot tell."""
        rules = ("border", "last_pool", "pixel_mean", "pixel_scale")
        return dataclasses.replace(found, **{name: getattr(self.variant, name) for name in rules})


FILES: tuple[Published, ...] = (
    Published(
        id="keras-v0.5",
        file=f"{_KERAS_NAME}.h5",
        url=f"{_KERAS_URL}{_KERAS_NAME}.h5",
        md5="9a0d58056eeedaa3f26cb7ebd46da564",
        variant=KERAS,
        size=96_112_376,
        top1=77.9,
        top5=93.7,
        protocol="single centre crop, 299x299",
        licence="MIT",
    ),
    Published(
        id="keras-v0.5-notop",
        file=f"{_KERAS_NAME}_notop.h5",
        url=f"{_KERAS_URL}{_KERAS_NAME}_notop.h5",
        md5="bcbd6486424b2319ff4ef7d526e38f63",
        variant=dataclasses.replace(KERAS, num_classes=0),
        size=87_910_968,
        licence="MIT",
    ),
    Published(
        id="slim-2016-08-28",
        file="inception_v3.ckpt",
        url="http://download.tensorflow.org/models/inception_v3_2016_08_28.tar.gz",
        md5="5fd07d9834fe14479e4da82df9365ede",
        variant=SLIM,
        top1=78.0,
        top5=93.9,
        protocol="single crop of 87.5 % of each side, squashed to 299x299",
        licence="Apache-2.0",
    ),
)

_LEAST_BYTES = 80_000_000  # no published file is smaller, so smaller ones need no digest


def recognise(path: str | os.PathLike[str]) -> Published | None:
    """The published file that this is, by size and digest, or None."""
    if not os.path.isfile(path) or (size := os.path.getsize(path)) < _LEAST_BYTES:
        return None
    candidates = [known for known in FILES if known.size in (size, None)]
    if not candidates:
        return None
    digest = _md5(path)
    return next((known for known in candidates if known.md5 == digest), None)


def _md5(path: str | os.PathLike[str]) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def cached_imagenet(include_top: bool = True) -> Path | None:
    """The Keras ImageNet file where Keras keeps it, if it is there and whole."""
    path = _keras_cache() / _imagenet(include_top).file
    return path if recognise(path) else None


def fetch_imagenet(include_top: bool = True) -> Path:
    """The Keras ImageNet file, from Keras's own cache or downloaded into it (hash checked by Keras's `get_file`).

    Without a network, raises `CheckpointError` that says what to fetch by hand and where
    to put it.
    """
    if (cached := cached_imagenet(include_top)) is not None:
        return cached
    import keras

    known = _imagenet(include_top)
    try:
        return Path(keras.utils.get_file(known.file, known.url, cache_subdir="models", file_hash=known.md5))
    except Exception as error:  # get_file raises a bare Exception for any failed download
        raise CheckpointError(
            f"The ImageNet weights could not be downloaded ({str(error).splitlines()[0]}); fetch {known.url} by hand "
            f"and put it at {_keras_cache() / known.file}, or give the path of a weight file."
        ) from error


def _imagenet(include_top: bool) -> Published:
    return FILES[0] if include_top else FILES[1]


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
