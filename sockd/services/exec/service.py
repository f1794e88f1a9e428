# SPDX-License-Identifier: MIT
"""A program for each connection, as inetd's nowait has it, or for a socket itself, its wait (FAQ II.19, IV.9).

The program has the socket as its standard input and output, and learns of the connection, or of where the socket is
bound, from its environment, by the names of ucspi-tcp, of ucspi-unix and of systemd.  What it
gets and how it is ended is documented in docs/migrating-from-inetd.md, to the letter.
It is started by what is passed in; here is decided what it gets, and told how it ended.
"""

from __future__ import annotations

import logging
import signal
from typing import TYPE_CHECKING

from sockd.errors import fault
from sockd.net.listen.refusal import RefusalReason
from sockd.process.program import SpawnCommand
from sockd.services.exec.environment import build_environment, describe_listener, plain_host
from sockd.services.exec.stderr_lines import ErrorLines
from sockd.settings.client_variables import variables_for
from sockd.values import dataclass

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.listen.handoff import WhenDone
    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.process.program import Child, ExitStatus, Spawn, WhenEnded
    from sockd.services.exec.program import Program

logger = logging.getLogger("sockd.exec")


@dataclass(frozen=True)
class EndReport:
    """What the log is told of the end of a run.

    Attributes:
        is_logged: whether it is logged at all.
        times: so many such ends in a row, if it is one of a streak.
        pause: seconds before the next start, if it ended at once.
    """

    is_logged: bool = True
    times: int = 0
    pause: float = 0.0


class RunReport:
    """What the log is told of a run: everything.

    Attributes:
        mute_seconds: how long what it writes to its standard error is not told.
    """

    mute_seconds = 0.0

    def begun(self, report: Callable[[], None]) -> None:
        """Tell of its start, at once."""
        report()

    def judge(self, how: ExitStatus) -> EndReport:
        """Say what is told of its end."""
        return EndReport()


class ProgramService:
    """Executes a program for each connection, or for a socket that clients come to.

    Args:
        service: its name, for the log.
        program: what is executed.
        stderr: gives the descriptor of standard error for every instance; None: the socket, or a pipe to the log.
        spawn: executes.
        loop: for the wall limit and the pipes.
        find_name: the confirmed name of a numeric address, if it is known.
        environment: the daemon's, from which is kept what the program names.
    """

    def __init__(
        self,
        service: str,
        program: Program,
        *,
        stderr: Callable[[], int] | None,
        spawn: Spawn,
        loop: EventLoop,
        find_name: Callable[[str], str | None],
        environment: Mapping[str, str],
    ) -> None:
        self.name = self._service = service
        self.program = self._program = program
        self._stderr = stderr
        self._spawn = spawn
        self._loop = loop
        self._find_name = find_name
        self._running = 0
        self._common = (*_login(program), *_allowed(program.environment, environment))

    @property
    def is_full(self) -> bool:
        """Whether `max_instances` programs run, counting all that were started here."""
        return self._running >= self.program.max_instances

    def serve(self, sock: socket.socket, peer: SocketAddress, done: WhenDone) -> None:
        """Start the program on a connected socket, which is closed here; done() is called when it has ended."""
        about = {"service": self._service, "peer": str(peer)}
        if peer.host and (name := self._find_name(peer.host)):
            about["name"] = name
        with sock:
            try:
                sock.setblocking(True)  # what a program that knows nothing of sockets expects
                environment = (*build_environment(sock, peer, self._find_name), *self._client_variables(peer))
                self._start(sock, environment, about, lambda _how: done(), RunReport())
            except OSError as error:
                words = str(fault(error, str(error.filename or self._program.path)))
                logger.error("program not started", extra={"event": {**about, "error": words}})
                done(RefusalReason.NOT_STARTED)

    def _client_variables(self, peer: SocketAddress) -> tuple[str, ...]:
        entries = self.program.client_environment
        return variables_for(plain_host(peer.host), entries) if entries and peer.host else ()

    def serve_socket(self, sock: socket.socket, address: str, ended: WhenEnded, report: RunReport) -> Child:
        """Start the program on a listening or datagram socket, which stays open here as well.

        Args:
            sock: made blocking, as a program that knows nothing of its parent expects.
            address: of the socket, for the log.
            ended: called when it has ended.
            report: of this run.

        Raises:
            OSError: it cannot be started; `filename` is what failed.
        """
        sock.setblocking(True)
        about = {"service": self._service, "address": address}
        return self._start(sock, describe_listener(sock), about, ended, report)

    def _start(
        self,
        sock: socket.socket,
        environment: tuple[str, ...],
        about: dict[str, str],
        done: WhenEnded,
        report: RunReport,
    ) -> Child:
        lines = ErrorLines(self._loop, about, report.mute_seconds) if self._program.stderr == "log" else None
        error = lines.writer if lines else self._stderr() if self._stderr else sock.fileno()
        command = SpawnCommand(
            path=self._program.path,
            argv=self._program.argv,
            environment=(*self._common, *environment),
            descriptors=(sock.fileno(), sock.fileno(), error),
            identity=self._program.identity,
            limits=self._program.limits,
            umask=self._program.umask,
            nice=self._program.nice,
            directory=self._program.directory,
            about=about,
        )

        def ended(how: ExitStatus) -> None:
            self._running -= 1
            done(how)

        run = _Run(about, self._program.wall, self._loop, ended, report, lines)
        try:
            child = self._spawn(command, run.ended)
        except OSError:
            if lines:
                lines.close()
            raise
        self._running += 1
        if lines:
            lines.start(child.pid)
        run.started(child)
        return child


