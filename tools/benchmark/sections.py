"""What is measured: a function a table."""

from __future__ import annotations

import contextlib
import gc
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmark import contenders, extraction, finetuning
from benchmark.tables import Section
from benchmark.workers import Contender, Times, Worker, alone, interleave, processes

Log = Callable[[str], None]


@dataclass(frozen=True)
class Setup:
    """What all sections share. `seconds` is how long each table's each batch size is measured for."""

    weights: str
    threads: int
    seconds: float
    batches: tuple[int, ...]
    photographs: Path | None
    log: Log


def images(batch: int, size: int = 299) -> np.ndarray:
    return np.random.default_rng(batch).uniform(-1, 1, (batch, size, size, 3)).astype(np.float32)


@contextlib.contextmanager
def working(setup: Setup, who: Mapping[str, Contender]) -> Iterator[dict[str, Worker]]:
    """A worker for each; one that cannot start is told of and left out."""
    workers = {name: Worker(contender, setup.threads) for name, contender in who.items()}
    try:
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


def prepared(setup: Setup, workers: dict[str, Worker], batch: np.ndarray) -> dict[str, np.ndarray]:
    """{name: output}; who cannot do this batch is told of and left out from then on."""
    outputs = {}
    for name, worker in list(workers.items()):
        try:
            outputs[name] = worker.prepare(batch)
        except RuntimeError as error:
            setup.log(f"{name} does not take part: {error}")
            workers.pop(name).close()
    return outputs


def _times(times: Mapping[str, Times]) -> dict[str, dict[str, Any]]:
    return {
        name: {"median": t.throughput, "slow": t.spread[0], "fast": t.spread[1], "seconds": t.seconds}
        for name, t in times.items()
    }


def _cell(times: Times) -> str:
    slow, fast = times.spread
    return f"{times.throughput:.1f} ({slow:.1f}-{fast:.1f})"


# --- Engines and peers -----------------------------------------------------------------


def engines(setup: Setup) -> Section:
    """Everybody, float32, and ours in other precisions, at each batch size; and what the machine can multiply."""
    found: dict[int, dict[str, Times]] = {}
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        calibration = f"{folder}/calibration.npy"
        np.save(calibration, photographs(setup.photographs, contenders.load(setup.weights)))
        everybody = contenders.everybody(setup.weights, calibration)
        with working(setup, {name: contender for name, (contender, _) in everybody.items()}) as workers:
            for batch in setup.batches:
                outputs = prepared(setup, workers, images(batch))
                expected = outputs["Keras predict"]
                for name, output in outputs.items():
                    if output.shape == expected.shape:
                        errors[name] = max(errors.get(name, 0.0), _relative(output, expected))
                found[batch] = interleave(workers, batch, setup.seconds)
                setup.log(f"batch {batch}: " + ", ".join(f"{n} {t.throughput:.1f}" for n, t in found[batch].items()))
            memory = {name: worker.peak_memory() for name, worker in workers.items()}
            first = {name: worker.first_result or 0.0 for name, worker in workers.items()}
    rows = [
        (
            name,
            *(_cell(found[batch][name]) for batch in setup.batches),
            f"{first[name]:.1f} s",
            f"{memory[name]:.0f} MB",
            f"{errors[name]:.1e}" if name in errors else "",
        )
        for name in memory
    ]
    text = (
        "Images a second, float32 but where it is said, 299x299: median (quartiles) of runs that alternate with "
        "everybody else's, each in a process of its own. First result: from the process's start, files and imports "
        f"included. Difference: the largest to Keras predict, relative. {contenders.LIMIT.capitalize()}: as many "
        "multiply-adds as an image needs, as one square product in TensorFlow.\n\n"
        + "\n".join(_verdict(batch, found[batch], everybody) for batch in setup.batches)
    )
    data = {
        "throughput": {batch: _times(times) for batch, times in found.items()},
        "first_result": first,
        "peak_memory_mb": memory,
        "relative_difference": errors,
    }
    columns = ("", *(f"batch {batch}" for batch in setup.batches), "first result", "peak memory", "difference")
    return Section("engines", "Engines and peers", text, columns, rows, data)


