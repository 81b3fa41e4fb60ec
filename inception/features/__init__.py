"""Bottleneck features at any scale: pictures in, a folder of Parquet shards out, and back as arrays.

inception.features.extract("photos", "features", "inception_v3.h5")
features = inception.features.load("features")
features.arrays["PreLogits"]
for part in inception.features.scan("features"):  # a shard at a time in memory
    part.paths, part.arrays["PreLogits"]
"""

from inception.features.dataset import Features, load, scan
from inception.features.extraction import Summary, extract

__all__ = ["Features", "Summary", "extract", "load", "scan"]
