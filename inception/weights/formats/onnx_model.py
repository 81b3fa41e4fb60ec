"""ONNX models: those that exporters make of InceptionV3, and our own.

A file says the border, the last pool and, where they are left, the batch norms. Exporters
fold these into the kernels; then equivalent ones are read, and a note says so.
"""

from __future__ import annotations

import dataclasses
import os

from inception import pictures
from inception.files import onnx
from inception.files.onnx import Model
from inception.variants import Variant
from inception.weights.canonical import VARIANT, Source, Weights, written
from inception.weights.dialects import graph_families, onnx_graph, slim
from inception.weights.dialects.graph_wiring import Wiring
from inception.weights.formats import graph_def

TITLE = "ONNX"
_ASSUMED = (
    "an ONNX model does not say which values its network takes: {picture}'s way of a picture is assumed, as its pools "
    "suggest (a model that scales pixels itself says so in operations that are not read)"
)


def read(path: str | os.PathLike[str]) -> Weights:
    """The weights in an `.onnx` file.

    Args:
        path: the model; numbers that it keeps in a second file are read from its own folder.

    Raises:
        UnsupportedFeature: another network, a quantized one, one exported while training, or one that takes pixels.
        MissingTensor, ShapeMismatch: part of the network.
        CorruptFile, UnsafeFile, ResourceLimit: see `files.onnx.read`.
    """
    model = onnx.read(path)
    onnx_graph.check_numbers(model)
    like, picture = written(model.metadata.get(VARIANT), model.path)
    if onnx_graph.is_ours(model) and like is not None:
        source = Source(model.path, TITLE, notes=(onnx_graph.FOLDED,))
        like = dataclasses.replace(like, gamma=False)
        return slim.gather(onnx_graph.named(model, like), source, like, picture)
    return _by_wiring(model)


def _by_wiring(model: Model) -> Weights:
    graph, folded = onnx_graph.translated(model)
    wiring = Wiring(graph)
    family = graph_families.by_wiring(graph, wiring, TITLE)
    if not folded:
        family = dataclasses.replace(family, claims=(*family.claims, *onnx_graph.gammas(family.claims)))
    weights = graph_def.weights_of(graph, wiring, family)
    if not weights.variant.num_classes:
        onnx_graph.check_head(model)
    way = _way(weights.variant)
    notes = (*weights.source.notes, onnx_graph.FOLDED) if folded else weights.source.notes
    source = dataclasses.replace(weights.source, notes=notes, assumed=_ASSUMED.format(picture=way))
    return dataclasses.replace(weights, source=source, picture=pictures.NAMED[way].at(weights.variant.aux_size))


def _way(variant: Variant) -> str:
    if variant.last_pool == "max":
        return "google_2015"
    return "torchvision" if variant.border == "include" else "keras"
