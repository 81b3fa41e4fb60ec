"""What the frozen part of a network makes of pictures, by an inference engine, kept in files while the rest trains.

Below the last tensor that everything trainable lies above, every epoch computes the same
numbers again. So the network is cut there: the lower part runs once over each of a few
augmented versions of the training set, and only the upper part trains in Keras.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inception.features.jobs import in_order
from inception.files.atomic import replacing
from inception.files.tensor import bfloat16
from inception.inference import compile_inference
from inception.networks import Network
from inception.training import loop
from inception.training.folders import Pictures
from inception.training.network import Trunk

if TYPE_CHECKING:
    import keras

Precision = Literal["float32", "bfloat16"]
Progress = Callable[[int, int, str], None]  # done, of how many, of what
VERSIONS = 4  # augmented ones, unless they take more room than this:
ROOM = 32 << 30  # bytes
_THREADS = min(4, os.cpu_count() or 1)  # that decode pictures


@dataclass(frozen=True, eq=False)
class Lower:
    """The frozen part of a network: inputs [n, height, width, 3] to maps, float32.

    Attributes:
        end: the operation of the Keras model that makes them; empty where they are the inputs themselves.
        shape: of one picture's maps.
        engine: what runs it: an inference engine, "keras", or "" where there is nothing to run.
    """

    end: str
    shape: tuple[int, ...]
    run: Callable[[np.ndarray], np.ndarray]
    engine: str = ""


def lower(trunk: Trunk, unfrozen: frozenset[str], engine: str, precision: Precision) -> Lower:
    """All of a network below its `unfrozen` layers: of InceptionV3 by an inference engine, of others by Keras.

    Raises what `compile_inference` does.
    """
    import keras

    from inception.builders.keras import end_points

    end = _cut(trunk.base, unfrozen)
    name, shape, sides = str(end.name), tuple(end.output.shape[1:]), trunk.network.picture.sides
    if isinstance(end, keras.layers.InputLayer):
        return Lower("", (*sides, 3), lambda inputs: inputs)  # a copy of the model may name its input anew
    points = {id(tensor): point for point, tensor in end_points(trunk.base).items()} if trunk.weights else {}
    if (point := points.get(id(end.output))) is None:
        model = keras.Model(trunk.base.inputs, end.output)
        return Lower(name, shape, lambda inputs: np.asarray(model.predict_on_batch(inputs), np.float32), "keras")
    compiled = compile_inference(
        trunk.network,
        end_points=(point,),
        engine=engine,  # type: ignore[arg-type]
        precision=precision,
        image_size=sides,
    )
    return Lower(name, shape, lambda inputs: compiled.prepared(inputs)[point], compiled.engine)


def _cut(base: keras.Model, unfrozen: frozenset[str]) -> Any:
    """The last operation whose output all `unfrozen` layers lie above."""
    import keras

    operations = list(base.operations)
    first = min(i for i, each in enumerate(operations) if each.name in unfrozen)
    for each in reversed(operations[:first]):
        try:
            keras.Model(each.output, base.outputs)
        except ValueError:  # Keras's: the outputs need more than this one
            continue
        return each
    raise AssertionError("A model's own input is such an operation.")


def above(model: keras.Model, operation: str) -> keras.Model:
    """The part of a model above an operation, all of it for an empty name; it shares the layers."""
    import keras

    if not operation:
        return model
    end = next(each for each in model.operations if each.name == operation)
    return keras.Model(end.output, model.outputs)


@dataclass(frozen=True, eq=False)
class Maps:
    """Batches of maps for the upper part of a network.

    Attributes:
        augment: Keras layers, active here.
        versions: of the training set that are kept; epochs take them in turn. 0 for one an epoch, kept nowhere.
        folder: of the files.
    """

    network: Network
    lower: Lower
    augment: tuple[Any, ...]
    versions: int
    batch: int
    precision: Precision
    folder: Path
    progress: Progress

    def training(self, pictures: Pictures, order: np.ndarray, epoch: int) -> Any:
        """The batches of an epoch (a Keras dataset), in that order."""
        if not self.versions:
            return self._on_the_fly(pictures.of(order), epoch)
        version = (epoch - 1) % self.versions + 1
        maps = self._kept(f"training-{version}", pictures, version)

        def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
            return self._opened(maps[order[rows]]), pictures.labels[order[rows]]

        return loop.batches(part, len(order), self.batch)

    def validation(self, pictures: Pictures) -> Any:
        """Batches of pictures as they are."""
        turn = threading.Lock()  # two threads ask for the first

        @functools.cache
        def maps() -> Any:
            return self._kept("validation", pictures, None)

        def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
            with turn:
                some = maps()[rows]
            return self._opened(some), pictures.labels[rows]

        return loop.batches(part, len(pictures), self.batch)

    def of(self, pictures: Pictures) -> np.ndarray:
        """The maps of some pictures as they are, float32."""
        return np.concatenate([self.lower.run(inputs) for inputs in self._inputs(pictures)])

    def clear(self) -> None:
        """Deletes the files."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _on_the_fly(self, pictures: Pictures, epoch: int) -> Any:
        turn = threading.Lock()  # Keras looks at the first batches while it already asks for the next

        def part(rows: slice) -> tuple[np.ndarray, np.ndarray]:
            some = pictures.of(range(*rows.indices(len(pictures))))
            [inputs] = self._inputs(some)
            with turn:
                inputs = self._augmented(inputs, epoch, rows.start)
            return self.lower.run(inputs), some.labels

        return loop.batches(part, len(pictures), self.batch, workers=1, queue=2)

    def _kept(self, name: str, pictures: Pictures, version: int | None) -> np.ndarray:
        """The maps of all pictures in their order, from the file or into it; augmented for a version."""
        file = self.folder / f"{name}.npy"
        kind, shape = ("<u2" if self.precision == "bfloat16" else "<f4"), (len(pictures), *self.lower.shape)
        if (maps := _read(file, kind, shape)) is not None:
            return maps
        self.folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as [temporary], open(temporary, "wb") as stream:
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            done = 0
            for inputs in self._inputs(pictures):
                changed = inputs if version is None else self._augmented(inputs, version, done)
                stream.write(self._packed(self.lower.run(changed)).tobytes())
                done += len(inputs)
                self.progress(done, len(pictures), f"frozen blocks, {name}")
        return np.load(file, mmap_mode="r")

    def _inputs(self, pictures: Pictures) -> Iterator[np.ndarray]:
        """Inputs in batches; the next is decoded while one is used."""
        with ThreadPoolExecutor(_THREADS) as pool:
            inputs = in_order(pool, self.network.input, pictures.paths, ahead=2 * self.batch)
            while batch := list(itertools.islice(inputs, self.batch)):
                yield np.stack(batch)

    def _augmented(self, inputs: np.ndarray, version: int, first: int) -> np.ndarray:
        """Inputs changed by chance; by which, the version and the number of the first picture say alone."""
        import keras

        for variable, seed in self._chance:
            start = np.random.SeedSequence([seed, version, first]).generate_state(1)[0] >> 1
            variable.assign(np.array([seed, start], variable.dtype))
        x: Any = inputs
        for layer in self.augment:
            x = layer(x, training=True)
        return np.ascontiguousarray(keras.ops.convert_to_numpy(x), np.float32)

    @functools.cached_property
    def _chance(self) -> list[tuple[Any, int]]:
        """(the state of each generator of chance, which is its seed and how often it was asked; the seed)."""
        import keras

        states = [v for layer in self.augment for v in layer.variables if v.name == "seed_generator_state"]
        return [(state, int(keras.ops.convert_to_numpy(state)[0])) for state in states]

    def _packed(self, maps: np.ndarray) -> np.ndarray:
        if self.precision == "float32":
            return np.ascontiguousarray(maps, "<f4")
        import ml_dtypes

        return maps.astype(ml_dtypes.bfloat16).view("<u2")

    def _opened(self, maps: np.ndarray) -> np.ndarray:
        if self.precision == "float32":
            return np.array(maps)
        return bfloat16(maps)


def _read(file: Path, kind: str, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        maps = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError):
        return None
    return maps if (maps.dtype, maps.shape) == (np.dtype(kind), shape) else None


def versions(wanted: int | None, augmented: bool, pictures: int, shape: tuple[int, ...], precision: Precision) -> int:
    """How many versions of a training set to keep: as wanted, or `VERSIONS` as far as there is `ROOM`."""
    if wanted == 0 or (wanted is not None and augmented):
        return wanted
    size = pictures * math.prod(shape) * (2 if precision == "bfloat16" else 4)
    return min(VERSIONS if augmented else 1, ROOM // max(size, 1))
