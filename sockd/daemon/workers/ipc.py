# SPDX-License-Identifier: MIT
"""Requests and replies between two processes of one daemon, over a socket pair.

Both are lines of sockd.wire.control.  Neither end blocks: each works in its loop, and keeps what the other has not
read yet; the caller decides how long to wait for a reply.
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
MAX_UNREAD_BYTES = 4 << 20
"""Of what nobody has asked for, while the other end does not read."""
HAS_ENDED = ControlResponse(error="has exited", exit_code=EX_TEMPFAIL)
"""The reply in place of one that will never come."""


class RequestChannel:
    """The requesting end; replies come in the order of the requests.

    Args:
        sock: one of a pair of stream sockets; closed by close().
        loop: in which replies arrive.
        unasked: gets each line first, and returns whether it was unsolicited.
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
        """Return the number of requests without a reply."""
        return len(self._waiting)

    def expect(self, then: Callable[[ControlResponse], None]) -> None:
        """Call `then` with the next reply, or with HAS_ENDED if none will come."""
        self._waiting.append(then)

    def ask(self, question: ControlRequest, then: Callable[[ControlResponse], None]) -> None:
        """Send a request, and call `then` with the reply, later."""
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
        """Process what has arrived; False when no more will."""
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

    def receive_now(self) -> None:
        """Process replies that have arrived and were not read yet."""
        if self._socket.fileno() >= 0:
            self._receive()

    def _hear(self, piece: bytes) -> None:
        *lines, self._accepted = (self._accepted + piece).split(b"\n")
        for line in lines:
            # else those behind it would be answers to other questions
            self._loop.attempt(partial(self._receive_answer, line))

    def _receive_answer(self, line: bytes) -> None:
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
        """Close it in a forked process, and leave it to the parent."""
        self._socket.close()

    def close(self) -> None:
        """Read what the other has sent, and close it: the other end sees that there will be no more requests."""
        if self._socket.fileno() < 0:
            return
        with suppress(OSError):  # of which one says that there is no more
            while piece := self._socket.recv(RECEIVE_BYTES):
                self._hear(piece)
        self._loop.watch_fd(self._socket.fileno(), 0, self._ready)
        self._socket.close()
        self._give_up()


class ResponseChannel:
    """The replying end.

    Args:
        sock: the other of the pair; closed by close().
        loop: in which requests arrive.
        answer: from a request line to a reply.
        ended: called when the requesting end is closed.
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
            pass  # of a line that send_now() has sent already
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
            answer = self._answer(line).encode()  # which may send lines of its own: they stand before it
            self._left += answer

    def send_now(self, line: ControlResponse) -> None:
        """Send a line that nobody has asked for, at once or not at all: the loop may not turn again."""
        if self._socket.fileno() < 0:
            return
        data = self._left + line.encode()  # replies of this turn have not left yet
        with suppress(OSError):
            self._left = data[self._socket.send(data) :]

    def send(self, result: object) -> bool:
        """Send what nobody has asked for, behind all replies; False, and nothing is, while too much is unread."""
        if self._socket.fileno() < 0 or len(self._left) > MAX_UNREAD_BYTES:
            return False
        self._left += ControlResponse(result).encode()
        self._watch()
        return True

    def end_with(self, last: ControlResponse) -> None:
        """Send a last line, after all replies; BLOCKS.

        Raises:
            OSError: the other end is closed.
        """
        self._socket.setblocking(True)
        self._socket.sendall(self._left + last.encode())
        self._left = b""

    def close(self) -> None:
        """Stop replying; again does nothing."""
        if self._socket.fileno() >= 0:
            self._loop.watch_fd(self._socket.fileno(), 0, self._ready)
            self._socket.close()
