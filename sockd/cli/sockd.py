# SPDX-License-Identifier: MIT
"""`sockd`: command line to Settings to a daemon.

Errors end here: each becomes lines on standard error and an exit code of sysexits(3).  No module below this one exits
the process.
"""

from __future__ import annotations

import io
import logging
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sockd._version import VERSION
from sockd.cli.autoreload import AutoReloader, end_with_watcher, report
from sockd.cli.config_source import EXAMPLE, EXAMPLE_ADDRESS, Source, _files, _keep_directory, _loader, _settings
from sockd.cli.output import Parser, give_up_output, print_error, with_output
from sockd.config.command_line import from_command_line
from sockd.config.load import candidates, dump
from sockd.daemon import daemon, inetd
from sockd.daemon.conflicts import conflicts
from sockd.daemon.context import StartContext
from sockd.daemon.inetd import inetd_settings, open_log
from sockd.daemon.plan import plan
from sockd.daemon.upgrade.fdstore import StoredConnections
from sockd.daemon.upgrade.receiver import UpgradeReceiver
from sockd.daemon.upgrade.respawn import StartCommand
from sockd.daemon.workers import supervisor
from sockd.errors import EX_OK, EX_USAGE, ConfigurationError, SockdError, SystemFault, UsageError
from sockd.files.kept_directory import current_directory
from sockd.log.format import ERROR_SEVERITY, for_a_start, is_journal, printable
from sockd.net.kernel import NO_DESCRIPTOR
from sockd.process import init, socket_activation
from sockd.process.daemonize import in_background
from sockd.process.descriptors import close_others, fill_standard_streams
from sockd.process.inetd_stdio import detach_standard_streams
from sockd.process.privileges import check_directory, look_up, why_unreadable
from sockd.process.signals import leave_with, reset_signals
from sockd.process.stop_bound import install_signals
from sockd.process.syscalls import close_to_others
from sockd.services.handlers_path import look_in
from sockd.services.reimport import authors_files
from sockd.settings import LogSettings, Settings
from sockd.values import replace

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from sockd.daemon.plan import ListenerPlan
    from sockd.process.daemonize import StartupPipe
    from sockd.settings import DaemonSettings

logger = logging.getLogger("sockd.cli")

Ready = Callable[[Sequence[tuple[str, str]]], None]

_TRY = "write one, or try the built-in example: sockd --foreground"


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        unknown, found = message.partition("unrecognized arguments: ")[1:]
        word = found.split(" ")[0]
        if unknown and re.fullmatch(r"[\w.]+:[\w.]+", word):
            message = f"{word}: a service needs an address; did you mean --listen tcp://{EXAMPLE_ADDRESS}={word}?"
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line; the man pages and the completions are made from it."""
    parser = _Parser(
        prog="sockd",
        description="Serve small network services: a function returns the reply to a line.",
        epilog="Without --foreground, sockd goes to the background and the command returns once it serves. Without "
        "--config, it reads ./sockd.toml (not as root), else /etc/sockd/sockd.toml, else, with --foreground, serves a "
        "built-in example.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-c", "--config", metavar="FILE", help="read this configuration")
    add("-f", "--foreground", action="store_true", help="stay in the foreground and log to standard error")
    add("-u", "--user", metavar="USER", help="switch to this user after binding")
    add("-g", "--group", metavar="GROUP", help="switch to this group instead of the user's own")
    add("--chroot", metavar="DIR", help="use this directory as the root directory while serving (chroot(2))")
    add("--pidfile", metavar="FILE", help="write the pid to this file and lock it against a second daemon")
    add(
        "-l",
        "--listen",
        metavar="ADDRESS=SERVICE",
        action="append",
        default=[],
        help="serve SERVICE (a built-in service or module:attribute) on ADDRESS; repeatable, no configuration needed",
    )
    add(
        "--inetd",
        metavar="SERVICE",
        help="serve standard input: a connection, a listening socket, a datagram socket, a pipe or a terminal",
    )
    add("-t", "--check", action="store_true", help="check the configuration and the handlers without binding anything")
    add("-T", "--print", dest="show", action="store_true", help="check, then print the effective configuration")
    add("--multiplexer", metavar="NAME", help="I/O multiplexer: auto, epoll, poll or select")
    add("--log-level", metavar="LEVEL", help="minimum severity to log: debug, info, warning or error")
    add("--log-format", metavar="FORMAT", help="format of the log: text or json")
    add("--reload", action="store_true", help="restart when a source file changes (development)")
    add("--trace", action="store_true", help="log each frame with its content (development)")
    add("-V", "--version", action="version", version=f"sockd {VERSION}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `sockd`.

    Returns:
        The exit code: 0, 64 usage, 71 system, 75 temporary, 77 permission, 78 configuration.
    """
    words = sys.argv[1:] if arguments is None else arguments
    return leave_with(with_output("sockd", lambda: _main(words)))


