# SPDX-License-Identifier: MIT
"""The copy loop of `sockctl connect`: standard input to the peer, the peer to standard output.

One thread, one selector, bounded buffers in both directions (FAQ II.6, App. A).  The modes of standard input and
output are not changed, because other processes share them: they are read once when readable, and not more is written
than select(2) promises not to block.  sockd.client.connect makes the connected socket.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.client.poller import Poller
from sockd.errors import SockdError, SystemFault, TemporaryFault, fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.address import Address

BUFFER_BYTES = 64 * 1024  # each way; where it is full, the other side waits
MAX_LINE_BYTES = 65_507  # the largest datagram of UDP over IPv4: 65,535 - 8 - 20 (RFC 768, RFC 791)
DATAGRAM_BYTES = 256 * 1024  # above the 212,992 of net.core.wmem_default, which bounds a Unix datagram
WINDOW = 16  # unanswered datagrams at once; a receive buffer of 208 KiB drops 300 small ones
WINDOW_STALL_S = 0.1  # after so long without an answer the window is taken as lost

INPUT_PAUSE_S = 0.5  # after the peer's end, input that pauses for so long is not waited for

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


def converse(sock: socket.socket, address: Address, *, timeout: float, source: int = 0, sink: int = 1) -> None:
    """Copy in both directions until both have ended; close the socket.

    A stream: at the end of input the sending side is shut down, and the peer is read until end of file.  Datagrams:
    each line of input, with its newline, is one; each reply is printed as it is; at the end of input, outstanding
    replies are awaited.

    Args:
        sock: connected and non-blocking.
        address: for messages.
        timeout: seconds without a reply after the last datagram; for a stream, without progress while a peer that has
            sent end of file does not read the rest.
        source, sink: descriptors to read and to write; default 0 and 1.

    Raises:
        TemporaryFault: reset, refused, or a missing reply.
        SystemFault: standard input or output failed, or a line does not fit into a datagram.

    Source: FAQ II.6, App. A; shutdown(2), udp(7).
    """
    kind: type[_Pump] = DatagramPump if sock.type == socket.SOCK_DGRAM else StdioPump
    with sock:
        kind(sock, address, timeout=timeout, source=source, sink=sink).run()


class _SinkGone(Exception):
    """The reader of standard output has gone."""


class _Pump(ABC):
    """Common part of both copy loops: the two standard streams and the failure."""

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        *,
        timeout: float,
        source: int = 0,
        sink: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sock = sock
        self.address = address
        self.timeout = timeout
        self.source = source
        self.sink = sink
        self.clock = clock
        self.outgoing = bytearray()  # standard input, not yet sent
        self.incoming = bytearray()  # received, not yet printed
        self.input_ended = False
        self.peer_ended = False
        self.failure: SockdError | None = None
        self.moved_at = clock()
        self.ready = Poller()

    def run(self) -> None:
        """Copy until the end.  Raises the failure only after all received data is printed."""
        try:
            while not self.is_over():
                self.ready.want(self.source, READ if self.wants_input() else 0)
                self.ready.want(self.sink, WRITE if self.incoming else 0)
                self.ready.want(self.sock.fileno(), self.socket_events())
                happened = self.ready.wait(self.patience())
                for fd, events in happened:
                    self._serve(fd, events)
                self.turn_ended(idle=not happened)
        except _SinkGone:
            return
        finally:
            self.ready.close()
        if self.failure is not None:
            raise self.failure

    def _serve(self, fd: int, events: int) -> None:
        if fd == self.source:
            self._read_input()
        elif fd == self.sink:
            self._print()
        else:
            try:
                if events & READ:
                    self.receive()
                if events & WRITE and self.failure is None:
                    self.send()
            except BlockingIOError:
                pass
            except OSError as error:
                self.fail(self.explain(error))

    def _read_input(self) -> None:
        try:
            data = os.read(self.source, BUFFER_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            raise fault(error, "standard input") from None
        self.outgoing += data
        self.input_ended = not data
        self.moved_at = self.clock()

    def _print(self) -> None:
        # A pipe that is writable takes PIPE_BUF bytes without blocking (pipe(7), POSIX).
        size = len(self.incoming) if self.ready.is_file(self.sink) else select.PIPE_BUF
        try:
            del self.incoming[: os.write(self.sink, bytes(self.incoming[:size]))]
        except BlockingIOError:
            return
        except BrokenPipeError:
            raise _SinkGone from None
        except OSError as error:
            raise fault(error, "standard output") from None
        self.moved_at = self.clock()

    def fail(self, failure: SockdError) -> None:
        """Record the first failure: nothing more is read or sent, received data is printed."""
        self.failure = self.failure or failure
        self.outgoing.clear()
        self.input_ended = self.peer_ended = True

    @abstractmethod
    def wants_input(self) -> bool:
        """Return whether there is room for more of standard input."""

    @abstractmethod
    def socket_events(self) -> int:
        """Return the events to wait for on the socket."""

    @abstractmethod
    def patience(self) -> float | None:
        """Return how many seconds may pass without progress; None for ever."""

    @abstractmethod
    def is_over(self) -> bool:
        """Return whether nothing is left to send, to await or to print."""

    @abstractmethod
    def receive(self) -> None:
        """Read the socket once."""

    @abstractmethod
    def send(self) -> None:
        """Write the socket once."""

    @abstractmethod
    def turn_ended(self, *, idle: bool) -> None:
        """React to progress, or to the time that passed without any."""

    @abstractmethod
    def explain(self, error: OSError) -> SockdError:
        """Describe an error of the socket."""


class StdioPump(_Pump):
    """A stream: half-closed at the end of input, read to the end (FAQ II.6).

    The peer's end of file ends the copy, even if standard input stays open.  But the peer may have closed one
    direction only, which TCP does not tell: input that keeps arriving is still sent.
    """

    shut = False

    def wants_input(self) -> bool:
        """Return whether there is room."""
        return not self.input_ended and len(self.outgoing) < BUFFER_BYTES

    def socket_events(self) -> int:
        """Read while there is room to print, write while there is something."""
        room = not self.peer_ended and len(self.incoming) < BUFFER_BYTES
        return (READ if room else 0) | (WRITE if self.outgoing else 0)

    def patience(self) -> float | None:
        """Wait for ever until the peer's end of file; then only a limited time for the peer to read, or for more
        input.
        """
        if not self.peer_ended or (self.incoming and not self.outgoing):
            return None
        limit = self.timeout if self.outgoing else INPUT_PAUSE_S
        return max(0.0, self.moved_at + limit - self.clock())

    def is_over(self) -> bool:
        """Return whether the peer has sent end of file and all data was printed."""
        return self.peer_ended and self.input_ended and not self.outgoing and not self.incoming

    def receive(self) -> None:
        """Read once; no data is the peer's end of file."""
        data = self.sock.recv(BUFFER_BYTES)
        self.incoming += data
        self.peer_ended = not data
        self.moved_at = self.clock()

    def send(self) -> None:
        """Write once; after a failure, data that the peer had sent before it is still read."""
        try:
            del self.outgoing[: self.sock.send(self.outgoing)]
        except BlockingIOError:
            return
        except OSError as error:
            self.failure = self.explain(error)
            self.outgoing.clear()
            self.input_ended = self.shut = True
        self.moved_at = self.clock()

    def turn_ended(self, *, idle: bool) -> None:
        """Shut down the sending side once all input is sent; give up on a peer that does not read."""
        overdue = idle and self.patience() == 0.0
        if overdue and not self.outgoing:
            self.input_ended = True
        elif overdue:
            text = f"timed out after {self.timeout:g} s: {self.address} ({len(self.outgoing)} bytes of input not sent)"
            self.fail(TemporaryFault(text))
        if self.input_ended and not self.outgoing and not self.shut:
            self.shut = True
            with suppress(OSError):  # ENOTCONN: it was reset, which the next read tells
                self.sock.shutdown(socket.SHUT_WR)

    def explain(self, error: OSError) -> SockdError:
        """Distinguish an abort and an early close by the peer from other errors."""
        if error.errno == errno.ECONNRESET:
            return TemporaryFault(f"connection reset: {self.address} (the peer aborted it)")
        if error.errno == errno.EPIPE:
            return TemporaryFault(f"connection closed: {self.address} (before all of the input was sent)")
        return TemporaryFault(f"connection lost: {self.address}: {os.strerror(error.errno or 0)}")


