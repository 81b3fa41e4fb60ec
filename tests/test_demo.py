"""`make demo` proves what it says, on the embedded sample."""

import os
import re
import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "tools" / "demo.py"


def test_the_demo_proves_what_it_says(tmp_path):
    alone = os.environ | {"KERAS_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, str(DEMO)], capture_output=True, text=True, env=alone)
    assert run.returncode == 0, run.stderr[-3000:]
    assert "388 of 388 arrays are bit-equal" in run.stdout
    assert float(re.search(r"largest relative difference (\S+)", run.stdout)[1]) <= 1e-5
    named = re.findall(r"digit-(\d)\.png +(\d) ", run.stdout)
    assert len(named) == 10 and all(shown == found for shown, found in named)
