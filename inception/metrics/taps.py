"""The network of a protocol, and what becomes of its pooled features and maps: logits without bias, sFID's values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from inception.features import task
from inception.networks import Network, network_of
from inception.variants import GOOGLE_2015, SCOPE
from inception.weights import CheckpointError, Weights, published

PUBLISHED = "pytorch-fid-6726825d"  # of the containers of the network of 2015 the one whose digest is known


def network(weights: Any = None) -> Network:
    """The network of whatever holds one (`networks.network_of`); None for the published one of 2015.

    Raises:
        CheckpointError: Says what to fetch, where to put it, and its digest, where that is not on this disk and
            cannot be downloaded.
    """
    if weights not in (None, PUBLISHED):
        return network_of(weights)
    known = published.find(PUBLISHED)
    assert known is not None
    try:
        return network_of(published.located(PUBLISHED))
    except CheckpointError as error:
        raise CheckpointError(f"{str(error).rstrip('.')}; its SHA-256 begins with {known.hex}.") from error


def is_2015(variant: Mapping[str, Any]) -> bool:
    """Whether a variant, as JSON, is that of the network that FID is defined by; no other network's distance is FID.

    NVIDIA's container of it leaves gamma out, which is 1.
    """
    return dict(variant) | {"gamma": True} == json.loads(json.dumps(dataclasses.asdict(GOOGLE_2015)))


def published_digest() -> str | None:
    """The digest of the arrays in the published file of 2015; None where that is not on this disk."""
    known = published.find(PUBLISHED)
    place = known and published.cached(known)
    return task.digest(network_of(place).inception.arrays) if place else None


def logits(pooled: np.ndarray, weights: Weights) -> np.ndarray:
    """Pooled features [n, 2048] times the classifier's kernel, without its bias: float32 [n, 1008].

    Raises:
        ValueError: For weights without a classifier.
    """
    if not weights.variant.num_classes:
        raise ValueError(f"{weights.source.path} has no classifier, so no Inception Score; give weights with top.")
    kernel = weights.arrays[f"{SCOPE}/Logits/Conv2d_1c_1x1/weights"]
    return np.asarray(pooled @ kernel.reshape(kernel.shape[-2:]), np.float32)


def spatial(maps: np.ndarray) -> np.ndarray:
    """sFID's values of each picture in ADM's order, rows, columns, channels: [n, 17, 17, 7] to [n, 2023]."""
    return maps.reshape(len(maps), -1)
