# SPDX-License-Identifier: MIT
"""The status page in a real Chromium, beside services under load, one of which fails.

Seen failing: with events that begin where a window of 420 pixels ends, with a chart that draws through a time without
replies, with a page that stays with the previous process of an upgrade.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from controlling import Sockctl
from watching import _until

APP = """
import time
def quick(line): return line.upper()
def slow(line): time.sleep(0.002); return line
def fails(line): raise ValueError("planted")
"""
TOML = """
[daemon]
workers = 2
path = "{directory}"
control = "{directory}/control.sock"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "metrics"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "quick"
max_connections = 1000
[[listen]]
address = "tcp://127.0.0.1:0"
service = "slow"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "fails"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "secured"
tls = {{ certificate = "localhost.pem", key = "localhost.key" }}
[[listen]]
address = "tcp://127.0.0.1:0"
service = "closed"
deny = ["127.0.0.0/8"]
[service.quick]
handler = "page_app:quick"
[service.slow]
handler = "page_app:slow"
[service.fails]
handler = "page_app:fails"
[service.secured]
builtin = "upper"
[service.closed]
builtin = "upper"
"""
LOAD_PAUSE_S = 0.02
WIDTHS = (420, 1280, 2560)
SHIFT = 8
"""Among the modifiers of the DevTools protocol."""
MIN_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3: of text."""
CHECKS = Path(__file__).with_name("page_checks.js").read_text()


