# SPDX-License-Identifier: MIT
"""The relay table: the bytes of two connected sockets, each forwarded to the other until both have ended.

The C core forwards them (csrc/relay.c): large pieces inside the kernel, and all pairs that are ready in one call per
turn.  If one side does not read, the other is not read either; an end of file is forwarded as one, after the last
byte, and a reset as a reset.
"""

from __future__ import annotations

import enum
import itertools
import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from sockd._sockbuf import ffi, lib
from sockd.net.c_layout import layout, place
from sockd.values import dataclass
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    import socket

    from sockd.net.connection.sources import Sources
    from sockd.net.loop.loop import EventLoop, Timer

PAIRS = 1 << 17
"""At once; more than any table of descriptors holds in practice, and memory is touched as they come."""
RUNS = 16
"""Calls for deadlines per turn: each ends one pair at most and takes some 5 us, and the others of the loop wait."""
END = layout("sb_relay_end")
REQUEST = layout("sb_relay_request")
RETURNED = layout("sb_relay_returned")

_ENDS, _REQUESTS, _RETURNED, _DUE = (
    place("sb_relay_counts", field) for field in ("ends", "requests", "returned", "due_ms")
)
_ALLOWED_AT: int = ffi.offsetof("sb_relay_request", "allowed")


class RelayObserver(Protocol):
    """Notified when its pair has ended."""

    def ended(self, reason: CloseReason, error: int, side: int, moved: tuple[int, int]) -> None:
        """The sockets are closed.

        Args:
            error, side: errno of a reset or unreachable side, and which of the two it was; 0 for none.
            moved: bytes of each way.
        """


class HandshakeStage(enum.IntEnum):
    """How far the C core has come with a client (enum sb_returned)."""

    NEW = lib.SB_RETURNED_NEW
    GREETED = lib.SB_RETURNED_GREETED
    CONNECTING = lib.SB_RETURNED_CONNECTING


@dataclass(frozen=True)
class FallbackClient:
    """A client that the fast path returns to Python.

    Attributes:
        fd: its socket.
        stage: its greeting is not answered, its request is not, or its target could not be reached.
        error: errno of the failure to read or to reach; 0 for CONNECTING: the client has gone.
        began: when it was accepted, seconds of the loop's clock.
        peer: packed; empty where it has no address.
        data: what was read of it and not answered.
        counted: whether it counts in the door's sources still.
    """

    fd: int
    stage: HandshakeStage
    error: int
    began: float
    peer: bytes
    data: bytes
    counted: bool = False


class SocksFastPath(Protocol):
    """Decides where clients may connect, and handles those that the relay returns."""

    def judge(self, number: int, peer: bytes, target: bytes, began_ms: int) -> RelayObserver | None:
        """Return the observer of the pair; None if the client may not connect to its target.

        Args:
            peer, target: packed; peer is 28 zeros where the client has no address.
        """

    def resume(self, returned: FallbackClient, observer: RelayObserver | None) -> None:
        """Handle a returned client; `observer` is the result of judge() for it."""


