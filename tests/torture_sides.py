"""Structured damage to the files that we write beside others: each reader says one sentence, or takes what is left.

    python tests/torture_sides.py --cases 2000

`_extraction.json` of features, `model.json` and `work/settings.json` and `work/classifier.npz` of
a fine-tuning. A mutation is one of their values replaced, left out, doubled or put elsewhere in
a file that is otherwise sound (an archive's checksums are made anew), or bytes cut and overwritten.
What comes out as any other exception than ours is a failure, and so is a sentence that is
long, cannot be shown, or names no file.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import random
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made import NARROW, random_weights
from PIL import Image

from inception import features, images, pictures
from inception.features import dataset
from inception.networks import MODEL, description
from inception.training import finetuning, loop
from inception.variants import Variant

NASTY: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**61, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "0",
    "\x1b[31mred\u202e", "[/red]", "\udc80", "x" * 100_000, [], {}, [None], [[]], [1, 2], ["a"], {"a": 1}, {"": []},
]  # fmt: skip
TEXTS = [b"", b"\0" * 64, b"null", b"[]", b"{}", b"{", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' * 50_000, b"1" * 9000,
         b'{"a": 1, "a": 2}', b'{"history": ' + b"9" * 5000 + b"}", b"\xef\xbb\xbf{}", b'"text"', b"NaN"]  # fmt: skip
HEADERS = ["{'descr': (), 'fortran_order': False, 'shape': (3,), }", "{'descr': [()], 'fortran_order': 0, 'shape': ()}",
           "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", "{}", "(" * 3000, "1" * 3000, "{'descr'",
           f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62},), }}", "None", "\x00", "{'descr': {}}",
           "{'descr': ('<f4', ()), 'fortran_order': False, 'shape': (), }", "{'descr': '|O', 'fortran_order': False, "
           "'shape': (1,), }", "{'descr': [('a', 'O')], 'fortran_order': False, 'shape': (1,), }"]  # fmt: skip


# --- Mutations -------------------------------------------------------------------------


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a value of JSON."""
    if isinstance(value, dict):
        own = [(value, key) for key in value]
    else:
        own = [(value, i) for i in range(len(value))] if isinstance(value, list) else []
    return own + [place for container, key in own for place in places(container[key])]


def text(sound: Any, chance: random.Random) -> bytes:
    """A mutation of a JSON text."""
    kind = chance.randrange(10)
    content = json.dumps(sound).encode()
    if kind == 0:
        return chance.choice(TEXTS)
    if kind == 1:
        at = chance.randrange(len(content))
        return content[:at] + chance.choice([b"", b"\0" * 8, b'"', b"\xff", b"}", b"[", content[at : at + 9] * 2])
    value = json.loads(content)
    container, key = chance.choice(places(value))
    if kind == 2:
        del container[key]
    elif kind == 3 and isinstance(container, dict):
        container[chance.choice(["", "x", "history", "a\udc80"])] = container.pop(key)
    elif kind == 4:
        other, place = chance.choice(places(value))
        other[place] = json.loads(json.dumps(container[key]))
    elif kind == 5 and isinstance(container, list):
        container += [container[key]] * chance.choice([1, 2, 1000])
    else:
        container[key] = chance.choice(NASTY)
    return json.dumps(value).encode()


def archive(members: dict[str, bytes], said: Any, chance: random.Random) -> bytes:
    """A mutation of an `.npz` whose state.npy says `said`; its checksums are right but where bytes are overwritten."""
    found = dict(members)
    name = chance.choice(list(found))
    kind = chance.randrange(9)
    if kind == 0:
        del found[name]
    elif kind == 1:
        other = chance.choice(["x.npy", "x", "../x.npy", "state", "state.npy\n", "best x.npy", "\x1b.npy"])
        found[other] = found.pop(name)
    elif kind == 2:
        header = chance.choice(HEADERS).encode("latin-1")
        found[name] = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + found[name][128:]
    elif kind == 3:
        found[name] = chance.choice(list(found.values()))
    elif kind == 4:
        odd = [1.5, np.zeros((2, 2)), np.zeros(0), np.array("x"), np.array(b"\xff"), np.array([1j]), 7]
        found[name] = npy(chance.choice(odd))
    elif kind in (5, 6):
        found["state.npy"] = npy(np.array(text(said, chance).decode(errors="replace").rstrip("\0")))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", chance.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as written:
        for name, content in found.items():
            written.writestr(name, content)
    content = file.getvalue()
    if kind == 7:
        content = content[: chance.randrange(len(content))]
    elif kind == 8:
        at = chance.randrange(len(content))
        content = content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
    return content


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# --- The files and their readers -------------------------------------------------------


