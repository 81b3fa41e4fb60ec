"""The loop of epochs on a model of two numbers: order, the best epoch, early stopping, and the state on the disk."""

import json

import keras
import numpy as np
import pytest

from inception.training import loop
from inception.training.loop import Stage

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax")])


def run(net, folder, epochs=4, patience=None, start=np.inf, rate=0.5, seen=None, validation=None):
    def batches(epoch):
        rows = loop.order(len(X), 7, epoch)
        return loop.array_batches(X[rows], Y[rows], 5)

    stage = Stage("head", epochs, rate, patience, None, start)
    rows = [] if seen is None else seen
    return loop.train(net, stage, batches, validation or loop.array_batches(X, Y, 5), folder / "head.npz", rows.append)


def test_an_order_is_of_seed_and_epoch_alone():
    assert loop.order(50, 1, 2).tolist() == loop.order(50, 1, 2).tolist()
    assert sorted(loop.order(50, 1, 2)) == list(range(50))
    assert len({tuple(loop.order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_batches_hold_every_row_once():
    batches = loop.array_batches(X, Y, 5)
    assert [len(batches[i][1]) for i in range(len(batches))] == [5, 5, 2]
    np.testing.assert_array_equal(np.concatenate([batches[i][0] for i in range(3)]), X)


@pytest.mark.parametrize(("labels", "start", "best"), [(Y, np.inf, 4), (1 - Y, np.inf, 1), (Y, 1e-9, 0)])
def test_an_interrupted_training_ends_in_the_numbers_of_one_that_was_not(tmp_path, labels, start, best):
    """Wherever the best epoch is: at the end, before it, or nowhere; the file has one that is the last once."""

    class Stop(Exception):
        pass

    class Stopping(list):
        def append(self, row):
            raise Stop

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    settings = {"validation": loop.array_batches(X, labels, 5), "start": start}
    expected, net = run(first := model(), whole, **settings), model()
    for _ in range(2):
        with pytest.raises(Stop):
            run(net, parts, seen=Stopping(), **settings)
        net = model()  # a new process knows nothing
    found = run(net, parts, **settings)
    assert found.history == expected.history and found.best == expected.best == best
    with np.load(parts / "head.npz") as arrays:
        assert any(name.startswith("best") for name in arrays) == (best < 4)
    for a, b in zip(first.get_weights(), net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_best_epoch_stays_and_patience_ends_it(tmp_path):
    """The labels of the validation set are the wrong way round: each epoch is worse than the one before."""
    net, seen = model(), []
    state = run(net, tmp_path, epochs=9, patience=2, seen=seen, validation=loop.array_batches(X, 1 - Y, 5))
    losses = [row.val_loss for row in state.history]
    assert losses == sorted(losses) and (state.best, len(losses), state.done) == (1, 3, True) and seen == state.history
    assert net.evaluate(X, 1 - Y, verbose=0)[0] == pytest.approx(losses[0], rel=1e-5)


def test_the_start_stays_where_no_epoch_is_better(tmp_path):
    net = model()
    before = net.get_weights()
    state = run(net, tmp_path, epochs=2, start=1e-9)
    assert state.best == 0 and len(state.history) == 2
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_loss_that_is_no_number_is_a_sentence(tmp_path):
    net = model()
    net.set_weights([np.full_like(array, np.nan) for array in net.get_weights()])
    with pytest.raises(ValueError, match="The loss of epoch 1 is nan; a learning rate below 0.5 is needed"):
        run(net, tmp_path)
    assert not list(tmp_path.iterdir())


FORGED = {
    "another stage": lambda s: s["history"][0].update(stage="blocks"),
    "another epoch": lambda s: s["history"][0].update(epoch=2),
    "a best that is none": lambda s: s.update(best=9),
    "a done that is a text": lambda s: s.update(done="no"),
    "no history": lambda s: s.pop("history"),
}


@pytest.mark.parametrize("name", [*FORGED, "another model", "a cut file"])
def test_a_state_that_is_none_of_this_training_is_refused(tmp_path, name):
    net, file = model(), tmp_path / "head.npz"
    run(net, tmp_path, epochs=1)
    if name == "a cut file":
        file.write_bytes(file.read_bytes()[:-9])
    elif name == "another model":
        net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "softmax", use_bias=False)])
    else:
        with np.load(file) as found:
            arrays = dict(found)
        state = json.loads(str(arrays["state"]))
        FORGED[name](state)
        np.savez(file, **arrays | {"state": np.array(json.dumps(state))})
    before = net.get_weights()
    with pytest.raises(ValueError, match=r"head\.npz is damaged \(.*\); delete it, and the stage starts again"):
        run(net, tmp_path)
    for a, b in zip(before, net.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
