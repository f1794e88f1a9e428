# SPDX-License-Identifier: MIT
"""The UDP listener: one datagram is one frame, the reply goes to its sender.

A frame has 0 to 65,507 bytes.  A longer one arrives truncated (MSG_TRUNC) and is dropped, never handled in part.  A
sender without an address (an unbound Unix socket) gets no reply.

A turn receives a batch in one call, has each datagram handled, and sends the replies in one call
(sockd.net.udp.table); for a function, the table does all of that as long as nothing is special.
sockd.net.udp.screening decides which datagrams are handled, sockd.net.udp.replies what is sent.  If handlers take
longer than a turn has, the rest of the batch is the first of the next turn, and batches become smaller: what lies in
the kernel stays there if the process dies.
"""

from __future__ import annotations

import logging
import math
import os
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.connection.codec import reply_bytes
from sockd.net.kernel import SHORTAGES, is_hung_up
from sockd.net.listen.listener import DatagramCounts, ListenerCounts
from sockd.net.listen.listener_state import GONE, LISTENER, ListenerState
from sockd.net.loop.thread_pool import Work
from sockd.net.udp.addresses import read_name, request_pktinfo
from sockd.net.udp.replies import Replies
from sockd.net.udp.report import DatagramLog
from sockd.net.udp.screening import Screening
from sockd.net.udp.source import DatagramSource, LineFunction, SourcedAnswer, call_outcome, checked
from sockd.net.udp.table import DATAGRAMS_A_TURN, DatagramTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.address.sockaddr import SockAddr
    from sockd.net.kernel import AcceptQueue
    from sockd.net.listen.bind import ServerSocket
    from sockd.net.loop.loop import EventLoop
    from sockd.net.loop.thread_pool import ThreadPool
    from sockd.net.udp.rules import DatagramRules
    from sockd.net.udp.source import Outcome, Reply

