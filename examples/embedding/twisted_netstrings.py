# SPDX-License-Identifier: MIT
# mypy: allow-untyped-calls
"""sockd.buffer under a Twisted protocol: each netstring comes back in upper case.

    python twisted_netstrings.py [PORT]             # prints "listening PORT"
    printf '5:hello,' | nc -N 127.0.0.1 PORT      # 5:HELLO,

What is no netstring ends the connection, and so does one of more than 100,000 bytes.
"""

import sys
from typing import Any

from twisted.internet import endpoints, interfaces, protocol, reactor
from zope.interface import implementer  # type: ignore[import-untyped]

from sockd.buffer import FrameError, Netstring, ReceiveBuffer, SendBuffer

NETSTRINGS = Netstring(100_000)


@implementer(interfaces.IHalfCloseableProtocol)
class Upper(protocol.Protocol):
    """One connection."""

    transport: Any  # what an interface of zope's is, type checkers know by a plugin alone

    def __init__(self) -> None:
        self.received = ReceiveBuffer(NETSTRINGS)
        self.answers = SendBuffer(NETSTRINGS)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        """Answer the netstrings that are whole, in one write."""
        self.received.feed(data)
        try:
            for request in self.received:
                self.answers.append(request.upper())
            self.received.check()
        except FrameError as error:
            print(f"{self.transport.getPeer().host}: {error}", file=sys.stderr)
            self.transport.loseConnection()
        self.transport.write(self.answers.pop_all())

    def readConnectionLost(self) -> None:  # noqa: N802
        """Let the answers leave, then close: without this method Twisted drops them."""
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:  # noqa: N802
        """Do nothing: the peer's half-close is the one of interest."""


def main(port: int) -> None:
    """Serve on 127.0.0.1."""
    endpoint = endpoints.TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
    listening = endpoint.listen(protocol.Factory.forProtocol(Upper))
    listening.addCallback(lambda it: print("listening", it.getHost().port, flush=True))
    reactor.run()  # type: ignore[misc]


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
