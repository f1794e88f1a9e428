# SPDX-License-Identifier: MIT
"""The control socket: who may ask, and how questions come and answers go, beside all that is served.

It is a Unix socket of mode 0600, and whoever connects is root or the user that started the daemon, as the kernel
says (SO_PEERCRED, unix(7)).  Its connections are no rows of the table and a spare descriptor is kept for them, so that
a daemon that is full can still be asked.  What a verb does is the daemon's; here it is a function from words to
a result.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from sockd.errors import EX_NOPERM, EX_OSERR, EX_SOFTWARE, EX_USAGE, SockdError, fault
from sockd.net.address.address import Address
from sockd.net.kernel import NO_DESCRIPTOR, peer_credentials
from sockd.net.listen.bind import ServerSocket, open_listener
from sockd.net.loop.deadline import Deadline
from sockd.settings.listen import ListenSettings
from sockd.wire.control import (
    MAX_QUESTION_BYTES,
    ControlError,
    ControlRequest,
    ControlResponse,
    read_question,
    read_trusted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from sockd.net.loop.defects import Defects
    from sockd.net.loop.loop import EventLoop

    Words = dict[str, Any]
    Verb = Callable[[Words], object]

logger = logging.getLogger("sockd.control")

MODE = 0o600
BACKLOG = 16
MOST_AT_ONCE = 16
SECONDS = 10.0
"""For a question to come whole and its answer to be taken."""
RECEIVE_BYTES = 1 << 18


def listen(path: str, stack: ExitStack) -> ServerSocket:
    """Open the control socket, with the rights of whoever starts the daemon, who owns it.

    Raises:
        SystemFault, PermissionFault, TemporaryFault: it cannot be had, or another process serves it.
    """
    (listening,) = open_listener(Address("unix", path=path), ListenSettings(backlog=BACKLOG))
    stack.callback(listening.close)
    try:
        os.chmod(path, MODE)
    except OSError as error:
        raise fault(error, f"daemon.control: {path}") from None
    return listening


class Deferred:
    """The answer to a question, once it is known."""

    def __init__(self) -> None:
        self._say: Callable[[ControlResponse], None] | None = None
        self._answer: ControlResponse | None = None

    def then(self, say: Callable[[ControlResponse], None]) -> None:
        """Call back with the answer, at once if it is known."""
        if self._answer is not None:
            say(self._answer)
        else:
            self._say = say

    def settle(self, answer: ControlResponse) -> None:
        """Know the answer."""
        self._answer = answer
        if self._say is not None:
            self._say(answer)


class ControlServer:
    """Answers on the control socket.

    Args:
        listening: of listen().
        loop: in which all happens.
        users: uids that may ask.
        verbs: by name; a SockdError that one raises is the answer, and a Later has it; whatever else is raised
            is a defect, and costs the question its answer.
    """

    def __init__(
        self, listening: ServerSocket, loop: EventLoop, users: frozenset[int], verbs: Mapping[str, Verb]
    ) -> None:
        self._listening = listening
        self._socket = listening.socket
        self._loop = loop
        self._users = users
        self._verbs = verbs
        self._open: set[_Asking] = set()
        self._spare: socket.socket | None = None
        self._keep_spare()
        loop.add_reader(self._socket.fileno(), self._accept, urgent=True)

    def _keep_spare(self) -> None:
        if self._spare is None:
            try:
                self._spare = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            except OSError:
                self._spare = None  # the end of the next conversation gives one back

    def _accept(self) -> None:
        try:
            sock, _ = self._socket.accept()
        except OSError as error:
            if error.errno not in NO_DESCRIPTOR or self._spare is None:
                return
            self._spare.close()
            self._spare = None
            self._accept()
            return
        sock.setblocking(False)
        self._open.add(_Asking(sock, self._loop, self._answer, self._ended))
        if len(self._open) >= MOST_AT_ONCE:
            self._loop.remove_reader(self._socket.fileno())

    def __len__(self) -> int:
        """Return how many ask."""
        return len(self._open)

    def _ended(self, asking: _Asking) -> None:
        if len(self._open) == MOST_AT_ONCE and self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept, urgent=True)
        self._open.discard(asking)
        self._keep_spare()

    def _answer(self, sock: socket.socket, line: bytes) -> ControlResponse | Deferred:
        user = _user_of(sock)
        if user is not None and user not in self._users:
            logger.warning("control refused", extra={"event": {"uid": user}})
            return ControlResponse(
                error=f"uid {user} may not control this daemon; its owner and root may", exit_code=EX_NOPERM
            )
        try:
            question = read_question(line)
            if question.verb not in ("status", "connections"):
                logger.info("control", extra={"event": {"verb": question.verb, "uid": user}})
        except ControlError as error:
            return ControlResponse(error=str(error), exit_code=EX_USAGE)
        return answer(question, self._verbs, self._loop.defects)

    def renew(self, listening: ServerSocket) -> None:
        """Answer on another socket from now on, for nobody can find this one."""
        self._loop.remove_reader(self._socket.fileno())
        self._listening.close()
        self._listening, self._socket = listening, listening.socket
        self._loop.add_reader(self._socket.fileno(), self._accept)

    def leave(self) -> None:
        """Close, in a process that was forked, what the one it was forked from goes on with."""
        self._socket.close()
        for asking in self._open:
            asking.leave()
        if self._spare is not None:
            self._spare.close()

    def hand_over(self) -> None:
        """Answer those who have asked, and nobody else: another process has the socket."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def close(self) -> None:
        """Answer nobody any more, and remove the socket."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        for asking in list(self._open):
            asking.close()
        if self._spare is not None:
            self._spare.close()
        self._listening.close()


def answer_to(line: bytes, verbs: Mapping[str, Verb], defects: Defects) -> ControlResponse:
    """Answer a line of another process of ours that only these verbs may be in, at once."""
    try:
        said = answer(read_trusted(line, tuple(verbs)), verbs, defects)
    except ControlError as error:
        return ControlResponse(error=str(error), exit_code=EX_USAGE)
    assert isinstance(said, ControlResponse)
    return said


def answer(question: ControlRequest, verbs: Mapping[str, Verb], defects: Defects) -> ControlResponse | Deferred:
    """Do what is asked; errors are answers, whatever they are."""
    try:
        result = verbs[question.verb](question.words)
        return result if isinstance(result, Deferred) else ControlResponse(result)
    except SockdError as error:
        return ControlResponse(error=str(error), exit_code=error.exit_code)
    except OSError as error:  # such as: no descriptor is left
        return ControlResponse(error=str(fault(error, question.verb)), exit_code=EX_OSERR)
    except BaseException as error:
        defects.report(error)
        return ControlResponse(
            error=f"{question.verb}: internal error, see the log: {type(error).__name__}", exit_code=EX_SOFTWARE
        )


def _user_of(sock: socket.socket) -> int | None:
    told = peer_credentials(sock)
    return None if told is None else told.uid  # None: the mode of the socket alone decides


class _Asking:
    """One connection: a question comes, an answer goes."""

    def __init__(
        self,
        sock: socket.socket,
        loop: EventLoop,
        answer: Callable[[socket.socket, bytes], ControlResponse | Deferred],
        ended: Callable[[_Asking], None],
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._answer = answer
        self._ended = ended
        self._accepted = bytearray()
        self._left = memoryview(b"")
        self._deadline = Deadline(loop, SECONDS, self.close)
        loop.add_reader(sock.fileno(), loop.guarded(self._readable, self.close), urgent=True)

    def _readable(self) -> None:
        try:
            piece = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self._accepted += piece
        if not piece or len(self._accepted) > MAX_QUESTION_BYTES:
            self.close()
        elif piece.endswith(b"\n"):
            self._loop.remove_reader(self._socket.fileno())
            answer = self._answer(self._socket, bytes(self._accepted))
            if isinstance(answer, Deferred):
                self._deadline.cancel()
                answer.then(self._say)
            else:
                self._say(answer)

    def _say(self, answer: ControlResponse) -> None:
        if self._socket.fileno() < 0:
            return
        self._deadline.cancel()
        self._deadline = Deadline(self._loop, SECONDS, self.close)
        self._left = memoryview(answer.encode())
        self._loop.add_writer(self._socket.fileno(), self._loop.guarded(self._writable, self.close), urgent=True)

    def _writable(self) -> None:
        try:
            self._left = self._left[self._socket.send(self._left) :]
        except BlockingIOError:
            return
        except OSError:
            self._left = memoryview(b"")
        if not self._left:
            self.close()

    def leave(self) -> None:
        """Close the socket alone."""
        self._socket.close()

    def close(self) -> None:
        """End it; again does nothing."""
        if self._socket.fileno() < 0:
            return
        self._deadline.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        self._ended(self)


__all__ = ["ControlServer", "Deferred", "answer_to", "listen"]
