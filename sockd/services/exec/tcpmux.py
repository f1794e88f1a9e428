# SPDX-License-Identifier: MIT
"""tcpmux: a client names a program in its first line, and is passed on to it (RFC 1078).

The line is received up to its newline and no further, so that the program finds what follows it in the socket.  A
client that sends no line in time, or asks for what is not there, is answered "-" and closed.  The programs are those of
other services, each with its own user, limits and maximum of instances.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING

from sockd.errors import fault
from sockd.net.listen.handoff import Handoff
from sockd.net.listen.refusal import RefusalReason
from sockd.net.loop.deadline import Deadline
from sockd.settings.tcpmux import HELP, MAX_LINE_BYTES
from sockd.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.listen.handoff import WhenDone
    from sockd.net.loop.loop import EventLoop
    from sockd.services.exec.service import ProgramService

    Farewell = Callable[[socket.socket, SocketAddress, bytes], None]

logger = logging.getLogger("sockd.exec")

LINE_SECONDS = 30.0
"""In which the line has to arrive; RFC 1078 has no limit, and a client sends it at once."""


@dataclass(frozen=True)
class Choice:
    """A program that clients may ask for.

    Attributes:
        name: as it is listed.
        greets: whether sockd answers "+Go"; else the program answers.
        program: starts it.
    """

    name: str
    greets: bool
    program: ProgramService


@dataclass
class _Asking:
    """A client whose line is not complete."""

    sock: socket.socket
    peer: SocketAddress
    done: WhenDone
    deadline: Deadline
    line: bytearray = field(default_factory=bytearray)


class TcpmuxServer:
    """Receives the line of each connection, and passes it on.

    Args:
        service: its name, for the log.
        choices: what clients may ask for.
        loop: waits for their lines.
        farewell: sends a connection its last bytes, and closes it.
    """

    def __init__(self, service: str, choices: Sequence[Choice], loop: EventLoop, farewell: Farewell) -> None:
        self._service = service
        self._choices = {one.name.lower(): one for one in choices}
        self._loop = loop
        self._farewell = farewell
        self._asking: dict[int, _Asking] = {}
        loop.keepers.add(self)

    def serve(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Own a connected socket, until its program has ended."""
        sock.setblocking(False)
        fd = sock.fileno()
        abort = partial(self._lose, fd)
        self._loop.add_reader(fd, self._loop.guarded(partial(self._readable, fd), abort))
        late = partial(self._refuse, fd, "no line in time")
        self._asking[fd] = _Asking(sock, peer, done, Deadline(self._loop, LINE_SECONDS, late, abort))

    def _readable(self, fd: int) -> None:
        """Receive up to the end of the line, not a byte more."""
        one = self._asking[fd]
        try:
            seen = one.sock.recv(MAX_LINE_BYTES - len(one.line), socket.MSG_PEEK)
            end = seen.find(b"\n") + 1
            one.line += one.sock.recv(end or len(seen))
        except BlockingIOError:
            return
        except OSError:
            self._lose(fd)
            return
        if end:
            self._asked(fd, one.line.decode("latin-1").rstrip("\r\n"))
        elif not seen:
            self._lose(fd)
        elif len(one.line) >= MAX_LINE_BYTES:
            self._refuse(fd, "line too long")

    def _asked(self, fd: int, name: str) -> None:
        choice = self._choices.get(name.lower())
        if name.lower() == HELP:
            one = self._leave(fd)
            names = "".join(f"{known.name}\r\n" for known in self._choices.values())
            self._farewell(one.sock, one.peer, names.encode())
            one.done()
        elif choice is None:
            self._refuse(fd, "service not available", name)
        elif choice.program.is_full:
            self._refuse(fd, "service busy", name)
        else:
            self._pass_on(self._leave(fd), choice)

    def _pass_on(self, one: _Asking, choice: Choice) -> None:
        if choice.greets:
            try:
                one.sock.send(b"+Go\r\n")  # the first bytes of a connection always have room
            except OSError as error:
                event = {"service": self._service, "peer": str(one.peer), "error": str(fault(error, "send"))}
                logger.info("tcpmux: client not served", extra={"event": event})
                one.sock.close()
                one.done(RefusalReason.GONE)
                return
        try:
            choice.program.serve(one.sock, one.peer, one.done)
        except BaseException:
            one.sock.close()
            one.done(RefusalReason.ERROR)
            raise

    def _refuse(self, fd: int, why: str, name: str = "") -> None:
        one = self._leave(fd)
        event = {"service": self._service, "peer": str(one.peer), "why": why} | ({"asked": name} if name else {})
        logger.info("tcpmux: client not served", extra={"event": event})
        self._farewell(one.sock, one.peer, f"-{why.capitalize()}\r\n".encode())
        one.done(RefusalReason.TCPMUX)

    def _lose(self, fd: int) -> None:
        """Close one that is gone; one that was passed on is another's."""
        if fd in self._asking:
            one = self._leave(fd)
            one.sock.close()
            one.done(RefusalReason.GONE)

    def _leave(self, fd: int) -> _Asking:
        one = self._asking.pop(fd)
        one.deadline.cancel()
        self._loop.remove_reader(fd)
        return one

    def close(self) -> None:
        """Wait for no line any more."""
        for fd in list(self._asking):
            self._refuse(fd, "shutting down")

    def leave(self) -> None:
        """Close the sockets alone, in a forked process."""
        for one in self._asking.values():
            one.sock.close()


class TcpmuxHandoff(Handoff):
    """Hands the connections of one listener to a TcpmuxServer, which ends with it."""

    def __init__(self, server: TcpmuxServer, resolver: ReverseDns | None) -> None:
        super().__init__(server, resolver)
        self._server = server

    def close(self) -> None:
        """Wait for no name, and for no line any more."""
        super().close()
        self._server.close()


__all__ = ["Choice", "TcpmuxHandoff", "TcpmuxServer"]
