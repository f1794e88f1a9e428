# SPDX-License-Identifier: MIT
"""sockd under a real systemd, in every form of unit that packaging/systemd/ has, inside their sandboxes.

Seen to fail: with READY=1 not sent the start times out; without FDSTORE the client of the watchdog's test is refused;
with @setuid left out of root-phase.conf the drop is refused; with WATCHDOG=1 left out the service is killed at rest.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import stuck
from watching import SOAK

UNITS = ("sockd.service", "sockd.socket", "sockd-activated.service", "sockd@accept.socket", "sockd@.service")
DROP_INS = Path(__file__).parents[2] / "packaging" / "systemd" / "drop-ins"
CONFIGURATION = Path(__file__).parents[2] / "packaging" / "systemd" / "sockd.toml"
WHO = """
import os
import pathlib


def who(line, connection):
    return f"{connection.peer} {os.environ.get('REMOTE_ADDR')} {os.environ.get('LISTEN_FDS')}".encode()


def secret(line):
    return pathlib.Path(os.environ["CREDENTIALS_DIRECTORY"], line.decode()).read_bytes()
"""

DYNAMIC_UID = 61_184  # the first of systemd.exec(5), DynamicUser=

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def unit(machine):
    """Start units with drop-ins and a configuration of the test's; all is put back at its end."""
    written = []

    def start(name, *, drop_in="", toml=None, app=""):
        if drop_in:
            path = f"/run/systemd/system/{name}.d/test.conf"
            machine.write(path, drop_in)
            written.append(path)
        if toml is not None:
            machine.write("/etc/sockd/sockd.toml", toml)
        machine.write("/etc/sockd/app.py", app)
        machine.run("systemctl", "daemon-reload")
        machine.start(name)

    yield start
    machine.stop("sockd.socket", "sockd@accept.socket", "sockd.service", "sockd-activated.service", "sockd@*.service")
    machine.run("systemctl", "reset-failed", check=False)
    for path in written:
        (machine.root / path.lstrip("/")).unlink()
    machine.write("/etc/sockd/sockd.toml", CONFIGURATION.read_text())


def listen(*addresses, service="upper", daemon=""):
    listeners = "".join(f'[[listen]]\naddress = "{address}"\nservice = "{service}"\n' for address in addresses)
    return f"[daemon]\n{daemon}\n{listeners}"


def test_the_direct_service(machine, unit):
    unit("sockd.service")
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"
    assert machine.show("sockd.service", "ActiveState") == "active"
    assert machine.show("sockd.service", "StatusText") == "serving, 0 connections, 1 listener"
    status = machine.status("sockd.service")
    assert status["Uid"][0] == machine.run("id", "-u", "sockd")
    assert int(status["CapEff"][0], 16) == 1 << 10  # CAP_NET_BIND_SERVICE
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])


def test_the_journal_has_levels_and_no_second_time(machine, unit):
    unit("sockd.service", toml=listen("tcp://127.0.0.1:7007", service="app:secret"), app=WHO)
    machine.ask("tcp://127.0.0.1:7007")  # no credentials: the handler fails
    pid = machine.show("sockd.service", "MainPID")
    text = machine.run("journalctl", "-o", "json", "--no-pager", f"_PID={pid}")
    rows = [json.loads(row) for row in text.splitlines()]
    levels = {row["MESSAGE"].partition(" address=")[0].partition(" service=")[0]: row["PRIORITY"] for row in rows}
    assert levels["listening"] == "6"
    assert levels["handler failed"] == "3"
    assert {row["PRIORITY"] for row in rows if row["MESSAGE"].startswith("    ")} == {"3"}


def test_reload(machine, unit):
    unit("sockd.service")
    before = machine.show("sockd.service", "MainPID")
    machine.write("/etc/sockd/sockd.toml", "[nonsense]\n")
    machine.run("systemctl", "reload", "sockd.service")
    text = _until(machine, "invalid configuration")
    assert "sockd.toml:1: nonsense" in text
    assert machine.show("sockd.service", "ActiveState") == "active"
    assert machine.show("sockd.service", "MainPID") == before
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"


