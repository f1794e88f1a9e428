# SPDX-License-Identifier: MIT
"""What becomes of a reply that holds the delimiter: for `line`, several lines; for every other framing, a failure.

The same for every kind of handler.  `sockd.buffer` encodes exactly one frame, so there it is an error for lines, too.
"""

from __future__ import annotations

import pytest

import sockd
from sockd import CloseReason, testing
from sockd.buffer import PayloadError, encode, encode_all

FRAMINGS = {
    "line": (sockd.Line(100), b"one\ntwo", b"?\n"),
    "crlf": (sockd.Line(100, b"\r\n"), b"one\ntwo", b"?\r\n"),
    "same": (sockd.Line(100, "same"), b"one\ntwo", b"?\n"),
    "strict-line": (sockd.StrictLine(100), b"one\r\ntwo", b"?\r\n"),
    "delimiter": (sockd.Delimiter(100, b";"), b"one;two", b"?;"),
    "nul": (sockd.Nul(100), b"one\0two", b"?\0"),
    "blank-line": (sockd.BlankLine(100), b"one\n\ntwo\n", b"?\n\n"),
}
SEVERAL = ("line", "crlf", "same")


class Replies:
    """A protocol class that gives the reply of the running test."""

    reply = b""

    def connection_made(self, transport):
        self.transport = transport

    def frame_received(self, frame):
        self.transport.reply(self.reply)


def handlers(reply, **options):
    """Each kind of handler that gives a reply to a frame, with its name."""

    async def later(frame):
        return reply

    def by_connection(frame, connection):
        connection.reply(reply)

    def closing(frame):
        raise sockd.Close(reply)

    functions = {"function": lambda frame: reply, "async": later, "connection": by_connection, "close": closing}
    for name, function in functions.items():
        service = sockd.Service(**options)
        service.frame(function)
        yield name, service
    for name, more in (("batch", {}), ("blocking batch", {"blocking": True})):
        service = sockd.Service(**more, **options)
        service.frames(lambda frames: [reply] * len(frames))
        yield name, service
    service = sockd.Service(blocking=True, **options)
    service.frame(lambda frame: reply)
    yield "blocking", service
    service = sockd.Service(**options)
    service.connect(type("Own", (Replies,), {"reply": reply}))
    yield "protocol", service


@pytest.mark.parametrize("name", FRAMINGS)
def test_every_kind_of_handler_does_the_same(name):
    framing, reply, question = FRAMINGS[name]
    for kind, service in handlers(reply, framing=framing):
        with testing.connect(service) as peer:
            peer.send(question)
            peer.run(0.05)
            told = peer.received()
            if kind == "close" and name in SEVERAL:
                peer.end()
            reason = peer.close_reason
        if name in SEVERAL:
            ending = b"\r\n" if name == "crlf" else b"\n"
            assert told.replace(b"\r\n", b"\n") == b"one\ntwo\n", kind
            assert told.endswith(b"two" + ending), kind
            assert reason is not CloseReason.HANDLER_ERROR, kind
        else:
            assert (told, reason) == (b"", CloseReason.HANDLER_ERROR), kind


@pytest.mark.parametrize("name", sorted({*FRAMINGS} - {"same"}))  # whose ending follows a question: the daemon's alone
def test_a_buffer_encodes_one_frame(name):
    framing, reply, _ = FRAMINGS[name]
    with pytest.raises(PayloadError):
        encode(framing, reply)
    if name in SEVERAL:  # what the daemon sends
        assert encode_all(framing, reply.split(b"\n")).splitlines() == [b"one", b"two"]
