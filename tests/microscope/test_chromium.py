"""The site in a browser: nothing from outside, no error, keyboard, screen reader's basics."""

import dataclasses
import re

import pytest

chromium = pytest.importorskip("chromium")
if chromium.BINARY is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)

from inception import load_weights  # noqa: E402
from inception.microscope import WAVES, microscope  # noqa: E402


@pytest.fixture(scope="module")
def site(sample, repository, tmp_path_factory):
    """The sample network's, with one beside it that differs in one block."""
    weights = load_weights(sample)
    name = "InceptionV3/Mixed_5b/Branch_0/Conv2d_0a_1x1/weights"
    other = dataclasses.replace(weights, arrays={**weights.arrays, name: weights.arrays[name] * 1.5})
    digits = repository / "checkpoints" / "sample-digits"
    ascent = dataclasses.replace(WAVES, size=80, steps=2)
    place = tmp_path_factory.mktemp("chromium") / "a site"
    looks = [digits / "digit-4.png", digits / "digit-7.png"]
    microscope(weights, place, images=[digits], looks=looks, beside=other, channels=4, ascent=ascent,
               end_points=["Conv2d_2b_3x3", "Mixed_5b", "Mixed_7c", "Logits"])  # fmt: skip
    return place


@pytest.fixture(scope="module")
def page():
    with chromium.opened() as opened:
        yield opened


@pytest.fixture
def looked(site):
    return next((site / "pictures").glob("digit-4-*.html"))


def drawn(page):
    """Waits for what a script draws on a picture's page."""
    page.until("!document.getElementById('look') || document.querySelector('.grid button[aria-pressed=true]')")


