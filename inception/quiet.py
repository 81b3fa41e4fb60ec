"""TensorFlow without its start-up lines, for the command line: they come before any log level is heard."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time


def import_tensorflow() -> None:
    """Imports TensorFlow with its lines to stderr held back; they are shown if the import fails."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept, began = os.dup(2), time.perf_counter()
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
    logging.getLogger(__name__).debug("TensorFlow was imported in %.1f s", time.perf_counter() - began)
