"""What verbs take: one idea has one spelling and one explanation here, and every verb has its parameters from here.

`flattened` lets a verb take a group of options (a dataclass) as one argument, and gives every
verb those that all have (`Common`).
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from inception import arguments
from inception.cli import terminal

END_POINT = "--end-point"


# --- Words of which there are few ------------------------------------------------------


def one_of(option: str, words: str, help: str) -> Any:
    """An option that takes one of some words, as "avg|max|none": shown, completed, and the nearest one suggested."""
    return _of(option, words, help, lambda word: word and arguments.chosen(option, word, words.split("|")))


def some_of(option: str, words: str, help: str) -> Any:
    """One that takes some of them, with commas or said again."""
    known = words.split("|")
    return _of(option, words, help, lambda given: [arguments.chosen(option, word, known) for word in parted(given)])


def _of(option: str, words: str, help: str, check: Callable[[Any], Any]) -> Any:
    def checked(value: Any) -> Any:  # typer looks at the names and kinds of a callback's arguments
        return check(value)

    return typer.Option(option, metavar=words, help=help, callback=checked, autocompletion=lambda: words.split("|"))


def parted(given: Any) -> list[str]:
    """The words of an option that may be said again, each with commas."""
    return [word.strip() for text in given or [] for word in text.split(",") if word.strip()]


# --- Networks and files ----------------------------------------------------------------

WeightFile = Annotated[
    str, typer.Argument(help="A weight file of any format, a checkpoint's prefix, or the id of a published file.")
]
Weights = Annotated[
    str,
    typer.Option("--weights", "-w", envvar="INCEPTION_WEIGHTS",
                 help='A weight file, a published id, what finetune wrote, or "imagenet".'),
]  # fmt: skip
Weights2015 = Annotated[
    str | None,
    typer.Option("--weights", "-w", help="A weight file or a published id; the one of 2015, which FID is defined by."),
]
Averages = Annotated[bool, typer.Option(help="Take a training checkpoint's moving averages.")]
Labels = Annotated[
    Path | None,
    typer.Option("--labels", help="Class names, one a line; NAME.labels.txt beside the weights is found."),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that has a folder of pictures for each class.")]
Out = Annotated[
    Path,
    typer.Option("--out", "-o", help="The picture to write: .png, .jpg or .webp; of several pictures a folder."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there; without, it is refused.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be done, and do nothing.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same result.")]

# --- Pictures --------------------------------------------------------------------------

_PICTURES = "Pictures, folders, globs, lists of paths (.txt), Parquet, .zip, .tar, or URLs; - is stdin."
Pictures = Annotated[list[str], typer.Argument(metavar="PICTURES...", help=_PICTURES)]
Start = Annotated[list[str] | None, typer.Argument(metavar="[PICTURES...]", help="A picture to start from, not noise.")]
Way = Annotated[
    str | None,
    typer.Option("--picture", help="How a picture becomes the input: keras, slim, google_2015, torchvision, timm, "
                 "whole, ..., and fields as in slim,size=107 or upright=false; the network's own."),
]  # fmt: skip
Size = Annotated[int | None, typer.Option("--size", min=1, help="Side of the input in pixels; the weights' own.")]
Column = Annotated[str | None, typer.Option("--column", help="A Parquet source's column of paths or pictures.")]

# --- The work --------------------------------------------------------------------------

EndPoints = Annotated[
    list[str] | None,
    typer.Option(END_POINT, help="End points by slim's names, or layers: with commas, or said again.", callback=parted),
]
EndPoint = Annotated[str | None, typer.Option(END_POINT, help="An end point by slim's name, as Mixed_6e, or a layer.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Pictures at a time.")]
Precision = Annotated[
    str,
    one_of("--precision", "float32|bfloat16|int8", "bfloat16: twice as fast where the processor has it; int8: thrice."),
]
LeastAgreement = Annotated[
    float,
    typer.Option("--least-agreement", min=0, max=1, help="Of int8 with float32 on some pictures; below it is refused."),
]
Engine = Annotated[
    str, one_of("--engine", "auto|openvino|onnxruntime|tensorflow|ray", "What computes; auto: the first installed.")
]
EngineHere = Annotated[
    str,
    one_of("--engine", "auto|openvino|onnxruntime|tensorflow", "What computes; auto: the first installed."),
]
Objective = Annotated[
    str,
    one_of("--objective", "mean|centre|maximum", "What of a channel is excited: its mean, its centre, its maximum."),
]
Top = Annotated[int, typer.Option("--top", min=1, help="How many classes to show.")]
PROTOCOLS = (
    "clean|clean-legacy-pytorch|clean-legacy-tensorflow|adm|pytorch-fid|ttur|torch-fidelity|torchmetrics|stylegan|edm"
)
METRICS = "fid|kid|is|pr|dc|sfid|mifid|fid-infinity"


@dataclasses.dataclass(frozen=True)
class Extraction:
    """How features are computed: what features, metrics and statistics share."""

    engine: Engine = "auto"
    precision: Precision = "float32"
    least_agreement: LeastAgreement = 0.99
    batch: Batch = None
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="That decode; one a core.")] = None
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="On Ray: processes with an engine; one a CPU.")
    ] = None
    column: Column = None
    shard_rows: Annotated[
        int | None, typer.Option("--shard-rows", min=1, help="Pictures in a file of the dataset.")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """As `features.extract` takes them."""
        return dataclasses.asdict(self)


EXTRACTION = Extraction()


@dataclasses.dataclass(frozen=True)
class Common:
    """What every verb takes."""

    json: Annotated[bool, typer.Option("--json", help="The answer as JSON, and nothing else on stdout.")] = False
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", envvar="INCEPTION_QUIET", help="No notes and no progress on stderr.")
    ] = False
    verbose: Annotated[bool, typer.Option("--verbose", help="What happens, by Python's logging, on stderr.")] = False
    offline: Annotated[
        bool, typer.Option("--offline", envvar="INCEPTION_OFFLINE", help="Download nothing; say what is missing.")
    ] = False


def flattened(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with each group's options in the group's place and `Common`'s at the end, as typer reads functions."""
    own = inspect.signature(verb, eval_str=True)
    groups: dict[str, Any] = {
        name: p.annotation for name, p in own.parameters.items() if dataclasses.is_dataclass(p.annotation)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in own.parameters.items():
        parameters += _fields(groups[name]) if name in groups else [parameter]
    parameters += _fields(Common)

    @functools.wraps(verb)
    def run(**given: Any) -> None:
        terminal.ask(**{field.name: given.pop(field.name) for field in dataclasses.fields(Common)})
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in dataclasses.fields(group)})
        try:
            verb(**given)
        finally:
            terminal.asked.json = terminal.asked.quiet = False  # for whoever goes on in this process

    del run.__wrapped__  # type: ignore[attr-defined]  # typer would read that one's parameters
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _fields(group: type[Any]) -> list[inspect.Parameter]:
    types = typing.get_type_hints(group, include_extras=True)
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return [
        inspect.Parameter(f.name, kind, default=f.default, annotation=types[f.name]) for f in dataclasses.fields(group)
    ]
