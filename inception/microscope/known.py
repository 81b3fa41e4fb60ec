"""Everything that is known of a network and stands on its pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from inception.brief import one_line
from inception.labels import Label
from inception.microscope.anatomy import Point
from inception.microscope.survey import Survey
from inception.microscope.weighing import Weighed
from inception.networks import Network


@dataclass(frozen=True, eq=False)
class Side:
    """What one network's pictures and answers came to.

    Attributes:
        survey: None without pictures of the user's.
        crops, excited: the pieces of `crops.cut` and `excite.excite`.
    """

    survey: Survey | None = None
    crops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    excited: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    __repr__ = one_line


@dataclass(frozen=True, eq=False)
class Look:
    """A picture of the user's that has a page: its file's name, what the page is called, the best class."""

    name: str
    page: str
    answer: str


@dataclass(frozen=True, eq=False)
class Known:
    """A site's contents.

    Attributes:
        weighed: what the weights say, by end point.
        pages: the end points that have a page.
        side, beside: of the network, and of the other one it is compared with.
        other: the other one's name, "" without.
        changes: {convolution: how far each channel's kernel is from the other network's}.
    """

    site: Path
    network: Network
    points: Sequence[Point]
    weighed: Mapping[str, Weighed]
    pages: Sequence[str]
    side: Side
    beside: Side | None = None
    other: str = ""
    changes: Mapping[str, np.ndarray] = field(default_factory=dict)
    looks: Sequence[Look] = ()

    __repr__ = one_line

    @property
    def labels(self) -> Sequence[Label]:
        return self.network.labels or ()

    def change(self, point: str) -> np.ndarray | None:
        """How far each channel of an end point is from the other network's; None without another."""
        if not self.changes:
            return None
        origin = self.weighed[point].origin
        if any(path not in self.changes for path, _ in origin):
            return None
        return np.array([self.changes[path][i] for path, i in origin], np.float32)
