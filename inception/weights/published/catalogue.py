"""The InceptionV3 files that the world has: where each is, how to know it, what it scored.

A file is known by its digest, whatever it is called. Torch's files carry the first eight
digits of their SHA-256 in their names, and no more of it is known here: enough to tell a
whole download from any other file, not to tell it from a forgery. What is None or empty
is unknown. Sources of the figures: keras.io's table of applications, research/slim's
README, timm's results-imagenet.csv, torchvision's and MXNet's model tables.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from inception import pictures
from inception.files.errors import UnsupportedFeature
from inception.files.regular import RegularFile
from inception.pictures import Picture
from inception.variants import GOOGLE_2015, KERAS, SLIM, TORCHVISION, Variant


@dataclass(frozen=True)
class Published:
    """One published file.

    Attributes:
        id: what commands take it by, as "slim-2016-08-28".
        family: whose it is.
        file: the name of the weight file; what is at `url` may be an archive with such a member.
        variant: which InceptionV3 it holds.
        url: where it is fetched from; None where it is not published any more.
        size: in bytes.
        md5: in hex.
        sha256: in hex; it may be its first digits alone.
        picture: its publishers' way to the network's input.
        top1: in percent, single crop, measured by `protocol`.
        top5: the same of the five best classes.
        protocol: how these were measured.
        licence: None where its publishers name none.
        unread: why no reader here takes the file, if none does.
    """

    id: str
    family: str
    file: str
    variant: Variant
    url: str | None = None
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    picture: Picture = pictures.KERAS
    top1: float | None = None
    top5: float | None = None
    protocol: str = ""
    licence: str | None = None
    unread: str = ""

    @property
    def archive(self) -> str | None:
        """The name of the archive that `url` leads to, if it is one."""
        name = urlsplit(self.url or "").path.rpartition("/")[2]
        return name if name.endswith((".tar.gz", ".tgz")) else None

    @property
    def digest(self) -> str:
        """The kind of digest that is known: "md5", "sha256", "sha256/8" for its first digits alone, or "" for none."""
        if self.sha256:
            return "sha256" if len(self.sha256) == 64 else f"sha256/{len(self.sha256)}"
        return "md5" if self.md5 else ""

    @property
    def algorithm(self) -> str:
        """By which the digest is computed, as `hashlib` calls it; "" where none is known."""
        return self.digest.partition("/")[0]

    @property
    def hex(self) -> str:
        """The digits of the digest that are known."""
        return self.sha256 or self.md5 or ""

    def is_digest(self, digests: Mapping[str, str]) -> bool:
        """Whether digests of a file, by their algorithm, are this one's."""
        return bool(self.digest) and digests[self.algorithm].startswith(self.hex)

    def matches(self, path: str | os.PathLike[str]) -> bool:
        """Whether this very file is at `path`: by its size, where that is known, and its digest."""
        if not self.digest or not os.path.isfile(path) or not self._may_have(os.path.getsize(path)):
            return False
        return self.is_digest(digests(path, [self.algorithm]))

    def _may_have(self, size: int) -> bool:
        return size == self.size if self.size is not None else size <= MOST_BYTES

    def variant_of(self, found: Variant) -> Variant:
        """What the shapes told, completed by what they cannot tell."""
        rules = ("border", "last_pool", "epsilon")
        return dataclasses.replace(found, **{name: getattr(self.variant, name) for name in rules})

    @property
    def recipe(self) -> str:
        """The picture in words."""
        return pictures.WORDS[str(self.picture)]


IMAGENET = "imagenet"  # Keras's name for its own file
LEAST_BYTES = 80_000_000  # no published file is smaller, so smaller ones need no digest
MOST_BYTES = 600_000_000  # nor larger, by far

