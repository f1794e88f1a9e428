"""Answers datagrams: one datagram is one frame, the answer goes to its sender.

A sender without an address (a Unix socket that was not bound) is not answered.
An answer that the kernel does not take at once is dropped, as UDP may; so is
one that is too large, with a line in the log.  A datagram that is longer than any of UDP is
dropped with a line in the log: a piece of it is never served.
"""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING

from sockd.net.endpoint import SockAddr, format_sockaddr

if TYPE_CHECKING:
    from collections.abc import Callable

    Reply = bytes | bytearray | memoryview | None

    from sockd.net.loop import EventLoop
    from sockd.net.sockets import Listening

logger = logging.getLogger("sockd.datagram")

DATAGRAMS_A_TURN = 64
MAX_DATAGRAM_BYTES = 65_536
"""65,507 over IPv4 (RFC 768), 65,527 over IPv6 (RFC 8200); a Unix socket takes what its sender's SO_SNDBUF holds."""


class DatagramListener:
    """One datagram socket.

    Args:
        listening: bound, non-blocking; closed by close().
        answer: from a datagram to its answer; None answers nothing.
        service: its name, for the log.
    """

    def __init__(self, listening: Listening, answer: Callable[[bytes], Reply], loop: EventLoop, service: str) -> None:
        self._listening = listening
        self._socket = listening.socket
        self._answer = answer
        self._loop = loop
        self.service = service

    def __str__(self) -> str:
        return str(self._listening)

    def start(self) -> None:
        """Receive from now on."""
        self._loop.add_reader(self._socket.fileno(), self._receive)

    def _receive(self) -> None:
        for _ in range(DATAGRAMS_A_TURN):
            try:
                datagram, _, flags, sender = self._socket.recvmsg(MAX_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError as error:  # the ICMP answer to an earlier datagram, as ECONNREFUSED
                logger.debug("receive failed", extra={"event": {"service": self.service, "error": str(error)}})
                continue
            if flags & socket.MSG_TRUNC:
                event = {"service": self.service, "peer": self._text(sender), "limit": MAX_DATAGRAM_BYTES}
                logger.warning("datagram too long, dropped", extra={"event": event})
            else:
                self._serve(datagram, sender)

    def _serve(self, datagram: bytes, sender: SockAddr) -> None:
        try:
            reply = self._answer(datagram)
        except Exception:
            event = {"service": self.service, "peer": self._text(sender), "frame_bytes": len(datagram)}
            logger.exception("handler failed", extra={"event": event})
            return
        if reply is None or not sender:
            return
        try:
            self._socket.sendto(reply, sender)
        except OSError as error:
            level = logging.WARNING if error.errno == errno.EMSGSIZE else logging.DEBUG
            event = {"service": self.service, "peer": self._text(sender), "bytes": len(reply), "error": str(error)}
            logger.log(level, "answer dropped", extra={"event": event})

    def _text(self, sender: SockAddr) -> str:
        return format_sockaddr(self._socket.family, socket.SOCK_DGRAM, sender)

    def close(self) -> None:
        """Answer what has arrived already, and receive no more."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket.fileno())
        self._receive()
        self._listening.close()
