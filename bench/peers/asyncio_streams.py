# SPDX-License-Identifier: MIT
"""Lines with asyncio's streams: what the tutorials show.

By hand: ``python asyncio_streams.py tcp://127.0.0.1:0 upper``
"""

import asyncio
import sys
from collections.abc import Callable

from counting import Counter
from serving import serve

COUNTER = Counter()
LIMIT = 4 << 20


def count(line: bytes) -> bytes:
    answer = COUNTER.line(line[:-1])
    return answer and answer + b"\n"


SERVICES: dict[str, Callable[[bytes], bytes]] = {"upper": bytes.upper, "echo": bytes, "count": count}


def protocol(service: str) -> Callable[[], asyncio.Protocol]:
    """Make what makes what asyncio.start_server makes for each connection."""
    answer = SERVICES[service]

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                if reply := answer(line):
                    writer.write(reply)
        except ConnectionError:
            pass
        finally:
            writer.close()

    return lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(LIMIT), session)


if __name__ == "__main__":
    asyncio.run(serve(protocol(sys.argv[2]), sys.argv[1]))
