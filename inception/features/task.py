"""What is computed of each picture: network, end points, pool; and the engine that computes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

import inception
from inception import inference
from inception.architecture import END_POINTS
from inception.arguments import count_or_none, nearest
from inception.brief import one_line
from inception.inference import Precision, stored
from inception.inference import plan as plans
from inception.networks import Network, network_of
from inception.pictures import Picture, Preprocess
from inception.weights import Weights

Pool = Literal["avg", "max", "none"]
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # a batch of the network's input -> {end point: [n, ...]}
Compiled = tuple[str, Run]  # name of the engine, the engine
POOLS = ("avg", "max", "none")
BATCH = 8
_SHARD_ROWS = 512
_SHARD_BYTES = 1 << 26
STREAMS = 8  # at most, each with maps of a batch in memory


@dataclass(frozen=True, eq=False)
class Task:
    """One extraction's questions, for one process or for many.

    Attributes:
        network: an InceptionV3's, or any Keras model's.
        precision: "float32", "bfloat16" where the processor has it, or "int8".
        layers: the end points are layers of the Keras model.
        int8: the file of the calibrated network, and its digest (see `inference.stored`).
        threads: of the engine; None for its own choice.
    """

    network: Network
    end_points: tuple[str, ...]
    pool: Pool
    engine: str
    batch: int
    precision: Precision = "float32"
    layers: bool = False
    int8: tuple[Path, str] | None = None
    threads: int | None = None

    __repr__ = one_line

    @property
    def picture(self) -> Picture:
        """How a picture becomes the network's input."""
        return self.network.picture

    @property
    def streams(self) -> int:
        """Batches that compute at a time. One that decodes on a core then holds up that core's alone."""
        here = self.engine in ("openvino", "auto") and not self.layers
        return min(self.threads or cores(), STREAMS) if here else 1

    def compiled(self) -> Compiled:
        """(name of the engine, the engine): batches of up to `batch` images; a smaller one is filled up and cut."""
        if self.int8 is not None:
            settings = inference.Settings("int8", self.batch, self.picture.sides, self.threads, self.streams)
            kept = stored.opened(*self.int8, self.network.inception, _whole(self.end_points), settings)
            return kept.engine, lambda batch: self._rows(kept.prepared(batch))
        if not self.layers:
            network = inference.compile_inference(
                self.network,
                end_points=_whole(self.end_points),
                engine=self.engine,  # type: ignore[arg-type]
                precision=self.precision,
                batch=self.batch,
                image_size=self.picture.sides,
                threads=self.threads,
                streams=self.streams,
            )
            return network.engine, lambda batch: self._rows(network.prepared(batch))
        run = _keras(self.network.model, _whole(self.end_points), self.batch)
        return "keras", lambda batch: self._rows(run(batch))

    def calibrated(self, target: Path, images: Sequence[np.ndarray], least: float) -> tuple[Task, dict[str, Any]]:
        """The task with its int8 network, made of images as the network gets them, and what is written down of it."""
        points = _whole(self.end_points)
        digest, agreement = stored.write(target, self.network.inception, points, images, least)
        said = {"network": digest, "calibrated_on": len(images) - agreement.images, **dataclasses.asdict(agreement)}
        return dataclasses.replace(self, int8=(target, digest)), said

    def _rows(self, results: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Maps [n, h, w, c] to [n, c] by their mean or maximum, or cut to their first channels; heads [n, c] stay."""
        rows = {}
        for name in self.end_points:
            whole, _, channels = name.partition(":")
            array = results[whole]
            if channels:
                array = array[..., : int(channels)]
            elif array.ndim == 4 and self.pool != "none":
                array = array.mean((1, 2)) if self.pool == "avg" else array.max((1, 2))
            rows[name] = array
        return rows

    def metadata(self) -> dict[str, Any]:
        """What the features depend on, but for the pictures; values of JSON."""
        if not self.layers:
            weights = self.network.inception
            known, network = digest(weights.arrays), dataclasses.asdict(weights.variant)
        else:
            model: Any = self.network.model
            known, network = _model_digest(model), {"keras_model": model.name}
        fields = {
            "inception": inception.__version__,
            "weights": known,
            "network": network,
            "end_points": self.end_points,
            "pool": self.pool,
            "picture": self.picture.json(),
            "preprocess": _name_of(self.network.preprocess),
            "precision": self.precision,
        }
        return dict(json.loads(json.dumps(fields)))


def task_of(
    weights: Any,
    end_points: Sequence[str],
    pool: Pool,
    picture: str | Picture | None,
    size: int | None,
    engine: str,
    batch: int | None,
    preprocess: Preprocess | Literal["none"] | None,
    precision: Precision = "float32",
) -> Task:
    """The task, its arguments checked. ValueError for what does not fit."""
    if isinstance(end_points, str) or not end_points or len(set(end_points)) != len(end_points):
        raise ValueError(f"end_points is {end_points!r}; expected a sequence of different names, as ('PreLogits',).")
    if pool not in POOLS:
        raise ValueError(f"Unknown pool {pool!r}{nearest(pool, POOLS)}; expected one of {', '.join(POOLS)}.")
    if engine not in ("auto", *inference.ENGINES):
        near = nearest(engine, inference.ENGINES)
        raise ValueError(f"Unknown engine {engine!r}{near}; expected auto, {', '.join(inference.ENGINES)}, ray.")
    inference.check_precision(precision, engine)
    batch = count_or_none("batch", batch)
    network = network_of(weights, picture=picture, size=size, preprocess=preprocess)
    whole = _whole(end_points)
    layers = _layers_asked(network, whole)
    if layers and precision != "float32":
        raise ValueError(f"Layers of a Keras model are computed in float32; precision is {precision}.")
    if layers:
        from inception.builders.keras import check_finite

        _check_layers(network.model, whole)
        check_finite(network.model)
    else:
        _check_inception(network.inception, whole)
        plans.check_size(network.inception.variant, whole, network.picture.sides)
        network = dataclasses.replace(network, loaded=network.inception, model=None)
    return Task(network, tuple(end_points), pool, engine, batch or BATCH, precision, layers)


def _layers_asked(network: Network, end_points: Sequence[str]) -> bool:
    """Whether the end points are layers of a Keras model: of another network, or not called by slim's names."""
    if network.model is None:
        return False
    slim_names = {*END_POINTS, "AuxLogits", "PreLogits", "Logits", "Predictions"}
    rows = {name.partition("/")[0] for name in end_points}  # no layer of Keras's has a slash in its name
    return not slim_names.issuperset(rows) or network.weights is None


def _whole(end_points: Sequence[str]) -> tuple[str, ...]:
    """The end points without the number of channels that is kept of them. ValueError for what is no number."""
    for name in end_points:
        _, colon, channels = name.partition(":")
        if colon and not (channels.isascii() and channels.isdigit() and int(channels)):
            raise ValueError(f"End point {name!r} keeps {channels!r} channels; expected a number, as Mixed_6e:7.")
    return tuple(name.partition(":")[0] for name in end_points)


def cores() -> int:
    """Processors of this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shard_rows(shapes: Mapping[str, Sequence[int]]) -> int:
    """How many pictures a shard holds: 512, or as many (a power of two) as make 64 MiB."""
    row = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    rows = _SHARD_ROWS
    while rows > 16 and rows * row > _SHARD_BYTES:
        rows //= 2
    return rows


def shapes_of(run: Run, picture: Picture) -> dict[str, list[int]]:
    """{end point: shape of a row}, found by running one black image; the engine is warm then."""
    return {name: list(array.shape[1:]) for name, array in run(np.zeros((1, *picture.sides, 3), np.float32)).items()}


def _check_inception(weights: Weights, end_points: Sequence[str]) -> None:
    if weights.variant.channels != 3:
        raise ValueError(f"{weights.source.path} takes {weights.variant.channels} channels; pictures have 3.")
    plans.check_end_points(weights, end_points)


def _check_layers(model: Any, end_points: Sequence[str]) -> None:
    names = [layer.name for layer in model.layers]
    for name in end_points:
        if name not in names:
            raise ValueError(
                f"The model {model.name} has no layer {name!r}{nearest(name, names)}; expected some of its layers, "
                f"the last of which are {', '.join(names[-8:])}."
            )


def _keras(model: Any, end_points: Sequence[str], size: int) -> Run:
    """The layers' outputs of a Keras model, in inference mode, in batches of one size."""
    import keras

    part = keras.Model(model.inputs, [model.get_layer(name).output for name in end_points])

    def run(batch: np.ndarray) -> dict[str, np.ndarray]:
        full = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.float32)])
        results = part.predict_on_batch(full)
        results = results if isinstance(results, list | tuple) else [results]
        return {name: np.asarray(r)[: len(batch)] for name, r in zip(end_points, results, strict=True)}

    return run


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over canonical names, shapes and values: of a network, whatever file it came in."""
    whole = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name], "<f4")
        whole.update(f"{name} {array.shape}\n".encode())
        whole.update(array.tobytes())
    return whole.hexdigest()


def _model_digest(model: Any) -> str:
    """Of a Keras model: its layers as JSON, and its weights."""
    import keras

    values = {f"{i} {w.path}": keras.ops.convert_to_numpy(w) for i, w in enumerate(model.weights)}
    return hashlib.sha256((model.to_json() + digest(values)).encode()).hexdigest()


def _name_of(function: Callable[..., Any] | None) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
