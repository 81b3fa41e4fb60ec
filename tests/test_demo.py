"""`make demo` proves what it says, on the embedded sample."""

import re
import runpy
from pathlib import Path

DEMO = Path(__file__).resolve().parents[1] / "tools" / "demo.py"


def test_the_demo_proves_what_it_says(tmp_path, monkeypatch, capsys):
    """As `python tools/demo.py` does, but with TensorFlow started before."""
    for name in ("KERAS_HOME", "XDG_CACHE_HOME", "INCEPTION_WEIGHTS_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    runpy.run_path(str(DEMO), run_name="__main__")
    printed = capsys.readouterr().out
    assert "388 of 388 arrays are bit-equal" in printed
    assert float(re.search(r"largest relative difference (\S+)", printed)[1]) <= 1e-5
    named = re.findall(r"digit-(\d)\.png +(\d) ", printed)
    assert len(named) == 10 and all(shown == found for shown, found in named)
