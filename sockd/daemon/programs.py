# SPDX-License-Identifier: MIT
"""Services that execute programs: what each phase of a start makes for them.

Before privileges are dropped their files are opened and their users looked up; once the loop runs they are executed,
reaped and, at a stop, terminated.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from sockd.errors import SockdError, under_key
from sockd.lazy import lazily
from sockd.process.children import KILL_SECONDS, Children
from sockd.services.families import ExecutingKind
from sockd.services.given_kinds import ExecKind, TcpmuxKind
from sockd.values import dataclass, field, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import ExitStack

    from sockd.log import append_file
    from sockd.log.append_file import AppendFile
    from sockd.net.connect.reverse_dns import ReverseDns
    from sockd.net.listen import handoff
    from sockd.net.listen.overload import RejectedConnections
    from sockd.net.loop.loop import EventLoop
    from sockd.process import accounts
    from sockd.services.exec import service as exec_service
    from sockd.services.exec import tcpmux
    from sockd.services.exec.program import Program
    from sockd.services.exec.service import ProgramService
    from sockd.services.exec.tcpmux import TcpmuxServer
    from sockd.services.spec import ServiceSpec
    from sockd.settings import DaemonSettings
else:
    accounts = lazily("sockd.process.accounts")
    exec_service = lazily("sockd.services.exec.service")
    tcpmux = lazily("sockd.services.exec.tcpmux")
    append_file = lazily("sockd.log.append_file")
    handoff = lazily("sockd.net.listen.handoff")

logger = logging.getLogger("sockd.exec")

KILLED_SECONDS = 1.0
"""Time from KILL until a child is reaped; one in uninterruptible sleep is left to init."""


def identified(spec: ServiceSpec, daemon: DaemonSettings) -> ServiceSpec:
    """Look up the user of a service's program, and the program itself if the root directory does not change.

    Raises:
        ConfigurationError: there is no such program, user or group, or the daemon cannot switch to it.
    """
    kind = spec.kind
    if isinstance(kind, TcpmuxKind):
        choices = tuple((name, identified(one, daemon)) for name, one in kind.choices)
        return replace(spec, kind=TcpmuxKind(choices))
    if not isinstance(kind, ExecutingKind):
        return spec
    program = kind.program
    with under_key("service", spec.name):
        if daemon.chroot is None:
            accounts.check_executable(program.path)
            accounts.check_directory(program.directory)
        identity = accounts.resolve_identity(program.user, program.group, daemon, program.groups)
    return replace(spec, kind=kind.running_as(identity, accounts.login_variables(program.user)))


def with_programs(specs: Iterable[ServiceSpec]) -> Iterator[tuple[str, Program]]:
    """Yield each service that executes a program, also those behind tcpmux, with its program."""
    for spec in specs:
        if isinstance(spec.kind, ExecutingKind):
            yield spec.name, spec.kind.program
        elif isinstance(spec.kind, TcpmuxKind):
            yield from with_programs(one for _, one in spec.kind.choices)


@dataclass
class StderrFiles:
    """Files for standard error: of a new configuration, and of the previous one."""

    before: dict[str, AppendFile]
    max_before: int
    max_running: int
    files: dict[str, AppendFile] = field(default_factory=dict)

    def close(self) -> None:
        """Close what was opened and is not used."""
        for file in self.files.values():
            if file not in self.before.values():
                file.close()

    def finish(self) -> None:
        """Close files without a writer; a running program has its own descriptor."""
        for file in self.before.values():
            if file not in self.files.values():
                file.close()


class ProgramFiles:
    """Files for the standard error of programs: opened before rights are dropped, and renewed by a reload.

    Args:
        specs: of all services; those without a program are skipped.
        owner: uid and gid of new files.
        rooted: whether the root directory will change.
        stack: closes them.

    Attributes:
        max_running: programs that may run at once.

    Raises:
        SystemFault, PermissionFault: one cannot be opened.
    """

    def __init__(
        self, specs: Iterable[ServiceSpec], owner: tuple[int, int] | None, stack: ExitStack, *, rooted: bool = False
    ) -> None:
        self._owner = owner
        self._rooted = rooted
        self._files: dict[str, AppendFile] = {}
        self.max_running = 0
        stack.callback(self._close)
        self.adopt(self.prepare(specs))

    def _close(self) -> None:
        for file in self._files.values():
            file.close()

    def find(self, name: str) -> AppendFile | None:
        """Return the file of a service, by its name; None where its programs have none."""
        return self._files.get(name)

    # ---- before they are executed, at a start and at a reload

    def prepare(self, specs: Iterable[ServiceSpec]) -> StderrFiles:
        """Open the files of services that have none open yet; unused ones stay open.

        Raises:
            SystemFault, PermissionFault: one cannot be opened.
        """
        programs = dict(with_programs(specs))
        max_running = sum(program.max_instances for program in programs.values())
        renewal = StderrFiles(self._files, self.max_running, max_running)
        try:
            for name, program in programs.items():
                renewal.files.update(self._opened(name, program))
        except BaseException:
            renewal.close()
            raise
        return renewal

    def _opened(self, name: str, program: Program) -> Iterator[tuple[str, AppendFile]]:
        path = {"null": os.devnull, "log": "", "socket": ""}.get(program.stderr, program.stderr)
        if path:
            known = self._files.get(name)
            if known is None or known.path != path:
                key = ("service", name, "stderr")
                known = append_file.AppendFile(path, key, owner=self._owner, blocking=True, rooted=self._rooted)
            yield name, known

    def adopt(self, renewal: StderrFiles) -> None:
        """Use these from now on."""
        self._files, self.max_running = renewal.files, renewal.max_running

    def give_back(self, renewal: StderrFiles) -> None:
        """Return to the previous ones."""
        self._files, self.max_running = renewal.before, renewal.max_before

    def reopen(self) -> list[str]:
        """Open the files for standard error again; the old one is kept if that fails: return why."""
        failed = []
        for file in self._files.values():
            try:
                file.reopen()
            except SockdError as error:
                event = {"error": str(error)}
                logger.error("standard error not reopened, still writing to the old file", extra={"event": event})
                failed.append(f"standard error not reopened, still writing to the old file: {error}")
        return failed


class ProgramRunner:
    """The programs of one daemon, once its loop is there.

    Args:
        files: for their standard error.
        loop: in which their ends are seen.
        limits: RLIMIT_NOFILE as the daemon was started with.
    """

    def __init__(self, files: ProgramFiles, loop: EventLoop, limits: tuple[int, int]) -> None:
        self.files = files
        self._loop = loop
        self._programs: dict[str, tuple[Program, ProgramService]] = {}
        self._children = Children(loop, limits)

    def __len__(self) -> int:
        """Return the number of running programs."""
        return len(self._children)

    def rows(self) -> list[dict[str, object]]:
        """Return of each running program its number, its service, its client or listener, and its age."""
        return self._children.rows()

    def service(self, name: str, program: Program, find_name: Callable[[str], str | None]) -> ProgramService:
        """Return the launcher of a service's program, one for all of its listeners."""
        known, programs = self._programs.get(name, (None, None))
        if programs is None or known != program:
            file = self.files.find(name)
            programs = exec_service.ProgramService(
                name,
                program,
                stderr=file.fileno if file else None,
                spawn=self._children.spawn,
                loop=self._loop,
                find_name=find_name,
                environment=os.environ,
            )
            self._programs[name] = program, programs
        return programs

    def handover(self, name: str, program: Program, resolver: ReverseDns, *, names: bool) -> handoff.Handoff:
        """Return what a listener hands its connections to."""
        return handoff.Handoff(self.service(name, program, resolver.known), resolver if names else None)

    def tcpmux(self, name: str, kind: TcpmuxKind, resolver: ReverseDns, rejected: RejectedConnections) -> TcpmuxServer:
        """Return what receives the first line of a client, and passes it on to the program that it names."""
        choices = [
            tcpmux.Choice(one.name, one.greets, self.service(spec.name, spec.kind.program, resolver.known))
            for one, spec in kind.choices
            if isinstance(spec.kind, ExecKind)  # others are refused where the configuration is read
        ]
        return tcpmux.TcpmuxServer(name, choices, self._loop, rejected.reject)

    def reap(self) -> None:
        """Reap finished programs."""
        self._children.reap()

    def end(self, is_urgent: Callable[[], bool]) -> None:
        """Terminate the running programs: TERM, then KILL; at once when it is or becomes urgent."""
        if not len(self._children):
            return
        logger.warning("terminating programs", extra={"event": {"programs": len(self._children)}})
        self._children.end_all()
        end = self._loop.clock() + KILL_SECONDS + KILLED_SECONDS
        while len(self._children) and self._loop.clock() < end:
            if is_urgent():
                self._children.kill_all()
                end = min(end, self._loop.clock() + KILLED_SECONDS)
            self._loop.run_once(max(0.0, end - self._loop.clock()))
        self._loop.run_once(0)  # their last words
