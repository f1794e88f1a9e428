# SPDX-License-Identifier: MIT
"""Lines with gevent: a greenlet for each connection, readline and sendall, as its own echo server has it.

By hand: ``python gevent_lines.py tcp://127.0.0.1:0 upper``
"""

import socket as stdlib
import sys

from counting import Counter
from gevent import socket
from gevent.server import StreamServer

BACKLOG = 4096
COUNTER = Counter()


def count(line: bytes) -> bytes:
    answer = COUNTER.line(line[:-1])
    return answer and answer + b"\n"


SERVICES = {"upper": bytes.upper, "echo": bytes, "count": count}
ANSWER = SERVICES[sys.argv[2]]


def session(peer: socket.socket, address: object) -> None:
    if peer.family == stdlib.AF_INET:
        peer.setsockopt(stdlib.IPPROTO_TCP, stdlib.TCP_NODELAY, 1)
    try:
        with peer.makefile("rb") as lines:
            while line := lines.readline():
                if reply := ANSWER(line):
                    peer.sendall(reply)
    except ConnectionError:
        pass


def listen(address: str) -> socket.socket:
    scheme, _, rest = address.partition(":")
    listener = socket.socket(stdlib.AF_UNIX if scheme == "unix" else stdlib.AF_INET)
    host, _, port = rest.removeprefix("//").rpartition(":")
    listener.bind(rest if scheme == "unix" else (host, int(port)))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


if __name__ == "__main__":
    listener = listen(sys.argv[1])
    name = listener.getsockname()
    print("listening", name if isinstance(name, str) else name[1], flush=True)
    StreamServer(listener, session).serve_forever()
