"""The recipes that people follow, as programs for `keras.applications`: the network is the only thing passed in.

Written after the well-known Keras and TensorFlow examples (weighted DeepDream with octaves and
lost detail, DeepDream by mean activations, Grad-CAM), in the tests' own words and sizes.
"""

import numpy as np
import tensorflow as tf


def resized(image, size):
    return tf.image.resize(image, size)


def as_picture(image):
    pixels = (np.asarray(image) + 1.0) * 127.5
    return np.clip(pixels, 0, 255).astype("uint8")


def weighted_dream(keras, InceptionV3, weights, picture, steps=3):
    """Octaves from small to large, squared activations with weights, the lost detail put back."""
    settings = {"mixed4": 1.0, "mixed5": 1.5, "mixed6": 2.0}
    model = InceptionV3(weights=weights, include_top=False)
    outputs = {name: model.get_layer(name).output for name in settings}
    extractor = keras.Model(inputs=model.inputs, outputs=outputs)

    def loss_of(image):
        features = extractor(image)
        return sum(w * tf.reduce_mean(tf.square(features[n][:, 1:-1, 1:-1, :])) for n, w in settings.items())

    def ascend(image):
        for _ in range(steps):
            with tf.GradientTape() as tape:
                tape.watch(image)
                loss = loss_of(image)
            slopes = tape.gradient(loss, image)
            image += 0.01 * slopes / tf.maximum(tf.reduce_mean(tf.abs(slopes)), 1e-6)
        return image

    original = tf.constant(picture[None] / 127.5 - 1.0, tf.float32)
    height, width = picture.shape[:2]
    sizes = [(int(height / 1.4**k), int(width / 1.4**k)) for k in (1, 0)]
    image = shrunk = resized(original, sizes[0])
    for size in sizes:
        image = ascend(resized(image, size))
        same = resized(original, size)
        image += same - resized(shrunk, size)
        shrunk = same
    return as_picture(image[0])


def mean_dream(keras, InceptionV3, weights, picture, steps=3):
    """Mean activations, sizes by powers of a scale, the gradient over its deviation, values clipped."""
    model = InceptionV3(weights=weights, include_top=False)
    dreamer = keras.Model(model.input, [model.get_layer(name).output for name in ("mixed3", "mixed5")])

    @tf.function
    def step(image):
        with tf.GradientTape() as tape:
            tape.watch(image)
            loss = tf.reduce_sum([tf.reduce_mean(maps) for maps in dreamer(image[None])])
        slopes = tape.gradient(loss, image)
        slopes /= tf.math.reduce_std(slopes) + 1e-8
        return tf.clip_by_value(image + slopes * 0.01, -1, 1)

    image = tf.constant(picture / 127.5 - 1.0, tf.float32)
    for power in (-1, 0):
        size = [int(side * 1.3**power) for side in picture.shape[:2]]
        image = resized(image, size)
        for _ in range(steps):
            image = step(image)
    return as_picture(resized(image, picture.shape[:2]))


def grad_cam(keras, InceptionV3, weights, picture):
    """The last maps, weighted by the mean slopes of the best class, softmax taken off."""
    model = InceptionV3(weights=weights)
    model.layers[-1].activation = None
    both = keras.Model(model.inputs, [model.get_layer("mixed10").output, model.output])
    batch = tf.constant(picture[None] / 127.5 - 1.0, tf.float32)
    with tf.GradientTape() as tape:
        maps, scores = both(batch)
        best = scores[:, int(tf.argmax(scores[0]))]
    slopes = tape.gradient(best, maps)
    heat = tf.squeeze(maps[0] @ tf.reduce_mean(slopes, axis=(0, 1, 2))[:, None])
    return (tf.maximum(heat, 0) / tf.reduce_max(heat)).numpy()
