"""What a benchmark found, as Markdown, JSON and a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "keras", "tf-slim", "torch", "onnx", "onnxruntime", "openvino", "nncf", "numpy")


@dataclass
class Section:
    """One table. `data` is what the JSON keeps beside it: every single time."""

    name: str
    title: str
    text: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    data: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.text, ""] if self.text else [f"## {self.title}", ""]
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in (self.columns, rule, *self.rows)), ""])


def machine(threads: int) -> dict[str, Any]:
    """The machine and the packages that the figures belong to."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": threads,
        "memory_gib": round(memory),
        "instructions": _instructions(),
        "python": platform.python_version(),
        "packages": versions,
        "date": datetime.now(timezone.utc).date().isoformat(),
    }


def _cpuinfo(key: str) -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


def _processor() -> str:
    return _cpuinfo("model name") or platform.machine()


def _instructions() -> list[str]:
    found = _cpuinfo("flags").split()
    return [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16") if name in found]


def write(sections: Sequence[Section], where: dict[str, Any], command: str, folder: Path) -> None:
    """bench.md, bench.json and, with matplotlib and the engines' table, bench.png."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.md").write_text(_head(where, command) + "\n".join(s.markdown() for s in sections), "utf-8")
    found = {"machine": where, "command": command, "sections": [asdict(section) for section in sections]}
    (folder / "bench.json").write_text(json.dumps(found, indent=1), "utf-8")
    for section in sections:
        if section.name == "engines":
            _plot(section, folder / "bench.png")


def _head(where: dict[str, Any], command: str) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in where["packages"].items())
    return (
        f"`{command}` on {where['processor']}, {where['cores']} cores, {where['threads']} threads "
        f"({', '.join(where['instructions'])}), {where['date']}; Python {where['python']}, {packages}.\n\n"
    )


def _plot(section: Section, path: Path) -> None:
    try:
        import matplotlib
    except ModuleNotFoundError:
        return
    matplotlib.use("agg")
    from matplotlib import pyplot

    batches = list(section.data["throughput"])
    figure, axes = pyplot.subplots(1, len(batches), figsize=(4 * len(batches), 3.6), sharey=True)
    for axis, batch in zip([axes] if len(batches) == 1 else axes, batches, strict=True):
        found = section.data["throughput"][batch]
        names = sorted(found, key=lambda name: found[name]["median"])
        spread = [
            [found[n]["median"] - found[n]["slow"] for n in names],
            [found[n]["fast"] - found[n]["median"] for n in names],
        ]
        colours = ["#d95f02" if name.startswith("ours") else "#9aa5b1" for name in names]
        axis.barh(names, [found[n]["median"] for n in names], xerr=spread, color=colours, ecolor="#444444")
        axis.set(title=f"batch {batch}", xlabel="images a second")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