class DatagramPump(_Pump):
    """Datagrams: each line is one, and a reply to each is expected."""

    sent = 0
    unanswered = 0
    in_flight = 0

    def wants_input(self) -> bool:
        """Read more only when no complete line is left."""
        return not self.input_ended and not self._line_size()

    def socket_events(self) -> int:
        """Read while there is room to print, write while a line may be sent."""
        room = READ if self._has_room() else 0
        return room | (WRITE if self._line_size() and self._may_send() else 0)

    def patience(self) -> float | None:
        """Wait for the window to open or, after the last datagram, for the replies."""
        if not self._has_room():
            return None
        if self._line_size():
            return None if self._may_send() else max(0.0, self.moved_at + WINDOW_STALL_S - self.clock())
        if self.input_ended and self.unanswered:
            return max(0.0, self.moved_at + self.timeout - self.clock())
        return None

    def is_over(self) -> bool:
        """Return whether all is sent, answered and printed."""
        waiting = self.failure is None and (self.outgoing or self.unanswered)
        return self.input_ended and not waiting and not self.incoming

    def receive(self) -> None:
        """Receive one reply; an empty one counts."""
        self.incoming += self.sock.recv(DATAGRAM_BYTES)
        self.unanswered = max(0, self.unanswered - 1)
        self.in_flight = max(0, self.in_flight - 1)
        self.moved_at = self.clock()

    def send(self) -> None:
        """Send one line."""
        size = self._line_size()
        if self.in_flight >= WINDOW:
            self.in_flight = 0  # stalled: taken as lost
        self.sock.send(self.outgoing[:size])
        del self.outgoing[:size]
        self.sent += 1
        self.unanswered += 1
        self.in_flight += 1
        self.moved_at = self.clock()

    def turn_ended(self, *, idle: bool) -> None:
        """Give up on overdue replies, and on a line without an end."""
        if not self._line_size() and len(self.outgoing) > MAX_LINE_BYTES:
            self.fail(self._too_long(f"more than {MAX_LINE_BYTES}"))
        if idle and self.patience() == 0.0 and not self._line_size():
            lost = f"{self.unanswered} of {self.sent} datagram{'' if self.sent == 1 else 's'} unanswered"
            self.fail(TemporaryFault(f"no answer: {self.address} ({lost} after {self.timeout:g} s)"))

    def explain(self, error: OSError) -> SockdError:
        """Distinguish ICMP errors and oversized lines from other errors."""
        if error.errno == errno.EMSGSIZE:
            return self._too_long(str(self._line_size()))
        if error.errno in (errno.ECONNREFUSED, errno.ECONNRESET, errno.ENOTCONN, errno.EPIPE):
            return TemporaryFault(f"connection refused: {self.address} (no process listens there)")
        return TemporaryFault(f"cannot send: {self.address}: {os.strerror(error.errno or 0)}")

    def _too_long(self, size: str) -> SockdError:
        return SystemFault(f"{self.address}: a line of {size} bytes does not fit in a datagram")

    def _has_room(self) -> bool:
        return len(self.incoming) < BUFFER_BYTES

    def _line_size(self) -> int:
        """Return the length of the next line with its newline; 0 when it is not complete yet."""
        end = self.outgoing.find(b"\n") + 1
        return end or (len(self.outgoing) if self.input_ended else 0)

    def _may_send(self) -> bool:
        return self.in_flight < WINDOW or self.clock() >= self.moved_at + WINDOW_STALL_S
