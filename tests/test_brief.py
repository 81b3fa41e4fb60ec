"""What records that hold arrays show: one short line in a shell, a table or a picture in a notebook."""

import dataclasses
import importlib
import inspect
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from made import NARROW, NARROW_NOTOP, random_weights

from inception import inference
from inception.classify import Classifier
from inception.features import Features
from inception.inference import plan
from inception.labels import Label, imagenet
from inception.networks import Network
from inception.pictures import KERAS
from inception.training.evaluation import Evaluation
from inception.training.finetuning import Result
from inception.training.folders import Pictures
from inception.visualize.activations import Activations
from inception.visualize.deepdream import Dream
from inception.visualize.filters import Filters
from inception.visualize.gradcam import GradCam
from inception.weights import Weights

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
    Activations({"Mixed_5b": np.zeros([35, 35, 256], np.float32)}, {"Mixed_5b": np.zeros(256, bool)}, PHOTO),
    GradCam(MAP, MAP, PHOTO, 3, np.zeros(1000, np.float32), "Mixed_7c"),
    Filters("Mixed_5b", np.arange(9), np.zeros([9, 20, 20, 3], np.uint8), MAP, np.zeros(9, bool)),
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


# --- In notebooks ----------------------------------------------------------------------

HOSTILE = "<img src=x onerror=alert(1)>\u202e&"
SHOWN = [
    record for record in RECORDS
    if isinstance(record, Weights | Network | Features | Evaluation | Activations | GradCam | Filters | Dream)
]  # fmt: skip


class Tags(HTMLParser):
    """The tags of a piece of HTML, each closed in its order, its images and its words."""

    def __init__(self, html):
        super().__init__()
        self.open, self.seen, self.images, self.words = [], set(), [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.seen.add(tag)
        if tag == "img":
            self.images.append(dict(attributes))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += f"{data}\n"


@pytest.mark.parametrize("record", SHOWN, ids=lambda record: type(record).__name__)
def test_a_record_is_a_table_or_a_picture_in_a_notebook(record):
    tags = Tags(record._repr_html_())
    drawn = isinstance(record, Activations | GradCam | Filters | Dream)
    assert len(tags.images) == drawn and ("table" in tags.seen) != drawn
    assert all(each["src"].startswith("data:image/webp;base64,") and each["alt"] for each in tags.images)
    assert "color" not in record._repr_html_()  # that of the page, light or dark


def test_what_the_tables_say():
    weights = Tags(random_weights(NARROW)._repr_html_()).words
    assert "Mixed_7c" in weights and "8 × 8 × 203" in weights and weights.endswith("all\n217,517\n")
    small = dataclasses.replace(random_weights(NARROW), picture=KERAS.at(80))
    assert "? × ? × 203" in small._repr_html_()  # whose pictures are too small for an auxiliary head
    assert "1000: tench, goldfish, " in Tags(NETWORK._repr_html_()).words
    scores = np.eye(2, dtype=np.float32)[[0, 0, 1, 0]]
    pictures = Pictures(("a",) * 4, np.array([0, 0, 1, 1]), ("cat", "dog"))
    words = Tags(Evaluation(pictures, scores, KERAS)._repr_html_()).words
    assert "75.0% of 4 pictures are right" in words
    assert words.index("dog\n1\n2\n50.0%") < words.index("cat\n2\n2\n100.0%")  # the worst first
    assert "float32" in Tags(RECORDS[7]._repr_html_()).words


def test_names_from_files_are_escaped():
    weights = random_weights(NARROW)
    weights = dataclasses.replace(weights, source=dataclasses.replace(weights.source, path=HOSTILE))
    names = tuple(Label("", f"{HOSTILE}{i}") for i in range(7))
    features = Features([HOSTILE], {HOSTILE: np.zeros([1, 3], np.float32)}, [], {"weights": HOSTILE}, [HOSTILE])
    evaluation = Evaluation(Pictures(("a",), np.zeros(1, np.int64), (HOSTILE,)), np.ones([1, 1], np.float32), KERAS)
    drawn = Activations({HOSTILE: np.ones([5, 5, 2], np.float32)}, {HOSTILE: np.zeros(2, bool)}, PHOTO)
    for record in (weights, Network(HOSTILE, KERAS, names, weights), features, evaluation, drawn):
        html = record._repr_html_()
        tags = Tags(html)
        assert "<img src=x" not in html and "\u202e" not in html and len(tags.images) == (record is drawn)
        assert "<img src=x onerror=alert(1)>\\u202e&" in tags.words


# --- In help() -------------------------------------------------------------------------


def public():
    """Every dataclass that the reference or a room names."""
    rooms = [importlib.import_module(f"inception.{name}".rstrip(".")) for name in
             ("", "features", "inference", "metrics", "training", "visualize", "weights")]  # fmt: skip
    named = [getattr(room, name) for room in rooms for name in room.__all__]
    for page in sorted((Path(__file__).resolve().parents[1] / "docs" / "reference").glob("*.md")):
        for module, name in re.findall(r"autoclass:: ([\w.]+)\.(\w+)", page.read_text()):
            named.append(getattr(importlib.import_module(module), name))
    return list(dict.fromkeys(each for each in named if isinstance(each, type) and dataclasses.is_dataclass(each)))


@pytest.mark.parametrize("record", public(), ids=lambda record: record.__name__)
def test_help_lists_the_fields_one_a_line(record):
    lines = inspect.getdoc(record).splitlines()
    listed = itertools.takewhile(str.strip, lines[lines.index("Attributes:") + 1 :])
    names = {match[1] for line in listed if (match := re.match(r"    (\w+): ", line))}
    assert names == {field.name for field in dataclasses.fields(record)}
