# SPDX-License-Identifier: MIT
"""Children: programs that were started, until they are reaped and their exit is reported.

Each has a session and a process group of its own, to which signals go: its own children get them too, unless they have
left the group.  A child's pid is ours until it is reaped, so no signal reaches another process.  Only children of this
module are waited for; those that a handler started are the handler's. Source: waitpid(2), setsid(2), kill(2).
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from functools import lru_cache
from typing import TYPE_CHECKING

from sockd._sockbuf import ffi, lib
from sockd.process.program import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sockd.net.loop.loop import EventLoop, Timer
    from sockd.process.program import Identity, SpawnCommand, WhenEnded

KILL_SECONDS = 5.0
"""Time from TERM to KILL, for a program to clean up."""

STEPS = {
    lib.SOCKD_SPAWN_PROCESS: "vfork()",
    lib.SOCKD_SPAWN_SESSION: "setsid()",
    lib.SOCKD_SPAWN_DESCRIPTORS: "dup2()",
    lib.SOCKD_SPAWN_LIMIT: "setrlimit()",
    lib.SOCKD_SPAWN_PRIORITY: "setpriority()",
    lib.SOCKD_SPAWN_GROUPS: "setgroups()",
    lib.SOCKD_SPAWN_GROUP: "setresgid()",
    lib.SOCKD_SPAWN_USER: "setresuid()",
}


class RunningChild:
    """One that runs, or has exited and was not reaped yet."""

    def __init__(self, pid: int, began: float, ended: WhenEnded, loop: EventLoop, about: Mapping[str, str]) -> None:
        self.pid = pid
        self.about = about
        self.began = began
        self.ended = ended
        self._loop = loop
        self._kill_at: Timer | None = None

    def end(self) -> None:
        """Terminate its process group: TERM, and KILL after KILL_SECONDS."""
        if self._kill_at is None:
            self._kill_at = self._loop.call_later(KILL_SECONDS, self.kill)
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill its process group at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it has another user by now, and is not root's
            os.killpg(self.pid, number)

    def kill_rest(self) -> None:
        """End what is left of its group, now that it has ended itself and is not reaped: then only if asked for."""
        if self._kill_at is not None:
            self._kill_at.cancel()
            self.kill()


class Children:
    """Starts programs and reaps them.

    Args:
        loop: for the time between TERM and KILL.
        files: RLIMIT_NOFILE as this process was started with, for the daemon raises its own.
    """

    def __init__(self, loop: EventLoop, files: tuple[int, int]) -> None:
        self._loop = loop
        self._files = (resource.RLIMIT_NOFILE, *files)
        self._running: dict[int, RunningChild] = {}

    def __len__(self) -> int:
        """Return how many run."""
        return len(self._running)

    def rows(self) -> list[dict[str, object]]:
        """Return of each that runs its number, whose it is, and for how many seconds it has run."""
        now = self._loop.clock()
        return [{"pid": one.pid, **one.about, "seconds": round(now - one.began, 3)} for one in self._running.values()]

    def spawn(self, command: SpawnCommand, ended: WhenEnded) -> RunningChild:
        """Execute a program.

        Args:
            command: its descriptors must be above 2.
            ended: called once, by reap().

        Raises:
            OSError: it cannot be started; `filename` is what failed: the path, or a system call.
        """
        limits = (self._files, *command.limits)  # a later one of the same kind goes before
        began = self._loop.clock()  # it may be running before we are told its number
        pid = self._start(command, limits)
        child = RunningChild(pid, began, ended, self._loop, command.about)
        self._running[pid] = child
        return child

    def _start(self, command: SpawnCommand, limits: tuple[tuple[int, int, int], ...]) -> int:
        prepared = _prepared(
            command.path, command.argv, command.directory, command.identity, limits, command.umask, command.nice
        ).struct
        environment = _texts(command.environment)  # is to live until the end of the call
        prepared.environment = environment[0]
        prepared.descriptors = list(command.descriptors)
        step = ffi.new("int32_t *")
        pid = int(lib.sockd_spawn(prepared, step))
        if pid < 0:
            number = ffi.errno
            steps = STEPS | {lib.SOCKD_SPAWN_DIRECTORY: command.directory}
            raise OSError(number, os.strerror(number), steps.get(step[0], command.path))
        return pid

    def reap(self) -> None:
        """Reap those that have exited, and report them (on SIGCHLD)."""
        for child in list(self._running.values()):
            try:
                if os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    continue
                child.kill_rest()
                _, status, usage = os.wait4(child.pid, 0)
            except ChildProcessError:  # a handler waited for every child there is
                self._report_end(child, None, 0.0)
            else:
                self._report_end(child, os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime)

    def _report_end(self, child: RunningChild, code: int | None, cpu_seconds: float) -> None:
        del self._running[child.pid]
        by_signal = code is not None and code < 0
        seconds = self._loop.clock() - child.began
        child.ended(
            ExitStatus(None if by_signal else code, -code if code and by_signal else None, seconds, cpu_seconds)
        )

    def end_all(self) -> None:
        """Terminate all."""
        for child in self._running.values():
            child.end()

    def kill_all(self) -> None:
        """Kill all at once."""
        for child in self._running.values():
            child.kill()


class PreparedCommand:
    """What all starts of one program have in common, in memory of C.

    Attributes:
        struct: a sockd_command without environment and descriptors.
    """

    def __init__(
        self,
        path: str,
        argv: tuple[str, ...],
        directory: str,
        identity: Identity | None,
        limits: tuple[tuple[int, int, int], ...],
        umask: int,
        nice: int | None,
    ) -> None:
        words, self._words = _texts(argv)
        groups = ffi.new("uint32_t[]", sorted(identity.groups) if identity else [])
        self._fields = {
            "path": ffi.new("char[]", os.fsencode(path)),
            "argv": words,
            "directory": ffi.new("char[]", os.fsencode(directory)),
            "umask": umask,
            "changes_nice": nice is not None,
            "nice": nice or 0,
            "limit_count": len(limits),
            "changes_user": identity is not None,
            "group_count": len(groups),
            "gid": identity.gid if identity else 0,
            "uid": identity.uid if identity else 0,
            "groups": groups,
            "found_groups": ffi.new("uint32_t[]", len(groups)),
            "limits": ffi.new("sockd_limit[]", [list(limit) for limit in limits]),
        }
        self.struct = ffi.new("sockd_command *", self._fields)


_prepared = lru_cache(maxsize=64)(PreparedCommand)  # a service starts the same one again and again


def _texts(words: Sequence[str]) -> tuple[object, list[object]]:
    """Return a NULL-ended array of C strings, and what keeps them alive."""
    kept = [ffi.new("char[]", os.fsencode(word)) for word in words]
    return ffi.new("char *[]", [*kept, ffi.NULL]), kept


__all__ = ["KILL_SECONDS", "Children", "RunningChild"]
