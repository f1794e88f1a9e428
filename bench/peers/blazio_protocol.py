# SPDX-License-Identifier: MIT
"""asyncio_protocol.py, the same code, under blazio's loop.

By hand: ``python blazio_protocol.py tcp://127.0.0.1:0 upper``
"""

import asyncio
import sys

import blazio
from asyncio_protocol import SERVICES
from serving import serve

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=blazio.new_event_loop) as runner:
        runner.run(serve(SERVICES[sys.argv[2]], sys.argv[1]))
