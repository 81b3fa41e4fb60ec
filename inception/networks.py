"""The one door: anything a user may hold, as a network with all that belongs to it.

A path, a published id, a folder that fine-tuning or a checkpoint made, `Weights`, or a Keras
model become a `Network`: weights, variant, picture, labels, and the Keras model where there
is one. Every verb and every function comes through here, so that the same network and the
same picture give the same number by whichever way they came in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from inception import brief, images, pictures
from inception import labels as class_names
from inception.brief import one_line
from inception.files import hdf5, inert_json
from inception.files.archive import Archive
from inception.files.errors import safe
from inception.labels import Label
from inception.pictures import ImageLike, Picture, Preprocess
from inception.variants import Variant
from inception.weights import CheckpointError, Weights, formats
from inception.weights.canonical import written
from inception.weights.dialects import keras_config, keras_layers

if TYPE_CHECKING:
    import keras

_DESCRIBED = {"network": str, "end_point": str, "picture": dict, "classes": list[str], "variant": dict}
_FEW_CLASSES = 5  # that are named in a notebook
MODEL = "model"  # a fine-tuned folder's files: model.keras, model.ckpt, model.json, model.labels.txt
# Keras's layers that leave the range of their input alone at inference, besides those that augment, all called Random.
_PASSING = {"Dropout", "SpatialDropout2D", "GaussianDropout", "GaussianNoise", "AlphaDropout", "Identity", "InputLayer",
            "ActivityRegularization"}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Network:
    """A network with all that belongs to it.

    Attributes:
        name: what to call it in a sentence.
        picture: how a picture becomes its input.
        labels: the names of its classes; None without a classifier.
        loaded: the weights, where weights came in.
        model: the Keras model that was given or that a fine-tuned folder describes.
        preprocess: in place of the picture's scaling, for models of other families: pixels float32 [height, width, 3],
            0..255, to the model's input.
    """

    name: str
    picture: Picture
    labels: tuple[Label, ...] | None = None
    loaded: Weights | None = None
    model: keras.Model | None = None
    preprocess: Preprocess | None = None

    __repr__ = one_line

    def _repr_html_(self) -> str:
        """What a notebook shows: what belongs to the network, and its weights."""
        names = [label.name for label in self.labels or ()]
        classes = f"{len(names)}: {', '.join(names[:_FEW_CLASSES])}" + (", ..." if len(names) > _FEW_CLASSES else "")
        rows: list[Any] = [("picture", self.picture), ("classes", classes if names else "no classifier")]
        rows += [("Keras model", self.model.name)] if self.model is not None else []
        rows += [("published as", self.published)] if self.published else []
        weights = self.loaded._repr_html_() if self.loaded is not None else ""
        return brief.card(self.name, brief.table(("network", ""), rows), weights)

    @functools.cached_property
    def inception(self) -> Weights:
        """The weights with this picture; ValueError where there are none of a whole InceptionV3."""
        if self.loaded is not None:
            return dataclasses.replace(self.loaded, picture=self.picture)
        from inception.builders.keras import to_weights

        if inception_in(self.model) is None:
            raise ValueError(f"{self.name} is no whole InceptionV3, whose weights are needed here.")
        return dataclasses.replace(to_weights(self.model), picture=self.picture)

    @functools.cached_property
    def weights(self) -> Weights | None:
        """The weights; None where there are none of a whole InceptionV3."""
        with contextlib.suppress(ValueError):
            return self.inception
        return None

    @property
    def published(self) -> str | None:
        """The id of the published file that the weights are."""
        return None if self.loaded is None else self.loaded.source.published

    def input(self, image: ImageLike) -> np.ndarray:
        """A picture (file, or uint8 [h, w, 3]) as the network takes it: float32 [height, width, 3].

        ValueError for a picture that cannot be read.
        """
        if self.preprocess is None:
            return np.asarray(self.picture.input(image), np.float32)
        return np.asarray(self.preprocess(self.picture.resized(image)), np.float32)

    def built(self, **arguments: Any) -> keras.Model:
        """The Keras model: the one that came in, or the weights' own at the picture's size, without auxiliary head."""
        if self.model is not None:
            return self.model
        from inception.builders.keras import model_of

        weights = self.inception
        weights = weights.step("drop-extra") if weights.extra else weights
        weights = weights.step("drop-aux") if weights.variant.aux_logits else weights
        shape = arguments.pop("input_shape", (*self.picture.sides, weights.variant.channels))
        if None not in shape:
            return model_of(weights, input_shape=shape, **arguments)
        import keras

        image = keras.Input(shape, name=pictures.input_name(self.picture, None))
        return model_of(weights, input_tensor=image, **arguments)


def network_of(
    source: Any,
    *,
    picture: str | Picture | None = None,
    size: int | tuple[int, int] | None = None,
    labels: str | os.PathLike[str] | Sequence[Label] | None = None,
    preprocess: Preprocess | Literal["none"] | None = None,
) -> Network:
    """The network in anything a user may hold.

    Args:
        source: a weight file's path or a published id; a folder that fine-tuning made, or one of its
            files, or a folder with one checkpoint in it; `Weights`; a Keras model, ours or not; a `Network`.
        picture: another way of a picture than the network's own: a name or fields (`pictures.named`), or a `Picture`.
        size: of the input, in place of the network's own.
        labels: a file of class names, one a line, or a sequence of `Label`; None for those that belong to the network.
        preprocess: for a Keras model of another family, what makes its input of pixels 0..255
            (`keras.applications.vgg16.preprocess_input`); "none" for pixels as they are.

    Raises:
        ValueError: where there is no network, or no way to know which values it takes;
            `CheckpointError` (a ValueError) for files that cannot be read.
    """
    network = _found(source, picture is not None or preprocess is not None)
    network = dataclasses.replace(network, picture=pictures.named(picture, network.picture).at(size))
    if preprocess is not None:
        network = _preprocessed(network, _as_they_are if preprocess == "none" else preprocess)
    if labels is None:
        return network
    classes = _classes(network)
    if not classes:
        raise ValueError(f"{network.name} has no classifier, so no class has a name; give weights with top.")
    if isinstance(labels, str | os.PathLike):
        return dataclasses.replace(network, labels=class_names.read(labels, classes))
    if len(labels) != classes:
        raise ValueError(f"{len(labels)} labels are given; {network.name} has {classes} classes.")
    return dataclasses.replace(network, labels=tuple(labels))


def _as_they_are(pixels: np.ndarray) -> np.ndarray:
    return pixels


def _preprocessed(network: Network, preprocess: Preprocess) -> Network:
    """With a scaling of the user's own; of an InceptionV3 it must lead into the range that its weights take."""
    network = dataclasses.replace(network, preprocess=preprocess)
    if network.model is None or inception_in(network.model) is not None:
        pictures.check_range(network.input(images.test_picture(64)), network.picture, "preprocessed pictures")
    return network


