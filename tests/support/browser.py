# SPDX-License-Identifier: MIT
"""A real Chromium without a screen, driven over its DevTools protocol: what a page shows, and what it writes and asks for.

The protocol goes over two pipes, descriptors 3 and 4 of the browser, a JSON object and a NUL for each message:
chromedevtools.github.io/devtools-protocol.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from watching import _until

NAMES = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-pipe",
)  # fmt: skip
WITH_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 10) for fd in sys.argv[1:3]]
for number, fd in enumerate(pipes, 3):
    os.dup2(fd, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
ANSWER_S = 60
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


class Browser:
    """One page of a browser.

    Attributes:
        console: what it wrote to its console, errors of scripts and of the network among it.
        requests: method and address of whatever it asked for.
    """

    def __init__(self, program, directory, *options) -> None:
        self.console: list[str] = []
        self.requests: list[tuple[str, str]] = []
        theirs, ours = os.pipe(), os.pipe()
        words = [sys.executable, "-c", WITH_PIPES, theirs[0], ours[1], program, *OPTIONS]
        with open(directory / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                [*map(str, words), f"--user-data-dir={directory / 'profile'}", *options, "about:blank"],
                pass_fds=(theirs[0], ours[1]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(directory)},
            )
        for fd in (theirs[0], ours[1]):
            os.close(fd)
        self._to, self._from = theirs[1], ours[0]
        self._received, self._count, self._session = b"", 0, None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Call a method of the protocol; return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while (answer := self._next(end)).get("id") != self._count:
            self._note(answer.get("method"), answer.get("params", {}))
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self, end):
        while b"\0" not in self._received:
            left = end - time.monotonic()
            assert left > 0, "the browser does not answer"
            assert select.select([self._from], [], [], left)[0], "the browser does not answer"
            piece = os.read(self._from, 1 << 20)
            assert piece, "the browser has ended"
            self._received += piece
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def _note(self, method, params) -> None:
        if method == "Network.requestWillBeSent":
            self.requests.append((params["request"]["method"], params["request"]["url"]))
        elif method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"])

    # ---- what a person does

    def look(self, width, height=900, scheme="light") -> None:
        """Have a window of a size, in pixels, and the colours that its user prefers."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, address) -> None:
        self.call("Page.navigate", url=address)
        self.wait(f"location.href.startsWith({json.dumps(address)}) && document.readyState === 'complete'")

    def press(self, key, *, modifiers=0) -> None:
        code, text = KEYS[key]
        about = {
            "key": key,
            "code": {" ": "Space"}.get(key, key),
            "windowsVirtualKeyCode": code,
            "modifiers": modifiers,
        }
        self.call("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def evaluate(self, expression):
        """Return the value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, (expression, done["exceptionDetails"])
        return done["result"].get("value")

    def wait(self, expression, within=30):
        """Wait until an expression is true; return its value."""
        return _until(lambda: self.evaluate(expression), within)

    def picture(self, path) -> None:
        """Write the whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        done = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(done["data"]))

    def end(self) -> None:
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(10)  # it ends with its pipe
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def browser(tmp_path):
    """`browser(*options)`: a Chromium; skips where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs chromium")
    with ExitStack() as stack:

        def start(*options):
            one = Browser(program, tmp_path, *options)
            stack.callback(one.end)
            return one

        yield start
