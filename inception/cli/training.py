"""The verbs finetune and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from inception.cli import options, pictures
from inception.cli.terminal import answer, described, missing, network, noted, out, quietly, say, working
from inception.files.errors import LONGEST_NAME, safe
from inception.pictures import WORDS

if TYPE_CHECKING:
    from inception.networks import Network
    from inception.training import Evaluation

_AUGMENT = ["flip", "shift", "rotate", "zoom"]
_MOST_CLASSES = 40


def finetune(
    folder: options.Folder,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Or -o: the folder to write; new or empty.")],
    weights: options.Weights = "imagenet",
    unfreeze: Annotated[
        str | None, typer.Option(help="Train this block and all above it too, as Mixed_7a; else the classifier alone.")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Of the blocks, at most.")] = 10,
    learning_rate: Annotated[float, typer.Option(help="Of the blocks.")] = 1e-4,
    head_epochs: Annotated[int, typer.Option(min=1, help="Of the classifier alone, at most.")] = 50,
    head_learning_rate: Annotated[float, typer.Option(help="Of the classifier alone.")] = 1e-3,
    validation: Annotated[str, typer.Option(help="The part of each class to hold out, or a folder like DIR.")] = "0.2",
    augment: Annotated[
        list[str], options.some_of("--augment", "flip|shift|rotate|zoom|none", "What is done to training pictures.")
    ] = _AUGMENT,
    class_weights: Annotated[
        str | None, typer.Option(help='"balanced", or CLASS=WEIGHT,... for the loss of their pictures.')
    ] = None,
    early_stopping: Annotated[
        int, typer.Option(min=0, help="Epochs without a lower validation loss that end a stage; 0: never.")
    ] = 5,
    batch_norm: Annotated[
        str, options.one_of("--batch-norm", "frozen|train", "Of unfrozen blocks; train for large sets.")
    ] = "frozen",
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures in a step.")] = 32,
    dropout: Annotated[float, typer.Option(help="The part of the features dropped in training.")] = 0.2,
    size: options.Size = None,
    picture: options.Way = None,
    end_point: options.EndPoint = None,
    engine: options.EngineHere = "auto",
    versions: Annotated[
        int | None, typer.Option(min=0, help="Augmented versions whose frozen maps are kept; 0: a new one an epoch.")
    ] = None,
    precision: Annotated[
        str, options.one_of("--precision", "float32|bfloat16", "Of the blocks' training.")
    ] = "float32",
    seed: options.Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a killed run stopped.")] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Teaches the network the classes of a folder: first its classifier, then its last blocks."""
    from inception import quiet
    from inception.training import finetune as run
    from inception.training import finetuning

    given: dict[str, Any] = {
        "unfreeze": unfreeze, "epochs": epochs, "learning_rate": learning_rate, "head_epochs": head_epochs,
        "head_learning_rate": head_learning_rate, "validation": _part_or_folder(validation),
        "augment": [name for name in augment if name != "none"], "class_weights": _class_weights(class_weights),
        "early_stopping": early_stopping or None, "batch_norm": batch_norm, "batch_size": batch, "dropout": dropout,
        "versions": versions, "precision": precision, "seed": seed,
    }  # fmt: skip
    finetuning.check_target(target, resume)
    finetuning.check_request(folder, **given)  # what is wrong is said before weights are fetched

    def check(found: Network) -> None:
        finetuning.check_network(found, end_point, unfreeze)

    if dry_run and (known := missing(weights)):
        check(described(known, picture=picture, size=size))
        answer({"dry_run": True, "download": known.id}, f"{known.id} would be downloaded first; nothing was done.")
        return
    loaded = network(weights, check, picture=picture, size=size)
    if dry_run:
        with noted():
            counts = finetuning.planned(folder, **given)
        what = f"{counts['training']} pictures for training, {counts['validation']} for validation"
        stages = f"the classifier{f' and all from {unfreeze}' if unfreeze else ' alone'}"
        record = {"dry_run": True, "out": target, **counts, "unfreeze": unfreeze}
        answer(record, f"{target}: {what}, {len(counts['classes'])} classes, {stages}; nothing was done.")
        return
    quiet.import_tensorflow()
    with noted(), working("fine-tuning") as move:
        result = run(
            folder, loaded, target, **given, end_point=end_point, engine=engine, resume=resume, say=say, progress=move
        )
    files = sorted(target / path.name for path in target.iterdir() if path.is_file())
    record = {"out": target, "accuracy": result.accuracy, "held_out": len(result.evaluation.pictures),
              "training_loss": result.training_loss, "inference_loss": result.inference_loss,
              "epochs": len(result.history), "classes": result.classes,
              "skipped": [{"picture": path, "error": reason} for path, reason in result.skipped],
              "files": files}  # fmt: skip
    losses = f"{result.training_loss:.4f} in training mode, {result.inference_loss:.4f} in inference mode"
    answer(
        record,
        f"{target}: {result.accuracy:.1%} of {len(result.evaluation.pictures)} held-out pictures are right",
        f"loss on the same training pictures: {losses}",
        *(f"  {path}" for path in files),
    )


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
    folder: options.Folder,
    weights: options.Weights = "imagenet",
    picture: options.Way = None,
    size: options.Size = None,
    labels: options.Labels = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Pictures at a time; results do not depend on it.")] = 32,
    precision: options.Precision = "float32",
    least_agreement: options.LeastAgreement = 0.99,
    errors: Annotated[Path | None, typer.Option(help="A CSV file to write all wrong pictures to.")] = None,
    force: options.Force = False,
) -> None:
    """Says how often a classifier is right: top-1, top-5, and each class."""
    from inception.files import atomic
    from inception.training import evaluate as run
    from inception.training import folders
    from inception.training.evaluation import check_classes
    from inception.weights import formats

    folders.read(folder)
    if errors:
        sources = [*formats.files_of(weights), *([labels] if labels else [])]
        atomic.check_target(errors, force, sources)
    loaded = network(weights, picture=picture, size=size, labels=labels)
    check_classes(folder, loaded)
    quietly(loaded)
    with working(f"classifying the pictures of {folder}", "pictures") as move:
        more: Any = {"precision": precision, "least_agreement": least_agreement}
        result = run(folder, loaded, batch=batch, progress=move, **more)
    for path, reason in result.skipped:
        pictures.skipped(path, reason)
    if errors:
        _write_errors(result, errors)
    count, right = len(result.pictures), result.per_class
    record = {"top1": result.top1, "top5": result.top5 if result.scores.shape[1] > 5 else None, "loss": result.loss,
              "pictures": count, "picture": result.picture.json(), "published": result.known and result.known.id,
              "classes": {name: {"right": good, "of": of} for name, (good, of) in right.items()},
              "skipped": [{"picture": path, "error": reason} for path, reason in result.skipped]}  # fmt: skip
    answer(record, _summary(result), _classes(result))
    if result.skipped:
        raise typer.Exit(1)


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
    """A row a class; on a terminal some of many, the worst first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for name in ("right", "of", "share"):
        table.add_column(name, justify="right")
    rows = list(result.per_class.items())
    most = _MOST_CLASSES if out.is_terminal else len(rows)
    if len(rows) > most:
        rows.sort(key=lambda row: row[1][0] / row[1][1])
    for name, (right, count) in rows[:most]:
        table.add_row(safe(name, LONGEST_NAME), str(right), str(count), f"{right / count:.1%}")
    if len(rows) > most:
        table.add_row(f"and {len(rows) - most} better ones", "", "", "")
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