KERAS_FAMILY = "Keras"
_KERAS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
_KERAS_NAME = "inception_v3_weights_tf_dim_ordering_tf_kernels"
_KERAS_1 = "whose layers are named and ordered as Keras 1 did it; such files are not read, take keras-v0.5"
_TIMM_PROTOCOL = "timm: 299x299, crop 0.875, bicubic; average pools that count the border"
# timm runs its copies of slim's weights like all others, border counted, and so were they measured.
_TIMM_OF_SLIM = dataclasses.replace(TORCHVISION, num_classes=1001, background=True, aux_logits=False)
_GLUON = dataclasses.replace(TORCHVISION, aux_logits=False)

FILES: tuple[Published, ...] = (
    Published(
        id="keras-v0.5",
        family=KERAS_FAMILY,
        file=f"{_KERAS_NAME}.h5",
        url=f"{_KERAS_URL}{_KERAS_NAME}.h5",
        md5="9a0d58056eeedaa3f26cb7ebd46da564",
        variant=KERAS,
        size=96_112_376,
        picture=pictures.KERAS,
        top1=77.9,
        top5=93.7,
        protocol="single centre crop, 299x299",
        licence="MIT",
    ),
    Published(
        id="keras-v0.5-notop",
        family=KERAS_FAMILY,
        file=f"{_KERAS_NAME}_notop.h5",
        url=f"{_KERAS_URL}{_KERAS_NAME}_notop.h5",
        md5="bcbd6486424b2319ff4ef7d526e38f63",
        variant=dataclasses.replace(KERAS, num_classes=0),
        size=87_910_968,
        picture=pictures.KERAS,
        licence="MIT",
    ),
    Published(
        id="keras-v0.2",
        family=KERAS_FAMILY,
        file=f"{_KERAS_NAME}.h5",
        md5="fe114b3ff2ea4bf891e9353d1bbfb32f",
        variant=KERAS,
        unread=_KERAS_1,
    ),
    Published(
        id="keras-v0.2-notop",
        family=KERAS_FAMILY,
        file=f"{_KERAS_NAME}_notop.h5",
        md5="2f3609166de1d967d1a481094754f691",
        variant=dataclasses.replace(KERAS, num_classes=0),
        unread=f"{_KERAS_1}-notop",
    ),
    Published(
        id="slim-2016-08-28",
        family="slim",
        file="inception_v3.ckpt",
        url="http://download.tensorflow.org/models/inception_v3_2016_08_28.tar.gz",
        md5="5fd07d9834fe14479e4da82df9365ede",
        variant=SLIM,
        picture=pictures.SLIM,
        top1=78.0,
        top5=93.9,
        protocol="single crop of 87.5 % of each side, squashed to 299x299",
        licence="Apache-2.0",
    ),
    Published(
        id="adv-2017-08-18",
        family="slim",
        file="adv_inception_v3_2017_08_18",
        variant=SLIM,
        picture=pictures.SLIM,
    ),
    Published(
        id="inception-v3-2016-03-01",
        family="Google 2016",
        file="model.ckpt-157585",
        variant=SLIM,
        picture=pictures.SLIM,
    ),
    Published(
        id="graph-2015-12-05",
        family="Google 2015",
        file="classify_image_graph_def.pb",
        url="http://download.tensorflow.org/models/image/imagenet/inception-2015-12-05.tgz",
        variant=GOOGLE_2015,
        picture=pictures.GOOGLE_2015,
        top1=76.88,
        top5=93.344,
        protocol="MXNet's port: 299x299 crop of 384",
    ),
    Published(
        id="torchvision-0cc3c7bd",
        family="torchvision",
        file="inception_v3_google-0cc3c7bd.pth",
        url="https://download.pytorch.org/models/inception_v3_google-0cc3c7bd.pth",
        sha256="0cc3c7bd",
        variant=TORCHVISION,
        picture=pictures.TORCHVISION,
        top1=77.294,
        top5=93.450,
        protocol="torchvision: resize 342, crop 299, bilinear",
    ),
    Published(
        id="torchvision-1a9a5a14",
        family="torchvision",
        file="inception_v3_google-1a9a5a14.pth",
        sha256="1a9a5a14",
        variant=TORCHVISION,
        picture=pictures.TORCHVISION,
    ),
    Published(
        id="timm-tv",  # the file of torchvision-1a9a5a14, by which id it is recognised
        family="timm",
        file="inception_v3_google-1a9a5a14.pth",
        sha256="1a9a5a14",
        variant=TORCHVISION,
        picture=pictures.TIMM,
        top1=77.472,
        top5=93.468,
        protocol=_TIMM_PROTOCOL,
    ),
    Published(
        id="timm-tf",
        family="timm",
        file="tf_inception_v3-e0069de4.pth",
        url="https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
        "tf_inception_v3-e0069de4.pth",
        sha256="e0069de4",
        variant=_TIMM_OF_SLIM,
        picture=pictures.TIMM,
        top1=77.866,
        top5=93.644,
        protocol=_TIMM_PROTOCOL,
    ),
    Published(
        id="timm-tf-adv",
        family="timm",
        file="adv_inception_v3-9e27bd63.pth",
        sha256="9e27bd63",
        variant=_TIMM_OF_SLIM,
        picture=pictures.TIMM,
        top1=77.598,
        top5=93.726,
        protocol=_TIMM_PROTOCOL,
    ),
    Published(
        id="timm-gluon",
        family="timm",
        file="gluon_inception_v3-9f746940.pth",
        sha256="9f746940",
        variant=_GLUON,
        picture=pictures.NAMED["gluon"],
        top1=78.806,
        top5=94.372,
        protocol=_TIMM_PROTOCOL,
    ),
    Published(
        id="pytorch-fid-6726825d",
        family="pytorch-fid",
        file="pt_inception-2015-12-05-6726825d.pth",
        url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/"
        "pt_inception-2015-12-05-6726825d.pth",
        sha256="6726825d",
        variant=GOOGLE_2015,
        picture=pictures.GOOGLE_2015,  # the network's own; pytorch-fid brings pictures to it in another way
    ),
    Published(
        id="nvidia-2015-12-05",
        family="NVIDIA",
        file="inception-2015-12-05.pt",
        url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
        variant=dataclasses.replace(GOOGLE_2015, gamma=False),
        picture=pictures.GOOGLE_2015,  # what its `layers` take; the program brings pictures to them itself
    ),
)