class RelayTable:
    """The relay of one loop.

    Raises:
        OSError: ENOSYS, where there is no epoll; EMFILE, ENOMEM.
    """

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._relay = lib.sb_relay_new(PAIRS)
        if self._relay == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        self._counts = memoryview(
            ffi.buffer(lib.sb_relay_counts_of(self._relay), ffi.sizeof("sb_relay_counts"))  # where they stay
        ).cast("q")
        self._ends = memoryview(ffi.buffer(lib.sb_relay_ends(self._relay), PAIRS * END.size))
        self._requests = memoryview(ffi.buffer(lib.sb_relay_requests(self._relay), PAIRS * REQUEST.size)).cast("B")
        self._returned = memoryview(ffi.buffer(lib.sb_relay_returned_ones(self._relay), PAIRS * RETURNED.size))
        self._stopped = ffi.new("int *")
        self._keepers: dict[int, SocksFastPath] = {}
        self._groups = itertools.count()
        self._about = ffi.new("sb_relay_pair *")
        self._pumps: dict[int, RelayObserver] = {}
        self._timer: Timer | None = None
        self._due = -1
        self._fd = int(lib.sb_relay_fileno(self._relay))
        loop.add_reader(self._fd, self._run)

    def add(
        self,
        pump: RelayObserver,
        sockets: tuple[socket.socket, socket.socket],
        leftovers: tuple[bytes, bytes],
        timeouts: tuple[float, float],
    ) -> int:
        """Take over two sockets, and notify the pump when they have ended.

        Args:
            timeouts: seconds, while both sides are open, and once one has ended; 0 for none.

        Returns:
            The pair's number, or a negative one on failure: then they remain the caller's.
        """
        first, second = leftovers
        about = self._about
        about.one, about.other = sockets[0].fileno(), sockets[1].fileno()
        about.first, about.first_size = ffi.from_buffer("char[]", first) if first else ffi.NULL, len(first)
        about.second, about.second_size = ffi.from_buffer("char[]", second) if second else ffi.NULL, len(second)
        about.idle_ms, about.half_ms = _milliseconds(timeouts[0]), _milliseconds(timeouts[1])
        number = int(lib.sb_relay_add(self._relay, about))
        if number >= 0:
            for sock in sockets:
                sock.detach()
            self._pumps[number] = pump
            self._arm()
        return number

    def moved(self, number: int) -> tuple[int, int]:
        """Return the bytes of a pair so far, each way."""
        one, other = (int(lib.sb_relay_moved(self._relay, number, side)) for side in (0, 1))
        return max(one, 0), max(other, 0)

    def abort(self, number: int, reason: CloseReason) -> None:
        """Close a pair at once, with a reset."""
        lib.sb_relay_abort(self._relay, number, reason)
        self._report_ends()

    def lost(self, number: int, side: int, error: int) -> None:
        """Treat the end of file of a side as a reset."""
        lib.sb_relay_lost(self._relay, number, side, error)

    # ---- pairs that begin with a client of a SOCKS server

    def door(
        self, negotiation: float, connect: float, idle: float, half: float, sources: Sources | None = None
    ) -> AcceptorHandle:
        """Return the options for clients of one listener; all times in seconds.

        Args:
            sources: where they count until their end, which has to live as long as they.
        """
        about = ffi.new("sb_relay_door *")
        about.group = next(self._groups)
        about.negotiation_ms, about.connect_ms = _milliseconds(negotiation), _milliseconds(connect)
        about.idle_ms, about.half_ms = _milliseconds(idle), _milliseconds(half)
        if sources is not None:
            about.sources = sources.handle
        return AcceptorHandle(int(about.group), about)

    def accept(self, listener: int, door: AcceptorHandle, keeper: SocksFastPath, max_count: int) -> tuple[int, int]:
        """Accept clients.

        Returns:
            As ConnectionTable.accept.
        """
        accepted = int(lib.sb_relay_accept(self._relay, listener, door.about, max_count, self._stopped))
        if accepted:
            self._keepers[door.group] = keeper
        if self._counts[_DUE] != self._due:
            self._arm()
        stopped = int(self._stopped[0])
        return accepted, -1 if stopped == lib.SB_ERR_FULL else stopped

    def return_clients(self, door: AcceptorHandle) -> None:
        """Return every client of a listener whose request has not arrived to Python."""
        lib.sb_relay_return_clients(self._relay, door.group)
        self._resume_returned()

    def forget(self, door: AcceptorHandle) -> None:
        """Let go of the keeper of a door that has no clients."""
        self._keepers.pop(door.group, None)

    def _ask(self) -> None:
        """Have the requests of this turn checked, and carried out."""
        size = self._counts[_REQUESTS] * REQUEST.size
        at = _ALLOWED_AT
        for number, group, _, _, began_ms, peer, target in REQUEST.iter_unpack(self._requests[:size].tobytes()):
            observer = self._judged(group, number, peer, target, began_ms)
            if observer is not None:
                self._requests[at] = 1
                self._pumps[number] = observer
            at += REQUEST.size
        lib.sb_relay_answer(self._relay)

    def _judged(self, group: int, number: int, peer: bytes, target: bytes, began_ms: int) -> RelayObserver | None:
        try:
            return self._keepers[group].judge(number, peer, target, began_ms)
        except BaseException as error:
            self._loop.defects.report(error)
            return None  # a session judges it again, by itself

    def _resume_returned(self) -> None:
        size = self._counts[_RETURNED] * RETURNED.size
        found = [
            (
                self._keepers[group],
                FallbackClient(
                    fd, HandshakeStage(state), error, began_ms / 1000, peer[:peer_size], data[:data_size], bool(counted)
                ),
                self._pumps.pop(number, None),
            )
            for number, group, fd, state, error, peer_size, data_size, _, counted, began_ms, peer, data in (
                RETURNED.iter_unpack(self._returned[:size].tobytes())
            )
        ]
        for keeper, returned, observer in found:
            try:
                keeper.resume(returned, observer)
            except BaseException as error:
                self._loop.defects.report(error)

    # ---- a turn

    def _run(self) -> None:
        self._run_once()
        if self._counts[_DUE] != self._due:
            self._arm()

    def _run_once(self) -> None:
        lib.sb_relay_run(self._relay)
        if self._counts[_REQUESTS]:
            self._ask()
        ended = self._ended() if self._counts[_ENDS] else ()
        if self._counts[_RETURNED]:
            self._resume_returned()
        for pump, about in ended:
            self._report_end(pump, about)

    def _report_end(self, pump: RelayObserver, about: list[int]) -> None:
        reason, code, side, *moved = about
        try:
            pump.ended(CloseReason(reason), code, side, (moved[0], moved[1]))
        except BaseException as error:
            self._loop.defects.report(error)

    def _ended(self) -> list[tuple[RelayObserver, list[int]]]:
        """Handle pairs that have ended; an observer may start a pair with the same number."""
        size = self._counts[_ENDS] * END.size
        return [(self._pumps.pop(number), about) for number, *about in END.iter_unpack(self._ends[:size].tobytes())]

    def _report_ends(self) -> None:
        for pump, about in self._ended():
            self._report_end(pump, about)

    def _arm(self) -> None:
        """Run at the deadline that comes first."""
        due = self._counts[_DUE]
        if due == self._due:
            return
        self._due = due
        if self._timer is not None:
            self._timer.cancel()
        if due >= 0:
            self._timer = self._loop.call_later(max(0.0, due / 1000 - time.monotonic()), self._is_due)

    def _is_due(self) -> None:
        self._due = -1
        for _ in range(RUNS):
            self._run_once()
            if not 0 <= self._counts[_DUE] <= time.monotonic() * 1000:
                break
        self._arm()

    def close(self) -> None:
        """Close every pair at once, without notice."""
        if self._relay == ffi.NULL:
            return
        self._loop.remove_reader(self._fd)
        self._counts.release()
        self._ends.release()
        self._requests.release()
        self._returned.release()
        lib.sb_relay_free(self._relay)
        self._relay = ffi.NULL
        self._pumps.clear()


@dataclass(frozen=True)
class AcceptorHandle:
    """The clients of one listener, as sb_relay_accept wants to know them."""

    group: int
    about: Any


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000)) if seconds > 0 else 0


__all__ = ["AcceptorHandle", "FallbackClient", "HandshakeStage", "RelayObserver", "RelayTable", "SocksFastPath"]