def _until(machine, words, unit="sockd.service"):
    end = time.monotonic() + 30
    while words not in (text := machine.journal("-u", unit)):
        assert time.monotonic() < end, f"no {words!r} in:\n{text}"
        time.sleep(0.1)  # only until the next look
    return text


def test_stop_within_its_time(machine, unit):
    """A connection that is idle does not hold a stop up, and its end is in order."""
    unit("sockd.service")
    with client(machine, "tcp://127.0.0.1:7007") as peer:
        assert peer.ask("hello") == "HELLO\n"
        began = time.monotonic()
        machine.stop("sockd.service")
        assert time.monotonic() - began < 10
        assert peer.process.wait(30) == 0
    assert machine.show("sockd.service", "Result") == "success"


class client:  # noqa: N801 - used as a function
    """A sockctl that runs inside."""

    def __init__(self, machine, address):
        command = machine.command("/usr/local/bin/sockctl", "connect", "--timeout", "30s", address)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_the_watchdog_kills_a_loop_that_stands_still_and_the_listener_is_kept(machine, unit):
    unit("sockd.service", drop_in="[Service]\nWatchdogSec=1s\n")
    first = machine.show("sockd.service", "MainPID")
    time.sleep(2.5)  # two watchdog times at rest: what must not happen cannot be waited for
    assert machine.show("sockd.service", "MainPID") == first
    machine.run("kill", "-STOP", first)
    with client(machine, "tcp://127.0.0.1:7007") as peer:
        assert peer.ask("who is next") == "WHO IS NEXT\n"  # from the backlog, by the second one
    assert machine.show("sockd.service", "MainPID") not in (first, "0")
    assert machine.show("sockd.service", "NRestarts") == "1"
    text = machine.journal("-u", "sockd.service")
    assert "Watchdog timeout" in text
    assert "passed=tcp%3A//127.0.0.1%3A7007" in text


STUCK = [(kind, how) for kind in stuck.KINDS for how in ("TERM", "INT")]
STUCK_SHARE = [("python", "TERM"), ("c_with_lock", "TERM"), ("lock", "INT"), ("blocking", "TERM")]


class Since:
    """What the unit's journal has had since this was made."""

    def __init__(self, machine):
        self._machine = machine
        text = machine.run("journalctl", "-n", "0", "--show-cursor", "--no-pager")
        self._cursor = text.rpartition("-- cursor: ")[2].strip()

    def lines(self, priority=None):
        """Messages; what journalctl makes of a cursor and of -p at once leaves the first one out."""
        command = ["journalctl", "-u", "sockd.service", "-o", "json", "--no-pager", f"--after-cursor={self._cursor}"]
        rows = [json.loads(row) for row in self._machine.run(*command, check=False).splitlines()]
        return [row["MESSAGE"] for row in rows if priority in (None, row["PRIORITY"])]

    def wait_for(self, words):
        return self._machine._until(lambda: [row for row in self.lines() if row.startswith(words)], words)


def is_pending(machine, pid, number):
    """Return whether a signal waits for its process to run: another one of the same number would be lost."""
    pending = re.search(r"^ShdPnd:\s+(\w+)", machine.run("cat", f"/proc/{pid}/status"), re.M)[1]
    return bool(int(pending, 16) & 1 << number - 1)


@pytest.fixture
def hanging(machine, unit):
    """A unit whose handler hangs, with a client in it: its main process, and what the journal has had since."""
    clients = []

    def start(kind, *, workers=1, stop_timeout="60s"):
        since = Since(machine)
        toml = stuck.toml(kind, "tcp://127.0.0.1:7007", f"workers = {workers}").replace('"60s"', f'"{stop_timeout}"')
        unit("sockd.service", toml=toml, app=stuck.APP)
        peer = client(machine, "tcp://127.0.0.1:7007").__enter__()
        clients.append(peer)
        peer.process.stdin.write("x\n")
        peer.process.stdin.flush()
        since.wait_for("entered")
        return machine.show("sockd.service", "MainPID"), since

    yield start
    for peer in clients:
        peer.__exit__()


