# SPDX-License-Identifier: MIT
"""The datagrams of one socket in the C core's table: received in one call, answered in another (csrc/datagrams.c).

What lies in the table stays until the next batch is received; `generation` says whether that has come meanwhile.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sockd._sockbuf import ffi, lib
from sockd.buffer.core import DatagramCalls
from sockd.net.udp.addresses import read_name

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

    from sockd.net.address.sockaddr import SockAddr

    Failures = Sequence[tuple[int, int, int]]
    """Answers that were not sent: place, size, errno; SB_ERR_NO_NAME: the sender has no address."""
    Odd = tuple[int, object, BaseException | None]
    """The place of a datagram, and what a function has returned or raised for it."""
    Exchanged = tuple[int, int, int, bool, bytes, Odd | None, Failures | None]
    """See DatagramTable.exchange()."""

DATAGRAMS_A_TURN = 64
"""In one batch, and in one turn; a function, of which a batch costs little beside a turn, has more of them."""
MAX_DATAGRAM_BYTES = 65_507
"""Maximum payload of UDP over IPv4: 65,535 minus headers (RFC 791, RFC 768); the same on every kind of socket."""


class Received(NamedTuple):
    """What is known of a received datagram beside its payload.

    Attributes:
        name: its sender, as a struct sockaddr; empty: it has none.
        control: what came with it.
        size: bytes of all of it.
        is_cut: it was longer than a datagram may be.
        verdict: on its sender, SB_SENDER_*.
    """

    name: bytes
    control: bytes
    size: int
    is_cut: bool
    verdict: int


class DatagramTable(DatagramCalls):
    """The datagrams that a socket received last.

    Args:
        sock: non-blocking.
        ends_lines: a line ending is no part of the payload, and ends the answers to it as well.
        reports_pktinfo: the socket reports where datagrams arrived.
        with_senders: names and control data are wanted of each.

    Attributes:
        payloads: of the datagrams received last.
        names, controls: with_senders: of each; else empty.
        next: the first of them that is not handled; exchange() sets it, and receive() to 0.
        plain: how many of them, counted from the first one, are whole and from senders that were admitted.
        batch_size: how many are received at once, as long as handlers have time for them.
        stops: not 0: exchange() returns after its batch.
        generation: how many batches were received.
        waiting: answers, for flush().
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        ends_lines: bool = False,
        reports_pktinfo: bool = False,
        with_senders: bool = False,
    ) -> None:
        self._socket = sock
        self._with_senders = with_senders
        flags = ends_lines * lib.SB_DATAGRAMS_LINES | reports_pktinfo * lib.SB_DATAGRAMS_CONTROL
        table = lib.sb_datagrams_new(DATAGRAMS_A_TURN, MAX_DATAGRAM_BYTES, flags)
        if table == ffi.NULL:
            raise MemoryError
        self._table = ffi.gc(table, lib.sb_datagrams_free)
        self._use(int(ffi.cast("uintptr_t", table)))
        self._datagram = ffi.new("sb_datagram *")
        self.batch_size = DATAGRAMS_A_TURN

    # ---- received

    def receive(self, wanted: int) -> int:
        """Receive up to `wanted` datagrams.

        Returns:
            How many; 0: there is none.

        Raises:
            OSError: the socket's error, as an ICMP message to an earlier answer.
        """
        return self._receive(self._socket.fileno(), wanted, self._with_senders)

    @property
    def has_rest(self) -> bool:
        """Whether a part of the batch is not handled yet."""
        return self.next < len(self.payloads)

    def adapt_batch(self, *, is_in_time: bool) -> None:
        """Halve batches whose handlers have taken longer than the turn, and double them again."""
        self.batch_size = min(2 * self.batch_size, DATAGRAMS_A_TURN) if is_in_time else max(self.batch_size // 2, 1)

    def exchange(
        self, limit: int, function: Callable[[bytes], object], clock: Callable[[], float], end: float
    ) -> Exchanged:
        """Receive batches, answer them by a function, and send that, until none is left or something is not as usual.

        Args:
            limit: of datagrams.
            function: answers a payload; where it returns neither bytes nor None, or raises, it is the last one.
            clock: seconds, read after each datagram.
            end: when the turn is over.

        Returns:
            How many were received; and answered; the socket's errno, as an ICMP message to an earlier answer, or 0;
            whether `end` has come; the name of who was answered last, or nothing; what was not as usual, else None;
            answers that were not sent, all of the batch received last.
        """
        done = self._exchange(self._socket, limit, self.batch_size, function, clock, end)
        if done[0]:
            self.adapt_batch(is_in_time=not done[3])
        return done

    def look(self, place: int) -> Received:
        """Say what is known of a datagram received last."""
        one = self._datagram
        lib.sb_datagrams_get(self._table, place, one)
        name, control = ffi.unpack(one.name, one.name_size), ffi.unpack(one.control, one.control_size)
        return Received(name, control, one.size + one.ending, bool(one.is_cut), one.verdict)

    def sender(self, place: int) -> SockAddr | bytes | None:
        """Return the address of the sender of a datagram received last; None where it has none."""
        one = self._datagram
        lib.sb_datagrams_get(self._table, place, one)
        return read_name(ffi.unpack(one.name, one.name_size))

    # ---- verdicts

    def judge(self, place: int, *, is_admitted: bool) -> None:
        """Remember the verdict on a sender's host."""
        verdict = lib.SB_SENDER_ADMITTED if is_admitted else lib.SB_SENDER_DENIED
        lib.sb_datagrams_judge(self._table, place, verdict)

    def forget(self, *, admits_all: bool) -> None:
        """Forget all verdicts; with `admits_all` none is needed."""
        lib.sb_datagrams_forget(self._table, admits_all)

    def suspect(self, ports: Iterable[int]) -> None:
        """Have senders with these ports judged each time."""
        for port in ports:
            lib.sb_datagrams_suspect(self._table, port)

    # ---- answers

    def add(self, place: int, reply: bytes) -> int:
        """Have a reply to a datagram received last wait for flush().

        Returns:
            For how many more there is room.
        """
        return self._add(place, reply)

    def flush(self) -> tuple[int, Failures]:
        """Send what waits; return how many were sent, and the others."""
        return self._flush(self._socket.fileno())

    def answer_later(self, data: bytes, name: bytes, control: bytes) -> None:
        """Send a reply to a datagram of before, by its name and its control data.

        Raises:
            OSError: it was not sent.
        """
        fd = self._socket.fileno()
        if lib.sb_datagram_answer(fd, data, len(data), name, len(name), control, len(control)) < 0:
            raise OSError(ffi.errno, os.strerror(ffi.errno))


__all__ = ["DATAGRAMS_A_TURN", "MAX_DATAGRAM_BYTES", "DatagramTable", "Failures", "Received"]
