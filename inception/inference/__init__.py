"""The network compiled for fast inference, and written for other runtimes."""

from inception.inference.compiled import Inference, check_precision, compile_inference
from inception.inference.engines import DEFAULTS, ENGINES, Engine, Precision, Runner, Settings, preferred

__all__ = [
    "DEFAULTS",
    "ENGINES",
    "Engine",
    "Inference",
    "Precision",
    "Runner",
    "Settings",
    "check_precision",
    "compile_inference",
    "preferred",
]
