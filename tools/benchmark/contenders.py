"""Who takes part: each peer as its users run it, and our engines. All compute one end point of the same weights.

Each function returns what makes a runner for a batch size; it runs in a process of its own
(`workers`), so every import is inside.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.workers import Contender, Runner

Make = Callable[[int], Runner]
AUTO, LIMIT = "ours: auto", "matrix product"
TESTS = Path(__file__).resolve().parents[2] / "tests"


def point(weights: Any) -> str:
    """The end point that everybody computes: probabilities, or the pooled features of weights without classes."""
    return "Predictions" if weights.variant.num_classes else "PreLogits"


def load(path: str) -> Any:
    import inception

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the file has no checksums matters to nobody here
        weights = inception.load_weights(path)
    return weights.step("drop-aux") if weights.variant.aux_logits else weights


def random_weights(variant: Any) -> Any:
    """Weights by chance, as the tests have them."""
    from made import random_weights as made

    return made(variant)


def write_onnx(path: str, target: str) -> None:
    """A weight file as the ONNX file that `inception export` writes, not proven."""
    from inception.inference import onnx, plan

    Path(target).write_bytes(onnx.model_of(plan.plan(load(path))).SerializeToString())


# --- Peers -----------------------------------------------------------------------------


def keras_applications(path: str, size: int = 299) -> Any:
    """keras.applications' own model, filled by Keras's own reader."""
    from inception import verify

    return verify.keras_peer(load(path), (size, size, 3))


def keras_predict(path: str) -> Make:
    model = keras_applications(path)
    return lambda batch: lambda images: model.predict(images, batch_size=batch, verbose=0)


def keras_function(path: str, size: int = 299) -> Make:
    import tensorflow as tf

    model = keras_applications(path, size)
    function = tf.function(lambda images: model(images, training=False))
    return lambda batch: lambda images: function(tf.constant(images)).numpy()


def slim_graph(path: str) -> Make:
    """tf-slim's own network in a session, with what tests do to make it build on today's TensorFlow."""
    sys.path.insert(0, str(TESTS / "builders"))
    oracle = importlib.import_module("slim_oracle")
    import tensorflow as tf
    import tf_slim as slim

    weights, v1 = load(path), tf.compat.v1
    classes = weights.variant.num_classes
    with tf.Graph().as_default():
        images = v1.placeholder(tf.float32, [None, 299, 299, 3])
        with slim.arg_scope(oracle.theirs.inception_v3_arg_scope()):
            if classes:
                _, points = oracle.theirs.inception_v3(images, classes, is_training=False, create_aux_logits=False)
                output = points["Predictions"]
            else:
                with slim.arg_scope([slim.batch_norm, slim.dropout], is_training=False):
                    maps, _ = oracle.theirs.inception_v3_base(images, scope="InceptionV3")
                output = tf.reduce_mean(maps, [1, 2])
        session = v1.Session()
        oracle.initialize(session, {name: weights.arrays[name] for name in oracle.shapes()})
    run = session.make_callable(output, [images])
    return lambda batch: run


def torch_module(path: str, channels_last: bool = False) -> Make:
    """Convolution, batch norm and ReLU modules in the table's order, as torchvision has them, without gradients."""
    import torch

    from benchmark.torch_network import Network

    weights = load(path)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    module = Network(weights).train(False)
    if channels_last:
        module = module.to(memory_format=torch.channels_last)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(images).permute(0, 3, 1, 2)
            return module(x if channels_last else x.contiguous()).numpy()

    return lambda batch: run


def onnxruntime_keras(path: str) -> Make:
    """The Keras graph as tf2onnx writes it, in ONNX Runtime as it comes."""
    import onnxruntime

    model = keras_applications(path)
    model(np.zeros((1, 299, 299, 3), np.float32))  # the exporter wants a model that has run
    with tempfile.TemporaryDirectory() as folder:
        model.export(f"{folder}/keras.onnx", format="onnx", verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
        session = onnxruntime.InferenceSession(f"{folder}/keras.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: lambda images: session.run(None, {name: images})[0]


def openvino_keras(path: str) -> Make:
    """The Keras graph as a SavedModel, converted by OpenVINO, in float32."""
    import openvino

    model = keras_applications(path)
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, format="tf_saved_model", verbose=False)
        converted = openvino.convert_model(folder)
    threads = os.environ["OMP_NUM_THREADS"]
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}

    def make(batch: int) -> Runner:
        converted.reshape([batch, 299, 299, 3])
        request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
        return lambda images: request.infer([images])[0]

    return make


# --- Ours ------------------------------------------------------------------------------


def ours(path: str, engine: str, precision: str = "float32", size: int = 299, calibration: str = "") -> Make:
    """`compile_inference` for each batch size; int8 calibrates on the array in the file `calibration`."""
    import inception

    weights = load(path)
    threads = int(os.environ["OMP_NUM_THREADS"])
    if engine == "tensorflow":
        _tensorflow_threads(threads)
    taken = np.load(calibration) if calibration else None

    def make(batch: int) -> Runner:
        run = inception.compile_inference(
            weights,
            end_points=(point(weights),),
            engine=engine,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            batch=batch,
            threads=threads,
            image_size=size,
            calibration=taken,
        )
        return lambda images: run(images)[point(weights)]

    return make


