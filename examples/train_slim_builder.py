"""The slim builder trained with the paper's recipe: each of its numbers where a slim program has it.

usage: python examples/train_slim_builder.py [--steps N] [--width 0.1]

A narrow network learns two digits for a few steps. The recipe's averages are made
shorter for that, by the same function that shortens it for Keras.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import _digits
import numpy as np
import tensorflow as tf
import tf_slim as slim

from inception import pictures
from inception.builders.slim import inception_v3, inception_v3_arg_scope
from inception.training import PAPER, Recipe, scaled
from inception.training.folders import read

v1 = tf.compat.v1
SIZE = 107  # the smallest with an auxiliary head
WHOLE = pictures.named("whole").at(SIZE)  # the whole picture, squashed


def losses(recipe: Recipe, pictures: tf.Tensor, labels: tf.Tensor, width: float) -> dict[str, tf.Tensor]:
    """The classifier's loss, the auxiliary head's with its weight, and the decay of all kernels."""
    with slim.arg_scope(inception_v3_arg_scope(recipe.weight_decay, batch_norm_decay=recipe.batch_norm_momentum)):
        logits, end_points = inception_v3(
            pictures, 10, is_training=True, dropout_keep_prob=1 - recipe.dropout, depth_multiplier=width, min_depth=8
        )
    targets = tf.one_hot(labels, 10)
    smoothing = recipe.label_smoothing
    return {
        "classifier": v1.losses.softmax_cross_entropy(targets, logits, 1.0, smoothing),
        "auxiliary": v1.losses.softmax_cross_entropy(targets, end_points["AuxLogits"], recipe.aux_weight, smoothing),
        "decay": tf.add_n(v1.losses.get_regularization_losses()),
    }


def step_of(recipe: Recipe, loss: tf.Tensor) -> tf.Operation:
    """One step: clipped gradients through RMSProp, then batch norm's statistics and the moving averages."""
    step = v1.train.get_or_create_global_step()
    rate = v1.train.exponential_decay(
        recipe.learning_rate, step, round(recipe.epochs_per_decay * recipe.steps_per_epoch), recipe.rate_decay,
        staircase=True,
    )  # fmt: skip
    optimizer = v1.train.RMSPropOptimizer(rate, recipe.rms_decay, recipe.momentum, recipe.epsilon)
    variables = v1.trainable_variables()
    gradients, _ = tf.clip_by_global_norm(tf.gradients(loss, variables), recipe.clip_norm)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):  # else the statistics never move
        update = optimizer.apply_gradients(zip(gradients, variables, strict=True), step)
    if recipe.moving_average is None:
        return update
    with tf.control_dependencies([update]):
        return v1.train.ExponentialMovingAverage(recipe.moving_average, step).apply(variables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=float, default=0.05)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = read(_digits.write(Path(folder), 40))
        x = np.stack([WHOLE.input(path) for path in found.paths])
    recipe = scaled(PAPER, images=len(x), epochs=max(1, given.steps // 3), batch_size=16)
    print(recipe)
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), v1.Session() as session:
        v1.set_random_seed(0)
        pictures = v1.placeholder(tf.float32, [None, SIZE, SIZE, 3])
        labels = v1.placeholder(tf.int64, [None])
        parts = losses(recipe, pictures, labels, given.width)
        step = step_of(recipe, tf.add_n(list(parts.values())))
        session.run(v1.global_variables_initializer())
        for i in range(given.steps):
            rows = rng.choice(len(x), recipe.batch_size, replace=False)
            values, _ = session.run([parts, step], {pictures: x[rows], labels: found.labels[rows]})
            if i % 3 == 0 or i == given.steps - 1:
                print(f"step {i + 1:3}: " + ", ".join(f"{name} {value:.4f}" for name, value in values.items()))
        averages = [v.name for v in v1.global_variables() if "ExponentialMovingAverage" in v.name]
        print(f"{len(v1.trainable_variables())} variables trained, {len(averages)} moving averages kept")


if __name__ == "__main__":
    main()
