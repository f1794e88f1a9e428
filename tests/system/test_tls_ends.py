# SPDX-License-Identifier: MIT
"""A stream that ends anywhere: behind TLS as many lines are handled, and as much is answered, as in plain text.

Each client is seen twice, by the same service in plain text and encrypted, and ends in each way at many points:

- FIN, with a close_notify before it or alone: every whole line is handled once, in order, and every answer comes
  whole; the part of a line is left out.  Where plain text hands such a part out (a coroutine gets it as its last
  line), a close_notify has it handed out, and a FIN alone does not.
- RST, of a client whose bytes have all been acknowledged, so that the kernel has them: a service that goes on
  reading handles every whole line in both.  One that was not reading at that moment (it paused, it works in a thread,
  its target holds it up) loses in plain text what it had not taken, and how much is a matter of time; so both are
  held against the same bounds: no fewer lines than it had handled before the RST was sent, no more than whole ones,
  none twice and none out of order.  The reason is `reset` in both, also at a relay's target.
- Answers: whatever had not left when the RST came is nobody's; what the client had read by then is the answer's
  beginning, in both.

Seen to fail: with session tickets; with a connection that is cut off as soon as its peer is, or has its output
dropped then; with what was decrypted thrown away when the connection is reset.
"""

from __future__ import annotations

import itertools
import socket
import ssl

import pytest
from encrypted import ENDS, Encrypted, Plain, context_of
from watching import SOAK, _until

