"""Sums and moments: one set of bits for any split, order, stop and worker; what was made alike can be compared."""

import itertools
import math
import os
import random
import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from made import random_weights, thirty_pictures

from inception import features
from inception.files.errors import CheckpointError
from inception.metrics import statistics
from inception.metrics.statistics import Made, Statistics
from inception.metrics.sums import BLOCK, Sums
from inception.variants import Variant

WIDTH, ROWS = 11, 7 * BLOCK + 123


def gamma(seed=0, rows=ROWS, width=WIDTH):
    return np.random.default_rng(seed).gamma(0.5, 0.8, (rows, width)).astype(np.float32)


def bits(sums):
    """All that a sum says, to the bit."""
    return b"".join(np.asarray(each).tobytes() for each in sums.moments())


def cut(rows, places):
    """[(place of the first row, rows)] of shards that end at these places."""
    return [(a, rows[a:b]) for a, b in itertools.pairwise([0, *places, len(rows)])]


# ---- one set of bits


@pytest.mark.parametrize("shards", [1, 3, 7, 40])
@pytest.mark.parametrize("seed", range(4))
def test_any_split_in_any_order_gives_the_same_bits(shards, seed):
    rows, chance = gamma(), random.Random(seed)
    parts = [Sums.of(part, at) for at, part in cut(rows, sorted(chance.sample(range(1, ROWS), shards - 1)))]
    chance.shuffle(parts)
    merged = Sums(WIDTH)
    for part in parts:
        merged.merge(part)
    assert bits(merged) == bits(Sums.of(rows))


def test_merging_is_associative_too():
    rows = gamma()
    parts = [Sums.of(part, at) for at, part in cut(rows, [100, 1000, 4000, 4001])]
    parts[3].merge(parts[1])
    parts[0].merge(parts[4])
    parts[3].merge(parts[2])
    parts[3].merge(parts[0])
    assert bits(parts[3]) == bits(Sums.of(rows))


@pytest.mark.parametrize(
    "scales", [(1, 3e4, 1e-4, 2e8), (1e-12, 1, 1e12), (1e-40, 1e-19, 3e9, 1e19), (1e60, 1e-60, 1), (0, 1e-90, 1)]
)
def test_sizes_far_apart_add_up_alike_in_any_order(scales):
    """Low slices are let go when a large number comes: they must be when it came first, too."""
    rows = np.concatenate([np.float64(scale) * gamma(i, BLOCK) for i, scale in enumerate(scales)])
    rows[:, 1:] /= 3e6  # whose low slices nothing hides
    results = set()
    for order in itertools.permutations(range(len(scales))):
        merged = Sums(WIDTH)
        for i in order:
            merged.merge(Sums.of(rows[i * BLOCK : (i + 1) * BLOCK], i * BLOCK))
        results.add(bits(merged))
    assert results == {bits(Sums.of(rows))}


def test_blocks_are_added_without_rounding():
    """One block is one product of NumPy's; all of them are what exact arithmetic makes of these, rounded at the end."""
    rows = gamma(rows=40 * BLOCK)
    blocks = [block.astype(np.float64) for block in np.split(rows, 40)]
    _, total, outer = Sums.of(rows).moments()
    exact = np.array([math.fsum(each) for each in np.array([block.sum(axis=0) for block in blocks]).T])
    np.testing.assert_array_max_ulp(total, exact, 1)
    products = np.array([block.T @ block for block in blocks]).reshape(40, -1).T
    np.testing.assert_array_max_ulp(outer, np.array([math.fsum(each) for each in products]).reshape(WIDTH, WIDTH), 1)


def test_a_batch_at_a_time_is_the_same():
    rows = gamma()
    sums = Sums(WIDTH)
    for at in range(0, ROWS, 7):
        sums.add(rows[at : at + 7])
    assert bits(sums) == bits(Sums.of(rows)) == bits(Sums.of(np.array_split(rows, 50)))


@pytest.mark.parametrize("ddof", [0, 1])
def test_the_moments_are_numpys(ddof):
    rows = gamma()
    found = statistics.of_arrays(rows, ddof=ddof)
    expected = np.cov(rows.astype(np.float64), rowvar=False, ddof=ddof)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0, dtype=np.float64), rtol=1e-14)
    assert (found.count, found.ddof) == (ROWS, ddof) and found.mean.dtype == found.covariance.dtype == np.float64
    assert np.array_equal(found.covariance, found.covariance.T)


def test_memory_does_not_grow_with_the_count():
    def peak(blocks):
        tracemalloc.start()
        Sums.of(gamma(i, BLOCK, 256) for i in range(blocks))
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    assert peak(40) < 1.1 * peak(5)