@pytest.mark.parametrize("width", [1400, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_every_page_opens_from_the_disk_and_asks_for_nothing_outside(site, page, width, dark):
    page.shaped(width, dark=dark)
    for path in sorted(site.rglob("*.html")):
        page.asked.clear()
        page.said.clear()
        page.open(path)
        drawn(page)
        assert page.said == [] and page.asked
        assert all(url.startswith(("file://", "data:")) for url in page.asked)
        assert page.run("document.documentElement.scrollWidth") <= width, path
        colour = page.run("getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") != dark


def roles(page):
    """What the browser tells a screen reader: (role, name) of everything on the page."""
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]


def test_a_screen_reader_finds_its_way(site, looked, page):
    page.shaped(1400)
    for path in (site / "index.html", site / "points" / "Mixed_5b.html", looked):
        page.open(path)
        drawn(page)
        found = roles(page)
        for role in ("main", "navigation", "banner", "contentinfo", "heading"):
            assert role in [each for each, _ in found], role
        unnamed = [
            role
            for role, name in found
            if role in ("image", "img", "link", "button", "combobox", "searchbox") and not name
        ]
        assert unnamed == []
    page.open(site / "index.html")
    assert ("link", "Mixed_5b") in [(role, name.split(" ")[0]) for role, name in roles(page)]


def focused(page):
    return page.run("[document.activeElement.tagName, document.activeElement.textContent.trim()].join(' ')")


def test_the_tab_key_goes_from_the_top_to_the_content(site, page):
    page.shaped(1400)
    page.open(site / "points" / "Mixed_5b.html")
    order = []
    for _ in range(6):
        page.press("Tab", 9)
        order.append(focused(page))
    assert order[0] == "A Skip to the content" and order[1] == "A Map"
    assert order[2:4] == ["A ← Conv2d_2b_3x3", "A Mixed_7c →"]
    assert order[4].startswith("SUMMARY") and order[5].startswith("INPUT")
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.open(site / "points" / "Mixed_5b.html")
    page.press("Tab", 9)
    page.press("Enter", 13, "\r")
    assert focused(page).startswith("MAIN")


def shown(page):
    return page.run("[...document.querySelectorAll('.ch')].filter(c => !c.hidden).map(c => +c.id.slice(8))")


def test_search_and_order_by_the_keyboard(site, page):
    page.shaped(1400)
    page.open(site / "points" / "Mixed_5b.html")
    assert shown(page) == list(range(40))
    page.press("/", 191, "/")
    assert focused(page).startswith("INPUT")
    for letter in "3-5":
        page.press(letter, ord(letter), letter)
    assert shown(page) == [3, 4, 5] and page.run("document.querySelector('output').value") == "3 of 40 channels"
    page.press("Escape", 27)
    assert len(shown(page)) == 40
    for letter in "branch_3":
        page.press(letter, 0, letter)
    some = shown(page)
    assert 0 < len(some) < 40 and some[-1] == 39
    page.press("Escape", 27)
    order = "Object.assign(document.querySelector('select'), {value: '0'}).dispatchEvent(new Event('change'))"
    page.run(order)
    norms = page.run("[...document.querySelectorAll('.ch')].map(c => +c.dataset.v.split(' ')[0])")
    assert norms == sorted(norms, reverse=True)


def test_a_link_to_a_channel_leads_to_it(site, page):
    page.shaped(390)
    page.open(site / "points" / "Mixed_7c.html", "#channel-217")
    page.until("scrollY > 0")
    box = page.run("(b => [b.top, b.bottom])(document.getElementById('channel-217').getBoundingClientRect())")
    assert 0 <= box[0] < 900 and box[1] > 0


def test_a_picture_with_its_maps(looked, page):
    page.shaped(1400)
    page.open(looked)
    drawn(page)
    buttons = "[...document.querySelectorAll('.grid button')]"
    means = page.run(f"{buttons}.map(b => +/mean (.*)/.exec(b.title)[1])")
    assert len(means) >= 16 and means == sorted(means, reverse=True)
    assert page.run(f"{buttons}.filter(b => b.getAttribute('aria-pressed') === 'true').length") == 1
    page.run(f"{buttons}[3].click()")
    channel = page.run(f"{buttons}[3].dataset.channel")
    assert f"channel {channel} of Mixed_5b: greatest" in page.run("document.querySelector('.say').value")
    page.run("document.querySelector('.stage canvas').focus()")
    page.press("ArrowRight", 39)
    said = page.run("document.querySelector('.say').value")
    assert re.fullmatch(r"[\d.e-]+ at row 5, column 6 of 11 × 11", said)
    shots = [seen(page)]
    page.run(choose(".tools select", 2, "4 91.3 %"))
    assert 0 <= float(page.run("document.querySelector('.say').value").split(" at row 5, column 6")[0]) <= 1
    shots.append(seen(page))
    page.run(choose(".tools select", 0, "Mixed_7c"))
    shots.append(seen(page))
    assert len(set(shots)) == 3 and page.said == []


def seen(page):
    """What the canvas shows; a page from the disk may not ask it."""
    box = page.run(
        "(b => [b.left, b.top, b.width, b.height])(document.querySelector('canvas').getBoundingClientRect())"
    )
    clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
    return page.call("Page.captureScreenshot", format="png", clip=clip)["data"]


def choose(selects, number, words):
    """The script that chooses an option by its words."""
    return (
        f"(s => {{ s.value = [...s.options].find(o => o.text === {words!r}).value; "
        f"s.dispatchEvent(new Event('change')) }})([...document.querySelectorAll({selects!r})].at({number}))"
    )


def test_hover_says_the_value_of_the_place(looked, page):
    page.shaped(1400)
    page.open(looked)
    drawn(page)
    page.run("document.querySelector('.stage').scrollIntoView()")
    box = page.run(
        "(b => [b.left, b.top, b.width, b.height])(document.querySelector('.stage canvas').getBoundingClientRect())"
    )
    at = {"x": box[0] + box[2] * 0.75, "y": box[1] + box[3] * 0.3}
    page.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
    assert "at row 3, column 8 of 11 × 11" in page.run("document.querySelector('.say').value")


def test_two_networks_side_by_side(looked, page):
    page.shaped(1400)
    page.open(looked)
    drawn(page)
    page.run("[...document.querySelectorAll('button')].find(b => b.textContent === 'Two side by side').click()")
    page.until("[...document.querySelectorAll('.say')].filter(s => s.value).length === 2")
    grids = page.run(
        "[...document.querySelectorAll('.grid')].map(g => [...g.children].map(b => b.dataset.channel).sort())"
    )
    assert len(grids) == 2 and grids[0] == grids[1]
    values = page.run("[...document.querySelectorAll('.say')].map(s => s.value)")
    assert values[0] != "" and page.said == []
    page.run(choose(".panel select", -2, "digit-7.png"))
    page.until("document.querySelectorAll('.stage canvas')[1].getAttribute('aria-label').startsWith('digit-7.png')")
