# SPDX-License-Identifier: MIT
"""The UDP listener: one datagram is one frame, the reply goes to its sender.

A frame has 0 to 65,507 bytes.  A longer one arrives truncated (MSG_TRUNC) and is dropped, never handled in part.  A
sender without an address (an unbound Unix socket) gets no reply.  A reply that the kernel does not accept at once is
dropped, as UDP may; so is one that is too long, with a log line.  sockd.net.udp.rules decides which datagrams are
answered.  A lasting condition, a failing handler included, is logged once per interval: anyone can send datagrams, and
a line with its traceback is a hundred times as long.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import socket
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import Close
from sockd.log.failure import error_info, user_line
from sockd.log.rate_limit import LogLimit
from sockd.net.address.sockaddr import SockAddr, format_sockaddr
from sockd.net.connection.codec import reply_bytes
from sockd.net.kernel import is_hung_up
from sockd.net.listen.listener import DatagramCounts, ListenerCounts
from sockd.net.loop.defects import error_location
from sockd.net.loop.thread_pool import Work
from sockd.net.udp.loops import Loops
from sockd.net.udp.pktinfo import ANCILLARY_BYTES, Ancillary, answer_from, asked_address, request_pktinfo
from sockd.net.udp.source import DatagramSource, SourcedAnswer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Reply = bytes | bytearray | memoryview | None

    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.net.udp.rules import DatagramRules

    Outcome = tuple[Reply, BaseException | None]

logger = logging.getLogger("sockd.datagram")

DATAGRAMS_A_TURN = 64
TURN_SECONDS = 0.005
"""Of one turn for the datagrams of one socket; one of them at least is answered."""
DATAGRAMS_AT_CLOSE = 4096
"""More than a receive buffer of the default size holds, and an end when they keep coming."""
MAX_DATAGRAM_BYTES = 65_507
"""Maximum payload of UDP over IPv4: 65,535 minus headers (RFC 791, RFC 768); the same on every kind of socket."""
PAUSE_SECONDS = 0.05
"""A shortage ends when others release, not by trying again."""
SHORTAGES = (errno.ENOBUFS, errno.ENOMEM)


class DatagramListener:
    """One datagram socket.

    Args:
        listening: bound, non-blocking; closed by close().
        answer: from a datagram to its answer, None answers nothing; or who is told where datagrams are from.
        service: its name, for the log.
        rules: which datagrams are answered.
        former: who answered on the same socket until now; what it counted is counted on.
        pool: calls `answer` in threads; None to call it here.
        died: called when the socket has been shut down by whoever passed it, and is closed.
    """

    def __init__(
        self,
        listening: ServerSocket,
        answer: Callable[[bytes], Reply] | SourcedAnswer,
        loop: EventLoop,
        service: str,
        rules: DatagramRules,
        former: DatagramListener | None = None,
        pool: ThreadPool | None = None,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._listening = listening
        self._socket = self.socket = listening.socket
        self._sourced = answer.bind(self) if isinstance(answer, SourcedAnswer) else None
        self._answer = answer
        self._is_started = False
        self._loop = loop
        self._rules = rules
        self._pool = pool
        self._died = died
        self._unanswered = 0
        self._is_closed = False
        self._buffer = memoryview(bytearray(MAX_DATAGRAM_BYTES))
        self._ancillary_bytes = ANCILLARY_BYTES if request_pktinfo(listening.socket) else 0
        self._log_limit = LogLimit(loop.clock)
        self._is_detached = False
        self._name = listening.socket.getsockname()
        self._loops = Loops(loop.clock)
        self._last_answered: SockAddr | None = None
        self.service = service
        self.tally: DatagramCounts = former.tally if former else DatagramCounts()

    def __str__(self) -> str:
        return str(self._listening)

    def start(self) -> None:
        """Start receiving; where a source is told of it, in the next turn, in which asyncio's loop runs."""
        if self._sourced is None or self._is_started:
            self._loop.add_reader(self._socket.fileno(), self._receive)
        else:
            self._loop.call_soon(self._start_source)

    def _start_source(self) -> None:
        if self._socket.fileno() >= 0 and not self._is_detached and not self._is_closed:
            self._report_started()
            self._loop.add_reader(self._socket.fileno(), self._receive)

    def _report_started(self) -> None:
        if self._sourced is not None and not self._is_started:
            self._is_started = True
            self._attempt(self._sourced.started)

    def detach(self) -> None:
        """Stop receiving, because another listener continues on the socket."""
        self._loop.remove_reader(self._socket.fileno())
        self._is_detached = True
        self._report_closed()

    def _report_closed(self) -> None:
        if self._sourced is not None and self._is_started:
            self._is_started = False
            self._attempt(self._sourced.closed)

    def _attempt(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call a handler, whose failure ends nothing."""
        try:
            callback(*arguments)
        except BaseException as error:
            self._log(logging.ERROR, "handler failed", {}, error)

    def accept_rest(self) -> None:
        """Answer what has arrived."""
        self._report_started()
        self._receive_some(DATAGRAMS_AT_CLOSE, math.inf)

    @property
    def is_idle(self) -> bool:
        """Return whether no reply is being made."""
        return not self._unanswered

    @property
    def groups(self) -> Sequence[int]:
        """None: there are no connections."""
        return ()

    @property
    def counts(self) -> ListenerCounts:
        """What became of the datagrams of its socket."""
        return ListenerCounts.from_datagrams(self.tally)

    def count_on(self, counts: ListenerCounts) -> None:
        """Go on from what another process has counted."""
        for name, value in counts.datagrams.items():
            setattr(self.tally, name, value)

    def adopt(self, id: int) -> None:
        """Nothing can be adopted.

        Raises:
            LookupError: always.
        """
        raise LookupError(f"{self} has no connections, and not {id}")

    @property
    def queues(self) -> Sequence[AcceptQueue]:
        """None: nothing is accepted."""
        return ()

    # ---- receiving

    def _receive(self) -> None:
        if not self._is_detached:  # else a reload in this very turn has put another in its place
            self._receive_some(DATAGRAMS_A_TURN, self._loop.clock() + TURN_SECONDS)
            self._look_for_loops()

    @property
    def _is_full(self) -> bool:
        """Whether another datagram would have to wait."""
        if self._sourced is not None:
            return self._sourced.is_full
        return self._pool is not None and self._pool.is_full(self)

    def _receive_some(self, max_count: int, end: float) -> None:
        for accepted in range(max_count):
            gate = self._pool if self._sourced is None else self._sourced
            if gate is not None and self._is_full:
                self._loop.remove_reader(self._socket.fileno())
                gate.when_free(self._resume)  # until then the kernel keeps some, and drops the rest
                return
            try:
                size, ancillary, flags, sender = self._socket.recvmsg_into([self._buffer], self._ancillary_bytes)
            except BlockingIOError:
                if not accepted and is_hung_up(self._socket):
                    self._die()
                return
            except OSError as error:  # the ICMP answer to an earlier datagram, as ECONNREFUSED
                self._log(logging.DEBUG, "receive failed", {"error": str(error)})
                if self._sourced is not None:
                    self._attempt(self._sourced.failed, error)
                if error.errno in SHORTAGES:
                    self._pause()
                    return
                continue
            self.tally.received += 1
            if self._is_wanted(size, flags, sender, ancillary):
                self._serve(bytes(self._buffer[:size]), sender, ancillary)
            if self._loop.clock() >= end:
                return

    def _is_wanted(self, size: int, flags: int, sender: SockAddr | None, ancillary: Ancillary) -> bool:
        if not self._rules.admit(sender):
            self.tally.denied += 1
            self._log(logging.WARNING, "refused: denied", self._peer_field(sender))
        elif flags & socket.MSG_TRUNC:
            self.tally.truncated += 1
            event = self._peer_field(sender) | {"max_bytes": MAX_DATAGRAM_BYTES}
            self._log(logging.WARNING, "datagram dropped: too long", event)
        elif self._is_ours(sender, ancillary):
            self.tally.service_port += 1
            self._log(logging.WARNING, "not answered: the listener's own address", self._peer_field(sender))
        elif self._rules.is_service_port(sender):
            self.tally.service_port += 1
            self._log(logging.WARNING, "not answered: port of a well-known service", self._peer_field(sender))
        else:
            return True
        return False

    def _is_ours(self, sender: SockAddr | None, ancillary: Ancillary) -> bool:
        """Return whether a datagram has this very socket as sender, which sends itself none."""
        if not isinstance(sender, tuple) or sender[1] != self._name[1]:
            return False
        return sender[0] == (asked_address(ancillary) or self._name[0])

    def _die(self) -> None:
        """Give up a socket that others have shut down: it is always ready, and nothing can arrive (udp(7))."""
        self._log(logging.ERROR, "listening socket shut down by another process, no longer listening", {})
        self._loop.remove_reader(self._socket.fileno())
        self._is_detached = True
        self._listening.close()
        self._died()

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._socket.fileno() >= 0 and not self._is_detached and not self._is_closed:
            self.start()

    # ---- answering

    def _serve(self, datagram: bytes, sender: SockAddr | None, ancillary: Ancillary) -> None:
        if self._sourced is not None:
            source = DatagramSource(self, sender, ancillary, len(datagram))
            outcome = self._outcome(partial(self._sourced.answer, datagram, source))
            self._answered(len(datagram), sender, ancillary, outcome)
            return
        if self._pool is None:
            self._answered(len(datagram), sender, ancillary, self._call(datagram))
            return

        def done(outcome: Outcome) -> None:
            try:
                self._answered(len(datagram), sender, ancillary, outcome)
            finally:
                self._one_less()

        self._unanswered += 1
        if not self._pool.submit(Work(self.service, lambda: self._call(datagram), done), self):
            self._one_less()
            self.tally.failed += 1

    def one_more(self) -> None:
        """Note that an answer is being made, for which a stop waits (for a source)."""
        self._unanswered += 1
        self._loop.unfinished.add(self)

    def answer_later(
        self, size: int, sender: SockAddr | None, ancillary: Ancillary, reply: object, error: BaseException | None
    ) -> None:
        """Send an answer that was being made, or tell why there is none (for a source)."""

        def outcome() -> object:
            if error is not None:
                raise error
            return reply

        try:
            if self._socket.fileno() >= 0:
                self._answered(size, sender, ancillary, self._outcome(outcome))
        finally:
            self._one_less()

    def send(self, data: bytes, receiver: SockAddr | None, ancillary: Ancillary) -> None:
        """Send a datagram to anybody; the rules for answers apply (for a source)."""
        if self._socket.fileno() >= 0:
            self._answered(0, receiver, ancillary, (data, None))

    def _one_less(self) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._loop.unfinished.discard(self)
        if self._is_closed and not self._unanswered:
            self._listening.close()

    def _call(self, datagram: bytes) -> Outcome:
        assert not isinstance(self._answer, SourcedAnswer)
        return self._outcome(partial(self._answer, datagram))

    @staticmethod
    def _outcome(call: Callable[[], object]) -> Outcome:
        try:
            try:
                return _checked(call()), None
            except Close as close:  # there is nothing to close, and its last words are an answer
                return _checked(close.last_words), None
        except BaseException as error:
            return None, error

    def _answered(self, size: int, sender: SockAddr | None, ancillary: Ancillary, outcome: Outcome) -> None:
        reply, error = outcome
        if error is not None:
            self.tally.failed += 1
            self._log(logging.ERROR, "handler failed", self._peer_field(sender) | {"frame_bytes": size}, error)
            return
        if reply is None or not sender:
            return
        size = memoryview(reply).nbytes
        if size > MAX_DATAGRAM_BYTES:
            self._drop(logging.WARNING, sender, size, os.strerror(errno.EMSGSIZE))
        elif self._loops.is_silent(sender):
            self.tally.over_budget += 1
        elif not self._rules.spend(sender, size):
            self.tally.over_budget += 1
            self._log(logging.WARNING, "not answered: datagram budget of the source exceeded", self._peer_field(sender))
        else:
            self._send(reply, size, sender, ancillary)

    def _send(self, reply: bytes | bytearray | memoryview, size: int, sender: SockAddr, ancillary: Ancillary) -> None:
        try:
            if ancillary:
                self._socket.sendmsg([reply], answer_from(ancillary), 0, sender)
            else:
                self._socket.sendto(reply, sender)
        except OSError as error:
            self._drop(logging.WARNING if error.errno == errno.EMSGSIZE else logging.DEBUG, sender, size, str(error))
        else:
            self.tally.answered += 1
            self._last_answered = sender

    def _look_for_loops(self) -> None:
        """Record the last sender answered in this turn: one that is answered endlessly is the last one sooner or
        later.
        """
        sender, self._last_answered = self._last_answered, None
        if sender is not None and not self._rules.has_budget and self._loops.answered(sender):
            event = self._peer_field(sender) | {"why": "answered for several seconds without a pause"}
            self._log(logging.WARNING, "not answered for a moment, to break a loop", event)

    def _drop(self, level: int, sender: SockAddr, size: int, error: str) -> None:
        self.tally.dropped += 1
        self._log(level, "reply dropped", self._peer_field(sender) | {"bytes": size, "error": error})

    # ---- telling

    def _peer_field(self, sender: SockAddr | None) -> dict[str, object]:
        return {"peer": format_sockaddr(self._socket.family, socket.SOCK_DGRAM, sender)}

    def _log(self, level: int, message: str, event: Mapping[str, object], error: BaseException | None = None) -> None:
        kind = None if error is None else (type(error), error_location(error))
        held_back = self._log_limit.admit((level, message, kind))
        if held_back is not None:
            about = {"service": self.service, "address": str(self), **event}
            about |= {"held_back": held_back} if held_back else {}
            about |= {"at": user_line(error)} if error is not None else {}
            logger.log(level, message, exc_info=error and error_info(error), extra={"event": about})

    def running(self) -> list[int]:
        """None: no program has its socket."""
        return []

    def await_programs(self, descriptors: Sequence[int]) -> None:
        """Nothing: no program has its socket."""

    def refuse_new_clients(self) -> float:
        """Nothing is on its way in: a socket can be closed at once."""
        return 0.0

    def hand_over(self) -> None:
        """Stop receiving, because another process continues on the socket; pending replies are dropped."""
        self.detach()
        self._socket.close()

    def close(self) -> None:
        """Answer what has already arrived, and stop receiving."""
        if self._socket.fileno() < 0 or self._is_detached or self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._socket.fileno())
        self.accept_rest()
        self._report_closed()
        if not self._unanswered:
            self._listening.close()


def _checked(reply: object) -> Reply:
    """Return the handler's result, if it can be sent.

    Raises:
        TypeError: it is neither None nor bytes-like.
    """
    if reply is None:
        return None
    if isinstance(reply, (bytes, bytearray, memoryview)):
        return bytes(reply)  # also of a view that is not in one piece
    return reply_bytes(reply)  # which tells what is wrong with it
