"""The benchmark: every installed peer beside our engines, interleaved, with what building, exports and training cost.

    python tools/bench.py --weights FILE --out FOLDER

writes bench.md, bench.json and bench.png. Without --weights, random ones of the full
network are made: the speed is the same, int8's agreement is not.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import typer
from benchmark import sections, tables


def bench(
    weights: Annotated[Path | None, typer.Option(help="A weight file; random weights where none is given.")] = None,
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("bench-output"),
    section: Annotated[list[str] | None, typer.Option(help="One of the tables alone; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to measure each batch size of a table.")] = 60,
    threads: Annotated[int, typer.Option(help="Threads of everybody; the machine's cores where it is 0.")] = 0,
    batch: Annotated[list[int] | None, typer.Option(help="A batch size; 1, 8 and 32 where none is given.")] = None,
    photographs: Annotated[Path | None, typer.Option(help="Pictures for int8; scikit-image's where none.")] = None,
) -> None:
    """Measures this machine."""
    wanted = section or list(sections.SECTIONS)
    if unknown := set(wanted) - set(sections.SECTIONS):
        raise typer.BadParameter(f"unknown: {', '.join(unknown)}; expected some of {', '.join(sections.SECTIONS)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    count = threads or len(os.sched_getaffinity(0))
    command = shlex.join(["python", "tools/bench.py", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        path = str(weights) if weights else _random(folder)
        setup = sections.Setup(path, count, seconds, tuple(batch or (1, 8, 32)), photographs, typer.echo)
        done = []
        for name in wanted:
            typer.echo(f"--- {name}")
            done.append(sections.SECTIONS[name](setup))
            tables.write(done, tables.machine(count), command, out)  # so that what is measured stays
    typer.echo((out / "bench.md").read_text(encoding="utf-8"))


def _random(folder: str) -> str:
    from made import random_weights

    from inception.variants import KERAS

    return str(random_weights(KERAS).save(f"{folder}/random.safetensors"))


if __name__ == "__main__":
    typer.run(bench)