def _found(source: Any, said: bool) -> Network:
    """The network as it came. said: which values it takes is given beside it."""
    if isinstance(source, Network):
        return source
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(source, keras.Model):
        return _of_model(source, said)
    if "tf_keras" in sys.modules:
        from inception.builders.keras import refuse_keras_2

        refuse_keras_2(source, "The model")
    if isinstance(source, Weights):
        return _of_weights(source)
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            f"The network is a {type(source).__name__}; expected a path, a published id, a folder, Weights, "
            "or a Keras model."
        )
    if (folder := trained_folder(source)) is not None:
        return _of_folder(folder, Path(source))
    return _of_weights(formats.load(source))


def _of_weights(weights: Weights) -> Network:
    classes = weights.variant.num_classes
    labels = class_names.labels_for(weights.source.path, classes) if classes else None
    return Network(weights.source.path, weights.picture, labels, weights)


def _classes(network: Network) -> int:
    if network.loaded is not None:
        return network.loaded.variant.num_classes
    output = scores_of(network.model)
    if output is None or len(output.shape) != 2 or "Pool" in type(output._keras_history.operation).__name__:
        return 0  # maps, or pooled features
    return int(output.shape[1] or 0)


def scores_of(model: Any) -> Any:
    """What a Keras model ends in; beside an auxiliary head, the predictions. None for other models of several ends."""
    if len(model.outputs) == 1:
        return model.outputs[0]
    return model.output.get("predictions") if isinstance(model.output, dict) else None


# --- Keras models ----------------------------------------------------------------------


def _of_model(model: keras.Model, said: bool) -> Network:
    """A Keras model. An InceptionV3 that takes the model's input as it comes says which values it takes."""
    from inception.builders import keras as builder

    if len(getattr(model, "inputs", None) or ()) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(f"The Keras model {model.name} does not take one batch of images, [n, height, width, 3].")
    inner = inception_in(model)
    if inner is not None:
        picture = builder.picture_of(inner).at(builder.side_of(model.inputs[0]))
    elif said:
        picture = pictures.NAMED["whole"].at(builder.side_of(model.inputs[0]))
    else:
        raise ValueError(
            f"The Keras model {model.name} is no InceptionV3 that takes its pictures as they come: say which values "
            'it takes, with preprocess=keras.applications.vgg16.preprocess_input or "none" (pixels 0..255), or with '
            'picture="caffe" and the like.'
        )
    network = Network(f"The Keras model {model.name}", picture, model=model)
    if not (classes := _classes(network)):
        return network
    known = class_names.imagenet(classes) if inner is model else None
    return dataclasses.replace(network, labels=known or class_names.numbered(classes))


