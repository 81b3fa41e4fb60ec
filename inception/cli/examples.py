"""The examples at the end of every verb's --help: a command, and what it does."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "convert": (
        ("convert inception_v3.ckpt inception_v3.h5", "a slim checkpoint for Keras"),
        ("convert imagenet slim.ckpt --step drop-aux,add-background", "with changes on the way"),
    ),
    "inspect": (
        ("inspect model.pth", "what is in a file"),
        ("inspect imagenet --json", "the same for a program"),
    ),
    "verify": (
        ("verify a.h5 b.ckpt", "whether two files are one network"),
        ("verify imagenet --against keras", "whether it runs here as in keras.applications"),
    ),
    "published": (
        ("published", "all ids"),
        ("published slim-2016-08-28", "what is known of one"),
    ),
    "export": (
        ("export imagenet inception.onnx --size 299 --batch 1", "for ONNX Runtime"),
        ("export imagenet int8.xml --precision int8 --calibrate photos", "quantized for OpenVINO"),
    ),
    "classify": (
        ("classify cat.jpg 'photos/*.jpg' folder", "pictures, globs and folders"),
        ("classify - --json --top 1", "a picture, or names of some, from stdin"),
    ),
    "features": (
        ("features photos features", "2048 numbers a picture; the same command goes on"),
        ("features photos both --end-point PreLogits,Mixed_6e --dry-run", "what would be done"),
    ),
    "finetune": (
        ("finetune flowers trained", "a new classifier"),
        ("finetune flowers trained --unfreeze Mixed_7a --epochs 20", "and the last blocks"),
    ),
    "evaluate": (
        ("evaluate flowers -w trained", "top-1 and each class"),
        ("evaluate flowers -w trained --errors wrong.csv", "and every wrong picture"),
    ),
    "metrics": (
        ("metrics generated photos", "FID as clean-fid has it"),
        ("metrics generated photos --protocol clean,adm --metric fid,kid --json", "more, for a program"),
    ),
    "statistics": (
        ("statistics photos photos.npz", "once, for many comparisons"),
        ("statistics photos photos.npz --protocol pytorch-fid", "by another tool's way"),
    ),
    "activations": (
        ("activations cat.jpg -o activations.png", "what channels see"),
        ("activations photos -o drawn --end-point Mixed_5b,Mixed_6c", "of every picture in a folder"),
    ),
    "filters": (
        ("filters -o filters.png", "what excites channels"),
        ("filters -o filters.png --end-point Mixed_6c --channels 12 --seed 1", "of one end point"),
        ("filters -o filters.png --end-point Mixed_6c --objective centre", "what one place of it looks for"),
    ),
    "gradcam": (
        ("gradcam cat.jpg -o cat-cam.png", "where the evidence lies"),
        ("gradcam photos -o drawn --label 'Egyptian cat'", "for one class, of every picture"),
    ),
    "dream": (
        ("dream sky.jpg -o dream.jpg", "as in TensorFlow's tutorial"),
        ("dream sky.jpg -o dream.jpg --end-point Mixed_6c=2,Mixed_5b=0.5 --recipe weighted", "of chosen end points"),
    ),
    "report": (
        ("report cat.jpg -o page", "page/index.html"),
        ("report cat.jpg -o page -w trained --top 5", "of a network of one's own"),
    ),
    "microscope": (
        ("microscope inception_v3.h5 -o site --images photos", "site/index.html; the same command goes on"),
        ("microscope inception_v3.h5 -o site --look cat.jpg --beside trained", "a picture, and another network beside"),
    ),
}


def epilog(verb: str) -> str:
    """The examples as typer prints them: paragraphs, in which a bracket would be markup."""
    lines = [f"inception {command}   {what}" for command, what in EXAMPLES.get(verb, ())]
    return "\n\n".join(["Examples:", *lines]) if lines else ""
