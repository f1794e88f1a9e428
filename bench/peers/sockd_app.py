"""The same services as sockd handlers.

By hand, in this folder:

    sockd --foreground --listen tcp://127.0.0.1:7000=sockd_app:upper
"""

from counting import Counter

import sockd

COUNTER = Counter()


def upper(line: bytes) -> bytes:
    return line.upper()


def echo(line: bytes) -> bytes:
    return line


def pong(line: bytes) -> bytes:
    return b"+PONG\r" if line == b"PING" else b"-ERR\r"


long = sockd.Service(framing=sockd.Line(4 << 20))
long.frame(upper)


count = sockd.Service()
count.frames(COUNTER.all)


class Upper(sockd.LineProtocol):
    def line_received(self, line: bytes) -> None:
        self.send_line(line.upper())
