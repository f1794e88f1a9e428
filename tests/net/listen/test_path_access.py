# SPDX-License-Identifier: MIT
"""Mode, owner and group of Unix sockets: there before anybody can connect, and kept.

Seen failing, each once: without fchmod(2) before bind(2), and without chmod(2) before listen(2).
"""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys

import pytest

from sockd.errors import ConfigurationError, PermissionFault
from sockd.net.address.address import Address
from sockd.net.listen.bind import bind_problem, open_listener
from sockd.net.listen.path_access import PathAccess
from sockd.settings.listen import ListenSettings

NOBODY = pwd.getpwnam("nobody")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be other users")


def access_of(path):
    found = os.lstat(path)
    return stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid


@pytest.fixture
def opened(tmp_path):
    """Open a Unix socket: opened("unix", mode="0660") -> path."""
    every = []

    def start(scheme, **settings):
        path = f"{tmp_path}/{scheme}{len(every)}"
        every.extend(open_listener(Address.parse(f"{scheme}:{path}"), ListenSettings(**settings)))
        return path

    yield start
    for one in every:
        one.close()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("scheme", ["unix", "unixgram"])
@pytest.mark.parametrize("mode", ["0660", "666", "0600"])
def test_mode_whatever_the_umask(opened, scheme, mode, umask):
    before = os.umask(umask)
    try:
        assert access_of(opened(scheme, mode=mode))[0] == int(mode, 8)
    finally:
        os.umask(before)


def test_unset_is_as_the_umask_says(opened):
    before = os.umask(0o027)
    try:
        assert access_of(opened("unix"))[0] == 0o750
        assert access_of(opened("unix", group=str(os.getegid())))[0] == 0o750
    finally:
        os.umask(before)


@needs_root
@pytest.mark.parametrize("scheme", ["unix", "unixgram"])
def test_owner_and_group_by_name_or_number(opened, scheme):
    assert access_of(opened(scheme, owner="nobody", mode="0600")) == (0o600, NOBODY.pw_uid, 0)
    assert access_of(opened(scheme, owner="12345", group="23456", mode="0660")) == (0o660, 12345, 23456)


def try_to_connect(path, kind, uid):
    """What another user's connect(2) comes to."""
    code = (
        "import os, socket, sys; path, kind, uid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
        "os.chdir(os.path.dirname(path)); os.setgroups([]); os.setgid(uid); os.setuid(uid)\n"
        "try: socket.socket(socket.AF_UNIX, kind).connect(os.path.basename(path))\n"
        "except OSError as error: sys.exit(error.errno)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code, path, str(int(kind)), str(uid)], timeout=60)
    return os.strerror(done.returncode)


@needs_root
@pytest.mark.parametrize(("scheme", "kind"), [("unix", socket.SOCK_STREAM), ("unixgram", socket.SOCK_DGRAM)])
def test_nobody_comes_in_between(tmp_path, monkeypatch, scheme, kind):
    """The umask would let everybody in; until the path has its owner nobody but root can connect."""
    tmp_path.chmod(0o755)
    seen = []
    chown = os.chown

    def look_then_chown(held, uid, gid):
        seen.append(try_to_connect(f"{tmp_path}/s", kind, NOBODY.pw_uid))
        chown(held, uid, gid)

    monkeypatch.setattr(os, "chown", look_then_chown)
    before = os.umask(0)
    try:
        (one,) = open_listener(Address.parse(f"{scheme}:{tmp_path}/s"), ListenSettings(owner="12345", mode="0600"))
    finally:
        os.umask(before)
    try:
        assert seen == ["Permission denied"]
        assert try_to_connect(f"{tmp_path}/s", kind, 12345) == os.strerror(0)
        assert try_to_connect(f"{tmp_path}/s", kind, NOBODY.pw_uid) == "Permission denied"
    finally:
        one.close()


def test_a_name_that_is_nobodys():
    with pytest.raises(ConfigurationError, match=r'"nobdy" is not a user of this host; did you mean "nobody"'):
        PathAccess.from_settings(ListenSettings(owner="nobdy"))
    with pytest.raises(ConfigurationError, match=r'group: "no-such" is not a group of this host'):
        PathAccess.from_settings(ListenSettings(group="no-such"))


def test_check_finds_it(tmp_path):
    text = bind_problem(Address.parse(f"unix:{tmp_path}/s"), ListenSettings(owner="nobdy"))
    assert text.startswith('owner: "nobdy" is not a user')


@pytest.mark.skipif(os.geteuid() == 0, reason="root may")
def test_only_root_gives_away(opened):
    with pytest.raises(PermissionFault, match="only root gives a socket to another user"):
        opened("unix", owner="0")


def test_a_failure_leaves_no_path(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(PermissionFault, match="only root gives a socket to another user"):
        open_listener(Address.parse(f"unix:{tmp_path}/s"), ListenSettings(owner="0"))
    assert os.listdir(tmp_path) == []
