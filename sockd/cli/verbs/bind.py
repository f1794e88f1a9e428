# SPDX-License-Identifier: MIT
"""`sockctl bind`: bind, drop, execute - the FAQ's small setuid helper, done right (FAQ IV.8).

The program inherits its sockets and the standard streams, and nothing else by accident: no other descriptor, no
blocked or ignored signal, no privilege beyond the wanted user's. Source: sd_listen_fds(3), execve(2), signal(7).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, NoReturn

from sockd.errors import SockdError, UsageError, fault
from sockd.net.listen.bind import open_listener
from sockd.process import privileges
from sockd.process.descriptors import FIRST_OTHER, close_others
from sockd.process.signals import give_back
from sockd.settings.listen import ListenSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket

VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES")


def run(
    addresses: Sequence[tuple[str, Address]],
    program: Sequence[str],
    *,
    user: str | None,
    group: str | None,
    chroot: str | None,
    stdin: bool,
) -> NoReturn:
    """Replace this process by the program.

    Args:
        addresses: (name, address) of each listener.
        program: the program, searched in PATH, and its arguments.
        user: to switch to; None keeps the current one, which must not be root.
        group: None is the user's own.
        chroot: the new root directory, None to keep it.
        stdin: pass the only socket as standard input, instead of from descriptor 3 on.

    Raises:
        UsageError: no program, or more than one socket for standard input.
        ConfigurationError: no such user, group or directory.
        SystemFault, PermissionFault, TemporaryFault: an address cannot be bound, privileges cannot be dropped, or the
        program cannot be executed.
    """
    if not program:
        raise UsageError("bind: no program given; write -- PROGRAM after the addresses")
    if group is not None and user is None:
        raise UsageError("bind: --group requires --user")
    wanted = privileges.wanted(user, group, chroot, root_may_stay=False)
    rights = privileges.prepare(wanted)
    with ExitStack() as stack:
        opened: list[tuple[str, ServerSocket]] = []
        for name, address in addresses:
            for listening in open_listener(address, ListenSettings()):
                stack.callback(listening.close)
                opened.append((name, listening))
        if stdin and len(opened) != 1:
            raise UsageError(f"bind: --stdin passes one socket, but {len(opened)} addresses were given")
        privileges.drop(rights)
        stack.pop_all()
    try:
        _execute(program, opened, stdin=stdin)
    except SockdError:
        for _, listening in opened:
            if listening.path is not None:
                listening.path.unlink_if_ours()
        raise


def _execute(program: Sequence[str], opened: Sequence[tuple[str, ServerSocket]], *, stdin: bool) -> NoReturn:
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    for _, listening in opened:
        listening.socket.setblocking(True)  # as inetd and systemd pass them
    descriptors = [listening.socket.detach() for _, listening in opened]
    if stdin:
        os.dup2(descriptors[0], 0)
        close_others()
    else:
        _place(descriptors)
        environment["LISTEN_FDS"] = str(len(opened))
        environment["LISTEN_PID"] = str(os.getpid())
        environment["LISTEN_FDNAMES"] = ":".join(name for name, _ in opened)
    give_back()
    try:
        os.execvpe(program[0], list(program), environment)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        is_missing = os.sep not in program[0] and shutil.which(program[0]) is None  # EACCES: of a directory of PATH
        failure = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)) if is_missing else error
        cause = fault(failure, f"bind: {program[0]}")
        if failure.errno == errno.ENOENT:
            cause = type(cause)(f"{cause}; the program is looked up in PATH after privileges were dropped")
        raise cause from None


def _place(descriptors: Sequence[int]) -> None:
    """Move descriptors to 3, 4, ... in their order, inheritable, and close all others."""
    beyond = FIRST_OTHER + len(descriptors)
    lifted = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond) for fd in descriptors]  # out of the way of one another
    for target, fd in enumerate(lifted, FIRST_OTHER):
        os.dup2(fd, target)
    close_others(range(FIRST_OTHER, beyond))
