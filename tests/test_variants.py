"""Variants: what shapes tell of a network, and what they do not."""

import dataclasses

import pytest

from inception import variants
from inception.variants import KERAS, SLIM, Variant, infer


@pytest.mark.parametrize("multiplier", [1.0, 0.5, 0.25, 0.1, 0.15, 0.0625, 1 / 3, 2.0, 0.12])
@pytest.mark.parametrize("floor", [1, 8, 16, 32])
@pytest.mark.parametrize("aux", [False, True])
def test_the_width_is_found_from_shapes_alone(multiplier, floor, aux):
    made = Variant(num_classes=10, depth_multiplier=multiplier, min_depth=floor, aux_logits=aux, aux_kernel=(1, 1))
    assert infer(made.shapes()).shapes() == made.shapes()


@pytest.mark.parametrize("name", list(variants.NAMED))
def test_named_variants_are_found_from_their_shapes(name):
    variant = variants.named(name)
    assert infer(variant.shapes(), variant) == variant


def test_slims_checkpoint_has_388_variables_and_keras_378():
    assert len(SLIM.shapes()) == 388
    assert len(KERAS.shapes()) == 378


def test_a_plain_width_is_said_plainly():
    assert infer(SLIM.shapes()).depth_multiplier == 1.0
    narrow = dataclasses.replace(KERAS, depth_multiplier=0.15, min_depth=8)
    assert infer(narrow.shapes()).depth_multiplier == 0.15


@pytest.mark.parametrize(("kernel", "size"), [((1, 1), 107), ((3, 3), 203), ((5, 5), 299)])
def test_the_auxiliary_kernel_tells_the_size_of_pictures(kernel, size):
    assert dataclasses.replace(SLIM, aux_kernel=kernel).aux_size == size


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="Unknown variant 'vgg'; expected one of keras, slim, google_2015"):
        variants.named("vgg")
