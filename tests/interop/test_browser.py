# SPDX-License-Identifier: MIT
"""The status page in a real Chromium, beside services under load, one of which fails.

Seen failing: with lines that an inch of screen cuts off, with colours too faint to read, with a table whose sorted column
loses the focus, with a chart that draws through a time without replies, with a resource of another host.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import pytest
from controlling import Sockctl

APP = """
import time
def quick(line): return line.upper()
def slow(line): time.sleep(0.002); return line
def fails(line): raise ValueError("planted")
"""
SERVICES = ("quick", "slow", "fails", "secured", "closed")
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
MIN_CONTRAST = 4.5
"""WCAG 2.2, 1.4.3: of text."""
NOT_SHOWN = """(() => {
  const found = [], visible = [...document.querySelectorAll("body *")].filter(one => one.checkVisibility() && one.closest("main"));
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page has ${document.documentElement.scrollWidth} pixels`);
  for (const one of visible) {
    const box = one.closest(".service, .figure, .table"), own = one.getBoundingClientRect();
    if (box && box !== one && !box.matches(".table")) {
      const outer = box.getBoundingClientRect();
      if (own.left < outer.left - 1 || own.right > outer.right + 1) found.push(`outside of its box: ${one.textContent}`);
    }
    const cut = one.scrollWidth > one.clientWidth + 1 && getComputedStyle(one).display !== "inline" && !one.matches(".table, svg");
    if (cut && !one.closest("svg")) found.push(`cut off: ${one.tagName} ${one.textContent}`);
  }
  for (const list of document.querySelectorAll("dl")) {
    const boxes = [...list.children].map(one => one.getBoundingClientRect());
    boxes.forEach((one, i) => { const next = boxes[i + 1]; if (next && next.top === one.top && next.left < one.right) found.push("figures overlap"); });
  }
  return found;
})()"""
FAINT = """(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(one => (one /= 255) <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, i) => sum + one * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = one => { for (; one; one = one.parentElement) { const [r, g, b, a = 1] = parse(getComputedStyle(one).backgroundColor); if (a) return [r, g, b]; } return [255, 255, 255]; };
  const found = {};
  for (const one of document.querySelectorAll("main *")) {
    if (!one.checkVisibility() || one.closest("svg") || ![...one.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))], contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < LEAST) found[`${one.tagName}.${one.className}`] = contrast;
  }
  return found;
})()""".replace("LEAST", str(MIN_CONTRAST))
FOCUS = """(() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return [one.closest("table")?.id ?? one.tagName, one.textContent, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
})()"""


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


@pytest.fixture
def house(serve, browser, tmp_path, certificates):
    certificates.new(where=tmp_path)
    (tmp_path / "page_app.py").write_text(APP)
    one = browser("--host-resolver-rules=MAP elsewhere.example 127.0.0.1")
    server = serve(config=TOML.format(directory=tmp_path))
    load = Load(server)
    load.start()
    yield House(server, Sockctl(tmp_path), one)
    load.end()


def test_it_is_readable_at_every_width_dark_and_light(house):
    house.open()
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            house.browser.look(width, scheme=scheme)
            assert house.browser.evaluate(NOT_SHOWN) == [], (width, scheme)
            assert house.browser.evaluate(FAINT) == {}, (width, scheme)
    assert house.browser.console == []


def test_what_an_operator_looks_for_is_there(house):
    house.sockctl.run("reload")
    house.open()
    state = house.browser.evaluate(
        "Object.fromEntries([...document.querySelectorAll('.service')].map(one => [one.querySelector('h3 span').textContent, one.className]))"
    )
    assert state == {
        "closed": "service warn", "fails": "service fails", "metrics": "service", "quick": "service",
        "secured": "service fails" if "fails" in state["secured"] else "service warn", "slow": "service",
    }  # fmt: skip
    p99 = "[...document.querySelectorAll('.service')].find(one => one.querySelector('h3').textContent.startsWith('slow')).querySelectorAll('dd')[2].textContent"
    house.browser.wait(f"/^[2-9](\\.\\d)? ms$/.test({p99})")
    text = house.browser.evaluate("document.body.innerText")
    for one in (socket.gethostname(), "sockd ", "configuration ", "workers answer", "reloaded ", "-15 min", "now"):
        assert one in text
    for id in ("listeners", "services", "workers", "certificates", "events"):
        assert house.browser.evaluate(f"document.getElementById('{id}').tBodies[0].rows.length") > 0, id
    assert house.browser.console == []


def test_it_goes_on_over_an_upgrade(house):
    house.open()
    rows = "document.getElementById('listeners').tBodies[0].rows.length"
    before = house.browser.evaluate(rows)
    house.sockctl.ask("upgrade")
    pid = house.sockctl.ask("status")["pid"]
    house.browser.wait(f"document.getElementById('about').textContent.includes('pid {pid},')")
    assert "a previous process still serves its connections" in house.browser.evaluate("document.body.innerText")
    assert house.browser.evaluate(rows) == before
    assert house.browser.console == []


def test_the_keyboard_alone(house):
    house.open()
    order = []
    for _ in range(100):
        house.browser.press("Tab")
        where, name, is_visible = house.browser.evaluate(FOCUS)
        if where == "BODY" or (order and (where, name) == order[0]):
            break
        assert is_visible, (where, name)
        order.append((where, name))
    shown = house.browser.evaluate(
        "[...document.querySelectorAll('th button')].filter(one => one.checkVisibility()).map(one => [one.closest('table').id, one.textContent])"
    )
    assert order == [tuple(one) for one in shown]
    house.browser.evaluate("document.activeElement.blur()")
    house.open()
    for _ in range(1 + order.index(("services", "service"))):
        house.browser.press("Tab")
    column = "[...document.getElementById('services').tBodies[0].rows].map(row => row.cells[0].textContent)"
    names = house.browser.evaluate(column)
    assert names == sorted(names)
    house.browser.press("Enter")
    house.browser.press(" ")
    assert house.browser.evaluate(column) == sorted(names, reverse=True)
    replies = house.browser.evaluate("performance.getEntriesByType('resource').length")
    house.browser.wait(f"performance.getEntriesByType('resource').length > {replies}")
    assert house.browser.evaluate(FOCUS)[:2] == ["services", "service"]  # it is drawn anew, and keeps focus and order
    assert house.browser.evaluate("document.activeElement.parentElement.ariaSort") == "descending"
    assert house.browser.evaluate(column) == sorted(names, reverse=True)
    assert house.browser.console == []


def test_nothing_comes_from_elsewhere_and_nothing_is_changed(house):
    before = house.sockctl.ask("status")
    house.open()
    for path in ("stop", "reload", "upgrade", "close?id=1", "deny?network=127.0.0.1", "drain"):
        status = house.browser.evaluate(f"fetch('/{path}').then(answer => answer.status)")
        assert status == 404, path
    assert house.browser.evaluate("fetch('/', {method: 'POST'}).then(answer => answer.status)") == 405
    assert {urlsplit(address).netloc for _, address in house.browser.requests if address.startswith("http")} == {
        urlsplit(house.address).netloc
    }
    assert {address.partition(":")[0] for _, address in house.browser.requests} <= {"http", "data"}
    after = house.sockctl.ask("status")
    for key in ("state", "pid", "reloads", "upgrade", "draining", "absent"):
        assert before[key] == after[key]
    assert house.sockctl.ask("overrides") == []


def test_a_foreign_name_is_refused(house):
    port = urlsplit(house.address).port
    house.browser.open(f"http://elsewhere.example:{port}/")
    assert "on loopback, Host must be localhost" in house.browser.evaluate("document.body.innerText")
    assert house.browser.evaluate("document.querySelector('script')") is None


def test_a_daemon_that_does_not_answer_is_said_and_its_charts_have_a_gap(house):
    sooner = "const timeout = AbortSignal.timeout; AbortSignal.timeout = () => timeout.call(AbortSignal, 500);"
    later = "const now = Date.now; window.later = 0; Date.now = () => now() + window.later;"
    house.browser.call("Page.addScriptToEvaluateOnNewDocument", source=f"{{ {sooner} {later} }}")
    house.open()
    gap = "document.querySelector('.service path.frames').getAttribute('d').match(/M/g).length"
    assert house.browser.evaluate(gap) == 1
    os.kill(house.server.process.pid, signal.SIGSTOP)
    try:
        house.browser.wait("document.getElementById('state').textContent === 'does not answer'")
        assert "no reply since 20" in house.browser.evaluate("document.getElementById('troubles').textContent")
        assert "does not answer" in house.browser.evaluate("document.title")
        house.browser.evaluate("window.later = 60_000")
    finally:
        os.kill(house.server.process.pid, signal.SIGCONT)
    house.browser.wait("document.getElementById('state').textContent === 'serving'")
    assert house.browser.evaluate(gap) == 2
    assert house.browser.evaluate("document.getElementById('troubles').textContent") == ""