@pytest.mark.parametrize(("kind", "how"), STUCK if SOAK else STUCK_SHARE)
@pytest.mark.parametrize("workers", [1, 2] if SOAK else [1])
def test_a_handler_that_never_returns_holds_up_no_stop(machine, hanging, kind, how, workers):
    """The second TERM, or one INT, within a second; the journal says at what, as an error."""
    pid, since = hanging(kind, workers=workers)
    for number in ("TERM", "TERM") if how == "TERM" else ("INT",):
        machine._until(lambda: not is_pending(machine, pid, signal.SIGTERM), "the first TERM's arrival")
        machine.run("systemctl", "kill", "--kill-whom=main", f"--signal={number}", "sockd.service")
    began = time.monotonic()
    machine._until(lambda: machine.show("sockd.service", "MainPID") != pid, "the end")
    assert time.monotonic() - began < 1.0 + 1.0  # and some calls of systemctl
    forced = machine._until(lambda: [row for row in since.lines("3") if " at=" in row], "the last line")
    assert re.search(r'at="?/etc/sockd/app\.py:(\d+)', forced[-1]), since.lines()
    assert int(re.search(r"app\.py:(\d+)", forced[-1])[1]) in stuck.lines_of(kind)
    assert machine.show("sockd.service", "Result") == "success"  # TERM and INT are clean ends (systemd.service(5))


def test_a_stop_of_a_unit_whose_handler_hangs_is_no_kill_of_the_managers(machine, hanging):
    """fails without a bound of the first TERM: "State 'stop-sigterm' timed out. Killing." """
    _, since = hanging("c_with_lock", stop_timeout="1s")
    began = time.monotonic()
    machine.stop("sockd.service")
    assert time.monotonic() - began < 1 + 2 + 3
    assert since.wait_for("ended by force signal=TERM")
    assert machine.show("sockd.service", "Result") == "success"


def test_a_reload_that_imports_for_long_is_not_killed_by_the_watchdog(machine, unit):
    """fails without WATCHDOG_USEC=: killed while the module is imported"""
    slow = "import os, time\nif os.path.exists('/run/sockd/slow'):\n    time.sleep(4)\n"
    app = slow + "def answer(line):\n    return line\n"
    toml = listen("tcp://127.0.0.1:7007", service="app:answer")
    unit("sockd.service", toml=toml, app=app, drop_in="[Service]\nWatchdogSec=1s\n")
    first = machine.show("sockd.service", "MainPID")
    machine.run("touch", "/run/sockd/slow")
    machine.run("systemctl", "reload", "sockd.service")
    _until(machine, "reloaded kept=1")
    machine.run("rm", "/run/sockd/slow")
    assert machine.show("sockd.service", "MainPID") == first
    assert machine.show("sockd.service", "NRestarts") == "0"
    machine.run("kill", "-STOP", first)  # the watchdog's own time is back
    machine._until(lambda: machine.show("sockd.service", "MainPID") not in (first, "0"), "the next one")


def test_a_restart_loses_nobody(machine, unit):
    """The listener lives in the manager meanwhile, a Unix path too."""
    unit("sockd.service", toml=listen("tcp://127.0.0.1:7007", "unix:/run/sockd/own.sock"))
    inode = machine.run("stat", "-c", "%i", "/run/sockd/own.sock")
    for _ in range(3):
        restart = subprocess.Popen(machine.command("systemctl", "restart", "sockd.service"))
        while restart.poll() is None:
            assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"
        assert restart.wait() == 0
    assert machine.ask("unix:/run/sockd/own.sock") == "HELLO"
    assert machine.run("stat", "-c", "%i", "/run/sockd/own.sock") == inode
    machine.stop("sockd.service")
    assert machine.run("ss", "-Hltn", "sport = 7007") == ""  # a stop is a stop


