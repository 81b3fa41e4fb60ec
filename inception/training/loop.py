"""Training epoch by epoch: the whole state on the disk after each, the best kept, early stopping.

What an epoch does depends on the state before it and on its number alone, so a training
that was killed and resumed ends in the same numbers as one that was not.
"""

from __future__ import annotations

import io
import json
import math
import typing
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inception.files import inert_json, npz
from inception.files.archive import Archive
from inception.files.atomic import replacing
from inception.files.errors import reason, safe

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Epoch:
    """A row of the history: means over the epoch in training mode, and over the validation set after it.

    Attributes:
        stage: "classifier" or "blocks".
        epoch: of the stage, from 1.
        learning_rate: in it.
        loss: in nats, with the weights of classes.
        accuracy: the part that is right.
        val_loss: of the validation set.
        val_accuracy: of the validation set.
    """

    stage: str
    epoch: int
    learning_rate: float
    loss: float
    accuracy: float
    val_loss: float
    val_accuracy: float


_LARGEST_ARRAY = 1 << 40  # bytes; the model that is there says what an array may have
_LONGEST_STATE = 16 << 20  # bytes
COLUMNS = tuple(Epoch.__dataclass_fields__)


@dataclass
class State:
    """How far a stage is. best: the best epoch, 0 for the start; done: no more epochs will come."""

    history: list[Epoch] = field(default_factory=list)
    best: int = 0
    done: bool = False


@dataclass(frozen=True)
class Stage:
    """One training: of the classifier alone, or of the last blocks too.

    Attributes:
        patience: epochs without a lower validation loss after which it ends; None for never.
        start: the validation loss that the model has before it, which the best epoch has to beat.
    """

    name: str
    epochs: int
    learning_rate: float
    patience: int | None
    class_weight: Mapping[int, float] | None
    start: float = math.inf


def train(
    model: keras.Model,
    stage: Stage,
    training: Callable[[int], Any],
    validation: Any,
    file: Path,
    seen: Callable[[Epoch], None],
    step: Callable[[int, int], None] = lambda epoch, batch: None,
) -> State:
    """Trains what is not frozen of a model, and leaves its best epoch in it, or the start if none is better.

    Args:
        training: the batches of epoch number i (a Keras dataset).
        validation: batches too.
        file: where the state is kept; what it holds is gone on from.
        seen: called after each epoch.
        step: called after each batch, with the epoch and how many batches of it are done.
    """
    import keras

    model.compile(
        keras.optimizers.Adam(stage.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    model.optimizer.build(model.trainable_variables)
    moving = {f"model {i}": variable for i, variable in enumerate(_changing(model))}
    everything = moving | {f"optimizer {i}": variable for i, variable in enumerate(model.optimizer.variables)}
    state, best = State(), _values(moving)
    if file.exists():
        state, best = _restore(file, everything, moving)
    for epoch in range(len(state.history) + 1, stage.epochs + 1):
        if state.done:
            break
        row = _epoch(model, stage, epoch, training(epoch), validation, step)
        state.history.append(row)
        now = _values(everything)
        if row.val_loss < (state.history[state.best - 1].val_loss if state.best else stage.start):
            state.best, best = epoch, {name: now[name] for name in moving}
        waited = epoch - state.best
        state.done = epoch == stage.epochs or (stage.patience is not None and waited >= stage.patience)
        _save(file, state, now, {} if state.best == epoch else best)
        seen(row)
    _assign(moving, best)
    return state


def _epoch(
    model: keras.Model, stage: Stage, epoch: int, batches: Any, validation: Any, step: Callable[[int, int], None]
) -> Epoch:
    import keras

    history = model.fit(
        batches,
        validation_data=validation,
        epochs=epoch,
        initial_epoch=epoch - 1,
        class_weight=None if stage.class_weight is None else dict(stage.class_weight),
        shuffle=False,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: step(epoch, batch + 1))],
    ).history
    numbers = {name: float(values[0]) for name, values in history.items()}
    if not math.isfinite(numbers["loss"]):
        raise ValueError(
            f"The loss of epoch {epoch} is {numbers['loss']}; a learning rate below {stage.learning_rate:g} is needed."
        )
    return Epoch(stage.name, epoch, stage.learning_rate, *(numbers[name] for name in COLUMNS[3:]))


