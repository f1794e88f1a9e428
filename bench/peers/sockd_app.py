# SPDX-License-Identifier: MIT
"""The same services as sockd handlers.

By hand, in this directory:

    sockd --foreground --listen tcp://127.0.0.1:7000=sockd_app:upper
"""

import asyncio

from counting import Counter

import sockd

COUNTER = Counter()


def upper(line: bytes) -> bytes:
    return line.upper()


def echo(line: bytes) -> bytes:
    return line


def hear(line: bytes) -> None:
    return None


def pong(line: bytes) -> bytes:
    return b"+PONG\r" if line == b"PING" else b"-ERR\r"


long = sockd.Service(framing=sockd.Line(4 << 20))
long.frame(upper)


count = sockd.Service()
count.frames(COUNTER.all)


async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line.upper())


async def draining(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async for line in reader:
        writer.write(line.upper())
        await writer.drain()


class Upper(sockd.LineProtocol):
    def line_received(self, line: bytes) -> None:
        self.send_line(line.upper())


class Datagramsupper(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.sendto = transport.sendto

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sendto(data.upper(), addr)


class Datagramshear(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        pass
