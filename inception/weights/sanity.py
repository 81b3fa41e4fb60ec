"""Values that no trained network has: a look at what was loaded, never a substitute for a checksum.

Of single flipped bits this finds one in twenty; what it finds for certain is a network
that was never filled, or that diverged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np


class DoubtfulWeights(UserWarning):
    """Weights that were read as the file has them, and that cannot be meant so."""


class UnverifiedFile(UserWarning):
    """A file whose format has no checksums, and that is no published one."""


class AssumedPicture(UserWarning):
    """A file that does not say how pictures are brought to its network, of a family that has several ways."""


def doubts(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """A sentence for each array with numbers that are not finite, negative variances or a kernel of zeros."""
    for name, array in arrays.items():
        wrong = array.size - int(np.count_nonzero(np.isfinite(array)))
        if wrong:
            yield f"{name} has {wrong} values that are not finite"
        elif name.endswith("/moving_variance") and array.size and array.min() < 0:
            yield f"{name} has negative variances"
        elif name.endswith("/weights") and array.size and not array.any():
            yield f"{name} is a kernel of zeros"
