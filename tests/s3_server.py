"""moto's S3 on loopback, which may answer 503 to every n-th request as a busy store does."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

BUCKET = "bucket"


class Busy:
    """An application in front of another one.

    Attributes:
        every: which requests get 503; 0 for none.
        requests: how many there were.
    """

    def __init__(self, app: Any, every: int = 0) -> None:
        self._app, self.every, self._numbers = app, every, itertools.count(1)
        self.requests = self.refused = 0

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:
        self.requests = next(self._numbers)
        if environment["PATH_INFO"] == "/counted":
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps([self.requests, self.refused]).encode()]
        if self.every and self.requests % self.every == 0:
            self.refused += 1
            size = int(environment.get("CONTENT_LENGTH") or 0)
            environment["wsgi.input"].read(size)
            start("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        return self._app(environment, start)


@contextlib.contextmanager
def serving(every: int = 0) -> Iterator[tuple[str, Busy]]:
    """(address, the application) of a server in a thread of this process, with an empty bucket."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = Busy(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    import requests

    requests.post(f"{address}/moto-api/reset", timeout=60)
    requests.put(f"{address}/{BUCKET}", timeout=60)
    app.every = every
    try:
        yield address, app
    finally:
        server.shutdown()
        server.server_close()


def environment(address: str) -> dict[str, str]:
    """What makes clients of S3 talk to a server."""
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextlib.contextmanager
def served(every: int = 0) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, os.path.abspath(__file__), str(every)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    with serving(int(sys.argv[1])) as (where, _):
        print(where, flush=True)
        sys.stdin.read()
