"""The Inception Score: exp of the mean divergence of a picture's classes from all pictures' (Salimans et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from inception import arguments
from inception.metrics.measured import Array, Measured, samples

RESTS = ("spread", "last", "dropped")


@dataclass(frozen=True)
class Splits:
    """How a peer splits the pictures.

    Attributes:
        count: contiguous splits; None where `size` says how many pictures one has.
        size: pictures of a split; the last one has what is left.
        rest: where the pictures go that `count` does not divide: "spread" (edges at i·n // count), "last" (splits
            of ceil(n / count), the last has what is left, and few pictures make fewer splits), or "dropped".
        seed: of the permutation of `numpy.random.RandomState` before; None keeps the order.
        ddof: of the deviation over splits.
    """

    count: int | None = 10
    size: int | None = None
    rest: str = "spread"
    seed: int | None = None
    ddof: int = 0

    def __post_init__(self) -> None:
        if (self.count is None) == (self.size is None):
            raise ValueError(
                f"count is {self.count} and size {self.size}; expected one of them, and None for the other."
            )
        arguments.count("size" if self.count is None else "count", self.size if self.count is None else self.count)
        arguments.count_or_none("seed", self.seed, 0)
        arguments.count("ddof", self.ddof, 0)
        if self.rest not in RESTS:
            raise ValueError(f"rest is {self.rest!r}; expected one of {', '.join(RESTS)}.")

    def edges(self, n: int) -> list[int]:
        """Where the splits of n pictures begin, and where the last one ends."""
        if self.count is not None and self.rest == "spread":
            return [i * n // self.count for i in range(self.count + 1)]
        if self.count is not None and self.rest == "dropped":
            return [i * (n // self.count) for i in range(self.count + 1)]
        return [*range(0, n, self.size or -(-n // (self.count or 1))), n]


IMPROVED_GAN = STYLEGAN = Splits()
ADM = Splits(count=None, size=5000)
TORCH_FIDELITY = Splits(seed=2020)
TORCHMETRICS = Splits(rest="last", seed=0, ddof=1)  # it permutes with torch's generator, unseeded
DGM_EVAL = Splits(rest="dropped", seed=2020)
TF_GAN = Splits(count=1)


def inception_score(logits: Any, splits: Splits = IMPROVED_GAN) -> Measured:
    """The mean Inception Score over splits, and the deviation over them.

    Args:
        logits: before the softmax, [n, classes]. Every peer takes all 1008 of the 2015 network, without the bias.
        splits: as a peer makes them (`IMPROVED_GAN`, `ADM`, `TORCH_FIDELITY`, ...).

    Returns:
        The score, from 1 to the number of classes; the deviation, None of a single split.

    Raises:
        ValueError: on an array that is not [n, classes] and finite, and on splits without a picture.
    """
    logits = samples("logits", logits, 1)
    edges = splits.edges(len(logits))
    if min(stop - start for start, stop in pairwise(edges)) < 1:
        raise ValueError(f"logits: {len(logits)} rows leave some of {len(edges) - 1} splits empty; use fewer splits.")
    if splits.seed is not None:
        logits = logits[np.random.RandomState(splits.seed).permutation(len(logits))]
    scores = np.array([_score(logits[start:stop]) for start, stop in pairwise(edges)])
    deviation = float(scores.std(ddof=splits.ddof)) if len(scores) > max(splits.ddof, 1) else None
    return Measured(float(scores.mean()), deviation)


def _score(logits: Array) -> float:
    """Mean of sum p log p, less sum q log q of the mean q: a class that nobody has adds nothing."""
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    totals = chances.sum(axis=1)
    chances /= totals[:, None]
    entropies = np.einsum("ij,ij->i", chances, logits) - np.log(totals)
    mean = chances.mean(axis=0)
    mean = mean[mean > 0]
    return float(np.exp(entropies.mean() - mean @ np.log(mean)))
