"""The verb features, as a user meets it."""

import functools
import os
import signal
import subprocess
import sys
import time

import pyarrow.parquet as pq
from made import thirty_pictures

from inception import features


def command(*arguments):
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "200"}
    whole = [sys.executable, "-m", "inception", "features", *map(str, arguments), "--engine", "onnxruntime"]
    pipe = subprocess.PIPE
    # A test run that was started in the background ignores Ctrl-C, and its children would inherit that.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(whole, stdout=pipe, stderr=pipe, text=True, env=environment, preexec_fn=heard)


def test_extract_stop_go_on_and_refuse(sample, tmp_path):
    folder = thirty_pictures(tmp_path / "pictures")
    for i in range(500):
        os.link(folder / "even" / "00.jpg", folder / f"{i:03d}.jpg")
    (folder / "notes.md").write_text("no picture")
    out = tmp_path / "out"
    options = [folder, out, "--weights", sample, "--end-point", "PreLogits,Mixed_6e", "--shard-rows", 16]
    run = command(*options)
    deadline = time.monotonic() + 60
    while not list(out.glob("part-*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    said, complained = run.communicate(timeout=60)
    assert run.returncode == 130 and not said, (said, complained)
    assert "of 530 pictures are in" in complained and complained.count("\n") == 1
    assert 16 <= len(features.load(out, partial=True)) < 530 and not list(out.glob("*.tmp-*"))

    run = command(*options)
    said, complained = run.communicate(timeout=120)
    assert run.returncode == 1 and "530 pictures, 529 rows, 1 without" in said  # one is no picture
    assert "were there already" in said and "with onnxruntime" in said
    assert "says why 1 picture could" in said and "passed over: 1 file without a picture's ending" in said
    assert pq.read_table(out).num_rows == 529
    assert features.load(out).arrays["Mixed_6e"].shape[0] == 529

    run = command(*options, "--pool", "max")
    said, complained = run.communicate(timeout=60)
    assert run.returncode == 2 and "holds features with a different pool (avg, now max)" in complained
    assert complained.count("\n") == 1
