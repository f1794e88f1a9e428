# SPDX-License-Identifier: MIT
"""Directories outside chroot(2), for files that are opened again: held by a helper process (sockd.process.helper).

A descriptor of a directory leads out of a chroot, for any code that has it.  So in a chroot the daemon has none: the
helper opens the configuration, the log, the users file and the output files of programs, by the names that were
allowed before the drop and no others, and passes their descriptors.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from sockd.files import kept_directory
from sockd.process import helper

if TYPE_CHECKING:
    from sockd.process.privileges import Account

NAME = "sockd-files"
ANSWER_SECONDS = 5.0
_MESSAGE_BYTES = 4096
_INT = 4


def hold_outside(account: Account) -> None:
    """Move every kept directory to the helper; this process keeps none.

    Raises:
        OSError: there is no process, or no socket.
    """
    directories = kept_directory.living()
    if not directories:
        return
    names = [tuple(sorted(one.names)) for one in directories]
    sock = helper.begin(NAME, [one.fileno() for one in directories], account, partial(_serve, names))
    for number, one in enumerate(directories):
        one.move_out(partial(_ask, sock, number))


def _ask(sock: socket.socket, number: int, name: str, flags: int, mode: int) -> int:
    """Have a file opened; workers use the same socket, so each request has a reply socket of its own."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        ours.settimeout(ANSWER_SECONDS)
        socket.send_fds(sock, [b"%d %d %d " % (number, flags, mode) + os.fsencode(name)], [theirs.fileno()])
        theirs.close()
        data, descriptors, _, _ = socket.recv_fds(ours, _INT, 1)
    if descriptors:
        os.set_inheritable(descriptors[0], False)
        return descriptors[0]
    code = int.from_bytes(data, "big") if data else errno.EPIPE
    raise OSError(code, os.strerror(code))


# ---- the keeper


def _serve(names: list[tuple[str, ...]], sock: socket.socket, directories: list[int]) -> None:
    while True:
        data, descriptors, _, _ = socket.recv_fds(sock, _MESSAGE_BYTES, 1)
        if not data:
            return
        for fd in descriptors:
            with socket.socket(fileno=fd) as answer, suppress(OSError, ValueError):
                _answer(answer, names, directories, data)


def _answer(answer: socket.socket, names: list[tuple[str, ...]], directories: list[int], data: bytes) -> None:
    number, flags, mode, name = data.split(b" ", 3)
    place, text = int(number), os.fsdecode(name)
    try:
        if not 0 <= place < len(directories) or text not in names[place]:
            raise PermissionError(errno.EPERM, "not one of the kept names")
        fd = os.open(text, int(flags) | os.O_CLOEXEC | os.O_NONBLOCK, int(mode), dir_fd=directories[place])
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                raise IsADirectoryError(errno.EISDIR, "is a directory")
            socket.send_fds(answer, [b"fd"], [fd])
        finally:
            os.close(fd)
    except OSError as error:
        answer.send((error.errno or errno.EIO).to_bytes(_INT, "big"))


__all__ = ["hold_outside"]
