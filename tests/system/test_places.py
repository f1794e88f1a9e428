# SPDX-License-Identifier: MIT
"""Directories, files and sockets that are replaced under a daemon: found again at a reload, or told.

Seen to fail: with the directory resolved at the start the old release is served on; with a descriptor alone the moved
directory's configuration and log go on in silence; with a listener kept whose path is gone, clients find nobody.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from types import SimpleNamespace

import pytest
from controlling import Sockctl
from watching import _until

LISTEN = '[[listen]]\naddress = "{}"\nservice = "app:answer"\n'
APP = "def answer(line):\n    return b'{} ' + line\n"


def release(directory, name, address="tcp://127.0.0.1:0", top=""):
    directory.mkdir(exist_ok=True)
    (directory / "app.py").write_text(APP.format(name))
    (directory / "sockd.toml").write_text(top + LISTEN.format(address))


@pytest.fixture
def current(tmp_path):
    """`current` leads to release one; `switch()` to release two."""
    release(tmp_path / "one", "one")
    release(tmp_path / "two", "two")
    link = tmp_path / "current"
    link.symlink_to("one")

    def switch():
        (tmp_path / "new").symlink_to("two")
        os.replace(tmp_path / "new", link)

    return SimpleNamespace(path=link, switch=switch)


@pytest.mark.parametrize("how", ["by name", "within it"])
def test_a_switched_release_is_served_behind_a_reload(daemon, current, how):
    words = ["-c", f"{current.path}/sockd.toml"] if how == "by name" else ["-c", "sockd.toml"]
    go = ["sh", "-c", f'cd {current.path} && exec "$@"', "sh"]  # the shell sets PWD
    one = daemon(arguments=words, prefix=go, listeners=1)
    assert one.ask(b"x\n") == b"one x\n"
    current.switch()
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("reloaded")
    assert one.ask(b"x\n") == b"two x\n"


def test_an_upgrade_starts_in_the_switched_one(daemon, current):
    go = ["sh", "-c", f'cd {current.path} && exec "$@"', "sh"]
    one = daemon(arguments=["-c", "sockd.toml"], prefix=go, listeners=1)
    current.switch()
    one.process.send_signal(signal.SIGUSR2)
    upgraded = one.wait_for("upgraded", within=20)
    assert one.ask(b"x\n") == b"two x\n"
    one.let_clients_go()
    one.process.wait(10)
    os.kill(upgraded["pid"], signal.SIGTERM)
    _until(lambda: not os.path.exists(f"/proc/{upgraded['pid']}"))


def test_in_the_background_as_well(tmp_path, sockd_script, current):
    user = 'user = "root"\n' if os.geteuid() == 0 else ""
    top = f'[daemon]\n{user}pidfile = "{tmp_path}/pid"\nlog = {{ to = "{tmp_path}/log" }}\n'
    for name in ("one", "two"):
        release(tmp_path / name, name, f"unix:{tmp_path}/s", top)
    done = subprocess.run(["sh", "-c", f"cd {current.path} && exec {sockd_script} -c sockd.toml"], timeout=30)
    assert done.returncode == 0
    pid = int((tmp_path / "pid").read_text())
    try:
        assert ask(tmp_path / "s") == b"one x\n"
        current.switch()
        os.kill(pid, signal.SIGHUP)
        _until(lambda: " reloaded" in (tmp_path / "log").read_text())
        assert ask(tmp_path / "s") == b"two x\n"
    finally:
        os.kill(pid, signal.SIGTERM)
        _until(lambda: not os.path.exists(f"/proc/{pid}"))


def ask(path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(20)
        sock.connect(str(path))
        sock.sendall(b"x\n")
        return sock.recv(100)


# ---- directories


def test_a_directory_that_was_made_anew_is_read(daemon, tmp_path):
    etc = tmp_path / "etc"
    release(etc, "old")
    one = daemon(arguments=["-c", f"{etc}/sockd.toml"], prefix=["env", "-C", str(etc)], listeners=1)
    os.rename(etc, tmp_path / "etc.before")
    release(etc, "new")
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("reloaded")
    assert one.ask(b"x\n") == b"new x\n"


def test_a_directory_that_has_gone_is_told(daemon, tmp_path):
    etc = tmp_path / "etc"
    release(etc, "old")
    one = daemon(arguments=["-c", f"{etc}/sockd.toml"], prefix=["env", "-C", str(etc)], listeners=1)
    os.rename(etc, tmp_path / "etc.before")
    one.process.send_signal(signal.SIGHUP)
    told = one.wait_for("configuration directory no longer at its path, reading from the old one")
    assert f"{etc} no longer exists" in told["why"]
    assert one.ask(b"x\n") == b"old x\n"


@pytest.mark.parametrize("how", ["moved", "mounted over", "removed"])
def test_the_logs_directory_is_found_again(background, tmp_path, how, as_root):
    directory = tmp_path / "logs"
    directory.mkdir(mode=0o755)
    log = directory / "log"
    own = f'log = {{ to = "{log}", format = "json" }}\n'
    one = background(daemon=own)
    one.log = log
    assert one.logged("listening")
    if how == "moved":
        os.rename(directory, tmp_path / "logs.before")
        directory.mkdir(mode=0o755)
    elif how == "removed":
        log.unlink()
        directory.rmdir()
        directory.mkdir(mode=0o755)
    elif subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        one.send(signal.SIGUSR1)
        _until(log.exists)
        one.wait_for("log reopened")
    finally:
        if how == "mounted over":
            one.stop()
            subprocess.run(["umount", "-l", directory], check=True)


def test_a_logs_directory_that_is_not_there_is_told(daemon, tmp_path):
    directory = tmp_path / "logs"
    directory.mkdir()
    log = directory / "log"
    toml = f'[daemon]\nlog = {{ to = "{log}" }}\n' + LISTEN.format(f"unix:{tmp_path}/s")
    one = daemon(toml=toml, app=APP.format("a"), listeners=0)
    _until((tmp_path / "s").exists, 20)
    os.rename(directory, tmp_path / "logs.before")
    one.process.send_signal(signal.SIGUSR1)
    before = tmp_path / "logs.before" / "log"
    _until(lambda: "log not reopened" in before.read_text())
    assert f"its directory {directory} no longer exists" in before.read_text()


# ---- sockets


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("kind", ["unix", "unixgram"])
def test_a_path_that_was_removed_is_bound_anew(daemon, tmp_path, workers, kind):
    path, control = tmp_path / "s", tmp_path / "control"
    top = f'[daemon]\nworkers = {workers}\ncontrol = "{control}"\n'
    one = daemon(toml=top + LISTEN.format(f"{kind}:{path}"), app=APP.format("a"))
    sockctl = Sockctl(tmp_path)
    sockctl.path = control
    if kind == "unix":
        known = one.connect()
        known.sendall(b"x\n")
        assert known.recv(100) == b"a x\n"
    path.unlink()
    row = sockctl.ask("status")["listeners"][0]
    assert row["problem"] == "its path has been removed; a reload binds it again"
    assert f"{kind}:{path}  its path has been removed" in sockctl.run("status").stdout
    changes = sockctl.ask("reload")["changes"]
    assert (changes["kept"], changes["added"], changes["removed"]) == ([[f"{kind}:{path}", "app:answer"]], [], [])
    assert one.wait_for("path of a Unix socket lost, bound again")["why"] == "its path has been removed"
    if kind == "unix":
        assert ask(path) == b"a x\n"
        known.sendall(b"y\n")
        assert known.recv(100) == b"a y\n"  # who was there is served on
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.bind(f"{tmp_path}/client")
            sock.sendto(b"x\n", str(path))
            assert sock.recv(100) == b"a x\n"
    assert "problem" not in sockctl.ask("status")["listeners"][0]
    one.let_clients_go()
    assert one.stop() == 0
    assert not path.exists()


@pytest.mark.parametrize("key", ["", "optional = true\n"])
def test_a_path_that_somebody_else_has_is_left_to_him_and_told(daemon, tmp_path, key):
    path = tmp_path / "s"
    top = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n'
    one = daemon(toml=top + LISTEN.format(f"unix:{path}") + key, app=APP.format("a"))
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        sockctl = Sockctl(tmp_path)
        assert sockctl.run("reload").returncode == 0
        told = one.wait_for("path of a Unix socket lost, cannot bind it again")
        assert (told["why"], "is served by pid" in told["error"]) == ("its path belongs to another socket", True)
        assert sockctl.ask("status")["listeners"][0]["problem"].startswith("its path belongs to another socket")
        assert one.stop() == 0
        assert path.exists()


def test_the_control_socket_is_bound_anew(daemon, tmp_path):
    top = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\n'
    one = daemon(toml=top + LISTEN.format("tcp://127.0.0.1:0"), app=APP.format("a"))
    sockctl = Sockctl(tmp_path)
    (tmp_path / "control.sock").unlink()
    assert sockctl.run("status").returncode == 71
    one.process.send_signal(signal.SIGHUP)
    one.wait_for("path of a Unix socket lost, bound again", address=f"{tmp_path}/control.sock")
    assert sockctl.ask("status")["pid"] == one.pid
    assert (tmp_path / "control.sock").stat().st_mode & 0o777 == 0o600
    assert one.stop() == 0
    assert not (tmp_path / "control.sock").exists()


# ---- sockets that others shut down


@pytest.mark.parametrize("service", ["app:answer", "program", "upper"])
@pytest.mark.parametrize("kind", ["tcp", "unix", "udp"])
def test_a_passed_socket_that_its_owner_shuts_down_is_closed_and_named(managed, bound, tmp_path, service, kind):
    """fails without the errors of DEAD: full CPU for a program's service and for datagrams, in silence"""
    if kind == "udp" and service == "program":
        pytest.skip("a program takes no datagrams")
    (tmp_path / "app.py").write_text(APP.format("a"))
    sock = bound(kind)
    toml = f'[[listen]]\naddress = "fd:web"\nservice = "{service}"\n[[listen]]\naddress = "unix:{tmp_path}/s2"\n'
    toml += 'service = "upper"\n[service.program]\nexec = ["/bin/cat"]\nuser = "root"\n'
    (tmp_path / "sockd.toml").write_text("[daemon]\n" + toml)
    unit = managed(words=["--foreground", "-c", "sockd.toml"], sockets=[("web", sock)])
    unit.wait_for("listening", count=2)
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        assert kind == "udp"  # ENOTCONN, and done all the same
    line = unit.wait_for("listening socket shut down by another process, no longer listening")
    assert "error" in line
    before = cpu_seconds(unit.process.pid)
    for _ in range(20):
        assert ask(tmp_path / "s2") == b"X\n"
    assert cpu_seconds(unit.process.pid) - before < 0.5
    unit.end()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- a reload that takes long


