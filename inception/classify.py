"""Pictures in, class scores out: by a weight file, by what `inception finetune` made, by any Keras model."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inception import images, labels, names
from inception.labels import Label
from inception.variants import KERAS, Variant
from inception.weights import CheckpointError, Weights, formats, hdf5, inert_json, keras_config
from inception.weights.archive import Archive
from inception.weights.canonical import written_variant

if TYPE_CHECKING:
    import keras

Picture = str | os.PathLike[str] | np.ndarray
Preprocess = Callable[[np.ndarray], np.ndarray]
MODEL = "model"  # a fine-tuned folder's files: model.keras, model.ckpt, model.json, model.labels.txt
_UNSCALED = Variant(pixel_mean=(0.0, 0.0, 0.0), pixel_scale=(1.0, 1.0, 1.0))
_BATCH = 16
_SMALLEST, _LARGEST = 1, 1 << 14  # pixels of a side
_DESCRIBED = {"network": str, "end_point": str, "size": int, "recipe": str, "upright": bool, "classes": list[str],
              "variant": dict}  # fmt: skip


@dataclass(frozen=True)
class Input:
    """How a picture becomes a network's input.

    upright: pictures are turned as their EXIF orientation says.
    preprocess: for Keras models of other families: pixels float32 [size, size, 3], 0..255,
    to the model's input, in place of the variant's scaling.
    """

    size: int
    recipe: str = "keras"
    variant: Variant = KERAS
    upright: bool = False
    preprocess: Preprocess | None = None

    def prepare(self, picture: Picture) -> np.ndarray:
        """A picture (file, or uint8 [h, w, 3]) as float32 [size, size, 3]. ValueError for one that cannot be read."""
        pixels = picture if isinstance(picture, np.ndarray) else images.read(picture, upright=self.upright)
        if self.preprocess is None:
            return images.prepare(pixels, self.size, self.variant, self.recipe)
        square = images.square(pixels, self.size, images.recipe_named(self.recipe))
        return np.asarray(self.preprocess(square), np.float32)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A network that gives class probabilities, with all that it needs to know.

    model: inputs [n, size, size, 3] to probabilities [n, classes]. published: the id of the
    published file that the weights are, if they are one.
    """

    model: keras.Model
    labels: tuple[Label, ...]
    input: Input
    published: str | None = None

    def scores(self, inputs: np.ndarray) -> np.ndarray:
        """Prepared pictures [n, size, size, 3] to probabilities [n, classes], in inference mode."""
        return np.asarray(self.model(inputs, training=False))


def classify(pictures: Sequence[Picture], weights: Any, recipe: str | None = None) -> np.ndarray:
    """The classifier's probabilities for each picture (a file, or uint8 [h, w, 3]): [pictures, classes].

    weights: `Weights`, or what else `classifier_of` takes. recipe: one of `images.RECIPES`;
    None for that of the fine-tuning, or "keras". Raises `CheckpointError` for weights without
    a classifier, ValueError for a picture that cannot be read.
    """
    return classify_with(classifier_of(weights, recipe=recipe), pictures)


def classify_with(network: Classifier, pictures: Sequence[Picture]) -> np.ndarray:
    """What `classify` returns, by a classifier that is there."""
    inputs = [network.input.prepare(picture) for picture in pictures]
    batches = (np.stack(inputs[i : i + _BATCH]) for i in range(0, len(inputs), _BATCH))
    return np.concatenate([network.scores(batch) for batch in batches])


def classifier_of(
    source: Any,
    *,
    names_file: str | os.PathLike[str] | None = None,
    recipe: str | None = None,
    size: int | None = None,
    preprocess: Preprocess | None = None,
) -> Classifier:
    """The classifier in a weight file, in a fine-tuned folder or one of its files, or a Keras model's.

    names_file: class names, one a line; None for those that belong to the weights.
    recipe, size: None for the fine-tuning's own; else "keras", and the size the weights were made for.
    preprocess: for a Keras model that is no InceptionV3 (see `Input`).
    Raises ValueError where there is no classifier, or no way to know its input.
    """
    if recipe is not None:
        images.recipe_named(recipe)
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(source, keras.Model):
        return _of_model(source, names_file, recipe, size, preprocess)
    if preprocess is not None:
        raise ValueError("preprocess is for a Keras model of another family; weights bring their own scaling.")
    if not isinstance(source, Weights) and (folder := trained_folder(source)) is not None:
        return _of_folder(folder, source, names_file, recipe, size)
    weights = source if isinstance(source, Weights) else formats.load(source)
    classes = weights.variant.num_classes
    found = labels.read(names_file, classes) if names_file else labels.labels_for(weights.source.path, classes)
    given = Input(size or weights.variant.image_size, recipe or "keras", weights.variant)
    return Classifier(_model_of(weights, given.size), found, given, weights.source.published)


def _model_of(weights: Weights, size: int) -> keras.Model:
    if not weights.variant.num_classes:
        raise CheckpointError(f"{weights.source.path} has no classifier; give weights with top.")
    from inception.builders.keras import model_of

    if weights.variant.aux_logits:
        weights = weights.step("drop-aux")
    return model_of(weights, input_shape=(size, size, weights.variant.channels))


