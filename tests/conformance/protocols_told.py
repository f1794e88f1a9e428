# SPDX-License-Identifier: MIT
"""Protocol classes and factories that asyncio and sockd both serve, unmodified; each notes what it is told."""

from __future__ import annotations

import array
import asyncio
import functools
import sys

from steps import EOF, RESET, SCENARIOS, Await, told, write_diary


class Noting(asyncio.Protocol):
    """Notes every callback; consecutive data is one note, for how a stream is cut means nothing."""

    steps = (EOF,)
    pieces = True
    wanted = None

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if not cls.__name__.startswith("_"):
            SCENARIOS[cls.__name__] = (cls, cls.steps, cls.pieces)

    def __init__(self):
        self.notes = []

    def note(self, *words):
        self.notes.append(list(words))

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        if self.notes[-1][0] == "data":
            self.notes[-1][1] += data.decode("latin-1")
        else:
            self.note("data", data.decode("latin-1"))
        self.got(data)

    def got(self, data):
        self.transport.write(data)

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, exc):
        self.note("lost", *([] if exc is None else told(exc)[:1]))
        write_diary(type(self).__name__, self.notes)


class EchoesBytes(Noting):
    steps = (b"one\ntwo\r\nthree", Await(13), EOF)


class HasLineReceivedToo(Noting):
    """Cuts frames by itself, and hands them to a method that happens to have Twisted's name."""

    steps = (b"one;two\n;three;", Await(15), EOF)

    def __init__(self):
        super().__init__()
        self.rest = b""

    def got(self, data):
        self.rest += data
        while b";" in self.rest:
            line, _, self.rest = self.rest.partition(b";")
            self.line_received(line.decode())

    def line_received(self, line):
        self.transport.write(f"<{line}>".encode())

    def frame_received(self, frame):
        raise AssertionError


class StandsForATransport(Noting):
    steps = (b"x", EOF)

    def got(self, data):
        t = self.transport
        self.note(
            isinstance(t, asyncio.Transport), isinstance(t, asyncio.BaseTransport), isinstance(t, asyncio.ReadTransport)
        )
        self.note(t.get_protocol() is self, t.is_closing(), t.is_reading())
        self.note(type(t.get_extra_info("socket")).__name__, t.get_extra_info("socket").gettimeout())


class AsksAfterTheEnd(Noting):
    steps = (b"x", EOF)

    def got(self, data):
        self.before = self.transport.get_extra_info("peername"), self.transport.get_extra_info("sockname")

    def connection_lost(self, exc):
        info = self.transport.get_extra_info
        self.note((info("peername"), info("sockname")) == self.before, info("unknown", 3))
        super().connection_lost(exc)


class UsesTheLoop(Noting):
    steps = (b"x", Await(4), EOF)

    def got(self, data):
        loop = asyncio.get_running_loop()
        self.task = asyncio.ensure_future(self.answer())
        self.note(loop.is_running(), self.task.done())

    async def answer(self):
        self.note("task")
        await asyncio.sleep(0.01)
        self.transport.write(b"late")


class SchedulesCalls(Noting):
    steps = (Await(3), EOF)

    def connection_made(self, transport):
        super().connection_made(transport)
        asyncio.get_event_loop().call_later(0.02, self.said, b"2")
        asyncio.get_running_loop().call_soon(self.said, b"1")
        asyncio.get_running_loop().call_later(0.04, self.said, b"3")

    def got(self, data):
        pass

    def said(self, word):
        self.note(word.decode())
        self.transport.write(word)


class RunsInAnExecutor(Noting):
    steps = (b"x", Await(6), EOF)

    def got(self, data):
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, bytes.upper, b"thread").add_done_callback(
            lambda future: self.transport.write(future.result())
        )


class ClosesWithThePeerOpen(Noting):
    """connection_lost comes when what was written has left, not when the peer closes as well."""

    steps = (b"x", Await(3))
    pieces = False

    def got(self, data):
        self.transport.write(b"bye")
        self.transport.close()
        self.began = asyncio.get_running_loop().time()

    def connection_lost(self, exc):
        self.note(asyncio.get_running_loop().time() - self.began < 2)
        super().connection_lost(exc)