def _verdict(batch: int, times: Mapping[str, Times], everybody: Mapping[str, tuple[Contender, bool]]) -> str:
    speed = {name: t.throughput for name, t in times.items()}
    peer = max((n for n in speed if everybody[n][1]), key=lambda n: speed[n])
    slow, fast = (edge / speed[peer] for edge in times[peer].spread)
    auto = speed[contenders.AUTO]
    other = [f"{n.split()[-1]} {speed[n] / auto:.2f}" for n in speed if n.startswith(f"{contenders.AUTO}, ")]
    return (
        f"- batch {batch}: {contenders.AUTO} is {auto / speed[peer]:.2f} times the best peer ({peer}, whose own runs "
        f"spread from {slow:.2f} to {fast:.2f}), {auto / speed['Keras predict']:.2f} times Keras predict, "
        f"{auto / speed[contenders.LIMIT]:.2f} of the {contenders.LIMIT}; {', '.join(other)} times that."
    )


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- What each rewrite brings ----------------------------------------------------------

_REWRITES: dict[str, tuple[tuple[bool, bool], bool]] = {
    "none, every end point": ((False, False), False),
    "prune": ((False, False), True),
    "prune, fold": ((True, False), True),
    "prune, pool behind": ((False, True), True),
    "prune, fold, pool behind": ((True, True), True),
}


def rewrites(setup: Setup) -> Section:
    """Each engine on plans with some of the rewrites, as ratios to the pruned plan without any."""
    rows, data = [], {}
    batches = (min(setup.batches), max(setup.batches))
    for engine in ("tensorflow", "onnxruntime", "openvino"):
        who = {
            name: partial(contenders.rewritten, setup.weights, engine, flags, prune)
            for name, (flags, prune) in _REWRITES.items()
        }
        with working(setup, who) as workers:
            found = {}
            for batch in batches:
                prepared(setup, workers, images(batch))
                if not workers:
                    break
                found[batch] = interleave(workers, batch, setup.seconds)
        if not workers:
            continue
        data[engine] = {batch: _times(times) for batch, times in found.items()}
        for name in workers:
            ratios = [found[b][name].throughput / found[b]["prune"].throughput for b in batches]
            cells = (f"{_cell(found[b][name])} x{r:.2f}" for b, r in zip(batches, ratios, strict=True))
            rows.append((f"{engine}: {name}", *cells))
            setup.log(" | ".join(rows[-1]))
    text = "Images a second, and the ratio to the same engine on the network as it is, pruned to the asked output."
    return Section("rewrites", "What each rewrite brings", text, ("", *(f"batch {b}" for b in batches)), rows, data)


# --- Other precisions ------------------------------------------------------------------


def precisions(setup: Setup) -> Section:
    """bfloat16 and int8 beside float32 at batch 8; int8 calibrated on photographs, where there are some."""
    import warnings

    import inception

    weights = contenders.load(setup.weights)
    with tempfile.TemporaryDirectory() as folder:
        calibration = f"{folder}/calibration.npy"
        taken = photographs(setup.photographs, weights)
        np.save(calibration, taken)
        openvino = partial(contenders.ours, setup.weights, "openvino")
        who = {
            "float32": openvino,
            "bfloat16": partial(openvino, "bfloat16"),
            "int8": partial(openvino, "int8", calibration=calibration),
        }
        with working(setup, who) as workers:
            outputs = prepared(setup, workers, taken[:8])
            times = interleave(workers, 8, setup.seconds)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            int8 = inception.compile_inference(
                weights, end_points=(contenders.point(weights),), precision="int8", calibration=taken, image_size=299
            )
    base = times["float32"].throughput
    rows = [
        (name, _cell(t), f"{t.throughput / base:.2f}", f"{_cosine(outputs[name], outputs['float32']):.5f}")
        for name, t in times.items()
    ]
    text = f"OpenVINO engine, batch 8, images a second. {int8.agreement}"
    data = {"throughput": _times(times), "agreement": str(int8.agreement)}
    return Section("precisions", "Precisions", text, ("", "batch 8", "to float32", "cosine"), rows, data)


def photographs(folder: Path | None, weights: Any) -> np.ndarray:
    """The pictures of a folder as the network takes them; crops of scikit-image's photographs where none is given."""
    from inception.inference import export

    if folder is not None:
        return np.stack(export.pictures(folder, weights, (299, 299)))
    import skimage.data

    rng = np.random.default_rng(0)
    names = ("astronaut", "cat", "coffee", "rocket", "brick", "grass", "gravel", "camera", "coins", "moon")
    crops = []
    for name in names * 15:
        picture = getattr(skimage.data, name)()
        picture = np.stack([picture] * 3, -1) if picture.ndim == 2 else picture
        side = int(min(picture.shape[:2]) * rng.uniform(0.5, 1))
        top, left = (rng.integers(0, length - side + 1) for length in picture.shape[:2])
        crops.append(weights.picture.input(np.ascontiguousarray(picture[top : top + side, left : left + side])))
    return np.stack(crops)


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean((a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)))


