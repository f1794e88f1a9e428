# SPDX-License-Identifier: MIT
"""What a Service may say beside its function: batches, text, hooks, timers, state; seen from the peer and in the log.

Seen to fail: with the batch of two connections merged; with startup hooks called in plan(); with timers not cancelled.
"""

from __future__ import annotations

import os

import pytest

APP = """
import os
import pathlib
import sockd

diary = pathlib.Path("diary")


def note(text):
    with diary.open("a") as file:
        file.write(text + "\\n")


batch = sockd.Service(framing=sockd.Line(1000))


@batch.frames
def answers(lines):
    if b"boom" in lines:
        raise RuntimeError("boom")
    if b"close" in lines:
        raise sockd.Close(b"bye")
    if b"block" in lines:
        return b"%d lines\\nand more\\n" % len(lines)
    if b"few" in lines:
        return [b"x"]
    if b"text" in lines:
        return ["text"] * len(lines)
    if b"nothing" in lines:
        return None
    return [None if line == b"none" else line.upper() for line in lines]


crlf = sockd.Service(framing=sockd.Line(1000, b"\\r\\n"))
crlf.frames(lambda lines: [b"%d" % len(lines)] + [None] * (len(lines) - 1))

raw = sockd.Service(framing=sockd.Raw())
raw.frames(lambda pieces: [piece[::-1] for piece in pieces])

text = sockd.Service(text="UTF-8")


@text.frame
def greet(line: str) -> str:
    return "grüß dich, " + line


texts = sockd.Service(text="latin-1")
texts.frames(lambda lines: [line.upper() for line in lines])

both = sockd.Service(text="utf-8")


@both.frame
def said(line, connection):
    connection.state = (connection.state or "") + line
    return connection.state


class Later(sockd.LineProtocol):
    def line_received(self, line):
        if line == b"boom":
            self.transport.call_later(0, lambda: 1 / 0)
        elif line == b"last":
            self.transport.call_later(0.01, self.transport.close)
        else:
            self.timer = self.transport.call_later(float(line), self.send_line, b"later " + line)


class Second(sockd.LineProtocol):
    def line_received(self, line):
        self.transport.reply(b"second " + line)


class First(sockd.LineProtocol):
    def line_received(self, line):
        if line == b"switch":
            second = Second()
            second.transport = self.transport
            self.transport.set_protocol(second)
        self.send_line(type(self.transport.get_protocol()).__name__.encode())


def credentials(line, connection):
    return repr(connection.get_extra_info("peercred")).encode()


hooked = sockd.Service()


@hooked.startup
def first():
    note(f"first {os.geteuid()}")


@hooked.startup
def second():
    note("second")


@hooked.shutdown
def last():
    note("last")
    raise RuntimeError("in shutdown")


@hooked.shutdown
def before_last():
    note("before last")


@hooked.frame
def write(line):
    note(line.decode())
    return line


broken = sockd.Service()
broken.frame(lambda line: line)


@broken.startup
def fails():
    raise LookupError("no database")
"""


@pytest.fixture
def served(serve, tmp_path):
    def start(*names, **options):
        (tmp_path / "svc.py").write_text(APP)
        return serve(*[f"tcp://127.0.0.1:0=svc:{name}" for name in names], **options)

    return start


def test_a_batch_is_what_came_of_one_connection(served):
    server = served("batch")
    peers = [server.connect() for _ in range(50)]
    for number, peer in enumerate(peers):
        peer.send(b"a%d\nnone\nb%d\n" % (number, number))
    for number, peer in enumerate(peers):
        assert peer.finish() == b"A%d\nB%d\n" % (number, number)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"one\nblock\n", b"2 lines\nand more\n"),
        (b"nothing\na\n", b""),
        (b"none\n", b""),
        (b"a\nclose\n", b"bye\n"),
        (b"\n\n", b"\n\n"),
    ],
)
def test_what_a_batch_may_return(served, sent, answer):
    server = served("batch")
    peer = server.connect()
    assert peer.finish_with(sent) == answer


@pytest.mark.parametrize(("verb", "error"), [(b"boom", "boom"), (b"few", "1 replies to 2"), (b"text", "reply is str")])
def test_a_batch_that_fails_ends_its_connection_alone(served, verb, error):
    server = served("batch")
    other, peer = server.connect(), server.connect()
    assert other.ask(b"before") == b"BEFORE"
    assert peer.finish_with(b"a\n" + verb + b"\n") == b""
    failed = server.wait_for("handler failed", peer=peer.name)
    assert (failed["frames"], error in failed["traceback"]) == (2, True)
    assert server.end_of(peer)["reason"] == "handler-error"
    assert other.ask(b"after") == b"AFTER"


