# SPDX-License-Identifier: MIT
"""Lines with Twisted's LineReceiver.

By hand: ``python twisted_lines.py tcp://127.0.0.1:0 upper``
"""

import sys

from counting import Counter
from twisted.internet import reactor
from twisted.internet.protocol import Factory
from twisted.protocols.basic import LineReceiver

BACKLOG = 4096
COUNTER = Counter()


class Upper(LineReceiver):
    delimiter = b"\n"
    MAX_LENGTH = 4 << 20

    def connectionMade(self) -> None:  # noqa: N802 - Twisted's name
        if hasattr(self.transport, "setTcpNoDelay"):  # a Unix socket has none
            self.transport.setTcpNoDelay(True)

    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        self.sendLine(line.upper())


class Echo(Upper):
    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        self.sendLine(line)


class Count(Upper):
    def lineReceived(self, line: bytes) -> None:  # noqa: N802 - Twisted's name
        if answer := COUNTER.line(line):
            self.sendLine(answer)


SERVICES = {"upper": Upper, "echo": Echo, "count": Count}

if __name__ == "__main__":
    scheme, _, rest = sys.argv[1].partition(":")
    factory = Factory.forProtocol(SERVICES[sys.argv[2]])
    factory.noisy = False
    if scheme == "unix":
        reactor.listenUNIX(rest, factory, backlog=BACKLOG)
        print("listening", rest, flush=True)
    else:
        host, _, port = rest.removeprefix("//").rpartition(":")
        print("listening", reactor.listenTCP(int(port), factory, BACKLOG, host).getHost().port, flush=True)
    reactor.run()
