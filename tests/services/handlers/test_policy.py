# SPDX-License-Identifier: MIT
"""Frames that are too long, or have no end: closed, skipped, cut, dropped, taken; replies that hold the delimiter."""

from __future__ import annotations

import tracemalloc

import pytest

import sockd
from sockd import CloseReason, testing
from sockd.errors import HandlerError

FRAMINGS = {
    "line": (sockd.Line(10), b"%b\n", b"%b\n"),
    "crlf": (sockd.Line(10, b"\r\n"), b"%b\r\n", b"%b\r\n"),
    "strict": (sockd.StrictLine(10), b"%b\r\n", b"%b\r\n"),
    "nul": (sockd.Nul(10), b"%b\0", b"%b\0"),
    "delimiter": (sockd.Delimiter(10, b";;"), b"%b;;", b"%b;;"),
}
LONG = b"0123456789abcdef"


def plain(frame):
    return frame.upper()


def with_connection(frame, connection):
    connection.reply(frame.upper())


class Lines(sockd.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def frame_received(self, frame):
        self.transport.reply(frame.upper())


def service(handler, **options):
    made = sockd.Service(**options)
    (made.connect if isinstance(handler, type) else made.frame)(handler)
    return made


@pytest.mark.parametrize("sizes", [(), (1,), (3, 7)])
@pytest.mark.parametrize("handler", [plain, with_connection, Lines])
@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("policy", ["close", "skip", "cut"])
def test_a_frame_that_is_too_long(policy, name, handler, sizes):
    framing, frame, reply = FRAMINGS[name]
    long = LONG * 300  # more than what is received at once
    data = b"".join(frame % one for one in (b"a", LONG, b"b", long if sizes == () else LONG, b"c"))
    said = [b"A"]
    if policy != "close":
        cut = [b"0123456789"] if policy == "cut" else []
        said += [*cut, b"B", *cut, b"C"]
    with testing.connect(service(handler, framing=framing, too_long=policy)) as peer:
        try:
            peer.send(data, sizes=sizes)
            peer.end()
        except OSError:
            assert policy == "close"
        assert peer.received() == b"".join(reply % one for one in said)
        assert peer.close_reason is (CloseReason.FRAME_TOO_LONG if policy == "close" else CloseReason.EOF)


def test_what_is_skipped_is_not_kept():
    """`max_memory` does not know of it, and its end may never come."""
    limit = 4 << 20
    data = b"x" * (2 * limit) + b"\nb\n"
    with testing.connect(service(plain, framing=sockd.Line(limit), too_long="skip")) as peer:
        tracemalloc.start()
        try:
            peer.send(data, sizes=(65_536,))
            peer.end()
            assert peer.received() == b"B\n"
            assert (
                tracemalloc.get_traced_memory()[1] < 1.5 * limit
            )  # it was 3: the block that is too long is looked through
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("name", FRAMINGS)
@pytest.mark.parametrize("unfinished", ["drop", "deliver"])
def test_a_last_frame_without_its_end(unfinished, name):
    framing, frame, reply = FRAMINGS[name]
    with testing.connect(service(plain, framing=framing, unfinished=unfinished)) as peer:
        peer.send(frame % b"a" + b"last")
        peer.end()
        said = [b"A", b"LAST"] if unfinished == "deliver" else [b"A"]
        assert peer.received() == b"".join(reply % one for one in said)
        assert peer.close_reason is (CloseReason.EOF if unfinished == "deliver" else CloseReason.TRUNCATED)


def test_blocks_are_skipped_to_their_end():
    data = b"short\n\n" + b"x: y\n" * 50 + b"\n" + b"next\n\n"
    answer = testing.answer(service(plain, framing=sockd.BlankLine(20), too_long="skip"), data, sizes=(7,))
    assert answer.startswith(b"SHORT\n")
    assert b"NEXT" in answer
    assert b"X: Y" not in answer


BLOCKS = {
    "blank": (sockd.BlankLine(16), b"one\ntwo\nthree\nfour\n\n", b"b\n\n", b"one\ntwo\nthree\n"),
    "blank-crlf": (sockd.BlankLine(16), b"one\r\ntwo\r\nthree\r\n\r\n", b"b\r\n\r\n", b"one\r\ntwo\r\n"),
    "blank-one-line": (sockd.BlankLine(16), b"x" * 40 + b"\r\n\n", b"b\n\n", b"x" * 15),
    "dot": (sockd.DotBlock(16), b"..one\r\ntwo\r\n..three\r\n.\r\n", b"b\r\n.\r\n", b".one\r\ntwo\r\n"),
    "dot-one-line": (sockd.DotBlock(16), b"x" * 40 + b"\r\n.\r\n", b"b\r\n.\r\n", b"x" * 14),
}


@pytest.mark.parametrize("sizes", [(), (1,), (7,)])
@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("policy", ["skip", "cut"])
def test_a_block_that_is_too_long_ends_as_blocks_do_and_is_cut_to_lines(policy, name, sizes):
    framing, long, short, cut = BLOCKS[name]
    seen = []

    def handler(block):
        seen.append(bytes(block))
        return block  # which can be encoded

    with testing.connect(service(handler, framing=framing, too_long=policy)) as peer:
        peer.send(short + long + short + long + short, sizes=sizes)
        peer.end()
        assert peer.close_reason is CloseReason.EOF
    one = short.removesuffix(b".\r\n") if name.startswith("dot") else short.removesuffix(b"\n").removesuffix(b"\r")
    assert seen == ([one, cut, one, cut, one] if policy == "cut" else [one] * 3)


def test_a_last_dot_block_without_its_end_has_single_dots():
    seen = []
    made = service(lambda block: seen.append(bytes(block)), framing=sockd.DotBlock(100), unfinished="deliver")
    with testing.connect(made) as peer:
        peer.send(b"..one\r\n..")
        peer.end()
    assert seen == [b".one\r\n."]


def test_what_has_no_end_and_who_has_no_frames():
    async def session(reader, writer): ...

    with pytest.raises(HandlerError, match="for framings with an end"):
        testing.connect(service(plain, framing=sockd.Netstring(10), too_long="skip"))
    made = sockd.Service(too_long="skip")
    made.session(session)
    with pytest.raises(HandlerError, match="for functions and protocol classes"):
        testing.connect(made)


def two(_frame, *_connection):
    return b"a\nb"


async def two_later(_frame):
    return b"a\nb"


class TwoLines(sockd.LineProtocol):
    def line_received(self, line):
        self.send_line(b"a\nb")


def all_two(lines):
    return [b"a\nb" for _ in lines]


def test_a_reply_of_several_lines_is_several_lines_whoever_gives_it():
    """And of a framing that would cut it elsewhere, none."""
    batch = sockd.Service()
    batch.frames(all_two)
    blocking = service(two, blocking=True)
    for handler in (two, two_later, TwoLines, batch, blocking):
        assert testing.answer(handler, b"x\n") == b"a\nb\n"
        assert testing.answer(handler, b"x\ny\n") == b"a\nb\n" * 2
    with testing.connect(service(two, framing=sockd.Delimiter(100, b"\n"))) as peer:
        peer.send(b"x\n")
        assert peer.received() == b""
        assert peer.close_reason is CloseReason.HANDLER_ERROR
