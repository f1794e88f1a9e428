# SPDX-License-Identifier: MIT
"""sockd.buffer under an asyncio.Protocol: each line comes back in upper case.

    python asyncio_lines.py [PORT]                  # prints "listening PORT"
    printf 'hello\\nworld\\n' | nc -N 127.0.0.1 PORT

A line of more than 1,000 bytes is answered once and left out; a peer that does not
take its answers is not read from.
"""

import asyncio
import sys

from sockd.buffer import Line, ReceiveBuffer, TooLong, Truncated, encode_all

LINES = Line(1000)


class Upper(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self.buffer = ReceiveBuffer(LINES)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the lines that are whole."""
        self.buffer.feed(data)
        answers: list[bytes] = []
        while True:
            try:
                answers.extend(line.upper() for line in self.buffer)
                self.buffer.check()
                break
            except TooLong as error:
                answers.append(b"? a line has at most %d bytes" % error.limit)
                self.buffer.discard()
        if answers:
            self.transport.write(encode_all(LINES, answers))

    def eof_received(self) -> None:
        """Say so when the last line is not whole; the transport then closes."""
        try:
            self.buffer.eof()
        except Truncated as error:
            self.transport.write(b"? %d bytes without a newline\n" % error.size)

    def pause_writing(self) -> None:
        """Answers wait: take no more questions."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """Go on."""
        self.transport.resume_reading()


async def main(port: int) -> None:
    """Serve on 127.0.0.1."""
    server = await asyncio.get_running_loop().create_server(Upper, "127.0.0.1", port)
    print("listening", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
