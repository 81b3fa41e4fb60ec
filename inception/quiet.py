"""Libraries without their own lines, for the command line: TensorFlow's come before any log level is heard."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator


def import_tensorflow() -> None:
    """Imports TensorFlow with its lines to stderr held back; they are shown if the import fails."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    began = time.perf_counter()
    with held():
        import tensorflow  # noqa: F401
    logging.getLogger(__name__).debug("TensorFlow was imported in %.1f s", time.perf_counter() - began)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Holds back what anybody writes to stderr; it is shown after an error that is no ValueError."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as lines:
        os.dup2(lines.fileno(), 2)
        try:
            yield
        except ValueError:
            raise
        except BaseException:
            lines.seek(0)
            os.write(kept, lines.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
