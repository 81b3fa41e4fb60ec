"""Properties of the four tools: what rises, what stays in range, what moves with what, and what is said."""

import dataclasses
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from made import NARROW, NARROW_NOTOP, on_tensorflow, random_weights
from PIL import Image, ImageDraw

import inception
from inception import images, labels, load_weights, network_of
from inception.builders.keras import model_of
from inception.pictures import NAMED, preprocess_input
from inception.visualize import (
    activations,
    blur,
    deepdream,
    filters,
    gradcam,
    mean_activation,
    spectrum,
    weighted_layers,
)
from inception.visualize import pictures as drawing
from inception.visualize.deepdream import _cuts, tiled
from inception.visualize.filters import OBJECTIVES
from inception.visualize.gradcam import default_point
from inception.visualize.gradient import gradient
from inception.visualize.model_points import open_model, values

PHOTO = images.test_picture(160)[:120]


@pytest.fixture(scope="module")
def narrow():
    return model_of(random_weights(NARROW_NOTOP), input_shape=(None, None, 3))


@pytest.fixture(scope="module")
def classifier():
    return model_of(random_weights(NARROW), input_shape=(107, 107, 3))


@pytest.fixture(scope="module")
def digits(sample):
    """The embedded, trained network, for pictures of any size."""
    return model_of(load_weights(sample).step("drop-aux"), input_tensor=keras.Input((None, None, 3)))


