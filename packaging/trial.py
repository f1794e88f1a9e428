# SPDX-License-Identifier: MIT
"""A system booted by systemd-nspawn in a clean root, and what an installation of sockd must do in it.

For try-package and try-install. The root stays as it was: what is written goes to a layer above it, in memory.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

NAME = Path(sys.argv[0]).name
LIMIT_S = 120
PATH = "/opt/sockd/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORT = 7007
DROPPED_IN = """
[[listen]]
address = "tcp://127.0.0.1:7"
service = "echo"
"""
ASK = ["sockctl", "connect", f"tcp://127.0.0.1:{PORT}"]
CLIENT = """
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60).makefile("rw")
for line in sys.stdin:
    peer.write(line), peer.flush()
    print(peer.readline(), end="", flush=True)
"""
LEFT = (
    "/var/cache/", "/var/lib/dpkg", "/var/lib/apt", "/var/lib/systemd", "/var/log/", "/etc/systemd/system/",
    "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid", "/etc/.pwd.lock",
    "/tmp/", "/var/tmp/", "/etc/machine-id", "/etc/ld.so.cache", "/etc/resolv.conf", "/root/", "/usr/lib/python3",
    "/etc/mtab", "/run/", "/etc/hostname", "/etc/localtime", "/usr/share/python3", "/etc/python3", "/var/lib/dbus",
)  # fmt: skip
"""What a purge leaves by policy (users, caches, logs, the packages that were needed), or what booting makes."""


UNIFIED = 'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'


def own_cgroups(root: Path) -> list[str]:
    """Words before systemd-nspawn: systemd 258 and later do not start where cgroups are of version 1."""
    (library, *_) = root.glob("usr/lib/**/libsystemd-shared-*.so")
    is_new = int(re.findall(r"\d+", library.name)[0]) >= 258
    return ["unshare", "--mount", "sh", "-c", UNIFIED, "-"] if is_new else []


class Booted:
    def __init__(self, root: Path, console: Path) -> None:
        self._log = open(console, "wb")  # noqa: SIM115 - as long as it runs
        command = [*own_cgroups(root), "systemd-nspawn", "-q", "-D", root]
        command += ["--machine=sockd-package", "--register=no", "--keep-unit"]
        self.process = subprocess.Popen(
            [*map(str, command), "--private-network", "--console=pipe", "--boot"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        until(lambda: any(Path(f"/proc/{pid}/comm").read_text() == "systemd\n" for pid in children.read_text().split()))
        self.leader = children.read_text().split()[0]
        if os.readlink(f"/proc/{self.leader}/ns/pid") == os.readlink("/proc/self/ns/pid"):
            sys.exit(f"{NAME}: process {self.leader} is one of this host: nothing is run")
        until(lambda: self.run("systemctl", "is-system-running", check=False) in ("running", "degraded"))

    def command(self, *words: str) -> list[str]:
        variables = [f"PATH={PATH}", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
        return ["nsenter", "-t", self.leader, "-a", "env", "-i", *variables, *words]

    def client(self) -> subprocess.Popen:
        """A client in its network, which is no process of the machine: a line of standard input for each reply."""
        words = ["nsenter", "-t", self.leader, "-n", sys.executable, "-c", CLIENT, str(PORT)]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    @property
    def version(self) -> int:
        """Of systemd."""
        return int(self.run("systemctl", "--version").split()[1])

    def run(self, *words: str, check: bool = True, input: str | None = None) -> str:
        done = subprocess.run(self.command(*words), input=input, capture_output=True, text=True, timeout=LIMIT_S)
        if check and done.returncode:
            journal = self.run("journalctl", "--no-pager", "-n", "40", "-o", "cat", check=False)
            sys.exit(f"{NAME}: {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}\n{journal}")
        return done.stdout.strip()

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, "sockd.service")

    def off(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(self.command("systemctl", "poweroff"), capture_output=True, timeout=LIMIT_S)
            self.process.wait(LIMIT_S)
        if self.process.poll() is None:
            self.process.kill()
        self._log.close()


def until(tell, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if tell():
                return
        if time.monotonic() > end:
            sys.exit(f"{NAME}: waited in vain")
        time.sleep(0.1)  # until the next look


def say(words: str) -> None:
    print(f"{NAME}: {words}", flush=True)


def files(root: Path) -> set[str]:
    without = ["(", "-path", f"{root}/proc", "-o", "-path", f"{root}/sys", ")", "-prune"]
    words = ["find", root, "-xdev", *without, "-o", "-print"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return {path.removeprefix(str(root)) for path in found}


def left_by(what: str, root: Path, before: set[str]) -> int:
    """Print what is left of sockd; 1 if there is something."""
    left = sorted(path for path in files(root) - before if not path.startswith(LEFT))
    ours = [path for path in left if "sockd" in path or "sockctl" in path]
    say(f"left after {what}: {ours or 'nothing'}")
    return 1 if ours else 0


@contextlib.contextmanager
def layered(root: Path):
    """A place for files, and the root with a layer above it."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        room = Path(name)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", room], check=True)
        stack.callback(subprocess.run, ["umount", "-l", room], check=True)
        for one in ("upper", "work", "root"):
            (room / one).mkdir()
        merged = room / "root"
        layers = f"lowerdir={root},upperdir={room}/upper,workdir={room}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, merged], check=True)
        stack.callback(subprocess.run, ["umount", "-l", merged], check=True)
        for policy in merged.glob("usr/sbin/policy-rc.d"):
            policy.unlink()
        shutil.copy("/etc/resolv.conf", merged / "etc/resolv.conf")
        yield room, merged