def test_the_manager_is_told_that_a_reload_takes_its_time(managed, receiver, tmp_path):
    """fails without EXTEND_TIMEOUT_USEC and WATCHDOG_USEC: the loop stands still while a module is imported"""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    slow = f"import os\nif os.path.exists('slow'):\n    open('{fifo}').read()\n"
    (tmp_path / "app.py").write_text(slow + APP.format("a"))
    (tmp_path / "sockd.toml").write_text(LISTEN.format(f"unix:{tmp_path}/s"))
    environment = {"WATCHDOG_USEC": "1000000"}
    unit = managed(words=["--foreground", "-c", "sockd.toml"], receiver=receiver, environment=environment)
    receiver.wait_for("READY")
    (tmp_path / "slow").touch()
    unit.process.send_signal(signal.SIGHUP)
    reloading = receiver.wait_for("RELOADING")
    assert int(reloading["EXTEND_TIMEOUT_USEC"]) >= 60_000_000
    assert receiver.wait_for("WATCHDOG_USEC", "120000000")["WATCHDOG"] == "1"
    with open(fifo, "w"):  # which waits for the module
        pass
    assert receiver.wait_for("WATCHDOG_USEC", "1000000")["WATCHDOG"] == "1"
    receiver.wait_for("READY", count=2)
    unit.end()
