# SPDX-License-Identifier: MIT
"""Every framing as a service has it: functions, batches and protocols, whole, byte by byte and in random pieces.

Seen to fail: with Codec.encode returning the reply as it is; with keep_scan leaving out the dots; with
set_framing not giving back what is behind the frame; with the endings of a batch shifted by one.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass

import pytest

APP = """
import sockd

FRAMINGS = {
    "strict-line": sockd.StrictLine(9), "delimiter": sockd.Delimiter(9, b"--"), "nul": sockd.Nul(9),
    "netstring": sockd.Netstring(9), "prefix1": sockd.Prefix(9, 1), "prefix4": sockd.Prefix(9, 4, "little"),
    "inclusive": sockd.Prefix(9, 2, "big", True), "varint": sockd.Varint(9), "octet-count": sockd.OctetCount(9),
    "mixed": sockd.OctetCount(9, mixed=True), "fixed": sockd.Fixed(3), "dot-block": sockd.DotBlock(9),
    "blank-line": sockd.BlankLine(9), "same": sockd.Line(9, "same"), "crlf": sockd.Line(9, b"\\r\\n"),
}


class Upper(sockd.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def frame_received(self, frame):
        self.transport.reply(frame.upper())


def services(framing, kind):
    service = sockd.Service(framing=framing)
    if kind == "function":
        service.frame(lambda frame: frame.upper())
    elif kind == "connection":
        service.frame(lambda frame, connection: frame.upper())
    elif kind == "batch":
        service.frames(lambda frames: [frame.upper() for frame in frames])
    else:
        service.connect(Upper)
    return service


for name, framing in FRAMINGS.items():
    for kind in ("function", "connection", "batch", "protocol"):
        globals()[f"{kind}_{name.replace('-', '_')}"] = services(framing, kind)

record = sockd.Service(framing=sockd.Record("!IHd"))


@record.frame
def swapped(values):
    number, short, real = values
    if number == 0:
        raise sockd.Close((7, 7, 7.0))
    if number == 1:
        return (1, -1, 0.0)  # no unsigned short
    return None if number == 2 else (number + 1, short, -real)


records = sockd.Service(framing=sockd.Record("<hb"))
records.frames(lambda frames: [(a + b, 0) for a, b in frames])

words = sockd.Service(framing=sockd.Netstring(100))


@words.frame
def act(frame):
    if frame == b"none":
        return None
    if frame == b"close":
        raise sockd.Close(b"bye")
    if frame == b"boom":
        raise RuntimeError("boom")
    if frame == b"text":
        return "text"
    return frame[::-1]


strict = sockd.Service(framing=sockd.StrictLine(100))
strict.frame(lambda line: b"a\\r\\nb" if line == b"bad" else line)


def smtp(line, connection):
    if line == b"data":
        connection.set_framing(sockd.DotBlock(1000))
        connection.write(b"354 go on\\r\\n")
    elif line.startswith(b"raw "):
        connection.set_framing(sockd.Fixed(int(line[4:])))
    elif isinstance(connection.framing, sockd.DotBlock):
        connection.set_framing(sockd.Line(1000, b"\\r\\n"))
        connection.reply(b"250 %d bytes" % len(line))
    elif isinstance(connection.framing, sockd.Fixed):
        connection.set_framing(sockd.Line(1000, "same"))
        connection.write(b"got " + line + b"\\n")
    else:
        connection.reply(b"200 " + line)
"""


@dataclass
class Case:
    """A framing: two requests and the answers to them, and a piece that is no frame, and why."""

    sent: bytes
    answer: bytes
    wrong: bytes = b""
    reason: str = ""
    unfinished: bytes = b""


CASES = {
    "strict_line": Case(b"ab\r\ncd\r\n", b"AB\r\nCD\r\n", b"ab\n", "malformed", b"ab\r"),
    "delimiter": Case(b"ab--c-d--", b"AB--C-D--", b"0123456789", "frame-too-long", b"a-"),
    "nul": Case(b"ab\0\0c\n\0", b"AB\0\0C\n\0", b"0123456789", "frame-too-long", b"ab"),
    "netstring": Case(b"2:ab,0:,3:c,d,", b"2:AB,0:,3:C,D,", b"02:ab,", "malformed", b"2:ab"),
    "prefix1": Case(b"\2ab\0\1c", b"\2AB\0\1C", b"\x0a", "frame-too-long", b"\2a"),
    "prefix4": Case(b"\2\0\0\0ab\0\0\0\0", b"\2\0\0\0AB\0\0\0\0", b"\0\0\0\1", "frame-too-long", b"\2\0\0\0a"),
    "inclusive": Case(b"\0\4ab\0\2", b"\0\4AB\0\2", b"\0\1", "malformed", b"\0"),
    "varint": Case(b"\2ab\0", b"\2AB\0", b"\x80\x80\x01", "frame-too-long", b"\2a"),
    "octet_count": Case(b"2 ab3 c d", b"2 AB3 C D", b"x", "malformed", b"2 a"),
    "mixed": Case(b"2 abcd\n3 e\nf", b"2 AB2 CD3 E\nF", b"0123456789", "malformed", b"abc"),
    "fixed": Case(b"abcd\nf", b"ABCD\nF", unfinished=b"ab"),
    "dot_block": Case(
        b"ab\r\n..c\r\n.\r\n.\r\n", b"AB\r\n..C\r\n.\r\n.\r\n", b"0123456789", "frame-too-long", b"ab\r\n."
    ),
    "blank_line": Case(b"a\nb\n\nc\r\n\r\n", b"A\nB\n\nC\r\n\n", b"0123456789", "frame-too-long", b"a\n"),
    "same": Case(b"ab\r\nc\n\r\n\nd\r\n", b"AB\r\nC\n\r\n\nD\r\n", b"0123456789", "frame-too-long", b"ab\r"),
    "crlf": Case(b"ab\r\nc\n", b"AB\r\nC\r\n", b"0123456789", "frame-too-long", b"ab\r"),
}
KINDS = ("function", "connection", "batch", "protocol")


@pytest.fixture
def served(serve, tmp_path):
    def start(*names):
        (tmp_path / "svc.py").write_text(APP)
        return serve(*[f"tcp://127.0.0.1:0=svc:{name}" for name in names])

    return start


def in_pieces(peer, data, sizes):
    """Send pieces, each in a segment of its own (TCP_NODELAY), and FIN."""
    at = 0
    for size in sizes:
        peer.send(data[at : at + size])
        at += size
    return peer.finish_with(data[at:])


def test_every_framing_for_every_kind_of_handler(served):
    names = [f"{kind}_{name}" for name in CASES for kind in KINDS]
    server = served(*names)
    source = random.Random(5)
    for name, address in zip(names, server.addresses, strict=True):
        case = CASES[name.partition("_")[2]]
        sizes = [[], [1] * len(case.sent), [source.randint(1, 4) for _ in range(len(case.sent) // 2)]]
        for many in sizes:
            assert in_pieces(server.connect(address), case.sent, many) == case.answer, (name, many)


@pytest.mark.parametrize("kind", KINDS)
def test_how_every_framing_ends(served, kind):
    names = [f"{kind}_{name}" for name in CASES]
    server = served(*names)
    for name, address in zip(names, server.addresses, strict=True):
        case = CASES[name.partition("_")[2]]
        for piece, reason in ((case.wrong, case.reason), (case.unfinished, "truncated"), (b"", "eof")):
            if not reason:
                continue
            peer = server.connect(address)
            assert in_pieces(peer, case.sent + piece, [len(case.sent)]) == case.answer, (name, reason)
            assert server.end_of(peer)["reason"] == reason, (name, piece)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("function_netstring", lambda n: b"%d:%d," % (len(str(n)), n)),
        ("batch_prefix1", lambda n: bytes([len(str(n))]) + b"%d" % n),
        ("function_same", lambda n: b"%d" % n + (b"\r\n" if n % 2 else b"\n")),
    ],
)
def test_many_connections_have_their_own_frames(served, name, frame):
    server = served(name)
    peers = [server.connect() for _ in range(50)]
    for number, peer in enumerate(peers):
        peer.send(frame(number) * 3)
    for number, peer in enumerate(peers):
        assert peer.finish() == frame(number) * 3


def test_records_are_tuples(served):
    server = served("record", "records")
    peer = server.connect(server.addresses[0])
    record = struct.Struct("!IHd")
    records = ((5, 6, 1.5), (2, 0, 0.0), (9, 9, -9.0), (0, 0, 0.0), (5, 5, 5.0))
    sent = b"".join(record.pack(*values) for values in records)
    answers = in_pieces(peer, sent, [1] * 20)
    assert list(record.iter_unpack(answers)) == [(6, 6, -1.5), (10, 9, 9.0), (7, 7, 7.0)]
    batch = server.connect(server.addresses[1])
    assert batch.finish_with(struct.pack("<hbhb", 5, 6, -1, -1)) == struct.pack("<hbhb", 11, 0, -2, 0)


def test_a_reply_that_is_no_record_fails_alone(served):
    server = served("record")
    other, peer = server.connect(), server.connect()
    peer.send(struct.pack("!IHd", 1, 0, 0.0))
    assert peer.to_end() == b""
    assert server.wait_for("handler failed", peer=peer.name)["frame_bytes"] == 14
    assert server.end_of(peer)["reason"] == "handler-error"
    other.send(struct.pack("!IHd", 3, 0, 0.0))
    assert other.sock.recv(100) == struct.pack("!IHd", 4, 0, -0.0)


@pytest.mark.parametrize(
    ("sent", "answer", "reason"),
    [
        (b"4:none,2:ab,", b"2:ba,", "eof"),
        (b"2:ab,5:close,2:cd,", b"2:ba,3:bye,", "closed"),
        (b"2:ab,4:boom,2:cd,", b"2:ba,", "handler-error"),
        (b"2:ab,4:text,2:cd,", b"2:ba,", "handler-error"),
    ],
)
def test_what_a_function_of_frames_may_do(served, sent, answer, reason):
    server = served("words")
    peer = server.connect()
    assert peer.finish_with(sent) == answer
    assert server.end_of(peer)["reason"] == reason


def test_a_reply_that_cannot_be_a_frame_fails_alone(served):
    """It would come back as two frames: what a peer is told is never something else than what the handler said."""
    server = served("strict")
    peer = server.connect()
    assert peer.finish_with(b"ok\r\nbad\r\nok\r\n") == b"ok\r\n"
    failed = server.wait_for("handler failed", peer=peer.name)
    assert "PayloadError" in failed["traceback"]
    assert server.end_of(peer)["reason"] == "handler-error"


DIALOGUE = b"a\ndata\nsubject: x\r\n..dot\r\n.\r\nb\nraw 5\nab\ncdlast\r\nmore\n"
SAID = b"200 a\n354 go on\r\n250 18 bytes\r\n200 b\r\ngot ab\ncd\n200 last\r\n200 more\n"


@pytest.mark.parametrize("pieces", [[], [1] * len(DIALOGUE), [7, 30], [3, 3, 20]])
def test_the_framing_changes_in_mid_connection(served, pieces):
    server = served("smtp")
    assert in_pieces(server.connect(), DIALOGUE, pieces) == SAID


def test_one_datagram_is_one_frame(serve, tmp_path):
    (tmp_path / "svc.py").write_text(APP)
    server = serve("udp://127.0.0.1:0=svc:record", "udp://127.0.0.1:0=svc:function_netstring")
    peer = server.connect(server.addresses[0])
    peer.send(struct.pack("!IHd", 5, 6, 1.5))
    assert struct.unpack("!IHd", peer.sock.recv(100)) == (6, 6, -1.5)
    peer = server.connect(server.addresses[1])
    peer.send(b"hello")
    assert peer.sock.recv(100) == b"HELLO"


@pytest.mark.parametrize(
    ("framing", "sent", "answer"),
    [
        ('"netstring"', b"2:ab,", b"2:AB,"),
        ('{ type = "netstring", max = "1 KiB" }', b"2:ab,", b"2:AB,"),
        ('{ type = "delimiter", delimiter = ";" }', b"ab;c;", b"AB;C;"),
        ('{ type = "prefix", width = 2, order = "little", includes_header = true }', b"\4\0ab", b"\4\0AB"),
        ('{ type = "octet-count", mixed = true }', b"2 abc\n", b"2 AB1 C"),
        ('{ type = "fixed", size = 2 }', b"abcd", b"ABCD"),
        ('{ type = "line", ending = "same" }', b"ab\r\nc\n", b"AB\r\nC\n"),
        ('{ type = "line", ending = "crlf" }', b"ab\nc\n", b"AB\r\nC\r\n"),
        ('"strict-line"', b"ab\r\n", b"AB\r\n"),
        ('"nul"', b"ab\0", b"AB\0"),
        ('"varint"', b"\2ab", b"\2AB"),
        ('"dot-block"', b"ab\r\n.\r\n", b"AB\r\n.\r\n"),
        ('"blank-line"', b"a\nb\n\n", b"A\nB\n\n"),
        ('"raw"', b"abc", b"ABC"),
    ],
)
def test_the_configuration_names_the_framing(serve, framing, sent, answer):
    server = serve(
        config=f"""
[[listen]]
address = "tcp://127.0.0.1:0"
service = "it"

[service.it]
handler = "app:upper"
framing = {framing}
"""
    )
    assert server.connect().finish_with(sent) == answer


def test_the_configuration_goes_before_the_service(serve, tmp_path):
    (tmp_path / "svc.py").write_text(APP)
    config = """
[[listen]]
address = "tcp://127.0.0.1:0"
service = "it"

[service.it]
handler = "svc:function_netstring"
"""
    limited = serve(config=config + "max_frame = 3\n")
    peer = limited.connect()
    assert peer.finish_with(b"3:abc,4:abcd,") == b"3:ABC,"
    assert limited.end_of(peer)["reason"] == "frame-too-long"
    other = serve(config=config + 'framing = "nul"\n')
    assert other.connect().finish_with(b"ab\0") == b"AB\0"
