# SPDX-License-Identifier: MIT
"""Privileges: the serving user, the irreversible drop, and its verification (FAQ IV.8).

Three steps, each of which takes what the one before returned: `wanted()` says who shall
serve, `prepare()` opens what the proof needs and forbids new rights before any handler
is imported, `drop()` gives everything up in the one order that works - supplementary
groups, group, root directory, directory, user, capabilities - and believes nobody: every thread's
/proc status must show the new ids and no capability, and going back must fail.
A step that fails raises, and whoever called does not serve.
Source: credentials(7), capabilities(7), setresuid(2), nptl(7), "Setuid Demystified".
"""

from __future__ import annotations

import encodings
import grp
import importlib
import os
import pwd
import socket
import stat
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import ConfigurationError, PermissionFault, SystemFault, fault, under_key
from sockd.lazy import ctypes, load, pkgutil
from sockd.process.syscalls import RightsCalls, Syscalls
from sockd.text import show, suggest
from sockd.units import parse_whole
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_ID = 2**32 - 2  # one more is (uid_t) -1, which setresuid(2) takes for "leave it"
TASKS = "/proc/self/task"
CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


@dataclass(frozen=True)
class Account:
    """The serving user: its group, and the supplementary groups."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Wanted:
    """The wanted privileges: an account if the user changes, a root directory if it changes."""

    account: Account | None
    chroot: str | None

    @property
    def owner(self) -> tuple[int, int] | None:
        """Uid and gid of the serving user, if they differ from those at the start."""
        return (self.account.uid, self.account.gid) if self.account else None


@dataclass(frozen=True)
class PreparedDrop:
    """Privileges about to be dropped; `tasks` is a descriptor of /proc/self/task, -1 without one."""

    wanted: Wanted
    tasks: int


@dataclass(frozen=True)
class Dropped:
    """The verified result: privileges are dropped, or were not there, or are kept because the configuration says
    so.
    """

    account: Account | None
    threads: int


# ---- who shall serve


def look_up(user: str, group: str | None) -> Account:
    """Look up a user and its groups.

    Args:
        user: name, or number of one that need not have a name.
        group: name or number; None is the user's own.

    Returns:
        The account; its supplementary groups are those that the host gives the user, and the group itself.

    Raises:
        ConfigurationError: there is no such user or group, or it is root's group.
    """
    entry = find_user(user)
    if entry is None and not _is_id(user):
        near = suggest(user, (one.pw_name for one in pwd.getpwall()))
        raise ConfigurationError(f"{show(user)} is not a user of this host{near}", key=("user",))
    uid = entry.pw_uid if entry else int(user)
    if group is None and entry is None:
        raise ConfigurationError(f"{show(user)} has no group of its own; add a group", key=("user",))
    gid = group_id(group) if group is not None else entry.pw_gid if entry else -1
    if uid != 0 and gid == 0:
        text = f"{show(group or user)} is root's group, so privileges would not be dropped; name another"
        raise ConfigurationError(text, key=("group",))
    groups = os.getgrouplist(entry.pw_name, gid) if entry else [gid]
    return Account(entry.pw_name if entry else user, uid, gid, tuple(sorted(set(groups))))


def _is_id(text: str) -> bool:
    return parse_whole(text, MAX_ID) is not None


def find_user(text: str) -> pwd.struct_passwd | None:
    """Return the entry of a user by name or number; None where there is none."""
    with suppress(KeyError):
        return pwd.getpwnam(text)
    if _is_id(text):
        with suppress(KeyError):
            return pwd.getpwuid(int(text))
    return None


def group_id(text: str, *, key: str = "group") -> int:
    """Return the number of a group, given by name or number.

    Raises:
        ConfigurationError: there is no such group; names `key`.
    """
    with suppress(KeyError):
        return grp.getgrnam(text).gr_gid
    if _is_id(text):
        return int(text)
    near = suggest(text, (one.gr_name for one in grp.getgrall()))
    raise ConfigurationError(f"{show(text)} is not a group of this host{near}", key=(key,))


def wanted(user: str | None, group: str | None, chroot: str | None, *, root_may_stay: bool) -> Wanted:
    """Decide which privileges this process will keep.

    Args:
        user: [daemon] user; "root" is how a configuration says that root may serve.
        group: [daemon] group.
        chroot: [daemon] chroot.
        root_may_stay: whether root may serve without having been told so: a try in the foreground.

    Raises:
        ConfigurationError: no such user or group or directory, or root would serve without having been told so.
        PermissionFault: only root could do it.
    """
    root = os.geteuid() == 0
    if user is None and root and not root_may_stay:
        text = 'started as root without a user to switch to; write user = "nobody" into [daemon], or give --user nobody'
        raise ConfigurationError(f"{text}; root as the user stays root", key=("daemon", "user"))
    if chroot is not None:
        check_directory(chroot)
        if not root:
            text = f"{show(chroot)}: only root can change its root directory (chroot(2))"
            raise PermissionFault(text, key=("daemon", "chroot"))
    with under_key("daemon"):
        account = look_up(user, group) if user is not None else None
    if account is None or root:
        stays = account is not None and account.uid == 0 and group is None
        return Wanted(None if stays else account, chroot)
    if (account.uid, account.gid) != (os.geteuid(), os.getegid()):
        text = f"only root can switch users; this process is uid {os.geteuid()}, gid {os.getegid()}"
        key, value = ("user", user) if account.uid != os.geteuid() else ("group", group)
        raise PermissionFault(f"{show(value)}: {text}", key=("daemon", key))
    return Wanted(None, None)


def check_directory(chroot: str) -> None:
    """Refuse a root directory that does not exist.

    Raises:
        ConfigurationError: names the path and the remedy.
    """
    if not os.path.isdir(chroot):
        what = "is not a directory" if os.path.lexists(chroot) else "does not exist"
        text = f"{show(chroot)} {what}; create one: install -d -m 755 {chroot}"
        raise ConfigurationError(text, key=("daemon", "chroot"))


def why_unreadable(path: str, account: Account) -> str:
    """Return which part of a path an account may not read; empty if it may, according to the modes."""
    directory = os.path.dirname(path)
    way = [directory]
    while directory != os.path.dirname(directory):
        directory = os.path.dirname(directory)
        way.append(directory)
    for name, bits in (*((one, 1) for one in reversed(way)), (path, 4)):
        try:
            found = os.stat(name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        shift = 6 if found.st_uid == account.uid else 3 if found.st_gid in account.groups else 0
        if account.uid != 0 and not found.st_mode >> shift & bits:
            return f"{name} has mode {stat.S_IMODE(found.st_mode):o} and belongs to uid {found.st_uid}"
    return ""


# ---- the drop


def prepare(wanted: Wanted, calls: RightsCalls | None = None) -> PreparedDrop:
    """Prepare, as root: no new privileges from now on, in this thread and those that it starts.

    Raises:
        SystemFault, PermissionFault: a call failed, or /proc does not exist to prove the drop.
    """
    if wanted.account is None or wanted.account.uid == 0:
        return PreparedDrop(wanted, -1)
    load(ctypes)  # for the drop, here and in the helper processes, whose user may not be able to read it
    _step("prctl(PR_SET_NO_NEW_PRIVS)", (calls or Syscalls()).set_no_new_privileges)
    if sys.platform != "linux":
        return PreparedDrop(wanted, -1)
    try:
        return PreparedDrop(wanted, os.open(TASKS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        text = "without it the drop of privileges cannot be verified; mount /proc"
        raise SystemFault(f"{fault(error, TASKS)}; {text}") from None


def drop(prepared: PreparedDrop, calls: RightsCalls | None = None) -> Dropped:
    """Drop everything but the wanted account, permanently, and verify it.

    Args:
        prepared: of prepare(); its descriptor is closed.
        calls: the kernel, or what a test puts in its place.

    Raises:
        SystemFault, PermissionFault: a step failed, or the proof did; nothing may be served.
    """
    try:
        return _drop(prepared, calls or Syscalls())
    finally:
        if prepared.tasks >= 0:
            os.close(prepared.tasks)


def _drop(prepared: PreparedDrop, calls: RightsCalls) -> Dropped:
    account, chroot = prepared.wanted.account, prepared.wanted.chroot
    if account is not None:
        _step(f"setgroups({list(account.groups)})", lambda: calls.setgroups(account.groups))
        _step(f"setresgid({account.gid})", lambda: calls.setgid(account.gid))
    if chroot is not None:
        _step(f"chroot({chroot})", lambda: calls.chroot(chroot))
        _step("chdir(/)", lambda: calls.chdir("/"))
    if account is None or account.uid == 0:
        return Dropped(account, 0)
    _step(f"setresuid({account.uid})", lambda: calls.setuid(account.uid))
    _step("capset()", calls.clear_capabilities)
    threads = _prove(account, prepared.tasks) if prepared.tasks >= 0 else 0
    _prove_no_way_back(account, calls)
    return Dropped(account, threads)


def _step(name: str, call: Callable[[], None]) -> None:
    try:
        call()
    except OSError as error:
        raise fault(error, f"privileges not dropped, not serving: {name}") from None


def _prove(account: Account, tasks: int) -> int:
    """Compare the status of every thread (proc(5)) with the wanted one; return their number."""
    names = os.listdir(tasks)
    for name in names:
        for wrong in _differences(account, _status(tasks, name)):
            raise SystemFault(f"privileges not dropped, not serving: thread {name} still has {wrong}")
    return len(names)


def _status(tasks: int, name: str) -> dict[str, list[str]]:
    try:
        fd = os.open(f"{name}/status", os.O_RDONLY | os.O_CLOEXEC, dir_fd=tasks)
    except FileNotFoundError:
        return {}  # that thread has ended
    with os.fdopen(fd, encoding="utf-8", errors="backslashreplace") as file:
        lines = (line.partition(":") for line in file)
        return {key: value.split() for key, _, value in lines}


def _differences(account: Account, status: dict[str, list[str]]) -> Iterator[str]:
    if not status:
        return
    expected = {
        "Uid": [str(account.uid)] * 4,
        "Gid": [str(account.gid)] * 4,
        "Groups": [str(gid) for gid in account.groups],
        "NoNewPrivs": ["1"],
    }
    for key, values in expected.items():
        found = sorted(status.get(key, []), key=int) if key == "Groups" else status.get(key)
        if found != values:
            yield f"{key}: {' '.join(found or ['(unknown)'])}"
    for key in CAPABILITY_SETS:
        if int(status.get(key, ["0"])[0], 16):
            yield f"{key}: {status[key][0]}"


def _prove_no_way_back(account: Account, calls: RightsCalls) -> None:
    """Try to regain root; each attempt must be refused."""
    attempts: dict[str, Callable[[], None]] = {
        "setuid(0)": lambda: calls.setuid(0),
        "setgid(0)": lambda: calls.setgid(0),
        "setgroups([0])": lambda: calls.setgroups([0]),
    }
    for name, attempt in attempts.items():
        with suppress(OSError):
            attempt()
            raise SystemFault(
                f"privileges not dropped, not serving: {name} still works after the drop to {account.user}"
            )


# ---- before files cannot be read any more


LATE_MODULES = ("dataclasses", "importlib.metadata", "linecache", "locale", "stringprep", "tokenize", "unicodedata")
"""What libraries import on first use: msgspec for messages with a dataclass, importlib from Python 3.13 on where
handlers are imported again, Python for tracebacks and for names that are not ASCII.
"""


def load_late_modules() -> None:
    """Load what libraries import late, for who serves cannot read them, or finds none in an empty root.

    sockd's own modules are there (sockd.lazy).  What a handler needs must be imported when its module is.
    """
    for module in LATE_MODULES:
        with suppress(ImportError):
            importlib.import_module(module)


def load_before_chroot() -> None:
    """Load what else would be loaded from files later, for in an empty root none is found (FAQ II.20).

    That is every codec, the time zone and the resolver's libraries.
    """
    for codec in pkgutil.iter_modules(encodings.__path__):
        with suppress(ImportError, LookupError):  # mbcs and oem are Windows'
            importlib.import_module(f"encodings.{codec.name}")
    time.tzset()
    time.localtime()
    with suppress(OSError):
        socket.getaddrinfo("localhost", None)  # nsswitch.conf(5) names libraries, which are loaded with the first name
    with suppress(OSError):
        ctypes.CDLL("libgcc_s.so.1")  # glibc loads it when a thread is ended, and aborts where it is not found


__all__ = [
    "Account",
    "Dropped",
    "PreparedDrop",
    "Wanted",
    "check_directory",
    "drop",
    "find_user",
    "group_id",
    "load_before_chroot",
    "load_late_modules",
    "look_up",
    "prepare",
    "wanted",
    "why_unreadable",
]