def test_an_upgrade_keeps_the_unit_and_its_connections(machine, unit):
    """The new process is the main one from then on, and a child of the manager: asked by the manager, it pings its
    watchdog, and is restarted when it is killed.

    Before: `Supervising process N which is not our child. We'll most likely not notice when it exits.`
    """
    since = Since(machine)
    toml = listen("tcp://127.0.0.1:7007", daemon='control = "/run/sockd/control.sock"')
    unit("sockd.service", toml=toml, drop_in="[Service]\nWatchdogSec=1s\n")
    first = machine.show("sockd.service", "MainPID")
    with client(machine, "tcp://127.0.0.1:7007") as peer:
        assert peer.ask("before") == "BEFORE\n"
        machine.run("/usr/local/bin/sockctl", "upgrade", "--control", "/run/sockd/control.sock")
        second = machine.show("sockd.service", "MainPID")
        assert second not in (first, "0")
        assert peer.ask("between") == "BETWEEN\n"
        machine.run("systemctl", "kill", "--kill-whom=main", "--signal=USR2", "sockd.service")
        machine._until(lambda: machine.show("sockd.service", "MainPID") not in (second, "0"), "the third process")
        time.sleep(2.5)  # two watchdog times: what must not happen cannot be waited for
        assert peer.ask("after") == "AFTER\n"
    assert machine.show("sockd.service", "ActiveState") == "active"
    assert machine.show("sockd.service", "NRestarts") == "0"
    assert machine.show("sockd.service", "StatusText").startswith("serving, ")
    assert [line for line in since.lines() if "not our child" in line] == []
    machine.run("kill", "-KILL", machine.show("sockd.service", "MainPID"))
    since.wait_for("sockd.service: Main process exited, code=killed, status=9/KILL")
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"
    machine.run("systemctl", "restart", "sockd.service")
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"


CROWD = """
import socket, sys

clients = [socket.create_connection(("127.0.0.1", 7007)) for _ in range(int(sys.argv[1]))]
print("ready", flush=True)
answers, sent = [b"" for _ in clients], [b"" for _ in clients]
for turn in range(int(sys.argv[2])):
    sys.stdin.readline()
    for number, sock in enumerate(clients):
        piece = b"%d of %d" % (turn, number) + (b"\\n" if number % 2 else b"")
        sock.sendall(piece)
        sent[number] += piece
    print("said", flush=True)
for number, sock in enumerate(clients):
    sock.sendall(b"\\n")
    sock.shutdown(socket.SHUT_WR)
    while piece := sock.recv(65536):
        answers[number] += piece
print(sum(one.upper() + b"\\n" == other for one, other in zip(sent, answers)), flush=True)
"""
CLIENTS, RESTARTS = (1000, 5) if SOAK else (100, 2)


def test_connections_over_a_restart(machine, unit):
    """Half of them are in the middle of a line each time, and no transcript shows it."""
    toml = listen("tcp://127.0.0.1:7007", daemon="store_connections = true")
    room = f"[Service]\nFileDescriptorStoreMax={CLIENTS + 64}\nEnvironment=FDSTORE={CLIENTS + 64}\n"
    unit("sockd.service", toml=toml, drop_in=f"[Unit]\nStartLimitIntervalSec=0\n{room}")
    machine.write("/run/crowd.py", CROWD)
    words = machine.command("python3", "/run/crowd.py", CLIENTS, RESTARTS + 1)
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowd:
        assert crowd.stdout.readline() == "ready\n"
        for _ in range(RESTARTS):
            crowd.stdin.write("\n")
            crowd.stdin.flush()
            assert crowd.stdout.readline() == "said\n"
            machine.run("systemctl", "restart", "sockd.service")
        crowd.stdin.write("\n")
        crowd.stdin.flush()
        assert crowd.stdout.readline() == "said\n"
        assert crowd.stdout.readline() == f"{CLIENTS}\n"
    text = machine.journal("-u", "sockd.service", "--grep", "restored from the store")
    assert text.count(f"connections restored from the store connections={CLIENTS} dropped=0") == RESTARTS
    assert machine.show("sockd.service", "NFileDescriptorStore") == "1"  # the listener
    with client(machine, "tcp://127.0.0.1:7007") as peer:
        assert peer.ask("a") == "A\n"
        machine.stop("sockd.service")
        assert peer.process.stdout.read() == ""  # a stop is a stop