KILLED = """
import os, signal, sys
import numpy as np
from inception.metrics.sums import Sums
rows, state, step = np.load(sys.argv[1]), sys.argv[2], int(sys.argv[3])
sums = Sums.load(state) if os.path.exists(state) else Sums(rows.shape[1])
sums.add(rows[sums.count : sums.count + step])
sums.save(state)
if sums.count < len(rows):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_twenty_times_and_resumed(tmp_path):
    rows, state = gamma(), tmp_path / "sums.npz"
    np.save(tmp_path / "rows.npy", rows)
    command = [sys.executable, "-c", KILLED, tmp_path / "rows.npy", state, str(ROWS // 20)]
    codes = []
    while not codes or codes[-1]:
        codes.append(subprocess.run(command, check=False).returncode)
        assert codes[-1] in (0, -signal.SIGKILL)
    assert len(codes) == 21
    assert bits(Sums.load(state)) == bits(Sums.of(rows))
    assert sorted(os.listdir(tmp_path)) == ["rows.npy", "sums.npz"]


def test_on_ray_with_a_worker_killed(tmp_path):
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    rows, mark = gamma(), str(tmp_path / "killed")

    def shard(at, part, dies):
        if dies and not os.path.exists(mark):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        return Sums.of(part, at)

    try:
        task = ray.remote(max_retries=2)(shard)
        waiting = [task.remote(at, part, at == 900) for at, part in cut(rows, [900, 3000, 5000])]
        merged = Sums(WIDTH)
        while waiting:  # as they come
            [done], waiting = ray.wait(waiting)
            merged.merge(ray.get(done))
    finally:
        ray.shutdown()
    assert os.path.exists(mark) and bits(merged) == bits(Sums.of(rows))


# ---- mistakes


def test_rows_that_cannot_be_summed():
    rows = gamma(rows=30)
    rows[17, 3] = np.nan
    with pytest.raises(ValueError, match="Row 117 of the features holds NaN or infinity"):
        Sums.of(rows, 100)
    with pytest.raises(ValueError, match=r"expected rows of numbers, \[n, d\]"):
        Sums.of(np.zeros(3))
    with pytest.raises(ValueError, match=r"\[4, 3\]; expected \[n, 11\] as those before"):
        Sums(11).add(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="3 wide; expected 11"):
        Sums(11).merge(Sums(3))
    with pytest.raises(ValueError, match="There are no features"):
        Sums.of(iter(()))
    with pytest.raises(ValueError, match="so large that their squares reach"):
        statistics.of_arrays(np.full((3, 2), 1e200))


def test_shards_that_come_twice_or_never():
    sums = Sums.of(gamma(rows=3000))
    with pytest.raises(ValueError, match="features of row 2000 come twice"):
        sums.merge(Sums.of(gamma(rows=500), 2000))
    sums.merge(Sums.of(gamma(rows=500), 5000))
    with pytest.raises(ValueError, match="features of row 3000 are missing"):
        sums.moments()
    with pytest.raises(ValueError, match="features of row 0 are missing"):
        Sums.of(gamma(rows=50), 7).moments()


@pytest.mark.parametrize(("rows", "ddof"), [(0, 0), (1, 1), (5, 2)])
def test_too_few_rows_or_another_ddof(rows, ddof):
    with pytest.raises(ValueError, match="expected ddof 0 or 1 and more rows"):
        statistics.of_arrays(gamma(rows=rows), ddof=ddof)


def test_a_saved_sum_that_is_none(tmp_path):
    path = tmp_path / "x.npz"
    good = {"width": np.int64(2), "spans": np.array([[0, 5]]), "edge_0": np.ones((5, 2))}
    np.savez(path, **good)
    assert Sums.load(path).moments()[0] == 5
    for wrong in (
        {"width": np.float64(np.inf)}, {"spans": np.zeros(3)}, {"edge_0": np.ones((5, 3))}, {"x": np.ones(2)},
        {"rows_0": np.ones(3)}, {"rows_90": np.ones(2)}, {"products_0": np.ones(3, np.float32)}, {"edge_1": np.ones(2)},
    ):  # fmt: skip
        np.savez(path, **(good | wrong))
        with pytest.raises(CheckpointError, match=r"x\.npz: is not what was written of sums"):
            Sums.load(path)


# ---- from a folder, from a file


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """{rows of a shard: a folder of features of the same pictures}."""
    place = tmp_path_factory.mktemp("features")
    weights = random_weights(Variant(num_classes=5, depth_multiplier=0.02, min_depth=3))
    pictures = thirty_pictures(place / "pictures")
    options = {"size": 75, "engine": "onnxruntime", "batch": 1, "end_points": ["PreLogits"]}
    for rows in (30, 11, 5):  # 1, 3, and 6 shards
        features.extract(pictures, place / str(rows), weights, shard_rows=rows, **options)
    return place


def test_a_folder_of_features_in_1_3_and_6_shards(extracted):
    protocol = {"name": "clean", "ddof": 1}
    each = [statistics.of_folder(extracted / rows, protocol=protocol) for rows in ("30", "11", "5")]
    loaded = features.load(extracted / "30")
    assert len({found.mean.tobytes() + found.covariance.tobytes() for found in each}) == 1
    assert np.array_equal(each[0].mean, statistics.of_arrays(loaded.arrays["PreLogits"]).mean)
    said = loaded.metadata
    expected = Made(protocol, said["weights"], said["picture"], "PreLogits", said["inception"])
    assert each[0].made == expected and each[0].count == 29
    assert statistics.check_same(each[0], each[1]) == ()


def test_a_folder_that_is_none_of_that(extracted, tmp_path):
    with pytest.raises(ValueError, match="holds no features"):
        statistics.of_folder(tmp_path)
    with pytest.raises(ValueError, match="has features of PreLogits; Logits is none of them"):
        statistics.of_folder(extracted / "30", "Logits")


def test_a_folder_of_maps_and_one_without_a_picture(extracted, tmp_path, monkeypatch):
    weights = random_weights(Variant(num_classes=5, depth_multiplier=0.02, min_depth=3))
    options = {"size": 75, "engine": "onnxruntime", "pool": "none", "end_points": ["Mixed_7c", "Conv2d_2b_3x3"]}
    features.extract(extracted / "pictures", tmp_path / "maps", weights, **options)
    maps = features.load(tmp_path / "maps").arrays["Mixed_7c"]
    found = statistics.of_folder(tmp_path / "maps", "Mixed_7c", name="generated")
    assert np.array_equal(found.mean, statistics.of_arrays(maps.reshape(29, -1)).mean) and found.source == "generated"
    assert maps.ndim == 4 and found.made.tap == "Mixed_7c"
    monkeypatch.setattr(statistics, "LARGEST", 8 * found.mean.size**2)
    with pytest.raises(ValueError, match=r"Conv2d_2b_3x3 is \[35, 35, 3\] a picture, too large"):
        statistics.of_folder(tmp_path / "maps", "Conv2d_2b_3x3")
    broken = extracted / "pictures" / "odd" / "11.jpg"
    features.extract(broken, tmp_path / "none", weights, size=75, engine="onnxruntime")
    with pytest.raises(ValueError, match=r"none: no picture could be read, the first because: .*11\.jpg"):
        statistics.of_folder(tmp_path / "none")


def test_features_in_npz(tmp_path):
    rows = gamma(rows=50)
    np.savez(tmp_path / "x.npz", feats=rows, labels=np.arange(50))
    assert np.array_equal(statistics.of_npz(tmp_path / "x.npz").mean, statistics.of_arrays(rows).mean)
    np.savez(tmp_path / "x.npz", a=rows, b=rows + 1)
    assert statistics.of_npz(tmp_path / "x.npz", "b").mean[0] > 1
    with pytest.raises(ValueError, match="has a, b; say which"):
        statistics.of_npz(tmp_path / "x.npz")
    with pytest.raises(ValueError, match="has a, b; c is none of them"):
        statistics.of_npz(tmp_path / "x.npz", "c")


# ---- what may be compared


def made(source, width=3, ddof=1, **fields):
    return Statistics(np.zeros(width), np.eye(width), 10, ddof, Made(**fields), source)


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        ({"protocol": {"name": "clean"}}, {"protocol": {"name": "adm"}},
         "a.npz is of the protocol clean and b.npz of adm; compare statistics of one protocol"),
        ({"protocol": {"name": "clean", "ddof": 1}}, {"protocol": {"name": "clean", "ddof": 0}},
         r'a.npz is of the protocol \{"ddof": 1\} and b.npz of \{"ddof": 0\}'),
        ({"weights": "ab" * 32}, {"weights": "cd" * 32}, "a.npz and b.npz are of two networks' weights"),
        ({"tap": "PreLogits"}, {"tap": "spatial"}, "the tap PreLogits and b.npz of spatial"),
        ({"picture": {"resize": "tf1", "size": 299}}, {"picture": {"resize": "clean", "size": 299}},
         r'picture \{"resize": "tf1"\} and b.npz of \{"resize": "clean"\}'),
        ({"width": 2}, {"width": 3}, "a.npz is of features 2 wide and b.npz of 3"),
    ],
)  # fmt: skip
def test_a_mixture_is_refused_by_both_names(a, b, match):
    with pytest.raises(ValueError, match=match):
        statistics.check_same(made("a.npz", **a), made("b.npz", **b))


def test_what_one_side_does_not_say_is_noted():
    known = made("a.npz", protocol={"name": "clean"}, weights="ab" * 32)
    assert statistics.check_same(known, known) == statistics.check_same(made("a"), made("b")) == ()
    notes = statistics.check_same(known, made("b.npz", ddof=0))
    assert notes[:2] == ("b.npz does not say its protocol; taken for clean.",
                         "b.npz does not say its weights; taken for those of a.npz.")  # fmt: skip
    assert notes[2] == "a.npz has ddof 1 and b.npz 0: 1 / count apart."
    labelled = statistics.labelled(made("b.npz"), protocol={"name": "clean"}, weights="ab" * 32)
    assert statistics.check_same(known, labelled) == ()
