# SPDX-License-Identifier: MIT
"""Serves every class of datagrams.py by asyncio's own loop: python datagrams_by_asyncio.py NAME=ADDRESS..."""

import asyncio
import socket
import sys

from datagrams import DATAGRAMS


async def main():
    loop = asyncio.get_running_loop()
    for word in sys.argv[1:]:
        name, _, address = word.partition("=")
        if address.startswith("unixgram:"):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            sock.setblocking(False)
            sock.bind(address.removeprefix("unixgram:"))
            await loop.create_datagram_endpoint(DATAGRAMS[name][0], sock=sock)
        else:
            transport, _ = await loop.create_datagram_endpoint(DATAGRAMS[name][0], ("127.0.0.1", 0))
            address = f"udp://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        sys.stdout.write(f"{name} {address}\n")
        sys.stdout.flush()
    await asyncio.Event().wait()


asyncio.run(main())
