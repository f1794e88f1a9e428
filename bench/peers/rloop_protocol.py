# SPDX-License-Identifier: MIT
"""asyncio_protocol.py, the same code, under rloop's loop.

rloop 0.5.0 closes its listening socket at once, so that nobody can connect.

By hand: ``python rloop_protocol.py tcp://127.0.0.1:0 upper``
"""

import asyncio
import sys

import rloop
from asyncio_protocol import SERVICES
from serving import serve

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=rloop.new_event_loop) as runner:
        runner.run(serve(SERVICES[sys.argv[2]], sys.argv[1]))
