"""What can be wrong with a weight file: one exception family, a sentence each.

Every message says what was found, what was expected and what to do. Damage is
always `CorruptFile`, never `MissingTensor`: a reader that cannot trust the file
does not know what is missing from it. Text of somebody else's in one (names in files,
class names, messages) is made safe to show.
"""

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
    whole = whole if len(whole) <= 2 * at_most else whole[:at_most] + _CUT + whole[-at_most:]
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in whole)
    if len(escaped) <= at_most:
        return escaped
    tail = at_most // 4
    return escaped[: at_most - tail - len(_CUT)] + _CUT + escaped[-tail:]


class CheckpointError(ValueError):
    """A weight file that cannot be read, matched or written as asked.

    Its sentence may quote the file, and is made safe to show (`safe`).
    """

    def __init__(self, sentence: object) -> None:
        super().__init__(safe(sentence))


def reason(error: BaseException, where: str) -> str:
    """What is wrong, without the file's name in front and the advice behind: a part of another sentence."""
    return (str(error) or type(error).__name__).removeprefix(f"{where}: ").partition("; ")[0]


class CorruptFile(CheckpointError):
    """The bytes contradict their own format: cut short, overwritten, wrong checksum."""


class UnsupportedFeature(CheckpointError):
    """A file (or a part of one) of a kind that this library does not read or write."""


class ShapeMismatch(CheckpointError):
    """A tensor is there under the right name, with another shape or type."""


class MissingTensor(CheckpointError):
    """Tensors are missing, left over or doubled; the message lists them."""


class ResourceLimit(CheckpointError):
    """The file asks for more memory or time than a file of weights can need."""


class UnsafeFile(CheckpointError):
    """The file tries to reach outside itself: links, other paths, code."""
