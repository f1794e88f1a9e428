# SPDX-License-Identifier: MIT
"""What the four asyncio peers share: bind one address, say so, serve until killed.

An address is written as for sockd: ``tcp://127.0.0.1:0`` or ``unix:/path``. The host goes through the loop's own
``create_server``, which makes the socket with IPPROTO_TCP; one made with protocol 0 keeps Nagle's algorithm on.
BENCH_TLS in the environment is a directory with certificate.pem and key.pem: connections are encrypted then.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

BACKLOG = 4096  # as the other peers; asyncio's 100 would drop connections when 10,000 come at once


def encryption() -> ssl.SSLContext | None:
    """Return what connections are encrypted with."""
    if "BENCH_TLS" not in os.environ:
        return None
    room = Path(os.environ["BENCH_TLS"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(room / "certificate.pem", room / "key.pem")
    return context


async def serve(factory: Callable[[], asyncio.Protocol], address: str) -> None:
    """Serve the protocols that `factory` makes on `address`."""
    loop = asyncio.get_running_loop()
    scheme, _, rest = address.partition(":")
    if scheme == "unix":
        server = await loop.create_unix_server(factory, rest, backlog=BACKLOG)
    else:
        host, _, port = rest.removeprefix("//").rpartition(":")
        server = await loop.create_server(factory, host, int(port), backlog=BACKLOG, ssl=encryption())
    name = server.sockets[0].getsockname()
    print("listening", name if scheme == "unix" else name[1], flush=True)
    await server.serve_forever()
