# SPDX-License-Identifier: MIT
"""The datagrams of one socket in the C core's table: received in one call, answered in another (csrc/datagrams.c).

What lies in the table stays until the next receive(); `generation` says whether that has come meanwhile.
"""

from __future__ import annotations

import errno
import os
from array import array
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from sockd._sockbuf import ffi, lib
from sockd.lazy import pickle

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Sequence

DATAGRAMS_A_TURN = 64
MAX_DATAGRAM_BYTES = 65_507
"""Maximum payload of UDP over IPv4: 65,535 minus headers (RFC 791, RFC 768); the same on every kind of socket."""
PICKLED_BYTES = 256 * 1024
"""Of payloads in one call; past it each is copied by a call of its own, which costs less than the copying."""
FEW = 3
"""Datagrams for which that costs less than reading a pickle does."""

_room_for = ffi.new_allocator(should_clear_after_alloc=False)


class Received(NamedTuple):
    """What is known of a received datagram beside its payload.

    Attributes:
        name: its sender, as a struct sockaddr; empty: it has none.
        control: what came with it.
        size: bytes of all of it.
        is_cut: it was longer than a datagram may be.
    """

    name: bytes
    control: bytes
    size: int
    is_cut: bool


class DatagramTable:
    """The datagrams that a socket received last.

    Args:
        sock: non-blocking.
        ends_lines: a line ending is no part of the payload, and ends the answers to it as well.
        reports_pktinfo: the socket reports where datagrams arrived.
        with_senders: names and control data are wanted of each.

    Attributes:
        payloads: of the datagrams received last.
        names, controls: with_senders: of each; else empty.
        plain: how many of them, counted from the first one, are whole and from senders that were admitted.
        generation: how often receive() was called.
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
        self._pickled = _room_for("char[]", PICKLED_BYTES)
        self._verdicts = ffi.new("char[]", DATAGRAMS_A_TURN)
        self._received = ffi.new("sockd_received *")
        self._datagram = ffi.new("sb_datagram *")
        self._errors = ffi.new("int32_t[]", DATAGRAMS_A_TURN)
        self.payloads: list[bytes] = []
        self.names: list[bytes] = []
        self.controls: list[bytes] = []
        self.plain = 0
        self.generation = 0

    @cached_property
    def _loads(self) -> Callable[[Any], list[bytes]]:
        return pickle.loads

    # ---- received

    def receive(self, wanted: int) -> int:
        """Receive up to `wanted` datagrams.

        Returns:
            How many, 1 or more.

        Raises:
            BlockingIOError: there is none.
            OSError: the socket's error, as an ICMP message to an earlier answer.
        """
        self.payloads, self.names, self.controls, self.plain = [], [], [], 0
        self.generation += 1
        received = self._received
        fd, with_senders, out = self._socket.fileno(), self._with_senders, self._pickled
        count: int = lib.sockd_datagrams_receive(
            self._table, fd, wanted, with_senders, out, PICKLED_BYTES, self._verdicts, received
        )
        if count <= 0:
            raise _error_of_receive(count)
        self.plain = received.plain
        if received.used and (count > FEW or self._with_senders):
            found = self._loads(ffi.buffer(out, received.used))
            self.payloads, self.names, self.controls = found[:count], found[count::2], found[count + 1 :: 2]
        else:
            self._copy_each(count)
        return count

    def _copy_each(self, count: int) -> None:
        one = self._datagram
        for place in range(count):
            lib.sb_datagrams_get(self._table, place, one)
            self.payloads.append(ffi.unpack(one.data, one.size))
            if self._with_senders:
                self.names.append(ffi.unpack(one.name, one.name_size))
                self.controls.append(ffi.unpack(one.control, one.control_size))

    def look(self, place: int) -> Received:
        """Say what is known of a datagram received last."""
        one = self._datagram
        lib.sb_datagrams_get(self._table, place, one)
        name, control = ffi.unpack(one.name, one.name_size), ffi.unpack(one.control, one.control_size)
        return Received(name, control, one.size + one.ending, bool(one.is_cut))

    # ---- verdicts

    def verdict(self, place: int) -> int:
        """Return what is known of a datagram's sender: SB_SENDER_*, or SOCKD_CUT for an admitted one cut off."""
        return int(self._verdicts[place][0])

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

    def answer(self, places: Sequence[int], replies: Sequence[bytes]) -> tuple[int, list[tuple[int, int]]]:
        """Send replies to datagrams received last, DATAGRAMS_A_TURN at most.

        Returns:
            How many were sent; for each that was not, its index here and the errno.
        """
        block, sizes, count = b"".join(replies), array("I", map(len, replies)), len(replies)
        indexes = array("I", places)
        sent: int = lib.sb_datagrams_send(
            self._table, self._socket.fileno(), ffi.from_buffer("uint32_t[]", indexes),
            ffi.from_buffer("uint32_t[]", sizes), count, block, len(block), self._errors,
        )  # fmt: skip
        if sent == count:
            return sent, []
        assert sent >= 0
        return sent, [(index, error) for index, error in enumerate(self._errors[0:count]) if error]

    def answer_later(self, data: bytes, name: bytes, control: bytes) -> None:
        """Send a reply to a datagram of before, by its name and its control data.

        Raises:
            OSError: it was not sent.
        """
        fd = self._socket.fileno()
        if lib.sb_datagram_answer(fd, data, len(data), name, len(name), control, len(control)) < 0:
            raise OSError(ffi.errno, os.strerror(ffi.errno))


def _error_of_receive(code: int) -> OSError:
    number = errno.EAGAIN if code == lib.SB_ERR_AGAIN else ffi.errno
    return OSError(number, os.strerror(number))


__all__ = ["DATAGRAMS_A_TURN", "MAX_DATAGRAM_BYTES", "DatagramTable", "Received"]
