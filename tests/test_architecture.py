"""The table and its walk, against published counts and slim's published shapes."""

import pytest

from inception import architecture
from inception.architecture import Conv, Place, Pool, Table, convolutions, count, end_point_shapes, table, walk

# tf-slim's own list for 299x299 images.
SLIM_SHAPES = {
    "Conv2d_1a_3x3": (149, 149, 32),
    "Conv2d_2a_3x3": (147, 147, 32),
    "Conv2d_2b_3x3": (147, 147, 64),
    "MaxPool_3a_3x3": (73, 73, 64),
    "Conv2d_3b_1x1": (73, 73, 80),
    "Conv2d_4a_3x3": (71, 71, 192),
    "MaxPool_5a_3x3": (35, 35, 192),
    "Mixed_5b": (35, 35, 256),
    "Mixed_5c": (35, 35, 288),
    "Mixed_5d": (35, 35, 288),
    "Mixed_6a": (17, 17, 768),
    "Mixed_6b": (17, 17, 768),
    "Mixed_6c": (17, 17, 768),
    "Mixed_6d": (17, 17, 768),
    "Mixed_6e": (17, 17, 768),
    "Mixed_7a": (8, 8, 1280),
    "Mixed_7b": (8, 8, 2048),
    "Mixed_7c": (8, 8, 2048),
}


def test_the_18_end_points_and_their_shapes():
    assert tuple(SLIM_SHAPES) == architecture.END_POINTS
    assert end_point_shapes(table(), 299, 299) == SLIM_SHAPES


def test_94_convolutions_and_two_of_the_auxiliary_head():
    assert len(convolutions(table(aux_logits=False))) == 94
    assert [p.path for p in convolutions(table())[94:]] == ["AuxLogits/Conv2d_1b_1x1", "AuxLogits/Conv2d_2a_5x5"]


def test_parameters_are_the_published_ones():
    assert count(Table(table().base)) == 21_802_784  # slim's test, Keras notop
    assert count(table(aux_logits=False)) == 23_851_784  # Keras with top
    with_gamma = count(table(), lambda place: place.parameters(gamma=True, trainable_only=True))
    assert with_gamma == 27_161_264  # torchvision, both heads
    assert count(table(aux_logits=False), lambda p: p.parameters(True, True)) == 23_834_568  # torchvision, aux off


def test_multiply_adds():
    base = Table(table().base)
    assert count(base, lambda place: place.multiply_adds) == pytest.approx(5.71e9, rel=0.01)  # the paper's "5 billion"
    assert walk(base)[0].multiply_adds is None  # unknown size
    first = walk(base, 299, 299)[0]
    assert first.multiply_adds == 149 * 149 * 32 * 3 * 3 * 3


def test_paths_are_unique_and_slims_five_exceptions_are_there():
    paths = [p.path for p in walk(table()) if isinstance(p.node, Conv | Pool)]
    assert len(set(paths)) == len(paths)
    assert {
        "Mixed_5c/Branch_1/Conv2d_0b_1x1",
        "Mixed_5c/Branch_1/Conv_1_0c_5x5",
        "Mixed_6a/Branch_0/Conv2d_1a_1x1",
        "Mixed_6a/Branch_1/Conv2d_1a_1x1",
        "Mixed_7b/Branch_1/Conv2d_0b_3x1",
        "Mixed_7c/Branch_1/Conv2d_0c_3x1",
    } <= set(paths)
    assert "Mixed_7b/Branch_1/Conv2d_0c_3x1" not in paths


@pytest.mark.parametrize(
    ("size", "mixed_6e", "mixed_7c", "aux"),
    [(107, 5, 2, "1x1"), (150, 7, 3, "1x1"), (224, 12, 5, "3x3"), (256, 14, 6, "4x4"), (299, 17, 8, "5x5"),
     (346, 19, 9, "5x5"), (512, 30, 14, "5x5")],
)  # fmt: skip
def test_other_sizes(size, mixed_6e, mixed_7c, aux):
    places = {p.path: p for p in walk(table(), size, size)}
    assert places["Mixed_6e"].output_shape[:2] == (mixed_6e, mixed_6e)
    assert places["Mixed_7c"].output_shape[:2] == (mixed_7c, mixed_7c)
    assert f"AuxLogits/Conv2d_2a_{aux}" in places


