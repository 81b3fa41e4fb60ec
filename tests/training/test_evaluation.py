"""Accuracies against numbers counted by hand; the protocols by name."""

import shutil

import numpy as np
import pytest
from made import first, random_weights, with_nan
from PIL import Image

from inception import classify, images
from inception.labels import Label, imagenet
from inception.pictures import NAMED
from inception.training import evaluate
from inception.training.evaluation import Evaluation, _labelled, scored
from inception.training.folders import Pictures
from inception.variants import Variant


@pytest.fixture(scope="module")
def digits(repository, tmp_path_factory):
    """The sample's ten held-out digits, a folder each."""
    root = tmp_path_factory.mktemp("digits")
    for i in range(10):
        (root / str(i)).mkdir()
        shutil.copy(repository / "checkpoints" / "sample-digits" / f"digit-{i}.png", root / str(i))
    return root


def test_counts_are_those_of_a_hand():
    scores = np.array([[0.5, 0.3, 0.2, 0, 0, 0, 0],
                       [0.1, 0.2, 0.3, 0.15, 0.14, 0.11, 0],
                       [0, 0, 0, 0, 0, 0, 1.0],
                       [0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.1]])  # fmt: skip
    pictures = Pictures(("a", "b", "c", "d"), np.array([0, 0, 6, 1]), tuple("ABCDEFG"))
    found = Evaluation(pictures, scores, NAMED["slim"])
    assert (found.top1, found.top5) == (0.5, 0.75)  # b's own class is the sixth of seven; d loses a draw
    assert found.per_class == {"A": (1, 2), "B": (0, 1), "G": (1, 1)}
    assert found.confusion[0].tolist() == [1, 0, 1, 0, 0, 0, 0] and found.confusion.sum() == 4
    assert found.most_wrong == [1, 3]
    assert found.loss == pytest.approx(-np.mean(np.log([0.5, 0.1, 1.0, 0.2])))


def test_the_sample_s_digits_as_classify_sees_them(digits, sample):
    found = evaluate(digits, sample)
    scores = classify.classify(found.pictures.paths, sample)
    assert found.top1 == np.mean(scores.argmax(-1) == found.pictures.labels) == 1.0
    assert (found.picture, found.known) == (NAMED["whole"].at(107), None)
    np.testing.assert_allclose(evaluate(digits, sample, batch=3).scores, found.scores, atol=1e-6)


def test_another_way_of_a_picture_gives_other_numbers(digits, sample, tmp_path):
    Image.fromarray(images.test_picture(120)[:, :90]).save(digits / "3" / "narrow.png")
    path = digits / "3" / "narrow.png"
    for name in ("slim", "torchvision"):
        found = evaluate(digits, sample, picture=name)
        row = found.pictures.paths.index(str(path))
        expected = classify.classify([path], sample, picture=name)
        np.testing.assert_allclose(found.scores[row], expected[0], atol=1e-6)
    path.unlink()
    with pytest.raises(ValueError, match="Unknown way of a picture 'crop'; expected one of keras, slim"):
        evaluate(digits, sample, picture="crop")


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_another_precision_is_near_float32(digits, sample, precision):
    openvino = pytest.importorskip("openvino")
    if precision == "int8":
        pytest.importorskip("nncf")
    elif "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bfloat16")
    exact, near = evaluate(digits, sample), evaluate(digits, sample, precision=precision, least_agreement=0.5)
    assert near.top1 == 1.0 and near.scores.argmax(-1).tolist() == exact.scores.argmax(-1).tolist()
    assert 0 < np.abs(near.scores - exact.scores).max() < 0.1
    paths = exact.pictures.paths
    scores = classify.classify(paths, sample, precision=precision, least_agreement=0.5)
    np.testing.assert_allclose(scores, near.scores, atol=1e-5)
    if precision == "int8":
        with pytest.raises(ValueError, match=r"int8 on 2 held-out images: .* ask for less with --least-agreement"):
            evaluate(digits, sample, precision="int8", least_agreement=1.01)
        with pytest.raises(ValueError, match="There are 9 calibration images; expected 10 at least"):
            classify.classify(paths[:9], sample, precision="int8")
        with pytest.raises(ValueError, match="needs calibration=, an array of images"):
            classify.classifier_of(sample, precision="int8")
    with pytest.raises(ValueError, match="Unknown precision 'half'"):
        classify.classify(paths, sample, precision="half")


@pytest.mark.parametrize("folder", first(2, ["African_elephant", "n02504458", "African elephant"]))
def test_a_folder_may_be_called_as_keras_spells_it(digits, tmp_path, folder):
    shutil.copytree(digits / "0", tmp_path / folder)
    assert _labelled(tmp_path, imagenet(1000)).labels.tolist() == [386]


def test_a_name_comes_before_another_name_in_keras_spelling(digits, tmp_path):
    shutil.copytree(digits / "0", tmp_path / "my_cat")
    found = _labelled(tmp_path, (Label("", "my cat"), Label("", "my_cat")))
    assert (found.labels.tolist(), found.classes) == ([1], ("my cat", "my_cat"))