class _Run:
    """One program from its start to its end."""

    def __init__(
        self,
        about: dict[str, str],
        wall: float | None,
        loop: EventLoop,
        done: WhenEnded,
        report: RunReport,
        lines: ErrorLines | None,
    ) -> None:
        self._about = about
        self._lines = lines
        self._report = report
        self._wall = wall
        self._loop = loop
        self._done = done
        self._child: Child | None = None
        self._timer: Timer | None = None
        self._is_overdue = False

    def started(self, child: Child) -> None:
        self._child = child
        if self._wall is not None:
            self._timer = self._loop.call_later(self._wall, self._overdue)
        event = {**self._about, "pid": child.pid}
        self._report.begun(lambda: logger.info("program started", extra={"event": event}))

    def _overdue(self) -> None:
        self._is_overdue = True
        if self._child is not None:
            self._child.end()

    def ended(self, how: ExitStatus) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._lines is not None:
            self._lines.program_ended()
        event: dict[str, object] = {**self._about, "pid": self._child.pid if self._child else 0}
        if how.signal is not None:
            event["signal"] = signal_name(how.signal)
        else:
            event["exit_code"] = how.exit_code
        event |= {"seconds": round(how.seconds, 3), "cpu_seconds": round(how.cpu_seconds, 3)}
        if self._is_overdue:
            event["limit"] = "wall"
        verdict = self._report.judge(how)
        if verdict.times:
            event["times"] = verdict.times
        if verdict.pause:
            event["pause_seconds"] = round(verdict.pause, 3)
        if verdict.is_logged and verdict.pause:
            logger.warning("program ended at once, a pause before its next start", extra={"event": event})
        elif verdict.is_logged:
            level = logging.INFO if how.exit_code == 0 else logging.WARNING
            logger.log(level, "program ended", extra={"event": event})
        self._done(how)


def signal_name(number: int) -> str:
    """Name a signal without its SIG, as kill(1) does."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:  # a real-time one between the first and the last
        return str(number)


# ---- the environment


def _login(program: Program) -> Iterator[str]:
    """Yield HOME and its kin, except those that the service sets or passes on itself."""
    for entry in program.login:
        name = entry[: entry.index("=")]
        if not any(own == name or own.startswith(f"{name}=") for own in program.environment):
            yield entry


def _allowed(entries: tuple[str, ...], environment: Mapping[str, str]) -> Iterator[str]:
    for entry in entries:
        if "=" in entry:
            yield entry
        elif entry in environment:
            yield f"{entry}={environment[entry]}"