# --- Exports ---------------------------------------------------------------------------


def exports(setup: Setup) -> Section:
    """Each format, written, run in its own runtime, and compared with the Keras builder."""
    from inception.inference import export

    weights, rows = contenders.load(setup.weights), []
    runtimes = {"net.onnx": "ONNX Runtime", "net": "TensorFlow", "net.tflite": "LiteRT", "net.xml": "OpenVINO"}
    with tempfile.TemporaryDirectory() as folder:
        for name, runtime in runtimes.items():
            start = time.perf_counter()
            made = export.export(weights, Path(folder) / name, image_size=299)
            seconds = time.perf_counter() - start
            files = [made.path, *Path(folder).glob("net.bin")] if name == "net.xml" else [made.path]
            size = sum(f.stat().st_size for path in files for f in (path.rglob("*") if path.is_dir() else [path]))
            worst = max(made.differences, key=lambda row: row.relative)
            figures = f"{worst.absolute:.1e}", f"{worst.relative:.1e}", f"{size / 1e6:.1f} MB", f"{seconds:.0f} s"
            rows.append((made.kind, runtime, *figures))
            setup.log(" | ".join(rows[-1]))
    columns = ("format", "run by", "largest difference", "relative", "size", "written and proven in")
    return Section("exports", "Exports", "Compared with the Keras builder on two pictures.", columns, rows)


# --- Building, loading, converting -----------------------------------------------------

_STEPS: dict[str, str] = {
    "import inception": "import inception",
    "load weights": "import inception; inception.load_weights(PATH)",
    "convert to a slim checkpoint": "import inception; inception.load_weights(PATH).save(OUT)",
    "import TensorFlow and Keras": "import keras",
    "Keras builder with weights": "import inception; inception.InceptionV3(TOP, PATH, pooling='avg')",
    "keras.applications, initialized": "import keras; keras.applications.InceptionV3(weights=None)",
    "slim builder": (
        "import tensorflow as tf, tf_slim as slim, inception\n"
        "with tf.Graph().as_default():\n"
        "  x = tf.compat.v1.placeholder(tf.float32, [None, 299, 299, 3])\n"
        "  with slim.arg_scope(inception.inception_v3_arg_scope()): inception.inception_v3(x, 1000)"
    ),
}


def building(setup: Setup) -> Section:
    """What a process of its own needs, from its start to its end: time and peak memory."""
    top = bool(contenders.load(setup.weights).variant.num_classes)
    with tempfile.TemporaryDirectory() as folder:
        given = f"PATH, OUT, TOP = {setup.weights!r}, {folder + '/out.ckpt'!r}, {top}"
        runs = processes({name: f"{given}\n{code}" for name, code in _STEPS.items()}, 3)
    rows = [(n, f"{statistics.median(p.seconds for p in r):.2f} s", f"{r[0].peak:.0f} MB") for n, r in runs.items()]
    text = "Each in a process of its own, start and imports included; the median of three."
    data = {name: [each.seconds for each in run] for name, run in runs.items()}
    return Section("building", "Building, loading, converting", text, ("", "time", "peak memory"), rows, data)


# --- The first answer ------------------------------------------------------------------

# {name: (packages, script)}: one photograph to class scores, each as short as its library lets it be.
_SCRIPTS: dict[str, tuple[tuple[str, ...], str]] = {
    "inception classify": (
        (),
        "import sys; sys.argv = ['inception', 'classify', PHOTO, '--weights', H5]\n"
        "from inception.cli import main; main()",
    ),
    "compile_inference": ((), "import inception; inception.compile_inference(H5)([PHOTO])"),
    "compile_inference, onnxruntime": (
        ("onnxruntime", "onnx"),
        "import inception; inception.compile_inference(H5, engine='onnxruntime')([PHOTO])",
    ),
    "keras.applications": (
        ("keras",),
        "import keras; from keras.applications import inception_v3\n"
        "model = inception_v3.InceptionV3(weights=None); model.load_weights(H5)\n"
        "photo = keras.utils.img_to_array(keras.utils.load_img(PHOTO, target_size=(299, 299)))\n"
        "model.predict(inception_v3.preprocess_input(photo[None]), verbose=0)",
    ),
    "torchvision": (
        ("torchvision",),
        "import torch, torchvision; from PIL import Image; from torchvision.transforms import functional as way\n"
        "model = torchvision.models.inception_v3(weights=None, init_weights=False).eval()\n"
        "model.load_state_dict(torch.load(TORCH))\n"
        "photo = way.to_tensor(Image.open(PHOTO).resize((299, 299)))[None] * 2 - 1\n"
        "with torch.inference_mode(): model(photo)",
    ),
    "ONNX Runtime, on an ONNX file": (
        ("onnxruntime", "onnx"),
        "import numpy, onnxruntime; from PIL import Image\n"
        "session = onnxruntime.InferenceSession(ONNX, providers=['CPUExecutionProvider'])\n"
        "photo = numpy.asarray(Image.open(PHOTO).resize((299, 299)), 'f4') / 127.5 - 1\n"
        "session.run(None, {'images': photo[None]})",
    ),
}


