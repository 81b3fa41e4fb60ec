"""An int8 network in two files, so that runs and machines which go on with its features compute with the same one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inception import extras
from inception.files import atomic
from inception.files.errors import CorruptFile
from inception.files.regular import RegularFile
from inception.inference import engines, int8
from inception.inference import plan as plans
from inception.inference.compiled import Inference
from inception.inference.engines import Settings
from inception.inference.int8 import Agreement
from inception.weights import Weights

_LARGEST = 1 << 30


def write(
    target: Path, weights: Weights, end_points: Sequence[str], images: Sequence[np.ndarray], least: float
) -> tuple[str, Agreement]:
    """Calibrates a network on images and writes it as OpenVINO's IR, `target` (.xml) and a .bin beside it.

    Args:
        images: [h, w, c] each, of one size, as the network gets them; every fifth is held out to measure with.
        least: below this agreement with float32 nothing is written.

    Returns:
        (SHA-256 of both files, the agreement).

    Raises:
        ValueError: For fewer images than ten, and for an agreement below `least`.
    """
    sides = images[0].shape[:2] if images else None
    model, agreement = int8.quantized(weights, plans.plan(weights, end_points, image_size=sides), images)
    agreement.check(least)
    with atomic.replacing(target.with_suffix(".bin"), target, together=True) as (data, network):
        extras.load("openvino").save_model(model, os.fspath(network), compress_to_fp16=False)
        digest = _digest(network.read_bytes(), data.read_bytes())
    return digest, agreement


def opened(target: Path, digest: str, weights: Weights, end_points: Sequence[str], settings: Settings) -> Inference:
    """The network that `write` wrote, compiled.

    Raises:
        CorruptFile: Where the files are not those of this digest.
        CheckpointError: Where they are not there.
    """
    network, data = _read(target, digest)
    model: Any = extras.load("openvino").Core().read_model(network, data)
    plan = plans.plan(weights, end_points, image_size=settings.image_size)
    model.reshape([settings.batch or -1, *(settings.image_size or (-1, -1)), plan.variant.channels])
    return Inference(plan, "openvino", settings, engines.openvino_runner(model, plan.end_points, settings))


def copy(source: Path, target: Path, digest: str) -> None:
    """Writes the network of this digest a second time. Errors as those of `opened`."""
    network, data = _read(source, digest)
    with atomic.replacing(target.with_suffix(".bin"), target, together=True) as made:
        made[0].write_bytes(data)
        made[1].write_bytes(network)


def _read(target: Path, digest: str) -> tuple[bytes, bytes]:
    files = [RegularFile(target), RegularFile(target.with_suffix(".bin"))]
    if sum(file.size for file in files) > _LARGEST:
        raise CorruptFile(
            f"{target} and its .bin have {sum(file.size for file in files):,} bytes; {_LARGEST:,} at most."
        )
    network, data = (b"".join(file.pieces()) for file in files)
    if _digest(network, data) != digest:
        raise CorruptFile(f"{target} is not the int8 network that these features are of; put that one back.")
    return network, data


def _digest(network: bytes, data: bytes) -> str:
    return hashlib.sha256(hashlib.sha256(network).digest() + hashlib.sha256(data).digest()).hexdigest()
