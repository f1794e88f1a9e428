# SPDX-License-Identifier: MIT
"""The users that programs run as: looked up, and checked against the daemon's own user, before anything is bound.

Only root can switch users.  So a daemon that switches to a user, or was started by one, runs programs as that user
alone; and one that stays root must be configured with a user for each program, even if that is root.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, under_key
from sockd.process.privileges import find_user, group_id, look_up
from sockd.process.program import Identity
from sockd.text import show

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sockd.settings import DaemonSettings

HEAD_BYTES = 256
"""As much of the first line as the kernel reads: BINPRM_BUF_SIZE, execve(2)."""
TEXT = frozenset(b"\t\n\r" + bytes(range(32, 256)))


def resolve_identity(
    user: str | None, group: str | None, daemon: DaemonSettings, groups: Sequence[str] | None = None
) -> Identity | None:
    """Decide which user a program runs as.

    Args:
        user, group: as the service has them.
        daemon: whom the daemon serves as.
        groups: supplementary ones; None: those of the user.

    Returns:
        None: as the daemon itself.

    Raises:
        ConfigurationError: no such user or group, or the daemon is not root and cannot become it,
            or is root and was not told.
    """
    uid, gid = os.geteuid(), os.getegid()
    if daemon.user is not None:
        with under_key("daemon"):
            account = look_up(daemon.user, daemon.group)
        uid, gid = account.uid, account.gid
    if user is None:
        if uid == 0:
            text = 'missing, and the daemon serves as root; write user = "nobody", or user = "root" to run it as root'
            raise ConfigurationError(text, key=("user",))
        return None
    wanted = look_up(user, group)
    if uid == 0:
        others = wanted.groups if groups is None else tuple(group_id(one, key="groups") for one in groups)
        return Identity(wanted.uid, wanted.gid, others)
    if (wanted.uid, wanted.gid) != (uid, gid):
        key, value = ("user", user) if wanted.uid != uid else ("group", group or user)
        text = f"only root can switch users, and the daemon serves as uid {uid}, gid {gid}"
        raise ConfigurationError(f'{show(value)}: {text}; remove it, or write daemon.user = "root"', key=(key,))
    if groups is not None:
        text = f"only root can set groups, and the daemon serves as uid {uid}; remove it, or write daemon.user = "
        raise ConfigurationError(f'{text}"root"', key=("groups",))
    return None


def login_variables(user: str | None) -> tuple[str, ...]:
    """Return HOME, USER, LOGNAME and SHELL of an account, as login(1) sets them; nothing without a user.

    Args:
        user: name or number; one without an entry in the user database has no variables.
    """
    entry = find_user(user) if user is not None else None
    if entry is None:
        return ()
    shell = entry.pw_shell or "/bin/sh"  # passwd(5)
    return (f"HOME={entry.pw_dir}", f"USER={entry.pw_name}", f"LOGNAME={entry.pw_name}", f"SHELL={shell}")


def has_groups(user: str) -> bool:
    """Return whether a user has groups on this host besides its own."""
    entry = find_user(user)
    return entry is not None and {*os.getgrouplist(entry.pw_name, entry.pw_gid)} != {entry.pw_gid}


def check_directory(path: str) -> None:
    """Refuse a directory that does not exist.

    Raises:
        ConfigurationError: names the path and the reason.
    """
    if not os.path.isdir(path):
        what = "is not a directory" if os.path.exists(path) else "does not exist; create it, or name another"
        raise ConfigurationError(f"{show(path)} {what}", key=("directory",))


def check_executable(path: str) -> None:
    """Refuse a program that does not exist.

    Raises:
        ConfigurationError: names the path and the reason.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise ConfigurationError(f"{show(path)}: {error.strerror}", key=("exec",)) from None
    if not stat.S_ISREG(mode) or not mode & 0o111:
        what = "is not executable; chmod +x it" if stat.S_ISREG(mode) else "is not a file"
        raise ConfigurationError(f"{show(path)} {what}", key=("exec",))
    if reason := _not_executed(path):
        raise ConfigurationError(f"{show(path)} {reason}", key=("exec",))


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
