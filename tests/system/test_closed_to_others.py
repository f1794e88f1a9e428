# SPDX-License-Identifier: MIT
"""What a program or another process of the daemon's own user can see of the daemon: nothing, however it was started.

Seen to fail without PR_SET_DUMPABLE: behind an upgrade of a daemon that root started, and at once where others did.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from background import status_of
from controlling import Sockctl

import sockd
from sockd.process.pid_keeper import PidKeeper
from sockd.process.privileges import look_up
from sockd.services.socks.users import hash_password

PROBE = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(47, 4, 0, 0, 0)  # PR_CAP_AMBIENT_CLEAR_ALL
libc.capset((ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
pid = os.getppid()
told = {}
for name in ("mem", "environ", "maps", "fd", "cwd", "root", "exe", "task", "auxv", "syscall", "stack"):
    path = f"/proc/{pid}/{name}"
    try:
        if name in ("fd", "task"):
            os.listdir(path) if name == "fd" else None
        elif name in ("cwd", "root", "exe"):
            os.readlink(path)
        else:
            open(path, "rb").read(16)
        told[name] = "open"
    except OSError as error:
        told[name] = error.strerror
told["ptrace"] = "open" if libc.ptrace(16, pid, None, None) == 0 else os.strerror(ctypes.get_errno())
print(json.dumps({"uid": os.getuid(), "daemon": pid, "told": told}), flush=True)
"""
CLOSED = ("mem", "environ", "maps", "fd", "cwd", "root", "exe", "auxv", "ptrace")

PYTHON = "/usr/bin/python3"  # which another user may run
WALKS = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]  # to the Python of these tests

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="to be another user"),
    pytest.mark.skipif(not os.path.exists(PYTHON), reason="there is no /usr/bin/python3"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed"),
]


def probe(address):
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), 30) as sock:
        return json.loads(sock.makefile("rb").readline())


def check(told, uid):
    assert told["uid"] == uid
    refused = {name: told["told"][name] for name in CLOSED}
    assert set(refused.values()) <= {"Permission denied", "Operation not permitted"}, refused


@pytest.fixture
def toml(open_path):
    script = open_path / "probe.py"
    script.write_text(PROBE)
    script.chmod(0o644)
    return f"""
    [daemon]
    control = "{open_path}/run/control.sock"
    upgrade_timeout = "30s"
    {{daemon}}
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "probe"
    [service.probe]
    exec = ["{PYTHON}", "-I", "{script}"]
    """


@pytest.mark.parametrize("start", ["as root", "as the user"])
def test_before_and_after_an_upgrade(launch, open_path, toml, start):
    uid = 65534
    (open_path / "run").mkdir()
    os.chown(open_path / "run", uid, uid)
    (open_path / "sockd.toml").write_text(toml.format(daemon='user = "nobody"' if start == "as root" else ""))
    words = ["--foreground", "--log-format", "json", "-c", open_path / "sockd.toml"]
    if start == "as root":
        server = launch(*words, "--user", "nobody").ready()
    else:
        as_user = ["--reuid", uid, "--regid", pwd.getpwuid(uid).pw_gid, "--clear-groups", *WALKS]
        sockd = Path(sys.executable).with_name("sockd")
        server = launch(*as_user, sockd, *words, executable=shutil.which("setpriv")).ready()
    address = server.addresses[0]
    check(probe(address), uid)
    pid = server.process.pid
    assert status_of(pid)["Uid"][0] == str(uid)
    if start == "as root":
        return  # nobody may run the Python of these tests, so that there is no upgrade
    Sockctl(open_path / "run").say("upgrade")
    after = probe(address)
    assert after["daemon"] != pid
    check(after, uid)


HANDLER = """
import fcntl, json, os

def probe(line):
    told = []
    for fd in range(3, 256):
        try:
            name, flags = os.readlink(f"/proc/self/fd/{fd}"), fcntl.fcntl(fd, fcntl.F_GETFL)
        except OSError:
            continue
        if name.endswith(".pid") and flags & os.O_ACCMODE != os.O_RDONLY:
            told.append(name)
    return json.dumps(told).encode()
"""


def text_of(path, wanted, limit=10):
    end = time.monotonic() + limit
    while path.read_text() != wanted and time.monotonic() < end:
        time.sleep(0.01)
    return path.read_text()


