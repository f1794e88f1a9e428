# SPDX-License-Identifier: MIT
"""What packaging/ has for the house: alert rules under the real promtool, fail2ban's own server over our log."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from controlling import Sockctl
from serving import STAY_ROOT
from unpacked import UNPACKED, program
from watching import _until

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = PACKAGING / "prometheus" / "sockd.rules.yml"
DASHBOARD = PACKAGING / "prometheus" / "grafana-sockd.json"
LISTEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'


def test_each_staged_trouble_fires_its_alert_and_calm_none():
    promtool = program("promtool", "prometheus")
    for words in (["check", "rules", RULES.name], ["test", "rules", "sockd.rules.test.yml"]):
        done = subprocess.run([promtool, *words], cwd=RULES.parent, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    alerts = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r"^    name: (\w+)$", (RULES.parent / "sockd.rules.test.yml").read_text(), re.M))
    assert len(alerts) >= 8


def test_each_metric_of_rules_and_dashboard_is_one_of_a_daemon(serve, tmp_path):
    (tmp_path / "house_app.py").write_text("def upper(line):\n    return line.upper()\n")
    config = (
        f'[daemon]\nworkers = 2\npath = "{tmp_path}"\n' + LISTEN.format("house_app:upper") + LISTEN.format("metrics")
    )
    server = serve(config=config)
    assert server.connect().ask(b"a") == b"A"
    host, _, port = server.addresses[1].removeprefix("tcp://").rpartition(":")
    with closing(socket.create_connection((host, int(port)), timeout=20)) as sock:
        sock.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        page = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
    known = set(re.findall(r"^# TYPE (\w+)", page, re.M))
    panels = json.loads(DASHBOARD.read_text())["panels"]
    text = RULES.read_text() + " ".join(target["expr"] for panel in panels for target in panel["targets"])
    wanted = set(re.findall(r"\b((?:sockd|process)_[a-z_]+)\b", text)) - {"sockd_handler_seconds_bucket"}
    assert wanted - known - {"process_"} == set()


ADDRESS = r"(?P<ip>\d+(?:\.\d+){3}|[0-9a-f:]+)"
STAMP = "2026-11-23T10:00:00.123Z "
PEER = "peer=tcp://192.0.2.6:1"


def banned(line):
    """The addresses that our filter finds in a line of the log, whose tags are replaced as fail2ban does."""
    file = configparser.ConfigParser(interpolation=None)
    file.read(PACKAGING / "fail2ban" / "filter.d" / "sockd.conf")
    tags = {**file["Definition"], "addr": ADDRESS, "subnet": ADDRESS + r"(?:/\d+)?"}
    text = tags["failregex"].strip()
    while (tag := re.search(r"<(_\w+|ADDR|SUBNET)>", text)) is not None:
        text = text.replace(tag[0], tags[tag[1].lower()])
    return [found["ip"] for one in text.split("\n") for found in re.finditer(one, line.removeprefix(STAMP))]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (f'info closed service=socks {PEER} user=bob reason=refused why="wrong user or password"', ["192.0.2.6"]),
        (
            f'info closed service=socks {PEER} user="a peer=tcp://198.51.100.9:1 b" reason=refused '
            'why="wrong user or password" seconds=1.0',
            ["192.0.2.6"],
        ),
        (
            f'info closed service=socks {PEER} user="peer=tcp://198.51.100.9:1 why=wrong user or password" reason=eof',
            [],
        ),
        (f'info closed service=socks {PEER} user="\\" why=\\"wrong user or password" reason=eof', []),
        ("warning refused address=tcp://[::]:7 service=x peer=tcp://[2001:db8::6]:1 reason=denied", ["2001:db8::6"]),
        ("warning refused address=tcp://[::]:7 service=x source=192.0.2.6/32 reason=per-source", ["192.0.2.6"]),
        (f"warning refused address=tcp://[::]:7 service=x {PEER} reason=daemon-full", []),
    ],
)
def test_the_filter_of_fail2ban_finds_the_client_alone_whatever_it_has_sent(line, found):
    assert banned(STAMP + line) == found
    in_journal = line.removeprefix("info ").removeprefix("warning ")
    assert banned(f"host sockd[12]: {in_journal}") == found


@pytest.fixture
def fail2ban(tmp_path):
    """fail2ban's server with our filter and jail, whose bans are written to a file."""
    own = UNPACKED / "fail2ban"
    server, etc = program("fail2ban-server", "fail2ban"), own / "etc" / "fail2ban"
    if not etc.is_dir():
        etc = Path("/etc/fail2ban")
    python = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else shutil.which("python3")
    for directory in ("filter.d", "jail.d", "action.d"):
        (tmp_path / directory).mkdir()
    shutil.copy(etc / "fail2ban.conf", tmp_path)
    for directory in ("filter.d", "jail.d"):
        shutil.copy(PACKAGING / "fail2ban" / directory / "sockd.conf", tmp_path / directory)
    noted = tmp_path / "noted"
    note = "".join(f"action{word} = echo {word} <ip> >> {noted}\n" for word in ("ban", "unban"))
    (tmp_path / "action.d" / "note.conf").write_text(f"[Definition]\n{note}")
    jail = "[DEFAULT]\nbackend = polling\naction = note\n[sockd]\nenabled = true\nmaxretry = 2\nbantime = 3\n"
    (tmp_path / "jail.local").write_text(f"{jail}logpath = {tmp_path}/sockd.log\n")
    noted.touch()
    (tmp_path / "sockd.log").touch()
    words = [python, server, "-c", tmp_path, "-s", tmp_path / "f2b.sock", "-p", tmp_path / "f2b.pid"]
    words += ["--logtarget", tmp_path / "f2b.log", "-f", "start"]
    environment = {**os.environ, "PYTHONPATH": str(own / "usr/lib/python3/dist-packages")}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        log = tmp_path / "f2b.log"
        _until(lambda: log.exists() and "Jail 'sockd' started" in log.read_text())
        yield noted
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def refusing(tmp_path):
    """A daemon that denies 127.0.0.2, and logs as text to a file."""
    config = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\nlog = {{ to = "{tmp_path}/sockd.log" }}\n'
    (tmp_path / "sockd.toml").write_text(config + LISTEN.format("upper") + 'deny = ["127.0.0.2"]\n')
    words = [Path(sys.executable).with_name("sockd"), "-f", "-c", tmp_path / "sockd.toml", *STAY_ROOT]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        _until(lambda: "listening" in (tmp_path / "sockd.log").read_text())
        yield process
    finally:
        process.terminate()
        process.wait(20)


def test_fail2ban_bans_an_address_that_the_log_names_and_unbans_it(tmp_path, fail2ban, refusing):
    ask = Sockctl(tmp_path).ask
    host, _, port = ask("status")["listeners"][0]["address"].removeprefix("tcp://").rpartition(":")
    for source in ("127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.2"):  # the later ones are one line
        with closing(socket.create_connection((host, int(port)), timeout=20, source_address=(source, 0))) as sock:
            sock.sendall(b"x\n")
            with suppress(ConnectionError):
                sock.recv(10)
    refusing.terminate()  # which has it write what it has held back
    refusing.wait(20)
    _until(lambda: fail2ban.read_text() == "ban 127.0.0.2\nunban 127.0.0.2\n")
