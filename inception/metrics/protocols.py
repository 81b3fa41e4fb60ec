"""Every protocol by which InceptionV3 measures generated images, as records: nothing here computes.

What the tools share is not in them: the network of 2015, its 2048 pooled features in
float32 (`PreLogits`), logits without bias over all 1008 outputs, and the formula of each
metric. A metric that a tool does not have (None) is computed on its features as we define it.
Sources: the tools' own code, at the versions that `source` names.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from inception.arguments import nearest
from inception.metrics import kernel
from inception.metrics.inception_score import ADM, STYLEGAN, TORCH_FIDELITY, TORCHMETRICS, Splits
from inception.metrics.kernel import Subsets
from inception.pictures import GOOGLE_2015, NAMED, Picture

FEATURES = "PreLogits"  # pool_3: float32 [n, 2048]
SPATIAL = "Mixed_6d/Branch_0/Conv2d_0a_1x1:7"  # mixed_6/conv after ReLU, its first 7 channels: [n, 17, 17, 7], sFID's
WIDTHS = {64: "MaxPool_3a_3x3", 192: "MaxPool_5a_3x3", 768: "Mixed_6e", 2048: FEATURES}  # taps, as spatial means


@dataclass(frozen=True)
class Balls:
    """How precision and recall compare.

    Attributes:
        k: the neighbour whose distance is a ball's radius, the point itself not counted.
        compare: with the radius; under "<=" a point on a ball's surface is inside.
        reference: at most so many pictures of the reference; None for all.
    """

    k: int
    compare: Literal["<=", "<"]
    reference: int | None


@dataclass(frozen=True)
class Protocol:
    """One tool's way from pictures to its numbers.

    Attributes:
        name: what the command line and files call it.
        source: the tool and its version.
        picture: the resize operator and the scaling.
        mean: the bits of precision in which the mean of the features is taken.
        ddof: the covariance is divided by n - ddof.
        root: how the tool finds the trace of the root of S1 S2; we find the exact one.
        failure: what the tool does where that fails: "eps" adds 1e-6 to both diagonals where the root is not finite,
            and refuses an imaginary part of more than 1e-3; "real" drops that, and looks at nothing else.
        kid, balls, splits: the other metrics; None where the tool does not have them on these features.
        spatial: the tool has sFID.
    """

    name: str
    source: str
    picture: Picture
    mean: Literal[32, 64]
    ddof: int
    root: Literal["sqrtm", "eigvals"]
    failure: Literal["eps", "real"]
    kid: Subsets | None = None
    balls: Balls | None = None
    splits: Splits | None = None
    spatial: bool = False

    def json(self) -> dict[str, Any]:
        """The record as values of JSON."""
        return dataclasses.asdict(self) | {"picture": self.picture.json()}


def _squashed(resize: str) -> Picture:
    return dataclasses.replace(GOOGLE_2015, resize=resize, upright=False)


# The five classes of pixels: the network runs once for each. clean-fid's copy of pytorch-fid's way divides by 255
# behind the resize, which moves its input by one rounding of float32.
_TF1, _NVIDIA, _CLEAN, _ALIAS = map(_squashed, ("tensorflow1", "affine_grid", "pillow_bicubic", "bilinear_antialias"))
_TORCH = NAMED["pytorch_fid"]

# fmt: off
_FID: tuple[tuple[Any, ...], ...] = (
    # name                     source                      picture  mean ddof root     failure
    ("ttur",                    "TTUR 73ab375",             _TF1,    64, 1, "sqrtm",   "eps"),
    ("pytorch-fid",             "pytorch-fid 0.3.0",        _TORCH,  64, 1, "sqrtm",   "eps"),
    ("clean",                   "clean-fid 0.1.35",         _CLEAN,  32, 1, "sqrtm",   "eps"),
    ("clean-legacy-tensorflow", "clean-fid 0.1.35",         _NVIDIA, 32, 1, "sqrtm",   "eps"),
    ("clean-legacy-pytorch",    "clean-fid 0.1.35",         _TORCH,  32, 1, "sqrtm",   "eps"),
    ("torch-fidelity",          "torch-fidelity 0.4.0",     _TF1,    32, 1, "eigvals", "real"),
    ("torchmetrics",            "torchmetrics 1.9.0",       _ALIAS,  64, 1, "eigvals", "real"),
    ("adm",                     "guided-diffusion 22e0df8", _TF1,    32, 1, "sqrtm",   "eps"),
    ("stylegan",                "stylegan3 c233a91",        _NVIDIA, 64, 0, "sqrtm",   "real"),
    ("edm",                     "edm 008a4e5",              _NVIDIA, 64, 1, "sqrtm",   "real"),
)
_MORE: dict[str, dict[str, Any]] = {
    "clean":                   {"kid": kernel.CLEAN_FID},
    "clean-legacy-tensorflow": {"kid": kernel.CLEAN_FID},
    "clean-legacy-pytorch":    {"kid": kernel.CLEAN_FID},
    "torch-fidelity":          {"kid": kernel.TORCH_FIDELITY, "balls": Balls(3, "<=", None), "splits": TORCH_FIDELITY},
    "torchmetrics":            {"kid": Subsets(first="y", smaller=False), "splits": TORCHMETRICS},
    "adm":                     {"balls": Balls(3, "<=", 10_000), "splits": ADM, "spatial": True},
    "stylegan":                {"kid": kernel.STYLEGAN, "splits": STYLEGAN},
}
# fmt: on
PROTOCOLS: dict[str, Protocol] = {row[0]: Protocol(*row, **_MORE.get(row[0], {})) for row in _FID}
DEFAULT = "clean"  # the one whose resize loses nothing and invents nothing


def named(names: str) -> tuple[Protocol, ...]:
    """The protocols of names with commas, or of "all". ValueError for unknown ones."""
    asked = list(PROTOCOLS) if names == "all" else [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in PROTOCOLS:
            raise ValueError(
                f"Unknown protocol {name!r}{nearest(name, PROTOCOLS)}; expected all, or some of {', '.join(PROTOCOLS)}."
            )
    return tuple(PROTOCOLS[name] for name in asked)
