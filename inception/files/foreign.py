"""Text of somebody else's (names in files, class names, messages) made safe to show."""

from __future__ import annotations

LONGEST_NAME = 200
LONGEST_SENTENCE = 2000
_CUT = " ... "


def safe(text: object, at_most: int = LONGEST_SENTENCE) -> str:
    r"""One printable line of at most `at_most` characters that says the text.

    What a terminal or a page would obey rather than show is written as Python writes it
    (`\x1b`, `\n`, `\u202e`, `\udc80`): controls, line breaks, direction marks, invisible
    characters, surrogates. Of a longer text the middle is left out. Safe text stays as it is.
    """
    whole = str(text)
    if len(whole) <= at_most and whole.isprintable():
        return whole
    # A character becomes ten at most, and what the cut below leaves out need not be escaped first.
    escaped = _escaped(whole if len(whole) <= 2 * at_most else whole[:at_most] + _CUT + whole[-at_most:])
    if len(escaped) <= at_most:
        return escaped
    tail = at_most // 4
    return escaped[: at_most - tail - len(_CUT)] + _CUT + escaped[-tail:]


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
