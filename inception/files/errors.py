"""What can be wrong with a weight file: one exception family, a sentence each.

Every message says what was found, what was expected and what to do. Damage is
always `CorruptFile`, never `MissingTensor`: a reader that cannot trust the file
does not know what is missing from it.
"""

from inception.files import foreign


class CheckpointError(ValueError):
    """A weight file that cannot be read, matched or written as asked.

    Its sentence may quote the file, and is made safe to show (`foreign.safe`).
    """

    def __init__(self, sentence: object) -> None:
        super().__init__(foreign.safe(sentence))


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
