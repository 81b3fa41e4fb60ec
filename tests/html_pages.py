"""A page of HTML as a test sees it."""

from html.parser import HTMLParser

_ALONE = ("img", "meta", "link", "input", "br")  # tags that are not closed


class Page(HTMLParser):
    """A file's links, ids, images, words and tags; each opened tag is closed in order, and no id is there twice.

    `wordless` is every picture that says nothing to those who do not see it.
    """

    def __init__(self, path):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.wordless = [], [], [], [], []
        self.text, self.tags = "", set()
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == [] and len(set(self.ids)) == len(self.ids)

    def handle_starttag(self, tag, attributes):
        of = dict(attributes)
        self.tags.add(tag)
        self.ids += [of["id"]] if "id" in of else []
        self.links += [of[name] for name in ("href", "src") if name in of]
        self.images += [of] if tag == "img" else []
        pictured = tag == "img" or of.get("role") == "img"
        if pictured and not (of.get("alt") or of.get("aria-label")) and tag != "svg":
            self.wordless.append(self.get_starttag_text())
        if tag not in _ALONE:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
