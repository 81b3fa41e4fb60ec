"""Class names in the three orders of ImageNet files."""

import hashlib
import json
import re

import numpy as np
import pytest
import tensorflow as tf

from inception import decode_predictions, labels


def test_tench_is_0_1_and_449():
    assert labels.imagenet(1000)[0].wnid == "n01440764"
    assert labels.imagenet(1001)[1].wnid == "n01440764"
    assert labels.imagenet(1008)[449].wnid == "n01440764"
    assert labels.imagenet(1001)[0].name == "background"


@pytest.mark.parametrize("classes", [1000, 1001, 1008])
def test_every_order_holds_the_thousand_once(classes):
    wnids = [label.wnid for label in labels.imagenet(classes) if label.wnid]
    assert len(wnids) == len(set(wnids)) == 1000
    if classes < 1008:
        assert wnids == sorted(wnids)


KERAS_CLASS_INDEX = "c2c37ea517e94d9795004a39431a14cb"  # MD5 of imagenet_class_index.json, in keras.applications


def test_names_are_spelled_as_in_keras_own_file():
    """All of them: the file written from our names is Keras's, byte for byte."""
    index = {str(i): [label.wnid, label.keras_name] for i, label in enumerate(labels.imagenet(1000))}
    assert hashlib.md5(json.dumps(index).encode()).hexdigest() == KERAS_CLASS_INDEX
    assert labels.imagenet(1000)[386].name == "African elephant"


def test_a_class_is_found_by_either_spelling():
    label = labels.imagenet(1000)[386]
    for text in ("African elephant", "African_elephant", "african_ELEPHANT", "n02504458"):
        assert [each for each in labels.imagenet(1000) if each.is_called(text)] == [label]
    assert not any(each.is_called("elephant") for each in labels.imagenet(1000))
    assert not labels.Label("", "mine").is_called("")
    assert labels.Label("", "my_cat").is_called("my cat")


@pytest.mark.parametrize(
    "kind", [np.asarray, np.ndarray.tolist, tf.constant, tf.Variable], ids=["array", "list", "tensor", "variable"]
)
def test_decode_predictions_spells_as_keras_whatever_holds_the_scores(kind):
    scores = np.zeros((2, 1000), np.float32)
    scores[:, 386], scores[:, 101] = 0.75, 0.25
    best = [("n02504458", "African_elephant", 0.75), ("n01871265", "tusker", 0.25)]
    assert decode_predictions(kind(scores), top=2) == [best, best]


@pytest.mark.parametrize(("classes", "tench"), [(1000, 0), (1001, 1), (1008, 449)])
def test_decode_predictions(classes, tench):
    scores = np.zeros((1, classes), np.float32)
    scores[0, tench], scores[0, tench + 1] = 0.7, 0.2
    [(first, second)] = decode_predictions(scores, top=2)
    assert first == ("n01440764", "tench", pytest.approx(0.7))
    assert second[:2] == ("n01443537", "goldfish")


@pytest.mark.parametrize("shape", [(1, 10), (1000,), (1, 1, 1000), ()])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=rf"the shape {re.escape(str(shape))}; expected \[n, 1000\]"):
        decode_predictions(np.zeros(shape))


def test_a_labels_file_beside_the_weights(tmp_path):
    (tmp_path / "mine.labels.txt").write_text("cat\ndog\n")
    assert [label.name for label in labels.labels_for(tmp_path / "mine.h5", 2)] == ["cat", "dog"]
    assert [label.name for label in labels.labels_for(tmp_path / "other.h5", 2)] == ["class 0", "class 1"]
    with pytest.raises(ValueError, match="has 2 names; the classifier has 3 outputs"):
        labels.labels_for(tmp_path / "mine.h5", 3)
    with pytest.raises(ValueError, match="does not exist"):
        labels.read(tmp_path / "none.txt", 3)


def test_top_is_best_first():
    table = [labels.Label("", name) for name in "abc"]
    assert labels.top(np.array([0.1, 0.7, 0.2]), table, 2) == [(table[1], 0.7), (table[2], 0.2)]


@pytest.mark.parametrize("count", [0, -2, 1.5])
def test_a_top_of_nothing_is_refused(count):
    with pytest.raises(ValueError, match=f"top is {count}; expected"):
        labels.top(np.array([0.1, 0.9]), [labels.Label("", name) for name in "ab"], count)
    with pytest.raises(ValueError, match=f"top is {count}; expected"):
        decode_predictions(np.zeros((1, 1000)), top=count)