@pytest.mark.parametrize(("classes", "tench"), [(1000, 0), (1001, 1), (1008, 449)])
def test_imagenet_folders_by_wordnet_id_or_name(digits, tmp_path, classes, tench):
    variant = Variant(num_classes=classes, background=classes > 1000, depth_multiplier=0.1, min_depth=4)
    weights = random_weights(variant)
    for name in ("n01440764", "tench"):
        folder = tmp_path / name
        shutil.copytree(digits / "0", folder / name)
        found = evaluate(folder, weights, size=75)
        assert found.pictures.labels.tolist() == [tench]
        assert imagenet(classes)[tench].name == found.pictures.classes[tench] == "tench"
        assert found.picture == weights.picture.at(75)


def test_two_classes_of_one_name_are_told_apart(digits, tmp_path):
    """ImageNet has two cranes and two maillots."""
    weights = random_weights(Variant(num_classes=1000, depth_multiplier=0.1, min_depth=4))
    for folder, name in (("ids", "n03126707"), ("names", "tench"), ("unclear", "crane")):
        shutil.copytree(digits / "0", tmp_path / folder / name)
    shutil.copytree(digits / "1", tmp_path / "names" / "n03126707")
    alone, mixed = (evaluate(tmp_path / folder, weights, size=75) for folder in ("ids", "names"))
    assert alone.pictures.labels.tolist() == [517] and mixed.pictures.labels.tolist() == [517, 0]
    assert list(alone.per_class) == ["crane (n03126707)"] and alone.pictures.classes[134] == "crane (n02012849)"
    assert len(set(alone.pictures.classes)) == 1000
    with pytest.raises(ValueError, match=r"'crane', the name of 2 classes \(n02012849 and n03126707\); call it by"):
        evaluate(tmp_path / "unclear", weights, size=75)


def test_an_unreadable_picture_in_the_middle_shifts_no_row(digits, sample, tmp_path):
    shutil.copytree(digits, tmp_path / "digits")
    (tmp_path / "digits" / "4" / "a.png").write_bytes(b"no picture")
    whole = evaluate(digits, sample)
    found = evaluate(tmp_path / "digits", sample)
    assert found.pictures.labels.tolist() == whole.pictures.labels.tolist() == list(range(10)) and found.top1 == 1.0
    assert [path[-11:] for path in found.pictures.paths] == [f"digit-{i}.png" for i in range(10)]
    np.testing.assert_allclose(found.scores, whole.scores, atol=1e-6)
    assert [path for path, _ in found.skipped] == [str(tmp_path / "digits" / "4" / "a.png")]


def test_scores_that_are_not_finite_are_not_right(digits, monkeypatch):
    """NaN is not smaller than its own class, so a network that gives it would be right every time."""
    pictures = Pictures(("a", "b"), np.array([0, 1]), ("A", "B"))
    with pytest.raises(ValueError, match="scores that are not finite .* for the picture b, so they say nothing"):
        Evaluation(pictures, np.array([[0.5, 0.5], [np.nan, 0.5]]), NAMED["slim"])

    network = classify.classifier_of(random_weights(), size=75)
    given = classify.Classifier.scores
    monkeypatch.setattr(
        classify.Classifier, "scores", lambda self, x: given(self, x) / (np.arange(len(x))[:, None] != 2)
    )
    files = [digits / str(i) / f"digit-{i}.png" for i in range(4)]
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="for the picture .*digit-2.png, so"):
        classify.classify_with(network, files)
    done = []
    pictures = Pictures(tuple(map(str, files)), np.zeros(4, int), tuple(label.name for label in network.labels))
    with np.errstate(divide="ignore"), pytest.raises(ValueError, match="for the picture .*digit-2.png, so"):
        scored(pictures, network, batch=3, progress=lambda *numbers: done.append(numbers))
    assert done == []  # said at once, not after all pictures


def test_weights_that_are_not_finite_are_refused(digits, tmp_path):
    shutil.copytree(digits / "0", tmp_path / "class 0")
    for run in (lambda w: evaluate(tmp_path, w, size=75), lambda w: classify.classify([digits / "0"], w)):
        with pytest.raises(ValueError, match="has weights that are not finite .* for Mixed_5b/Branch_0/Conv2d_0a_1x1;"):
            run(with_nan())


def test_what_does_not_fit(digits, sample, tmp_path):
    (tmp_path / "zebra").mkdir()
    shutil.copy(digits / "0" / "digit-0.png", tmp_path / "zebra")
    with pytest.raises(ValueError, match="has the class 'zebra', which the network has not; it has 0, 1, 2"):
        evaluate(tmp_path, sample)
    (tmp_path / "zebra").rename(tmp_path / "7")
    (tmp_path / "7" / "digit-0.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match="None of the 1 pictures can be read"):
        evaluate(tmp_path, sample)
    with pytest.raises(ValueError, match="is no folder"):
        evaluate(tmp_path / "missing", sample)