LINES = 5_000
LINE_BYTES = 100
ANSWER_BYTES = 4_000_000
POINTS = 50 if SOAK else 5
APP = """
import asyncio, sockd

LINE_BYTES = 99
BIG = b"".join(b"%07d," % i for i in range(500_000))
handled, parts, wrong = {}, {}, []

def take(line):
    client, _, rest = line.partition(b" ")
    if len(line) != LINE_BYTES:
        parts[client] = line
    elif handled.get(client, 0) != int(rest[:5]):
        wrong.append(line)
    else:
        handled[client] = handled.get(client, 0) + 1

def function(line):
    if line == b"?":
        return BIG
    take(line)

def count(client):
    return b"%d %d %d" % (handled.get(client, 0), client in parts, len(wrong))

class Protocol(sockd.LineProtocol):
    def line_received(self, line):
        if (answer := function(line)) is not None:
            self.send_line(answer)

class Pausing(Protocol):
    def line_received(self, line):
        super().line_received(line)
        self.transport.pause_reading()
        self.transport.call_later(0, self.transport.resume_reading)

async def coroutine(reader, writer):
    async for line in reader:
        if (answer := function(line.removesuffix(b"\\n"))) is not None:
            writer.write(answer + b"\\n")
            await writer.drain()

batch = sockd.Service()

@batch.frames
def all_of_them(lines):
    return [function(line) for line in lines]

blocking = sockd.Service(blocking=True)
blocking.frame(function)

def last_words(line):
    raise sockd.Close(BIG)

async def works(reader, writer):
    lines = [line async for line in reader]
    await asyncio.sleep(0.2)
    writer.write(b"%d lines " % len(lines) + BIG)

async def bytes_and_lines(reader, writer):
    head = await reader.readexactly(4)
    lines = []
    while line := await reader.readline():
        lines.append(line)
    writer.write(head + b"|" + b"|".join(lines))
"""
SERVICES = ("function", "protocol", "pausing", "coroutine", "batch", "blocking", "relay")
HANDLERS = {"pausing": "Pausing", "protocol": "Protocol"}
READS_ON = ("function", "protocol", "coroutine", "batch")
"""Whatever happens; the others may have to wait before they read."""
BIG = b"".join(b"%07d," % i for i in range(ANSWER_BYTES // 8)) + b"\n"
names = map("%04d".__mod__, itertools.count())


class House:
    """A daemon that serves one kind of service, and the one that handles its lines: another where it is a relay.

    Attributes:
        one: encrypted on its listener 0, in plain text on 1.
        handling: says on its listener 2 what was handled; of a relay's, 1 is the target.
    """

    def __init__(self, daemon, own, service) -> None:
        self.service = service
        tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
        self.name = name = "far" if service == "relay" else f"app:{HANDLERS.get(service, service)}"
        if service != "relay":
            self.one = self.handling = daemon(toml=_listen(name, tls) + _listen(name) + _listen("app:count"), app=APP)
            return
        self.handling = daemon(toml=_listen("upper") + _listen("app:function") + _listen("app:count"), app=APP)
        relay = f'[service.far]\nrelay = {{ to = ["{self.handling.address(1)}"] }}\n'
        self.one = daemon(toml=_listen(name, tls) + _listen(name) + relay)

    def since(self):
        return len(self.one.lines), len(self.handling.lines)

    def ends(self, name, since):
        """The reasons of a client's end, of a relay's also at its target."""
        reasons = [self.one.closed(peer=name, service=self.name, since=since[0])["reason"]]
        if self.service == "relay":
            reasons.append(self.handling.closed(service="app:function", since=since[1])["reason"])
        return reasons


def _listen(service, tls=""):
    return f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{service}"\n{tls}'


@pytest.fixture
def house(daemon, certificates):
    """`house(service)`: see House."""
    return lambda service: House(daemon, certificates.server, service)


class Told:
    """What came of one client.

    Attributes:
        lines: handled.
        has_part: the part of a line was.
        reasons: of its end.
    """

    def __init__(self, house, client) -> None:
        lines, part, wrong = map(int, house.handling.ask(client + b"\n", 2).split())
        assert not wrong
        self.lines, self.has_part = lines, bool(part)

    def __repr__(self) -> str:
        return repr(vars(self))


def connect(house, context):
    """A client: encrypted, or without a context in plain text."""
    return Plain(house.one.connect(1)) if context is None else Encrypted(house.one.connect(0), context)


def stream(house, context, how, size, name_of):
    """Send the first bytes of the stream, end it so, and return what came of it."""
    client, since = next(names).encode(), house.since()
    peer = connect(house, context)
    name = name_of(peer.sock)
    text = b"".join(b"%s %05d %s\n" % (client, number, b"." * 88) for number in range(LINES))[:size]
    assert len(text) == size
    peer.send(text)
    confirmed = min(20, size // LINE_BYTES) if how == "reset" and house.service not in READS_ON else 0
    _until(lambda: Told(house, client).lines >= confirmed)
    peer.end(how)
    if how != "reset":
        assert peer.to_end() == b""
    reasons = house.ends(name, since)
    told = Told(house, client)
    told.reasons = reasons
    assert confirmed <= told.lines <= size // LINE_BYTES
    return told


def points(total):
    """Where it ends: at the edges, and between them in the middle of a line as a rule."""
    return [min(total, total * i // (POINTS - 1) + 37 * (i % 3)) for i in range(POINTS)]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("service", SERVICES)
def test_a_stream_that_ends_anywhere(house, certificates, name_of, service, version):
    house, context = house(service), context_of(certificates.ca, version)
    for how, size in itertools.product(ENDS, points(LINES * LINE_BYTES)):
        if how == "reset" and service == "relay" and size < LINE_BYTES:
            continue  # it may be gone before it is served
        plain = stream(house, None, how, size, name_of)
        told = stream(house, context, how, size, name_of)
        whole, part = divmod(size, LINE_BYTES)
        if how != "reset" or service in READS_ON:
            assert told.lines == plain.lines == whole, (how, size)
        is_left_out = service == "coroutine" and how == "alone" and part > 0
        assert told.has_part == (plain.has_part and not is_left_out), (how, size)
        assert told.reasons == (["truncated"] if is_left_out else plain.reasons), (how, size)
        if how == "reset":
            assert set(told.reasons) == {"reset"}, size


def question(house, context, how, size, name_of):
    """Ask, read so much of the answer, end it so, and return what came of it, the reasons of the end, and who asked."""
    client, since = next(names).encode(), house.since()
    peer = connect(house, context)
    name = name_of(peer.sock)
    peer.send(b"?\n" + b"%s %05d %s\n" % (client, 0, b"." * 88) + client + b" part")
    accepted = bytearray()
    while len(accepted) < max(1, size):  # who is reset before the first byte may be gone before it is served
        accepted += peer.read()
    peer.end(how)
    if how != "reset":
        accepted += peer.to_end()
        assert context is None or peer.was_notified
    return bytes(accepted), house.ends(name, since), client


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("service", SERVICES)
def test_an_answer_that_is_still_leaving(house, certificates, name_of, service, version):
    house, context = house(service), context_of(certificates.ca, version)
    for how, size in itertools.product(ENDS, points(ANSWER_BYTES // 2)):
        plain, reasons, client = question(house, None, how, size, name_of)
        told, reasons_told, client_told = question(house, context, how, size, name_of)
        if how == "reset":
            assert BIG.startswith(plain)
            assert BIG.startswith(told)
            assert min(len(plain), len(told)) >= size
            assert set(reasons) == set(reasons_told) == {"reset"}, size
        else:
            assert [plain == BIG, told == BIG] == [True, True], (how, size, len(plain), len(told))
            assert Told(house, client_told).lines == Told(house, client).lines == 1
            is_left_out = service == "coroutine" and how == "alone"
            assert Told(house, client_told).has_part == (Told(house, client).has_part and not is_left_out)
            assert reasons_told == (["truncated"] if is_left_out else reasons)


# ---- a service that has something to say when its client has ended


ASKED = b"one\ntwo\nthr"


@pytest.mark.parametrize("how", ["notified", "alone"])
@pytest.mark.parametrize(
    ("service", "notified", "alone"),
    [
        ("app:last_words", BIG, BIG),
        ("app:works", b"3 lines " + BIG[:-1], b"2 lines " + BIG[:-1]),  # its last one had no end
        ("app:bytes_and_lines", b"one\n|two\n|thr", b"one\n|two\n"),
    ],
)
def test_it_says_it(daemon, certificates, service, notified, alone, how):
    own = certificates.server
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    one = daemon(toml=_listen(service, tls), app=APP)
    peer = Encrypted(one.connect(), context_of(certificates.ca))
    peer.send(ASKED)
    peer.end(how)
    assert peer.to_end() == (notified if how == "notified" else alone)
    assert peer.was_notified
    is_left_out = how == "alone" and service != "app:last_words"
    one.closed("closed" if service == "app:last_words" else "truncated" if is_left_out else "eof")


@pytest.mark.parametrize("how", ["notified", "alone"])
@pytest.mark.parametrize("reads", ["all", "a line"])
def test_a_program_says_it(daemon, certificates, reads, how):
    """Also when it ends with input unread, of which a client in plain text would hear by a reset."""
    own = certificates.server
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    command = "wc -l" if reads == "all" else "read line; echo $line"
    program = f'[service.count]\nexec = ["/bin/sh", "-c", "{command}"]\nuser = "root"\n'
    one = daemon(toml=_listen("count", tls) + program)
    peer = Encrypted(one.connect(), context_of(certificates.ca))
    peer.send(b"line\n" * 20_000)
    peer.end(how)
    assert peer.to_end() == (b"20000\n" if reads == "all" else b"line\n")
    assert peer.was_notified


# ---- clients that only send


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("service", ["function", "pausing"])
def test_clients_that_send_and_close(house, certificates, service, version):
    """As most do: nothing is read, and nothing said before TCP's FIN."""
    made, context = house(service), context_of(certificates.ca, version)
    for _ in range(20 if SOAK else 5):
        client = next(names).encode()
        peer = Encrypted(made.one.connect(), context)
        peer.send(b"".join(b"%s %05d %s\n" % (client, number, b"." * 88) for number in range(LINES)))
        peer.sock.close()
        _until(lambda client=client: Told(made, client).lines == LINES)


# ---- what a relay's client is told


@pytest.fixture
def target():
    """A listening socket: a relay's target, which the test plays."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        yield listener


def relayed(daemon, certificates, port):
    own = certificates.server
    tls = f'tls = {{ certificate = "{own.path}", key = "{own.key}" }}\n'
    relay = f'[service.far]\nrelay = {{ to = ["tcp://127.0.0.1:{port}"], connect_timeout = "2s" }}\n'
    one = daemon(toml=_listen("far", tls) + relay)
    return one, Encrypted(one.connect(), context_of(certificates.ca))


def test_half_an_answer_of_a_target_does_not_look_whole(daemon, certificates, target, reset):
    one, peer = relayed(daemon, certificates, target.getsockname()[1])
    peer.send(b"question")
    there, _ = target.accept()
    assert there.recv(100) == b"question"
    there.sendall(b"half an ")
    assert peer.read() == b"half an "
    reset(there)
    with pytest.raises(ConnectionResetError):
        peer.to_end()
    one.closed("reset")


def test_a_target_that_is_not_there_is_no_empty_answer(daemon, certificates, target):
    port = target.getsockname()[1]
    target.close()
    one, peer = relayed(daemon, certificates, port)
    with pytest.raises(ConnectionResetError):
        peer.to_end()
    one.closed("unreachable")


@pytest.mark.parametrize("how", ENDS)
def test_a_target_hears_how_its_client_has_ended(daemon, certificates, target, how):
    _, peer = relayed(daemon, certificates, target.getsockname()[1])
    peer.send(b"half a")
    there, _ = target.accept()
    assert there.recv(100) == b"half a"
    peer.end(how)
    with there:
        if how == "reset":
            with pytest.raises(ConnectionResetError):
                there.recv(100)
        else:
            assert there.recv(100) == b""
            there.sendall(b"answer")
            there.close()
            assert peer.to_end() == b"answer"
            assert peer.was_notified
