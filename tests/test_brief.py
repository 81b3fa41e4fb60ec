"""Reprs of records that hold arrays: one short line, whatever they hold."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made import NARROW, NARROW_NOTOP, random_weights

from inception import inference
from inception.classify import Classifier
from inception.features import Features
from inception.inference import plan
from inception.labels import imagenet
from inception.networks import Network
from inception.pictures import KERAS
from inception.training.evaluation import Evaluation
from inception.training.finetuning import Result
from inception.training.folders import Pictures
from inception.visualize.activations import Activations
from inception.visualize.deepdream import Dream
from inception.visualize.filters import Filters
from inception.visualize.gradcam import GradCam

MANY = [f"pictures/{i}.png" for i in range(1000)]
MAP = np.zeros([300, 400], np.float32)
PHOTO = np.zeros([300, 400, 3], np.uint8)
PICTURES = Pictures(tuple(MANY), np.zeros(1000, np.int64), ("a", "b"))
EVALUATION = Evaluation(PICTURES, np.zeros([1000, 2], np.float32), KERAS)
NETWORK = Network("made", KERAS, imagenet(1000), random_weights(NARROW))
RECORDS = [
    random_weights(NARROW),
    plan.plan(random_weights(NARROW), ("PreLogits",)),
    PICTURES,
    EVALUATION,
    Result(Path("out"), ("a", "b"), (), EVALUATION, 0.1, 0.1, ()),
    NETWORK,
    Classifier(SimpleNamespace(weights=[]), imagenet(1000), NETWORK),
    Features(MANY, {"PreLogits": np.zeros([1000, 2048], np.float32)}, [], {"inception": "1"}, MANY),
    Activations({"Mixed_5b": np.zeros([35, 35, 256], np.float32)}, {"Mixed_5b": np.zeros(256, bool)}),
    GradCam(MAP, MAP, PHOTO, 3, np.zeros(1000, np.float32), "Mixed_7c"),
    Filters("Mixed_5b", np.arange(9), PHOTO[None], MAP, np.zeros(9, bool)),
    Dream(PHOTO, ()),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_is_one_short_line(record):
    text = repr(record)
    assert text.startswith(f"{type(record).__name__}(")
    assert len(text.splitlines()) == 1
    assert len(text) < 600


def test_what_the_line_says():
    assert repr(RECORDS[0]) == "Weights('made', made for a test: 7 classes, 378 arrays, 217,517 parameters)"
    assert repr(random_weights(NARROW_NOTOP)).startswith("Weights('made', made for a test: no classifier, 376 arrays")
    assert repr(EVALUATION).startswith(
        "Evaluation(pictures=Pictures(paths=<1000 items>, labels=<int64 [1000]>, classes=('a', 'b')), "
        "scores=<float32 [1000, 2]>, picture="
    )
    features = next(record for record in RECORDS if isinstance(record, Features))
    assert "arrays={'PreLogits': <float32 [1000, 2048]>}" in repr(features)
    settings = inference.Settings()
    assert repr(inference.Inference(RECORDS[1], "openvino", settings, lambda batch: [])) == (
        "Inference(openvino, PreLogits, float32)"
    )
