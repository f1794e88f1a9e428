# SPDX-License-Identifier: MIT
"""What the four asyncio peers share: bind one address, say so, serve until killed.

An address is written as for sockd: ``tcp://127.0.0.1:0`` or ``unix:/path``. The host goes through the loop's own
``create_server``, which makes the socket with IPPROTO_TCP; one made with protocol 0 keeps Nagle's algorithm on.
"""

import asyncio
from collections.abc import Callable

BACKLOG = 4096  # as the other peers; asyncio's 100 would drop connections when 10,000 come at once


async def serve(factory: Callable[[], asyncio.Protocol], address: str) -> None:
    """Serve the protocols that `factory` makes on `address`."""
    loop = asyncio.get_running_loop()
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        server = await loop.create_unix_server(factory, rest, backlog=BACKLOG)
    else:
        host, _, port = rest.removeprefix("//").rpartition(":")
        server = await loop.create_server(factory, host, int(port), backlog=BACKLOG)
    name = server.sockets[0].getsockname()
    print("listening", name if scheme == "unix" else name[1], flush=True)
    await server.serve_forever()
