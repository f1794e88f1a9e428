# SPDX-License-Identifier: MIT
"""What the log says of a handler that fails: service, peer, the handler's own line, and none of sockd's above it.

Seen to fail before: `at` was not there, and a protocol class had no service.
"""

from __future__ import annotations

import textwrap

import pytest

APP = """
import sockd
def plain(line): raise LookupError("here")
def with_connection(line, connection): raise LookupError("here")
async def later(line): raise LookupError("here")
async def session(reader, writer):
    await reader.readline()
    raise LookupError("here")
class Lines(sockd.LineProtocol):
    def line_received(self, line): raise LookupError("here")
batch = sockd.Service()
@batch.frames
def all_lines(lines): raise LookupError("here")
blocking = sockd.Service(blocking=True)
@blocking.frame
def slow(line): raise LookupError("here")
def parsed(line): return b"%d" % int(line.decode())
def second(line): return line if line == b"x" else next(iter(()))
def text(line): return "text"
async def text_later(line): return "text"
def number(line): return 5
def lines(line): return [b"a", b"b"]
def forgotten(line): return forgotten_too()
async def forgotten_too(): return b"x"
def factory(): return b"x"
def goodbye(line): raise sockd.Close("bye")
def returned(line): return sockd.Close(b"bye")
def sent(line, connection): connection.reply(5)
def sent_none(line, connection): connection.reply(None)
def sent_text(line, connection): connection.write("text")
strict = sockd.Service(framing=sockd.StrictLine(100))
@strict.frame
def two_lines(line): return b"a\\r\\nb"
"""
LINE = {name: number for number, text in enumerate(APP.splitlines(), 1) for name in [text.strip()] if name}
RAISED = {
    "plain": "def plain(line)", "with_connection": "def with_connection", "later": "async def later",
    "session": 'raise LookupError("here")', "Lines": "def line_received", "batch": "def all_lines",
    "blocking": "def slow", "parsed": "def parsed", "second": "def second",
}  # fmt: skip
RETURNED = {
    "text": ("def text(", 'sockd.Service(text="utf-8")'),
    "text_later": ("async def text_later", 'sockd.Service(text="utf-8")'),
    "number": ("def number", 'b"%d" % number'),
    "lines": ("def lines", r'b"\n".join(...)'),
    "forgotten": ("def forgotten(", "functools.wraps"),
    "factory": ("def factory", "to answer a line, write def f(line)"),
    "goodbye": ("def goodbye", 'sockd.Service(text="utf-8")'),
    "returned": ("def returned", "the reply is Close, not bytes or None; raise it"),
}
SENT = {
    "sent": ("def sent(", 'the reply is int, not bytes or None; make bytes of it: b"%d" % number'),
    "sent_none": ("def sent_none", "the reply is None, not bytes; to send none, do not call reply()"),
    "sent_text": ("def sent_text", "expected a bytes-like object, not str; encode it: data.encode()"),
}


def user_line(start):
    return next(number for text, number in LINE.items() if text.startswith(start))


@pytest.fixture
def served(serve, tmp_path):
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    names = [*RAISED, *RETURNED, *SENT, "strict"]
    tables = "".join(
        f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{name}"\n[service.{name}]\nhandler = "app:{name}"\n'
        for name in names
    )
    return serve(config=tables)


def failed(server, name, line=b"x"):
    peer = server.connect(server.address(name, "tcp4"))
    peer.send(line + b"\r\n")
    assert peer.to_end() == (b"x\n" if name == "second" else b"")
    return server.wait_for("handler failed", service=name), peer


def test_the_handlers_own_line_comes_first(served, tmp_path):
    for name, start in RAISED.items():
        event, peer = failed(served, name, b"x\r\ny" if name == "second" else b"x")  # StopIteration among several
        assert event["peer"] == peer.name
        assert event["at"].startswith(f"{tmp_path}/app.py:{user_line(start)} "), name
        first = next(line for line in event["traceback"].splitlines() if line.startswith("  File "))
        assert f"{tmp_path}/app.py" in first, name
        assert [*event][:7] == ["time", "level", "logger", "message", "service", "peer", "at"]


def test_what_is_no_reply_names_the_handler_and_the_cure(served, tmp_path):
    for name, (start, cure) in RETURNED.items():
        event, peer = failed(served, name)
        assert event["peer"] == peer.name
        assert event["at"].startswith(f"{tmp_path}/app.py:{user_line(start)} "), name
        assert cure in event["traceback"], name
        assert "  File " not in event["traceback"], name
    event, _ = failed(served, "strict")
    assert event["at"].endswith(" two_lines")
    assert "cannot be encoded" in event["traceback"]


def test_what_cannot_be_sent_names_the_line_and_the_cure(served, tmp_path):
    """Seen to fail: `the handler returned int`, of a handler that had returned nothing."""
    for name, (start, cure) in SENT.items():
        event, _ = failed(served, name)
        assert event["at"].startswith(f"{tmp_path}/app.py:{user_line(start)} "), name
        assert cure in event["traceback"], name