def first(setup: Setup) -> Section:
    """One photograph, from the process's start to the scores: the time that a user waits for the first answer."""
    from inception import images as photographs_made
    from inception.variants import KERAS, TORCHVISION

    scripts = {name: code for name, (needs, code) in _SCRIPTS.items() if contenders.there(*needs)}
    with tempfile.TemporaryDirectory() as folder:
        places = {name: f"{folder}/x.{ending}" for name, ending in
                  {"H5": "h5", "TORCH": "pth", "ONNX": "onnx", "PHOTO": "png"}.items()}  # fmt: skip
        contenders.random_weights(KERAS).save(places["H5"])
        Image.fromarray(photographs_made.test_picture(600)).save(places["PHOTO"])
        if "torchvision" in scripts:
            contenders.random_weights(TORCHVISION).save(places["TORCH"])
        if contenders.there("onnx"):
            contenders.write_onnx(places["H5"], places["ONNX"])
        given = "\n".join(f"{name} = {place!r}" for name, place in places.items())
        runs = processes({name: f"{given}\n{code}" for name, code in scripts.items()}, 5)
    least = {name: [min(each.seconds for each in run), min(each.cpu for each in run)] for name, run in runs.items()}
    rows = [
        (name, f"{wall:.2f} s", f"{cpu:.2f} s", f"{max(each.peak for each in runs[name]):.0f} MB")
        for name, (wall, cpu) in least.items()
    ]
    ours, peer = least["inception classify"], least["keras.applications"]
    text = (
        "A photograph to class scores in a process of its own, start and imports included; random weights of the full "
        "network. In turn, the least of five. `inception classify` takes "
        f"1/{peer[0] / ours[0]:.1f} of the time of the keras.applications script, 1/{peer[1] / ours[1]:.1f} of its "
        "processor time."
    )
    data = {name: [[each.seconds, each.cpu, each.peak] for each in run] for name, run in runs.items()}
    return Section("first", "The first answer", text, ("", "time", "processor", "peak memory"), rows, data)


# --- Training --------------------------------------------------------------------------


def training(setup: Setup) -> Section:
    """A training step of our Keras builder, with and without the auxiliary head, beside the peer's."""
    who = {
        "keras.applications": partial(contenders.training_step, "peer"),
        "ours": partial(contenders.training_step, "ours"),
        "ours, auxiliary head": partial(contenders.training_step, "aux"),
        "keras.applications, mixed_bfloat16": partial(contenders.training_step, "peer", "mixed_bfloat16"),
        "ours, mixed_bfloat16": partial(contenders.training_step, "ours", "mixed_bfloat16"),
    }
    with working(setup, who) as workers:
        prepared(setup, workers, images(8))
        times = interleave(workers, 8, setup.seconds)
        memory = {name: worker.peak_memory() for name, worker in workers.items()}
    base = times["keras.applications"].throughput
    rows = [(n, _cell(t), f"{t.throughput / base:.2f}", f"{memory[n]:.0f} MB") for n, t in times.items()]
    text = "Images a second of `train_on_batch`: SGD, cross-entropy, batch 8, 299x299, 1000 classes."
    columns = ("", "batch 8", "to the peer", "peak memory")
    return Section("training", "A training step", text, columns, rows, _times(times))


