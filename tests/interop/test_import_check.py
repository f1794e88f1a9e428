# SPDX-License-Identifier: MIT
"""From xinetd to sockd and back on one machine, as docs/migrating-from-inetd.md has it: the real xinetd in a network of
its own, `sockctl import --check-against`, then sockd in its place with the same client, then xinetd again.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack

import pytest
from networks import SERVER, elsewhere  # noqa: F401 - a fixture
from unpacked import program

LIMIT_S = 30
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs a network namespace")
SERVICE = """service {name}
{{
    type = UNLISTED
    port = {port}
    bind = {host}
    socket_type = stream
    wait = no
    user = nobody
    server = /bin/cat
}}
"""


def services(*rows):
    return "".join(SERVICE.format(name=name, port=port, host=host) for name, port, host in rows)


@pytest.fixture
def machine(elsewhere, sockd, sockctl, tmp_path):  # noqa: F811 - the fixture
    """Start a server in the namespace, run a command there, ask a port there."""
    inside = ["ip", "netns", "exec", elsewhere.name]
    with ExitStack() as stack:

        class Machine:
            directory = tmp_path

            def start(self, *words, port):
                log = stack.enter_context(open(tmp_path / "server.log", "ab"))
                one = subprocess.Popen([*inside, *map(str, words)], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
                stack.callback(one.wait)
                stack.callback(one.kill)
                end = time.monotonic() + LIMIT_S
                while self.ask(port) is None:
                    assert time.monotonic() < end, (tmp_path / "server.log").read_text()
                    time.sleep(0.02)  # nothing tells when xinetd listens
                return one

            def ask(self, port):
                with elsewhere.socket(SERVER) as sock:
                    try:
                        sock.connect((SERVER, port))
                        sock.sendall(b"hello\n")
                        return sock.recv(100)
                    except OSError:
                        return None

            def sockctl(self, *words):
                return subprocess.run(
                    [*inside, sockctl, *map(str, words)], capture_output=True, text=True,
                    timeout=LIMIT_S, check=False,
                )  # fmt: skip

            def xinetd(self):
                words = ["-dontfork", "-filelog", tmp_path / "xinetd.log", "-pidfile", tmp_path / "pid"]
                return self.start(program("xinetd", "xinetd"), *words, "-f", tmp_path / "xinetd.conf", port=7001)

            def sockd(self):
                return self.start(sockd, "-f", "-c", tmp_path / "sockd.toml", port=7001)

        yield Machine()


def test_one_machine_there_and_back(machine):
    conf = machine.directory / "xinetd.conf"
    conf.write_text(
        SERVICE.format(name="one", port=7001, host="0.0.0.0") + SERVICE.format(name="two", port=7002, host="127.0.0.1")
    )
    old = machine.xinetd()
    done = machine.sockctl("import", "--check-against", conf)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["tcp://0.0.0.0:7001", "one", "same"],
        ["tcp://127.0.0.1:7002", "two", "same"],
    ]
    assert f"xinetd (pid {old.pid}) listens there" in done.stdout
    edited = machine.directory / "edited.conf"
    edited.write_text(
        SERVICE.format(name="one", port=7001, host="::") + SERVICE.format(name="three", port=7003, host="127.0.0.1")
    )
    done = machine.sockctl("import", "--check-against", edited)
    assert done.returncode == 1
    assert [line.split()[:3] for line in done.stdout.splitlines()[1:]] == [
        ["tcp://[::]:7001", "one", "wider"],
        ["tcp://127.0.0.1:7003", "three", "new"],
        ["tcp://127.0.0.1:7002", "-", "lost"],
    ]
    imported = machine.sockctl("import", conf)
    (machine.directory / "sockd.toml").write_text(imported.stdout)
    old.terminate()
    old.wait(LIMIT_S)
    assert machine.ask(7001) is None
    new = machine.sockd()
    assert machine.ask(7001) == b"hello\n"
    done = machine.sockctl("import", "--check-against", conf)
    assert [line.split()[2] for line in done.stdout.splitlines()[1:]] == ["occupied", "occupied"]  # by sockd itself
    new.terminate()
    assert new.wait(LIMIT_S) == 0
    machine.xinetd()
    assert machine.ask(7001) == b"hello\n"


def test_a_port_of_another_program_is_named(machine):
    conf = machine.directory / "xinetd.conf"
    conf.write_text(services(("one", 7001, "0.0.0.0")))
    machine.start("/usr/bin/socat", "TCP-LISTEN:7001,fork,reuseaddr", "EXEC:cat", port=7001)
    done = machine.sockctl("import", "--check-against", conf)
    assert done.returncode == 1
    assert "occupied" in done.stdout
    assert "socat (pid " in done.stdout
