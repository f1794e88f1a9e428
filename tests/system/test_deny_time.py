# SPDX-License-Identifier: MIT
"""`deny_time`: who comes to such a listener is denied at all others; `ident`: the user is asked for, and logged."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from contextlib import closing, suppress

import pytest
from controlling import Sockctl
from networks import OTHERS, SERVER, elsewhere  # noqa: F401 - a fixture
from serving import STAY_ROOT
from watching import _until

BAD, GOOD = "127.0.0.2", "127.0.0.3"
TRAP = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "discard"\ndeny_time = "{}"\n'
OPEN = '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "upper"\n'


class Traps:
    """A daemon with an ordinary listener, and one that denies whoever comes."""

    def __init__(self, server, sockctl):
        self.server, self.sockctl = server, sockctl
        listening = [server.having("listening")[number] for number in range(2)]
        self.ports = {one["service"]: int(one["address"].rpartition(":")[2]) for one in listening}

    def visit(self, source, service):
        """What a client gets for a line; empty: it is closed without a word."""
        with closing(socket.socket()) as sock, suppress(ConnectionError):
            sock.settimeout(20)
            sock.bind((source, 0))
            sock.connect(("127.0.0.1", self.ports[service]))
            sock.sendall(b"x\n")
            return sock.recv(10)
        return b""

    def served(self, source, times=8):
        return sum(self.visit(source, "upper") == b"X\n" for _ in range(times))


@pytest.fixture
def traps(serve, tmp_path):
    started = []

    def start(time, workers=1):
        sockctl = Sockctl(tmp_path)
        config = f'[daemon]\nworkers = {workers}\ncontrol = "{sockctl.path}"\n{OPEN}{TRAP.format(time)}'
        server = serve(config=config)
        server.wait_for("listening", count=2)
        started.append(sockctl)
        return Traps(server, sockctl)

    yield start
    for sockctl in started:
        sockctl.run("stop", "--wait")


@pytest.mark.parametrize("workers", [1, 4])
def test_who_comes_is_denied_everywhere_for_the_time(traps, workers):
    one = traps("2s", workers)
    assert (one.served(BAD), one.served(GOOD)) == (8, 8)
    assert one.visit(BAD, "discard") == b""
    _until(lambda: one.served(BAD) == 0)  # a worker tells the supervisor, which tells all, one sooner than another
    assert (one.served(BAD, 1), one.served(GOOD)) == (0, 8)
    event = one.server.wait_for("override set")
    assert (event["kind"], event["subject"]) == ("sensor", f"{BAD}/32")
    assert one.server.wait_for("refused")["reason"] == "sensor"
    one.server.wait_for("override ended")
    _until(lambda: one.served(BAD, 1) == 1)


def test_it_holds_over_a_reload_and_an_upgrade_and_can_be_cleared(traps):
    one = traps("1h")
    one.visit(BAD, "discard")
    one.sockctl.ask("reload")
    assert one.served(BAD) == 0
    one.sockctl.ask("upgrade")
    assert (one.served(BAD), one.served(GOOD)) == (0, 8)
    (row,) = one.sockctl.ask("overrides")
    one.sockctl.ask("clear", row["id"])
    assert one.served(BAD) == 8


def test_whom_an_administrator_allows_is_not_denied(traps):
    one = traps("1h")
    one.sockctl.ask("allow", BAD)
    assert one.visit(BAD, "discard") == b""
    assert one.served(BAD) == 8
    assert [row["kind"] for row in one.sockctl.ask("overrides")] == ["allow"]


def test_datagrams_have_no_deny_time(traps, tmp_path, launch):
    (tmp_path / "sockd.toml").write_text(TRAP.format("1h").replace("tcp:", "udp:"))
    server = launch("--check", "-c", "sockd.toml")
    assert server.wait() == 78


# ---- ident


@pytest.fixture
def ident_host(elsewhere):  # noqa: F811 - the fixture
    """A host of clients, with an ident server that answers as it is told; its questions."""
    questions, answers, stop = [], {}, threading.Event()
    server = elsewhere.socket(OTHERS[0])
    server.close()
    made = []

    def make():
        elsewhere.enter()
        made.append(socket.create_server((OTHERS[0], 113)))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    listening = made[0]

    def run():
        listening.settimeout(0.1)
        while not stop.is_set():
            try:
                sock, _ = listening.accept()
            except TimeoutError:
                continue
            sock.settimeout(20)
            question = sock.recv(100)
            questions.append(question)
            if answer := answers.get("as"):
                sock.sendall(question.strip() + answer)
                sock.close()
            else:
                answers.setdefault("kept", []).append(sock)

    runner = threading.Thread(target=run)
    runner.start()
    yield elsewhere, questions, answers
    stop.set()
    runner.join()
    listening.close()
    for sock in answers.get("kept", []):
        sock.close()


def client(network, port, source):
    sock = network.socket(source)
    sock.connect((SERVER, port))
    return sock


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs a network namespace")
@pytest.mark.parametrize("word", ["log", "require"])
def test_the_user_is_asked_for(ident_host, launch, tmp_path, word):
    network, questions, answers = ident_host
    answers["as"] = b" : USERID : UNIX :alice\r\n"
    (tmp_path / "sockd.toml").write_text(
        f'[[listen]]\naddress = "tcp://{SERVER}:7001"\nservice = "upper"\nident = "{word}"\n'
    )
    server = launch("-f", "-u", "root", "--log-format", "json", "-c", "sockd.toml", preexec_fn=network.enter).ready()
    with client(network, 7001, OTHERS[0]) as sock:
        sock.sendall(b"x\n")
        assert sock.recv(10) == b"X\n"
        assert questions == [b"%d, 7001\r\n" % sock.getsockname()[1]]
        event = server.wait_for("client identified")
        assert (event["user"], event["peer"]) == ("alice", f"tcp://{OTHERS[0]}:{sock.getsockname()[1]}")
    with client(network, 7001, OTHERS[1]) as sock:  # a host without ident
        sock.sendall(b"x\n")
        assert sock.recv(10) == (b"X\n" if word == "log" else b"")
    if word == "require":
        assert server.wait_for("refused")["reason"] == "ident"
    server.stop()


def test_clients_of_a_unix_socket_have_no_host_to_ask(launch, tmp_path):
    """As docs/reference.md says."""
    (tmp_path / "sockd.toml").write_text(
        f'[[listen]]\naddress = "unix:{tmp_path}/s"\nservice = "upper"\nident = "require"\n'
    )
    server = launch("-f", *STAY_ROOT, "--log-format", "json", "-c", "sockd.toml").ready()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(f"{tmp_path}/s")
        sock.sendall(b"x\n")
        assert sock.recv(10) == b"X\n"
    server.stop()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs a network namespace")
def test_a_host_that_says_nothing_holds_up_only_its_own(ident_host, launch, tmp_path):
    network, questions, _ = ident_host
    (tmp_path / "sockd.toml").write_text(
        f'[[listen]]\naddress = "tcp://{SERVER}:7001"\nservice = "upper"\nident = "log"\n'
    )
    server = launch("-f", "-u", "root", "--log-format", "json", "-c", "sockd.toml", preexec_fn=network.enter).ready()
    with client(network, 7001, OTHERS[0]) as slow:
        slow.sendall(b"slow\n")
        _until(lambda: bool(questions))
        with client(network, 7001, OTHERS[1]) as quick:
            quick.sendall(b"x\n")
            assert quick.recv(10) == b"X\n"
        assert slow.recv(10) == b"SLOW\n"  # after the deadline
    assert server.having("client identified") == []
    server.stop()
