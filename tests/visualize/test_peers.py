"""The tutorials' programs with the import changed to ours: the same pictures, given the same weights."""

import keras
import numpy as np
import pytest
from made import first, on_tensorflow, random_weights
from visualize import peers

import inception
from inception import images
from inception.variants import KERAS
from inception.visualize import gradcam

SIDES = 140, 160


@pytest.fixture(scope="module")
def picture():
    return images.test_picture(160)[: SIDES[0], : SIDES[1]]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Random weights of the full width with their classifier, and without it, as files that both read."""
    folder = tmp_path_factory.mktemp("weights")
    weights = random_weights(KERAS)
    weights.save(folder / "top.h5")
    weights.step("drop-top").save(folder / "notop.h5")
    return folder


@on_tensorflow
@pytest.mark.parametrize("program", first(1, [peers.mean_dream, peers.weighted_dream]))
def test_a_dream_program_gives_the_same_picture(program, whole, picture):
    theirs = program(keras, keras.applications.InceptionV3, whole / "notop.h5", picture)
    ours = program(keras, inception.InceptionV3, whole / "notop.h5", picture)
    assert theirs.shape == picture.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert np.abs(theirs.astype(int) - picture).mean() > 1  # it did dream


@on_tensorflow
def test_a_grad_cam_program_gives_the_same_map_and_so_does_our_tool(whole):
    picture = images.test_picture()
    theirs = peers.grad_cam(keras, keras.applications.InceptionV3, whole / "top.h5", picture)
    ours = peers.grad_cam(keras, inception.InceptionV3, whole / "top.h5", picture)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    tool = gradcam(inception.InceptionV3(weights=whole / "top.h5"), picture, picture="whole")
    np.testing.assert_allclose(tool.maps / tool.maps.max(), theirs, atol=1e-4)