@pytest.mark.parametrize(("size", "logits"), [(299, 1), (346, 1), (512, 4)])
def test_slims_head_pool_moves_by_two(size, logits):
    assert walk(table(), size, size)[-1].output_shape == (logits, logits, 1000)


def test_unknown_and_oblong_sizes():
    assert end_point_shapes(table())["Mixed_7c"] == (None, None, 2048)
    assert end_point_shapes(table(), 299, 150)["Mixed_7c"] == (8, 3, 2048)
    assert end_point_shapes(table(), None, 299)["Mixed_6e"] == (None, 17, 768)


def test_75_is_the_smallest_size_and_107_with_the_head():
    assert end_point_shapes(table(), 75, 75)["Mixed_7c"] == (1, 1, 2048)
    assert walk(table(), 107, 107)
    with pytest.raises(ValueError, match=r"Mixed_7a.* map of 2x2 is too small.*at least 75x75"):
        walk(table(aux_logits=False), 74, 74)
    with pytest.raises(ValueError, match=r"AuxLogits.* map of 4x4 is too small.*107x107 with the AuxLogits head"):
        walk(table(), 106, 106)


@pytest.mark.parametrize(("multiplier", "floor"), [(0.5, 16), (2.0, 16), (0.1, 16), (0.1, 4)])
def test_width(multiplier, floor):
    wide = convolutions(table())
    for place, full in zip(convolutions(table(depth_multiplier=multiplier, min_depth=floor)), wide, strict=True):
        assert place.node.depth == max(int(full.node.depth * multiplier), floor)


def test_the_classifiers_are_not_scaled():
    convs = [p.node for p in walk(table(10, depth_multiplier=0.1)) if isinstance(p.node, Conv)]
    assert [node.depth for node in convs if not node.batch_norm] == [10, 10]


@pytest.mark.parametrize("multiplier", [0, -0.5, float("nan")])
def test_a_depth_multiplier_must_be_positive(multiplier):
    with pytest.raises(ValueError, match="expected a number greater than zero"):
        table(depth_multiplier=multiplier)


def test_up_to_cuts_the_base_and_names_the_known_rows():
    cut = table().up_to("Mixed_5d")
    assert [row.name for row in cut.base] == list(SLIM_SHAPES)[:10]
    assert not cut.logits
    with pytest.raises(ValueError, match="Unknown final_endpoint 'Mixed_9x'; expected one of Conv2d_1a_3x3"):
        table().up_to("Mixed_9x")


def test_without_classes_there_are_no_heads():
    for none in (None, 0):
        assert table(none).aux_logits == () == table(none).logits


def test_the_last_pool_of_2015():
    kinds = [p.node.kind for p in walk(table(last_pool="max")) if p.path == "Mixed_7c/Branch_3/AvgPool_0a_3x3"]
    assert kinds == ["max"]
    assert sum(isinstance(p.node, Pool) and p.node.kind == "max" for p in walk(table())) == 4


def test_variables_have_slims_names_and_shapes():
    first = walk(table())[0]
    assert first.variables() == {
        "weights": (3, 3, 3, 32),
        "BatchNorm/beta": (32,),
        "BatchNorm/moving_mean": (32,),
        "BatchNorm/moving_variance": (32,),
    }
    assert "BatchNorm/gamma" in first.variables(gamma=True)
    last = walk(table(1001))[-1]
    assert last.variables() == {"weights": (1, 1, 2048, 1001), "biases": (1001,)}
    assert Place.parameters(last) == 2048 * 1001 + 1001