def silent(channel=None):
    """One convolution; one of its channels (or each) does not depend on the picture and is never above zero."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.Conv2D(3, 3, activation="relu", name="conv")(image))
    kernel, bias = (np.array(v) for v in model.get_layer("conv").get_weights())
    kernel[..., slice(None) if channel is None else channel] = 0
    bias[slice(None) if channel is None else channel] = -1
    model.get_layer("conv").set_weights([kernel, bias])
    return model


# --- Activations -----------------------------------------------------------------------


def test_activations_are_the_models_own(classifier):
    found = activations(classifier, PHOTO, ["Mixed_5b", "activation_1"])
    image = NAMED["keras"].at(107).input(PHOTO)[None]
    expected = keras.Model(classifier.input, classifier.get_layer("mixed0").output)(image, training=False)[0]
    np.testing.assert_allclose(found.maps["Mixed_5b"], keras.ops.convert_to_numpy(expected), rtol=1e-5, atol=1e-6)
    assert found.maps["activation_1"].shape == (53, 53, NARROW.table().base[0].depth)


def test_a_dead_channel_is_marked_and_not_drawn_as_the_others(tmp_path):
    found = activations(silent(1), PHOTO, ["conv"], "whole", size=(40, 40))
    assert found.dead["conv"].tolist() == [False, True, False]
    empty = [tile.picture is None for tile in found.tiles("conv")]
    assert empty == [False, False, True] and found.order("conv")[2] == 1  # the last, as the weakest
    path = found.save(tmp_path / "grid.png")
    np.testing.assert_array_equal(np.asarray(Image.open(path)), found.picture())


def test_activations_are_sorted_numbered_and_in_the_proportions_of_the_picture(classifier):
    found = activations(classifier, PHOTO, ["Mixed_5b"], picture="whole")
    means, order = found.maps["Mixed_5b"].mean((0, 1)), found.order("Mixed_5b")
    assert sorted(order) == list(range(len(means))) and (np.diff(means[order]) <= 0).all()
    assert [tile.caption for tile in found.tiles("Mixed_5b", 3)] == [str(c) for c in order[:3]]
    assert {tile.picture.shape for tile in found.tiles("Mixed_5b", 3, 56)} == {(42, 56, 3)}  # 120 x 160 pixels
    np.testing.assert_array_equal(found.photo, PHOTO)
    page = found.picture(3, 3, 56)
    np.testing.assert_array_equal(page[60:210, 14:214], drawing.resize(PHOTO, 150, 200))  # beside the channels
    middle = activations(classifier, PHOTO, ["Mixed_5b"], picture="torchvision")  # which cuts a square out
    top, left, bottom, right = NAMED["torchvision"].at(107).window(120, 160)
    assert left > 20 and abs((right - left) - (bottom - top)) <= 1
    np.testing.assert_array_equal(middle.photo, PHOTO[top:bottom, left:right])


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_picture_says_what_it_is_and_how_it_was_made(ending, tmp_path, monkeypatch):
    path = tmp_path / f"x.{ending}"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/inception", "filters", "-o", "a b.png"])
    drawing.save(PHOTO, path, "Filters of \u202eé", "/home/me/weights.h5")
    with Image.open(path) as picture:
        exif = picture.getexif()
        words = picture.text if ending == "png" else {"all": exif[270], "Software": exif[305]}
    assert words["Software"] == f"inception {inception.__version__}"
    said = "; ".join(words.values())
    assert "weights.h5" in said and "home" not in said and "inception filters -o 'a b.png'" in said
    if ending == "png":
        assert words["Title"] == "Filters of \\u202eé"
    monkeypatch.setattr(sys, "argv", ["/home/me/secret.py", "password"])
    assert drawing.said("x") == {"Title": "x", "Software": words["Software"]}


# --- Filters ---------------------------------------------------------------------------


PLAIN = {"jitter_pixels": 0, "smoothing": lambda slopes: slopes, "blur_sigma": 0.0, "rate": 0.02}


def test_the_loss_rises_over_an_ascent_and_the_pictures_stay_in_range(narrow):
    found = filters(narrow, "Mixed_5b", 4, size=48, steps=16, **PLAIN)
    assert found.losses.shape == (4, 17)
    assert (found.losses[:, -1] > found.losses[:, 0]).all()
    assert (np.diff(found.losses.mean(0)) > 0).mean() > 0.7
    assert found.images.shape == (4, 48, 48, 3) and found.images.dtype == np.uint8


def test_the_loss_rises_with_the_options_that_make_good_pictures(digits):
    found = filters(digits, "Mixed_5b", 8, size=96, steps=24)
    assert (found.losses[:, -1] > found.losses[:, 0]).all() and not found.dead.all()


def test_the_same_seed_gives_the_same_pictures_whichever_channels_are_with_it(narrow):
    first, again, other = (filters(narrow, "Conv2d_2b_3x3", [1, 3], size=40, steps=6, seed=s) for s in (5, 5, 6))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.images != other.images).any()
    alone = filters(narrow, "Conv2d_2b_3x3", [3], size=40, steps=6, seed=5)
    assert np.abs(alone.images[0].astype(int) - first.images[1]).mean() < 1


def test_a_channel_that_is_silent_at_first_is_climbed_all_the_same(narrow):
    """Its value lies below zero in noise: after the ReLU there would be no slope (keras-team/keras#18334)."""
    found = filters(narrow, "Mixed_6a", 8, size=96, steps=16, **PLAIN)
    low = found.losses[:, 0] < 0
    assert low.any() and (found.losses[low, -1] > found.losses[low, 0]).all()


def test_a_dead_channel_is_said_to_be_dead():
    found = filters(silent(1), "conv", size=24, steps=3, picture="whole")
    assert found.dead.tolist() == [False, True, False]
    assert found.section().tiles[1].picture is None and "1 of 3 are dead" in found.section().note
    with pytest.raises(ValueError, match="No channel of conv has a gradient"):
        filters(silent(), "conv", size=24, steps=3, picture="whole")


WAVES = {"parameterisation": "waves", "rate": 0.05, "jitter_pixels": 4}


@pytest.mark.parametrize("objective", ["mean", "centre", "maximum"])
def test_waves_climb_each_objective_and_stay_short_of_the_ends_of_the_range(digits, objective):
    found = filters(digits, "Mixed_5b", 8, size=64, steps=24, objective=objective, **WAVES)
    assert found.losses.shape == (8, 25) and (found.losses[:, -1] > found.losses[:, 0] + 0.3).all()
    pixels = filters(digits, "Mixed_5b", 8, size=64, steps=24, objective=objective)
    ends = [np.mean((images < 8) | (images > 247)) for images in (found.images, pixels.images)]
    assert ends[0] < 0.5 * ends[1]
    again = filters(digits, "Mixed_5b", 8, size=64, steps=24, objective=objective, **WAVES)
    np.testing.assert_array_equal(found.images, again.images)


def test_the_centre_alone_leaves_the_rest_of_the_picture_as_it_began(digits):
    centre, mean = (filters(digits, "Mixed_5b", 4, size=96, steps=24, objective=objective, **WAVES)
                    for objective in ("centre", "mean"))  # fmt: skip
    border = [found.images[:, :12].std() / found.images[:, 36:60, 36:60].std() for found in (centre, mean)]
    assert border[0] < 0.7 * border[1]


def test_each_objective_finds_more_of_what_it_names(digits):
    """Measured on the pictures themselves: the channels' maps before the ReLU, however they were made."""
    opened = open_model(digits)
    tensor = opened.before_activation(opened.map_point("Mixed_5b"))

    def measured(objective):
        found = filters(digits, "Mixed_5b", 8, size=96, steps=24, objective=objective, jitter_pixels=0)
        scaled = network_of(digits).picture.scaled(found.images)
        maps = values(opened, {"maps": tensor}, scaled)["maps"]
        maps = np.stack([maps[i, :, :, channel] for i, channel in enumerate(found.channels)])
        height, width = maps.shape[1:]
        return {"mean": maps.mean((1, 2)), "centre": maps[:, height // 2, width // 2], "maximum": maps.max((1, 2))}

    found = {objective: measured(objective) for objective in OBJECTIVES}
    assert (found["mean"]["mean"] > found["centre"]["mean"]).all()
    assert (found["centre"]["centre"] > found["mean"]["centre"]).all()
    more = found["maximum"]["maximum"] > found["mean"]["maximum"]
    assert more.sum() >= 7  # of 8: the greatest value is a place that a start may miss


@pytest.mark.parametrize(("point", "size"), [("Mixed_7c", 32), ("Mixed_6a", 16), ("Conv2d_2a_3x3", 4)])
def test_a_picture_too_small_for_a_map(narrow, point, size):
    with pytest.raises(ValueError, match=f"size is {size}; a picture of so many pixels leaves no map at {point}"):
        filters(narrow, point, 2, size=size, steps=1)


@pytest.mark.parametrize("field", ["objective", "parameterisation"])
def test_an_ascent_that_there_is_not(narrow, field):
    with pytest.raises(ValueError, match=f"{field} is 'neuron'; expected one of"):
        filters(narrow, "Mixed_5b", 2, **{field: "neuron"})


def test_smoothings():
    noise = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    np.testing.assert_allclose(spectrum(0)(noise)[..., 0] - noise[..., 0],
                               np.full((1, 32, 32), noise[..., 0].mean() * -0.75), atol=1e-5)  # fmt: skip
    assert blur(2)(noise).std() < noise.std() / 3
    np.testing.assert_allclose(blur(2)(noise).mean(), noise.mean(), atol=1e-6)


@pytest.mark.parametrize("channels", [[-1], [99], []])
def test_channels_that_are_not_there(narrow, channels):
    with pytest.raises(ValueError, match="Mixed_5b has the channels 0 to"):
        filters(narrow, "Mixed_5b", channels)


# --- Grad-CAM --------------------------------------------------------------------------


OBJECT = images.test_picture(107)


def scene(left):
    """One photograph's object at some place of a plain ground."""
    canvas = np.full((107, 428, 3), 128, np.uint8)
    canvas[:, left : left + 107] = OBJECT[:, : max(0, 428 - left)]
    return canvas


def detector(base):
    """A classifier of that object: its class is what features of the object have and those of the ground lack."""
    model = keras.Model(base.input, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(base.output)))
    scenes = np.stack([preprocess_input(scene(left)) for left in (160, 9999)])
    seen, plain = base.predict(scenes, verbose=0)
    way, ground = np.mean(seen[:, 5:8], axis=(0, 1)), plain.reshape(-1, plain.shape[-1])
    way = way - np.linalg.pinv(ground) @ (ground @ way)
    model.layers[-1].set_weights([np.stack([-way, way], axis=1), np.zeros(2)])
    return model


def test_the_heat_moves_with_the_object(narrow):
    model, places = detector(narrow), []
    for left in (0, 160, 321):
        cam = gradcam(model, scene(left), 1, "Mixed_7c", picture="whole", size=(107, 428))
        assert cam.heat.shape == (107, 428) and cam.heat.dtype == np.float32
        assert cam.heat.max() > 0.9
        places.append((cam.heat.sum(0) * np.arange(428)).sum() / cam.heat.sum() - left)
    assert all(0 < place < 107 for place in places), places  # the middle of the heat lies on the object


def test_heads_with_and_without_softmax_give_the_same_map(classifier):
    bare = model_of(random_weights(NARROW), input_shape=(107, 107, 3), classifier_activation=None)
    one, other = gradcam(classifier, PHOTO, 2), gradcam(bare, PHOTO, 2)
    np.testing.assert_allclose(one.heat, other.heat, atol=1e-5)
    assert one.heat.shape == PHOTO.shape[:2] and one.point == "Mixed_6e"
    assert one.outputs.sum() == pytest.approx(1, abs=1e-5) and gradcam(classifier, PHOTO).label == one.outputs.argmax()


def test_weights_give_the_map_of_their_model(classifier):
    """The inference engine's maps and the classifier's kernel, against Keras's maps and gradient."""
    weights = random_weights(NARROW)
    for label in (1, None):
        cam, expected = (gradcam(each, PHOTO, label, "Mixed_7c", size=107) for each in (weights, classifier))
        assert (cam.label, cam.point) == (expected.label, "Mixed_7c") and not cam.empty
        np.testing.assert_allclose(cam.maps, expected.maps, rtol=0, atol=1e-5 * expected.maps.max())
        np.testing.assert_allclose(cam.heat, expected.heat, atol=1e-5)
        np.testing.assert_allclose(cam.outputs, expected.outputs, atol=1e-6)
    with pytest.raises(ValueError, match="classes 0 to 6"):
        gradcam(weights, PHOTO, 7, "Mixed_7c")
    name = "InceptionV3/Logits/Conv2d_1c_1x1/weights"
    dead = dataclasses.replace(weights, arrays={**weights.arrays, name: weights.arrays[name] * 0})
    with pytest.raises(ValueError, match="gradient of class 2 at Mixed_7c is zero everywhere"):
        gradcam(dead, PHOTO, 2, "Mixed_7c", size=107)


@pytest.mark.parametrize(
    ("size", "point"), [(299, "Mixed_7c"), (107, "Mixed_6e"), (75, "Mixed_5d"), ((107, 428), "Mixed_6e")]
)
def test_the_default_end_point_is_the_last_that_shows_a_place(size, point):
    weights, sides = random_weights(NARROW), (size, size) if isinstance(size, int) else size
    model = model_of(weights, input_shape=(*sides, 3))
    assert {default_point(network_of(each, size=size)) for each in (weights, model)} == {point}


def test_any_end_point_and_a_branch_beside_which_others_run(classifier):
    sizes = {"Conv2d_1a_3x3": 53, "Mixed_6a": 5, "activation_94": 2}
    maps = {}
    for point, side in sizes.items():
        cam = gradcam(classifier, PHOTO, 1, point)
        maps[point] = cam.maps
        assert cam.point == point and cam.maps.shape == (side, side) and cam.empty == (not cam.heat.any())
    assert any(found.any() for found in maps.values())


def by_hand(kernel):
    """A classifier whose maps are the picture itself: the slope of a class over them is its column of the kernel."""
    image = keras.Input((4, 6, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("linear", name="maps")(image))
    model = keras.Model(image, keras.layers.Dense(kernel.shape[1], use_bias=False)(pooled))
    model.layers[-1].set_weights([kernel])
    return model


def test_the_map_is_what_a_hand_computes():
    kernel = np.array([[1, -1, 0], [-2, 2, 0], [0.5, -0.5, 1]], np.float32)
    photo = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    model, maps = by_hand(kernel), photo / np.float32(127.5) - 1
    for label in range(3):
        evidence = (maps @ kernel[:, label]) / (4 * 6)
        cam = gradcam(model, photo, label, "maps", "whole")
        assert evidence.min() < 0 < evidence.max()
        np.testing.assert_allclose(cam.maps, np.maximum(evidence, 0), rtol=1e-4, atol=1e-7)  # with its ReLU
        np.testing.assert_allclose(cam.heat, cam.maps / evidence.max(), rtol=1e-4, atol=1e-6)
        assert not cam.empty


def words(monkeypatch):
    """What is written into pictures from here on."""
    written, draw = [], ImageDraw.ImageDraw.text

    def text(pen, at, said, *more):
        written.append(said)
        draw(pen, at, said, *more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def test_a_map_without_evidence_says_so(monkeypatch):
    model = by_hand(np.array([[1, -1], [1, -1], [1, -1]], np.float32))
    white = np.full((4, 6, 3), 255, np.uint8)
    written = words(monkeypatch)
    found, empty = (gradcam(model, white, label, "maps", "whole") for label in (0, 1))
    assert not found.empty and (found.heat == 1).all()
    found.picture()
    assert "0, nothing" in written and not any("zero everywhere" in text for text in written)
    assert empty.empty and not empty.maps.any() and not empty.heat.any()
    written.clear()
    empty.picture()
    assert "Nothing at maps speaks for this class:" in written and "0, nothing" not in written
    assert any("its map is zero everywhere" in text for text in written)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_is_not_finite_is_a_sentence(value):
    kernel = np.ones((3, 2), np.float32)
    kernel[0, 1] = value
    with pytest.raises(ValueError, match="The output for class 0 at maps is not finite; check the model's weights"):
        gradcam(by_hand(kernel), np.full((4, 6, 3), 255, np.uint8), 0, "maps", "whole")


def test_vgg16_and_the_range_it_takes():
    model = keras.applications.VGG16(weights=None, input_shape=(64, 64, 3), classes=5)
    cam = gradcam(model, PHOTO, 1, picture="caffe")
    assert cam.point == "block5_conv3" and cam.maps.shape == (4, 4)


def test_the_page_has_names_and_a_legend(classifier, tmp_path):
    cam = gradcam(classifier, PHOTO)
    names = [labels.Label("", f"name {i}") for i in range(7)]
    assert cam.overlay().shape == PHOTO.shape
    assert cam.picture(names).shape[1] > 2 * 300
    assert (cam.picture(names) != cam.picture(names[::-1])).any()
    assert Image.open(cam.save(tmp_path / "cam.webp", names)).format == "WEBP"


def test_a_gradient_of_zeros_is_a_sentence(classifier):
    dead = model_of(random_weights(NARROW), input_shape=(107, 107, 3))
    kernel, bias = dead.get_layer("predictions").get_weights()
    dead.get_layer("predictions").set_weights([kernel * 0, bias])
    with pytest.raises(ValueError, match="gradient of class 2 at Mixed_7c is zero everywhere"):
        gradcam(dead, PHOTO, 2, "Mixed_7c")
    with pytest.raises(ValueError, match="classes 0 to 6"):
        gradcam(classifier, PHOTO, 7)


def test_a_model_without_classes_is_a_sentence(narrow):
    with pytest.raises(ValueError, match="needs one output of class scores"):
        gradcam(narrow, PHOTO)


# --- DeepDream -------------------------------------------------------------------------

RECIPES = {
    "weighted": weighted_layers({"Mixed_5b": 1.0, "Mixed_5d": 0.5}, octaves=2, steps=4),
    "mean": mean_activation(["Mixed_5b", "Mixed_5d"], powers=(-1, 0), steps=4),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_dream_keeps_shape_and_range_and_its_loss_rises(narrow, name):
    steps = []
    dream = deepdream(narrow, PHOTO, RECIPES[name], progress=steps.append)
    assert dream.image.shape == PHOTO.shape and dream.image.dtype == np.uint8
    assert 0.5 < np.abs(dream.image.astype(int) - PHOTO).mean() < 60
    assert [octave.size for octave in dream.octaves][-1] == PHOTO.shape[:2] and len(dream.octaves) == 2
    for octave in dream.octaves:
        assert len(octave.losses) == 5 and octave.losses[-1] > octave.losses[0]
    assert [(s.octave, s.step) for s in steps] == [(o, s) for o in (1, 2) for s in (1, 2, 3, 4)]


def test_a_dream_that_does_not_move_is_the_picture(narrow):
    """Without a step nothing is left of an octave but the detail that its size lost, and that is put back."""
    still = dataclasses.replace(RECIPES["weighted"], rate=0.0, steps=1, sizes=lambda size: [(60, 80), (90, 120), size])
    dream = deepdream(narrow, PHOTO, still)
    assert len(dream.octaves) == 3 and np.abs(dream.image.astype(int) - PHOTO).max() <= 1
    blurred = deepdream(narrow, PHOTO, dataclasses.replace(still, lost_detail=False)).image
    assert np.abs(blurred.astype(int) - PHOTO).max() > 50


def test_the_weighted_recipe_sees_no_borders():
    """Two rows and columns on each side of a map, which see the padding, count for nothing."""
    maps = np.random.default_rng(0).normal(size=(2, 7, 9, 3)).astype(np.float32)
    loss = RECIPES["weighted"].loss
    np.testing.assert_allclose(loss(maps), np.square(maps[:, 2:5, 2:7]).mean((1, 2, 3)), rtol=1e-5)
    _, slopes = gradient(loss, compiled=False)(maps)
    inside = np.zeros((7, 9), bool)
    inside[2:5, 2:7] = True
    assert (slopes[:, inside] != 0).all() and not slopes[:, ~inside].any()


def test_tiles_give_a_seeded_picture_close_to_the_whole_ones(narrow):
    recipe = RECIPES["mean"]
    whole, first, again, other = (
        deepdream(narrow, PHOTO, recipe, tile=tile, seed=seed).image.astype(int)
        for tile, seed in ((512, 0), (80, 1), (80, 1), (80, 2))
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    changes = [(image - PHOTO).ravel() for image in (whole, first)]
    assert np.corrcoef(*changes)[0, 1] > 0.2


def test_every_pixel_lies_in_one_tile_of_bounded_size():
    rng = np.random.default_rng(0)
    for side in (80, 81, 119, 120, 121, 500, 2000):
        for _ in range(50):
            pieces = np.diff(_cuts(side, 80, rng))
            assert pieces.sum() == side and pieces.max() <= 120 and pieces.min() >= 40


def test_tiles_of_a_pointwise_loss_have_the_exact_gradient():
    slope = gradient(lambda x: keras.ops.mean(keras.ops.square(x), axis=(1, 2, 3)))
    image = np.random.default_rng(0).normal(size=(70, 95, 3)).astype(np.float32)
    loss, slopes = tiled(slope, image, 32, np.random.default_rng(1))
    assert loss == pytest.approx(float(np.mean(image**2)), rel=1e-5)
    np.testing.assert_allclose(slopes, 2 * image / image.size, rtol=1e-5, atol=1e-9)


@on_tensorflow
def test_a_step_is_traced_once_for_pictures_of_every_size():
    traces = []

    def loss(x):
        traces.append(1)
        return keras.ops.mean(x, axis=(1, 2, 3))

    slope = gradient(loss)
    for side in (10, 20, 31):
        slope(np.zeros((1, side, side + 3, 3), np.float32))
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("picture", "recipe", "sentence"),
    [
        (PHOTO[:20, :20], None, "20 x 20 pixels is too small to dream of Mixed_6a, Mixed_6c"),
        (PHOTO, mean_activation(["Mixed_9"]), "no end point or layer 'Mixed_9'"),
        (PHOTO / 255, None, "expected a file or pixels 0..255"),
        (PHOTO[:, :, 0], None, "expected a file or pixels 0..255"),
    ],
)
def test_what_cannot_be_dreamt_is_a_sentence(narrow, picture, recipe, sentence):
    with pytest.raises(ValueError, match=sentence):
        deepdream(narrow, picture, recipe)


def test_a_dream_of_nothing_is_a_sentence():
    with pytest.raises(ValueError, match="zero everywhere in this picture"):
        deepdream(silent(), PHOTO, mean_activation("conv", steps=2), picture="whole")


# --- Ranges and files ------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_a_picture_comes_back_from_every_range(name):
    way = NAMED[name]
    values = way.scaled(PHOTO)
    np.testing.assert_array_equal(way.pixels(values), PHOTO)
    low, high = way.limits
    assert (values >= low - 1e-6).all() and (values <= high + 1e-6).all()


@pytest.mark.parametrize(
    ("name", "application"), [("whole", "inception_v3"), ("caffe", "vgg16"), ("torch", "densenet")]
)
def test_the_ranges_are_those_of_keras_applications(name, application):
    expected = getattr(keras.applications, application).preprocess_input(PHOTO.astype(np.float32))
    np.testing.assert_allclose(NAMED[name].scaled(PHOTO), expected, atol=1e-3)


def test_values_beyond_the_range_become_its_ends():
    values = np.array([[[-9.0, 0.0, 9.0]]])
    assert NAMED["whole"].pixels(values).tolist() == [[[0, 128, 255]]]


@pytest.mark.parametrize(("path", "sentence"), [("x.bmp", "no ending of a picture"), ("none/x.png", "does not exist")])
def test_pictures_that_cannot_be_written(tmp_path, path, sentence):
    with pytest.raises(ValueError, match=sentence):
        drawing.save(PHOTO, tmp_path / path)
    assert list(tmp_path.iterdir()) == []


OTHER_BACKEND = """
import numpy as np, keras
from inception.visualize import activations, deepdream, filters, gradcam, mean_activation
image = keras.Input((None, None, 3))
start = keras.initializers.GlorotUniform(3)
x = keras.layers.Conv2D(4, 3, activation="relu", name="conv", kernel_initializer=start)(image)
x = keras.layers.GlobalAveragePooling2D()(x)
model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
photo = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
assert activations(model, photo, ["conv"], "whole", size=(40, 50)).maps["conv"].shape == (38, 48, 4)
found = filters(model, "conv", 2, size=32, steps=5, picture="whole")
assert (found.losses[:, -1] > found.losses[:, 0]).all()
cam = gradcam(model, photo, 1, "conv", "whole")
assert cam.maps.shape == (297, 297) and (cam.maps >= 0).all() and not cam.empty
octave, = deepdream(model, photo, mean_activation("conv", powers=(0,), steps=3), tile=24, picture="whole").octaves
assert octave.losses[-1] > octave.losses[0]
print("works on", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_tools_work_on_other_backends(backend):
    pytest.importorskip(backend)
    environment = {**os.environ, "KERAS_BACKEND": backend}
    run = subprocess.run([sys.executable, "-c", OTHER_BACKEND], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    assert f"works on {backend}" in run.stdout


def test_a_backend_without_gradients_is_a_sentence(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    with pytest.raises(ValueError, match="the backend openvino, which has no gradients; set KERAS_BACKEND"):
        gradient(lambda x: x)


def test_a_recipe_is_data(narrow):
    recipe = dataclasses.replace(RECIPES["weighted"], stop_at=0.0)
    assert all(len(octave.losses) == 1 for octave in deepdream(narrow, PHOTO, recipe).octaves)