def extraction(place: Path) -> tuple[Path, Callable[[random.Random], bytes], Callable[[], Any]]:
    """`_extraction.json`, with the shards beside it and (every other time) without."""
    Image.fromarray(images.test_picture(80)).save(place / "a.png")
    weights, out = random_weights(Variant(num_classes=5, depth_multiplier=0.02, min_depth=3)), place / "out"
    options: dict[str, Any] = {"engine": "onnxruntime", "size": 75, "batch": 2}
    features.extract(str(place / "a.png"), out, weights, **options)
    file, shard = out / dataset.EXTRACTION, out / "part-00000.parquet"
    sound, kept, count = json.loads(file.read_text()), shard.read_bytes(), [0]

    def read() -> None:
        count[0] += 1
        if count[0] % 2:
            shard.unlink(missing_ok=True)
        elif not shard.exists():
            shard.write_bytes(kept)
        before = dataset.described(out)
        dataset.finished(out)
        if count[0] % 20 == 1:
            features.extract(str(place / "a.png"), out, weights, **options)
        elif before is not None:
            dataset.load(out, partial=True)
            dataset.check_same(out, before, sound)

    return file, lambda chance: text(sound, chance), read


def fine_tuning(place: Path) -> tuple[Path, Callable[[random.Random], bytes], Callable[[], Any]]:
    """`model.json`."""
    said = {"inception": "1", "network": "InceptionV3", "end_point": "PreLogits", "picture": pictures.SLIM.json(),
            "variant": dataclasses.asdict(NARROW), "classes": ["a", "b"]}  # fmt: skip
    return place / f"{MODEL}.json", lambda chance: text(said, chance), lambda: description(place)


def settings(place: Path) -> tuple[Path, Callable[[random.Random], bytes], Callable[[], Any]]:
    """`work/settings.json`, when a run is resumed."""
    sound = {"unfreeze": None, "epochs": 3, "learning_rate": 1e-4, "validation": 0.2, "augment": ["flip", {"a": [1]}],
             "class_weights": {"a": 1.0}, "weights": "0" * 64, "classes": ["a", "b"], "pictures": "1" * 64}  # fmt: skip
    file = place / "work" / "settings.json"
    file.parent.mkdir()
    return file, lambda chance: text(sound, chance), lambda: finetuning._begin(place, sound, True)


def state(place: Path) -> tuple[Path, Callable[[random.Random], bytes], Callable[[], Any]]:
    """`work/classifier.npz`, when a run is resumed."""

    class Variable(np.ndarray):
        def assign(self, value: Any) -> None:
            self[...] = value

    moving = {f"model {i}": np.ones(shape, np.float32).view(Variable) for i, shape in enumerate([(4, 2), (2,)])}
    everything = moving | {"optimizer 0": np.array(3).view(Variable), "optimizer 1": np.ones(2, "u4").view(Variable)}
    row = {"stage": "classifier", "learning_rate": 1e-3, "loss": 0.5, "accuracy": 0.7, "val_loss": 0.6}
    rows = [loop.Epoch(**row, epoch=i, val_accuracy=float("nan")) for i in range(1, 4)]  # type: ignore[arg-type]
    file = place / "classifier.npz"
    loop._save(file, loop.State(rows, 2, False), everything, moving)
    with zipfile.ZipFile(file) as written:
        members = {name: written.read(name) for name in written.namelist()}
    said = json.loads(str(np.load(file)["state"]))

    def read() -> None:
        state, best = loop._restore(file, everything, moving)
        assert state.best <= len(state.history) and best.keys() == moving.keys()
        assert all(isinstance(number, int | float) for row in state.history for number in dataclasses.astuple(row)[1:])

    read()
    return file, lambda chance: archive(members, said, chance), read


FILES = {"_extraction.json": extraction, "model.json": fine_tuning, "settings.json": settings, "classifier.npz": state}


def torture(name: str, cases: int, seed: int = 0) -> Counter[str]:
    """Counts of "taken" and "refused", and of what is wrong with all others."""
    chance, counts = random.Random(seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        file, mutated, read = FILES[name](Path(folder))
        for _ in range(cases):
            file.write_bytes(mutated(chance))
            try:
                read()
                counts["taken"] += 1
            except ValueError as error:
                counts[judged(error, folder)] += 1
            except Exception as error:
                counts[f"{type(error).__name__}: {error}"[:200]] += 1
    return counts


def judged(error: ValueError, folder: str) -> str:
    sentence = str(error)
    ours = type(error) is ValueError or type(error).__module__.startswith("inception.")
    if not ours or folder not in sentence or not sentence.isprintable() or len(sentence) > 2000:
        return f"{type(error).__name__}: {sentence[:150]!r}, {len(sentence)} characters"
    return "refused"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=2000, help="of each file")
    given = parser.parse_args()
    bad = 0
    for name in FILES:
        counts = torture(name, given.cases)
        bad += (wrong := given.cases - counts["taken"] - counts["refused"])
        print(f"{name}: {counts['refused']} refused, {counts['taken']} taken, {wrong} wrong", flush=True)
        for what in counts.keys() - {"taken", "refused"}:
            print(f"  {counts[what]} x {what}", flush=True)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
