# SPDX-License-Identifier: MIT
"""`sockd`: command line to Settings to a daemon.

Errors end here: each becomes lines on standard error and an exit code of sysexits(3).  No module below this one exits
the process.
"""

from __future__ import annotations

import logging
import os
import resource
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from sockd.cli.options import read_plain
from sockd.cli.output import print_error, with_output
from sockd.daemon.upgrade import UPGRADE_VARIABLE
from sockd.errors import SockdError, SystemFault, UsageError
from sockd.lazy import lazily
from sockd.log.escape import printable
from sockd.log.format import ERROR_SEVERITY, is_journal
from sockd.process.descriptors import fill_standard_streams
from sockd.process.signals import leave_with

if TYPE_CHECKING:
    from sockd.cli import autoreload, check, inetd, serve, sockd_parser
    from sockd.cli.options import Options
    from sockd.daemon.upgrade import receiver
    from sockd.net import kernel
    from sockd.process import init, intermediate
else:
    autoreload = lazily("sockd.cli.autoreload")
    check = lazily("sockd.cli.check")
    inetd = lazily("sockd.cli.inetd")
    serve = lazily("sockd.cli.serve")
    receiver = lazily("sockd.daemon.upgrade.receiver")
    sockd_parser = lazily("sockd.cli.sockd_parser")
    kernel = lazily("sockd.net.kernel")
    init = lazily("sockd.process.init")
    intermediate = lazily("sockd.process.intermediate")

logger = logging.getLogger("sockd.cli")

Ready = Callable[[Sequence[tuple[str, str]]], None]


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
        return _reporting(lambda: inetd.serve(arguments))
    fill_standard_streams()
    options = read_plain(arguments) or sockd_parser.parse(arguments)
    return _reporting(lambda: _run(options, arguments))


def _reporting(work: Callable[[], int]) -> int:
    """Return the exit code of the work; an exception becomes lines on standard error."""
    try:
        return _without_shortage(work)
    except SockdError as error:
        mark = f"<{ERROR_SEVERITY}>" if is_journal(sys.stderr) else ""
        lines = str(error).split("\n") if not error.is_reported else []
        for line in lines:
            print_error(f"{mark}sockd: {printable(line)}")
        return error.exit_code


def _without_shortage(work: Callable[[], int]) -> int:
    """Do the work; a start that fails for lack of descriptors gives one line, wherever it fails."""
    try:
        return work()
    except OSError as error:
        if error.errno not in kernel.NO_DESCRIPTOR:
            raise
        limit = f"RLIMIT_NOFILE is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]}"
        raise SystemFault(
            f"{os.strerror(error.errno)}: {limit}; raise it: ulimit -n, or LimitNOFILE= in a unit"
        ) from None


def _run(options: Options, arguments: Sequence[str]) -> int:
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
    if UPGRADE_VARIABLE in os.environ:
        intermediate.stand_between()
        predecessor = receiver.UpgradeReceiver.from_environment(os.environ)
        if predecessor is not None:
            with predecessor.reporting_failure():
                return serve.serve_after_upgrade(predecessor, options)
    return serve.start(options, _reporting)


if __name__ == "__main__":
    sys.exit(main())
