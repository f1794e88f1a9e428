# SPDX-License-Identifier: MIT
"""The system calls by which a process drops privileges, each as one method.

Policy, order and messages belong to sockd.process.privileges.  Tests replace this object by one that records the
calls, or lets one fail.  Of those that os lacks, prctl(2) is in the extension, since every start calls it, and
capset(2) comes from the C library by ctypes; nothing here makes a callback, which a process without writable and
executable memory may not have.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, Protocol

from sockd._sockbuf import ffi, lib
from sockd.errors import fault
from sockd.lazy import ctypes

if TYPE_CHECKING:
    from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
CAPABILITY_VERSION_3 = 0x20080522  # of 64 bits, in two halves: capget(2)


class RightsCalls(Protocol):
    """System calls of privileges; each method raises OSError."""

    def set_no_new_privileges(self) -> None:
        """Programs executed from now on get no privileges beyond ours (prctl(2))."""

    def setgroups(self, groups: Sequence[int]) -> None:
        """Replace the supplementary groups (setgroups(2))."""

    def setgid(self, gid: int) -> None:
        """Replace the real, effective and saved group (setresgid(2))."""

    def chroot(self, path: str) -> None:
        """Make a directory the root (chroot(2))."""

    def chdir(self, path: str) -> None:
        """Change the directory (chdir(2))."""

    def setuid(self, uid: int) -> None:
        """Replace the real, effective and saved user (setresuid(2))."""

    def clear_capabilities(self) -> None:
        """Empty the permitted, effective, inheritable and ambient sets (capset(2))."""


class Syscalls:
    """The calls themselves; set*id by the C library, which does them in every thread (nptl(7))."""

    def set_no_new_privileges(self) -> None:
        """prctl(PR_SET_NO_NEW_PRIVS); does nothing without it."""
        if sys.platform == "linux":
            self._prctl(PR_SET_NO_NEW_PRIVS, 1)

    def setgroups(self, groups: Sequence[int]) -> None:
        """setgroups(2)."""
        os.setgroups(groups)

    def setgid(self, gid: int) -> None:
        """setresgid(2), or where there is none setgid(2), which as root sets all three."""
        if hasattr(os, "setresgid"):
            os.setresgid(gid, gid, gid)
        else:
            os.setgid(gid)

    def chroot(self, path: str) -> None:
        """chroot(2)."""
        os.chroot(path)

    def chdir(self, path: str) -> None:
        """chdir(2)."""
        os.chdir(path)

    def setuid(self, uid: int) -> None:
        """setresuid(2), or where there is none setuid(2), which as root sets all three."""
        if hasattr(os, "setresuid"):
            os.setresuid(uid, uid, uid)
        else:
            os.setuid(uid)

    def clear_capabilities(self) -> None:
        """capset(2) with nothing, of this thread; ambient ones go with the permitted (capabilities(7))."""
        if sys.platform != "linux":
            return
        self._prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, allowed=(errno.EINVAL,))  # before Linux 4.3
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)  # 0 is this thread
        nothing = (ctypes.c_uint32 * 6)()
        if ctypes.CDLL(None, use_errno=True).capset(header, nothing) < 0:
            raise _error(ctypes.get_errno())

    @staticmethod
    def _prctl(option: int, value: int, *, allowed: Sequence[int] = ()) -> None:
        if lib.sockd_prctl(option, value) < 0 and ffi.errno not in allowed:
            raise _error(ffi.errno)


def end_with_parent(number: int) -> None:
    """Get a signal when the parent dies; a change of user undoes that (prctl(2))."""
    if sys.platform == "linux":
        Syscalls._prctl(PR_SET_PDEATHSIG, number)


def close_to_others() -> None:
    """Prevent other processes of the same user from inspecting this one: its memory, its environment, its descriptors,
    ptrace(2).

    A change of user does so as well, and execve(2) undoes it; so each start does it, and an upgrade, which is one.
    Started programs are not affected.  There are no core files then.

    Raises:
        SystemFault, PermissionFault: the kernel refuses.
    """
    if sys.platform != "linux":
        return
    try:
        Syscalls._prctl(PR_SET_DUMPABLE, 0)
    except OSError as error:
        raise fault(
            error, "cannot protect the process from other processes, not serving: prctl(PR_SET_DUMPABLE)"
        ) from None


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))
