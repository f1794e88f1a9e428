# SPDX-License-Identifier: MIT
"""A real Chromium without a screen, over its DevTools protocol: what a page shows, writes to the console, and asks for.

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

import pytest
from watching import _until

NAMES = ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
    "--host-resolver-rules=MAP elsewhere.example 127.0.0.1",  # a name of somebody else that leads here
)
WITH_PIPES = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 10) for fd in sys.argv[1:3]]
for number, fd in enumerate(pipes, 3):
    os.dup2(fd, number)
os.execvp(sys.argv[3], sys.argv[3:])
"""
ANSWER_S = 60
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), " ": (32, " ")}


class Chromium:
    """A browser's process.

    Attributes:
        pages: by their session.
    """

    def __init__(self, program, directory) -> None:
        self.pages: dict[str, Page] = {}
        theirs, ours = os.pipe(), os.pipe()
        words = [sys.executable, "-c", WITH_PIPES, theirs[0], ours[1], program, *OPTIONS]
        with open(directory / "chromium.log", "wb") as log:
            self._process = subprocess.Popen(
                [*map(str, words), f"--user-data-dir={directory / 'profile'}", "about:blank"],
                pass_fds=(theirs[0], ours[1]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "HOME": str(directory)},
            )
        for fd in (theirs[0], ours[1]):
            os.close(fd)
        self._to, self._from = theirs[1], ours[0]
        self._received, self._count = b"", 0

    def call(self, method, session=None, **params):
        """Call a method of the protocol; return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + ANSWER_S
        while (answer := self._next(end)).get("id") != self._count:
            page = self.pages.get(answer.get("sessionId", ""))
            if page is not None:
                page.note(answer.get("method"), answer.get("params", {}))
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

    def end(self) -> None:
        os.close(self._to)
        os.close(self._from)
        try:
            self._process.wait(10)  # it ends with its pipe
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Page:
    """A page, without the cache, cookies and connections of other ones.

    Attributes:
        console: what it wrote to its console, errors of scripts and of the network among it.
        requests: addresses that it asked for.
    """

    def __init__(self, chromium: Chromium) -> None:
        self.console: list[str] = []
        self.requests: list[str] = []
        self._chromium = chromium
        self._context = chromium.call("Target.createBrowserContext")["browserContextId"]
        target = chromium.call("Target.createTarget", url="about:blank", browserContextId=self._context)["targetId"]
        self._session = chromium.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        chromium.pages[self._session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Call a method of the protocol for this page; return its result."""
        return self._chromium.call(method, self._session, **params)

    def note(self, method, params) -> None:
        """Keep what an event tells."""
        match method:
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.console.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
            case "Runtime.exceptionThrown":
                self.console.append(params["exceptionDetails"].get("exception", {}).get("description", "exception"))
            case "Log.entryAdded":
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
        number, text = KEYS[key]
        code = {" ": "Space"}.get(key, key)
        about = {"key": key, "code": code, "windowsVirtualKeyCode": number, "modifiers": modifiers}
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

    def close(self) -> None:
        del self._chromium.pages[self._session]
        self._chromium.call("Target.disposeBrowserContext", browserContextId=self._context)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser; skips where there is none."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs chromium")
    one = Chromium(program, tmp_path_factory.mktemp("chromium"))
    yield one
    one.end()


@pytest.fixture
def browser(chromium):
    """A page of a browser."""
    one = Page(chromium)
    yield one
    one.close()
