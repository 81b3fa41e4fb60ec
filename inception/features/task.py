"""What is computed of each picture: weights, end points, pool, recipe; and the engine that computes it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

import inception
from inception import images, inference
from inception import inference_plan as plans
from inception.weights import Weights

Pool = Literal["avg", "max", "none"]
Run = Callable[[np.ndarray], dict[str, np.ndarray]]  # a batch of the network's input -> {end point: [n, ...]}
POOLS = ("avg", "max", "none")
BATCH = 8
_SHARD_ROWS = 512
_SHARD_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class Task:
    """One extraction's questions, for one process or for many.

    weights: InceptionV3's, or any Keras model; its end points are then layers. recipe: one
    of `images.RECIPES`. preprocess: pixels float32 [size, size, 3], 0..255, to the network's
    input, in place of the recipe's scaling.
    """

    weights: Any
    end_points: tuple[str, ...]
    pool: Pool
    recipe: str
    size: int
    upright: bool
    engine: str
    batch: int
    preprocess: Callable[[np.ndarray], np.ndarray] | None = None

    def tensor(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels uint8 [h, w, 3] as the network takes them: float32 [size, size, 3]."""
        recipe = images.RECIPES[self.recipe]
        square = images.square(pixels, self.size, recipe)
        if self.preprocess is not None:
            return np.asarray(self.preprocess(square), np.float32)
        variant = recipe.pixels or (self.weights.variant if isinstance(self.weights, Weights) else None)
        return images.preprocess_input(square, variant=variant) if variant else square

    def compiled(self) -> tuple[str, Run]:
        """(name of the engine, the engine): batches of up to `batch` images; a smaller one is filled up and cut."""
        if isinstance(self.weights, Weights):
            network = inference.compile_inference(
                self.weights,
                end_points=self.end_points,
                engine=self.engine,  # type: ignore[arg-type]
                batch=self.batch,
                image_size=self.size,
            )
            return network.engine, lambda batch: _pooled(network(batch), self.pool)
        run = _keras(self.weights, self.end_points, self.batch)
        return "keras", lambda batch: _pooled(run(batch), self.pool)

    def metadata(self) -> dict[str, Any]:
        """What the features depend on, but for the pictures; values of JSON."""
        if isinstance(self.weights, Weights):
            digest, network = _digest(self.weights.arrays), dataclasses.asdict(self.weights.variant)
        else:
            digest, network = _model_digest(self.weights), {"keras_model": self.weights.name}
        found = {
            "inception": inception.__version__,
            "weights": digest,
            "network": network,
            "end_points": self.end_points,
            "pool": self.pool,
            "recipe": self.recipe,
            "size": self.size,
            "upright": self.upright,
            "preprocess": _name_of(self.preprocess),
        }
        return dict(json.loads(json.dumps(found)))


def made(
    weights: Any,
    end_points: Sequence[str],
    pool: Pool,
    recipe: str | None,
    size: int | None,
    upright: bool,
    engine: str,
    batch: int | None,
    preprocess: Callable[[np.ndarray], np.ndarray] | None,
) -> Task:
    """The task, its arguments checked. ValueError for what does not fit."""
    if isinstance(end_points, str) or not end_points or len(set(end_points)) != len(end_points):
        raise ValueError(f"end_points is {end_points!r}; expected a sequence of different names, as ('PreLogits',).")
    if pool not in POOLS:
        raise ValueError(f"Unknown pool {pool!r}; expected one of {', '.join(POOLS)}.")
    if engine not in ("auto", *inference.ENGINES):
        raise ValueError(f"Unknown engine {engine!r}; expected auto, {', '.join(inference.ENGINES)}, ray.")
    if batch is not None and batch < 1:
        raise ValueError(f"batch is {batch}; expected at least 1, or None.")
    network = _network(weights, end_points)
    if isinstance(network, Weights):
        _check_inception(network, end_points)
        recipe, size = recipe or images.recipe_of(network.variant), size or network.variant.image_size
    else:
        _check_layers(network, end_points)
        recipe, size = recipe or "keras", size or _side(network)
    images.recipe_named(recipe)
    task = Task(network, tuple(end_points), pool, recipe, size, upright, engine, batch or BATCH, preprocess)
    if isinstance(network, Weights):
        plans.check_size(network.variant, task.end_points, (size, size))
        if preprocess is not None:
            images.check_range(task.tensor(images.test_picture(64)), network.variant, "preprocessed pictures")
    return task


def shard_rows(shapes: Mapping[str, Sequence[int]]) -> int:
    """How many pictures a shard holds: 512, or as many (a power of two) as make 64 MiB."""
    row = 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    rows = _SHARD_ROWS
    while rows > 16 and rows * row > _SHARD_BYTES:
        rows //= 2
    return rows


def shapes_of(run: Run, size: int) -> dict[str, list[int]]:
    """{end point: shape of a row}, found by running one black image; the engine is warm then."""
    return {name: list(array.shape[1:]) for name, array in run(np.zeros((1, size, size, 3), np.float32)).items()}


def _network(weights: Any, end_points: Sequence[str]) -> Any:
    """Canonical weights, or the Keras model where it is another network or its own layers are asked for."""
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(weights, keras.Model):
        return inference.weights_of(weights)
    slim_names = {*plans.END_POINTS, "AuxLogits", "PreLogits", "Logits", "Predictions"}
    if not slim_names.issuperset(end_points):
        return weights
    try:
        return inference.weights_of(weights)
    except ValueError:
        return weights


def _check_inception(weights: Weights, end_points: Sequence[str]) -> None:
    if weights.variant.channels != 3:
        raise ValueError(f"{weights.source.path} takes {weights.variant.channels} channels; pictures have 3.")
    plans._check_end_points(weights, end_points)


def _check_layers(model: Any, end_points: Sequence[str]) -> None:
    names = [layer.name for layer in model.layers]
    for name in end_points:
        if name not in names:
            raise ValueError(
                f"The model {model.name} has no layer {name!r}; expected some of its layers, "
                f"the last of which are {', '.join(names[-8:])}."
            )


def _side(model: Any) -> int:
    shape = tuple(model.input_shape)
    if len(shape) != 4 or shape[3] != 3:
        raise ValueError(f"The model {model.name} takes {shape}; expected images [n, height, width, 3].")
    if shape[1] is None or shape[1] != shape[2]:
        raise ValueError(f"The model {model.name} takes images of {shape[1]}x{shape[2]}; say which square with size=.")
    return int(shape[1])


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


def _pooled(results: dict[str, np.ndarray], pool: Pool) -> dict[str, np.ndarray]:
    """Maps [n, h, w, c] to [n, c] by their mean or maximum; heads [n, c] stay."""
    if pool == "none":
        return results
    return {
        name: array if array.ndim != 4 else array.mean((1, 2)) if pool == "avg" else array.max((1, 2))
        for name, array in results.items()
    }


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
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
    return hashlib.sha256((model.to_json() + _digest(values)).encode()).hexdigest()


def _name_of(function: Callable[..., Any] | None) -> str | None:
    if function is None:
        return None
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