def test_no_descriptor_of_the_pid_file_can_be_written_behind_the_drop(launch, open_path):
    """And yet its number is right, and goes at the end."""
    (open_path / "run").mkdir()
    (open_path / "app.py").write_text(HANDLER)
    pidfile = open_path / "run/sockd.pid"
    (open_path / "sockd.toml").write_text(
        f'[daemon]\nuser = "nobody"\npidfile = "{pidfile}"\n'
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:probe"\n'
    )
    server = launch("-f", "--log-format", "json", "-c", open_path / "sockd.toml", "--user", "nobody").ready()
    pid = server.process.pid
    assert pidfile.read_text() == f"{pid}\n"
    assert server.connect().ask(b"x") == b"[]"
    server.stop()
    assert text_of(pidfile, "") == ""


def test_a_keeper_writes_the_pid_of_who_asks_and_nothing_else(tmp_path):
    path = tmp_path / "pid"
    path.write_text("")
    keeper = PidKeeper.begin(os.open(path, os.O_WRONLY), look_up("nobody", None))
    keeper.write()
    assert path.read_text() == f"{os.getpid()}\n"
    sock = socket.socket(fileno=os.dup(keeper.fileno()))
    for message in (b"-1\n", b"", b"pid 1", b"pidpid"):
        with contextlib.suppress(TimeoutError):
            sock.settimeout(0.2)
            if message:
                sock.send(message)
                assert sock.recv(10) != b"done" or path.read_text() == f"{os.getpid()}\n"
    assert path.read_text() == f"{os.getpid()}\n"
    sock.close()
    keeper.end()
    assert path.read_text() == ""


DIRECTORYS = """
import json, os, stat

def probe(line):
    told = []
    for fd in range(3, 256):
        try:
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                told.append(fd)
        except OSError:
            continue
    return json.dumps(told).encode()
"""


def test_no_descriptor_of_a_directory_leads_out_of_a_chroot(launch, open_path):
    """And yet the configuration is read again, the log opened anew, and the users read."""
    (open_path / "empty").mkdir()
    (open_path / "var").mkdir()
    os.chown(open_path / "var", 65534, pwd.getpwuid(65534).pw_gid)
    (open_path / "app.py").write_text(DIRECTORYS)
    (open_path / "users").write_text(f"alice:{hash_password(b'secret')}\n")
    (open_path / "users").chmod(0o644)
    log, users = open_path / "var/log", open_path / "users"
    toml = (
        f'[daemon]\nuser = "nobody"\nchroot = "{open_path}/empty"\nlog = {{ to = "{log}", format = "json" }}\n'
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:probe"\n'
        f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "s"\n[service.s.socks]\nusers = "{users}"\n'
    )
    (open_path / "sockd.toml").write_text(toml)
    server = launch("-f", "-c", open_path / "sockd.toml", "--user", "nobody").ready(quiet=True)

    def lines(message):
        found = (
            [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")] if log.exists() else []
        )
        return [one for one in found if one["message"] == message]

    def until(condition):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.01)

    until(lambda: len(lines("listening")) == 2)
    address = lines("listening")[0]["address"]
    assert server.connect(address).ask(b"x") == b"[]"
    users.write_text(f"alice:{hash_password(b'secret')}\nbob:{hash_password(b'secret')}\n")
    (open_path / "sockd.toml").write_text(toml.replace('format = "json"', 'format = "json", level = "debug"'))
    server.signal(signal.SIGHUP)
    until(lambda: lines("users read") and lines("reloaded"))
    assert lines("users read")[0]["users"] == 2
    log.rename(open_path / "var/log.1")
    server.signal(signal.SIGUSR1)
    until(lambda: lines("log reopened"))
    assert server.connect(address).ask(b"x") == b"[]"
    server.stop()


# ---- all of it, before and after an upgrade, started as root

EVERYTHING = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)

def session(pid):
    return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[3]

def look(pid):
    told = {}
    for name in ("mem", "environ", "maps", "fd", "cwd", "root", "exe", "auxv"):
        path = f"/proc/{pid}/{name}"
        try:
            if name == "fd":
                os.listdir(path)
            elif name in ("cwd", "root", "exe"):
                os.readlink(path)
            elif not open(path, "rb").read(16):
                continue  # of one that is ending, nothing can be read
            told[name] = "open"
        except OSError as error:
            told[name] = error.strerror
    told["ptrace"] = "open" if libc.ptrace(16, pid, None, None) == 0 else os.strerror(ctypes.get_errno())
    return told

