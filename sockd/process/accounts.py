# SPDX-License-Identifier: MIT
"""The users that programs run as: looked up, and checked against the daemon's own user, before anything is bound.

Only root can switch users.  So a daemon that switches to a user, or was started by one, runs programs as that user
alone; and one that stays root must be configured with a user for each program, even if that is root.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError
from sockd.process.privileges import look_up
from sockd.process.program import Identity
from sockd.text import show

if TYPE_CHECKING:
    from sockd.settings import DaemonSettings

HEAD_BYTES = 256
"""As much of the first line as the kernel reads: BINPRM_BUF_SIZE, execve(2)."""
TEXT = frozenset(b"\t\n\r" + bytes(range(32, 256)))


def resolve_identity(place: str, user: str | None, group: str | None, daemon: DaemonSettings) -> Identity | None:
    """Decide which user a program runs as.

    Args:
        place: what messages begin with, such as "service.finger.".
        user, group: as the service has them.
        daemon: whom the daemon serves as.

    Returns:
        None: as the daemon itself.

    Raises:
        ConfigurationError: no such user or group, or the daemon is not root and cannot become it,
            or is root and was not told.
    """
    uid, gid = os.geteuid(), os.getegid()
    if daemon.user is not None:
        account = look_up(daemon.user, daemon.group)
        uid, gid = account.uid, account.gid
    if user is None:
        if uid == 0:
            text = 'missing, and the daemon serves as root; write user = "nobody", or user = "root" to run it as root'
            raise ConfigurationError(f"{place}user: {text}")
        return None
    wanted = look_up(user, group, place=place)
    if uid == 0:
        return Identity(wanted.uid, wanted.gid, wanted.groups)
    if (wanted.uid, wanted.gid) != (uid, gid):
        key, value = ("user", user) if wanted.uid != uid else ("group", group or user)
        text = f"only root can switch users, and the daemon serves as uid {uid}, gid {gid}"
        raise ConfigurationError(f'{place}{key}: {show(value)}: {text}; remove it, or write daemon.user = "root"')
    return None


def check_executable(place: str, path: str) -> None:
    """Refuse a program that does not exist.

    Raises:
        ConfigurationError: names the path and the reason.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigurationError(f"{place}exec: {show(path)}: {error.strerror}") from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        what = "is not executable; chmod +x it" if stat.S_ISREG(mode) else "is not a file"
        raise ConfigurationError(f"{place}exec: {show(path)} {what}")
    if reason := _not_executed(path):
        raise ConfigurationError(f"{place}exec: {show(path)} {reason}")


def _not_executed(path: str) -> str:
    """Return why execve(2) would refuse a file; empty if it would not, or if that cannot be determined."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # it may be executed and not read
        return ""
    if not head.startswith(b"#!"):
        is_text = bool(head) and not set(head) - TEXT
        return "has no first line that names its interpreter, such as #!/bin/sh; add one" if is_text else ""
    words = head[2:].split(b"\n")[0].strip(b" \t").split(None, 1)
    interpreter = os.fsdecode(words[0] if words else b"")
    if head.split(b"\n")[0].endswith(b"\r"):
        return "has lines that end with CR LF, and the kernel takes the CR as part of the name; end them with LF"
    if not os.path.isabs(interpreter):
        return f"names the interpreter {show(interpreter)} in its first line; that is not an absolute path"
    if not os.path.exists(interpreter):
        return f"names the interpreter {show(interpreter)} in its first line, and there is no such program"
    return ""