class Load(threading.Thread):
    """Clients of every service, until end()."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self._names = [event["address"] for event in server.having("listening")][1:]
        self._over = threading.Event()

    def run(self):
        with ExitStack() as stack:
            quick, slow = (stack.enter_context(self._connect(name)) for name in self._names[:2])
            while not self._over.wait(LOAD_PAUSE_S):
                for sock in (quick, slow):
                    sock.sendall(b"hello\n")
                    sock.recv(100)
                for name in self._names[2:]:
                    with suppress(OSError), self._connect(name) as sock:
                        sock.sendall(b"hello\n")
                        sock.recv(100)

    def _connect(self, address):
        host, _, port = address.removeprefix("tcp://").rpartition(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def end(self):
        self._over.set()
        self.join(30)


class House:
    """A daemon under load, its page in a browser, and sockctl."""

    def __init__(self, server, sockctl, browser):
        self.server, self.sockctl, self.browser = server, sockctl, browser
        self.address = server.addresses[0].replace("tcp:", "http:")

    def open(self, width=1280, scheme="light"):
        """Open it, and wait until it has seen what fails."""
        self.browser.look(width, scheme=scheme)
        self.browser.open(f"{self.address}/")
        self.browser.wait("document.querySelectorAll('.service.fails').length > 0")

    def check(self, name, *arguments):
        """Call one of page_checks.js."""
        return self.browser.evaluate(f"{CHECKS}.{name}({', '.join(map(json.dumps, arguments))})")

    def text(self, id):
        return self.browser.evaluate(f"document.getElementById('{id}').textContent")

    def wait_for_text(self, id, text):
        self.browser.wait(f"document.getElementById('{id}').textContent.includes({json.dumps(text)})")


@pytest.fixture
def house(serve, browser, tmp_path, certificates):
    certificates.new(where=tmp_path)
    (tmp_path / "page_app.py").write_text(APP)
    server = serve(config=TOML.format(directory=tmp_path))
    load = Load(server)
    load.start()
    sockctl = Sockctl(tmp_path)
    yield House(server, sockctl, browser)
    load.end()
    sockctl.run("stop", "--wait")  # also the process of an upgrade


def test_it_is_readable_at_every_width_dark_and_light(house):
    house.open()
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            house.browser.look(width, scheme=scheme)
            assert house.check("notShown") == [], (width, scheme)
            assert house.check("faint", MIN_CONTRAST) == {}, (width, scheme)
    assert house.browser.console == []


def test_what_an_operator_looks_for_is_there(house):
    house.sockctl.ask("reload")
    house.open()
    house.wait_for_text("rest", "reloaded ")
    services = _until(lambda: house.check("services")["slow"]["p99, 1 min"] != "-" and house.check("services"))
    assert {name: one["state"] for name, one in services.items()} == {
        "closed": "service warn",
        "fails": "service fails",
        "metrics": "service",
        "quick": "service",
        "secured": "service warn",  # its clients do not speak TLS
        "slow": "service",
    }
    assert services["slow"]["p50, 1 min"].endswith(" ms")
    assert float(services["fails"]["errors/s"]) > 0
    assert float(services["closed"]["refused/s"]) > 0
    assert house.text("host") == socket.gethostname()
    for one in ("sockd ", "configuration ", "workers answer"):
        assert one in house.text("about")
    assert house.browser.evaluate("document.querySelector('.service .axis:last-child').textContent") == (
        "-15 min-10 min-5 minnow"
    )
    for table in ("listeners", "services", "workers", "certificates", "events"):
        assert house.check("column", table, 0), table
    assert house.browser.console == []


def test_it_goes_on_over_an_upgrade(house):
    house.open()
    listeners = house.check("column", "listeners", 0)
    house.sockctl.ask("upgrade")
    pid = house.sockctl.ask("status")["pid"]
    house.wait_for_text("about", f"pid {pid},")
    assert house.check("column", "listeners", 0) == listeners
    assert any(event.startswith("taken over") for event in house.check("column", "events", 3))
    assert house.browser.console == []


def test_the_keyboard_alone(house):
    house.open()
    buttons = house.check("buttons")
    for where, name in buttons:
        house.browser.press("Tab")
        assert house.check("focus") == [where, name, True]
    for _ in range(len(buttons) - buttons.index(["services", "service"]) - 1):
        house.browser.press("Tab", modifiers=SHIFT)
    names = house.check("column", "services", 0)
    assert names == sorted(names)
    house.browser.press("Enter")
    house.browser.press(" ")
    assert house.check("column", "services", 0) == sorted(names, reverse=True)
    received = house.browser.evaluate("performance.getEntriesByType('resource').length")
    house.browser.wait(f"performance.getEntriesByType('resource').length > {received + 1}")
    assert house.check("focus")[:2] == ["services", "service"]  # the table was drawn anew, and keeps focus and order
    assert house.browser.evaluate("document.activeElement.parentElement.ariaSort") == "descending"
    assert house.check("column", "services", 0) == sorted(names, reverse=True)
    assert house.browser.console == []


def test_nothing_comes_from_elsewhere_and_nothing_is_changed(house):
    before = house.sockctl.ask("status")
    house.open()
    for path in ("stop", "reload", "upgrade", "close?id=1", "deny?network=127.0.0.1", "drain"):
        assert house.browser.evaluate(f"fetch('/{path}').then(answer => answer.status)") == 404, path
    assert house.browser.evaluate("fetch('/', {method: 'POST'}).then(answer => answer.status)") == 405
    own = urlsplit(house.address).netloc
    addresses = [urlsplit(address) for address in house.browser.requests]
    assert {(one.scheme, one.netloc) for one in addresses} - {("data", "")} == {("http", own)}
    after = house.sockctl.ask("status")
    for key in ("state", "pid", "reloads", "upgrade", "draining", "absent"):
        assert before[key] == after[key]
    assert house.sockctl.ask("overrides") == []


def test_a_foreign_name_is_refused(house):
    house.browser.open(f"http://elsewhere.example:{urlsplit(house.address).port}/")
    assert "on loopback, Host must be localhost" in house.browser.evaluate("document.body.innerText")
    assert house.browser.evaluate("document.querySelector('script')") is None


def test_a_daemon_that_does_not_answer_is_said_and_its_charts_have_a_gap(house):
    sooner = "const timeout = AbortSignal.timeout; AbortSignal.timeout = () => timeout.call(AbortSignal, 500);"
    later = "const now = Date.now; window.later = 0; Date.now = () => now() + window.later;"
    house.browser.call("Page.addScriptToEvaluateOnNewDocument", source=f"{{ {sooner} {later} }}")
    house.open()
    pieces = "document.querySelector('.service path.frames').getAttribute('d').match(/M/g).length"
    assert house.browser.evaluate(pieces) == 1
    os.kill(house.server.process.pid, signal.SIGSTOP)
    try:
        house.wait_for_text("state", "does not answer")
        assert "no reply since 20" in house.text("troubles")
        assert "does not answer" in house.browser.evaluate("document.title")
        house.browser.evaluate("window.later = 60_000")
    finally:
        os.kill(house.server.process.pid, signal.SIGCONT)
    house.wait_for_text("state", "serving")
    assert house.browser.evaluate(pieces) == 2
    assert house.text("troubles") == ""
