"""A line in, the line in upper case out, with asyncio's streams: what the tutorials show.

By hand: ``python asyncio_streams.py tcp://127.0.0.1:0``
"""

import asyncio
import sys

from serving import serve


async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


def protocol() -> asyncio.Protocol:
    """Make what asyncio.start_server makes for each connection."""
    return asyncio.StreamReaderProtocol(asyncio.StreamReader(), session)


if __name__ == "__main__":
    asyncio.run(serve(protocol, sys.argv[1]))
