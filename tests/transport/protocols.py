# SPDX-License-Identifier: MIT
"""Protocols that both asyncio and sockd serve, unmodified; each writes what it was told into a diary.

They import nothing of sockd and ask nothing of a loop but the transport. `SCENARIOS` names them.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket

LARGE = 16 * 1024 * 1024  # more than the kernel takes for a peer that does not read (tcp_wmem, tcp_rmem)
living: dict[str, Told] = {}  # by scenario: the last one made


class Told(asyncio.Protocol):
    """Notes every callback; consecutive data is one note, for how a stream is cut means nothing."""

    def __init__(self):
        self.notes = []

    def note(self, *words):
        self.notes.append(list(words))

    def attempt(self, what, call, *arguments):
        """Note what a call returns or raises."""
        try:
            result = call(*arguments)
        except Exception as error:
            result = type(error).__name__
        self.note(what, result)

    def connection_made(self, transport):
        self.transport = transport
        living[type(self).__name__] = self
        self.note("made")
        self.made()

    def made(self):
        pass

    def data_received(self, data):
        if self.notes[-1][0] == "data":
            self.notes[-1][1] += data.decode("latin-1")
        else:
            self.note("data", data.decode("latin-1"))
        self.got(data)

    def got(self, data):
        pass

    def eof_received(self):
        self.note("eof")
        return self.eof()

    def eof(self):
        return None

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, exc):
        self.note("lost", type(exc).__name__ if exc else None)
        self.write_diary()

    def write_diary(self):
        name = os.path.join(os.environ["DIARY"], type(self).__name__)
        with open(name + ".new", "w") as file:
            json.dump(self.notes, file)
        os.rename(name + ".new", name)


class Echo(Told):
    def got(self, data):
        self.transport.write(data)


class StaysAfterEof(Told):
    def eof(self):
        self.transport.write(b"after eof")
        self.transport.close()
        return True


class CloseInMade(Told):
    def made(self):
        self.transport.write(b"hello")
        self.transport.close()
        self.note("closing", self.transport.is_closing())


class AbortInMade(Told):
    def made(self):
        self.transport.abort()
        self.note("closing", self.transport.is_closing())


class CloseWithOutput(Told):
    def pause_writing(self):
        """Not noted: whether somebody who has closed is still told of water marks is nobody's concern."""

    resume_writing = pause_writing

    def got(self, data):
        self.transport.write(b"x" * LARGE)
        self.transport.close()
        self.transport.write(b"dropped")
        self.transport.close()
        self.note("closing", self.transport.is_closing(), self.transport.is_reading())


class AbortWithOutput(Told):
    def got(self, data):
        self.transport.write(b"x" * LARGE)
        self.transport.abort()
        self.transport.abort()
        self.transport.close()


class HalfClose(Told):
    def got(self, data):
        if b"half" in data:
            self.note("can", self.transport.can_write_eof())
            self.transport.write(b"last")
            self.transport.write_eof()
            self.transport.write_eof()
            self.attempt("write", self.transport.write, b"more")
            self.note("closing", self.transport.is_closing())


class WriteEofAfterClose(Told):
    def got(self, data):
        self.transport.close()
        self.attempt("write_eof", self.transport.write_eof)
        self.attempt("write", self.transport.write, b"x")


class WhatIsWritten(Told):
    def got(self, data):
        for thing in ("text", None, 5, [b"x"]):
            self.attempt("write", self.transport.write, thing)
        for thing in (b"", b"a", bytearray(b"b"), memoryview(b"c")):
            self.attempt("write", self.transport.write, thing)
        self.attempt("writelines", self.transport.writelines, [b"d", bytearray(b"e"), memoryview(b"f")])
        self.attempt("writelines", self.transport.writelines, ["text"])
        self.transport.close()


class Reading(Told):
    """Pauses at its first input; another connection says when it goes on."""

    def made(self):
        self.note("reading", self.transport.is_reading())

    def got(self, data):
        if "paused" not in [word for word, *_ in self.notes]:
            self.transport.pause_reading()
            self.attempt("pause again", self.transport.pause_reading)
            self.note("paused", self.transport.is_reading())
            self.transport.write(b"paused")


