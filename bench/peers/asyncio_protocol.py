# SPDX-License-Identifier: MIT
"""Lines with an asyncio.Protocol written for speed.

By hand: ``python asyncio_protocol.py tcp://127.0.0.1:0 upper``

For each piece that arrives: one split, one join, one write; a peer that does not take its answers is not read from.
``handler`` is ``upper`` by a function that is called for each line, as sockd calls its handlers; ``upper`` and ``echo``
have their answers written into the comprehension.
"""

import asyncio
import sys

from counting import Counter
from serving import serve

COUNTER = Counter()


class Lines(asyncio.Protocol):
    __slots__ = ("tail", "transport")

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        lines = (self.tail + data if self.tail else data).split(b"\n")
        self.tail = lines.pop()
        if lines and (answers := self.answers(lines)):
            self.transport.write(answers)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


def upper(line: bytes) -> bytes:
    return line.upper()


class Handler(Lines):
    def answers(self, lines: list[bytes]) -> bytes:
        answers = [*map(upper, lines), b""]  # so that the join ends with a newline
        return b"\n".join(answers)


class Upper(Lines):
    def answers(self, lines: list[bytes]) -> bytes:
        lines.append(b"")  # so that the join ends with a newline
        return b"\n".join([line.upper() for line in lines])


class Echo(Lines):
    def answers(self, lines: list[bytes]) -> bytes:
        lines.append(b"")
        return b"\n".join(lines)


class Count(Lines):
    def answers(self, lines: list[bytes]) -> bytes:
        return COUNTER.all(lines)


class Pong(Lines):
    def answers(self, lines: list[bytes]) -> bytes:
        return b"".join([b"+PONG\r\n" if line == b"PING\r" else b"-ERR\r\n" for line in lines])


SERVICES = {"handler": Handler, "upper": Upper, "echo": Echo, "count": Count, "pong": Pong}

if __name__ == "__main__":
    asyncio.run(serve(SERVICES[sys.argv[2]], sys.argv[1]))
