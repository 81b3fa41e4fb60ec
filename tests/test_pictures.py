"""The ways of a picture against their originals: TensorFlow's crop and graph, Pillow's resize, torchvision's rule."""

import dataclasses
import json
import warnings

import numpy as np
import pytest
from made import NARROW_NOTOP, random_weights
from PIL import Image

from inception import images, load_weights, pictures
from inception.pictures import NAMED, Picture


@pytest.fixture(scope="module")
def photo():
    return images.test_picture(131)[:, :97]


def test_slims_way_crops_as_central_crop_and_resizes_as_tensorflow_1(photo):
    import tensorflow as tf

    cut = tf.image.central_crop(photo, 0.875)
    pixels = tf.raw_ops.ResizeBilinear(images=cut[None], size=(75, 75), align_corners=False, half_pixel_centers=False)
    np.testing.assert_array_equal(pictures.SLIM.at(75).resized(photo), pixels[0])
    scaled = (pixels[0] / 255 - 0.5) * 2
    np.testing.assert_allclose(pictures.SLIM.at(75).input(photo), scaled, atol=1e-6)


def test_the_way_of_2015_is_what_its_graph_computes(photo):
    import tensorflow as tf

    resized = tf.raw_ops.ResizeBilinear(
        images=photo[None], size=(299, 299), align_corners=False, half_pixel_centers=False
    )[0]
    np.testing.assert_array_equal(pictures.GOOGLE_2015.input(photo), (resized - 128) * 0.0078125)


@pytest.mark.parametrize("shape", [(342, 400), (500, 380), (299, 299), (40, 30)])
@pytest.mark.parametrize(("way", "short", "method"), [("torchvision", 342, "BILINEAR"), ("timm", 341, "BICUBIC"),
                                                      ("keras", 342, "BICUBIC")])  # fmt: skip
def test_the_shorter_side_is_scaled_and_the_middle_cut_out(shape, way, short, method):
    whole = images.test_picture(max(shape))[: shape[0], : shape[1]]
    width, height = (int(short * side / min(shape)) for side in shape[::-1])
    left, top = round((width - 299) / 2), round((height - 299) / 2)
    expected = Image.fromarray(whole).resize((width, height), Image.Resampling[method])
    expected = np.asarray(expected.crop((left, top, left + 299, top + 299)), np.float32)
    np.testing.assert_array_equal(NAMED[way].resized(whole), expected)
    np.testing.assert_array_equal(NAMED[way].input(whole), (expected - 127.5) / np.float32(127.5))


def test_a_strip_of_one_pixel_costs_no_memory():
    strip = np.zeros((1, 60_000, 3), np.uint8)
    assert {picture.at(75).input(strip).shape for picture in NAMED.values()} == {(75, 75, 3)}


@pytest.mark.parametrize("size", [75, (80, 120)])
@pytest.mark.parametrize("name", NAMED)
def test_any_size_and_what_of_a_picture_is_seen(name, size):
    """Pixels outside the window do not matter, those at its edges do."""
    picture, photo = NAMED[name].at(size), images.test_picture(300)[:200]
    top, left, bottom, right = picture.window(200, 300)
    seen = picture.input(photo)
    assert seen.shape == (*picture.sides, 3)
    outside, margin = 255 - photo, 10  # of the resize's filter
    rows = slice(max(top - margin, 0), bottom + margin), slice(max(left - margin, 0), right + margin)
    outside[rows] = photo[rows]
    np.testing.assert_array_equal(picture.input(outside), seen)
    rows, columns = (top, bottom - 6), (left, right - 6)
    for edge in (*(np.s_[i : i + 6] for i in rows), *(np.s_[:, i : i + 6] for i in columns)):
        changed = photo.copy()
        changed[edge] = 255 - changed[edge]
        assert not np.array_equal(picture.input(changed), seen), edge


def test_a_way_as_text_as_json_and_as_a_layers_name():
    odd = Picture((80, 120), False, 0.3, "keep", "bilinear_antialias", True, (1.5, 2, -3e-7), (4, 5, 6), True)
    ways = [*NAMED.values(), odd]
    for way in ways:
        assert pictures.named(str(way)) == way
        assert pictures.from_json(json.loads(json.dumps(way.json()))) == way
        for size in (299, 75, (80, 120)):
            sized = way.at(size)
            name = pictures.input_name(sized, size)
            assert (pictures.from_input_name(name, size) or pictures.KERAS.at(size)) == sized
            assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-"), name  # TensorFlow's scopes take these
    assert str(dataclasses.replace(pictures.SLIM, size=107)) == "slim,size=107"
    assert pictures.named("upright=false", pictures.SLIM) == dataclasses.replace(pictures.SLIM, upright=False)
    assert pictures.named("slim", pictures.KERAS.at(107)) == pictures.SLIM.at(107)


@pytest.mark.parametrize(
    ("way", "sentence"),
    [
        ("vgg", "Unknown way of a picture 'vgg'; expected one of keras, slim, google_2015, torchvision"),
        ("slim,sise=3", "'sise=3' is no field of a picture's way"),
        ("size=", "'size=' is no field"),
        ("size=0", "size is 0; expected pixels"),
        ("crop=2", "crop is 2.0; expected the part"),
        ("crop=nan", "crop is nan"),
        ("resize=nearest", "Unknown resize 'nearest'; expected one of tensorflow1"),
        ("aspect=fit", 'aspect is \'fit\'; expected "squash" or "keep"'),
        ("upright=maybe", "'upright=maybe' is no field"),
        ("scale=0", "Pixels cannot become"),
        ("mean=1:2", "'mean=1:2' is no field"),
    ],
)
def test_what_is_no_way_is_a_sentence(way, sentence):
    with pytest.raises(ValueError) as caught:
        pictures.named(way)
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["x.h5", "x.weights.h5", "x.keras", "x.npz", "x.safetensors", "x.slim.safetensors", "x.pb"]
)
@pytest.mark.parametrize("way", ["slim,size=107", "gluon", "caffe,upright=false", "keras"])
def test_every_format_that_can_carries_the_picture(tmp_path, name, way):
    weights = dataclasses.replace(random_weights(NARROW_NOTOP), picture=pictures.named(way))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weights.save(tmp_path / name)
        assert load_weights(tmp_path / name).picture == weights.picture


def test_the_range_guard_names_the_fix():
    pixels = images.test_picture(20)
    pictures.check_range(pictures.preprocess_input(pixels))
    pictures.check_range(pictures.preprocess_input(pixels, picture="google_2015"), pictures.GOOGLE_2015)
    with pytest.raises(
        ValueError, match=r"from \S+ to 255; these weights take -1 to 1. Give pixels 0..255 to inception"
    ):
        pictures.check_range(pixels.astype(np.float32))
    with pytest.raises(ValueError, match="these weights take -1 to 1"):
        pictures.check_range(pixels - np.float32([103.9, 116.8, 123.7]))  # VGG's
    with pytest.raises(ValueError, match="these weights take -1 to 1"):
        pictures.check_range(np.float32([0, np.nan]))
    with pytest.warns(pictures.SuspiciousRange, match="Were pixels divided by 255"):
        pictures.check_range(pixels / np.float32(255))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.check_range(np.ones((1, 9, 9, 3), np.float32))  # a white picture
        pictures.check_range(pixels / np.float32(255), pictures.NAMED["unit"])
