"""Metrics of generated pictures from arrays of features: FID, KID, Inception Score and their relatives, in NumPy alone.

inception.metrics.fid(generated, reference).value
inception.metrics.kid(generated, reference).error
"""

from inception.metrics.frechet import fid, fid_infinity, frechet_distance, mifid
from inception.metrics.inception_score import Splits, inception_score
from inception.metrics.kernel import Subsets, kid
from inception.metrics.manifold import DensityCoverage, PrecisionRecall, density_coverage, precision_recall
from inception.metrics.measured import Measured

__all__ = [
    "DensityCoverage",
    "Measured",
    "PrecisionRecall",
    "Splits",
    "Subsets",
    "density_coverage",
    "fid",
    "fid_infinity",
    "frechet_distance",
    "inception_score",
    "kid",
    "mifid",
    "precision_recall",
]
