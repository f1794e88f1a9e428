# SPDX-License-Identifier: MIT
"""asyncio_streams.py, the same code, under uvloop's loop.

By hand: ``python uvloop_streams.py tcp://127.0.0.1:0 upper``
"""

import asyncio
import sys

import uvloop
from asyncio_streams import protocol
from serving import serve

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(protocol(sys.argv[2]), sys.argv[1]))
