# SPDX-License-Identifier: MIT
"""The control socket: access control, requests and replies, independent of what is served.

It is a Unix socket of mode 0600, and only root and the user that started the daemon may connect, as the kernel reports
them (SO_PEERCRED, unix(7)).  Its connections are not rows of the table, and they have a spare descriptor, so that a
daemon at its limits still answers.  The daemon implements the verbs; here each is a function from arguments to a
result.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.daemon.control.streams import Stream
from sockd.errors import EX_NOPERM, EX_OSERR, EX_SOFTWARE, EX_TEMPFAIL, EX_USAGE, SockdError, fault, under_key
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
    JsonObject,
    read_question,
    read_trusted,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack

    from sockd.net.loop.defects import Defects
    from sockd.net.loop.loop import EventLoop

    Words = JsonObject
    Verb = Callable[[Words], object]

logger = logging.getLogger("sockd.control")

MODE = 0o600
BACKLOG = 16
MAX_AT_ONCE = 16
SECONDS = 10.0
"""Time limit for a complete request and for reading its reply."""
STALLED_SECONDS = 0.5
"""A loop that stands still for so long does not answer; and a client has so long to ask then."""
RECEIVE_BYTES = 1 << 18


def listen(path: str, stack: ExitStack) -> ServerSocket:
    """Open the control socket, with the privileges of the starting user, who owns it.

    Raises: SystemFault, PermissionFault, TemporaryFault: it cannot be opened, or another process serves it.
    """
    with under_key("daemon", "control"):
        (listening,) = open_listener(Address("unix", path=path), ListenSettings(backlog=BACKLOG))
        stack.callback(listening.close)
        try:
            os.chmod(path, MODE)
        except OSError as error:
            raise fault(error, path) from None
    return listening


class Deferred:
    """The reply to a request, once it is known."""

    def __init__(self) -> None:
        self._say: Callable[[ControlResponse], None] | None = None
        self._answer: ControlResponse | None = None

    def then(self, say: Callable[[ControlResponse], None]) -> None:
        """Call back with the reply, at once if it is known."""
        if self._answer is not None:
            say(self._answer)
        else:
            self._say = say

    def resolve(self, answer: ControlResponse) -> None:
        """Set the reply."""
        self._answer = answer
        if self._say is not None:
            self._say(answer)

    def fail(self, verb: str) -> None:
        """Set an error as the reply: what was to find it has failed, and that is reported."""
        self.resolve(ControlResponse(error=f"{verb}: internal error, see the log", exit_code=EX_SOFTWARE))


class ControlServer:
    """Serves the control socket.

    Args:
        listening: of listen().
        loop: runs all callbacks.
        users: uids that may connect.
        verbs: by name; a ControlResponse or a SockdError is the reply, a Deferred has it later, a Stream goes on; any
            other exception is a defect, and the request gets an error.
    """

    def __init__(
        self, listening: ServerSocket, loop: EventLoop, users: frozenset[int], verbs: Mapping[str, Verb]
    ) -> None:
        self._listening = listening
        self._socket = listening.socket
        self._loop = loop
        self._users = users
        self._verbs = verbs
        self._open: dict[_Asking, None] = {}  # the oldest first
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
        asking = _Asking(sock, self._loop, self._answer, self._ended)
        self._open[asking] = None
        if len(self._open) >= MAX_AT_ONCE:
            self._make_room()
        asking.read_at_once()

    def _make_room(self) -> None:
        """End the oldest one that has not asked yet; where all have, the next ones wait."""
        silent = next((one for one in self._open if not one.has_asked), None)
        if silent is None:
            self._loop.remove_reader(self._socket.fileno())
        else:
            silent.close()

    def __len__(self) -> int:
        """Return the number of open control connections."""
        return len(self._open)

    def _ended(self, asking: _Asking) -> None:
        if len(self._open) == MAX_AT_ONCE and self._socket.fileno() >= 0:
            self._loop.add_reader(self._socket.fileno(), self._accept, urgent=True)
        self._open.pop(asking, None)
        self._keep_spare()

    def _answer(self, sock: socket.socket, line: bytes) -> ControlResponse | Deferred | Stream:
        user = _peer_uid(sock)
        if user is not None and user not in self._users:
            logger.warning("control refused", extra={"event": {"uid": user}})
            return ControlResponse(
                error=f"uid {user} may not control this daemon; only its owner and root may", exit_code=EX_NOPERM
            )
        try:
            question = read_question(line)
            if question.verb not in ("status", "connections"):
                logger.info("control", extra={"event": {"verb": question.verb, "uid": user}})
        except ControlError as error:
            return ControlResponse(error=str(error), exit_code=EX_USAGE)
        return answer(question, self._verbs, self._loop.defects)

    def answer_stalled(self, seconds: float, place: Mapping[str, str]) -> None:
        """Answer who asks while the loop stands still, in the handler of a signal: who hangs, and where.

        Only `stop` is done: as TERM, which ends the process in time whatever it does (sockd.process.stop_bound).
        """
        if seconds < STALLED_SECONDS or self._socket.fileno() < 0:
            return
        for _ in range(MAX_AT_ONCE):
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            with sock, suppress(OSError, ControlError):
                sock.settimeout(STALLED_SECONDS)
                sock.sendall(self._stalled(sock, seconds, place).encode())

    def _stalled(self, sock: socket.socket, seconds: float, place: Mapping[str, str]) -> ControlResponse:
        user = _peer_uid(sock)
        if user is not None and user not in self._users:
            return ControlResponse(error=f"uid {user} may not control this daemon", exit_code=EX_NOPERM)
        pid = os.getpid()
        if read_question(sock.recv(RECEIVE_BYTES)).verb == "stop":
            os.kill(pid, signal.SIGTERM)
            return ControlResponse({"stopping": True, "pid": pid})
        where = f"loop stalled at {place['at']} ({place['handler']}) for {seconds:.1f} s"
        remedy = "the log has its stack; sockctl stop ends it within stop_timeout"
        return ControlResponse(error=f"pid {pid} does not answer: {where}; {remedy}", exit_code=EX_TEMPFAIL)

    def renew(self, listening: ServerSocket) -> None:
        """Serve another socket from now on, because the path of this one was lost."""
        self._loop.remove_reader(self._socket.fileno())
        self._listening.close()
        self._listening, self._socket = listening, listening.socket
        self._loop.add_reader(self._socket.fileno(), self._accept, urgent=True)

    def leave(self) -> None:
        """Close, in a forked process, what the parent continues to use."""
        self._socket.close()
        for asking in self._open:
            asking.leave()
        if self._spare is not None:
            self._spare.close()

    def hand_over(self) -> None:
        """Finish the open requests only: another process has the socket, and who follows this one asks that."""
        self._end_streams("upgraded")
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _end_streams(self, why: str) -> None:
        for asking in list(self._open):
            asking.end_stream(why)

    def close(self) -> None:
        """Stop serving, and remove the socket."""
        self._end_streams("stopping")
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
        for asking in list(self._open):
            asking.close()
        if self._spare is not None:
            self._spare.close()
        self._listening.close()


def answer_to(line: bytes, verbs: Mapping[str, Verb], defects: Defects) -> ControlResponse:
    """Handle a line of another process of this daemon, which may use only these verbs, at once."""
    try:
        said = answer(read_trusted(line, tuple(verbs)), verbs, defects)
    except ControlError as error:
        return ControlResponse(error=str(error), exit_code=EX_USAGE)
    assert isinstance(said, ControlResponse)
    return said


def answer(
    question: ControlRequest, verbs: Mapping[str, Verb], defects: Defects
) -> ControlResponse | Deferred | Stream:
    """Run the request; every error is a reply."""
    try:
        result = verbs[question.verb](question.words)
        return result if isinstance(result, ControlResponse | Deferred | Stream) else ControlResponse(result)
    except SockdError as error:
        return ControlResponse(error=str(error), exit_code=error.exit_code)
    except OSError as error:  # such as: no descriptor is left
        return ControlResponse(error=str(fault(error, question.verb)), exit_code=EX_OSERR)
    except BaseException as error:
        defects.report(error)
        return ControlResponse(
            error=f"{question.verb}: internal error, see the log: {type(error).__name__}", exit_code=EX_SOFTWARE
        )


def _peer_uid(sock: socket.socket) -> int | None:
    credentials = peer_credentials(sock)
    return None if credentials is None else credentials.uid  # None: the mode of the socket alone decides


class _Asking:
    """One connection: a question comes, an answer goes.

    Attributes:
        has_asked: its question has come.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: EventLoop,
        answer: Callable[[socket.socket, bytes], ControlResponse | Deferred | Stream],
        ended: Callable[[_Asking], None],
    ) -> None:
        self._socket = sock
        self._loop = loop
        self._answer = answer
        self._ended = ended
        self._accepted = bytearray()
        self._left = memoryview(b"")
        self.has_asked = False
        self._stream: Stream | None = None
        self._deadline = Deadline(loop, SECONDS, self.close)
        self._read = loop.guarded(self._readable, self.close)
        loop.add_reader(sock.fileno(), self._read, urgent=True)

    def read_at_once(self) -> None:
        """Answer in this turn if the question has come already: beside a flood each turn is milliseconds."""
        self._loop.attempt(self._read)

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
            self.has_asked = True
            self._loop.remove_reader(self._socket.fileno())
            answer = self._answer(self._socket, bytes(self._accepted))
            match answer:
                case Deferred():
                    self._deadline.cancel()
                    answer.then(self._say)
                case Stream():
                    self._deadline.cancel()
                    self._stream = answer
                    answer.attach(self._socket, self._loop, self.close)
                case _:
                    self._say(answer)
                    self._writable()  # at once; the reply of a Deferred comes behind the turn that resolves it

    def end_stream(self, why: str) -> None:
        """End a reply that goes on."""
        if self._stream is not None:
            self._stream.end(why)
            self.close()

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
        """Close it; again does nothing."""
        if self._socket.fileno() < 0:
            return
        self._deadline.cancel()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._stream is not None:
            self._stream.close()
        self._ended(self)


__all__ = ["ControlServer", "Deferred", "Verb", "Words", "answer_to", "listen"]
