# SPDX-License-Identifier: MIT
"""The control socket: who may ask, what is answered, and that it answers when nothing else can.

Seen to fail: with the credentials not looked at, nobody is answered; without the spare descriptor, status is
refused when there is no other.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack
from importlib.metadata import version

import pytest
from controlling import SOCKCTL, Sockctl

from sockd.daemon.control.server import ControlServer, listen
from sockd.net.loop.loop import EventLoop

CONFIG = '[daemon]\ncontrol = "{}/control.sock"\n{}\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{}"\n'


@pytest.fixture
def house(serve, tmp_path):
    def start(daemon="", service="upper", **more):
        server = serve(config=CONFIG.format(tmp_path, daemon, service), **more)
        server.sockctl = Sockctl(tmp_path)
        return server

    return start


def test_status(house):
    server = house()
    peer = server.connect()
    assert peer.ask(b"abc") == b"ABC"
    status = server.sockctl.ask("status")
    assert status["pid"] == server.process.pid
    assert (status["state"], status["connections"]) == ("serving", 1)
    assert status["descriptors"] == {"upper": 2}
    (row,) = status["listeners"]
    assert (row["address"], row["service"], row["accepted"], row["open"]) == (server.addresses[0], "upper", 1, 1)
    assert row["queue"]["length"] == 0
    assert {key: status["services"]["upper"][key] for key in ("received", "sent", "frames", "open")} == {
        "received": 4, "sent": 4, "frames": 1, "open": 1,
    }  # fmt: skip
    server.end_of(peer)
    upper = server.sockctl.ask("status")["services"]["upper"]
    assert (upper["open"], upper["reasons"], upper["frames"]) == (0, {"eof": 1}, 1)
    text = server.sockctl.say("status")
    assert text.startswith(f"sockd {version('sockd')}, pid {server.process.pid}, serving for ")
    assert server.addresses[0] in text
    assert "descriptors: upper 1; " in text


def test_connections_and_close(house):
    server = house()
    first, second = server.connect(), server.connect()
    second.send(b"a\nunfinished")
    assert (first.ask(b"abc"), second.line()) == (b"ABC", b"A\n")
    rows = {row["peer"]: row for row in server.sockctl.ask("connections")}
    assert set(rows) == {first.name, second.name}
    one = rows[second.name]
    assert (one["service"], one["state"], one["frames"], one["received"], one["sent"]) == ("upper", "open", 1, 12, 2)
    assert one["input_pending_bytes"] == 10
    assert second.name in server.sockctl.say("connections")
    assert second.name in server.sockctl.say("close", one["id"])
    assert second.to_end() == b""
    assert server.end_of(second)["reason"] == "shutdown"
    assert first.ask(b"b") == b"B"
    done = server.sockctl.run("close", 77)
    assert (done.returncode, done.stderr) == (64, "sockctl: no connection 77; sockctl connections lists them\n")


def test_a_number_that_was_read_earlier_ends_nobody_else(house):
    server = house()
    for _ in range(3):
        gone = server.connect()
        assert gone.ask(b"a") == b"A"
        (row,) = server.sockctl.ask("connections")
        server.end_of(gone)
        newcomer = server.connect()
        assert newcomer.ask(b"b") == b"B"
        for number in (row["id"], 2**31 - 1, 2**40):
            done = server.sockctl.run("close", number)
            assert done.returncode == 64
            assert f"no connection {number};" in done.stderr
        assert newcomer.ask(b"c") == b"C"
        server.end_of(newcomer)


def test_many_connections_are_one_answer(house):
    """More than the socket's buffer takes at once."""
    server = house()
    held = [server.connect() for _ in range(900)]
    rows = server.sockctl.ask("connections")
    assert {row["peer"] for row in rows} == {peer.name for peer in held}
    assert len(json.dumps(rows)) > 106_496  # half of net.core.wmem_default, which counts the kernel's own share


