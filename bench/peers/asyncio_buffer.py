# SPDX-License-Identifier: MIT
"""A line in, the line in upper case out: sockd.buffer under an asyncio.Protocol.

By hand: ``python asyncio_buffer.py tcp://127.0.0.1:0 upper``

What docs/embedding.md shows, with the limit of asyncio's streams: a longer line ends the connection.
"""

import asyncio
import sys

from serving import serve

from sockd.buffer import FrameError, Line, ReceiveBuffer, encode_all

LINES = Line(64 * 1024)


class Upper(asyncio.Protocol):
    __slots__ = ("buffer", "transport")

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.buffer = ReceiveBuffer(LINES)

    def data_received(self, data: bytes) -> None:
        self.buffer.feed(data)
        try:
            answers = [line.upper() for line in self.buffer]
            self.buffer.check()
        except FrameError:
            self.transport.abort()
            return
        if answers:
            self.transport.write(encode_all(LINES, answers))

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


if __name__ == "__main__":
    asyncio.run(serve(Upper, sys.argv[1]))
