"""FID against closed forms, against SciPy's root and the peers, and as numbers that the peers gave."""

import math
import subprocess
import sys

import numpy as np
import pytest
from made_features import features

from inception import metrics
from inception.metrics.protocols import PROTOCOLS

X, Y = features(1200, 1, shift=0.05), features(1500, 2)  # what the golden numbers belong to
FID, MIFID_OF_COPIES = 1.434501354207839, 210.76842198659924  # pytorch-fid's and torchmetrics', of float64


def moments(x, ddof=1):
    return x.mean(axis=0, dtype=np.float64), np.cov(x, rowvar=False, dtype=np.float64, ddof=ddof)


def orthogonal(width, seed=0):
    return np.linalg.qr(np.random.RandomState(seed).standard_normal((width, width)))[0]


def test_gaussians_that_share_their_axes():
    """Then the distance is that of the standard deviations."""
    axes, a, b = orthogonal(50), np.linspace(0.1, 3, 50), np.linspace(2, 1, 50)
    mean = np.linspace(-1, 1, 50)
    value = metrics.frechet_distance(mean, (axes * a**2) @ axes.T, 0 * mean, (axes * b**2) @ axes.T)
    assert value == pytest.approx(mean @ mean + np.sum((a - b) ** 2), rel=1e-12)


def test_two_dimensions_in_closed_form():
    """Of 2 x 2 matrices tr sqrt(P) is sqrt(tr P + 2 sqrt(det P))."""
    a, b = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([[1.0, -0.8], [-0.8, 3.0]])
    root = math.sqrt(np.trace(a @ b) + 2 * math.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    value = metrics.frechet_distance([1, 2], a, [0, 0], b)
    assert value == pytest.approx(5 + np.trace(a) + np.trace(b) - 2 * root, rel=1e-13)


def test_a_singular_gaussian():
    """A point, and one that lacks axes which the other has."""
    axes, b = orthogonal(40), np.linspace(1, 2, 40)
    full = (axes * b**2) @ axes.T
    assert metrics.frechet_distance(np.ones(40), np.zeros((40, 40)), np.zeros(40), full) == pytest.approx(40 + b @ b)
    a = np.where(np.arange(40) < 15, 3.0, 0.0)
    for noise in (0, 1e-15):  # and one that rounding has made positive
        lacking = (axes * (a**2 + noise)) @ axes.T
        value = metrics.frechet_distance(np.zeros(40), lacking, np.zeros(40), full)
        assert value == pytest.approx(np.sum((a - b) ** 2), rel=1e-12)


def test_the_peers_number():
    assert metrics.fid(X, Y).value == pytest.approx(FID, rel=1e-6)  # of float32 features
    assert metrics.fid(X.astype(float), Y.astype(float)).value == pytest.approx(FID, rel=1e-6)
    wide = metrics.fid(features(1200, 1, shift=0.05, dtype=float), features(1500, 2, dtype=float)).value
    assert wide == pytest.approx(FID, rel=1e-12)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("counts", [(300, 400), (65, 66)])
def test_scipys_root(counts, ddof):
    linalg = pytest.importorskip("scipy.linalg")
    x, y = (features(count, seed, shift=seed / 9, dtype=float) for seed, count in enumerate(counts))
    (m1, s1), (m2, s2) = moments(x, ddof), moments(y, ddof)
    expected = (m1 - m2) @ (m1 - m2) + np.trace(s1) + np.trace(s2) - 2 * np.trace(linalg.sqrtm(s1 @ s2).real)
    assert metrics.fid(x, y, ddof=ddof).value == pytest.approx(expected, rel=1e-9)
    assert metrics.frechet_distance(m1, s1, m2, s2) == pytest.approx(expected, rel=1e-9)


def test_the_peers_themselves():
    torch, peers = pytest.importorskip("torch"), []
    torch_fid = pytest.importorskip("torchmetrics.image.fid")
    torch_fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    (m1, s1), (m2, s2) = (torch_fidelity.fid_features_to_statistics(torch.from_numpy(x)).values() for x in (X, Y))
    peers.append(torch_fidelity.fid_statistics_to_metric({"mu": m1, "sigma": s1}, {"mu": m2, "sigma": s2}, False))
    expected = [*peers[0].values()]
    for name, function in (
        ("pytorch_fid.fid_score", "calculate_frechet_distance"),
        ("cleanfid.fid", "frechet_distance"),
    ):
        expected.append(getattr(pytest.importorskip(name), function)(m1, s1, m2, s2))
    m1, s1, m2, s2 = map(torch.from_numpy, (*moments(X), *moments(Y)))
    expected.append(torch_fid._compute_fid(m1, s1, m2, s2).item())
    assert expected == pytest.approx([metrics.fid(X, Y).value] * 4, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "module", "function"),
    [
        ("pytorch-fid", "pytorch_fid.fid_score", "calculate_frechet_distance"),
        ("clean", "cleanfid.fid", "frechet_distance"),
    ],
)
def test_a_tool_refuses_an_imaginary_root_as_its_record_says(name, module, function):
    distance = getattr(pytest.importorskip(module), function)
    with pytest.raises(ValueError, match="Imaginary component"):
        distance(np.zeros(2), -np.eye(2), np.zeros(2), np.eye(2))
    assert PROTOCOLS[name].failure == "eps"