def _changing(model: keras.Model) -> list[Any]:
    """The variables that training changes: those that train, and the state of chance; statistics that move too."""
    fixed = {id(v) for layer in model.layers if not layer.trainable for v in layer.weights}
    return [v for v in model.trainable_variables + model.non_trainable_variables if id(v) not in fixed]


# --- The state on the disk -------------------------------------------------------------


def _values(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    import keras

    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in variables.items()}


def _assign(variables: Mapping[str, Any], values: Mapping[str, np.ndarray]) -> None:
    for name, variable in variables.items():
        variable.assign(values[name])


def _save(file: Path, state: State, now: Mapping[str, np.ndarray], best: Mapping[str, np.ndarray]) -> None:
    said = json.dumps({"history": [asdict(row) for row in state.history], "best": state.best, "done": state.done})
    arrays: dict[str, Any] = {"state": np.array(said), **now}
    arrays |= {f"best {name}": value for name, value in best.items()}
    content = io.BytesIO()
    np.savez(content, **arrays)
    with replacing(file) as [temporary]:
        temporary.write_bytes(content.getbuffer())


def _restore(
    file: Path, everything: Mapping[str, Any], moving: Mapping[str, Any]
) -> tuple[State, dict[str, np.ndarray]]:
    wanted = like = _values(everything)
    try:
        stored = npz.listed(Archive(file, _LARGEST_ARRAY))
        if "state" not in stored:
            raise ValueError("state is not in it")
        state = _state(npz.text(stored.pop("state"), "state", str(file), _LONGEST_STATE), file.stem)
        before = "best " if state.best < len(state.history) else ""  # an epoch that is the best is there once
        if before:
            wanted = like | {f"{before}{name}": like[name] for name in moving}
        if strange := stored.keys() ^ wanted.keys():
            raise ValueError(f"{min(strange)} is not in it or not in the network")
        wrong = [n for n, array in wanted.items() if (stored[n].shape, stored[n].dtype) != (array.shape, array.dtype)]
        if wrong:
            raise ValueError(f"{wrong[0]} is of another shape or type")
        arrays = {name: stored[name].read() for name in wanted}
    except ValueError as error:
        told = safe(reason(error, str(file)), 500)
        raise ValueError(f"{file} is damaged ({told}); delete it, and the stage starts again.") from error
    _assign(everything, arrays)
    return state, {name: arrays[f"{before}{name}"] for name in moving}


def _state(text: str, stage: str) -> State:
    """How far a stage was, from its JSON. ValueError for what none can have been."""
    said = inert_json.parse(text.encode(errors="replace"), _LONGEST_STATE, "state")
    inert_json.check_fields(said, {"history": list[dict[str, Any]], "best": int, "done": bool})
    for number, row in enumerate(said["history"], 1):
        inert_json.check_fields(row, typing.get_type_hints(Epoch))
        if (row["stage"], row["epoch"], len(row)) != (stage, number, len(COLUMNS)):
            raise ValueError(f"row {number} of its history is another epoch's")
    if said["best"] > len(said["history"]):
        raise ValueError(f"its best epoch is {said['best']} of {len(said['history'])}")
    return State([Epoch(**row) for row in said["history"]], said["best"], said["done"])


# --- Batches ---------------------------------------------------------------------------


def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch sees its pictures; of seed and number alone."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def array_batches(x: np.ndarray, y: np.ndarray, batch: int) -> Any:
    """Batches of arrays, in their order."""
    return batches(lambda rows: (x[rows], y[rows]), len(x), batch)


def batches(
    part: Callable[[slice], tuple[np.ndarray, np.ndarray]], count: int, batch: int, workers: int = 2, queue: int = 4
) -> Any:
    """Batches of what `part` gives for slices of so many rows (a Keras dataset), in their order.

    `workers` threads ask for them. With one, Keras reads ahead through tf.data, whose end TensorFlow may wait for: two
    seconds an epoch.
    """
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return math.ceil(count / batch)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            return part(slice(index * batch, (index + 1) * batch))

    return Batches(workers=workers, max_queue_size=queue)