def _main(arguments: Sequence[str]) -> int:
    if any(word.partition("=")[0] == "--inetd" for word in arguments):
        return _reporting(lambda: _inetd(arguments))  # before a word can go to standard output: it is the client's
    fill_standard_streams()
    options = make_parser().parse_args(arguments)
    return _reporting(lambda: _run(options, arguments))


def _reporting(work: Callable[[], int]) -> int:
    """Return the exit code of the work; an exception becomes lines on standard error."""
    try:
        return _without_shortage(work)
    except SockdError as error:
        mark = f"<{ERROR_SEVERITY}>" if is_journal(sys.stderr) else ""
        for line in str(error).split("\n") if not error.is_reported else ():
            print_error(f"{mark}sockd: {printable(line)}")
        return error.exit_code


def _without_shortage(work: Callable[[], int]) -> int:
    """Do the work; a start that fails for lack of descriptors gives one line, wherever it fails."""
    try:
        return work()
    except OSError as error:
        if error.errno not in NO_DESCRIPTOR:
            raise
        limit = f"RLIMIT_NOFILE is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
        raise SystemFault(
            f"{os.strerror(error.errno)}: {limit}; raise it: ulimit -n, or LimitNOFILE= in a unit"
        ) from None


def _run(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    if options.trace and not options.foreground:
        raise UsageError("--trace is for development; use it with --foreground")
    if options.reload:
        if not options.foreground:
            raise UsageError("--reload is for development; use it with --foreground")
        init.stand_before()
        child = [sys.executable, "-P", "-m", "sockd", *(word for word in arguments if word != "--reload")]
        return AutoReloader(child, lambda words: print(f"sockd: {words}", file=sys.stderr)).run()
    if options.check or options.show:
        return _look(options)
    predecessor = UpgradeReceiver.from_environment(os.environ)
    if predecessor is not None:
        with predecessor.reporting_failure():
            return _serve_after_upgrade(predecessor, options)
    return _start(options)


def _look(options: argparse.Namespace) -> int:
    """Check, or print the effective settings, without serving."""
    reset_signals()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # else a module that is being imported seems to have failed
    source = _settings(options)
    if options.check and not options.show:
        return _check(source)
    plan(source.settings)
    print(dump(source.settings), end="")
    return EX_OK


def _start(options: argparse.Namespace) -> int:
    """Serve, in the foreground or in the background."""
    close_to_others()
    given = socket_activation.claim(os.environ, os.getpid())
    if os.getpid() == init.FIRST and not options.foreground:
        raise UsageError("process 1 must not exit, because all others end with it; use --foreground")
    contained = init.stand_before()
    signals = install_signals(for_a_start(sys.stderr)) if options.foreground else None  # behind what was passed
    if not options.foreground:
        reset_signals()
        close_others(fd for _, fd in given.descriptors)
    given, stored = StoredConnections.separate(given)
    command, dropped = StartCommand.from_this_process(), end_with_watcher()
    try:
        source = _settings(options)
    except SockdError:
        report([str(options.config or candidates()[0])])
        raise
    common = StartContext(
        ready=lambda _: None, given=given, command=command, stored=stored, dropped=dropped, contained=contained
    )
    if options.foreground:
        head = f"sockd {VERSION}, configured by {source.name}, serves:"
        greet = (lambda _: None) if given.notify else lambda listeners: _greet(listeners, head)
        return _serve(source, replace(common, ready=greet, trace=options.trace, signals=signals))
    if source.name == EXAMPLE:
        *others, last = candidates()
        files = (
            f"neither {others[0]} nor {last} exists"
            if others
            else f"{last} does not exist (as root, name another one with -c)"
        )
        raise ConfigurationError(f"no configuration: {files}; {_TRY}")
    return in_background(lambda starter: _reporting(lambda: _serve(source, _with_starter(common, starter))))


def _with_starter(common: StartContext, starter: StartupPipe) -> StartContext:
    """Add the process that waits for a daemon in the background."""
    return replace(common, ready=lambda _: starter.ready(), let_go=starter.let_go, background=True)


def _serve_after_upgrade(predecessor: UpgradeReceiver, options: argparse.Namespace) -> int:
    """Serve as the new process of an upgrade, in the foreground or not."""
    close_to_others()
    signals = install_signals(for_a_start(sys.stderr))
    command = StartCommand.from_this_process()
    source = _settings(options)
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


def _inetd(arguments: Sequence[str]) -> int:
    """Serve what inetd passed; every error goes to syslog, and to a terminal if there is one."""
    close_to_others()
    socket_activation.forget(os.environ)  # Accept=yes passes the connection a second time, as descriptor 3
    close_others()
    try:
        given = detach_standard_streams()
    finally:
        open_log(LogSettings())
    try:
        options = _parse_quietly(arguments)
        if not options.config:
            look_in(current_directory())
        inetd.run(inetd_settings(_inetd_settings(options), options.inetd), given)
    except SockdError as error:
        for line in str(error).splitlines():
            logger.error("not serving", extra={"event": {"error": line}})
        raise
    except Exception:
        logger.critical("internal error", exc_info=True)
        raise
    return EX_OK


def _parse_quietly(arguments: Sequence[str]) -> argparse.Namespace:
    words = io.StringIO()
    try:
        with redirect_stderr(words):
            options = make_parser().parse_args(arguments)
    except SystemExit as stop:
        raise UsageError(words.getvalue().rstrip().rpartition("\n")[2] or f"exit code {stop.code}") from None
    for name in ("listen", "foreground", "check", "show", "reload", "trace", "pidfile"):
        if getattr(options, name):
            option = "print" if name == "show" else name
            raise UsageError(f"--{option} cannot be used with --inetd, which serves what it inherits; remove it")
    return options


def _inetd_settings(options: argparse.Namespace) -> Settings:
    return from_command_line(
        base=_inetd_base(Path(options.config)) if options.config else None,
        multiplexer=options.multiplexer,
        log_level=options.log_level,
        log_format=options.log_format,
        user=options.user,
        group=options.group,
        chroot=options.chroot,
        inetd=options.inetd,
    )


def _inetd_base(path: Path) -> Settings:
    return _loader(path, _keep_directory(path), listens=False)(None)


def _check(source: Source) -> int:
    settings, daemon = source.settings, source.settings.daemon
    plans = plan(settings)
    if daemon.user is not None:
        look_up(daemon.user, daemon.group)
    if daemon.chroot is not None:
        check_directory(daemon.chroot)
    if found := [*conflicts(plans)]:
        raise ConfigurationError("\n".join(f"{source.name}: {text}" for text in found))
    notes = [*_port_notes(plans), *_unreadable(daemon)]
    if daemon.user is None and source.check is not None and os.geteuid() == 0:
        notes.append(
            'daemon.user is not set, so sockd refuses to start as root; write user = "nobody" or user = "root"'
        )
    for note in notes:
        print(f"sockd: {source.name}: note: {note}", file=sys.stderr)
    count = len(settings.listen)
    print(f"sockd: {source.name}: configuration OK: {count} listener{'s'[: count != 1]}", file=sys.stderr)
    return EX_OK


def _unreadable(daemon: DaemonSettings) -> Iterator[str]:
    """Report modules of handlers that the serving user may not read: root imports them at a start, and a reload
    cannot.
    """
    if daemon.user is None or daemon.chroot is not None or os.geteuid() != 0:
        return
    account = look_up(daemon.user, daemon.group)
    for path in authors_files():
        if reason := why_unreadable(path, account):
            yield f"{path}: {reason}; the daemon serves as {account.user} and cannot import it at a reload"


def _port_notes(plans: Iterable[ListenerPlan]) -> Iterator[str]:
    """Report ports that services(5) registers for a service of another name (FAQ IV.11)."""
    for one in plans:
        for address in one.addresses:
            registered = address.registered_service()
            if registered is not None and registered != one.service.name:
                named = replace(address, port=registered)
                text = (
                    f"/etc/services registers port {address.port} for {registered}; "
                    f"if you mean that service, write {named}"
                )
                yield f"{address}: {text}"


def _serve(source: Source, context: StartContext) -> int:
    context = replace(
        context,
        imported=lambda: report(_files(source.settings, source.name)),
        check=source.check,
        parse=source.parse,
        root_may_stay=not context.background and source.check is None,
    )
    serve = supervisor.run if source.settings.daemon.workers > 1 else daemon.run
    try:
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


if __name__ == "__main__":
    sys.exit(main())
