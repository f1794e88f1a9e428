# SPDX-License-Identifier: MIT
from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sockd.net.listen.unix_path as module
from sockd.errors import PermissionFault, SystemFault, TemporaryFault
from sockd.net.address.address import Address
from sockd.net.listen.bind import open_listener
from sockd.net.listen.unix_path import UnixPath
from sockd.settings.listen import ListenSettings

ROOT = str(Path(module.__file__).parents[2])
SCHEMES = {"unix": socket.SOCK_STREAM, "unixgram": socket.SOCK_DGRAM}

CONTENDER = """
import sys
from sockd.errors import SystemFault
from sockd.net.address.address import Address
from sockd.net.listen.bind import open_listener
from sockd.settings import ListenSettings
print("ready", flush=True)
sys.stdin.readline()
try:
    (one,) = open_listener(Address.parse(sys.argv[1]), ListenSettings())
    print("serves", flush=True)
except SystemFault as refused:
    print(refused, flush=True)
sys.stdin.read()
"""


def listen(text):
    (one,) = open_listener(Address.parse(text), ListenSettings())
    return one


def leave_stale(path, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.bind(str(path))


@pytest.fixture(params=list(SCHEMES))
def scheme(request):
    return request.param


def test_a_stale_path_is_replaced(tmp_path, scheme):
    for kind in SCHEMES.values():
        leave_stale(tmp_path / "s", kind)
        one = listen(f"{scheme}:{tmp_path}/s")
        with socket.socket(socket.AF_UNIX, SCHEMES[scheme]) as client:
            client.connect(f"{tmp_path}/s")
        one.close()


@pytest.mark.parametrize("theirs", list(SCHEMES.values()))
def test_a_path_where_a_server_answers_is_refused_and_named(tmp_path, scheme, theirs):
    with socket.socket(socket.AF_UNIX, theirs) as server:
        server.bind(f"{tmp_path}/s")
        if theirs == socket.SOCK_STREAM:
            server.listen()
        before = os.stat(tmp_path / "s").st_ino
        with pytest.raises(SystemFault, match=f"^refused: {scheme}:{tmp_path}/s is served by pid {os.getpid()}"):
            listen(f"{scheme}:{tmp_path}/s")
        assert os.stat(tmp_path / "s").st_ino == before


def test_a_server_that_cannot_be_found_by_its_path_is_known_by_its_credentials(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{tmp_path}/before")
        server.listen()
        os.rename(tmp_path / "before", tmp_path / "s")
        with pytest.raises(SystemFault, match=f"served by pid {os.getpid()}"):
            listen(f"unix:{tmp_path}/s")
        monkeypatch.setattr(module, "_peer_pid", lambda _: 0)
        with pytest.raises(SystemFault, match="served by a process that is not visible"):
            listen(f"unix:{tmp_path}/s")


def test_a_server_with_a_full_backlog_is_alive(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as waiting:
        server.bind(f"{tmp_path}/s")
        server.listen(0)
        waiting.connect(f"{tmp_path}/s")
        with pytest.raises(SystemFault, match="is served by"):
            listen(f"unix:{tmp_path}/s")


def test_what_is_no_socket_is_left_as_it_is(tmp_path, scheme):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    leave_stale(tmp_path / "stale")
    (tmp_path / "link").symlink_to("stale")
    before = sorted(os.listdir(tmp_path))
    names = {
        "file": "a regular file",
        "directory": "a directory",
        "pipe": "a device or a pipe",
        "link": "a symbolic link",
    }
    for name, kind in names.items():
        with pytest.raises(SystemFault, match=f"^refused: {scheme}:{tmp_path}/{name} is {kind}"):
            listen(f"{scheme}:{tmp_path}/{name}")
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / "file").read_text() == "precious"


def test_of_many_that_start_at_once_on_a_stale_path_one_serves(tmp_path, scheme):
    words = [sys.executable, "-c", CONTENDER, f"{scheme}:{tmp_path}/s"]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    environment = {**os.environ, "PYTHONPATH": ROOT}
    for _ in range(3):
        leave_stale(tmp_path / "s", SCHEMES[scheme])
        children = [subprocess.Popen(words, env=environment, **options) for _ in range(8)]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = sorted(child.stdout.readline().partition(" is ")[0] for child in children)
        for child in children:
            child.communicate()
        assert said == [f"refused: {scheme}:{tmp_path}/s"] * 7 + ["serves\n"]
        os.unlink(tmp_path / "s")


def test_another_process_of_ours_is_waited_for_and_then_named(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_TIMEOUT_S", 0.05)
    lock = os.open(tmp_path / ".s.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TemporaryFault, match=f"{tmp_path}/.s.lock: locked by another process"):
            listen(f"unix:{tmp_path}/s")
        fcntl.flock(lock, fcntl.LOCK_UN)
        listen(f"unix:{tmp_path}/s").close()
    finally:
        os.close(lock)


def test_who_holds_a_lock_on_the_directory_holds_up_nobody(tmp_path):
    """Anybody who can read it can."""
    directory = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(directory, fcntl.LOCK_EX)
    leave_stale(tmp_path / "s")
    begun = time.monotonic()
    listen(f"unix:{tmp_path}/s").close()
    assert time.monotonic() - begun < module.LOCK_TIMEOUT_S / 2
    os.close(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="to be two users")
def test_a_lock_that_another_user_has_put_there_holds_up_nobody(tmp_path):
    (tmp_path / ".s.lock").touch()
    os.chown(tmp_path / ".s.lock", 65534, 65534)
    lock = os.open(tmp_path / ".s.lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    leave_stale(tmp_path / "s")
    listen(f"unix:{tmp_path}/s").close()
    os.close(lock)


def test_nothing_is_left_beside_the_path(tmp_path):
    one = listen(f"unix:{tmp_path}/s")
    assert os.listdir(tmp_path) == ["s"]
    one.close()
    assert os.listdir(tmp_path) == []


def test_where_nothing_can_be_locked_nothing_is_replaced(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(9, "no locks here")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    listen(f"unix:{tmp_path}/fresh").close()
    leave_stale(tmp_path / "s")
    with pytest.raises(PermissionFault, match=f"stale.*remove {tmp_path}/s by hand"):
        listen(f"unix:{tmp_path}/s")
    assert (tmp_path / "s").is_socket()


def test_whether_it_lives_and_cannot_be_told_is_no_leave_to_remove(tmp_path, monkeypatch):
    class Denied(socket.socket):
        def connect_ex(self, _):
            return 13

    leave_stale(tmp_path / "s")
    monkeypatch.setattr(module.socket, "socket", Denied)
    with pytest.raises(PermissionFault, match=rf"of uid {os.getuid()}: .*if none does, remove it.*EACCES"):
        listen(f"unix:{tmp_path}/s")
    assert (tmp_path / "s").is_socket()


def test_a_stale_path_that_may_not_be_removed_is_named_with_its_owner(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(1, "not permitted")

    leave_stale(tmp_path / "s")
    monkeypatch.setattr(module.os, "unlink", refuse)
    with pytest.raises(PermissionFault, match=f"belongs to uid {os.getuid()}.*EPERM"):
        listen(f"unix:{tmp_path}/s")


def test_only_the_inode_that_was_bound_is_ours(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        owned = UnixPath.record(path)
        assert owned.is_ours()
        os.rename(path, path + ".old")
        assert not owned.unlink_if_ours()
        leave_stale(path)
        assert not owned.unlink_if_ours()
        assert Path(path).is_socket()
        os.rename(path + ".old", path)
        assert owned.unlink_if_ours()
        assert not Path(path).exists()
