"""The conversion tool of a checkout: `python tools/convert.py SRC DST`, the same as `inception convert`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from inception.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "convert")
    main()
