"""What fine-tuning costs: `inception.training.finetune`, and `keras.Model.fit` as its own guide has it.

Both hold out the same part, freeze the same layers and the same statistics, augment with the same Keras layers, and
look at the held-out pictures after every epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmark import contenders, workers

PICTURES, HELD_OUT, EPOCHS, BATCH, BLOCK, SIDE = 320, 0.2, 10, 32, "Mixed_7a", 299
_LAST_FROZEN = "mixed7"  # Keras's name of Mixed_6e, the last layer below `BLOCK`
_RATE = 1e-4


class Cost(NamedTuple):
    """Seconds of the training, imports and the reading of weights left out; of the processor; megabytes at most."""

    seconds: float
    processor: float
    memory: float


def pictures(folder: Path) -> None:
    """Two classes of JPEGs: crops of photographs, as they are and upside down."""
    import skimage.data

    rng = np.random.default_rng(0)
    originals = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea")]
    for i in range(PICTURES):
        whole, half = originals[i % 3], i % 2
        top, left = (int(rng.integers(length - SIDE + 1)) for length in whole.shape[:2])
        crop = whole[top : top + SIDE, left : left + SIDE]
        place = folder / ("as it is", "upside down")[half] / f"{i:03d}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(crop[::-1] if half else crop).save(place, quality=90)


def keras_fit(weights: str, folder: str, out: str) -> Cost:
    """keras.applications' network, its layers frozen up to `BLOCK`, trained by `fit` and saved."""
    import keras
    from keras import layers

    whole = contenders.keras_applications(weights)
    pooled = next(each for each in whole.layers if isinstance(each, layers.GlobalAveragePooling2D))
    base = keras.Model(whole.input, pooled.output)
    below = True
    for layer in base.layers:
        layer.trainable = not below and not isinstance(layer, layers.BatchNormalization)
        below = below and layer.name != _LAST_FROZEN
    image = keras.Input((SIDE, SIDE, 3))
    x = _augmented(image)
    x = layers.Dropout(0.2)(base(layers.Rescaling(1 / 127.5, -1)(x), training=False))
    model = keras.Model(image, layers.Dense(2, "softmax")(x))
    model.compile(keras.optimizers.Adam(_RATE), "sparse_categorical_crossentropy", metrics=["accuracy"])

    def train() -> None:
        sets = keras.utils.image_dataset_from_directory(
            folder, image_size=(SIDE, SIDE), batch_size=BATCH, validation_split=HELD_OUT, subset="both", seed=0,
            verbose=False,
        )  # fmt: skip
        training, held_out = (each.prefetch(2) for each in sets)
        model.fit(training, validation_data=held_out, epochs=EPOCHS, verbose=0)
        Path(out).mkdir()
        model.save(f"{out}/model.keras")

    return _cost(train)


def _augmented(x: Any) -> Any:
    from keras import layers

    x = layers.RandomFlip("horizontal")(x)
    x = layers.RandomTranslation(0.1, 0.1, "nearest")(x)
    return layers.RandomZoom(0.1, fill_mode="nearest")(layers.RandomRotation(0.03, "nearest")(x))


def ours(weights: str, folder: str, out: str, **options: Any) -> Cost:
    """`finetune`: one epoch of the classifier alone, then the blocks; evaluated, drawn and saved."""
    from inception.training import finetune

    network = contenders.load(weights)

    def train() -> None:
        finetune(folder, network, out, unfreeze=BLOCK, epochs=EPOCHS, learning_rate=_RATE, head_epochs=1,
                 validation=HELD_OUT, early_stopping=None, batch_size=BATCH, **options)  # fmt: skip

    return _cost(train)


def _cost(train: Callable[[], None]) -> Cost:
    import keras

    keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)]).predict(np.zeros((1, 1)), verbose=0)  # starts it
    started, before = time.perf_counter(), time.process_time()
    train()
    return Cost(time.perf_counter() - started, time.process_time() - before, workers.peak_memory())
