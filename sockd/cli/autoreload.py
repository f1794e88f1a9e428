# SPDX-License-Identifier: MIT
"""Development: run a command, and run it again whenever one of its source files changes.

The command runs in a child; the child reports the files it consists of (`report`), so that an edit of any imported
module counts and the watcher imports nothing. Patterns of `include` are reported, too, so that a file that comes or
goes counts. A child that fails waits for the next edit.

No edit is missed.  The state of a file is recorded by the first of the two: by the watcher before the child can have
read it, if it is known from the previous child, else by the child, before it serves; never later, because the report
may reach the watcher late.

Watcher and child exit together: signals are passed on, and the kernel kills a child whose watcher has died. A child
that does not exit in time gets a second TERM (sockd.process.stop_bound).
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.config.include import matching_files
from sockd.errors import SystemFault
from sockd.lazy import lazily, msgspec, pathlib, sysconfig
from sockd.process import socket_activation
from sockd.process.signals import reset_signals
from sockd.process.syscalls import end_with_parent

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Sequence
else:
    subprocess = lazily("subprocess")

REPORT_VARIABLE = "SOCKD_RELOAD_FD"
"""Number of the descriptor on which a child reports its files; set only by Reloader."""
POLL_SECONDS = 0.3
"""Interval at which the files are checked; short enough that an edit seems to be served at once."""
RESTART_SECONDS = 2.0
"""Time for a child to stop before the next one starts; shorter than stop_timeout, because a developer waits for it."""

SIGNALLED = 128
"""Added to the number of a signal that ended a child, as shells do."""

Stamps = dict[str, str]
"""Of each file its time of change in ns and its size; of a pattern the names of its files; empty: there is none."""


def report(extra: Iterable[str]) -> None:
    """Report, in the child, its files and their state; does nothing without a watcher.

    Args:
        extra: files besides the imported modules, such as the configuration, and patterns of files.
    """
    number = os.environ.pop(REPORT_VARIABLE, None)
    if number is None:
        return
    installed = tuple(sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib"))
    files = {os.path.abspath(name) for name in extra}
    files.update(str(path.absolute()) for path in pathlib.Path().glob("*.py"))
    for module in list(sys.modules.values()):
        name = getattr(module, "__file__", None)
        if name and not name.startswith(installed):
            files.add(os.path.abspath(name))
    try:
        with os.fdopen(int(number), "wb") as pipe:
            pipe.write(msgspec.json.encode(_stamps(files)))
    except BrokenPipeError:
        raise SystemFault("--reload: the watching process has exited; not serving") from None


def activated_pid() -> int:
    """Return whom sockets were passed to, if any were: a watcher passes on what it has, and nothing else."""
    return os.getppid() if REPORT_VARIABLE in os.environ else os.getpid()


def end_with_watcher() -> Callable[[], None]:
    """Have a watcher's child exit with its watcher; return a function to call once privileges are dropped."""
    if REPORT_VARIABLE not in os.environ:
        return lambda: None
    watcher = os.getppid()
    end_with_parent(signal.SIGTERM)  # if it has ended before, there is nobody to report() to

    def again() -> None:
        end_with_parent(signal.SIGTERM)
        if os.getppid() != watcher:
            os.kill(os.getpid(), signal.SIGTERM)

    return again


def _stamps(files: Iterable[str]) -> Stamps:
    stamps: Stamps = {}
    for name in files:
        try:
            about = os.stat(name)
        except OSError:
            stamps[name] = ascii(found) if (found := matching_files(name)) else ""
        else:
            stamps[name] = f"{about.st_mtime_ns} {about.st_size}"
    return stamps


class AutoReloader:
    """Runs the command until it is told to stop.

    Args:
        command: of the child.
        notify: called with a text at each restart.
    """

    def __init__(self, command: Sequence[str], notify: Callable[[str], None]) -> None:
        self._command = list(command)
        self._notify = notify
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._stamps: Stamps = {}
        self._passed = list(socket_activation.passed_to(os.environ, os.getpid()))

    def run(self) -> int:
        """Run, and run again after each change.

        Returns:
            The exit code of the last child, 128 and its signal where one ended it.
        """
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup(1)
                signal.signal(number, self._pass_on)
        reset_signals()
        while True:
            code = self._run_child()
            if code is not None and code < 0:
                code = SIGNALLED - code
            if self._stopped or code == 0:
                return code or 0
            if code is not None:
                self._notify(f"exited with code {code}; restarting after the next change")
                self._wait_for_change()
                if self._stopped:
                    return code
            self._notify("a source file has changed; restarting")

    def _pass_on(self, number: int, _frame: object) -> None:
        self._stopped = True
        if self._child is not None:
            self._child.send_signal(signal.SIGTERM if number == signal.SIGHUP else number)  # the terminal has gone

    def _run_child(self) -> int | None:
        """Return the child's exit code, or None when it was stopped because of a change, or never started."""
        if self._stopped:
            return None
        before = _stamps(self._stamps)
        reader, writer = os.pipe()
        environment = {**os.environ, REPORT_VARIABLE: str(writer)}
        with os.fdopen(reader, "rb") as pipe:
            self._child = subprocess.Popen(self._command, env=environment, pass_fds=[writer, *self._passed])
            os.close(writer)
            if self._stopped:  # before there was a child to tell
                self._child.terminate()
            self._stamps = _oldest(pipe.read(), before)
        while not self._stopped:
            try:
                return self._child.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                if self._changed():
                    self._end(self._child)
                    return None
        return self._child.wait()

    def _end(self, child: subprocess.Popen[bytes]) -> None:
        """End a child: gracefully, or else by a second TERM, whatever it does."""
        for _ in range(2):
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(RESTART_SECONDS)
                return
        child.kill()
        child.wait()

    def _changed(self) -> bool:
        return _stamps(self._stamps) != self._stamps

    def _wait_for_change(self) -> None:
        with selectors.DefaultSelector() as nothing:
            while not self._stopped and not self._changed():
                nothing.select(POLL_SECONDS)


def _oldest(reported: bytes, before: Stamps) -> Stamps:
    """Return the state of the files before the child began to read them.

    A child that died before its report is assumed to consist of the files of the previous one.
    """
    if not reported:
        return before
    stamps = msgspec.json.decode(reported, type=Stamps)
    return {name: before.get(name, stamp) for name, stamp in stamps.items()}


__all__ = ["POLL_SECONDS", "REPORT_VARIABLE", "AutoReloader", "activated_pid", "end_with_watcher", "report"]