def _of_model(
    model: keras.Model, names_file: Any, recipe: str | None, size: int | None, preprocess: Preprocess | None
) -> Classifier:
    shape, made = tuple(model.input_shape), model.output_shape
    if not isinstance(made, tuple) or len(made) != 2 or len(shape) != 4:
        raise ValueError(f"The Keras model {model.name} makes {made} of {shape}; expected pictures to class scores.")
    size = size or shape[1]
    if not size:
        raise ValueError(f"The Keras model {model.name} takes pictures of any size; give size=.")
    check_scaling(model, preprocess)
    found = labels.read(names_file, made[1]) if names_file else labels.labels_for("", made[1])
    return Classifier(model, found, Input(size, recipe or "keras", preprocess=preprocess))


def check_scaling(model: keras.Model, preprocess: Preprocess | None) -> None:
    """ValueError for a Keras model of another family when nobody says which values it takes."""
    from inception.builders.keras import end_points

    if preprocess is not None:
        return
    try:
        end_points(model)
    except ValueError as error:
        raise ValueError(
            f"The Keras model {model.name} is no InceptionV3: say which values it takes with preprocess=, as "
            "keras.applications.vgg16.preprocess_input; numpy.asarray for pixels 0..255 as they are."
        ) from error


# --- What `inception finetune` made ----------------------------------------------------


def trained_folder(source: Any) -> Path | None:
    """The folder of a fine-tuning that a path belongs to: it, or one of its files. None for any other path."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    ours = path.is_dir() or path.name in (f"{MODEL}.keras", f"{MODEL}.ckpt")
    return folder if ours and (folder / f"{MODEL}.json").is_file() else None


def _of_folder(folder: Path, source: Any, names_file: Any, recipe: str | None, size: int | None) -> Classifier:
    said = description(folder)
    given = Input(size or said["size"], recipe or said["recipe"], said["variant"], said["upright"])
    classes = len(said["classes"])
    found = labels.read(names_file, classes) if names_file else tuple(Label("", name) for name in said["classes"])
    if said["network"] != "InceptionV3":
        raise ValueError(
            f"{folder} holds the Keras model {said['network']}, which only Python can load: "
            f'keras.saving.load_model("{folder / MODEL}.keras"), given to the same function with preprocess=.'
        )
    if said["end_point"] == "PreLogits":
        file = folder / f"{MODEL}.keras" if Path(source).is_dir() else Path(source)
        weights = formats.load(file)
        if weights.variant.num_classes != classes:
            raise ValueError(
                f"{file} has {weights.variant.num_classes} classes and {MODEL}.json beside it names {classes}; "
                "run inception finetune again."
            )
        return Classifier(_model_of(weights, given.size), found, given)
    model = _cut(said["variant"], said["end_point"], given.size, classes)
    assign(model, folder / f"{MODEL}.keras")
    return Classifier(model, found, given)


def description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a fine-tuned folder's model.json says: network, end_point, size, recipe, upright, variant, classes."""
    path = Path(folder) / f"{MODEL}.json"
    said = inert_json.side_file(path, _DESCRIBED, "run inception finetune again")
    said["variant"] = written_variant(json.dumps(said["variant"]), os.fspath(path))
    if not said["classes"] or not _SMALLEST <= said["size"] <= _LARGEST:
        raise ValueError(
            f"{path} says {len(said['classes'])} classes and pictures of {said['size']} pixels, which no fine-tuning "
            "has; run inception finetune again."
        )
    return said


def classifier(classes: int, seed: int = 0) -> Any:
    """The layer that tells the classes apart."""
    import keras

    kernel = keras.initializers.GlorotUniform(seed)
    return keras.layers.Dense(classes, "softmax", kernel_initializer=kernel, name=names.KERAS_LOGITS)


def _cut(variant: Variant, end_point: str, size: int, classes: int) -> keras.Model:
    """An InceptionV3 that ends in a classifier on the pooled map of an end point, without weights."""
    import keras

    from inception.builders.keras import InceptionV3

    base = InceptionV3(
        include_top=False,
        weights=None,
        input_shape=(size, size, variant.channels),
        pooling="avg",
        final_endpoint=end_point,
        depth_multiplier=variant.depth_multiplier,
        min_depth=variant.min_depth,
        variant=variant,
    )
    return keras.Model(base.inputs[0], classifier(classes)(base.outputs[0]), name=base.name)


def assign(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Gives a model the values in a `.keras` file of the same layers, which is read as data only."""
    archive = Archive(path)
    tensors = hdf5.read_pieces(archive.chunks("model.weights.h5"), f"{archive.name}: model.weights.h5").tensors
    for name, variable in _places(model):
        stored = tensors.get(name)
        if stored is None or tuple(stored.shape) != tuple(variable.shape):
            raise CheckpointError(f"{archive.name} has no {name} of shape {tuple(variable.shape)}; fine-tune again.")
        variable.assign(stored.read())


def _places(model: keras.Model) -> Iterator[tuple[str, Any]]:
    """(name in a Keras 3 weight file, variable) of each weight of a flat model."""
    kinds = {"Conv2D": "conv2d", "BatchNormalization": "batch_normalization", "Dense": "dense"}
    weighted = [layer for layer in model.layers if layer.weights]
    groups = keras_config.groups(kinds[type(layer).__name__] for layer in weighted)
    for group, layer in zip(groups, weighted, strict=True):
        for i, variable in enumerate(layer.weights):
            yield f"layers/{group}/vars/{i}", variable
