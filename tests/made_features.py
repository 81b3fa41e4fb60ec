"""Features for the metrics' tests: from NumPy's frozen generator, non-negative and correlated as a network's are."""

import numpy as np


def features(count, seed, width=64, shift=0.0, dtype=np.float32):
    mixing = np.random.RandomState(7).standard_normal((width // 4, width)) / 2
    random = np.random.RandomState(seed)
    hidden = random.standard_normal((count, width // 4)) @ mixing + 0.3 * random.standard_normal((count, width))
    return np.maximum(hidden + 0.3 + shift, 0).astype(dtype)


def logits(count, seed=5, classes=1008):
    return (3 * np.random.RandomState(seed).standard_normal((count, classes))).astype(np.float32)
