"""KID, Inception Score, precision/recall and density/coverage: definitions written out, and the peers' numbers."""

import itertools

import numpy as np
import pytest
from made_features import features, logits

from inception import metrics
from inception.metrics import Splits, kernel
from inception.metrics.inception_score import TF_GAN, TORCH_FIDELITY, TORCHMETRICS

X, Y = features(1200, 1, shift=0.05), features(1500, 2)
WIDE = features(1200, 1, shift=0.05, dtype=float), features(1500, 2, dtype=float)


def mmd2(x, y):
    """The definition, pair by pair."""
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    n, m = len(x), len(y)
    inner = [(k(z, z).sum() - np.trace(k(z, z))) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return sum(inner) - 2 * k(x, y).sum() / (n * m)


# torch-fidelity 0.4.0 (seed 2020), clean-fid 0.1.35 (numpy.random.seed(3)), five subsets of float64 features
KIDS = {
    "torch-fidelity": (kernel.Subsets(count=5, seed=2020, smaller=False), 0.02791217188451327, 0.015031983418906804),
    "clean-fid": (kernel.Subsets(count=5, seed=3), 0.01932843482084136, None),
}


@pytest.mark.parametrize("name", KIDS)
@pytest.mark.parametrize(("sets", "rel"), [(WIDE, 1e-11), ((X, Y), 1e-5)])
def test_kid_with_the_peers_draw(name, sets, rel):
    subsets, value, deviation = KIDS[name]
    measured = metrics.kid(*sets, subsets)
    assert measured.value == pytest.approx(value, rel=rel)
    assert deviation is None or measured.error == pytest.approx(deviation, rel=rel)


def test_kid_is_the_peers():
    torch, peer = pytest.importorskip("torch"), pytest.importorskip("torch_fidelity.metric_kid")
    clean = pytest.importorskip("cleanfid.fid")
    theirs = peer.kid_features_to_metric(*map(torch.from_numpy, WIDE), kid_subsets=20, verbose=False)
    ours = metrics.kid(*WIDE, kernel.Subsets(count=20, seed=2020, smaller=False))
    assert [ours.value, ours.error] == pytest.approx([*theirs.values()], rel=1e-11)
    for x, y in (WIDE, (WIDE[0][:200], WIDE[1][:300])):
        np.random.seed(11)
        theirs = clean.kernel_distance(y, x, num_subsets=20)  # the generated set is its second
        assert metrics.kid(x, y, kernel.seeded(kernel.Subsets(count=20), 11)).value == pytest.approx(theirs, rel=1e-11)


def test_who_is_drawn_first():
    subsets = kernel.Subsets(count=4, size=50, seed=1, first="y")
    random = np.random.RandomState(1)
    values = []
    for _ in range(4):
        y = WIDE[1][random.choice(1500, 50, replace=False)]
        values.append(mmd2(WIDE[0][random.choice(1200, 50, replace=False)], y))
    assert metrics.kid(*WIDE, subsets).value == pytest.approx(np.mean(values), rel=1e-11)
    assert metrics.kid(*WIDE, kernel.Subsets(count=4, size=50, seed=1)).value != pytest.approx(
        np.mean(values), rel=1e-6
    )


def test_consecutive_blocks_as_tf_gan_cuts_them():
    x, y = WIDE[0][:105], WIDE[1][:90]  # 11 blocks: of 9 and 10 rows, of 8 and 9
    edges = [np.cumsum([0] + [9] * 5 + [10] * 6), np.cumsum([0] + [8] * 9 + [9] * 2)]
    values = [mmd2(x[a:b], y[c:d]) for (a, b), (c, d) in zip(*map(itertools.pairwise, edges), strict=True)]
    measured = metrics.kid(x, y, kernel.Subsets(size=10, count=None))
    assert measured.value == pytest.approx(np.mean(values), rel=1e-11)
    assert measured.error == pytest.approx(np.std(values, ddof=1) / 11**0.5, rel=1e-11)
    assert metrics.kid(x, y, kernel.TF_GAN).error is None


def test_kid_of_all_pairs_is_the_definition_and_its_jackknife():
    assert metrics.kid(*WIDE).value == pytest.approx(mmd2(*WIDE), rel=1e-11)  # more than one block
    assert metrics.kid(X, Y).value == pytest.approx(mmd2(*WIDE), rel=1e-6)
    x, y = WIDE[0][:30], WIDE[1][:25]
    variance = 0
    for mine, value in ((x, lambda z: mmd2(z, y)), (y, lambda z: mmd2(x, z))):
        without = np.array([value(np.delete(mine, i, axis=0)) for i in range(len(mine))])
        variance += (len(mine) - 1) * without.var()
    assert metrics.kid(x, y).error == pytest.approx(variance**0.5, rel=1e-10)
    same = metrics.kid(WIDE[0], WIDE[0]).value
    assert same == pytest.approx(mmd2(WIDE[0], WIDE[0]), rel=1e-9) and same < 0


def test_few_large_features_in_float32_lose_nothing():
    """A network with random weights: the kernel is a thousand times the distance, and 40 rows have no average."""
    x, y = 30 * X[:40], 30 * Y[:40]
    exact = mmd2(x.astype(float), y.astype(float))
    assert metrics.kid(x, y).value == pytest.approx(exact, rel=1e-9)
    assert metrics.kid(x, y, kernel.Subsets(count=2)).value == pytest.approx(exact, rel=1e-9)


def test_kids_error_is_the_spread_of_repeated_measurements():
    repeated = [metrics.kid(features(300, i, 16, 0.1), features(300, 500 + i, 16)) for i in range(120)]
    assert np.mean([each.error for each in repeated]) == pytest.approx(np.std([e.value for e in repeated]), rel=0.15)


def test_kid_asks_for_the_rows_of_a_subset():
    with pytest.raises(ValueError, match="x: 500 rows; expected at least 1000"):
        metrics.kid(X[:500], Y, kernel.TORCH_FIDELITY)
    with pytest.raises(ValueError, match="in 600 blocks"):
        metrics.kid(X, Y[:700], kernel.Subsets(size=2, count=None))
    for given, said in (({"size": 1}, "size is 1"), ({"count": 0}, "count is 0"), ({"first": "z"}, "first is 'z'")):
        with pytest.raises(ValueError, match=said):
            kernel.Subsets(**given)


# torch-fidelity 0.4.0 of the same logits, with and without its shuffle
SCORES = {
    TORCH_FIDELITY: (21.768718345197097, 0.670491733393056),
    Splits(): (21.774808058346686, 1.1230437679319893),
}


@pytest.mark.parametrize("splits", SCORES)
def test_the_peers_inception_score(splits):
    measured = metrics.inception_score(logits(1003), splits)
    assert (measured.value, measured.error) == pytest.approx(SCORES[splits], rel=1e-11)


def test_inception_score_is_the_peers():
    torch, peer = pytest.importorskip("torch"), pytest.importorskip("torch_fidelity.metric_isc")
    theirs = peer.isc_features_to_metric(torch.from_numpy(logits(777)), splits=7)
    ours = metrics.inception_score(logits(777), Splits(7, seed=2020))
    assert [ours.value, ours.error] == pytest.approx([*theirs.values()], rel=1e-11)


def softmax_score(part):
    p = np.exp(part.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    return np.exp(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(axis=0))), axis=1)))


