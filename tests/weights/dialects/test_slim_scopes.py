"""slim's checkpoints under other scopes, and with scopes left out."""

import pytest
from made import NARROW, NARROW_AUX, assert_same, random_weights

from inception import load_weights
from inception.files.tensorflow import tensor_bundle
from inception.weights import CheckpointError, MissingTensor, UnsupportedFeature
from inception.weights.formats import slim_checkpoint

HEADS = ("InceptionV3/Logits", "InceptionV3/AuxLogits")


def saved(path, *networks):
    """A checkpoint with each (scope, weights)."""
    arrays = {
        f"{scope}{name.removeprefix('InceptionV3/')}": array
        for scope, weights in networks
        for name, array in weights.arrays.items()
    }
    tensor_bundle.write(str(path), arrays)
    return path


@pytest.mark.parametrize("scope", ["tower_0/InceptionV3/", "MyNet/", "a/b/InceptionV3/", ""])
def test_the_network_may_stand_in_any_scope(tmp_path, scope):
    weights = random_weights(NARROW_AUX)
    assert_same(load_weights(saved(tmp_path / "m.ckpt", (scope, weights))), weights)


def test_two_networks_are_refused_until_one_is_excluded(tmp_path):
    first, second = random_weights(NARROW, seed=1), random_weights(NARROW, seed=2)
    path = saved(tmp_path / "m.ckpt", ("InceptionV3/", first), ("teacher/InceptionV3/", second))
    with pytest.raises(UnsupportedFeature, match=r"2 times \(in InceptionV3/, teacher/InceptionV3/\)"):
        load_weights(path)
    assert_same(slim_checkpoint.read(path, exclude=["teacher"]), first)
    assert_same(slim_checkpoint.read(path, exclude=["InceptionV3"]), second)


@pytest.mark.parametrize("exclude", [HEADS, ("Logits", "AuxLogits"), ("Logits/", "InceptionV3/AuxLogits/")])
def test_heads_left_out_leave_the_base(tmp_path, exclude):
    weights = random_weights(NARROW_AUX)
    path = saved(tmp_path / "m.ckpt", ("InceptionV3/", weights))
    base = slim_checkpoint.read(path, exclude=exclude)
    assert_same(base, weights.step("drop-top"))
    assert "left out, as asked" in base.source.notes[0]


def test_one_head_left_out(tmp_path):
    weights = random_weights(NARROW_AUX)
    path = saved(tmp_path / "m.ckpt", ("InceptionV3/", weights))
    assert_same(slim_checkpoint.read(path, exclude=["AuxLogits"]), weights.step("drop-aux"))
    with pytest.raises(CheckpointError, match="no AuxLogits without Logits"):
        slim_checkpoint.read(path, exclude=["Logits"])


def test_what_excludes_too_much_or_nothing_is_an_error(tmp_path):
    path = saved(tmp_path / "m.ckpt", ("InceptionV3/", random_weights(NARROW)))
    with pytest.raises(CheckpointError, match="no variables under Logit;"):
        slim_checkpoint.read(path, exclude=["Logit"])
    with pytest.raises(MissingTensor, match="Mixed_7a"):
        slim_checkpoint.read(path, exclude=["Mixed_7a"])
    with pytest.raises(UnsupportedFeature, match="without variables"):
        slim_checkpoint.read(path, exclude=["InceptionV3"])
