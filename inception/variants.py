"""What differs, in numbers, between the networks that are all called InceptionV3.

A `Variant` belongs to a set of weights: two files with equal arrays and different
variants are different networks. Every difference is a field; nothing asks which
framework a file came from.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from inception import architecture
from inception.architecture import Conv, Table

SCOPE = "InceptionV3"  # slim's outermost variable scope; canonical names start with it


@dataclass(frozen=True)
class Variant:
    """One InceptionV3: its classes, heads, width and rules.

    Attributes:
        num_classes: outputs of the classifier; 0 is the base alone ("notop").
        background: class 0 is slim's "background", so the ImageNet classes are 1..1000.
        aux_logits: the auxiliary head is there.
        gamma: batch norm has a scale.
        epsilon: what batch norm adds to the variance.
        border: what SAME average pools do with the border: "exclude" divides by the pixels that are there (TensorFlow,
            Keras), "include" by nine (torchvision, timm).
        last_pool: the pool in the last branch of Mixed_7c: "avg", or the "max" of the 2015 graph.
        depth_multiplier: the width: every depth is multiplied by it.
        min_depth: no depth becomes less.
        aux_kernel: the auxiliary head's last kernel; 5x5, or smaller when trained on small images.
        channels: of the input image.
    """

    num_classes: int = 1000
    background: bool = False
    aux_logits: bool = False
    gamma: bool = False
    border: architecture.Border = "exclude"
    last_pool: Literal["avg", "max"] = "avg"
    depth_multiplier: float = 1.0
    min_depth: int = 16
    aux_kernel: tuple[int, int] = (5, 5)
    channels: int = 3
    epsilon: float = architecture.EPSILON

    def __post_init__(self) -> None:
        if not (0 <= self.epsilon < math.inf):
            raise ValueError(f"epsilon is {self.epsilon}; expected a number of at least 0.")

    def table(self) -> Table:
        """The network's rows."""
        return architecture.table(
            self.num_classes,
            aux_logits=self.aux_logits,
            depth_multiplier=self.depth_multiplier,
            min_depth=self.min_depth,
            last_pool=self.last_pool,
            aux_kernel=self.aux_kernel,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{canonical variable name: shape} of everything these weights must hold, in creation order."""
        return {
            f"{SCOPE}/{place.path}/{name}": shape
            for place in architecture.walk(self.table(), channels=self.channels)
            for name, shape in place.variables(self.gamma).items()
        }

    @property
    def aux_size(self) -> int:
        """The size of picture that the auxiliary head was built for: 299, or the least where its kernel fits."""
        if not self.aux_logits or self.aux_kernel[0] >= 5:
            return 299
        for size in range(architecture.MIN_SIZE_AUX, 299):
            if self._aux_map(size) == self.aux_kernel[0]:
                return size
        return 299

    def _aux_map(self, size: int) -> int | None:
        places = architecture.walk(self.table(), size, size)
        return next(p.output_shape[0] for p in places if p.path == "AuxLogits/Conv2d_1b_1x1")


KERAS = Variant()
SLIM = Variant(num_classes=1001, background=True, aux_logits=True)
GOOGLE_2015 = Variant(
    num_classes=1008,
    background=True,
    gamma=True,
    last_pool="max",
)
TORCHVISION = Variant(aux_logits=True, gamma=True, border="include")

NAMED: dict[str, Variant] = {
    "keras": KERAS,
    "slim": SLIM,
    "google_2015": GOOGLE_2015,
    "torchvision": TORCHVISION,
}


def named(variant: str | Variant) -> Variant:
    """A `Variant` by its name, or as it is. ValueError for an unknown name."""
    if isinstance(variant, Variant):
        return variant
    if variant not in NAMED:
        raise ValueError(f"Unknown variant {variant!r}; expected one of {', '.join(NAMED)}, or a Variant.")
    return NAMED[variant]


def written_epsilon(value: float) -> float:
    """The shortest decimal of a number that a file keeps in single precision: 0.0010000000474974513 is 0.001."""
    return float(str(np.float32(value)))


def infer(shapes: Mapping[str, tuple[int, ...]], like: Variant = KERAS) -> Variant:
    """The variant that a set of canonical names and shapes belongs to.

    Classes, heads, gamma, width and channels are read from the shapes; what shapes
    cannot tell (border, last pool, epsilon) is taken from `like`. A background class is
    assumed at 1001 and 1008 classes, unless `like` has these very shapes: then it is the
    answer. The caller still matches the shapes against `variant.shapes()`: here nothing
    is refused.
    """
    if like.shapes() == dict(shapes):
        return like
    logits = shapes.get(f"{SCOPE}/Logits/Conv2d_1c_1x1/weights")
    aux = next((n for n in shapes if n.startswith(f"{SCOPE}/AuxLogits/Conv2d_2a_") and n.endswith("/weights")), None)
    aux_classes = shapes.get(f"{SCOPE}/AuxLogits/Conv2d_2b_1x1/weights")
    classes = (logits or aux_classes or (0,))[-1]
    aux_kernel = (shapes[aux][0], shapes[aux][1]) if aux and len(shapes[aux]) == 4 else like.aux_kernel
    multiplier, floor = _width(shapes, aux_kernel)
    first = shapes.get(f"{SCOPE}/Conv2d_1a_3x3/weights", (3, 3, like.channels, 32))
    return dataclasses.replace(
        like,
        num_classes=classes,
        background=classes in (1001, 1008),
        aux_logits=aux is not None,
        gamma=any(name.endswith("/gamma") for name in shapes),
        depth_multiplier=multiplier,
        min_depth=floor,
        aux_kernel=aux_kernel,
        channels=first[2] if len(first) == 4 else like.channels,
    )


def _width(shapes: Mapping[str, tuple[int, ...]], aux_kernel: tuple[int, int]) -> tuple[float, int]:
    """The simplest (depth_multiplier, min_depth) that explains the depths found.

    Every depth d of the full table has become max(int(d * multiplier), floor). The floor
    is the least depth found; each depth above it bounds the multiplier to [n/d, (n+1)/d).
    """
    pairs = list(_depths(shapes, aux_kernel))
    if not pairs or all(nominal == found for nominal, found in pairs) or not all(found for _, found in pairs):
        return 1.0, 16
    floor = min(found for _, found in pairs)
    above = [(nominal, found) for nominal, found in pairs if found > floor]
    if not above:
        return floor / max(nominal for nominal, _ in pairs), floor
    low = max(Fraction(found, nominal) for nominal, found in above)
    high = min(Fraction(found + 1, nominal) for nominal, found in above)
    multiplier = next((m for m in _simple(low, high) if _explains(float(m), floor, pairs)), low)
    min_depth = floor if any(int(nominal * float(multiplier)) < floor for nominal, _ in pairs) else min(floor, 16)
    return float(multiplier), min_depth


def _depths(shapes: Mapping[str, tuple[int, ...]], aux_kernel: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """(depth in the full table, depth found) for each kernel before a batch norm."""
    for place in architecture.convolutions(architecture.table(aux_kernel=aux_kernel)):
        shape = shapes.get(f"{SCOPE}/{place.path}/weights")
        if isinstance(place.node, Conv) and shape:
            yield place.node.depth, shape[-1]


def _simple(low: Fraction, high: Fraction) -> Iterator[Fraction]:
    """Fractions in [low, high), decimals of few digits first."""
    for digits in range(1, 7):
        scale = 10**digits
        candidate = Fraction(-(-low * scale // 1), scale)
        if low <= candidate < high:
            yield candidate
    yield low


def _explains(multiplier: float, floor: int, pairs: list[tuple[int, int]]) -> bool:
    return all(max(int(nominal * multiplier), floor) == found for nominal, found in pairs)
