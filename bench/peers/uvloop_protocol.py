"""asyncio_protocol.py, the same code, under uvloop's loop.

By hand: ``python uvloop_protocol.py tcp://127.0.0.1:0``
"""

import asyncio
import sys

import uvloop
from asyncio_protocol import Upper
from serving import serve

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(Upper, sys.argv[1]))
