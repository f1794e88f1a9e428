# SPDX-License-Identifier: MIT
"""The C connection table as Python uses it: a batch of frames in, a batch of replies out.

One instance holds every stream connection of the process.  A group holds the common options of one service's
connections; its sink gets their events. The table knows no service, writes no log and reads no clock.

An idle connection has no Python object: a `Connection` is made for sinks that need one, when its first frame arrives
or the connection is announced.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Protocol

from sockd._sockbuf import ffi, lib
from sockd.net.c_layout import layout, place
from sockd.net.connection.group import describe
from sockd.net.connection.groups import ConnectionGroups
from sockd.net.connection.info import ConnectionInfo
from sockd.net.connection.peers import Peers
from sockd.net.connection.turn import CHECK_EVERY, EVENT, EVENT_SIZE, PART, Turn
from sockd.net.connection.write_buffer import pop_each
from sockd.net.loop.defects import Defects
from sockd.net.tls.rows import TlsConnections
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    import socket
    from array import array
    from collections.abc import Callable, Iterator, Sequence

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.peers import ProxyInfo
    from sockd.net.connection.write_buffer import WriteBuffer
    from sockd.wire.framing import Framing

READY = layout("sb_ready")
EVENTS_A_ROW = 9
_EVENTS, _READY, _CHANGES, _CONNECTIONS, _CLOSED = (
    place("sb_counts", field) for field in ("events", "ready", "changes", "connections", "closed")
)
_EVENT_FRAMES: int = lib.SB_EVENT_FRAMES
_EVENT_ACCEPTED: int = lib.SB_EVENT_ACCEPTED
_EVENT_END: int = lib.SB_EVENT_END
_EVENT_PAUSE: int = lib.SB_EVENT_PAUSE
_EVENT_RESUME: int = lib.SB_EVENT_RESUME
_EVENT_CLOSED: int = lib.SB_EVENT_CLOSED
_EVENT_WRONG: int = lib.SB_EVENT_WRONG
_EVENT_LINGERING: int = lib.SB_EVENT_LINGERING


class Writer(Protocol):
    """Has output to be sent at the end of the turn."""

    id: int
    outbox: WriteBuffer
    has_more: bool

    def flushed(self) -> None:
        """Do what was to follow the output."""


class ConnectionTable:
    """Every stream connection of the process.

    Args:
        size: maximum connections.
        kept: of these, reserved for groups that may use them.
        memory: limit in bytes for incomplete frames and unsent replies.
        epoll: whether the table waits by itself (Linux), or is told what is ready.
        defects: gets the exceptions of sinks.

    Attributes:
        received: the arena, with what was received in this turn; see block().
        will_write: sends a writer's output before the next wait.
    """

    def __init__(self, *, size: int, memory: int, epoll: bool, kept: int = 0, defects: Defects | None = None) -> None:
        self._defects = defects or Defects(time.monotonic)
        self._mux = lib.sb_mux_new(size, epoll)
        if self._mux == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        lib.sb_mux_memory(self._mux, memory)
        lib.sb_mux_keep_rows(self._mux, kept)
        self._counts = memoryview(ffi.buffer(lib.sb_mux_counts(self._mux), ffi.sizeof("sb_counts"))).cast("i")
        self._events = memoryview(ffi.buffer(lib.sb_mux_events(self._mux), size * EVENTS_A_ROW * EVENT.size))
        self._parts = memoryview(ffi.buffer(lib.sb_mux_parts(self._mux), size * PART.size))
        self._readies = memoryview(ffi.buffer(lib.sb_mux_readies(self._mux), size * READY.size))
        self.turn = Turn(self._mux, self._counts, self._events, self._parts)
        self._arena = lib.sb_mux_arena(self._mux)
        self.received = ffi.buffer(self._arena, lib.SB_ARENA)
        self._stopped = ffi.new("int *")
        self._info = ffi.new("sb_info *")
        self._max_connections = size - kept
        self.peers = Peers(self)
        self.tls = TlsConnections(self, self._defects)
        self.groups = ConnectionGroups(self._mux, size, self.tls)
        self._sinks, self._hooks = self.groups.sinks, self.groups.hooks
        self._handled = 0
        self._dispatched = 0
        self._dirty: list[Writer] = []
        self.will_write: Callable[[Writer], None] = self._dirty.append  # itself: a call of Python less for each reply
        self._waiting: list[Callable[[], None]] = []
        self.epoll = epoll
        self.find_name: Callable[[str], str | None] = lambda host: None

    def close(self) -> None:
        """Close every connection at once and free the table."""
        if self._mux != ffi.NULL:
            for view in (self._counts, self._events, self._parts, self._readies):
                view.release()
            lib.sb_mux_free(self._mux)
            self._mux = ffi.NULL

    def leave(self) -> None:
        """Close the sockets only, without a shutdown, in a forked process; only close() may follow."""
        lib.sb_mux_leave(self._mux)

    def fileno(self) -> int:
        """Return the epoll descriptor, or -1."""
        return int(lib.sb_mux_fileno(self._mux))

    @property
    def handle(self) -> Any:  # noqa: ANN401 - a cffi pointer
        """The C table, for sockd.net.connection.transfer."""
        return self._mux

    @property
    def address(self) -> int:
        """The same, for the types of Python that are written in C."""
        return int(ffi.cast("uintptr_t", self._mux))

    def __len__(self) -> int:
        """Return how many connections are open or closing."""
        return self._counts[_CONNECTIONS] - self._counts[_CLOSED]

    @property
    def is_full(self) -> bool:
        """Whether only the rows remain that are kept for certain groups."""
        return self._counts[_CONNECTIONS] >= self._max_connections

    # ---- a turn

    def wait(self, timeout_ms: int) -> int:
        """Send pending output, then wait, receive and frame in one call.

        Returns:
            The number of events and of watched descriptors that are ready; 1 at once if sending produced events.
        """
        if self._dirty:
            self.flush()
        if self._handled < self._counts[_EVENTS]:
            return 1
        if self._handled > self._dispatched:  # what came since the last turn was dispatched: not to be told once more
            lib.sb_mux_reap(self._mux)
        self._handled = 0
        turn: int = lib.sb_mux_turn(self._mux, timeout_ms)
        if turn < 0:
            raise self._error()
        self._dispatched = self._counts[_EVENTS]
        return turn

    def receive(self, ids: array[int], masks: array[int]) -> int:
        """Receive and frame from connections that a selector found ready; return the number of events."""
        self._handled = 0
        return int(
            lib.sb_mux_turn_of(
                self._mux, ffi.from_buffer("int32_t[]", ids), ffi.from_buffer("int32_t[]", masks), len(ids)
            )
        )

    def watched(self) -> list[tuple[int, int]]:
        """Return (descriptor, mask) of the watched descriptors that wait() found ready."""
        count = self._counts[_READY]
        return [(fd, mask) for _, fd, _, mask in READY.iter_unpack(self._readies[: count * READY.size].tobytes())]

    def watch(self, fd: int, mask: int) -> None:
        """Have wait() report a descriptor; mask 0 ends that."""
        if lib.sb_mux_watch(self._mux, fd, mask) < 0:
            raise self._error()

    def changes(self) -> Iterator[tuple[int, int, int, int]]:
        """Return (id, fd, interest until now, interest wanted) since the last call."""
        count = lib.sb_mux_changes(self._mux) if self._counts[_CHANGES] else 0
        return READY.iter_unpack(self._readies[: count * READY.size].tobytes())

    def reap_closed(self) -> None:
        """Close the descriptors of closed connections; every event was dispatched."""
        lib.sb_mux_reap(self._mux)
        self._handled = self._dispatched = 0

    def timeout_ms(self) -> int:
        """Return the time until a deadline, -1 for none."""
        return int(lib.sb_mux_timeout(self._mux))

    @property
    def pending(self) -> bool:
        """Whether dispatch() has something to do."""
        return self._handled < self._counts[_EVENTS]

    def dispatch(self) -> None:
        """Dispatch every event to its sink, also those that this produces; a failure costs the event's connection."""
        while self._handled < self._counts[_EVENTS]:
            try:
                self._dispatch()
            except BaseException as error:
                self._failed(error, self._handled - 1)
        if self.turn.group >= 0:
            self.turn.start_group(-1)

    def _failed(self, error: BaseException, index: int) -> None:
        self._defects.report(error)
        kind, id, _, first, _, _, count = EVENT.unpack_from(self._events, index * EVENT_SIZE)
        if kind != _EVENT_CLOSED:
            for one in [id] if id >= 0 else [id for id, _ in self.turn.parts(first, count)]:
                self.abort(one)

    def _dispatch(self) -> None:
        counts, events, sinks, unpack = self._counts, self._events, self._sinks, EVENT.unpack_from
        turn, busy = self.turn, -1
        while (index := self._handled) < counts[_EVENTS]:
            kind, id, group, detail, offset, size, count = unpack(events, index * EVENT_SIZE)
            self._handled = index + 1
            if kind == _EVENT_FRAMES:
                if group != busy:
                    busy = turn.start_group(group)
                elif not index & CHECK_EVERY and turn.is_late:
                    turn.put_off(index)
                    continue
                sinks[group].frames(index, id, detail, offset, size, count)
            elif kind == _EVENT_ACCEPTED:
                sinks[group].accepted(id)
            elif kind == _EVENT_END:
                sinks[group].ended(id)
            elif kind == _EVENT_PAUSE:
                sinks[group].pause(id)
            elif kind == _EVENT_RESUME:
                sinks[group].resume(id)
            elif kind == _EVENT_CLOSED:
                self._closed(group, id, CloseReason(detail))
            elif kind == _EVENT_WRONG:
                sinks[group].wrong(id, CloseReason(detail))
            elif kind == _EVENT_LINGERING:
                sinks[group].lingering(id, CloseReason(detail))

    def _closed(self, group: int, id: int, reason: CloseReason) -> None:
        """Report a close; a hook that fails does not prevent the others, because all of them count."""
        try:
            self._sinks[group].closed(id, reason)
        finally:
            try:
                hook = self._hooks[group]
                if hook is not None:
                    hook(id)
            finally:
                self._forget(id)

    def _forget(self, id: int) -> None:
        """Drop what is kept beside a row, and call the callbacks that wait for a close."""
        self.peers.ended(id)
        self.tls.ended(id)
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            try:
                callback()
            except BaseException as error:
                self._defects.report(error)

    parts: Sequence[tuple[int, int, int]] = ()
    """Of the event that is answered now, where replies are shown to somebody: those that do not pass here are not."""

    # ---- frames in, replies out

    def block(self, offset: int, size: int) -> bytes:
        """Copy `size` bytes of frames out of the arena, or out of a held block."""
        if offset >= 0:
            piece: bytes = self.received[offset : offset + size]  # takes half of what ffi.unpack() does
            return piece
        return ffi.unpack(lib.sb_mux_held(self._mux, -1 - offset), size)  # type: ignore[no-any-return]  # cffi

    def pointer(self, offset: int) -> Any:  # noqa: ANN401 - a cffi pointer
        """Return the position of an event's frames, until the next turn."""
        return self._arena + offset if offset >= 0 else lib.sb_mux_held(self._mux, -1 - offset)

    def unread(self, id: int, source: Any, size: int, frames: int) -> None:  # noqa: ANN401
        """Return frames of this turn, `size` bytes from a pointer on, until the connection is read again."""
        lib.sb_mux_unread(self._mux, id, source, size, frames)

    def set_framing(self, id: int, framing: Framing) -> None:
        """Change the framing of a connection's input, beginning with the unframed rest.

        Raises:
            ValueError: the framing is not for streams.
        """
        if lib.sb_mux_framing(self._mux, id, describe(framing)) == lib.SB_ERR_INVALID:
            raise ValueError(f"{framing!r} cannot frame a stream")

    def reply_lengths(self, index: int, block: bytes, lengths: array[int]) -> None:
        """Answer an event with lengths[i] bytes for frame i."""
        self.reply_from(index, block, len(block), lengths)

    def reply_from(self, index: int, source: Any, size: int, lengths: array[int]) -> None:  # noqa: ANN401
        """Do the same with `size` bytes of memory of C's."""
        if lib.sb_mux_reply_lengths(self._mux, index, source, size, ffi.from_buffer("uint32_t[]", lengths)) < 0:
            raise ValueError("the lengths do not add up to the block")

    def write(self, id: int, data: bytes) -> None:
        """Send to one connection; what the kernel does not accept is buffered."""
        lib.sb_mux_send(self._mux, id, data, len(data))

    def flush(self) -> None:
        """Send the output of every registered writer, in one call."""
        while self._dirty:
            dirty = self._dirty.copy()
            self._dirty.clear()
            self._send_dirty(dirty)
            for writer in dirty:
                if writer.has_more:
                    self._flushed(writer)

    def _send_dirty(self, dirty: Sequence[Writer]) -> None:
        if len(dirty) == 1:
            block = dirty[0].outbox.pop_all()
            lib.sb_mux_send(self._mux, dirty[0].id, block, len(block))
            return
        blocks = pop_each([writer.outbox for writer in dirty])
        ids = [writer.id for writer in dirty]  # an array would parse each like an argument of a function
        lib.sb_mux_write(self._mux, len(dirty), ids, list(map(len, blocks)), b"".join(blocks))

    def _flushed(self, writer: Writer) -> None:
        try:
            writer.flushed()
        except BaseException as error:
            self._defects.report(error)
            self.abort(writer.id)

    # ---- connections

    def accept(self, listener: int, group: int, max_count: int) -> tuple[int, int]:
        """Accept into a group.

        Returns:
            (number accepted, errno for which the listener should pause; 0 none, -1 the table is full).
        """
        accepted = lib.sb_mux_accept(self._mux, listener, group, max_count, self._stopped)
        stopped = self._stopped[0]
        return accepted, -1 if stopped == lib.SB_ERR_FULL else stopped

    def add(
        self, sock: socket.socket, group: int, peer: SocketAddress | None = None, proxied: ProxyInfo | None = None
    ) -> int | None:
        """Take over a connected, non-blocking socket; return its id, None when the table is full.

        Args:
            peer: its address; None to ask the kernel.
            proxied: what a proxy reported about the connection.

        Raises:
            OSError: it cannot be watched.
        """
        id = int(lib.sb_mux_add(self._mux, sock.fileno(), group))
        if id == lib.SB_ERR_FULL:
            return None
        if id < 0:
            raise self._error()
        sock.detach()
        if peer is not None:
            self.peers.name(id, peer, proxied)
        return id

    @property
    def memory(self) -> int:
        """Bytes of memory used by incomplete frames and pending output."""
        return int(lib.sb_mux_counts(self._mux).memory)

    def limit_memory(self, max_bytes: int) -> None:
        """Set the limit of that memory."""
        lib.sb_mux_memory(self._mux, max_bytes)

    @property
    def has_unreaped(self) -> bool:
        """Return whether connections have closed whose rows become free only in the next turn."""
        return bool(self._counts[_CLOSED])

    def when_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when a connection has closed."""
        self._waiting.append(callback)

    def shut(self, id: int, reason: CloseReason = CloseReason.CLOSED) -> None:
        """Close a connection gracefully (FAQ II.5)."""
        lib.sb_mux_close(self._mux, id, int(reason))

    def unfinished(self, id: int) -> bytes:
        """Return the received part of an incomplete frame."""
        size = ffi.new("size_t *")
        data = lib.sb_mux_unfinished(self._mux, id, size)
        return ffi.unpack(data, size[0]) if size[0] else b""

    def abort(self, id: int, reason: CloseReason = CloseReason.ABORTED) -> None:
        """Close a connection at once, with RST on TCP."""
        lib.sb_mux_abort(self._mux, id, int(reason))

    def shutdown(self, id: int) -> None:
        """Send FIN behind the output; receiving goes on."""
        lib.sb_mux_shutdown(self._mux, id)

    def pause(self, id: int, paused: bool) -> None:
        """Pause or resume receiving from a connection."""
        lib.sb_mux_pause(self._mux, id, paused)

    def set_water(self, id: int, high: int, low: int) -> None:
        """Set the water marks of one connection, 0 for no bytes at all."""
        lib.sb_mux_water(self._mux, id, high or lib.SB_AT_ONCE, low or lib.SB_AT_ONCE)

    def output_pending_bytes(self, id: int) -> int:
        """Return the bytes that the kernel has not accepted yet."""
        return max(int(lib.sb_mux_unsent(self._mux, id)), 0)  # none of a connection that is gone

    def info(self, id: int) -> ConnectionInfo:
        """Return the state of a connection, also when it has just closed."""
        if lib.sb_mux_info(self._mux, id, self._info) < 0:
            raise LookupError(f"no connection {id}")
        return ConnectionInfo.unpack(ffi.buffer(self._info))

    def _error(self) -> OSError:
        number = lib.sb_mux_errno(self._mux)
        return OSError(number, os.strerror(number))
