# SPDX-License-Identifier: MIT
"""Handlers as they are written for asyncio, where it alone is not the measure: deadlines, kinds, TLS, text.

Seen to fail before: each of them but those of one line.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
import textwrap

import pytest

import sockd
from sockd import CloseReason, testing
from sockd.errors import HandlerError


@pytest.fixture
def app(serve, tmp_path):
    """Serve handlers of a module that is written here."""

    def start(source, *names, keys=""):
        (tmp_path / "app.py").write_text("import asyncio, functools, sockd\n" + textwrap.dedent(source))
        tables = "".join(
            f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{name}"\n'
            f'[service.{name}]\nhandler = "app:{name}"\n{keys}\n'
            for name in names
        )
        return serve(config=tables)

    return start


# ---- what was not asked for is not judged


STORE = """
async def store(reader, writer):
    size = int(await reader.readline())
    await asyncio.sleep(0.3)
    writer.write(b"stored %d\\n" % len(await reader.readexactly(size)))
"""


@pytest.mark.parametrize("together", [True, False])
def test_a_body_is_not_a_line_that_is_too_long(app, together):
    peer = app(STORE, "store").connect()
    pieces = [b"70000\n", b"x" * 70_000]
    for piece in [b"".join(pieces)] if together else pieces:
        peer.send(piece)
    assert peer.line() == b"stored 70000\n"


SLOW = """
async def slow(reader, writer):
    while line := await reader.readline():
        await asyncio.sleep(0.8)
        writer.write(b"answer to " + line)
"""


def test_a_line_that_nobody_waits_for_is_not_late(app):
    server = app(SLOW, "slow", keys='frame_timeout = "300ms"')
    peer = server.connect()
    peer.send(b"one\ntw")
    assert peer.line() == b"answer to one\n"
    peer.send(b"o\n")
    assert peer.line() == b"answer to two\n"


def test_a_line_that_is_waited_for_is(app):
    server = app(SLOW, "slow", keys='frame_timeout = "300ms"\nlinger_timeout = "100ms"')
    peer = server.connect()
    peer.send(b"on")
    assert peer.to_end() == b""
    assert server.end_of(peer)["reason"] == "frame-timeout"
    assert not server.having("handler failed")


def test_who_waits_is_told(app):
    source = """
    async def told(reader, writer):
        try:
            await reader.readline()
        except TimeoutError as error:
            writer.write(b"%s" % str(error).encode())
        await asyncio.sleep(1)
    """
    server = app(source, "told", keys='frame_timeout = "200ms"\nlinger_timeout = "100ms"')
    peer = server.connect()
    peer.send(b"on")
    assert peer.to_end() == b"the line was not complete within frame_timeout"
    assert server.end_of(peer)["reason"] == "frame-timeout"


def test_a_peer_is_held_up_by_who_does_not_read_lines():
    """No more than asyncio's measure is kept, and all of it is read."""

    async def waits(reader, writer):
        await reader.readline()
        for _ in range(50):
            await asyncio.sleep(0)
        kept.append(len(reader.unread))
        count = 0
        while await reader.readline():
            count += 1
        writer.write(b"%d" % count)

    kept = []
    data = b"go\n" + b"a line\n" * 100_000
    assert testing.answer(waits, data) == b"100000"
    assert 0 < kept[0] <= 4 * 65_536


# ---- kinds


class Called:
    async def __call__(self, reader, writer):
        writer.write(b"object " + await reader.readline())


class CalledAtClass:
    @classmethod
    async def session(cls, reader, writer):
        writer.write(b"method " + await reader.readline())


