# SPDX-License-Identifier: MIT
"""Questions and answers between two processes of one daemon, over a socket pair.

Both are lines of sockd.wire.control.  Neither end waits: each works from inside its loop, and keeps what the other
has not taken yet; for how long an answer is wanted is for those who ask.
"""

from __future__ import annotations

import selectors
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import EX_OSERR, EX_TEMPFAIL
from sockd.wire.control import ControlError, ControlResponse, read_answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop.loop import EventLoop
    from sockd.wire.control import ControlRequest

RECEIVE_BYTES = 1 << 18
HAS_ENDED = ControlResponse(error="has ended", exit_code=EX_TEMPFAIL)
"""The answer of one that will give none."""


class RequestChannel:
    """The end that asks; answers come in the order of the questions.

    Args:
        sock: one of a pair of stream sockets; closed by close().
        loop: in which answers come.
        unasked: is given each answer first, and says whether it was one to no question.
    """

    def __init__(self, sock: socket.socket, loop: EventLoop, unasked: Callable[[ControlResponse], bool]) -> None:
        self._socket = sock
        self._loop = loop
        self._unasked = unasked
        self._waiting: deque[Callable[[ControlResponse], None]] = deque()
        self._accepted = b""
        self._left = b""
        sock.setblocking(False)
        self._watch()

    def __len__(self) -> int:
        """Return how many questions have not been answered."""
        return len(self._waiting)

    def expect(self, then: Callable[[ControlResponse], None]) -> None:
        """Have the next answer told to `then`; one that says HAS_ENDED where none will come."""
        self._waiting.append(then)

    def ask(self, question: ControlRequest, then: Callable[[ControlResponse], None]) -> None:
        """Ask, and call `then` with the answer, later."""
        self._waiting.append(then)
        self._left += question.encode()
        self._watch()

    def _watch(self) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._left else 0)
        self._loop.watch_fd(self._socket.fileno(), events, self._ready)

    def _ready(self) -> None:
        try:
            if self._left:
                self._left = self._left[self._socket.send(self._left) :]
        except BlockingIOError:
            pass
        except OSError:
            self._left = b""  # it has ended, which is seen by its last words
        if self._receive() and self._socket.fileno() >= 0:
            self._watch()

    def _receive(self) -> bool:
        """Take what has come; False when no more will."""
        try:
            piece = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            piece = b""
        if not piece:
            self._loop.watch_fd(self._socket.fileno(), 0, self._ready)
            self._give_up()
            return False
        self._hear(piece)
        return True

    def _hear(self, piece: bytes) -> None:
        *lines, self._accepted = (self._accepted + piece).split(b"\n")
        for line in lines:
            self._loop.attempt(partial(self._take, line))  # else those behind it would be answers to other questions

    def _take(self, line: bytes) -> None:
        try:
            answer = read_answer(line)
        except ControlError as error:
            answer = ControlResponse(error=str(error), exit_code=EX_OSERR)
        if not self._unasked(answer) and self._waiting:
            self._waiting.popleft()(answer)

    def _give_up(self) -> None:
        while self._waiting:
            self._loop.attempt(partial(self._waiting.popleft(), HAS_ENDED))

    def leave(self) -> None:
        """Close it, in a process that was forked, and leave it to the one that goes on with it."""
        self._socket.close()

    def close(self) -> None:
        """Hear what the other has said, and end it: the other learns that nobody asks any more."""
        if self._socket.fileno() < 0:
            return
        with suppress(OSError):  # of which one says that there is no more
            while piece := self._socket.recv(RECEIVE_BYTES):
                self._hear(piece)
        self._loop.watch_fd(self._socket.fileno(), 0, self._ready)
        self._socket.close()
        self._give_up()


class ResponseChannel:
    """The end that answers.

    Args:
        sock: the other of the pair; closed by close().
        loop: in which questions come.
        answer: from a line to what is answered.
        ended: called when nobody asks any more.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: EventLoop,
        answer: Callable[[bytes], ControlResponse],
        ended: Callable[[], None],
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._answer = answer
        self._ended = ended
        self._accepted = b""
        self._left = b""
        sock.setblocking(False)
        self._watch()

    def _watch(self) -> None:
        events = selectors.EVENT_WRITE if self._left else selectors.EVENT_READ
        self._loop.watch_fd(self._socket.fileno(), events, self._ready)

    def _ready(self) -> None:
        try:
            if self._left:
                self._left = self._left[self._socket.send(self._left) :]
            else:
                self._receive()
        except BlockingIOError:
            return
        except OSError:
            self.close()
            self._ended()
            return
        if self._socket.fileno() >= 0:
            self._watch()

    def _receive(self) -> None:
        piece = self._socket.recv(RECEIVE_BYTES)
        if not piece:
            self.close()
            self._ended()
            return
        *lines, self._accepted = (self._accepted + piece).split(b"\n")
        for line in lines:
            self._left += self._answer(line).encode()

    def end_with(self, last: ControlResponse) -> None:
        """Say a last thing, behind what has been answered; BLOCKS.

        Raises:
            OSError: nobody hears it.
        """
        self._socket.setblocking(True)
        self._socket.sendall(self._left + last.encode())
        self._left = b""

    def close(self) -> None:
        """Answer no more; again does nothing."""
        if self._socket.fileno() >= 0:
            self._loop.watch_fd(self._socket.fileno(), 0, self._ready)
            self._socket.close()