@pytest.mark.parametrize("count", [2, 40, 64, 65, 300])
def test_a_set_with_itself(count):
    x = features(count, 3)
    mean, covariance = moments(x)
    assert metrics.fid(x, x).value <= 1e-9 * np.trace(covariance)
    assert metrics.frechet_distance(mean, covariance, mean, covariance) <= 1e-9 * np.trace(covariance)


def test_fewer_pictures_than_features():
    """200 cases beside the singular values of the centred rows: finite, not negative, and exact."""
    random = np.random.RandomState(0)
    for case in range(200):
        width, scale = 4 * random.randint(2, 18), 10.0 ** random.randint(-3, 4)
        n, m = random.randint(2, width, 2)
        x, y = (scale * features(count, [case, count], width) for count in (n, m))
        if case % 5 == 0:
            x[n // 2 :] = x[0]  # copies
        if case % 7 == 0:
            y[:, width // 2 :] = 0  # features that never fire
        value = metrics.fid(x, y).value
        a, b = ((z - z.mean(axis=0, dtype=float)) / math.sqrt(len(z) - 1) for z in (x, y))
        between = x.mean(axis=0, dtype=float) - y.mean(axis=0, dtype=float)
        size = between @ between + np.sum(a**2) + np.sum(b**2)
        expected = size - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()
        assert math.isfinite(value) and value >= 0
        assert value == pytest.approx(expected, abs=1e-11 * size)
        of_moments = metrics.frechet_distance(*moments(x), *moments(y))
        assert of_moments == pytest.approx(expected, abs=1e-6 * size) and of_moments >= 0


def test_few_beside_many():
    """A side of rows, and a side of moments."""
    x, y = features(30, 1), features(500, 2)
    (m1, s1), (m2, s2) = moments(x), moments(y)
    assert metrics.fid(x, y).value == pytest.approx(metrics.frechet_distance(m1, s1, m2, s2), rel=1e-9)


def test_the_jackknifes_error_is_the_spread_of_repeated_measurements():
    pairs = [(features(1500, 100 + i, 16, 0.2), features(1500, 9000 + i, 16)) for i in range(300)]
    repeated = [metrics.fid(x, y).value for x, y in pairs]
    errors = [metrics.fid(x, y, groups=10).error for x, y in pairs[:50]]
    assert np.mean(errors) == pytest.approx(np.std(repeated), rel=0.15)
    assert metrics.fid(X, Y).error is None


def test_fid_at_infinity_takes_the_bias_away():
    reference = features(20000, 2, 16)
    true = metrics.fid(features(20000, 1, 16, 0.1), reference).value
    few = [metrics.fid(features(1000, seed, 16, 0.1), reference).value for seed in range(5, 15)]
    far = [metrics.fid_infinity(features(1000, seed, 16, 0.1), reference) for seed in range(5, 15)]
    assert abs(np.mean([each.value for each in far]) - true) < 0.35 * abs(np.mean(few) - true)
    assert all(each.error > 0 for each in far)
    again = metrics.fid_infinity(features(1000, 5, 16, 0.1), reference)
    assert again == far[0] != metrics.fid_infinity(features(1000, 5, 16, 0.1), reference, seed=1)


def test_fid_at_infinity_is_the_intercept():
    """The same draws, and NumPy's own line."""
    x, sizes = X[:600], np.linspace(60, 600, 15).astype(int)
    rng = np.random.default_rng(4)
    values = [metrics.fid(rng.choice(x, size, replace=False), Y).value for size in sizes]
    (_, intercept), covariance = np.polyfit(1 / sizes, values, 1, cov=True)
    measured = metrics.fid_infinity(x, Y, seed=4)
    assert measured.value == pytest.approx(intercept, rel=1e-9)
    assert measured.error == pytest.approx(math.sqrt(covariance[1, 1]), rel=1e-6)


def copies():
    y = features(1500, 2, dtype=float)
    noise = np.random.RandomState(8).standard_normal(y.shape)
    return np.concatenate([features(300, 1, shift=0.05, dtype=float), y + 0.25 * np.abs(noise)]), y


def test_mifid_punishes_copies():
    x, y = copies()
    assert metrics.mifid(x, y).value == pytest.approx(MIFID_OF_COPIES, rel=1e-9)
    zeros = np.zeros((5, 64))
    assert metrics.mifid(y, y).value == 0
    with_zeros = metrics.mifid(np.concatenate([x, zeros]), y).value
    plain = metrics.mifid(x, y).value * metrics.fid(np.concatenate([x, zeros]), y).value / metrics.fid(x, y).value
    assert with_zeros == pytest.approx(plain, rel=1e-9)


def test_mifid_is_torchmetrics():
    torch, peer = pytest.importorskip("torch"), pytest.importorskip("torchmetrics.image.mifid")
    for x, y in (copies(), (features(300, 1, dtype=float, shift=1), features(400, 2, dtype=float))):
        sides = [torch.from_numpy(part) for z in (y, x) for part in (*moments(z), z)]
        assert metrics.mifid(x, y).value == pytest.approx(peer._mifid_compute(*sides).item(), rel=1e-6)


def test_what_no_gaussian_can_be_made_of():
    mean, eye = np.zeros(3), np.eye(3)
    for moments_, said in (
        ((mean, eye, np.zeros(4), np.eye(4)), "use one network"),
        ((mean, np.ones((3, 4)), mean, eye), "the other set has 4"),
        ((mean, np.ones((2, 3)), mean, eye), r"shape \(2, 3\); expected \(3, 3\)"),
        ((mean, eye + np.eye(3, k=1), mean, eye), "not symmetric"),
        ((mean, np.diag([1, 1, -1]), mean, eye), "eigenvalue of -1"),
        ((mean, eye * np.nan, mean, eye), "NaN"),
        ((mean + np.inf, eye, mean, eye), "NaN or infinity"),
        ((mean + 1e200, eye, mean, eye), r"first mean: a number as large as 1e\+200"),
        ((mean, eye, mean, eye * 1e160), r"second covariance: a number as large as 1e\+160"),
    ):
        with pytest.raises(ValueError, match=said):
            metrics.frechet_distance(*moments_)
    for call, said in (
        (lambda: metrics.fid(X, Y, ddof=1200), "expected more rows"),
        (lambda: metrics.fid(X, Y, ddof=-1), "ddof is -1"),
        (lambda: metrics.fid(X, Y, groups=1), "groups is 1"),
        (lambda: metrics.fid(X[:5], Y, groups=10), "in 10 groups"),
        (lambda: metrics.fid_infinity(X[:3], Y), "too few"),
        (lambda: metrics.mifid(0 * X, Y), "every row sums to 0"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_scipy_is_nowhere():
    code = (
        "import sys, numpy as np; from inception import metrics; x = np.random.rand(40, 8); metrics.fid(x, x + 1)\n"
        "metrics.fid(x[:4], x); metrics.kid(x, x + 1); metrics.mifid(x, x + 1); metrics.fid_infinity(x, x + 1)\n"
        "metrics.precision_recall(x, x); metrics.density_coverage(x, x); metrics.inception_score(x)\n"
        "assert not {'scipy', 'sklearn', 'torch', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