def test_how_each_peer_splits():
    rows = logits(1003)
    for splits, parts in (
        (Splits(count=None, size=400), [(0, 400), (400, 800), (800, 1003)]),  # ADM's, of 5000
        (Splits(count=4, rest="dropped"), [(0, 250), (250, 500), (500, 750), (750, 1000)]),
        (Splits(count=4, rest="last", ddof=1), [(0, 251), (251, 502), (502, 753), (753, 1003)]),
        (Splits(count=4), [(0, 250), (250, 501), (501, 752), (752, 1003)]),
    ):
        expected = [softmax_score(rows[start:stop]) for start, stop in parts]
        measured = metrics.inception_score(rows, splits)
        assert measured.value == pytest.approx(np.mean(expected), rel=1e-11)
        assert measured.error == pytest.approx(np.std(expected, ddof=splits.ddof), rel=1e-10)
    assert TORCHMETRICS.edges(25) == [0, 3, 6, 9, 12, 15, 18, 21, 24, 25]  # torch.chunk makes nine
    assert metrics.inception_score(rows, TF_GAN).error is None


def test_scores_at_the_ends():
    sure = np.full((40, 4), -1e4)
    sure[np.arange(40), np.arange(40) % 4] = 1e4
    assert metrics.inception_score(sure).value == pytest.approx(4, rel=1e-12)
    assert metrics.inception_score(np.zeros((40, 4))).value == pytest.approx(1, rel=1e-12)
    sure[:, 3] = -np.abs(sure[:, 3])  # a class that nobody has
    assert metrics.inception_score(sure[sure.max(axis=1) > 0], TF_GAN).value == pytest.approx(3, rel=1e-12)