def decorated(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


@decorated
async def behind_a_decorator(reader, writer):
    writer.write(b"decorated " + await reader.readline())


async def with_word(word, reader, writer):
    writer.write(word + await reader.readline())


@pytest.mark.parametrize(
    ("handler", "word"),
    [
        (Called(), b"object "),
        (CalledAtClass.session, b"method "),
        (CalledAtClass().session, b"method "),
        (behind_a_decorator, b"decorated "),
        (functools.partial(with_word, b"partial "), b"partial "),
        (functools.partial(Called()), b"object "),
        (functools.partial(behind_a_decorator), b"decorated "),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else type(value).__name__,
)
def test_a_coroutine_is_seen_as_one(handler, word):
    assert testing.answer(handler, b"x\n") == word + b"x\n"
    service = sockd.Service()
    service.session(handler)
    assert testing.answer(service, b"x\n") == word + b"x\n"


def test_a_factory_is_one_for_each_connection():
    class Numbered(asyncio.Protocol):
        def __init__(self, number):
            self.number = number

        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(b"%d %r" % (self.number, data))

    made = []

    def factory():
        made.append(None)
        return Numbered(len(made))

    service = sockd.Service()
    service.connect(factory)
    for handler, number in ((factory, 1), (service, 2), (functools.partial(Numbered, 3), 3)):
        assert testing.answer(handler, b"a\nb") == b"%d b'a\\nb'" % number


def test_a_factory_of_line_protocols_gets_lines():
    class Upper(sockd.LineProtocol):
        def line_received(self, line):
            self.send_line(line.upper())

    def made():
        return Upper()

    assert testing.answer(made, b"a\r\nb\n", sizes=(1,)) == b"A\nB\n"


def test_an_asyncio_protocol_that_takes_lines_only_gets_them():
    class Lines(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def line_received(self, line):
            self.transport.reply(line.upper())

    assert testing.answer(Lines, b"a\r\nb\n") == b"A\nB\n"


def test_a_protocol_may_use_the_loop_of_a_daemon_that_serves_no_coroutine(app):
    source = """
    class Later(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.task = asyncio.ensure_future(self.answer(data))
        async def answer(self, data):
            await asyncio.sleep(0.01)
            self.transport.write(await asyncio.to_thread(data.upper))
    class Upper(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport
        def data_received(self, data):
            self.transport.write(data.upper())
    """
    server = app(source, "Later", "Upper")
    before, later = server.connect(server.address("Upper", "tcp4")), server.connect(server.address("Later", "tcp4"))
    assert before.ask(b"a") == b"A"
    assert later.ask(b"b") == b"B"
    assert before.ask(b"c") == b"C"
    server.signal()
    before.to_end()
    later.to_end()
    before.close()
    later.close()
    assert server.wait() == 0


# ---- refused in time


@pytest.mark.parametrize("kind", ["session", "connect"])
def test_text_is_not_ignored(kind):
    async def session(reader, writer): ...

    class Bytes(asyncio.Protocol):
        def data_received(self, data): ...

    service = sockd.Service(text="utf-8")
    getattr(service, kind)({"session": session, "connect": Bytes}[kind])
    with pytest.raises(HandlerError, match=r"text = .utf-8. is for"):
        testing.connect(service)


def test_text_for_a_line_protocol():
    class Upper(sockd.LineProtocol):
        def line_received(self, line):
            assert isinstance(line, str)
            self.send_line(line.upper())

    service = sockd.Service(text="utf-8")
    service.connect(Upper)
    assert testing.answer(service, "grüße\n".encode()) == "GRÜSSE\n".encode()
    with testing.connect(service) as peer:
        peer.send(b"\xff\n")
    assert peer.close_reason is CloseReason.HANDLER_ERROR


def function(line):
    raise sockd.Close(f"bye {line}")


def with_connection(line, connection):
    raise sockd.Close(f"bye {line}")


async def later(line):
    raise sockd.Close(f"bye {line}")


def batch(lines):
    raise sockd.Close(f"bye {lines[0]}")


class Lines(sockd.LineProtocol):
    def line_received(self, line):
        raise sockd.Close(f"bye {line}")


@pytest.mark.parametrize("handler", [function, with_connection, later, batch, Lines])
def test_last_words_are_text_too(handler):
    """Seen failing: a service of text had to close with bytes."""
    service = sockd.Service(text="utf-8")
    put = {batch: service.frames, Lines: service.connect}.get(handler, service.frame)
    put(handler)
    with testing.connect(service) as peer:
        peer.send("grüße\n".encode())
        peer.run(0.1)
        assert (peer.received(), peer.close_reason) == ("bye grüße\n".encode(), CloseReason.CLOSED)


# ---- testing, TLS


def test_the_reason_is_there_as_soon_as_the_end_is():
    def fails(line):
        raise LookupError

    async def fails_later(reader, writer):
        await reader.readline()
        raise LookupError

    for handler in (fails, fails_later):
        with testing.connect(handler) as peer:
            peer.send(b"x\n")
            assert peer.ended
            assert peer.close_reason is CloseReason.HANDLER_ERROR


def test_start_tls_of_asyncio(app, certificates):
    """The writer's own start_tls(context): no listener has to offer it."""
    source = f"""
    import ssl
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain({str(certificates.server.path)!r}, {str(certificates.server.key)!r})
    async def secured(reader, writer):
        assert await reader.readline() == b"STARTTLS\\n"
        writer.write(b"go\\n")
        await writer.drain()
        await writer.start_tls(context)
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.write(b"bye\\n")
    """
    server = app(source, "secured")
    peer = server.connect()
    assert peer.ask(b"STARTTLS") == b"go"
    context = ssl.create_default_context(cafile=certificates.ca)
    with context.wrap_socket(peer.sock.dup(), server_hostname="localhost") as sock:
        sock.sendall(b"hello\n")
        assert sock.recv(100) == b"HELLO\n"
        sock.sendall(b"x" * 30_000 + b"\n")
        said = b""
        while len(said) < 30_001:
            said += sock.recv(65_536)
        assert said == b"X" * 30_000 + b"\n"
