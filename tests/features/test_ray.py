"""The extraction on a local Ray cluster of two processes: the single machine's bytes, though a worker is killed."""

import os
import signal
import time
from pathlib import Path

import pytest
from torture_features import workers_of

import inception
from inception import features
from inception.features import dataset
from inception.features.ray import shares


def files(out):
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != dataset.LOCK}


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield ray
    ray.shutdown()


@pytest.mark.parametrize(
    ("machines", "workers", "most", "on_gpu", "expected"),
    [
        ([(2, 0)], None, 9, False, (2, 1, None)),
        ([(2, 0)], None, 1, False, (1, 2, None)),  # one shard: an actor with all
        ([(8, 0)], 2, 99, False, (2, 4, None)),
        ([(8, 0)], 3, 99, False, (3, 2, None)),
        ([(8, 0), (8, 0)], 3, 99, False, (3, 4, None)),  # no actor is larger than a machine
        ([(8, 0), (8, 0)], 1, 99, False, (1, 8, None)),
        ([(4, 0)], 9, 99, False, (4, 1, None)),  # more than there is room for would wait for ever
        ([(0, 0), (4, 0)], None, 99, False, (4, 1, None)),
        ([(16, 4), (8, 0)], None, 99, True, (4, 4, 1)),
        ([(16, 4), (16, 2)], None, 99, True, (6, 4, 1)),
        ([(16, 4)], None, 99, False, (16, 1, None)),
        ([(16, 4)], 2, 99, True, (2, 8, 1)),
        ([(8, 0)], None, 99, True, (8, 1, None)),
    ],
)
def test_what_an_actor_gets(machines, workers, most, on_gpu, expected):
    assert shares(machines, workers, most, on_gpu) == expected


def test_a_killed_worker_costs_no_row(cluster, folder, extract, tmp_path):
    def slowly(pixels):
        time.sleep(0.03)
        return inception.preprocess_input(pixels)

    killed = []

    def kill_one(done, total, errors):
        if not killed:
            killed.extend(workers_of(os.getpid())[:1])
            os.kill(killed[0], signal.SIGKILL)

    options = {"shard_rows": 2, "preprocess": slowly, "threads": 1}
    summary = extract(folder, tmp_path / "ray", engine="ray", workers=2, progress=kill_one, **options)
    assert len(killed) == 1 and not Path(f"/proc/{killed[0]}/cmdline").exists()
    assert (summary.rows, summary.errors, summary.computed) == (29, 1, 30)
    engine = features.load(tmp_path / "ray").metadata["engine"]
    extract(folder, tmp_path / "here", engine=engine, **options)
    assert files(tmp_path / "ray") == files(tmp_path / "here")
    # Shards of one kind go on with the other.
    (tmp_path / "ray" / "part-00003.parquet").unlink()
    assert extract(folder, tmp_path / "ray", engine="ray", workers=1, **options).computed == 2
    assert files(tmp_path / "ray") == files(tmp_path / "here")
