# SPDX-License-Identifier: MIT
"""Rules of tcpserver: what the real tcprulescheck decides for an address, and what sockd decides after import.

And one run script, under the real tcpserver and under sockd: the same clients, the same variables.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import tempfile
import time
import tomllib
from pathlib import Path

import pytest
from unpacked import program

from sockd.importer import convert, read
from sockd.importer.model import Host
from sockd.net.listen.admission import Networks
from sockd.settings.client_variables import read_client_variable, variables_for
from sockd.settings.networks import read_network

LIMIT_S = 30
RULES = {
    "open": "10.0.0.1:deny\n",
    "closed": "10.:allow\n:deny\n",
    "nested": "10.:allow\n10.1.:deny\n10.1.2.:allow\n10.1.2.3:deny\n:deny\n",
    "nested, open": "10.:deny\n10.1.:allow\n10.1.2.:deny\n10.1.2.3:allow\n",
    "ranges": "10.0.0.5-9:deny\n10.1-2.:deny\n10.3.0-4.:deny\n10.0.0.250-300:deny\n:allow\n",
    "missing numbers": "10.-1.:deny\n10.5-.:deny\n10.02-03.:deny\n010.:deny\n11.0.0.-5:deny\n",
    "two ranges": "10.1-2.2-3:deny\n10.1-2.2.:deny\n",
    "first of two": "10.0.0.1:allow\n10.0.0.1:deny\n10.:deny\n10.:allow\n",
    "no dot": "10.0.0:deny\n10.0.0.1.:deny\n10:deny\n",
    "comments": "# 10.:deny\n\n10.1.:deny  \n10.2.\n",
    "variables": '10.:allow,A="ten",B="x y"\n10.1.:allow\n10.1.2.3:allow,A=/one "two"/\n:allow,A="all",C=""\n',
    "variables, closed": '10.:allow,A=""\n10.1.:deny\n10.1.2.:allow,A="inner"\n:deny,A="never"\n',
    "everybody": ':allow,A="all"\n',
    "quoted": "10.:allow,A=xbx,B=''\n",
}
ADDRESSES = (
    "10.0.0.1", "10.0.0.4", "10.0.0.5", "10.0.0.9", "10.0.0.10", "10.0.0.250", "10.0.0.255", "10.1.0.1", "10.1.2.2",
    "10.1.2.3", "10.1.2.4", "10.1.3.0", "10.2.0.1", "10.3.3.1", "10.3.5.1", "10.255.255.255", "9.255.255.255",
    "11.0.0.0", "192.0.2.1",
)  # fmt: skip
SCRIPT = "#!/bin/sh\nexec 2>&1\nexec {tcpserver} -HRl0 -x {directory}/rules.cdb -u {uid} -c 5 127.0.0.1 {port} {show}\n"


@pytest.fixture
def tools():
    return {name: program(name, "ucspi-tcp") for name in ("tcprules", "tcprulescheck", "tcpserver")}


def compile_rules(tools, directory, text):
    (directory / "rules").write_text(text)
    words = [tools["tcprules"], directory / "rules.cdb", directory / "rules.tmp"]
    subprocess.run(words, input=text, text=True, check=True, timeout=LIMIT_S)


def verdict(tools, directory, address):
    """What tcpserver would do: its variables, or None for no."""
    done = subprocess.run(
        [tools["tcprulescheck"], directory / "rules.cdb"],
        env={"TCPREMOTEIP": address}, capture_output=True, text=True, check=False, timeout=LIMIT_S,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[-1] in ("allow connection", "deny connection"), done.stdout
    found = {line.removeprefix("set environment variable ") for line in lines if line.startswith("set environment")}
    return found if lines[-1] == "allow connection" else None


@pytest.mark.parametrize("name", RULES)
def test_every_address_is_judged_as_by_tcprulescheck(tools, tmp_path, name):
    compile_rules(tools, tmp_path, RULES[name])
    (tmp_path / "run").write_text(f"exec tcpserver -HR -x {tmp_path}/rules.cdb 0 7001 /bin/cat\n")
    result = convert(read([str(tmp_path / "run")]), Host(access_rule=""), lambda text: None)
    assert result.served == 1, result.notes
    toml = tomllib.loads(result.text)
    listen, service = toml["listen"][0], next(iter(toml["service"].values()))
    rules = Networks(*(tuple(map(read_network, listen.get(key, ()))) for key in ("allow", "deny")))
    entries = [read_client_variable(text) for text in service.get("client_environment", ())]
    of_all = [entry for entry in service.get("environment", ()) if "=" in entry]
    for address in ADDRESSES:
        is_in = rules.admit(str(ipaddress.ip_address(address)))
        found = {*of_all, *variables_for(address, entries)} if is_in else None
        assert found == verdict(tools, tmp_path, address), address


def asked(port, source):
    """The variables that a program shows to a client; None if it is refused."""
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 20, (source, 0)) as sock:
                text = b"".join(iter(lambda: sock.recv(65536), b"")).decode()
        except ConnectionResetError:
            return None
        except ConnectionRefusedError:  # it does not listen yet
            assert time.monotonic() < end
            time.sleep(0.02)  # only until the next look
        else:
            return {line for line in text.splitlines() if not line.startswith(OWN)} if text else None


OWN = ("TCPREMOTEPORT=", "REMOTE_", "HOME=", "USER=", "LOGNAME=", "SHELL=", "PWD=", "TCPLOCALHOST=")
"""What differs by the moment, and what only one of the two gives."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can switch users")
def test_a_run_script_serves_the_same_clients(tools, run, sockctl, sockd):
    with tempfile.TemporaryDirectory(prefix="sockd-tcpserver-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "show").write_text('#!/bin/sh\nenv\necho "uid $(id -u)"\n')
        (directory / "show").chmod(0o755)
        compile_rules(
            tools, directory,
            '127.0.0.1:allow,RELAYCLIENT="",TEXT="a b"\n127.0.0.2:deny\n127.0.0.:allow\n127.:allow,FAR="1"\n:deny\n',
        )  # fmt: skip
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        text = SCRIPT.format(
            tcpserver=tools["tcpserver"], directory=directory, uid=65534, port=port, show=directory / "show"
        )
        (directory / "run").write_text(text)
        (directory / "run").chmod(0o755)
        imported = run(sockctl, "import", directory / "run")
        assert imported.returncode == 0, imported.stderr
        (directory / "sockd.toml").write_bytes(imported.stdout)
        found = []
        for words in ([directory / "run"], [sockd, "-f", "-c", directory / "sockd.toml"]):
            quiet = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
            one = subprocess.Popen(words, env={"PATH": "/usr/bin:/bin"}, **quiet)
            try:
                found.append([asked(port, source) for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.9.9.9")])
            finally:
                one.terminate()
                one.wait(LIMIT_S)
        assert found[0] == found[1]
        assert {"RELAYCLIENT=", "TEXT=a b", "uid 65534"} <= found[1][0]
        assert found[1][1] is None