def by_default(path: str, precision: str = "float32", calibration: str = "") -> Make:
    """`compile_inference` as it comes: any batch, any size, its own engine, threads and shapes."""
    import inception

    weights = load(path)
    run = inception.compile_inference(
        weights,
        end_points=(point(weights),),
        precision=precision,  # type: ignore[arg-type]
        calibration=np.load(calibration) if calibration else None,
    )
    return lambda batch: lambda images: run(images)[point(weights)]


def matrix_product(path: str) -> Make:
    """A square product for each image, of as many multiply-adds as the network has (OpenBLAS has no AVX-512 here)."""
    import tensorflow as tf

    from inception import architecture

    _tensorflow_threads(int(os.environ["OMP_NUM_THREADS"]))
    variant = load(path).variant
    places = architecture.walk(variant.table(), 299, 299, variant.channels)
    side = round(sum(place.multiply_adds or 0 for place in places) ** (1 / 3))
    a, b = (tf.random.normal((side, side)) for _ in "ab")
    product = tf.function(lambda: tf.matmul(a, b)[0, :1])

    def run(images: np.ndarray) -> np.ndarray:
        return np.concatenate([product().numpy() for _ in images])

    return lambda batch: run


def rewritten(path: str, engine: str, rewrites: tuple[bool, bool], prune: bool = True) -> Make:
    """An engine on a plan with some of the rewrites alone; without `prune` every end point is computed and returned."""
    from inception.inference import Settings, engines
    from inception.inference import plan as plans

    weights = load(path)
    threads = int(os.environ["OMP_NUM_THREADS"])
    if engine == "tensorflow":
        _tensorflow_threads(threads)
    wanted = (point(weights),) if prune else plans.available(weights.variant)
    plan = plans.plan(weights, wanted, rewrites=plans.Rewrites(*rewrites))
    place = wanted.index(point(weights))

    def make(batch: int) -> Runner:
        settings = Settings(batch=batch, threads=threads, image_size=(299, 299))
        run = engines.compiled(engine, plan, settings)
        return lambda images: run(images)[place]

    return make


def _tensorflow_threads(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)


def there(*packages: str) -> bool:
    """Whether packages can be imported."""
    return all(importlib.util.find_spec(package) for package in packages)


def everybody(path: str, calibration: str) -> dict[str, tuple[Contender, bool]]:
    """{name: (contender, whether it is a peer)} of all whose packages are installed; int8 calibrates on that file."""
    known: dict[str, tuple[Callable[..., Make], bool, tuple[str, ...]]] = {
        "Keras predict": (keras_predict, True, ()),
        "Keras tf.function": (keras_function, True, ()),
        "tf-slim graph": (slim_graph, True, ("tf_keras", "pytest")),
        "torch": (torch_module, True, ("torch",)),
        "torch channels-last": (partial(torch_module, channels_last=True), True, ("torch",)),
        "ONNX Runtime, Keras graph": (onnxruntime_keras, True, ("onnxruntime", "tf2onnx")),
        "OpenVINO, Keras graph": (openvino_keras, True, ("openvino",)),
        "ours: tensorflow": (partial(ours, engine="tensorflow"), False, ()),
        "ours: onnxruntime": (partial(ours, engine="onnxruntime"), False, ("onnxruntime", "onnx")),
        "ours: openvino": (partial(ours, engine="openvino"), False, ("openvino", "onnx")),
        AUTO: (by_default, False, ()),
        f"{AUTO}, bfloat16": (partial(by_default, precision="bfloat16"), False, ("openvino",)),
        f"{AUTO}, int8": (partial(by_default, precision="int8", calibration=calibration), False, ("openvino", "nncf")),
        LIMIT: (matrix_product, False, ()),
    }
    return {name: (partial(make, path), peer) for name, (make, peer, needs) in known.items() if there(*needs)}


# --- Training --------------------------------------------------------------------------


def training_step(which: str, policy: str = "float32") -> Make:
    """`train_on_batch` of a fresh network: keras.applications' ("peer"), "ours", or ours with both heads ("aux")."""
    import keras

    import inception

    keras.config.set_dtype_policy(policy)
    if which == "peer":
        model = keras.applications.InceptionV3(weights=None)
    else:
        model = inception.InceptionV3(weights=None, aux_logits=which == "aux")
    losses = ["sparse_categorical_crossentropy"] * len(model.outputs)
    model.compile("sgd", losses if len(losses) > 1 else losses[0], jit_compile=False)

    def make(batch: int) -> Runner:
        labels = np.arange(batch)
        wanted = [labels] * len(losses) if len(losses) > 1 else labels
        return lambda images: np.asarray(model.train_on_batch(images, wanted))

    return make
