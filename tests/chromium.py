"""A headless Chromium, driven through a pipe by its own protocol; nothing to install, and nothing from outside."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BINARY = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--hide-scrollbars")  # fmt: skip


class Page:
    """One page. `asked` is every address that was asked for, `said` whatever the console said."""

    def __init__(self, receive: int, send: int) -> None:
        self._receive, self._send, self._rest, self._number, self._session = receive, send, b"", 0, ""
        self.asked: list[str] = []
        self.said: list[str] = []
        self._events: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        said = {"id": self._number, "method": method, "params": parameters}
        said |= {"sessionId": self._session} if self._session else {}
        os.write(self._send, json.dumps(said).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._receive, 1 << 20)
            assert piece, "Chromium has ended"
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\0")
        answer = json.loads(text)
        method, said = answer.get("method"), answer.get("params", {})
        if method == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.said.append(str([each.get("value") for each in said["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.said.append(str(said["exceptionDetails"]))
        elif method == "Log.entryAdded":
            self.said.append(said["entry"]["text"])
        elif method:
            self._events.append(method)
        return dict(answer)

    def open(self, path: Path, part: str = "") -> None:
        self._events.clear()
        self.call("Page.navigate", url=path.resolve().as_uri() + part)
        while "Page.loadEventFired" not in self._events:
            self._next()

    def run(self, script: str) -> Any:
        """The value of an expression, of a promise what it comes to."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Waits for an expression to be true, for as long as it takes."""
        self.run(f"new Promise(told => {{ const look = () => ({condition}) ? told() : setTimeout(look, 5); look() }})")

    def press(self, key: str, code: int = 0, text: str = "") -> None:
        of = {"key": key, "windowsVirtualKeyCode": code} | ({"text": text} if text else {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **of)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def shaped(self, width: int, height: int = 900, dark: bool = False) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path, whole: bool = False) -> None:
        made = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(made["data"]))


@contextlib.contextmanager
def opened() -> Iterator[Page]:
    """A page of a browser of its own."""
    assert BINARY is not None
    to_read, to_write = os.pipe(), os.pipe()

    def hand_over() -> None:  # the pipe's ends are 3 and 4 in Chromium
        ends = [os.dup(to_write[0]), os.dup(to_read[1])]
        for wanted, end in zip((103, 104), ends, strict=True):
            os.dup2(end, wanted)
        os.dup2(103, 3)
        os.dup2(104, 4)

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [BINARY, *_OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(command, preexec_fn=hand_over, close_fds=False, start_new_session=True,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        os.close(to_read[1])
        os.close(to_write[0])
        try:
            yield Page(to_read[0], to_write[1])
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # its children write into the folder too
            process.wait()
            os.close(to_read[0])
            os.close(to_write[1])