def test_a_batch_has_the_endings_of_its_framing(served):
    server = served("crlf", "raw")
    assert server.connect(server.addresses[0]).finish_with(b"a\r\nb\nc\n") == b"3\r\n"
    peer = server.connect(server.addresses[1])
    peer.send(b"abc")
    assert peer.sock.recv(10) == b"cba"


def test_a_batch_answers_datagrams_too(serve, tmp_path):
    (tmp_path / "svc.py").write_text(APP)
    server = serve("udp://127.0.0.1:0=svc:batch")
    peer = server.connect()
    for sent, answer in ((b"hello\n", b"HELLO\n"), (b"hello", b"HELLO")):
        peer.send(sent)
        assert peer.sock.recv(100) == answer


def test_text_is_decoded_and_encoded(served):
    server = served("text", "texts", "both")
    peer = server.connect(server.addresses[0])
    assert peer.ask("Jörg".encode()) == "grüß dich, Jörg".encode()
    assert peer.finish_with(b"\xff\n") == b""
    assert "UnicodeDecodeError" in server.wait_for("handler failed", peer=peer.name)["traceback"]
    assert server.connect(server.addresses[1]).ask(b"\xe4h") == b"\xc4H"
    peer = server.connect(server.addresses[2])
    assert [peer.ask(b"a"), peer.ask("ü".encode())] == [b"a", "aü".encode()]  # state is the connection's own
    assert server.connect(server.addresses[2]).ask(b"b") == b"b"


def test_timers_of_a_connection(served):
    server = served("Later")
    peer = server.connect()
    peer.send(b"0.05\n0.01\n")
    assert peer.lines(2) == [b"later 0.01\n", b"later 0.05\n"]
    peer.send(b"60\n")  # never called: its connection ends before
    peer.send(b"last\n")
    assert peer.to_end() == b""
    assert server.end_of(peer)["reason"] == "closed"
    failing = server.connect()
    assert failing.finish_with(b"boom\n") in (b"",)
    assert server.wait_for("handler failed", peer=failing.name)["frame_bytes"] == 0


def test_a_protocol_hands_over_to_another(served):
    peer = served("First").connect()
    assert [peer.ask(b"a"), peer.ask(b"switch"), peer.ask(b"b")] == [b"First", b"Second", b"second b"]


def test_credentials_of_a_unix_peer(serve, tmp_path):
    (tmp_path / "svc.py").write_text(APP)
    server = serve(f"unix:{tmp_path}/s=svc:credentials", "tcp://127.0.0.1:0=svc:credentials")
    peer = server.connect(server.addresses[0])
    assert peer.ask(b"") == f"({os.getpid()}, {os.geteuid()}, {os.getegid()})".encode()
    assert server.connect(server.addresses[1]).ask(b"") == b"None"


def test_hooks_are_called_once_around_everything(serve, tmp_path):
    """For two listeners too; after the drop where there is one."""
    (tmp_path / "svc.py").write_text(APP)
    options = []
    if os.geteuid() == 0:
        options = ["--user", "nobody"]
        (tmp_path / "diary").touch()
        (tmp_path / "diary").chmod(0o666)
        for directory in (tmp_path, *tmp_path.parents[:2]):
            directory.chmod(directory.stat().st_mode | 0o711)
    server = serve(*["tcp://127.0.0.1:0=svc:hooked"] * 2, options=options)
    assert server.connect().ask(b"line") == b"line"
    server.signal()
    assert server.wait() == 0
    first, *others = (tmp_path / "diary").read_text().splitlines()
    assert first.split()[0] == "first"
    assert (first.split()[1] == "0") == (os.geteuid() == 0 and not options)
    assert others == ["second", "line", "last", "before last"]
    assert "in shutdown" in server.having("shutdown hook failed")[0]["traceback"]


def test_a_startup_that_fails_ends_the_start(launch, tmp_path):
    (tmp_path / "svc.py").write_text(APP)
    server = launch("--foreground", "--listen", "tcp://127.0.0.1:0=svc:broken")
    assert server.wait() == 78
    assert '--listen "tcp://127.0.0.1:0=svc:broken": startup hook failed at' in server.said()
    assert "svc.py:" in server.said()
    assert "LookupError: no database" in server.said()
    assert server.addresses == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("s = sockd.Service(text='utf-99')", "text must be an encoding such as utf-8"),
        ("s = sockd.Service()", "decorate one with .frame, .frames, .session or .connect"),
        ("s = sockd.Service()\ns.frames(lambda a, b: a)", "a batch handler is a function of one argument"),
        ("s = sockd.Service()\ns.frames(len)\ns.frame(len)", "already has it"),
    ],
)
def test_mistakes_are_told(launch, tmp_path, text, said):
    (tmp_path / "svc.py").write_text(f"import sockd\n{text}\n")
    server = launch("--foreground", "--listen", "tcp://127.0.0.1:0=svc:s")
    assert server.wait() == 78
    assert said in server.said()
