"""Matching a file's tensors with the network's: every one exactly once, or a refusal.

A plan is made from names and shapes alone, before any values are read or written. Each
row carries a `Layout` that turns a canonical array into the file's and back, so the same
plan serves reading and writing, and a round trip is exact.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from inception import pictures, variants
from inception.files.errors import MissingTensor, ShapeMismatch
from inception.files.tensor import Shape, Stored
from inception.pictures import Picture
from inception.variants import Variant
from inception.weights.canonical import Source, Weights

_SHOWN = 6  # names listed of each kind; the rest is counted


@dataclass(frozen=True)
class Layout:
    """How a file lays out a canonical array: its axes in another order, a 1x1 kernel as a matrix.

    Attributes:
        axes: the file's axes, as indices into the canonical array's; empty for the same order.
        matrix: the two spatial axes of a 1x1 kernel are left out.
    """

    axes: tuple[int, ...] = ()
    matrix: bool = False

    def _order(self, shape: Shape) -> tuple[int, ...]:
        return self.axes or tuple(range(len(shape)))

    def file_shape(self, shape: Shape) -> Shape:
        """The shape in the file of an array whose canonical shape is `shape`."""
        return tuple(shape[axis] for axis in self._order(shape) if not (self.matrix and axis < 2))

    def canonical_shape(self, shape: Shape) -> Shape:
        """The inverse of `file_shape`; a shape of another rank stays as it is, for `match` to refuse."""
        if self.matrix:
            return (1, 1, *(shape[::-1] if self.axes[:1] == (3,) else shape))
        return tuple(shape[axis] for axis in np.argsort(self.axes)) if len(shape) == len(self.axes) else shape

    def to_file(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(self._order(array.shape))).reshape(self.file_shape(array.shape))

    def from_file(self, array: np.ndarray, shape: Shape) -> np.ndarray:
        order = self._order(shape)
        permuted = array.reshape([shape[axis] for axis in order])
        return np.ascontiguousarray(permuted.transpose(np.argsort(order)))


AS_IS = Layout()
MATRIX = Layout(matrix=True)


@dataclass(frozen=True)
class Claim:
    """A tensor of a file, said to hold one canonical variable."""

    stored: str
    canonical: str
    layout: Layout = AS_IS


def match(
    expected: Mapping[str, Shape],
    claims: Iterable[Claim],
    found: Mapping[str, Shape],
    where: str,
    spare: Collection[str] = (),
) -> list[Claim]:
    """The claims in the order of `expected`, once they are complete and fit.

    Args:
        expected: canonical names and shapes.
        found: the file's names and shapes.

    Raises:
        MissingTensor: (unfilled, unused or doubled names) or `ShapeMismatch`, one message that lists every fault;
            `where` names the file in it. Names in `spare` may stay unused: they are listed only beside another fault,
            whose reason they may be.
    """
    made = [claim for claim in claims if claim.canonical in expected and claim.stored in found]
    targets = {claim.canonical: claim for claim in made}
    used = Counter(claim.stored for claim in made)
    filled = Counter(claim.canonical for claim in made)
    faults = {
        "not in the file": [name for name in expected if name not in filled],
        "in the file but not in the network": [name for name in found if name not in used and name not in spare],
        "there more than once": [name for count in (used, filled) for name, n in count.items() if n > 1],
    }
    misshapen = [
        f"{claim.stored} is {_dims(found[claim.stored])}, expected {_dims(wanted)}"
        for claim in made
        if found[claim.stored] != (wanted := claim.layout.file_shape(expected[claim.canonical]))
    ]
    sentences = [f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names]
    if misshapen:
        sentences.append(f"{len(misshapen)} of another shape: {_some(misshapen)}")
    if sentences:
        if spare:
            sentences.append(f"{len(spare)} in the file but not in the network: {_some(list(spare))}")
        error = ShapeMismatch if misshapen else MissingTensor
        raise error(f"{where} does not match the network, tensor for tensor. " + ". ".join(sentences) + ".")
    return [targets[name] for name in expected]


def load(rows: Iterable[Claim], expected: Mapping[str, Shape], tensors: Mapping[str, Stored]) -> dict[str, np.ndarray]:
    """Reads each tensor of a plan once: {canonical name: float32 array}."""
    values = ((row, tensors[row.stored].read().astype(np.float32, copy=False)) for row in rows)
    return {row.canonical: row.layout.from_file(array, expected[row.canonical]) for row, array in values}


def _some(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _dims(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def assemble(
    claims: Sequence[Claim],
    tensors: Mapping[str, Stored],
    source: Source,
    like: Variant | Callable[[Mapping[str, Shape]], Variant],
    picture: Picture | str = "keras",
) -> Weights:
    """The weights in a file's tensors: the variant from their shapes, the plan, then the values.

    Args:
        like: what shapes cannot tell of the variant, or a function of canonical names and shapes that says it.
        picture: what the file says, or the name of its family's way. Tensors that nothing claims are another head of
            the file's own: they are kept beside the network (`Weights.extra`) and named in the notes.

    Raises:
        MissingTensor, ShapeMismatch: When the network itself is not all there.
    """
    where = source.where
    shapes = {c.canonical: c.layout.canonical_shape(tensors[c.stored].shape) for c in claims}
    strange = [f"{c.stored} is {tensors[c.stored].dtype}" for c in claims if tensors[c.stored].dtype.kind != "f"]
    if strange:
        raise ShapeMismatch(f"{where}: {', '.join(strange[:3])}; expected floating-point numbers, not quantized.")
    variant = variants.infer(shapes, like(shapes) if callable(like) else like)
    expected = variant.shapes()
    claimed = {c.stored for c in claims}
    spare = [name for name in tensors if name not in claimed]
    rows = match(expected, claims, {name: tensors[name].shape for name in claimed}, where, spare)
    arrays = load(rows, expected, tensors)
    if isinstance(picture, str):
        picture = pictures.NAMED[picture].at(variant.aux_size)
        if picture.size != 299:
            note = f"made for {picture.size}x{picture.size} pixels, as the auxiliary head's kernel says"
            source = dataclasses.replace(source, notes=(*source.notes, note))
    extra = {name: tensors[name].read() for name in spare}
    if extra:
        more = f" and {len(extra) - 4} more" if len(extra) > 4 else ""
        note = f"{len(extra)} arrays beyond InceptionV3 kept aside: {', '.join(list(extra)[:4])}{more}"
        source = dataclasses.replace(source, notes=(*source.notes, note))
    return Weights(arrays, variant, source, extra, picture)
