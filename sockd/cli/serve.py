# SPDX-License-Identifier: MIT
"""`sockd`: a start, in the foreground or the background, alone or as the new process of an upgrade."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd._version import VERSION
from sockd.cli.autoreload import activated_pid, end_with_watcher, report
from sockd.cli.config_source import EXAMPLE, Source, configuration_files, read_source, source_files
from sockd.cli.output import give_up_output
from sockd.config.load import candidates
from sockd.daemon import daemon
from sockd.daemon.context import StartContext
from sockd.daemon.upgrade.respawn import StartCommand
from sockd.errors import EX_OK, ConfigurationError, SockdError, UsageError
from sockd.lazy import lazily
from sockd.log.format import for_a_start
from sockd.net.kernel import NO_DESCRIPTOR
from sockd.process import init, socket_activation
from sockd.process.daemonize import in_background
from sockd.process.descriptors import FIRST_OTHER, close_inherited
from sockd.process.signals import reset_signals
from sockd.process.stop_bound import install_signals
from sockd.process.syscalls import close_to_others
from sockd.values import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sockd.cli.options import Options
    from sockd.daemon.upgrade import fdstore
    from sockd.daemon.upgrade.receiver import UpgradeReceiver
    from sockd.daemon.workers import supervisor
    from sockd.process.daemonize import StartupPipe
else:
    supervisor = lazily("sockd.daemon.workers.supervisor")
    fdstore = lazily("sockd.daemon.upgrade.fdstore")

logger = logging.getLogger("sockd.cli")

_TRY = "write one, or try the built-in example: sockd --foreground"


def start(options: Options, reporting: Callable[[Callable[[], int]], int]) -> int:
    """Serve, in the foreground or in the background, where `reporting` says what went wrong."""
    close_to_others()
    given = socket_activation.claim(os.environ, activated_pid())
    if options.notify_fd is not None and not options.foreground:
        raise UsageError("--notify-fd is for a supervisor, which wants --foreground; in the background, sockd returns")
    notify = _claim(options.notify_fd, given)
    if os.getpid() == init.FIRST and not options.foreground:
        raise UsageError("process 1 must not exit, because all others end with it; use --foreground")
    contained = init.stand_before()
    signals = install_signals(for_a_start(sys.stderr)) if options.foreground else None  # behind what was passed
    if not options.foreground:
        reset_signals()
        close_inherited(fd for _, fd in given.descriptors)
    given, stored = fdstore.StoredConnections.separate(given) if given.descriptors else (given, None)
    command, dropped = StartCommand.from_this_process(), end_with_watcher()
    try:
        source = read_source(options)
    except SockdError:
        report(configuration_files(str(options.config or candidates()[0])))
        raise
    common = StartContext(
        ready=lambda _: None, given=given, command=command, stored=stored, dropped=dropped, contained=contained
    )
    if options.foreground:
        head = f"sockd {VERSION}, configured by {source.name}, serves:"

        def ready(listeners: Sequence[tuple[str, str, bool]]) -> None:
            if not given.notify:
                _greet(listeners, head)
            _notify(notify)

        def let_go() -> None:
            if notify is not None:  # in a worker
                os.close(notify)

        context = replace(common, ready=ready, let_go=let_go, trace=options.trace, signals=signals)
        return _serve(source, context)
    if source.name.startswith(EXAMPLE):
        *others, last = candidates()
        files = (
            f"neither {others[0]} nor {last} exists"
            if others
            else f"{last} does not exist (as root, name another one with -c)"
        )
        raise ConfigurationError(f"no configuration: {files}; {_TRY}")
    return in_background(lambda starter: reporting(lambda: _serve(source, _with_starter(common, starter))))


def _claim(text: str | None, given: socket_activation.Inherited) -> int | None:
    """Return a copy of the descriptor for readiness that no program inherits, under a number that nobody else has.

    Raises:
        UsageError: it is not open, or a socket that was passed.

    Source: "notification-fd" of s6, "ready-notification = pipefd:N" of dinit.
    """
    if text is None:
        return None
    try:
        number = int(text)
        if number in (fd for _, fd in given.descriptors):
            raise UsageError(f"--notify-fd {text}: is a socket that was passed (LISTEN_FDS); give another number")
        copy = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_OTHER)
    except (OSError, OverflowError, ValueError):
        words = f"--notify-fd {text}: no such descriptor is open"
        raise UsageError(f"{words}; for s6, write the number into the file notification-fd") from None
    if number >= FIRST_OTHER:
        os.close(number)
    return copy


def _notify(fd: int | None) -> None:
    """Say that this process serves; whoever wanted to know may have gone."""
    if fd is not None:
        with suppress(OSError):
            os.write(fd, b"\n")
        os.close(fd)


def _with_starter(common: StartContext, starter: StartupPipe) -> StartContext:
    """Add the process that waits for a daemon in the background."""
    return replace(common, ready=lambda _: starter.ready(), let_go=starter.let_go, background=True)


def serve_after_upgrade(predecessor: UpgradeReceiver, options: Options) -> int:
    """Serve as the new process of an upgrade, in the foreground or not."""
    close_to_others()
    signals = install_signals(for_a_start(sys.stderr))
    command = StartCommand.from_this_process()
    source = read_source(options)
    if not options.foreground:
        os.chdir("/")
    context = StartContext(
        ready=lambda _: None,
        background=not options.foreground,
        given=predecessor.given,
        trace=options.trace,
        command=command,
        predecessor=predecessor,
        signals=signals,
    )
    return _serve(source, context)


def _serve(source: Source, context: StartContext) -> int:
    context = replace(
        context,
        imported=lambda: report(source_files(source.settings, source.name)),
        check=source.check,
        parse=source.parse,
        configuration=source.file,
        root_may_stay=not context.background and source.check is None,
    )
    serve = supervisor.run if source.settings.daemon.workers > 1 else daemon.run
    try:
        with source.settings.located():
            serve(source.settings, context)
    except SockdError as error:
        log = source.settings.daemon.log
        if logging.getLogger().handlers:  # else the log has not been opened yet
            error.is_reported = not context.background and log.to in (None, "stderr") and log.format == "json"
            if error.is_reported or context.background:  # the log is read later, the terminal perhaps not
                logger.error("not serving", extra={"event": {"error": str(error)}})
        raise
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR:
            logger.critical("internal error", exc_info=True)
        raise
    except Exception:
        logger.critical("internal error", exc_info=True)  # in the background nobody sees the traceback
        raise
    return EX_OK


def _how_to_ask(address: str, service: str, is_tls: bool) -> str:
    if service == "metrics" and address.startswith("tcp://"):
        scheme = "https" if is_tls else "http"
        return f"curl {scheme}://{address.removeprefix('tcp://')}/metrics"
    return f"sockctl connect {'--tls ' if is_tls else ''}{address}"


def _greet(listeners: Sequence[tuple[str, str, bool]], head: str) -> None:
    """Say on the screen what is served and how to talk to it: address, service, whether it begins with TLS."""
    width = max(len(address) for address, _, _ in listeners)
    lines = [
        f"  {service} on {address:<{width}}   {_how_to_ask(address, service, tls)}"
        for address, service, tls in listeners
    ]
    try:
        for line in (head, *lines, "Press Ctrl-C to stop."):
            print(line, flush=True)
    except OSError:  # nobody reads it: no reason not to serve
        give_up_output()


__all__ = ["serve_after_upgrade", "start"]
