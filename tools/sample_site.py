"""The microscope's site of the sample network, to click through; the manual shows it, `make docs` calls this.

usage: python tools/sample_site.py FOLDER
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from inception import quiet
from inception.microscope import WAVES, Summary, microscope

SAMPLES = Path(__file__).resolve().parents[1] / "checkpoints"
DIGITS = SAMPLES / "sample-digits"


def make(folder: Path) -> Summary:
    """The whole site in half a minute, without a network; the same bytes every time. What is there is gone on with."""
    quiet.import_tensorflow()
    return microscope(
        SAMPLES / "sample.h5",
        folder,
        images=DIGITS,
        looks=[DIGITS / "digit-3.png", DIGITS / "digit-4.png"],
        channels=8,
        ascent=dataclasses.replace(WAVES, size=107, steps=24, restarts=1),
        engine="tensorflow",
        force=True,
    )


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
