"""Fine-tuning: a network taught the classes of a folder, first its classifier, then its last blocks.

    finetune("flowers", "inception_v3.h5", "out", unfreeze="Mixed_7a")

The folder it writes:

    model.keras         for `keras.saving.load_model`, `inception classify` and every other command
    model.ckpt.*        the same as a slim checkpoint (of a whole InceptionV3)
    model.json          what the network is and how pictures are brought to it
    model.labels.txt    the classes, one a line
    history.csv         every epoch
    curves.png, confusion.png, most_wrong.png
    skipped.csv         pictures that could not be read, and why
    work/               the cached features and the state, for resuming; may be deleted in the end. While the
                        blocks train it also has the maps of the frozen ones (`maps`)
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

import inception
from inception import extras, features
from inception.arguments import count, count_or_none
from inception.brief import one_line
from inception.classify import Classifier, classifier_of
from inception.features.dataset import shown
from inception.features.task import task_of
from inception.files import atomic, inert_json, regular
from inception.files.atomic import replacing
from inception.files.errors import safe
from inception.labels import Label
from inception.networks import MODEL, Network, classifier
from inception.pictures import Picture, Preprocess
from inception.training import evaluation, folders, loop, maps, report
from inception.training import network as trunks
from inception.training.evaluation import Evaluation
from inception.training.folders import Pictures
from inception.training.loop import Epoch, Stage
from inception.training.maps import Maps, Precision, Progress
from inception.training.network import AUGMENTATIONS, BatchNorm, Trunk
from inception.training.recipe import longest_memory
from inception.weights import Weights

if TYPE_CHECKING:
    import keras

Say = Callable[[str], None]
HEAD, BLOCKS = "classifier", "blocks"
_WORK, _SETTINGS, _LOCK = "work", "settings.json", "lock"
_COMPARED = 64  # pictures on which training mode and inference mode are compared
_NEAR, _NEAR_PART = 0.1, 0.25  # how far apart the two losses may be: in nats, and as part of the larger


class Doubled(UserWarning):
    """The same picture is in two places where the training takes it for two: in two classes, or on both sides."""


class Diverged(UserWarning):
    """The network has another loss in training mode than in inference mode: batch norm's statistics do not fit."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a fine-tuning made.

    Attributes:
        out: the folder.
        classes: in the order of the outputs.
        history: all epochs of both stages.
        evaluation: of the validation set, by the model that was saved.
        training_loss: of some training pictures in training mode, without dropout and augmentation.
        inference_loss: of the same in inference mode.
        skipped: (path, reason).
    """

    out: Path
    classes: tuple[str, ...]
    history: tuple[Epoch, ...]
    evaluation: Evaluation
    training_loss: float
    inference_loss: float
    skipped: tuple[tuple[str, str], ...]

    __repr__ = one_line

    @property
    def accuracy(self) -> float:
        """Of the validation set."""
        return self.evaluation.top1

    @property
    def diverged(self) -> bool:
        """Whether the two losses are too far apart."""
        apart = abs(self.training_loss - self.inference_loss)
        return not math.isfinite(apart) or apart > max(_NEAR, _NEAR_PART * max(self.training_loss, self.inference_loss))


@dataclass(frozen=True)
class Request:
    """The arguments of `finetune` that decide its numbers; written beside the state, and compared when resuming."""

    unfreeze: str | None
    epochs: int
    learning_rate: float
    head_epochs: int
    head_learning_rate: float
    validation: str | float
    augment: tuple[Any, ...]
    class_weights: str | Mapping[str, float] | None
    early_stopping: int | None
    batch_norm: BatchNorm
    batch_size: int
    dropout: float
    versions: int | None
    precision: Precision
    seed: int

    def __post_init__(self) -> None:
        for name in ("learning_rate", "head_learning_rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; expected a number above 0.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 to 1, without 1.")
        if self.batch_norm not in ("frozen", "train"):
            raise ValueError(f'batch_norm is {self.batch_norm!r}; expected "frozen" or "train".')
        if self.precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision is {self.precision!r}; expected "float32" or "bfloat16".')


def finetune(
    folder: str | os.PathLike[str],
    weights: Any,
    out: str | os.PathLike[str],
    *,
    unfreeze: str | None = None,
    epochs: int = 10,
    learning_rate: float = 1e-4,
    head_epochs: int = 50,
    head_learning_rate: float = 1e-3,
    validation: float | str | os.PathLike[str] = 0.2,
    augment: Sequence[Any] | None = AUGMENTATIONS,
    class_weights: str | Mapping[str, float] | None = None,
    early_stopping: int | None = 5,
    batch_norm: BatchNorm = "frozen",
    batch_size: int = 32,
    dropout: float = 0.2,
    size: int | None = None,
    picture: str | Picture | None = None,
    end_point: str | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
    engine: str = "auto",
    versions: int | None = None,
    precision: Precision = "float32",
    seed: int = 0,
    resume: bool = False,
    say: Say | None = None,
    progress: Progress | None = None,
) -> Result:
    """Teaches a network the classes of a folder, and writes all that came of it into another.

    First the classifier alone learns from cached features, computed once. Then, with
    `unfreeze`, the last blocks learn with it at a low rate, on augmented pictures. What is
    frozen stays bit for bit, statistics included. What had the lowest validation loss is
    kept: an epoch of the blocks, or the classifier alone if none of them was better.

    Args:
        folder: has a folder of pictures for each class.
        weights: whatever `networks.network_of` takes; of other families a Keras model without
            its classifier (`VGG16(include_top=False)`).
        out: a new or empty folder, or with `resume` one that a killed run left.
        unfreeze: the block from which on the layers train, as "Mixed_7a" (slim's names); of
            other Keras models a layer, in the order of `model.summary()`. None: the classifier alone.
        epochs, learning_rate: of the blocks. head_epochs, head_learning_rate: of the classifier alone.
        validation: the part of each class that is held out, or a folder like `folder`.
        augment: some of `AUGMENTATIONS`, which stay in the model, or Keras layers of one's own, which
            do not; all are active in training alone. Layers of one's own see pixels of 0..255, as
            Keras's take them to be. None or empty for none.
        class_weights: "balanced", or {class: weight} of its pictures' loss.
        early_stopping: epochs without a lower validation loss after which a stage ends; None for never.
        batch_norm: of unfrozen blocks: "frozen" keeps statistics and beta as in inference;
            "train" takes each batch's statistics, for sets and batches that are large.
        size, picture: of the network's input; None for the weights' own. At least 75 pixels.
        end_point: ends InceptionV3 earlier, as "Mixed_6c"; its map is pooled.
        preprocess: for Keras models of other families, which take other values:
            `keras.applications.vgg16.preprocess_input`. Called with float32 [size, size, 3], 0..255.
        engine: for the features (see `features.extract`), and for the maps of frozen blocks.
        versions: how many augmented versions of the training set the frozen blocks are run over; their maps are
            kept on the disk and the epochs take them in turn. None for 4, or as many as 32 GiB hold; 0 for a new
            version an epoch, kept nowhere. Maps below Mixed_7a take 0.9 MB a picture at 299 pixels, half in bfloat16.
        precision: of the blocks' training, and of the features before it: "bfloat16" is faster where the processor has
            it (weights, classifier and loss stay in float32; what is saved is float32).
        seed: of the split, the first classifier, the order and all chance: the same seed gives
            the same numbers on the same machine (on a GPU, after TensorFlow's `enable_op_determinism`).
        resume: go on where a killed run stopped, with the same arguments; the result is the
            same as without the kill. Up to an epoch is computed again.
        say: called with a line for each step of the work.
        progress: called with (done, of how many, of what) while a step goes on.

    Raises:
        ValueError: for arguments that do not fit; for an `out` that holds another fine-tuning
            or other files.
        OSError: when the disk is full. What was finished stays, and can be resumed.

    Warns (`Diverged`) when training mode and inference mode give different losses in the end, and
    (`Doubled`) of files of equal bytes in two classes, or in both folders. In one class they are
    no harm: the split keeps them on one side.
    """
    request = _request(
        unfreeze=unfreeze, epochs=epochs, learning_rate=learning_rate, head_epochs=head_epochs,
        head_learning_rate=head_learning_rate, validation=validation, augment=augment, class_weights=class_weights,
        early_stopping=early_stopping, batch_norm=batch_norm, batch_size=batch_size, dropout=dropout,
        versions=versions, precision=precision, seed=seed,
    )  # fmt: skip
    extras.load("pyarrow")
    extras.load("matplotlib")
    say = say or (lambda line: None)
    place = Path(out)
    check_target(place, resume)
    progress = progress or (lambda done, total, what: None)
    every, held_out = _listed(folder, request, progress)
    folders.weights_of_classes(every, class_weights)  # what is wrong with these is said before the work
    trunk = trunks.trunk_of(weights, size, picture, end_point, preprocess)
    here = "auto" if engine == "ray" else engine
    task_of(trunk.network, (trunk.end_point,), "avg", None, None, here, None, None)  # and with the features
    unfrozen = trunk.from_block(unfreeze) if unfreeze else frozenset()
    augment = trunks.augmentation(request.augment, seed, trunk.network)
    lower = maps.lower(trunk, unfrozen, engine, precision) if unfrozen else None
    with _locked(place):
        _begin(place, _settings(request, trunk, every, held_out) | {"engine": lower and lower.engine}, resume)
        paths = [*every.paths, *(held_out.paths if held_out else ())]
        half = lower is not None and lower.engine == "openvino"  # which has the precision, or refused it
        rows, errors = _features(trunk, paths, place, engine, precision if half else "float32", say, progress)
        training, checked = _sides(every, held_out, errors, request, say)
        frozen = None
        if lower:
            kept = maps.versions(versions, bool(augment), len(training), lower.shape, precision)
            frozen = Maps(trunk.network, lower, tuple(augment), kept, request.batch_size, precision,
                          place / _WORK / "maps", progress)  # fmt: skip
        return _Run(request, trunk, unfrozen, frozen, place, say, progress, training, checked).result(rows, errors)


def _request(**given: Any) -> Request:
    """The arguments of `finetune` that decide its numbers, each checked."""
    validation = given["validation"]
    return Request(**given | {
        "validation": validation if isinstance(validation, int | float) else os.fspath(validation),
        "augment": tuple(given["augment"] or ()),
        "early_stopping": count_or_none("early_stopping", given["early_stopping"]),
        "versions": count_or_none("versions", given["versions"], 0),
        "seed": count("seed", given["seed"], 0),
        **{name: count(name, given[name]) for name in ("epochs", "head_epochs", "batch_size")},
    })  # fmt: skip


def check_request(folder: str | os.PathLike[str], **given: Any) -> None:
    """ValueError for what is wrong with a folder and with arguments of `finetune`; no picture is read."""
    request = _request(**given)
    every = folders.read(folder)
    folders.weights_of_classes(every, request.class_weights)
    if not isinstance(request.validation, int | float):
        folders.read(request.validation, every.classes)
    elif not 0 < request.validation < 1:
        folders.split(every, request.validation, request.seed)  # which says so


def planned(folder: str | os.PathLike[str], **given: Any) -> dict[str, Any]:
    """What `finetune` of a folder would learn from: {"classes", "training", "validation"}, names and counts.

    Args:
        given: arguments of `finetune` that decide its numbers.

    Raises:
        ValueError: For whatever is wrong with these, without a network and without writing anything.
    """
    request = _request(**given)
    every, held_out = _listed(folder, request, lambda done, total, what: None)
    folders.weights_of_classes(every, request.class_weights)
    training = every
    if held_out is None:
        training, held_out = folders.split(every, float(request.validation), request.seed)
    return {"classes": list(every.classes), "training": len(training), "validation": len(held_out)}


def check_network(network: Network, end_point: str | None, unfreeze: str | None) -> None:
    """ValueError for names that an InceptionV3's weights have not, before TensorFlow is needed for them."""
    if network.loaded is None:
        return
    trunks.check_end_point(end_point)
    blocks = trunks.inception_blocks(network.loaded.variant, trunks.last_row(end_point))
    if unfreeze:
        trunks.check_block(unfreeze, blocks)


def _listed(folder: Any, request: Request, progress: Progress) -> tuple[Pictures, Pictures | None]:
    """(the pictures, those for validation where they have a folder of their own)."""
    every = folders.read(folder)
    every.read_contents(progress)
    if len(every.classes) < 2:
        raise ValueError(f"{os.fspath(folder)} has one class, {every.classes[0]!r}; expected at least 2.")
    held_out = None
    if isinstance(request.validation, int | float):
        folders.split(every, request.validation, request.seed)
    else:
        held_out = folders.read(request.validation, every.classes)
        held_out.read_contents(progress)
    _look_for_doubles(every, held_out)
    return every, held_out


def _look_for_doubles(every: Pictures, held_out: Pictures | None) -> None:
    if pairs := folders.in_two_classes(every):
        warnings.warn(
            f"{len(pairs)} of {len(every)} pictures are in another class too (as {' and '.join(pairs[0])}); "
            "keep each in one class.",
            Doubled,
            stacklevel=4,
        )
    if held_out and (both := folders.shared(held_out, every)):
        warnings.warn(
            f"{len(both)} of {len(held_out)} pictures for validation are among those for training too (as {both[0]}); "
            "the accuracy of the validation says too much.",
            Doubled,
            stacklevel=4,
        )


# --- The folder ------------------------------------------------------------------------


def _settings(request: Request, trunk: Trunk, every: Pictures, held_out: Pictures | None) -> dict[str, Any]:
    settings = dataclasses.asdict(dataclasses.replace(request, augment=())) | {
        "augment": [each if isinstance(each, str) else each.get_config() for each in request.augment],
        "inception": inception.__version__,
        "weights": trunk.digest,
        "end_point": trunk.end_point,
        "picture": trunk.network.picture.json(),
        "preprocess": getattr(trunk.network.preprocess, "__qualname__", None),
        "classes": list(every.classes),
        "pictures": every.digest,
        "validation_pictures": held_out.digest if held_out else None,
    }
    return dict(json.loads(json.dumps(settings, default=str)))


def check_target(place: Path, resume: bool) -> None:
    """ValueError where it cannot be written: a file, other files, or a fine-tuning there and nobody said resume."""
    if place.exists() and not place.is_dir():
        raise ValueError(f"{place} is a file; expected a folder for the fine-tuning.")
    if (place / _WORK / _SETTINGS).is_file():
        if not resume:
            raise ValueError(f"{place} has a fine-tuning already; resume it (--resume), or give another folder.")
        return
    # What a run that was stopped before its settings were written can have left is no other file.
    of_work = [f"{_WORK}/{name}" for name in _names(place / _WORK) if name != _LOCK]
    if others := [name for name in _names(place) if name != _WORK] + of_work:
        raise ValueError(f"{place} holds other files ({others[0]}); give a new or an empty folder.")


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not atomic.is_ours(name)) if folder.is_dir() else []


def _locked(place: Path) -> AbstractContextManager[None]:
    """Holds the folder for this process. ValueError when another one has it; a killed one lets it go."""
    (place / _WORK).mkdir(parents=True, exist_ok=True)
    busy = f"Another process is fine-tuning into {place}; wait for it, or give another folder."
    return regular.holding(place / _WORK / _LOCK, busy)


def _begin(place: Path, settings: Mapping[str, Any], resume: bool) -> None:
    """Writes the settings; ValueError where the folder has another fine-tuning, looked at while nobody else writes."""
    check_target(place, resume)
    file = place / _WORK / _SETTINGS
    if not file.is_file():
        _write(file, json.dumps(settings, indent=1))
        return
    before = inert_json.side_file(file, {}, f"delete {place}, or give another folder")
    for name, value in settings.items():
        if before.get(name) != value:
            digest = name in ("weights", "pictures", "validation_pictures")
            shown = "" if digest else f" ({safe(before.get(name), 60)}, now {safe(value, 60)})"
            raise ValueError(
                f"{place} has a fine-tuning with another {name}{shown}; resume it with the same, "
                "or give another folder."
            )


def _write(path: Path, text: str) -> None:
    with replacing(path) as [temporary]:
        temporary.write_text(text, encoding="utf-8", newline="")


# --- The work --------------------------------------------------------------------------


def _features(
    trunk: Trunk, paths: Sequence[str], out: Path, engine: str, precision: Precision, say: Say, progress: Progress
) -> tuple[dict[str, np.ndarray], list[tuple[str, str]]]:
    """({path: its features}, [(path, reason)] of unreadable pictures), computed once and kept in the folder."""
    place = out / _WORK / "features"
    summary = features.extract(
        paths, place, trunk.network, end_points=(trunk.end_point,), pool="avg", engine=engine,
        precision=precision, progress=lambda done, total, errors: progress(done, total, "features"),
    )  # fmt: skip
    say(f"features of {summary.rows} pictures ({summary.computed} now, {summary.engine})")
    stored = features.load(place)
    path_of = {shown(path): path for path in paths}
    report.table(out / "skipped.csv", ("path", "reason"), stored.errors)
    if stored.errors:
        say(f"{len(stored.errors)} pictures cannot be read; skipped.csv lists them")
    rows = dict(zip((path_of[name] for name in stored.paths), stored.arrays[trunk.end_point], strict=True))
    return rows, [(path_of[name], reason) for name, reason in stored.errors]


def _sides(
    every: Pictures, held_out: Pictures | None, errors: Sequence[tuple[str, str]], request: Request, say: Say
) -> tuple[Pictures, Pictures]:
    """(for training, for validation): the pictures that can be read."""
    unreadable = [path for path, _ in errors]
    training = every = every.without(unreadable)
    if held_out is None:
        training, checked = folders.split(every, float(request.validation), request.seed)
    else:
        checked = held_out.without(unreadable)
    if not len(checked):
        raise ValueError("None of the pictures for validation can be read.")
    say(f"{len(training)} pictures for training, {len(checked)} for validation")
    if held_out is None and (copies := len(every) - len(set(every.contents))):
        say(f"{copies} pictures are copies of others; equal ones stay on one side")
    return training, checked


@dataclass(eq=False)
class _Run:
    """One fine-tuning at work: what it trains on what, and the epochs that are done."""

    request: Request
    trunk: Trunk
    unfrozen: frozenset[str]
    maps: Maps | None
    out: Path
    say: Say
    progress: Progress
    training: Pictures
    checked: Pictures
    history: list[Epoch] = field(default_factory=list)

    def result(self, rows: Mapping[str, np.ndarray], errors: Sequence[tuple[str, str]]) -> Result:
        """All of it, from the classifier to the last picture. Warns of modes that differ."""
        request, classes = self.request, self.training.classes
        self.say(f"a new classifier of {len(classes)} classes on {self.trunk.end_point}")
        kernel, bias = self._head(rows)
        model = self._with_classifier([])
        model.get_layer(classifier(1).name).set_weights([kernel, bias])
        trunks.freeze(model, self.unfrozen, request.batch_norm)
        compared = self.training.sample(_COMPARED, request.seed)
        if self.maps:
            upper = maps.above(model, self.maps.lower.end)
            if request.precision == "bfloat16":
                trunks.in_bfloat16(upper)
            self._blocks(upper, self.maps)
            losses = compare_modes(upper, self.maps.of(compared), compared.labels)
        else:
            upper = maps.above(model, self.trunk.base.layers[-1].name)
            losses = compare_modes(upper, np.stack([rows[path] for path in compared.paths]), compared.labels)
        scored = evaluation.scored(self.checked, self._saved(model), request.batch_size)
        report.table(self.out / "history.csv", loop.COLUMNS, map(dataclasses.astuple, self.history))
        name = self.trunk.network.name
        report.curves(self.history, self.out / "curves.png", name)
        report.confusion(scored, self.out / "confusion.png", name)
        report.most_wrong(scored, self.out / "most_wrong.png", name)
        result = Result(self.out, classes, tuple(self.history), scored, *losses, tuple(errors))
        if result.diverged:
            warnings.warn(
                f"{self.out}: the loss is {result.training_loss:.3f} in training mode and {result.inference_loss:.3f} "
                "in inference mode, on the same pictures: batch norm's statistics do not fit. "
                'Train with batch_norm="frozen", or longer, or with larger batches.',
                Diverged,
                stacklevel=3,
            )
        return result

    def _with_classifier(self, augment: Sequence[Any]) -> keras.Model:
        request, classes = self.request, len(self.training.classes)
        return trunks.with_classifier(self.trunk, classes, augment, request.dropout, request.seed)

    def _head(self, rows: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Trains a classifier on the features; its [kernel, bias]."""
        import keras

        request, labels = self.request, self.training.labels
        x, held_out = (np.stack([rows[path] for path in each.paths]) for each in (self.training, self.checked))
        inputs = keras.Input(x.shape[1:])
        dropped = keras.layers.Dropout(request.dropout, seed=request.seed)(inputs)
        model = keras.Model(inputs, classifier(len(self.training.classes), request.seed)(dropped))

        def batches(epoch: int) -> Any:
            order = loop.order(len(labels), request.seed, epoch)
            return loop.array_batches(x[order], labels[order], request.batch_size)

        validation = loop.array_batches(held_out, self.checked.labels, request.batch_size)
        self._train(model, HEAD, request.head_epochs, request.head_learning_rate, batches, validation)
        return list(model.layers[-1].get_weights())

    def _blocks(self, upper: keras.Model, frozen: Maps) -> None:
        """Trains the unfrozen blocks with the classifier."""
        request = self.request
        if request.batch_norm == "train":
            _quicken(upper, -(-len(self.training) // request.batch_size) * request.epochs)
        if frozen.versions:
            self.say(f"versions of the training set that frozen blocks are run over: {frozen.versions}")

        def batches(epoch: int) -> Any:
            return frozen.training(self.training, loop.order(len(self.training), request.seed, epoch), epoch)

        self._train(upper, BLOCKS, request.epochs, request.learning_rate, batches, frozen.validation(self.checked))
        frozen.clear()

    def _train(
        self,
        model: keras.Model,
        name: str,
        epochs: int,
        rate: float,
        batches: Callable[[int], Any],
        validation: Any,
    ) -> None:
        """One stage; it has to beat what the stages before it reached."""
        request = self.request

        def seen(row: Epoch) -> None:
            self.say(
                f"{name} {row.epoch}/{epochs}: loss {row.loss:.4f}, accuracy {row.accuracy:.1%}; "
                f"validation loss {row.val_loss:.4f}, accuracy {row.val_accuracy:.1%}"
            )

        def step(epoch: int, batch: int) -> None:
            self.progress(batch, math.ceil(len(self.training) / request.batch_size), f"{name} {epoch}/{epochs}")

        weights = folders.weights_of_classes(self.training, request.class_weights)
        best = min((row.val_loss for row in self.history), default=math.inf)
        stage = Stage(name, epochs, rate, request.early_stopping, weights, best)
        state = loop.train(model, stage, batches, validation, self.out / _WORK / f"{name}.npz", seen, step)
        self.history += state.history
        epoch = f"epoch {state.best} of {len(state.history)}" if state.best else "what was there before"
        self.say(f"{name}: {epoch} is the best")

    def _saved(self, trained: keras.Model) -> Classifier:
        """Writes the model in both formats, and what says how to use it; the classifier as it was saved."""
        classes, weights, picture = self.training.classes, self.trunk.weights, self.trunk.network.picture
        again = trunks.augmentation(self.request.augment, self.request.seed, self.trunk.network)
        model = self._with_classifier([each for each in again if not isinstance(each, trunks.on_pixels())])
        for layer in model.layers:
            if layer.weights:
                layer.set_weights(trained.get_layer(layer.name).get_weights())
        with replacing(self.out / f"{MODEL}.keras") as [temporary]:
            model.save(temporary)
        learned = _canonical(model, weights) if weights is not None and self.trunk.whole else None
        if learned is not None:
            learned.save(self.out / f"{MODEL}.ckpt")
        _write(self.out / f"{MODEL}.labels.txt", "".join(f"{name}\n" for name in classes))
        description = {
            "inception": inception.__version__,
            "network": "InceptionV3" if weights is not None else model.name,
            "end_point": self.trunk.end_point,
            "picture": picture.json(),
            "variant": dataclasses.asdict(weights.variant) if weights is not None else {},
            "classes": list(classes),
        }
        _write(self.out / f"{MODEL}.json", json.dumps(description, indent=1))
        labels = tuple(Label("", name) for name in classes)
        there = {"loaded": learned} if learned is not None else {"loaded": None, "model": model}
        return classifier_of(dataclasses.replace(self.trunk.network, labels=labels, **there))


def _canonical(model: keras.Model, before: Weights) -> Weights:
    """The model's weights, with the rules that the weights before the training had."""
    from inception.builders.keras import to_weights

    weights = to_weights(model)
    variant = dataclasses.replace(before.variant, num_classes=weights.variant.num_classes, background=False)
    return dataclasses.replace(weights, variant=variant)


def _quicken(model: keras.Model, steps: int) -> None:
    """Lets batch norm forget its old statistics within a tenth of the training; Keras's 0.99 is for long ones."""
    for layer in trunks.below(model):
        if trunks.kind(layer) == "BatchNormalization":
            layer.momentum = min(0.99, longest_memory(steps))


def compare_modes(model: keras.Model, inputs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The loss of the same pictures in training mode and in inference mode, without dropout and augmentation.

    Equal where batch norm is frozen. The model is left as it was.
    """
    moving = [variable.numpy() for variable in model.non_trainable_variables]
    in_training, in_inference = (
        evaluation.cross_entropy(np.asarray(each(inputs, training=False)), labels)
        for each in (trunks.in_training(model), model)
    )
    for variable, value in zip(model.non_trainable_variables, moving, strict=True):
        variable.assign(value)
    return in_training, in_inference