class KeepsOpenAfterEof(Noting):
    steps = (b"x", EOF)

    def eof_received(self):
        super().eof_received()
        asyncio.get_running_loop().call_later(0.01, self.end)
        return True

    def end(self):
        self.transport.write(b" and more")
        self.transport.close()


class WritesLines(Noting):
    steps = (b"x", EOF)

    def got(self, data):
        wrong = [b"x", "text"] if sys.version_info < (3, 15) else ["text", b"x"]  # 3.15's keeps the x, and never ends
        for lines in ([b"1", bytearray(b"2"), memoryview(b"3")], [], wrong):
            try:
                self.transport.writelines(lines)
            except TypeError as error:
                self.note(type(error).__name__)


class Resets(Noting):
    steps = (b"x", RESET)

    def got(self, data):
        pass


class Aborts(Noting):
    steps = (b"x",)

    def got(self, data):
        self.transport.abort()
        self.note(self.transport.is_closing())
        self.transport.write(b"never")


class RaisesInData(Noting):
    steps = (b"x",)
    pieces = False

    def got(self, data):
        raise LookupError


class RaisesInPause(Noting):
    steps = (b"x", Await(8 << 20), EOF)

    def got(self, data):
        self.transport.write(bytes(8 << 20))

    def pause_writing(self):
        self.note("pause")
        raise LookupError

    def resume_writing(self):
        self.note("resume")


class _Second(asyncio.Protocol):
    def __init__(self, first):
        self.first = first

    def data_received(self, data):
        self.first.transport.write(data.upper())

    def connection_lost(self, exc):
        self.first.note("second")
        self.first.connection_lost(exc)


class SwitchesProtocol(Noting):
    steps = (b"a", Await(1), b"bcd", Await(4), EOF)

    def got(self, data):
        self.transport.set_protocol(_Second(self))
        self.transport.write(data)


class _Buffered(asyncio.BufferedProtocol):
    steps = (b"some bytes for a buffer", EOF)
    pieces = True
    note = Noting.note
    connection_made = Noting.connection_made
    connection_lost = Noting.connection_lost

    def __init_subclass__(cls, **options):
        SCENARIOS[cls.__name__] = (cls, cls.steps, cls.pieces)

    def __init__(self):
        self.notes = []
        self.text = b""
        self.buffer = self.make()

    def make(self):
        return bytearray(100)

    def get_buffer(self, sizehint):
        self.hint = sizehint
        return self.buffer

    def buffer_updated(self, nbytes):
        self.text += bytes(memoryview(self.buffer).cast("B")[:nbytes])

    def eof_received(self):
        self.note("eof", self.text.decode(), self.hint)


class Buffered(_Buffered):
    pass


class BufferedWithDataReceived(_Buffered):
    def data_received(self, data):
        raise AssertionError

    def line_received(self, line):
        raise AssertionError


class BufferedInAnArray(_Buffered):
    def make(self):
        return array.array("b", bytes(100))


class BufferedInWords(_Buffered):
    def make(self):
        return memoryview(bytearray(96))


class BufferedSmall(_Buffered):
    def make(self):
        return bytearray(3)


class BufferedEmpty(_Buffered):
    steps = (b"x",)
    pieces = False

    def make(self):
        return bytearray()


class BufferedCountsCalls(_Buffered):
    """It is asked for a buffer before it is known that there is no more."""

    steps = (b"abc", EOF)
    pieces = False

    def get_buffer(self, sizehint):
        self.asked = getattr(self, "asked", 0) + 1
        return super().get_buffer(sizehint)

    def eof_received(self):
        self.note("asked", self.asked)


class _Word(Noting):
    def __init__(self, word):
        super().__init__()
        self.word = word

    def got(self, data):
        self.transport.write(self.word + data)

    def connection_lost(self, exc):
        self.note("lost")
        write_diary(self.word.decode(), self.notes)


def made_by_a_function():
    return _Word(b"made_by_a_function")


made_by_a_partial = functools.partial(_Word, b"made_by_a_partial")
made_by_a_lambda = lambda: _Word(b"made_by_a_lambda")  # noqa: E731 - as programs have it
for name in ("made_by_a_function", "made_by_a_partial", "made_by_a_lambda"):
    SCENARIOS[name] = (globals()[name], (b"x\ny", Await(3 + len(name)), EOF), False)