def test_splits_that_cannot_be():
    with pytest.raises(ValueError, match="5 rows leave some of 10 splits empty"):
        metrics.inception_score(logits(5))
    for given, said in (({"size": 5}, "expected one of them"), ({"rest": "lost"}, "rest is 'lost'"),
                        ({"count": 0}, "count is 0")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            Splits(**given)


def balls(x, y, k, compare):
    """The definition, from differences: P, R, density and coverage."""
    between = np.array([((row - y) ** 2).sum(axis=1) for row in x.astype(float)])
    radii = [np.sort([((row - z) ** 2).sum(axis=1) for row in z.astype(float)], axis=1)[:, k] for z in (x, y)]
    inside_y, inside_x = compare(between, radii[1]), compare(between, radii[0][:, None])
    return (
        inside_y.any(axis=1).mean(),
        inside_x.any(axis=0).mean(),
        inside_y.sum() / (k * len(x)),
        inside_y.any(0).mean(),
    )


def ours(x, y, k, compare):
    near, dense = (
        metrics.precision_recall(x, y, k=k, compare=compare),
        metrics.density_coverage(x, y, k=k, compare=compare),
    )
    return near.precision, near.recall, dense.density, dense.coverage


def with_copies():
    """Copies within a set, of the other set, and neighbours that float32 products cannot tell apart, far from 0."""
    x, y = features(300, 1) + 100, features(260, 2) + 100
    x[50:90] = y[:40]
    x[100:140] = np.nextafter(y[100:140], np.float32(0))
    y[200:210] = y[199]
    x[250:], y[250:] = 103, 103
    return x, y


@pytest.mark.parametrize(("compare", "function"), [("<=", np.less_equal), ("<", np.less)])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_balls_are_the_definition(k, compare, function, monkeypatch):
    monkeypatch.setattr("inception.metrics.manifold._TILE", 77)  # several, and a short one at the end
    for x, y in ((X[:300], Y[:400]), with_copies(), (X[:200], X[:200]), (X[:13], Y[:20])):
        assert ours(x, y, k, compare) == balls(x, y, k, function)


def test_the_peers_balls():
    """torch-fidelity 0.4.0 and prdc 0.2 of these features; numbers of pictures."""
    near = metrics.precision_recall(X, Y)
    assert (near.precision * 1200, near.recall * 1500) == pytest.approx((999, 1247))
    near, dense = metrics.precision_recall(X, Y, k=5, compare="<"), metrics.density_coverage(X, Y)
    assert (near.precision * 1200, near.recall * 1500) == pytest.approx((1091, 1352))
    assert (dense.density * 6000, dense.coverage * 1500) == pytest.approx((5621, 1411))


def test_balls_are_the_peers():
    torch, peer = pytest.importorskip("torch"), pytest.importorskip("torch_fidelity.metric_prc")
    prdc = pytest.importorskip("prdc")
    theirs = peer.prc_features_to_metric(torch.from_numpy(X), torch.from_numpy(Y), verbose=False)
    near = metrics.precision_recall(X, Y)
    assert [near.precision, near.recall] == pytest.approx([theirs["precision"], theirs["recall"]], abs=1e-6)
    theirs = prdc.compute_prdc(Y, X, 5)
    assert ours(X, Y, 5, "<") == pytest.approx([theirs[k] for k in ("precision", "recall", "density", "coverage")])


def test_what_balls_cannot_be_made_of():
    for call, said in (
        (lambda: metrics.precision_recall(X, Y[:3]), "y: 3 rows; expected at least 4"),
        (lambda: metrics.density_coverage(X, Y, k=0), "k is 0"),
        (lambda: metrics.precision_recall(X, Y, compare="=="), "compare is '=='"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.parametrize("name", ["fid", "kid", "mifid", "fid_infinity", "precision_recall", "density_coverage"])
def test_every_metric_checks_its_arrays(name):
    hole = Y.copy()
    hole[17, 3] = np.nan
    for x, y, said in (
        (X, hole, "y: NaN or infinity in row 17"),
        (X[0], Y, r"x: float32 of shape \(64,\)"),
        (X, Y[:, :60], "y: 60 features a picture, the other set has 64"),
        (X[:1], Y, "x: 1 rows"),
        (X, Y.astype(str), "expected real numbers"),
        (X, Y.astype(complex), "expected real numbers"),
        (X, Y.astype(float) * 1e20, "y: a number as large as .*: scale both sets"),
    ):
        with pytest.raises(ValueError, match=said) as raised:
            getattr(metrics, name)(x, y)
        assert str(raised.value).count("\n") == 0


def test_what_overflows_is_no_measurement():
    with pytest.raises(ValueError, match="The number comes out as nan"), np.errstate(all="ignore"):
        metrics.kid(X * np.float32(1e14), Y)
    assert metrics.kid(X.astype(float) * 1e14, Y).value > 0
    assert np.isfinite(metrics.fid(X * np.float32(1e14), Y * np.float32(1e14)).value)


def test_any_real_type_goes():
    x, y = (10 * z[:50] for z in (X, Y))
    for kind in (np.float16, np.uint8, np.int32, np.float64):
        assert float(metrics.fid(x.astype(kind), y.astype(kind))) == pytest.approx(metrics.fid(x, y).value, rel=0.05)
        assert metrics.kid(x.astype(kind), y.astype(kind)).value == pytest.approx(metrics.kid(x, y).value, rel=0.2)
        metrics.precision_recall(x.astype(kind), y.astype(kind))
