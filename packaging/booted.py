# SPDX-License-Identifier: MIT
"""A root of a Debian release under a layer that takes what is written, and its own systemd in it, by systemd-nspawn.

For trial.py and the programs try-*, which need root. What is not as it must be ends the program, with what was found
and what the machine said last.
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
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = Path(sys.argv[0]).name
LIMIT_S = 120
PATH = "/opt/sockd/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PORT = 7007
CLIENT = """
import socket, sys
peer = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60).makefile("rw")
for line in sys.stdin:
    peer.write(line), peer.flush()
    print(peer.readline(), end="", flush=True)
"""
QUIETLY = "-y -q --no-install-recommends"
UNIFIED = 'umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec "$@"'


def own_cgroups(root: Path) -> list[str]:
    """Words before systemd-nspawn: systemd 258 and later do not start where cgroups are of version 1."""
    (library, *_) = root.glob("usr/lib/**/libsystemd-shared-*.so")
    is_new = int(re.findall(r"\d+", library.name)[0]) >= 258
    return ["unshare", "--mount", "sh", "-c", UNIFIED, "-"] if is_new else []


class Booted:
    """The system of a root, from its start to its poweroff: `with Booted(root, console) as machine`."""

    def __init__(self, root: Path, console: Path) -> None:
        self._console = console
        self.leader = ""
        command = [*own_cgroups(root), "systemd-nspawn", "-q", "-D", root]
        command += ["--machine=sockd-package", "--register=no", "--keep-unit"]
        with open(console, "wb") as log:
            self.process = subprocess.Popen(
                [*map(str, command), "--private-network", "--console=pipe", "--boot"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def __enter__(self) -> Booted:
        try:
            self._wait_for_boot()
        except BaseException:
            self.off()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        self.off()

    def _wait_for_boot(self) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")

        def systemd() -> list[str]:
            return [pid for pid in children.read_text().split() if Path(f"/proc/{pid}/comm").read_text() == "systemd\n"]

        self.until("a systemd in the root", lambda: bool(systemd()))
        (leader,) = systemd()
        if os.readlink(f"/proc/{leader}/ns/pid") == os.readlink("/proc/self/ns/pid"):
            self.fail(f"process {leader} is one of this host: nothing is run")
        self.leader = leader
        self.until("the end of booting", self.has_booted)

    def has_booted(self) -> bool:
        return self.asked_in_time("is-system-running") in ("running", "degraded")

    def asked_in_time(self, *words: str) -> str:
        """What systemctl says, while systemd may replace itself between a request and its reply."""
        return self.run("timeout", "5", "systemctl", *words, check=False)

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
            self.fail(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, "sockd.service")

    def ask(self, line: str, port: int = PORT) -> str:
        return self.run("sockctl", "connect", f"tcp://127.0.0.1:{port}", input=f"{line}\n")

    def expect(self, what: str, found: str, *wanted: str) -> None:
        if found not in wanted:
            self.fail(f"{what} is {found!r}, not {' or '.join(map(repr, wanted))}")

    def until(self, what: str, is_so: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(OSError):
                if is_so():
                    return
            if time.monotonic() > end:
                self.fail(f"waited {seconds} s in vain for {what}")
            if self.process.poll() is not None:
                self.fail(f"the machine has ended, before {what}")
            time.sleep(0.1)  # until the next look

    def journal(self, *words: str) -> str:
        return self.run("journalctl", "--no-pager", "-b", "-o", "cat", *words, check=False)

    def fail(self, words: str) -> NoReturn:
        last = self.journal("-n", "40") if self.leader else self._console.read_text(errors="replace")[-2000:]
        sys.exit(f"{NAME}: {words}\nWhat the machine said last:\n{last}")

    def off(self) -> None:
        if self.leader:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(self.command("systemctl", "poweroff"), capture_output=True, timeout=LIMIT_S)
                self.process.wait(LIMIT_S)
        self.process.kill()
        self.process.wait()


def say(words: str) -> None:
    print(f"{NAME}: {words}", flush=True)


def inside(root: Path, script: str) -> None:
    """Run a script of sh in the root, with /proc and /dev; what it says is shown if it fails."""
    mounted = 'mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; exec chroot "$0" sh -ec "$1"'
    alone = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", mounted, root, script]
    done = subprocess.run(alone, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{NAME}: exit {done.returncode} of {script}\n{done.stdout[-4000:]}")


def get(root: Path, packages: str = "", needed_by: Path | None = None) -> None:
    """Install packages of the root's release, and what a package file needs."""
    script = f"export DEBIAN_FRONTEND=noninteractive; apt-get update -q; apt-get install {QUIETLY} {packages}"
    if needed_by:
        words = ["dpkg-deb", "-f", needed_by, "Depends"]
        depends = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        script += f"; apt-get satisfy {QUIETLY} '{depends}'"
    inside(root, script)


@contextlib.contextmanager
def layered(root: Path) -> Iterator[tuple[Path, Path]]:
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
