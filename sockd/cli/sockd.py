# SPDX-License-Identifier: MIT
"""`sockd`: command line to Settings to a daemon.

Errors end here: each becomes lines on standard error and an exit code of sysexits(3).  No module below this one exits
the process.
"""

from __future__ import annotations

import logging
import os
import re
import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NoReturn

from sockd._version import VERSION
from sockd.cli.output import Parser, print_error, with_output
from sockd.daemon.upgrade import UPGRADE_VARIABLE
from sockd.errors import EX_USAGE, SockdError, SystemFault, UsageError
from sockd.lazy import lazily
from sockd.log.escape import printable
from sockd.log.format import ERROR_SEVERITY, is_journal
from sockd.net.kernel import NO_DESCRIPTOR
from sockd.process import init
from sockd.process.descriptors import fill_standard_streams
from sockd.process.signals import leave_with

if TYPE_CHECKING:
    import argparse

    from sockd.cli import autoreload, check, config_source, inetd, serve
    from sockd.daemon.upgrade import receiver
else:
    autoreload = lazily("sockd.cli.autoreload")
    check = lazily("sockd.cli.check")
    inetd = lazily("sockd.cli.inetd")
    serve = lazily("sockd.cli.serve")
    receiver = lazily("sockd.daemon.upgrade.receiver")
    config_source = lazily("sockd.cli.config_source")

logger = logging.getLogger("sockd.cli")

Ready = Callable[[Sequence[tuple[str, str]]], None]

_TRY = "write one, or try the built-in example: sockd --foreground"


class _Parser(Parser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        unknown, found = message.partition("unrecognized arguments: ")[1:]
        if unknown:
            word = found.split(" ")[0]
            message = _what_was_meant(word, self._option_string_actions) or message
        self.exit(EX_USAGE, f"{self.prog}: {message}\n")


def _what_was_meant(word: str, options: Iterable[str]) -> str:
    """Return the message for a word that is no option; empty if nothing is near."""
    from sockd.settings.builtin import BUILTINS  # here, for a right command line has no use for these
    from sockd.text import nearest
    from sockd.wire.control import VERBS

    if re.fullmatch(r"[\w.]+:[\w.]+", word) or word in BUILTINS:
        listen = f"--listen tcp://{config_source.EXAMPLE_ADDRESS}={word}"
        return f"{word}: a service needs an address; did you mean {listen}?"
    if word.endswith(".toml"):
        return f"{word}: did you mean --config {word}?"
    if word in VERBS:
        return f"{word}: did you mean sockctl {word}?"
    near = nearest(word.partition("=")[0], options) if word.startswith("-") else ""
    return f"{word}: no such option; did you mean {near}?" if near else ""


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
        # Before a word can go to standard output: it is the client's.
        return _reporting(lambda: inetd.serve(arguments, make_parser()))
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
        return autoreload.AutoReloader(child, lambda words: print(f"sockd: {words}", file=sys.stderr)).run()
    if options.check or options.show:
        return check.look(options)
    predecessor = receiver.UpgradeReceiver.from_environment(os.environ) if UPGRADE_VARIABLE in os.environ else None
    if predecessor is not None:
        with predecessor.reporting_failure():
            return serve.serve_after_upgrade(predecessor, options)
    return serve.start(options, _reporting)


if __name__ == "__main__":
    sys.exit(main())
