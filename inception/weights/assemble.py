"""From claims to weights: the last steps of every reader, the same for all formats."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from inception import variants
from inception.files.tensor import Shape, Stored
from inception.pictures import Picture
from inception.variants import Variant
from inception.weights import canonical, plan
from inception.weights.canonical import Source, Weights, check_floats
from inception.weights.plan import Claim

_SHOWN = 4


def assemble(
    claims: Sequence[Claim],
    tensors: Mapping[str, Stored],
    source: Source,
    like: Variant | Callable[[Mapping[str, Shape]], Variant],
    picture: Picture | str = "keras",
) -> Weights:
    """The weights in a file's tensors: the variant from their shapes, the plan, then the values.

    like: what shapes cannot tell of the variant, or a function of canonical names and
    shapes that says it. picture: what the file says, or the name of its family's way.
    Tensors that nothing claims are another head of the file's own: they are kept beside the
    network (`Weights.extra`) and named in the notes. Raises `MissingTensor` or
    `ShapeMismatch` when the network itself is not all there.
    """
    where = f"{source.path} ({source.format})"
    shapes = {c.canonical: c.layout.canonical_shape(tensors[c.stored].shape) for c in claims}
    check_floats({c.stored: tensors[c.stored] for c in claims}, where)
    variant = variants.infer(shapes, like(shapes) if callable(like) else like)
    expected = variant.shapes()
    claimed = {c.stored for c in claims}
    spare = [name for name in tensors if name not in claimed]
    rows = plan.match(expected, claims, {name: tensors[name].shape for name in claimed}, where, spare)
    arrays = plan.load(rows, expected, tensors)
    if isinstance(picture, str):
        picture = canonical.usual_picture(picture, variant)
        if picture.size != 299:
            note = f"made for {picture.size}x{picture.size} pixels, as the auxiliary head's kernel says"
            source = dataclasses.replace(source, notes=(*source.notes, note))
    extra = {name: tensors[name].read() for name in spare}
    if extra:
        more = f" and {len(extra) - _SHOWN} more" if len(extra) > _SHOWN else ""
        note = f"{len(extra)} arrays beyond InceptionV3 kept aside: {', '.join(list(extra)[:_SHOWN])}{more}"
        source = dataclasses.replace(source, notes=(*source.notes, note))
    return Weights(arrays, variant, source, extra, picture)