class Way(Protocol):
    """One way of installing, in a booted machine."""

    notify_reload: str
    """Where the drop-in of this name was installed."""

    def install(self, machine: Booted) -> None: ...
    def later(self, machine: Booted) -> None: ...
    def remove(self, machine: Booted) -> None: ...


def asked(client: subprocess.Popen, line: str) -> str:
    client.stdin.write(line + "\n")
    return client.stdout.readline().strip()


def tried(machine: Booted, way: Way) -> None:
    """Install, serve, reload, upgrade, and remove."""
    run = machine.run
    way.install(machine)
    say(f"installed under {run('systemctl', '--version').splitlines()[0]}: {run('sockd', '--version')}")
    assert machine.show("ActiveState") == "active", machine.show("ActiveState")
    assert run("systemctl", "is-enabled", "sockd.service") == "enabled"
    assert run(*ASK, input="hello\n") == "HELLO"
    assert "sockd" in run("sockctl", "status")
    say("enabled and serving: hello -> HELLO; sockctl status answers")
    say(run("systemd-analyze", "security", "--no-pager", "sockd.service").splitlines()[-1].strip("\u2192 "))
    run("systemctl", "reload", "sockd.service")
    assert run(*ASK, input="hello\n") == "HELLO"
    say("reloaded")
    included(machine)
    upgraded(machine, way)
    killed(machine)
    if machine.version >= 253:
        reloaded_by_notification(machine, way)
    if machine.version >= 254:
        soft_rebooted(machine)
    way.remove(machine)


def included(machine: Booted) -> None:
    """A file of conf.d is served from the next reload on; it stays."""
    machine.run("sh", "-c", "cat >/etc/sockd/conf.d/echo.toml", input=DROPPED_IN)
    machine.run("systemctl", "reload", "sockd.service")
    until(lambda: "tcp://127.0.0.1:7 " in machine.run("sockctl", "status"))
    assert machine.run("sockctl", "connect", "tcp://127.0.0.1:7", input="as it is\n") == "as it is"
    say("conf.d/echo.toml dropped in and reloaded: port 7 echoes")


def upgraded(machine: Booted, way: Way) -> None:
    client = machine.client()
    assert asked(client, "before") == "BEFORE"
    first = machine.show("MainPID")
    way.later(machine)
    until(lambda: machine.show("MainPID") != first)
    second = machine.show("MainPID")
    assert asked(client, "after") == "AFTER"
    client.stdin.close()
    assert client.wait(LIMIT_S) == 0
    until(lambda: "later" in machine.run("sockctl", "status").splitlines()[0])
    say(f"upgraded with a connection open: process {first} -> {second}; {machine.run('sockd', '--version')}")
    journal = machine.run("journalctl", "--no-pager", "-b", "-o", "cat", check=False)
    assert "not our child" not in journal, journal
    say("systemd has the new process as its child")


def killed(machine: Booted) -> None:
    main = machine.show("MainPID")
    machine.run("kill", "-KILL", main)
    until(lambda: machine.show("MainPID") not in (main, "0") and machine.show("ActiveState") == "active")
    journal = machine.run("journalctl", "--no-pager", "-b", "-o", "cat", "-u", "sockd.service", check=False)
    assert "Main process exited, code=killed, status=9/KILL" in journal
    again = machine.run(*ASK, input="again\n")
    say(f"killed, which systemd saw with its status: {machine.show('NRestarts')} restart, serves: {again}")


def dropped_in(machine: Booted, name: str, text: str) -> None:
    path = f"/etc/systemd/system/sockd.service.d/{name}.conf"
    machine.run("sh", "-c", f"mkdir -p {path.rpartition('/')[0]} && cat >{path}", input=text)
    machine.run("systemctl", "daemon-reload")


def reloaded_by_notification(machine: Booted, way: Way) -> None:
    """drop-ins/notify-reload.conf, from systemd 253 on: `systemctl reload` ends when sockd has reloaded."""
    dropped_in(machine, "notify-reload", machine.run("cat", way.notify_reload))
    machine.run("systemctl", "restart", "sockd.service")
    before = machine.run("sockctl", "status", "--json")
    machine.run("systemctl", "reload", "sockd.service")
    assert machine.show("Type") == "notify-reload"
    assert machine.run("sockctl", "status", "--json") != before
    again = machine.run(*ASK, input="again\n")
    say(f"Type=notify-reload: reloaded, {machine.show('ActiveState')}, serves: {again}")


def soft_rebooted(machine: Booted) -> None:
    """Connections stay in systemd's store over a soft reboot (FileDescriptorStorePreserve=, from 254 on)."""
    dropped_in(machine, "soft-reboot", "[Service]\nFileDescriptorStorePreserve=yes\n")
    machine.run("sed", "-i", "/^\\[daemon\\]/a store_connections = true", "/etc/sockd/sockd.toml")
    machine.run("grep", "store_connections", "/etc/sockd/sockd.toml")
    machine.run("systemctl", "restart", "sockd.service")
    client = machine.client()
    assert asked(client, "before") == "BEFORE"
    first = machine.show("MainPID")
    machine.run("systemctl", "soft-reboot", check=False)
    ask = ("timeout", "5", "systemctl")  # systemd may replace itself between a request and its reply
    until(lambda: machine.run(*ask, "show", "--value", "-p", "SoftRebootsCount", check=False) == "1")
    until(lambda: machine.run(*ask, "is-system-running", check=False) in ("running", "degraded"))
    until(lambda: machine.show("ActiveState") == "active")
    said = asked(client, "after")
    say(f"soft reboot: process {first} -> {machine.show('MainPID')}, a connection open: after -> {said or 'closed'}")
    assert said == "AFTER"
    client.stdin.close()
    client.wait(LIMIT_S)
