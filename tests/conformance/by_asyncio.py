# SPDX-License-Identifier: MIT
"""Serves every scenario by asyncio's own loop: python by_asyncio.py NAME=ADDRESS..., each `tcp:` or `unix:PATH`."""

import asyncio
import sys

import protocols_told
import streams
from steps import SCENARIOS

assert protocols_told
assert streams


def say(name, address):
    sys.stdout.write(f"{name} {address}\n")
    sys.stdout.flush()


async def serve(handler, address):
    loop = asyncio.get_running_loop()
    where = (address.removeprefix("unix:"),) if address.startswith("unix:") else ("127.0.0.1", 0)
    if asyncio.iscoroutinefunction(handler):
        start = asyncio.start_unix_server if len(where) == 1 else asyncio.start_server
        return await start(handler, *where)
    start = loop.create_unix_server if len(where) == 1 else loop.create_server
    return await start(handler, *where)


async def main():
    servers = []
    for word in sys.argv[1:]:
        name, _, address = word.partition("=")
        servers.append(server := await serve(SCENARIOS[name][0], address))
        own = server.sockets[0].getsockname()
        say(name, f"unix:{own}" if isinstance(own, str) else f"tcp://127.0.0.1:{own[1]}")
    await asyncio.Event().wait()


asyncio.run(main())
