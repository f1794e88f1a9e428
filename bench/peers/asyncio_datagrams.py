# SPDX-License-Identifier: MIT
"""A DatagramProtocol: asyncio_datagrams.py PORT upper|hear asyncio|uvloop."""

import asyncio
import sys
from typing import Any


class Upper(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.sendto = transport.sendto

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.sendto(data.upper(), addr)


class Hear(asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: Any) -> None:
        pass


async def serve(port: int, service: str) -> None:
    factory = Upper if service == "upper" else Hear
    await asyncio.get_running_loop().create_datagram_endpoint(factory, local_addr=("127.0.0.1", port))
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[3] == "uvloop":
        import uvloop

        uvloop.install()
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
