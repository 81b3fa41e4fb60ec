"""Statistics of data sets that the world publishes: what each file is called, where it is, what is in it.

Nobody publishes a digest of one, so none is downloaded: a sentence says what to fetch and
where to put it. What each was made by is its publisher's own way (the protocol of that
name here), which the files themselves do not say. Sources: the READMEs of TTUR,
guided-diffusion, edm and edm2; clean-fid's naming rule and list.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from inception.files.errors import MissingTensor
from inception.weights.published import cache

_TTUR = "http://bioinf.jku.at/research/ttur/ttur_stats/"
_ADM = "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/ref_batches/"
_CLEAN = "https://www.cs.cmu.edu/~clean-fid/stats/"
_EDM = "https://nvlabs-fi-cdn.nvidia.com/edm/fid-refs/"
_EDM2 = "https://nvlabs-fi-cdn.nvidia.com/edm2/dataset-refs/"


@dataclass(frozen=True)
class Reference:
    """One published file of statistics.

    Attributes:
        id: its short name.
        family: the protocol that it was made by.
        url: where it is.
        keys: the arrays in it.
        sha256: in hex; None where unknown, which is everywhere so far.
    """

    id: str
    family: str
    url: str
    keys: tuple[str, ...] = ("mu", "sigma")
    sha256: str | None = None

    @property
    def file(self) -> str:
        """The file's name."""
        return self.url.rpartition("/")[2]


def _all(family: str, base: str, names: dict[str, str], *keys: str) -> list[Reference]:
    return [
        Reference(id if id.startswith(family) else f"{family}-{id}", family, base + file, keys or ("mu", "sigma"))
        for id, file in names.items()
    ]


REFERENCES: tuple[Reference, ...] = (
    *_all("ttur", _TTUR, {
        "celeba-64": "fid_stats_celeba.npz",
        "lsun-bedroom": "fid_stats_lsun_train.npz",
        "cifar10-train": "fid_stats_cifar10_train.npz",
        "svhn-train": "fid_stats_svhn_train.npz",
        "imagenet-train": "fid_stats_imagenet_train.npz",
        "imagenet-valid": "fid_stats_imagenet_valid.npz",
    }),
    *_all("adm", _ADM, {
        "lsun-bedroom-256": "lsun/bedroom/VIRTUAL_lsun_bedroom256.npz",
        "lsun-cat-256": "lsun/cat/VIRTUAL_lsun_cat256.npz",
        "lsun-horse-256": "lsun/horse/VIRTUAL_lsun_horse256.npz",
        "imagenet-64": "imagenet/64/VIRTUAL_imagenet64_labeled.npz",
        "imagenet-128": "imagenet/128/VIRTUAL_imagenet128_labeled.npz",
        "imagenet-256": "imagenet/256/VIRTUAL_imagenet256_labeled.npz",
        "imagenet-512": "imagenet/512/VIRTUAL_imagenet512.npz",
    }, "arr_0", "mu", "sigma", "mu_s", "sigma_s"),
    *_all("clean", _CLEAN, {
        f"{name}-{split}-{size}": f"{name}_clean_{split}_{size}.npz"
        for name, splits, sizes in (
            ("cifar10", ("train", "test"), (32,)),
            ("ffhq", ("trainval", "trainval70k"), (256, 1024)),
            *((f"lsun_{what}", ("train", "trainfull"), (256,)) for what in ("church", "horse", "cat")),
            *((what, ("test",), (256,)) for what in ("horse2zebra", "cat2dog")),
        )
        for split in splits
        for size in sizes
    }),
    *_all("edm", _EDM, {
        name: f"{name}.npz"
        for name in ("cifar10-32x32", "ffhq-64x64", "afhqv2-64x64", "imagenet-64x64", "imagenet-64x64-baseline")
    }),
    *_all("edm", _EDM2, {
        "edm2-imagenet-512": "img512.pkl",
        "edm2-imagenet-64": "img64.pkl",
    }, "num_images", "fid", "fd_dinov2"),
)  # fmt: skip


def find(id: str) -> Reference | None:
    """The published file of an id; None for other words."""
    return next((known for known in REFERENCES if known.id == id), None)


def located(known: Reference) -> Path:
    """Where the file is on this disk, put there by hand: with the published weights.

    Raises:
        MissingTensor: With what to fetch and where to put it, while it is not there.
    """
    place = cache.home_of(known) / known.file
    if not place.is_file():
        raise MissingTensor(
            f"{known.id} is not on this disk, and is not downloaded because no digest of it is known; "
            f"fetch {known.url} and put it at {place}."
        )
    return place
