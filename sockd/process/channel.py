"""Questions and answers between two processes of one daemon, over a socket pair.

Both are lines of sockd.wire.control.  The one that asks waits, for a bounded time, and looks at nothing else
meanwhile; the one that answers does so from inside its loop, and keeps what the other has not taken yet.
"""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING

from sockd.errors import TemporaryFault
from sockd.wire.control import Answer, ControlError, Question, read_answer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.net.loop import EventLoop

RECEIVE_BYTES = 1 << 18


class Asking:
    """The end that asks.

    Args:
        sock: one of a pair of stream sockets, blocking; closed by close().
        who: for messages.
    """

    def __init__(self, sock: socket.socket, who: str) -> None:
        self._socket = sock
        self._who = who
        self._came = b""

    def ask(self, question: Question, seconds: float) -> Answer:
        """Ask, and wait for the answer; raises TemporaryFault as the two steps of it."""
        self.send(question)
        return self.receive(seconds)

    def send(self, question: Question) -> None:
        """Ask; receive() is to follow.

        Raises:
            TemporaryFault: the other has ended, or is too busy to be asked.
        """
        try:
            self._socket.sendall(question.encode())
        except OSError as error:
            raise TemporaryFault(f"{self._who}: {error.strerror or error}") from None

    def receive(self, seconds: float) -> Answer:
        """Wait for an answer, `seconds` for each of its pieces.

        Raises:
            TemporaryFault: it did not come; the other has ended, or is busy with something else.
        """
        self._socket.settimeout(seconds)
        try:
            while b"\n" not in self._came:
                piece = self._socket.recv(RECEIVE_BYTES)
                if not piece:
                    raise TemporaryFault(f"{self._who}: has ended")
                self._came += piece
        except TimeoutError:
            raise TemporaryFault(f"{self._who}: did not answer within {seconds:g} s") from None
        except OSError as error:
            raise TemporaryFault(f"{self._who}: {error.strerror or error}") from None
        line, _, self._came = self._came.partition(b"\n")
        try:
            return read_answer(line)
        except ControlError as error:
            raise TemporaryFault(f"{self._who}: {error}") from None

    def close(self) -> None:
        """End it: the other learns that nobody asks any more."""
        self._socket.close()


class Answering:
    """The end that answers.

    Args:
        sock: the other of the pair; closed by close().
        loop: in which questions come.
        answer: from a line to what is answered.
        ended: called when nobody asks any more.
    """

    def __init__(
        self, sock: socket.socket, loop: EventLoop, answer: Callable[[bytes], Answer], ended: Callable[[], None]
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._answer = answer
        self._ended = ended
        self._came = b""
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
        *lines, self._came = (self._came + piece).split(b"\n")
        for line in lines:
            self._left += self._answer(line).encode()

    def close(self) -> None:
        """Answer no more; again does nothing."""
        if self._socket.fileno() >= 0:
            self._loop.watch_fd(self._socket.fileno(), 0, self._ready)
            self._socket.close()
