# SPDX-License-Identifier: MIT
"""What an installation of sockd must do in a booted root, whichever way it is installed: for the programs try-*."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Protocol

from booted import LIMIT_S, Booted, say

if TYPE_CHECKING:
    from pathlib import Path

DROPPED_IN = """
[[listen]]
address = "tcp://127.0.0.1:7"
service = "echo"
"""
DROP_INS = "/etc/systemd/system/sockd.service.d"
OURS = re.compile("sock(d|ctl|buf|mux|relay)")
TRIALS_OWN = "/root/"
STOPPED = ("inactive", "unknown", "failed")
"""What `systemctl is-active` says of a service that does not run, or is not there."""


class Way(Protocol):
    """One way of installing, in a booted machine."""

    notify_reload: str
    """Where the drop-in of this name was installed."""
    keeps: tuple[str, ...]
    """What its removal leaves by policy."""

    def install(self, machine: Booted) -> None: ...
    def later(self, machine: Booted) -> None: ...
    def remove(self, machine: Booted) -> None: ...


def files(root: Path) -> set[str]:
    without = ["(", "-path", f"{root}/proc", "-o", "-path", f"{root}/sys", ")", "-prune"]
    words = ["find", root, "-xdev", *without, "-o", "-print"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    return {path.removeprefix(str(root)) for path in found}


def asked(client: subprocess.Popen, line: str) -> str:
    client.stdin.write(line + "\n")
    return client.stdout.readline().strip()


def trial(way: Way, root: Path, room: Path) -> bool:
    """Try it in the root, booted; whether its removal leaves nothing of sockd, which is printed."""
    before = files(root)
    with Booted(root, room / "console") as machine:
        tried(machine, way)
    ours = sorted(path for path in files(root) - before if OURS.search(path) and not path.startswith(TRIALS_OWN))
    left = [path for path in ours if path not in way.keeps]
    say(f"left after the removal: {', '.join(left) or 'nothing'}; by policy: {', '.join(way.keeps) or 'nothing'}")
    return not left


def tried(machine: Booted, way: Way) -> None:
    """Install, serve, reload, upgrade, and remove."""
    way.install(machine)
    say(f"installed under {machine.run('systemctl', '--version').splitlines()[0]}: {machine.run('sockd', '--version')}")
    served(machine)
    included(machine)
    upgraded(machine, way)
    killed(machine)
    if machine.version >= 253:
        reloaded_by_notification(machine, way)
    if machine.version >= 254:
        soft_rebooted(machine)
    machine.run("rm", "-rf", DROP_INS)
    way.remove(machine)


def served(machine: Booted) -> None:
    machine.expect("sockd.service", machine.show("ActiveState"), "active")
    machine.expect("sockd.service", machine.run("systemctl", "is-enabled", "sockd.service"), "enabled")
    machine.expect("the reply to hello", machine.ask("hello"), "HELLO")
    machine.run("sockctl", "status")
    say("enabled and serving: hello -> HELLO; sockctl status answers")
    say(machine.run("systemd-analyze", "security", "--no-pager", "sockd.service").splitlines()[-1].strip("\u2192 "))
    machine.run("systemctl", "reload", "sockd.service")
    machine.expect("the reply after a reload", machine.ask("hello"), "HELLO")
    say("reloaded")


def included(machine: Booted) -> None:
    """A file of conf.d is served from the next reload on; it stays."""
    machine.run("sh", "-c", "cat >/etc/sockd/conf.d/echo.toml", input=DROPPED_IN)
    machine.run("systemctl", "reload", "sockd.service")
    machine.until("a listener on port 7", lambda: "tcp://127.0.0.1:7 " in machine.run("sockctl", "status"))
    machine.expect("the reply of echo", machine.ask("as it is", 7), "as it is")
    say("conf.d/echo.toml dropped in and reloaded: port 7 echoes")


def upgraded(machine: Booted, way: Way) -> None:
    client = machine.client()
    machine.expect("the reply before the upgrade", asked(client, "before"), "BEFORE")
    first = machine.show("MainPID")
    way.later(machine)
    machine.until("a new main process", lambda: machine.show("MainPID") != first)
    second = machine.show("MainPID")
    machine.expect("the reply on the same connection after the upgrade", asked(client, "after"), "AFTER")
    client.stdin.close()
    machine.expect("the client's end", str(client.wait(LIMIT_S)), "0")
    machine.until("the later version", lambda: "later" in machine.run("sockctl", "status").splitlines()[0])
    say(f"upgraded with a connection open: process {first} -> {second}; {machine.run('sockd', '--version')}")
    if "not our child" in machine.journal():
        machine.fail("systemd does not have the new process as its child")
    say("systemd has the new process as its child")


def killed(machine: Booted) -> None:
    main = machine.show("MainPID")
    machine.run("kill", "-KILL", main)
    machine.until("another main process", lambda: machine.show("MainPID") not in (main, "0"))
    machine.until("the service", lambda: machine.show("ActiveState") == "active")
    if "Main process exited, code=killed, status=9/KILL" not in machine.journal("-u", "sockd.service"):
        machine.fail("systemd did not see how the process ended")
    restarts = machine.show("NRestarts")
    say(f"killed, which systemd saw with its status: {restarts} restart, serves: {machine.ask('again')}")


def dropped_in(machine: Booted, name: str, text: str) -> None:
    machine.run("sh", "-c", f"mkdir -p {DROP_INS} && cat >{DROP_INS}/{name}.conf", input=text)
    machine.run("systemctl", "daemon-reload")


def reloaded_by_notification(machine: Booted, way: Way) -> None:
    """drop-ins/notify-reload.conf, from systemd 253 on: `systemctl reload` ends when sockd has reloaded."""
    dropped_in(machine, "notify-reload", machine.run("cat", way.notify_reload))
    machine.run("systemctl", "restart", "sockd.service")
    machine.expect("the type of sockd.service", machine.show("Type"), "notify-reload")
    machine.run("systemctl", "reload", "sockd.service")
    reloads = json.loads(machine.run("sockctl", "status", "--json"))["reloads"]
    machine.expect("the number of reloads when systemctl reload has ended", str(reloads["succeeded"]), "1")
    say(f"Type=notify-reload: reloaded, {machine.show('ActiveState')}, serves: {machine.ask('again')}")


def soft_rebooted(machine: Booted) -> None:
    """Connections stay in systemd's store over a soft reboot (FileDescriptorStorePreserve=, from 254 on)."""
    dropped_in(machine, "soft-reboot", "[Service]\nFileDescriptorStorePreserve=yes\n")
    machine.run("sed", "-i", "/^\\[daemon\\]/a store_connections = true", "/etc/sockd/sockd.toml")
    machine.run("grep", "store_connections", "/etc/sockd/sockd.toml")
    machine.run("systemctl", "restart", "sockd.service")
    client = machine.client()
    machine.expect("the reply before the soft reboot", asked(client, "before"), "BEFORE")
    first = machine.show("MainPID")
    machine.run("systemctl", "soft-reboot", check=False)
    counted = ("show", "--value", "-p", "SoftRebootsCount")
    machine.until("a soft reboot", lambda: machine.asked_in_time(*counted) == "1")
    machine.until("the end of booting", machine.has_booted)
    machine.until("the service", lambda: machine.show("ActiveState") == "active")
    said = asked(client, "after")
    say(f"soft reboot: process {first} -> {machine.show('MainPID')}, a connection open: after -> {said or 'closed'}")
    machine.expect("the reply on the same connection after the soft reboot", said, "AFTER")
    client.stdin.close()
    client.wait(LIMIT_S)