_HDF5 = b"\x89HDF\r\n\x1a\n"


def find(id: str) -> Published | None:
    """The published file of an id; "imagenet" is keras-v0.5. None for other words."""
    return next((known for known in FILES if known.id == id), FILES[0] if id == IMAGENET else None)


def recognise(path: str | os.PathLike[str]) -> Published | None:
    """The published file that this is, by size and digest, or None.

    Files of a size that none has are not read; of others each kind of digest is computed
    at most once.
    """
    if not os.path.isfile(path):
        return None
    file = RegularFile(path)
    if not LEAST_BYTES <= (size := file.size) <= MOST_BYTES:
        return None
    is_hdf5 = b"".join(file.pieces(0, len(_HDF5))) == _HDF5
    able = [known for known in FILES if known.digest and known.file.endswith(".h5") == is_hdf5]
    candidates = [known for known in able if known.size in (size, None)]
    found = digests(path, {known.algorithm for known in candidates})
    return next((known for known in candidates if known.is_digest(found)), None)


def digests(path: str | os.PathLike[str], algorithms: Iterable[str]) -> dict[str, str]:
    """{"md5": hex digits, ...} of a file, read once; `CheckpointError` if it cannot be read."""
    running = {name: hashlib.new(name, usedforsecurity=False) for name in algorithms}
    for block in RegularFile(path).pieces() if running else ():
        for digest in running.values():
            digest.update(block)
    return {name: digest.hexdigest() for name, digest in running.items()}


def refuse_unread(known: Published, path: str | os.PathLike[str]) -> None:
    """Raises `UnsupportedFeature` for a file that is known and that no reader takes."""
    if known.unread:
        raise UnsupportedFeature(f"{os.fspath(path)} is {known.id}, {known.unread}.")