def test_a_port_below_1024_as_dynamic_user(machine, unit):
    drop_in = (DROP_INS / "dynamic-user.conf").read_text()
    unit("sockd.service", drop_in=drop_in, toml=listen("tcp://127.0.0.1:79", "unix:/run/sockd/dynamic.sock"))
    assert machine.ask("tcp://127.0.0.1:79") == "HELLO"
    assert machine.ask("unix:/run/sockd/dynamic.sock") == "HELLO"
    status = machine.status("sockd.service")
    assert int(status["Uid"][0]) >= DYNAMIC_UID
    assert int(status["CapEff"][0], 16) == 1 << 10


def test_the_root_phase(machine, unit):
    drop_in = (DROP_INS / "root-phase.conf").read_text()
    toml = listen("tcp://127.0.0.1:79", daemon='user = "sockd"\nchroot = "/run/sockd"')
    unit("sockd.service", drop_in=drop_in, toml=toml)
    assert machine.ask("tcp://127.0.0.1:79") == "HELLO"
    status = machine.status("sockd.service")
    assert set(status["Uid"]) == {machine.run("id", "-u", "sockd")}
    assert [int(status[key][0], 16) for key in ("CapPrm", "CapEff", "CapAmb")] == [0, 0, 0]


def test_the_activated_service(machine, unit):
    unit("sockd.socket")
    assert machine.show("sockd-activated.service", "ActiveState") == "inactive"
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"
    assert machine.show("sockd-activated.service", "ActiveState") == "active"
    text = _until(machine, "listening", "sockd-activated.service")
    assert "listening address=tcp://127.0.0.1:7007 service=upper passed=sockd" in text
    status = machine.status("sockd-activated.service")
    assert [int(status[key][0], 16) for key in ("CapPrm", "CapEff", "CapBnd")] == [0, 0, 0]
    assert status["Uid"][0] == machine.run("id", "-u", "sockd")
    pid = machine.show("sockd-activated.service", "MainPID")
    assert machine.run("readlink", f"/proc/{pid}/ns/net") != machine.run("readlink", "/proc/1/ns/net")
    assert machine.run("readlink", f"/proc/{pid}/ns/user") != machine.run("readlink", "/proc/1/ns/user")
    machine.stop("sockd-activated.service")
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"  # the socket unit starts it again


def test_the_activated_service_has_its_control_socket(machine, unit):
    """Seen failing: exit 77, for /run/sockd was not its own, and the socket unit failed with it."""
    unit("sockd.socket", toml=listen("tcp://127.0.0.1:7007", daemon='control = "/run/sockd/control.sock"'))
    assert machine.ask("tcp://127.0.0.1:7007") == "HELLO"
    assert "tcp://127.0.0.1:7007  upper" in machine.run("/usr/local/bin/sockctl", "status")
    assert machine.show("sockd.socket", "ActiveState") == "active"


def test_root_stays_root_for_programs_of_other_users(machine, unit):
    """What the drop-in says of itself; dropping as well is refused, as it says, too."""
    drop_in = (DROP_INS / "root-phase.conf").read_text()
    service = '[service.who]\nexec = ["/usr/bin/id", "-un"]\nuser = "daemon"\n'
    toml = listen("tcp://127.0.0.1:79", service="who", daemon='user = "root"') + service
    unit("sockd.service", drop_in=drop_in, toml=toml)
    assert machine.run("/usr/local/bin/sockctl", "connect", "tcp://127.0.0.1:79", input="") == "daemon"
    assert "not both" in drop_in.lower()