class Resumes(Told):
    def got(self, data):
        other = living["Reading"]
        other.note("resumed")
        other.transport.resume_reading()
        other.attempt("resume again", other.transport.resume_reading)
        other.note("reading", other.transport.is_reading())
        self.transport.close()


class WaterMarks(Told):
    def made(self):
        limits = self.transport.set_write_buffer_limits
        for high, low in ((1000, 100), (1000, None), (None, 100), (0, 0), (None, None)):
            limits(high=high, low=low)
            self.note("limits", *self.transport.get_write_buffer_limits())
        for high, low in ((10, 20), (10, -1)):
            self.attempt("limits", limits, high, low)
        limits(high=100_000, low=1000)

    def got(self, data):
        self.transport.write(b"x" * LARGE)
        self.note("size", self.transport.get_write_buffer_size() > 100_000)
        self.transport.write(b"y")

    def resume_writing(self):
        super().resume_writing()
        self.note("size", self.transport.get_write_buffer_size() <= 1000)
        self.transport.close()


class NoHighWater(Told):
    """high 0: every byte that the kernel does not take at once pauses."""

    def made(self):
        self.transport.set_write_buffer_limits(high=0)

    def got(self, data):
        self.transport.write(b"x" * LARGE)

    def resume_writing(self):
        super().resume_writing()
        self.note("size", self.transport.get_write_buffer_size())
        self.transport.close()


class Second(Told):
    def __init__(self, first):
        super().__init__()
        self.first = first
        self.notes = first.notes
        self.transport = first.transport

    def got(self, data):
        self.note("second")
        self.transport.write(b"2" + data)

    def write_diary(self):
        self.first.write_diary()


class Switch(Told):
    def got(self, data):
        self.note("protocol", self.transport.get_protocol() is self)
        second = Second(self)
        self.transport.set_protocol(second)
        self.note("protocol", self.transport.get_protocol() is second)
        self.transport.write(b"1" + data)


class Asked(Told):
    def got(self, data):
        info = self.transport.get_extra_info
        peer, own, sock = info("peername"), info("sockname"), info("socket")
        self.note("family", sock.family == (socket.AF_UNIX if isinstance(own, str) else socket.AF_INET))
        self.note("type", sock.type == socket.SOCK_STREAM, sock.fileno() >= 0)
        self.note("names", sock.getsockname() == own, type(peer).__name__, type(own).__name__)
        self.note("peer", peer == sock.getpeername())
        self.note("unknown", info("unknown"), info("unknown", 5), info("sslcontext"))
        self.transport.close()


class InLost(Told):
    """What may be called when all is over."""

    def connection_lost(self, exc):
        self.note("closing", self.transport.is_closing(), self.transport.is_reading())
        self.attempt("close", self.transport.close)
        self.attempt("abort", self.transport.abort)
        self.attempt("write", self.transport.write, b"x")
        self.attempt("size", self.transport.get_write_buffer_size)
        self.attempt("pause", self.transport.pause_reading)
        self.attempt("resume", self.transport.resume_reading)
        super().connection_lost(exc)


class RaisesInData(Told):
    def got(self, data):
        raise ValueError("in data_received")


class RaisesInEof(Told):
    def eof(self):
        raise ValueError("in eof_received")


class RaisesInMade(Told):
    def made(self):
        raise ValueError("in connection_made")


class IsReset(Told):
    pass


class Buffered(asyncio.BufferedProtocol):
    """Small buffers of its own."""

    note, attempt, write_diary = Told.note, Told.attempt, Told.write_diary
    connection_lost = Told.connection_lost

    def __init__(self):
        self.notes = []
        self.buffer = bytearray(10)
        self.text = b""

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def get_buffer(self, sizehint):
        return self.buffer

    def buffer_updated(self, nbytes):
        self.text += self.buffer[:nbytes]
        self.transport.write(bytes(self.buffer[:nbytes]))

    def eof_received(self):
        self.note("text", self.text.decode())


class NoBuffer(Buffered):
    def get_buffer(self, sizehint):
        return bytearray()


SCENARIOS = [
    kind
    for kind in list(vars().values())
    if isinstance(kind, type) and kind not in (Told, Second) and hasattr(kind, "write_diary")
]
