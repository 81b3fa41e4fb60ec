"""The site: its parts, its pages, stopping and going on, and what comes from files."""

import dataclasses
import hashlib
import json
import os
import re
from urllib.parse import unquote

import numpy as np
import pytest
from html_pages import Page
from made import NARROW, noise, random_weights, with_nan
from PIL import Image
from typer.testing import CliRunner

from inception import compile_inference, images, network_of
from inception.cli import app
from inception.features import sources
from inception.labels import Label
from inception.microscope import WAVES, microscope, survey, weighing
from inception.microscope.excite import spread

POINTS = ["Conv2d_2b_3x3", "Mixed_5b", "Mixed_6c"]
QUICK = {"channels": 3, "ascent": dataclasses.replace(WAVES, size=75, steps=2, restarts=1), "best": 3, "size": 75}


@pytest.fixture(scope="module")
def weights():
    made = random_weights(NARROW)
    return dataclasses.replace(made, picture=made.picture.at(75))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eleven pictures, one of them broken."""
    place = tmp_path_factory.mktemp("photos")
    whole = images.test_picture(140)
    for i in range(10):
        Image.fromarray(np.roll(whole, 13 * i, 1)[: 90 + 3 * i]).save(place / f"{i}.png")
    (place / "x.png").write_bytes(b"no picture")
    return place


@pytest.fixture(scope="module")
def other(weights):
    arrays = dict(weights.arrays)
    name = "InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/weights"
    arrays[name] = arrays[name] * 1.5
    return dataclasses.replace(weights, arrays=arrays, source=dataclasses.replace(weights.source, path="tuned"))


def make(weights, site, photos=None, **options):
    options = {"end_points": POINTS, **QUICK, **options}
    return microscope(weights, site, images=[photos] if photos else (), **options)


@pytest.fixture(scope="module")
def whole(weights, other, photos, tmp_path_factory):
    """A site with everything."""
    site = tmp_path_factory.mktemp("whole") / "site"
    looks = [photos / "1.png", photos / "2.png"]
    return make(weights, site, photos, looks=looks, beside=other, end_points=[*POINTS, "Logits"])


def tree(site):
    """{file: digest} of a site, but for what says when its pictures were seen."""
    return {str(path.relative_to(site)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(site.rglob("*")) if path.is_file()}  # fmt: skip


def pages(site):
    return {path: Page(path) for path in site.rglob("*.html")}


# --- Pages -----------------------------------------------------------------------------


def test_every_page_is_sound_and_every_link_leads_somewhere(whole):
    found = pages(whole.site)
    assert len(found) == 1 + 4 + 2 and whole.excited == (12, 12)  # classes have some too
    for path, page in found.items():
        assert page.wordless == [] and {"main", "nav", "header", "footer", "h1"} <= page.tags
        for link in page.links:
            assert not re.match(r"[a-z]+:|//", link), link
            target, _, part = link.partition("#")
            place = (path.parent / unquote(target)).resolve() if target else path
            assert place.is_file(), link
            assert not part or part in found[place].ids, link
        for url in re.findall(r"url\(([^)]*)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / url).resolve().is_file()


def test_the_map_and_the_cards_say_what_is_known(whole, weights):
    found = pages(whole.site)
    text = found[whole.site / "index.html"].text
    for words in ("10 pictures seen, 1 could not be read", "activation_3", "mixed_5/join", "What differs", "7 classes"):
        assert words in text, words
    assert f"{weights.parameters:,} parameters" in text
    page = found[whole.site / "points" / "Mixed_5b.html"]
    channels = weights.variant.table().base[7].branches
    assert len([name for name in page.ids if name.startswith("channel-")]) == sum(b[-1].depth for b in channels)
    source = (whole.site / "points" / "Mixed_5b.html").read_text()
    assert source.count('class="s e e0"') == 3 == source.count('class="s e f0"')
    assert "changed" in page.text and "Answered most in tuned" in source


def test_a_site_without_pictures_and_ascent_is_the_weights_alone(weights, tmp_path):
    made = make(weights, tmp_path / "site", channels=0)
    assert made.excited == (0, 0) == made.pictures
    assert {path.parent.name for path in pages(made.site)} == {"site", "points"}
    assert "What excites" not in (made.site / "index.html").read_text()


def test_networks_with_other_heads_are_compared_as_far_as_they_are_alike(weights, photos, tmp_path):
    more = random_weights(dataclasses.replace(NARROW, num_classes=3), seed=1)
    made = make(
        weights, tmp_path / "site", photos, beside=more, end_points=["Mixed_5b", "Logits"], looks=[photos / "1.png"]
    )
    cards = {name: (made.site / "points" / f"{name}.html").read_text() for name in ("Mixed_5b", "Logits")}
    assert "changed</span>" in cards["Mixed_5b"] and "changed</span>" not in cards["Logits"]
    assert 'class="s e f0"' in cards["Mixed_5b"] and 'class="s e f0"' not in cards["Logits"]


def test_a_unit_has_a_page_where_it_is_asked_for(weights, photos, tmp_path):
    unit = "Mixed_5b/Branch_2/Conv2d_0b_3x3"
    made = make(weights, tmp_path / "site", photos, end_points=["Mixed_5b", unit], looks=[photos / "1.png"])
    assert made.excited == (6, 6)
    found = pages(made.site)
    page = found[made.site / "points" / "Mixed_5b.Branch_2.Conv2d_0b_3x3.html"]
    assert "activation_10" in page.text and "mixed/tower_1/conv_1" in page.text
    assert "Mixed_5b.Branch_2.Conv2d_0b_3x3.html" in found[made.site / "points" / "Mixed_5b.html"].links
    seen = json.loads((made.site / "data" / "site.json").read_text())
    assert seen["pages"] == [unit, "Mixed_5b"]


def test_spread():
    assert spread(4, 100) == [0, 64, 32, 96] and sorted(spread(100, 100)) == list(range(100))
    assert spread(5, 2) == [0, 1] and spread(7, 1) == [0]


# --- Pictures --------------------------------------------------------------------------


def surveyed(weights, photos, site, late=lambda: False, move=lambda *a: None):
    (site / "data").mkdir(parents=True, exist_ok=True)
    how = survey.How(best=3, batch=4, engine="auto", precision="float32", move=move, late=late)
    network, points = network_of(weights), ("Mixed_5b", "Logits")
    return survey.survey(network, points, sources.listed([photos]), site, weights="w", tag="", how=how)


def test_the_survey_is_what_each_picture_says_alone(weights, photos, tmp_path):
    found = surveyed(weights, photos, tmp_path)
    assert (found.count, found.unread) == (10, 1)
    run = compile_inference(weights, end_points=("Mixed_5b", "Logits"))
    inputs = np.stack([weights.picture.input(photos / f"{i}.png") for i in range(10)])
    for name, values in run(inputs).items():
        seen, maps = found.points[name], values.reshape(10, -1, values.shape[-1])
        np.testing.assert_allclose(seen.total, maps.mean(1).sum(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(seen.most, maps.max((0, 1)), rtol=1e-4)
        np.testing.assert_array_equal(seen.on, (maps.max(1) > 0).sum(0))
        np.testing.assert_allclose(seen.scores, -np.sort(-maps.max(1).T, axis=1)[:, :3], rtol=1e-3, atol=1e-4)
        for channel in range(maps.shape[2]):
            number, (row, column) = seen.pictures[channel, 0], seen.places[channel, 0]
            value = values[number, row, column, channel] if values.ndim == 4 else values[number, channel]
            assert value == pytest.approx(seen.scores[channel, 0], rel=1e-3, abs=1e-4)


def test_a_survey_that_was_stopped_comes_to_the_same_file(weights, photos, tmp_path):
    surveyed(weights, photos, tmp_path / "one")
    steps = []
    part = surveyed(weights, photos, tmp_path / "two", late=lambda: True, move=lambda done, *a: steps.append(done))
    assert part.count == 4 and steps == [4]
    surveyed(weights, photos, tmp_path / "two", move=lambda done, *a: steps.append(done))
    assert steps == [4, 8, 11]  # not from the beginning
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_crop_is_the_part_of_the_picture_that_the_place_sees(whole, weights):
    seen = json.loads((whole.site / "data" / "crops-Mixed_5b.json").read_text())["said"]
    tiles = np.asarray(Image.open(whole.site / "sprites" / seen["files"][0]))
    assert tiles.shape[1] == 3 * 56 and tiles.shape[0] % 56 == 0
    assert tiles[:56].std() > 5


# --- Stopping, going on, adding ----------------------------------------------------------


def test_a_site_that_was_stopped_anywhere_comes_to_the_same_bytes(weights, photos, tmp_path):
    whole = make(weights, tmp_path / "whole", photos)
    for stop_at in (1, 3, 5):
        site, steps = tmp_path / f"stopped-{stop_at}", []

        def stop(done, total, words, steps=steps, at=stop_at):
            steps.append(words)
            if len(steps) == at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            make(weights, site, photos, progress=stop)
        assert (site / "index.html").is_file()
        make(weights, site, photos)
        assert tree(site) == tree(whole.site)


def test_out_of_time_is_a_site_all_the_same_and_the_next_run_goes_on(weights, tmp_path):
    made = make(weights, tmp_path / "site", minutes=0)
    assert made.excited == (0, 9) and (made.site / "points" / "Mixed_5b.html").is_file()
    again = make(weights, tmp_path / "site")
    assert again.excited == (9, 9)
    assert tree(tmp_path / "site") == tree(make(weights, tmp_path / "other").site)


def test_a_second_run_makes_nothing_and_other_points_are_added(weights, photos, tmp_path):
    made = make(weights, tmp_path / "site", photos, end_points=POINTS[:1])
    before, times = tree(made.site), {path: path.stat().st_mtime_ns for path in made.site.rglob("*.webp")}
    steps = []
    make(weights, tmp_path / "site", photos, end_points=POINTS[:1], progress=lambda *a: steps.append(a))
    assert tree(made.site) == before and steps == []
    added = make(weights, tmp_path / "site", photos, end_points=POINTS[1:])
    assert added.pages == 3 and all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert tree(made.site) == tree(make(weights, tmp_path / "at-once", photos).site)


def test_a_damaged_piece_is_made_again(weights, tmp_path):
    made = make(weights, tmp_path / "site", end_points=POINTS[:1])
    before = tree(made.site)
    piece = made.site / "data" / "excite-Conv2d_2b_3x3-000.json"
    for damage in (b"{", b"[]", b'{"key": 1, "said": {}}'):
        piece.write_bytes(damage)
        make(weights, tmp_path / "site", end_points=POINTS[:1])
        assert tree(made.site) == before
    (made.site / "sprites" / "excite-Conv2d_2b_3x3-000.webp").unlink()
    make(weights, tmp_path / "site", end_points=POINTS[:1])
    assert tree(made.site) == before


def test_another_seed_makes_other_pictures(weights, tmp_path):
    one, two = (make(weights, tmp_path / str(seed), end_points=POINTS[:1], seed=seed).site for seed in (0, 1))
    name = "sprites/excite-Conv2d_2b_3x3-000.webp"
    assert tree(one)[name] != tree(two)[name]
    assert tree(make(weights, one, end_points=POINTS[:1], seed=1).site) == tree(two)


# --- What is refused ---------------------------------------------------------------------


def test_the_site_of_another_network_is_refused_unless_forced(weights, other, tmp_path):
    make(weights, tmp_path / "site", channels=1, end_points=POINTS[:1], looks=[images.test_picture(90)])
    (tmp_path / "site" / "points" / "mine.txt").write_text("mine")
    before = tree(tmp_path / "site")
    with pytest.raises(ValueError, match="is the site of another network"):
        make(other, tmp_path / "site", channels=0)
    assert tree(tmp_path / "site") == before
    make(other, tmp_path / "site", channels=0, force=True)
    assert (tmp_path / "site" / "points" / "mine.txt").read_text() == "mine"
    (tmp_path / "site" / "points" / "mine.txt").unlink()
    assert tree(tmp_path / "site") == tree(make(other, tmp_path / "new", channels=0).site)


def test_a_folder_of_other_things_is_left_alone(weights, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(ValueError, match="holds something else than a site"):
            make(weights, place, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"end_points": ["Mixed_9z"]}, "Unknown end point 'Mixed_9z' (did you mean Mixed_7c?); expected some of Conv"),
        ({"end_points": []}, "No end point is asked for"),
        ({"channels": -1}, "channels is -1; expected at least 0"),
        ({"looks": ["none.png"]}, "none.png does not exist"),
        ({"beside": random_weights(dataclasses.replace(NARROW, min_depth=5))}, "has other shapes than"),
    ],
)
def test_a_mistake_is_a_sentence_and_leaves_nothing(options, sentence, weights, tmp_path):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make(weights, tmp_path / "site", **options)
    assert not (tmp_path / "site").exists()


HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202e</script><!--.png"


@pytest.mark.parametrize("beside", [False, True])
def test_weights_that_are_not_finite_are_refused(beside, weights, tmp_path):
    one, two = (weights, with_nan()) if beside else (with_nan(), None)
    with pytest.raises(ValueError, match=r"weights that are not finite .* Mixed_5b/Branch_0/Conv2d_0a_1x1"):
        make(one, tmp_path / "site", beside=two)
    assert list(tmp_path.iterdir()) == []


def test_names_from_files_are_text(weights, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    name = HOSTILE.replace("/", "\u2044")  # no file has a slash in its name
    Image.fromarray(noise(80, 80, 3)).save(photos / "plain.png")
    os.rename(photos / "plain.png", photos / name)
    labels = [Label("", f"{HOSTILE}{i}") for i in range(7)]
    mine = dataclasses.replace(weights, source=dataclasses.replace(weights.source, path=f"/x/{name}"))
    end_points = ["Conv2d_2b_3x3", "Logits"]
    made = make(
        mine, tmp_path / "site", photos, looks=[photos / name], labels=labels, beside=mine, end_points=end_points
    )
    tags = [page.tags for page in pages(made.site).values()]
    assert len(tags) == 4 and not any(
        "script" in page.text for page in pages(made.site).values() if "x" not in page.text
    )
    for path, page in pages(made.site).items():
        source = path.read_text(encoding="utf-8")
        assert "<img src=x" not in source and "<!--" not in source and "\u202e" not in source
        assert path.parent.name == "points" or "<img src=x onerror=alert(1)>" in page.text
    [script] = (made.site / "pictures").glob("*.js")
    assert re.fullmatch(r"[\x20-\x7e]+\n", script.read_text()) and re.fullmatch(r"[A-Za-z0-9-]+", script.stem)


# --- The verb ----------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(app, ["microscope", *map(str, arguments)])


def test_the_verb_says_what_it_would_make_and_makes_it(sample, repository, tmp_path, monkeypatch):
    digits = repository / "checkpoints" / "sample-digits"
    words = [sample, "-o", tmp_path / "site", "--images", digits, "--end-point", "Mixed_5b,Mixed_6c", "--steps", 2]
    words += ["--channels", 2, "--end-point", "Conv2d_1a_3x3"]
    result = run(*words, "--dry-run")
    assert result.exit_code == 0 and "3 end points, 160 channels, 6 of them to be excited; 10 pictures" in result.output
    assert not (tmp_path / "site").exists()
    result = run(*words)
    assert result.exit_code == 0 and "6 of 6 excited, 10 pictures seen" in result.output
    weighed = []
    monkeypatch.setattr(weighing, "weigh", lambda *asked, weigh=weighing.weigh: weighed.append(1) or weigh(*asked))
    said = json.loads(run(*words, "--json").output)
    assert weighed == [1]  # what is checked and what is made share it
    assert said["excited"] == [6, 6] and said["pictures"] == [10, 0] and said["pages"] == 3