PAGE = Path(__file__).parents[2] / "docs" / "systemd.md"


def test_the_page_as_printed(machine, unit):
    """The first blocks of docs/systemd.md, where nothing is set up: a start, a file of conf.d. Seen failing with 78."""
    machine.run("rm", "-rf", "/etc/sockd")
    page = PAGE.read_text().partition("## Passed sockets")[0]
    followed = 0
    for kind, block in re.findall(r"```(console|toml)\n(.*?)```", page, re.DOTALL):
        if kind == "toml":
            machine.write(block.partition("\n")[0].removeprefix("# "), block)
            continue
        for step in re.split(r"^[#$] ", block, flags=re.MULTILINE)[1:]:
            command, _, said = step.partition("\n")
            assert machine.run("sh", "-c", f"PATH=/usr/local/bin:$PATH; {command}") == said.strip(), command
            followed += 1
    assert followed >= 8
    machine.run("systemctl", "disable", "--now", "sockd.service")
    machine.run("rm", "/etc/sockd/conf.d/echo.toml")


def test_sockets_by_name_of_every_kind(machine, unit):
    """Three ListenX= of one unit, datagrams among them; the path stays when the service stops."""
    machine.write(
        "/run/systemd/system/sockd.socket.d/test.conf",
        "[Socket]\nListenStream=\nListenStream=[::]:7010\nListenDatagram=127.0.0.1:7010\n"
        "ListenStream=/run/sockd/passed.sock\n",
    )
    unit("sockd.socket", toml=listen("fd:sockd"))
    for address in ("tcp://127.0.0.1:7010", "tcp://[::1]:7010", "udp://127.0.0.1:7010", "unix:/run/sockd/passed.sock"):
        assert machine.ask(address) == "HELLO"
    machine.stop("sockd-activated.service")
    machine.run("test", "-S", "/run/sockd/passed.sock")
    (machine.root / "run/systemd/system/sockd.socket.d/test.conf").unlink()


def test_one_sockd_for_each_connection(machine, unit):
    machine.write("/run/systemd/system/sockd@.service.d/test.conf", "[Service]\nEnvironment=SOCKD_SERVICE=app:who\n")
    unit("sockd@accept.socket", app=WHO)
    answer = machine.ask("tcp://127.0.0.1:7008")
    assert re.fullmatch(r"tcp://127\.0\.0\.1:[0-9]+ 127\.0\.0\.1 None", answer)
    assert machine.show("sockd@accept.socket", "NAccepted") == "1"
    (machine.root / "run/systemd/system/sockd@.service.d/test.conf").unlink()


def test_a_credential_is_read_by_a_handler(machine, unit):
    """As docs/systemd.md has it; the file is root's alone."""
    machine.write("/etc/credstore/token", "open sesame")
    machine.run("chmod", "600", "/etc/credstore/token")
    unit(
        "sockd.service", drop_in="[Service]\nLoadCredential=token:/etc/credstore/token\n",
        toml=listen("tcp://127.0.0.1:7007", service="app:secret"), app=WHO,
    )  # fmt: skip
    assert machine.ask("tcp://127.0.0.1:7007", "token") == "open sesame"


DOOR = """
[daemon]
control = "/run/sockd/control.sock"
log = { level = "debug" }
[[listen]]
address = "tcp://127.0.0.1:7007"
service = "door"
[service.door]
exec = ["/bin/sh", "-c", 'read said; [ "$said" = "$TOKEN" ] && echo open || echo shut']
environment = ["PATH", "TOKEN=${credential:token}"]
"""
FIRST, SECOND = "open sesame", "mellon, friend"


