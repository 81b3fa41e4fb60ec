"""The verbs finetune and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inception.cli.terminal import Force, Least, Precision, Way, err, network, noted, out, quietly, working
from inception.files.errors import LONGEST_NAME, safe
from inception.pictures import WORDS

if TYPE_CHECKING:
    from inception.training import Evaluation

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that has a folder of pictures for each class.")]
_MOST_CLASSES = 40


def finetune(
    folder: Folder,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The folder to write; new or empty.")],
    weights: Annotated[str, typer.Option(help='A weight file, a published id, or "imagenet".')] = "imagenet",
    unfreeze: Annotated[
        str | None, typer.Option(help="Train this block and all above it too, as Mixed_7a; else the classifier alone.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of the blocks, at most.")] = 10,
    learning_rate: Annotated[float, typer.Option(help="Of the blocks.")] = 1e-4,
    head_epochs: Annotated[int, typer.Option(min=1, help="Of the classifier alone, at most.")] = 50,
    head_learning_rate: Annotated[float, typer.Option(help="Of the classifier alone.")] = 1e-3,
    validation: Annotated[str, typer.Option(help="The part of each class to hold out, or a folder like DIR.")] = "0.2",
    augment: Annotated[
        str, typer.Option(help="Some of flip,shift,rotate,zoom; none for none.")
    ] = "flip,shift,rotate,zoom",
    class_weights: Annotated[
        str | None, typer.Option(help='"balanced", or CLASS=WEIGHT,... for the loss of their pictures.')
    ] = None,
    early_stopping: Annotated[
        int, typer.Option(min=0, help="Epochs without a lower validation loss that end a stage; 0: never.")
    ] = 5,
    batch_norm: Annotated[str, typer.Option(help="Of unfrozen blocks: frozen, or train for large sets.")] = "frozen",
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures in a step.")] = 32,
    dropout: Annotated[float, typer.Option(help="The part of the features dropped in training.")] = 0.2,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the pictures in pixels; the weights' own.")] = None,
    picture: Way = None,
    end_point: Annotated[str | None, typer.Option(help="End the network here, as Mixed_6e.")] = None,
    engine: Annotated[str, typer.Option(help="For the features: openvino, onnxruntime, tensorflow or auto.")] = "auto",
    versions: Annotated[
        int | None, typer.Option(min=0, help="Augmented versions whose frozen maps are kept; 0: a new one an epoch.")
    ] = None,
    precision: Annotated[str, typer.Option(help="Of the blocks' training: float32 or bfloat16.")] = "float32",
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
) -> None:
    """Teaches the network the classes of a folder: first its classifier, then its last blocks."""
    from inception import quiet
    from inception.training import finetune as run
    from inception.training import finetuning, folders

    folders.read(folder)  # a wrong path is said before weights are fetched
    finetuning.check_target(target, resume)
    loaded = network(weights)
    quiet.import_tensorflow()
    with noted(), working("fine-tuning") as move:
        result = run(
            folder,
            loaded,
            target,
            unfreeze=unfreeze,
            epochs=epochs,
            learning_rate=learning_rate,
            head_epochs=head_epochs,
            head_learning_rate=head_learning_rate,
            validation=_part_or_folder(validation),
            augment=[] if augment == "none" else [name.strip() for name in augment.split(",")],
            class_weights=_class_weights(class_weights),
            early_stopping=early_stopping or None,
            batch_norm=batch_norm,  # type: ignore[arg-type]
            batch_size=batch_size,
            dropout=dropout,
            size=size,
            picture=picture,
            end_point=end_point,
            engine=engine,
            versions=versions,
            precision=precision,  # type: ignore[arg-type]
            seed=seed,
            resume=resume,
            say=lambda line: err.print(line),
            progress=move,
        )
    out.print(f"{target}: {result.accuracy:.1%} of {len(result.evaluation.pictures)} held-out pictures are right")
    out.print(
        f"loss on the same training pictures: {result.training_loss:.4f} in training mode, "
        f"{result.inference_loss:.4f} in inference mode"
    )
    for name in sorted(path.name for path in target.iterdir() if path.is_file()):
        out.print(f"  {target / name}")


def _part_or_folder(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _class_weights(text: str | None) -> str | dict[str, float] | None:
    if text is None or "=" not in text:
        return text
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        return {name.strip(): float(weight) for name, _, weight in pairs}
    except ValueError as error:
        raise ValueError(f'--class-weights is {text}; expected "balanced", or as in cat=2,dog=1.') from error


def evaluate(
    folder: Folder,
    weights: Annotated[
        str, typer.Option(help='What finetune wrote, a weight file with a classifier, or "imagenet".')
    ] = "imagenet",
    picture: Way = None,
    size: Annotated[int | None, typer.Option(min=1, help="Side of the network's input; the weights' own.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Class names, one a line; those of the weights.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Pictures at a time; results do not depend on it.")] = 32,
    precision: Precision = "float32",
    least_agreement: Least = 0.99,
    errors: Annotated[Path | None, typer.Option(help="A CSV file to write all wrong pictures to.")] = None,
    force: Force = False,
) -> None:
    """Says how often a classifier is right: top-1, top-5, and each class."""
    from inception.files import atomic
    from inception.training import evaluate as run
    from inception.training import folders
    from inception.weights import formats

    folders.read(folder)
    if errors:
        sources = [*formats.files_of(weights), *([labels] if labels else [])]
        atomic.check_target(errors, force, sources)
    loaded = network(weights, picture=picture, size=size, labels=labels)
    quietly(loaded)
    with working(f"classifying the pictures of {folder}", "pictures") as move:
        more: Any = {"precision": precision, "least_agreement": least_agreement}
        result = run(folder, loaded, batch=batch_size, progress=move, **more)
    out.print(_summary(result))
    out.print(_classes(result))
    for path, reason in result.skipped:
        err.print(f"skipped: {path}: {reason}", style="yellow")
    if errors:
        _write_errors(result, errors)


def _summary(result: Evaluation) -> Table:
    table = Table.grid(padding=(0, 2))
    known = result.known
    published = {1: known.top1, 5: known.top5} if known else {}
    for count in (1, 5) if result.scores.shape[1] > 5 else (1,):
        note = f"published {published[count]:.1f} % ({known.protocol})" if known and published[count] else ""
        table.add_row(f"top-{count}", f"{result.top(count):.2%}", note)
    table.add_row("loss", f"{result.loss:.4f}", "")
    table.add_row("pictures", str(len(result.pictures)), f"{len(result.skipped)} skipped" if result.skipped else "")
    table.add_row("picture", str(result.picture), WORDS.get(str(result.picture.at(299)), ""))
    return table


def _classes(result: Evaluation) -> Table:
    """A row a class, the worst first where there are many."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for name in ("right", "of", ""):
        table.add_column(name, justify="right")
    rows = list(result.per_class.items())
    if len(rows) > _MOST_CLASSES:
        rows.sort(key=lambda row: row[1][0] / row[1][1])
    for name, (right, count) in rows[:_MOST_CLASSES]:
        table.add_row(safe(name, LONGEST_NAME), str(right), str(count), f"{right / count:.1%}")
    if len(rows) > _MOST_CLASSES:
        table.add_row(f"and {len(rows) - _MOST_CLASSES} better ones", "", "", "")
    return table


def _write_errors(result: Evaluation, path: Path) -> None:
    from inception.features.dataset import shown
    from inception.training import report

    names, rows = result.pictures.classes, []
    for row in result.most_wrong:
        own, taken, scores = int(result.pictures.labels[row]), int(result.predicted[row]), result.scores[row]
        where = shown(result.pictures.paths[row])
        rows.append((where, names[own], f"{scores[own]:.6f}", names[taken], f"{scores[taken]:.6f}"))
    report.table(path, ("path", "class", "probability", "taken for", "its probability"), rows)