TURN_SECONDS = 0.005
"""Of one turn for the datagrams of one socket; one of them at least is answered."""
FUNCTION_DATAGRAMS_A_TURN = 512
"""About 1 ms; a receive buffer of the default size holds 277 short ones."""
DATAGRAMS_AT_CLOSE = 4096
"""More than a receive buffer of the default size holds, and an end when they keep coming."""
PAUSE_SECONDS = 0.05
"""A shortage ends when others release, not by trying again."""


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

    Attributes:
        socket: that of `listening`.
        table: the datagrams of the batch that is handled.
        service: as given.
        tally: what became of all datagrams.
    """

    def __init__(
        self,
        listening: ServerSocket,
        answer: Callable[[bytes], Reply] | LineFunction | SourcedAnswer,
        loop: EventLoop,
        service: str,
        rules: DatagramRules,
        former: DatagramListener | None = None,
        pool: ThreadPool | None = None,
        died: Callable[[], None] = lambda: None,
    ) -> None:
        self._listening = listening
        self._socket = self.socket = listening.socket
        ends_lines = False
        self._sourced: SourcedAnswer | None = None
        self._answer: Callable[[bytes], object] = checked
        if isinstance(answer, SourcedAnswer):
            self._sourced = answer.bind(self)
        elif isinstance(answer, LineFunction) and pool is None:
            ends_lines, self._answer = True, answer.function
        else:
            self._answer = answer
        self._state = ListenerState.NEW
        self._loop = loop
        self._pool = pool
        self._died = died
        self._unanswered = 0
        self.service = service
        self.tally: DatagramCounts = former.tally if former else DatagramCounts()
        with_senders = self._sourced is not None or pool is not None
        self.table = self._make_table(ends_lines=ends_lines, with_senders=with_senders)
        self._log = DatagramLog(listening, service, loop.clock)
        self._screening = Screening(self.table, rules, listening.socket.getsockname(), self.tally, self._log)
        self._replies = Replies(listening.socket, self.table, rules, loop.clock, self.tally, self._log)
        self._is_function = not with_senders
        self._datagrams_a_turn = FUNCTION_DATAGRAMS_A_TURN if self._is_function else DATAGRAMS_A_TURN
        self._is_serving = False

    def _make_table(self, **options: bool) -> DatagramTable:
        return DatagramTable(self._socket, reports_pktinfo=request_pktinfo(self._socket), **options)

    def __str__(self) -> str:
        return str(self._listening)

    def start(self) -> None:
        """Start receiving; where a source is told of it, in the next turn, in which asyncio's loop runs."""
        if self._sourced is None or self._state is ListenerState.OPEN:
            self._start()
        else:
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._open()
        if self._state is ListenerState.OPEN:  # and was not closed before, or by the handler in reply
            self._loop.remove_reader(self._socket.fileno())
            self._loop.add_reader(self._socket.fileno(), self._receive)

    def _open(self) -> None:
        """Tell the source that datagrams come, once."""
        if self._state is ListenerState.NEW:
            self._state = LISTENER.step(self._state, ListenerState.OPEN)
            if self._sourced is not None:
                self._attempt(self._sourced.started)

    def detach(self) -> None:
        """Answer the rest of the batch and receive no more, because another listener continues on the socket."""
        self.table.stops = True
        self._leave(ListenerState.LEFT, partial(self._serve_batch, math.inf))

    def _leave(self, then: ListenerState, serve_rest: Callable[[], object]) -> None:
        """Receive no more, and answer a rest; again does nothing, also where a handler does it in the middle."""
        if self._state in GONE:
            return
        self._loop.remove_reader(self._socket.fileno())
        was_open, self._state = self._state is ListenerState.OPEN, LISTENER.step(self._state, then)
        serve_rest()
        if was_open and self._sourced is not None:
            self._attempt(self._sourced.closed)

    def _attempt(self, callback: Callable[..., object], *arguments: object) -> None:
        """Call a handler, whose failure ends nothing."""
        try:
            callback(*arguments)
        except BaseException as error:
            self._log.report_datagram(logging.ERROR, "handler failed", error=error)

    def accept_rest(self) -> None:
        """Answer what has arrived."""
        self._open()
        self._run_turn(DATAGRAMS_AT_CLOSE, math.inf)

    @property
    def is_idle(self) -> bool:
        """Return whether no reply is being made."""
        return not self._unanswered and not self.table.has_rest

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
        if self._state in GONE:
            return  # a reload in this very turn has put another in its place
        if not self.table.has_rest:  # that has its callback already
            self._run_short_turn()

    def _serve_rest(self) -> None:
        if self.table.has_rest:
            self._run_short_turn()

    def _run_short_turn(self) -> None:
        self._run_turn(self._datagrams_a_turn, self._loop.clock() + TURN_SECONDS)
        self._replies.look_for_loops()

    @property
    def _room(self) -> int:
        """How many datagrams can be handled without a wait."""
        if self._sourced is not None:
            return self._sourced.room
        if self._pool is not None:
            return 0 if self._pool.is_full(self) else 1
        return DATAGRAMS_A_TURN

    def _run_turn(self, left: int, end: float) -> None:
        """Handle the rest of the last batch, then batches of what has come, up to `left` datagrams until `end`."""
        try:
            self._run_batches(left, end)
        finally:
            if self.table.has_rest:  # in the next turn: callbacks of this one are still to run
                self._loop.call_soon(partial(self._loop.call_soon, self._serve_rest))

    def _run_batches(self, left: int, end: float) -> None:
        before = self.tally.received
        while (not self.table.has_rest or self._serve_batch(end)) and left > 0:
            if self._state is ListenerState.LEFT:  # by what a handler did: what comes now is another's
                return
            self._replies.flush()  # of a batch whose handler has led here
            self._screening.refresh()
            if self._is_function and not self._replies.are_judged:
                received = self._exchange(left, end)
            else:
                received = self._receive_batch(left)
            if not received:
                if self.tally.received == before and is_hung_up(self._socket):
                    self._die()
                return
            left -= received

    def _wait_for_room(self) -> None:
        gate = self._pool if self._sourced is None else self._sourced
        assert gate is not None
        self._loop.remove_reader(self._socket.fileno())
        gate.when_free(self._resume)  # until then the kernel keeps some, and drops the rest

    def _receive_batch(self, left: int) -> int:
        """Receive a batch, which is empty where the socket had an error; 0: nothing is left for this turn."""
        wanted = min(left, self.table.batch_size, self._room)
        if wanted <= 0:
            self._wait_for_room()
            return 0
        try:
            received = self.table.receive(wanted)
        except OSError as error:  # the ICMP answer to an earlier datagram, as ECONNREFUSED
            return self._receive_failed(error)
        self.tally.received += received
        return received

    def _exchange(self, left: int, end: float) -> int:
        """Receive, handle and answer in one call; return how many were received, 0: nothing is left for this turn."""
        done = self.table.exchange(left, self._answer, self._loop.clock, end)
        received, answered, error, is_late, last, odd, failures = done
        self.tally.received += received
        self._replies.exchanged(answered, last, failures)
        if odd is not None:
            self._serve_odd(*odd)
        if error:
            return self._receive_failed(OSError(error, os.strerror(error)))
        is_drained = received < left and odd is None and failures is None and not self.table.has_rest
        return 0 if is_late or is_drained else received

    def _serve_odd(self, place: int, reply: object, error: BaseException | None) -> None:
        """Handle what a function has done that is not as usual."""
        try:
            if error is not None:
                raise error
            self._replies.add(place, reply_bytes(reply))
        except BaseException as failure:
            self._failed(place, failure)
        self._replies.flush()

    def _receive_failed(self, error: OSError) -> int:
        self._log.report_datagram(logging.DEBUG, "receive failed", {"error": str(error)})
        if self._sourced is not None:
            self._attempt(self._sourced.failed, error)
        if error.errno in SHORTAGES:
            self._pause()
            return 0
        return 1 if self._socket.fileno() >= 0 else 0

    def _serve_batch(self, end: float) -> bool:
        """Handle the rest of the batch, and send the replies; False: it is `end`, and a rest may be left."""
        table, clock = self.table, self._loop.clock
        if not self._screening.is_current:
            table.plain = 0  # each is judged once more
        is_outer, self._is_serving = not self._is_serving, True
        first, is_in_time = table.next, True
        try:
            while is_in_time and table.next < len(table.payloads):
                place = table.next
                table.next = place + 1
                if place < table.plain or self._screening.admits(place):
                    self._serve(table.payloads[place], place)
                is_in_time = clock() < end
        finally:
            self._is_serving = not is_outer
            self._replies.flush()
        if table.next > first:
            table.adapt_batch(is_in_time=is_in_time)
        return is_in_time

    def _die(self) -> None:
        """Give up a socket that others have shut down: it is always ready, and nothing can arrive (udp(7))."""
        self._log.report_datagram(logging.ERROR, "listening socket shut down by another process, no longer listening")
        self._leave(ListenerState.DEAD, self._listening.close)
        self._died()

    def _pause(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._state is ListenerState.OPEN:
            self._start()

    # ---- answering

    def _serve(self, datagram: bytes, place: int) -> None:
        if self._sourced is not None:
            source = DatagramSource(self, place)
            self._send_outcome(source, call_outcome(partial(self._sourced.answer, datagram, source)))
        elif self._pool is not None:
            self._serve_in_thread(self._pool, datagram, DatagramSource(self, place))
        else:
            try:
                reply = self._answer(datagram)
                if reply is not None:
                    self._replies.add(place, reply_bytes(reply))
            except BaseException as error:
                self._failed(place, error)

    def _failed(self, place: int, error: BaseException) -> None:
        """Send the last words of a handler, or tell of its failure."""
        one = self.table.look(place)
        words, failure = call_outcome(partial(_raise, error))
        if words is not None:
            self._replies.send_later(words, one.name, one.control)  # as they are, without an ending
        elif failure is not None:
            self._report_failure(one.name, one.size, failure)
        BaseException.with_traceback(error, None)  # as in _report_failure(), where last words were sent

    def _serve_in_thread(self, pool: ThreadPool, datagram: bytes, source: DatagramSource) -> None:
        def done(outcome: Outcome) -> None:
            try:
                self._send_outcome(source, outcome)
            finally:
                self._one_less()

        self._unanswered += 1
        if not pool.submit(Work(self.service, lambda: call_outcome(partial(self._answer, datagram)), done), self):
            self._one_less()
            self.tally.failed += 1

    def _send_outcome(self, source: DatagramSource, outcome: Outcome) -> None:
        reply, error = outcome
        if error is not None:
            self._report_failure(source.name, source.size, error)
        elif reply is not None:
            self.send_back(reply, source)

    def _report_failure(self, name: bytes, size: int, error: BaseException) -> None:
        self.tally.failed += 1
        self._log.report_datagram(logging.ERROR, "handler failed", {"frame_bytes": size}, error, peer=read_name(name))
        BaseException.with_traceback(error, None)  # else a circle: frames of which one has it by name

    def one_more(self) -> None:
        """Note that an answer is being made, for which a stop waits (for a source)."""
        self._unanswered += 1
        self._loop.unfinished.add(self)

    def answer_later(self, source: DatagramSource, reply: object, error: BaseException | None) -> None:
        """Send an answer that was being made, or tell why there is none (for a source)."""

        def outcome() -> object:
            if error is not None:
                raise error
            return reply

        try:
            if self._socket.fileno() >= 0:
                self._send_outcome(source, call_outcome(outcome))
        finally:
            self._one_less()

    def send_back(self, data: bytes, source: DatagramSource) -> None:
        """Send a datagram to a source, with the others of the batch if its own is of it; the rules apply."""
        if self._is_serving and source.generation == self.table.generation:
            self._replies.add(source.place, data)
        elif self._socket.fileno() >= 0:
            self._replies.send_later(data, source.name, source.control)

    def send_to(self, data: bytes, receiver: SockAddr) -> None:
        """Send a datagram to anybody; the rules for answers apply."""
        if self._socket.fileno() >= 0:
            self._replies.send_to(data, receiver)

    def _one_less(self) -> None:
        self._unanswered -= 1
        if not self._unanswered:
            self._loop.unfinished.discard(self)
        if self._state is ListenerState.CLOSED and not self._unanswered:
            self._listening.close()

    # ---- the end

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
        if self._state in GONE:
            return
        self._open()
        self._leave(ListenerState.CLOSED, self.accept_rest)
        if not self._unanswered:
            self._listening.close()


def _raise(error: BaseException) -> None:
    raise error