@pytest.mark.parametrize("who", ["", "dynamic-user"])
def test_a_credential_of_the_configuration_is_used_and_not_shown(machine, unit, who):
    """As docs/systemd.md has it: neither by status, plan, journal nor errors; a changed one comes with a restart."""
    since = Since(machine)
    drop_in = (DROP_INS / f"{who}.conf").read_text() if who else "[Service]\n"

    def store(secret):
        machine.write("/etc/credstore/token", secret + "\n")
        machine.run("chmod", "600", "/etc/credstore/token")

    def answers():
        return [machine.ask("tcp://127.0.0.1:7007", word) for word in (FIRST, SECOND, "x")]

    def ask(*words, check=True):
        """Of sockctl: both outputs."""
        return machine.run("sh", "-c", 'exec /usr/local/bin/sockctl "$@" 2>&1', "-", *words, check=check)

    store(FIRST)
    unit("sockd.service", drop_in=f"{drop_in}LoadCredential=token:/etc/credstore/token\n", toml=DOOR)
    assert answers() == ["open", "shut", "shut"]
    said = [ask("status"), ask("status", "--json"), ask("plan", "/etc/sockd/sockd.toml")]
    assert said[-1] == "kept  tcp://127.0.0.1:7007  door"
    given = "CREDENTIALS_DIRECTORY=/run/credentials/sockd.service"
    said.append(machine.run("env", given, "/usr/local/bin/sockd", "-T", "-u", "nobody", "-c", "/etc/sockd/sockd.toml"))
    assert "TOKEN=${credential:token}" in said[-1]
    machine.write(
        "/etc/sockd/sockd.toml", DOOR.replace("[service.door]", 'deny = ["${credential:token}"]\n[service.door]')
    )
    said += [ask("reload", check=False), machine.show("sockd.service", "StatusText"), ask("status")]
    assert "sockd.toml:8: listen[0].deny[0]" in said[-3]
    assert "${credential:token}" in said[-3]
    machine.write("/etc/sockd/sockd.toml", DOOR)

    store(SECOND)
    said.append(ask("reload"))
    assert answers() == ["open", "shut", "shut"]  # the manager passes what it has loaded at the start
    ask("upgrade")
    assert answers() == ["open", "shut", "shut"]
    machine.run("systemctl", "restart", "sockd.service")
    assert answers() == ["shut", "open", "shut"]
    said += [*since.lines(), machine.run("systemctl", "status", "--no-pager", "--full", "sockd.service")]
    assert len(said) > 20
    assert [text for text in said if "sesame" in text or "mellon" in text] == []


def test_a_credential_that_the_unit_does_not_load_is_named(machine, unit):
    with pytest.raises(AssertionError):
        unit("sockd.service", toml=DOOR)
    assert machine.show("sockd.service", "ExecMainStatus") == "78"
    assert "write LoadCredential=token:/path into the unit" in machine.journal("-u", "sockd.service", "-p", "err")


def test_a_configuration_that_is_wrong_is_not_tried_again(machine, unit):
    with pytest.raises(AssertionError):
        unit("sockd.service", toml=listen("tcp://127.0.0.1:7007", service="uper"))
    assert machine.show("sockd.service", "ExecMainStatus") == "78"
    assert machine.show("sockd.service", "NRestarts") == "0"
    rows = machine.run("journalctl", "-u", "sockd.service", "-p", "err", "-o", "cat", "--no-pager")
    assert 'did you mean "upper"?' in rows  # as an error, although no log was open


def test_analyze_verify_says_nothing(machine):
    names = [name.replace("@.", "@1.") for name in UNITS]
    done = subprocess.run(
        machine.command("systemd-analyze", "verify", "--man=no", *names), capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("unit_name", "most"), [("sockd.service", 1.3), ("sockd-activated.service", 0.9), ("sockd@1.service", 0.9)]
)
def test_analyze_security(machine, unit_name, most):
    path = f"/usr/local/lib/systemd/system/{unit_name.replace('@1', '@')}"
    text = machine.run("systemd-analyze", "security", "--offline=true", "--no-pager", path)
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", text)[1]) <= most
