"""Teaching the network: the paper's recipe, fine-tuning on one's own classes, evaluation.

Names are loaded when they are first used, so that importing this brings in no Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inception.training.evaluation import Evaluation, evaluate
    from inception.training.finetuning import Result, finetune
    from inception.training.recipe import PAPER, Recipe, compile, optimizer, scaled, targets

_HOME = {
    "PAPER": "recipe",
    "Evaluation": "evaluation",
    "Recipe": "recipe",
    "Result": "finetuning",
    "compile": "recipe",
    "evaluate": "evaluation",
    "finetune": "finetuning",
    "optimizer": "recipe",
    "scaled": "recipe",
    "targets": "recipe",
}

__all__ = [
    "PAPER",
    "Evaluation",
    "Recipe",
    "Result",
    "compile",
    "evaluate",
    "finetune",
    "optimizer",
    "scaled",
    "targets",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'inception.training' has no attribute {name!r}")
    return getattr(importlib.import_module(f"inception.training.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