def fine_tuning(setup: Setup) -> Section:
    """`finetune` from a block on beside `keras.Model.fit` of the same network, frozen and augmented alike."""
    who: dict[str, Callable[..., finetuning.Cost]] = {
        "keras.Model.fit": finetuning.keras_fit,
        "ours": finetuning.ours,
        "ours, bfloat16": partial(finetuning.ours, precision="bfloat16"),
        "ours, bfloat16, 2 versions": partial(finetuning.ours, precision="bfloat16", versions=2),
    }
    costs: dict[str, finetuning.Cost] = {}
    with tempfile.TemporaryDirectory() as root:
        finetuning.pictures(Path(root) / "pictures")
        for name, function in who.items():
            run = partial(function, setup.weights, f"{root}/pictures", f"{root}/{name}")
            costs[name] = finetuning.Cost(*alone(run, setup.threads))
            setup.log(f"{name}: {costs[name]}")
    images, peer = finetuning.PICTURES * (1 - finetuning.HELD_OUT) * finetuning.EPOCHS, costs["keras.Model.fit"]
    rows = [
        (name, f"{images / each.seconds:.1f}", f"{peer.seconds / each.seconds:.2f}",
         f"{peer.processor / each.processor:.2f}", f"{each.memory:.0f} MB")
        for name, each in costs.items()
    ]  # fmt: skip
    text = (
        f"Images a second of {finetuning.EPOCHS} epochs over {finetuning.PICTURES} pictures, a fifth of them held out, "
        f"from {finetuning.BLOCK} on, batch {finetuning.BATCH}, 299x299; one run, each in a process of its own."
    )
    columns = ("", "images/s", "to the peer", "by processor time", "peak memory")
    return Section("fine-tuning", "Fine-tuning", text, columns, rows, costs)


# --- Features --------------------------------------------------------------------------


def features(setup: Setup) -> Section:
    """`inception features` at each precision: its speed beside the bare engine's, and what is left of float32's."""
    from inception.features import load

    costs: dict[str, extraction.Cost] = {}
    with tempfile.TemporaryDirectory() as root:
        size = extraction.pictures(Path(root) / "pictures", extraction.PICTURES)
        for name in ("float32", "bfloat16", "int8"):
            run = partial(extraction.extraction, setup.weights, f"{root}/pictures", f"{root}/{name}", name)
            costs[name] = extraction.Cost(*alone(run, setup.threads))
            setup.log(f"{name}: {costs[name]}")
        arrays = {name: load(f"{root}/{name}").arrays["PreLogits"] for name in costs}
    rows = []
    for name, each in costs.items():
        kept = extraction.kept(arrays["float32"], arrays[name])
        rows.append((
            name, f"{each.steady:.1f}", f"{each.steady / costs['float32'].steady:.2f}",
            f"{each.steady / each.bare:.3f}", f"{each.whole:.1f}", f"{each.memory:.0f} MB", f"{kept.cosine:.5f}",
            f"{kept.least:.4f}", f"{kept.neighbours:.1%}", f"{kept.fid:.3f}", f"{kept.to_float32:.4f}",
        ))  # fmt: skip
    text = (
        f"PreLogits of {extraction.PICTURES} JPEGs of 600x400 pixels and {size:.0f} kB, in a process of its own each. "
        "Images a second, the start left out; to float32; to the bare engine on batches that lie ready, before and "
        "after in the same process; with the start (int8 calibrates). Cosine with float32's features, its mean and "
        "least; pictures whose nearest neighbour is the same; FID of the even pictures against the odd ones, and of "
        "all of them against float32's."
    )
    columns = ("", "images/s", "to float32", "to the engine", "with start", "peak memory", "cosine", "least",
               "neighbours", "FID", "FID to float32")  # fmt: skip
    return Section("features", "Features", text, columns, rows, costs)


# --- Sizes -----------------------------------------------------------------------------


def sizes(setup: Setup) -> Section:
    """Our fastest engine and Keras's tf.function over image sizes at batch 4, and over batch sizes at 299x299."""
    shapes = [(4, side) for side in (75, 150, 224, 299, 448, 600)] + [(2**i, 299) for i in range(7)]
    rows, data = [], {}
    for batch, side in dict.fromkeys(shapes):
        who = {
            "Keras tf.function": partial(contenders.keras_function, setup.weights, side),
            "ours: tensorflow": partial(contenders.ours, setup.weights, "tensorflow", size=side),
            "ours: openvino": partial(contenders.ours, setup.weights, "openvino", size=side),
        }
        with working(setup, who) as workers:
            prepared(setup, workers, images(batch, side))
            times = interleave(workers, batch, setup.seconds / 4)
        data[f"{batch}x{side}"] = _times(times)
        rows.append((f"batch {batch}, {side}x{side}", *(_cell(times[name]) if name in times else "-" for name in who)))
        setup.log(" | ".join(rows[-1]))
        gc.collect()
    columns = ("", "Keras tf.function", "ours: tensorflow", "ours: openvino")
    return Section("sizes", "Image and batch sizes", "Images a second.", columns, rows, data)


SECTIONS: dict[str, Callable[[Setup], Section]] = {
    "engines": engines,
    "rewrites": rewrites,
    "precisions": precisions,
    "exports": exports,
    "building": building,
    "first": first,
    "training": training,
    "fine-tuning": fine_tuning,
    "features": features,
    "sizes": sizes,
}