def inception_in(model: keras.Model) -> keras.Model | None:
    """The InceptionV3 that takes a model's input as it comes: the model, or one inside it. None where there is none."""
    import keras

    from inception.builders.keras import end_points

    if isinstance(model, keras.Sequential):
        inside = keras.Model(model.inputs, model.outputs)
        inner = inception_in(inside)
        return model if inner is inside else inner
    tensor = model.inputs[0]
    nodes = [node for level in model._nodes_by_depth.values() for node in level]
    while True:
        readers = [node for node in nodes if any(each is tensor for each in node.input_tensors)]
        if len(readers) != 1:
            return None
        [reader] = readers
        if isinstance(reader.operation, keras.Model):
            return inception_in(reader.operation)
        if isinstance(reader.operation, keras.layers.Conv2D):
            break
        if not _passes(reader.operation):
            return None
        [tensor] = reader.output_tensors
    try:
        end_points(model)
    except ValueError:
        return None
    return model


def _passes(layer: Any) -> bool:
    """Whether it is one of Keras's own layers that leave the range of their input alone; a user's may do anything."""
    import keras

    name = type(layer).__name__
    return type(layer) is getattr(keras.layers, name, None) and (name in _PASSING or name.startswith("Random"))


# --- What `inception finetune` made ----------------------------------------------------


def trained_folder(source: Any) -> Path | None:
    """The folder of a fine-tuning that a path belongs to: it, or one of its files. None for any other path."""
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    folder = path if path.is_dir() else path.parent
    ours = path.is_dir() or path.name in (f"{MODEL}.keras", f"{MODEL}.ckpt")
    return folder if ours and (folder / f"{MODEL}.json").is_file() else None


def _of_folder(folder: Path, path: Path) -> Network:
    said = description(folder)
    labels = tuple(Label("", name) for name in said["classes"])
    if said["network"] != "InceptionV3":
        raise ValueError(
            f"{folder} holds the Keras model {said['network']}, which only Python can load: "
            f'keras.saving.load_model("{folder / MODEL}.keras"), given to the same function with preprocess=.'
        )
    picture: Picture = said["picture"]
    if said["end_point"] == "PreLogits":
        weights = formats.load(folder / f"{MODEL}.keras" if path.is_dir() else path)
        if weights.variant.num_classes != len(labels):
            raise ValueError(
                f"{weights.source.path} has {weights.variant.num_classes} classes and {MODEL}.json beside it names "
                f"{len(labels)}; run inception finetune again."
            )
        return Network(os.fspath(path), picture, labels, weights)
    model = cut(said["variant"], said["end_point"], picture, len(labels))
    assign(model, folder / f"{MODEL}.keras")
    return Network(os.fspath(path), picture, labels, model=model)


def description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What a fine-tuned folder's model.json says: network, end_point, picture, variant, classes."""
    path = Path(folder) / f"{MODEL}.json"
    said = inert_json.side_file(path, _DESCRIBED, "run inception finetune again")
    said["variant"], _ = written(json.dumps(said["variant"]), os.fspath(path))
    try:
        said["picture"] = pictures.from_json(said["picture"])
    except (ValueError, OverflowError) as error:
        told = safe(error, 300)
        raise ValueError(f"{path} is not as it was written ({told}); run inception finetune again.") from error
    if not said["classes"]:
        raise ValueError(f"{path} says no classes, which no fine-tuning has; run inception finetune again.")
    return said


def classifier(classes: int, seed: int = 0) -> Any:
    """The layer that tells the classes apart."""
    import keras

    kernel = keras.initializers.GlorotUniform(seed)
    return keras.layers.Dense(classes, "softmax", kernel_initializer=kernel, name=keras_layers.LOGITS)


def cut(variant: Variant, end_point: str, picture: Picture, classes: int) -> keras.Model:
    """An InceptionV3 that ends in a classifier on the pooled map of an end point, without weights."""
    import keras

    from inception.builders.keras import InceptionV3

    height, width = picture.sides
    base = InceptionV3(
        include_top=False,
        weights=None,
        input_tensor=keras.Input((height, width, variant.channels), name=pictures.input_name(picture, picture.size)),
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