@pytest.mark.parametrize("is_renewed", [False, True])
def test_a_question_that_has_come_is_answered_in_the_turn_that_accepts_it(tmp_path, is_renewed):
    """Seen to take three turns, each of them many milliseconds beside a flood; and, of a renewed socket, to wait."""
    with ExitStack() as stack:
        loop = EventLoop(stack.enter_context(selectors.DefaultSelector()), time.monotonic)
        stack.callback(loop.close)
        server = ControlServer(listen(str(tmp_path / "first"), stack), loop, frozenset([os.getuid()]), {"status": len})
        stack.callback(server.close)
        if is_renewed:
            server.renew(listen(str(tmp_path / "second"), stack))
        for _ in range(12):  # more than a turn has time for
            ready, writer = (stack.enter_context(end) for end in socket.socketpair())
            writer.send(b"x")
            loop.add_reader(ready.fileno(), lambda: time.sleep(0.002))
        client = stack.enter_context(socket.socket(socket.AF_UNIX))
        client.settimeout(10)
        client.connect(str(tmp_path / ("second" if is_renewed else "first")))
        client.sendall(b'{"verb": "status"}\n')
        loop.run_once(0)
        assert json.loads(client.recv(1000)) == {"ok": True, "result": 0}
        assert client.recv(1000) == b""


def test_stop_and_log_level(house):
    server = house()
    assert server.sockctl.say("log-level", "error") == "level error\n"
    peer = server.connect()
    assert peer.ask(b"a") == b"A"
    peer.close()
    assert server.sockctl.run("log-level", "loud").returncode == 64
    assert server.sockctl.say("stop") == "stopping\n"
    assert server.wait() == 0
    assert server.having("stopping") == []
    done = server.sockctl.run("status")
    assert done.returncode == 71
    assert "is it running, with [daemon] control" in done.stderr


def test_the_socket_is_its_owners_alone(house, open_path, tmp_path, as_root):
    server = house()
    path = tmp_path / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o666)
    asks = [sys.executable, "-S", "-c", ASKS_AS_NOBODY, path]
    answer = json.loads(subprocess.run(asks, capture_output=True, check=True, timeout=30).stdout)
    assert answer["error"].startswith("uid 65534 may not control this daemon")
    assert answer["exit"] == 77
    assert server.wait_for("control refused")["uid"] == 65534
    server.stop()
    assert not path.exists()


ASKS_AS_NOBODY = """
import os, socket, sys
sock = socket.socket(socket.AF_UNIX)
os.setuid(65534)
sock.connect(sys.argv[1])
sock.sendall(b'{"verb": "status"}\\n')
print(sock.makefile().read())
"""


def test_after_the_drop_root_still_asks(house, open_path, as_root):
    server = house(options=["--user", "nobody"])
    assert server.sockctl.ask("status")["state"] == "serving"


@pytest.mark.parametrize(
    ("said", "told"),
    [(b"{}\n", "verb: null is not one of status"), (b"[]\n", "not a JSON object"), (b"\xff\n", "not JSON: ")],
)
def test_what_is_no_question(house, tmp_path, said, told):
    house()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(30)
        sock.connect(f"{tmp_path}/control.sock")
        sock.sendall(said)
        answer = json.loads(sock.makefile().read())
    assert told in answer["error"]
    assert answer["exit"] == 64


def test_it_answers_without_a_free_descriptor(house):
    server = house()
    pid = server.process.pid
    subprocess.run(["prlimit", f"--pid={pid}", "--nofile=40:40"], check=True)
    held = [server.connect() for _ in range(60)]
    server.wait_for("accept paused, one connection shed")
    for _ in range(3):
        assert server.sockctl.ask("status")["connections"] > 10
    for peer in held:
        peer.close()
    assert server.sockctl.ask("status")["state"] == "serving"


def test_it_is_found_by_the_configuration(house, tmp_path):
    server = house()
    (tmp_path / "sockd.toml").write_text((tmp_path / "sockd.toml").read_text() + "[wrong]\n")
    done = subprocess.run([SOCKCTL, "status"], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    if os.geteuid() == 0:  # which asks nothing that a configuration in the current directory names
        assert done.returncode == 71
        assert done.stderr.startswith("sockctl: /run/sockd/control.sock: ")
        return
    assert done.returncode == 0, done.stderr
    assert f"pid {server.process.pid}" in done.stdout


def test_a_second_daemon_is_refused(house, launch, tmp_path):
    house()
    second = launch("--foreground", "-c", "sockd.toml")
    assert second.wait() == 71
    assert "control.sock is served by" in second.said()
    assert os.path.exists(tmp_path / "control.sock")