parent, found = os.getppid(), {}
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        of_us = os.stat(f"/proc/{pid}").st_uid in (0, os.getuid()) and session(pid) == session(parent)
        uid = int(next(line.split()[1] for line in open(f"/proc/{pid}/status") if line.startswith("Uid")))
    except (OSError, StopIteration):
        continue
    if of_us and uid == os.getuid() and int(pid) != os.getpid():
        found[open(f"/proc/{pid}/comm").read().strip() + " " + pid] = look(int(pid))
pidfile = {}
for how in ("r+", "w", "a"):
    try:
        open(sys.argv[1], how).close()
        pidfile[how] = "open"
    except OSError as error:
        pidfile[how] = error.strerror
inherited = []
for fd in range(3, 256):
    try:
        inherited.append(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        continue
inherited = [name for name in inherited if "/libffi.so" not in name]  # libffi 3.5 opens itself, for ctypes above
told = {"uid": os.getuid(), "daemon": parent, "found": found, "pidfile": pidfile, "fds": inherited}
print(json.dumps(told), flush=True)
"""
DESCRIPTORS = """
import fcntl, json, os, stat

def probe(line):
    told = []
    for fd in range(3, 1024):
        try:
            status, flags = os.fstat(fd), fcntl.fcntl(fd, fcntl.F_GETFL)
        except OSError:
            continue
        name = os.readlink(f"/proc/self/fd/{fd}")
        writable = flags & os.O_ACCMODE != os.O_RDONLY and stat.S_ISREG(status.st_mode) and name.endswith(".pid")
        if writable or stat.S_ISDIR(status.st_mode) and os.access(f"/proc/self/fd/{fd}", os.W_OK):
            told.append(name)
    return json.dumps(told).encode()
"""


@pytest.fixture
def everybodys(open_path):
    """A sockd that every user may run: what the tests' Python has, by the system's, if both are of one build."""
    told = subprocess.run(
        [PYTHON, "-c", "import sysconfig; print(sysconfig.get_config_var('SOABI'))"], capture_output=True, text=True
    )
    if told.stdout.split() != [sysconfig.get_config_var("SOABI")]:
        pytest.skip("the system's Python is of another version or build")
    packages = Path(sockd.__file__).parents[1]
    (open_path / "lib").mkdir()
    for name in ("sockd", "msgspec", "psutil", "cffi", "pycparser", "_cffi_backend*", "sockd-*.dist-info"):
        for found in packages.glob(name):
            (shutil.copytree if found.is_dir() else shutil.copy)(found, open_path / "lib" / found.name)
    return {"PYTHONPATH": str(open_path / "lib"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.mark.parametrize("more", ["", "workers = 2\n"], ids=["one process", "workers"])
def test_started_as_root_before_and_after_an_upgrade(launch, open_path, everybodys, more):
    """Every process of the daemon, its helpers too: memory, environment, descriptors, ptrace, pid file, directories."""
    uid = 65534
    open_path.chmod(0o755)  # else the new process, who is not root, may not look for the handler there
    (open_path / "run").mkdir()
    (open_path / "everything.py").write_text(EVERYTHING)
    (open_path / "app.py").write_text(DESCRIPTORS)
    pidfile, control = open_path / "run/sockd.pid", open_path / "run/control.sock"
    (open_path / "sockd.toml").write_text(
        f'[daemon]\nuser = "nobody"\npidfile = "{pidfile}"\ncontrol = "{control}"\n{more}'
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "probe"\n'
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:probe"\n'
        f'[service.probe]\nexec = ["{PYTHON}", "-I", "{open_path}/everything.py", "{pidfile}"]\n'
    )
    for file in ("everything.py", "app.py", "sockd.toml"):
        (open_path / file).chmod(0o644)
    words = [PYTHON, "-m", "sockd", "-f", "--log-format", "json", "-c", open_path / "sockd.toml"]
    server = launch(*words, environment=everybodys, executable="/usr/bin/env").ready()
    programs, handlers = server.addresses[:2]

    def look():
        told = probe(programs)
        assert told["uid"] == uid
        assert f" {told['daemon']}" in " ".join(told["found"])
        opened = {who: what for who, what in told["found"].items() if "open" in what.values()}
        assert not opened
        assert set(told["pidfile"].values()) == {"Permission denied"}
        assert told["fds"] == []
        assert json.loads(server.connect(handlers).ask(b"x")) == []
        return told

    before = look()
    assert len(before["found"]) >= 2  # with who keeps the pid file
    Sockctl(open_path / "run").say("upgrade")
    after = look()
    assert after["daemon"] != before["daemon"]
    assert pidfile.read_text() != f"{before['daemon']}\n"
