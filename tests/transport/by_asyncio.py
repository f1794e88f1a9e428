# SPDX-License-Identifier: MIT
"""Serves every protocol of protocols.py by asyncio's own loop: python by_asyncio.py NAME=ADDRESS..."""

import asyncio
import sys

import protocols


def say(name, address):
    sys.stdout.write(f"{name} {address}\n")
    sys.stdout.flush()


async def main():
    loop = asyncio.get_running_loop()
    for name, _, address in (word.partition("=") for word in sys.argv[1:]):
        factory = getattr(protocols, name)
        if address.startswith("unix:"):
            await loop.create_unix_server(factory, address.removeprefix("unix:"))
            say(name, address)
        else:
            server = await loop.create_server(factory, "127.0.0.1", 0)
            say(name, f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await asyncio.Event().wait()


asyncio.run(main())
