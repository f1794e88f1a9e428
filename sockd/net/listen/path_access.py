# SPDX-License-Identifier: MIT
"""Who may connect to a Unix socket: mode, owner and group of its path.

On Linux a client needs write access to the path (unix(7)).  bind() makes a path with the mode of the
socket's own inode, less the umask: so the socket is shut to everybody before it is bound, and opened when the
path has its owner; no client of another user can come in between.  The path is held by an O_PATH descriptor
meanwhile, for in a directory that others may write it could be another file by the time of chown(2).
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, PermissionFault, SystemFault, fault
from sockd.text import show, suggest
from sockd.values import dataclass

if TYPE_CHECKING:
    import socket

    from sockd.settings.listen import ListenSettings

SHUT = 0
LEFT_ALONE = -1  # chown(2)


@dataclass(frozen=True, slots=True)
class PathAccess:
    """Mode, uid and gid that a path shall have; None and -1 leave what the kernel gives."""

    mode: int | None
    uid: int
    gid: int

    @classmethod
    def from_settings(cls, settings: ListenSettings) -> PathAccess | None:
        """Read the settings; None where nothing is set.

        Raises:
            ConfigurationError: no such user or group.
        """
        if settings.mode is None and settings.owner is None and settings.group is None:
            return None
        mode = None if settings.mode is None else int(settings.mode, 8)
        return cls(mode, _uid(settings.owner), _gid(settings.group))

    def shut(self, sock: socket.socket) -> int:
        """Before bind(): let nobody in yet.  Returns the mode that the path would have had."""
        mode = stat.S_IMODE(os.fstat(sock.fileno()).st_mode) & ~_umask()
        os.fchmod(sock.fileno(), SHUT)
        return mode if self.mode is None else self.mode

    def apply(self, path: str, mode: int) -> None:
        """After bind(): give the path its owner, then its mode.

        Raises:
            PermissionFault, SystemFault: it cannot be; names the path, the key and the remedy.
        """
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                raise SystemFault(f"unix:{path}: another file has taken its place while it was bound")
            held = f"/proc/self/fd/{fd}"
            if (self.uid, self.gid) != (LEFT_ALONE, LEFT_ALONE):
                os.chown(held, self.uid, self.gid)
            os.chmod(held, mode)
        except PermissionError:
            remedy = "only root gives a socket to another user, and others only to a group of their own"
            raise PermissionFault(f"unix:{path}: owner, group: Operation not permitted (EPERM); {remedy}") from None
        except OSError as error:
            raise fault(error, f"unix:{path}: mode, owner, group") from None
        finally:
            os.close(fd)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _uid(owner: str | None) -> int:
    if owner is None or owner.isdecimal():
        return LEFT_ALONE if owner is None else int(owner)
    try:
        return pwd.getpwnam(owner).pw_uid
    except KeyError:
        near = suggest(owner, (one.pw_name for one in pwd.getpwall()))
        raise ConfigurationError(f"{show(owner)} is not a user of this host{near}", key=("owner",)) from None


def _gid(group: str | None) -> int:
    if group is None or group.isdecimal():
        return LEFT_ALONE if group is None else int(group)
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        near = suggest(group, (one.gr_name for one in grp.getgrall()))
        raise ConfigurationError(f"{show(group)} is not a group of this host{near}", key=("group",)) from None


__all__ = ["PathAccess"]
