"""A line in, the line in upper case out, with an asyncio.Protocol written for speed.

By hand: ``python asyncio_protocol.py tcp://127.0.0.1:0``

For each piece that arrives: one split, one join, one write; a peer that does not take its answers is not read from.
"""

import asyncio
import sys

from serving import serve


class Upper(asyncio.Protocol):
    __slots__ = ("tail", "transport")

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.tail = b""

    def data_received(self, data: bytes) -> None:
        lines = (self.tail + data if self.tail else data).split(b"\n")
        self.tail = lines[-1]
        lines[-1] = b""  # so that the join ends with a newline
        if len(lines) > 1:
            self.transport.write(b"\n".join([line.upper() for line in lines]))

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


if __name__ == "__main__":
    asyncio.run(serve(Upper, sys.argv[1]))
