"""The resize operators against TensorFlow, Pillow, torch where it is there, and what all three once gave."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inception import resize as module
from inception.resize import OPERATORS, resize

SIZES = [(1, 1), (2, 2), (32, 32), (64, 64), (75, 75), (256, 256), (299, 299), (300, 300), (512, 512),
         (37, 700), (900, 2)]  # fmt: skip
PILLOW = {"pillow_bilinear": Image.Resampling.BILINEAR, "pillow_bicubic": Image.Resampling.BICUBIC}
CLOSE = 1e-4  # of 255: the half-pixel operators to torch's and TensorFlow's, which sum in another order


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# name: (pixels, size) of the arrays in resize_golden.npz, which torch 2.13, TensorFlow 2.21 and Pillow 13 made.
# All are cases where Pillow goes across first, as it always did before version 13
GOLDEN = {
    "square": (noise(9, 13, 3, seed=9), (14, 7)),
    "enlarged": (noise(1, 64, 1, seed=64), (1, 299)),
    "shrunk": (noise(1, 700, 1, seed=700), (1, 299)),
}


@pytest.mark.parametrize("case", GOLDEN)
@pytest.mark.parametrize("how", OPERATORS)
def test_what_the_originals_once_gave(how, case):
    pixels, size = GOLDEN[case]
    with np.load(Path(__file__).with_name("resize_golden.npz")) as file:
        expected, whole = file[f"{how}/{case}"], file.get(f"{how}_rounded/{case}")
    np.testing.assert_allclose(resize(pixels, *size, how), expected, rtol=0, atol=CLOSE)
    if whole is not None:
        np.testing.assert_array_equal(resize(pixels, *size, how, rounded=True), whole)


@pytest.mark.parametrize("old", SIZES)
def test_tensorflow1_is_tensorflow_1s_to_the_bit(old):
    import tensorflow as tf

    for kind in (np.uint8, np.float32):
        pixels = noise(*old, 3).astype(kind) / (1 if kind is np.uint8 else np.float32(1.5))
        pixels = pixels.astype(kind)
        for size in ((299, 299), (75, 107), (1, 1)):
            expected = tf.raw_ops.ResizeBilinear(
                images=pixels[None], size=size, align_corners=False, half_pixel_centers=False
            )[0]
            np.testing.assert_array_equal(resize(pixels, *size), expected)


@pytest.mark.parametrize("old", SIZES)
def test_the_half_pixel_ones_are_tensorflows(old):
    import tensorflow as tf

    pixels = noise(*old, 4)
    for size in ((299, 299), (75, 107), (1, 1)):
        for how, antialias in (("bilinear", False), ("bilinear_antialias", True)):
            expected = tf.image.resize(pixels.astype(np.float32), size, antialias=antialias)
            np.testing.assert_allclose(resize(pixels, *size, how), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("old", SIZES)
def test_torchs_are_torchs(old):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    pixels = noise(*old, 3)
    nchw = torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1)[None]
    for size in ((299, 299), (75, 107), (1, 1)):
        theta = torch.eye(2, 3)
        theta[:, 2] += torch.tensor([1 / old[1] - 1 / size[1], 1 / old[0] - 1 / size[0]])
        grid = functional.affine_grid(theta[None], [1, 3, *size], align_corners=False)
        originals = {
            "affine_grid": functional.grid_sample(nchw, grid, padding_mode="border", align_corners=False),
            "bilinear": functional.interpolate(nchw, size, mode="bilinear"),
            "bilinear_antialias": functional.interpolate(nchw, size, mode="bilinear", antialias=True),
        }
        for how, expected in originals.items():
            expected = expected[0].permute(1, 2, 0).numpy()
            np.testing.assert_allclose(resize(pixels, *size, how), expected, rtol=0, atol=CLOSE, err_msg=how)


@pytest.mark.parametrize("old", SIZES)
@pytest.mark.parametrize("how", PILLOW)
def test_pillows_are_pillows_on_whole_pictures_to_the_bit(old, how, monkeypatch):
    monkeypatch.setattr(module, "_STRIP", 5000)  # so that these pictures go in several strips
    pixels = noise(*old, 3)
    for size in ((299, 299), (75, 107), (1, 1)):
        whole = Image.fromarray(pixels).resize(size[::-1], PILLOW[how])
        np.testing.assert_array_equal(resize(pixels, *size, how, rounded=True), whole)
        channels = [Image.fromarray(pixels[..., i].astype(np.float32)) for i in range(3)]
        floats = np.stack([channel.resize(size[::-1], PILLOW[how]) for channel in channels], -1)
        np.testing.assert_array_equal(resize(pixels, *size, how), np.clip(floats, 0, 255))


@pytest.mark.parametrize("how", OPERATORS)
@pytest.mark.parametrize("rounded", [False, True])
def test_channels_kinds_and_views_change_nothing(how, rounded):
    pixels = noise(41, 30, 5)
    expected = resize(pixels, 17, 75, how, rounded=rounded)
    assert expected.dtype == np.float32 and expected.shape == (17, 75, 5) and expected.flags.c_contiguous
    assert not rounded or (expected == np.rint(expected)).all()
    assert expected.min() >= 0 and expected.max() <= 255
    turned = np.ascontiguousarray(pixels[::-1].swapaxes(0, 1)).swapaxes(0, 1)[::-1]
    for same in (pixels.astype(np.float32), turned):
        np.testing.assert_array_equal(resize(same, 17, 75, how, rounded=rounded), expected)
    for i in range(5):
        alone = resize(pixels[..., i : i + 1], 17, 75, how, rounded=rounded)
        np.testing.assert_array_equal(alone, expected[..., i : i + 1])
    if how != "affine_grid":
        np.testing.assert_array_equal(resize(pixels, 41, 30, how, rounded=rounded), pixels)


def test_rounding_is_half_to_even():
    pixels = np.float32([[[0]], [[1]], [[2]], [[3]]])
    found = resize(pixels, 8, 1, rounded=True)  # 0, 0.5, 1, 1.5, ...
    assert found.ravel().tolist() == [0, 0, 1, 2, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("shape", "size", "how", "message"),
    [
        ((4, 4, 3), (9, 9), "nearest", "Unknown resize operator 'nearest'; expected one of tensorflow1, aff"),
        ((4, 4), (9, 9), "bilinear", r"Pixels of shape \(4, 4\) cannot be resized to 9 x 9; expected"),
        ((0, 4, 3), (9, 9), "pillow_bicubic", r"shape \(0, 4, 3\)"),
        ((4, 4, 3), (0, 9), "tensorflow1", "to 0 x 9"),
    ],
)
def test_nonsense_is_refused(shape, size, how, message):
    with pytest.raises(ValueError, match=message):
        resize(np.zeros(shape, np.uint8), *size, how)
