# SPDX-License-Identifier: MIT
"""asyncio.DatagramProtocol classes that asyncio and sockd both serve, unmodified."""

from __future__ import annotations

import asyncio

from steps import told

DATAGRAMS = {}
"""By name: (the class, what its client sends, how many answers it waits for)."""


class Base(asyncio.DatagramProtocol):
    sent = (b"one", b"two\n", b"three\r\n")
    answers = 3

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        DATAGRAMS[cls.__name__] = (cls, cls.sent, cls.answers)

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.transport.sendto(data, addr)


class EchoDatagrams(Base):
    pass


class TellsTypes(Base):
    sent = (b"x",)
    answers = 1

    def datagram_received(self, data, addr):
        t = self.transport
        said = [isinstance(t, asyncio.BaseTransport), type(data).__name__]
        said += [t.is_closing(), type(t.get_extra_info("sockname")).__name__, t.get_extra_info("peername")]
        said += [type(t.get_extra_info("socket")).__name__, t.get_extra_info("unknown", 4)]
        t.sendto(repr(said).encode(), addr)


class TellsTheSender(Base):
    sent = (b"x", b"y")
    answers = 2

    def datagram_received(self, data, addr):
        name = self.transport.get_extra_info("socket").getsockname()
        self.transport.sendto(b"%s %d" % (type(addr).__name__.encode(), addr != name), addr)


class AnswersLater(Base):
    sent = (b"a", b"b")
    answers = 2

    def datagram_received(self, data, addr):
        asyncio.get_running_loop().call_later(0.01, self.transport.sendto, b"later " + data, addr)


class AnswersByATask(Base):
    sent = (b"a", b"b")
    answers = 2

    def datagram_received(self, data, addr):
        self.task = asyncio.ensure_future(self.answer(data, addr))

    async def answer(self, data, addr):
        await asyncio.sleep(0.005 if data == b"a" else 0.05)
        self.transport.sendto(b"task " + data, addr)


class AnswersTwice(Base):
    sent = (b"a",)
    answers = 2

    def datagram_received(self, data, addr):
        self.transport.sendto(b"1" + data, addr)
        self.transport.sendto(bytearray(b"2"), addr)


class SendsWhat(Base):
    sent = (b"a",)
    answers = 1

    def datagram_received(self, data, addr):
        said = []
        for thing in ("text", None, 5):
            try:
                self.transport.sendto(thing, addr)
            except Exception as error:
                said.append(told(error)[0])
        self.transport.sendto(repr(said).encode(), addr)


class Raises(Base):
    sent = (b"boom", b"after")
    answers = 1

    def datagram_received(self, data, addr):
        if data == b"boom":
            raise LookupError
        self.transport.sendto(data, addr)


class Fills(Base):
    """Water marks are there; nothing is unsent."""

    sent = (b"a",)
    answers = 1

    def datagram_received(self, data, addr):
        t = self.transport
        t.set_write_buffer_limits(high=100, low=10)
        said = [t.get_write_buffer_limits(), t.get_write_buffer_size(), t.get_protocol() is self]
        t.sendto(repr(said).encode(), addr)
