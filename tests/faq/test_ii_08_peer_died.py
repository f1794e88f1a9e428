# SPDX-License-Identifier: MIT
# Seen failing against a daemon without SO_KEEPALIVE (the idle peer stays), one without TCP_USER_TIMEOUT (the one with
# an answer in flight stays), and one without idle and write deadlines (the last tests).
"""II.8, a peer that died: let go within the configured time, be it idle or an answer on its way."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time

import pytest

APP = """
import logging, socket

logger = logging.getLogger("app")

def timers(line, connection):
    sock = connection.get_extra_info("socket")
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    values = [sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
    values += [sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
    return " ".join(map(str, values)).encode()

def big(line):
    return b"x" * 60_000_000
"""
SHORT = """
[[listen]]
address = "tcp://0.0.0.0:0"
service = "upper"
keepalive = { idle = "1s", interval = "1s", count = 2 }
user_timeout = "3s"
[[listen]]
address = "tcp://192.0.2.1:0"
service = "upper"
keepalive = { idle = "1h", interval = "1h", count = 9 }
user_timeout = "3s"
"""
CONFIGURED_S = 3  # 1 + 2 * 1 by keepalive of an idle connection, 3 by TCP_USER_TIMEOUT of an answer in flight
TIMER_S = 2  # the kernel's timers run late, and each of them backs off


@pytest.mark.parametrize("how", ["silence", "cut"])
def test_a_blackholed_peer_is_gone_within_the_configured_time(daemon, network, how, soak):
    """Idle on the first listener; on the second only data that is not acknowledged can tell."""
    if how == "cut" and not soak:
        pytest.skip("takes as long again as the other; SOCKD_SOAK=1 runs it")
    one = daemon(toml=SHORT, prefix=network.prefix)
    with network.connect(one.port()) as idle, network.connect(one.port(1)) as talking:
        idle.sendall(b"hello\n")
        assert idle.recv(100) == b"HELLO\n"
        talking.settimeout(CONFIGURED_S + TIMER_S)
        answered = threading.Event()
        talk = threading.Thread(target=talk_on, args=(talking, answered))
        talk.start()
        assert answered.wait(10)
        start = time.monotonic()
        if how == "silence":
            network.silence()
        else:
            network.cut()
        one.closed("unreachable", within=CONFIGURED_S + TIMER_S)
        one.closed("unreachable", count=2, within=start + CONFIGURED_S + TIMER_S - time.monotonic())
        assert time.monotonic() - start >= 2  # not at the first lost packet
        assert sorted(line["frames"] > 1 for line in one.logged("closed", reason="unreachable")) == [False, True]
        talking.shutdown(socket.SHUT_RDWR)
        talk.join()


def talk_on(sock, answered):
    """Ask without a pause, so that an answer is in flight at every moment: its acknowledgement goes with the next."""
    with contextlib.suppress(OSError):
        while True:
            sock.sendall(b"question\n")
            sock.recv(100)
            answered.set()


def test_a_peer_that_comes_back_in_time_is_kept(daemon, network, nothing_comes):
    one = daemon(toml=SHORT, prefix=network.prefix)
    with network.connect(one.port()) as sock:
        sock.sendall(b"before\n")
        assert sock.recv(100) == b"BEFORE\n"
        network.silence()
        nothing_comes(sock, 1)
        network.speak()
        sock.sendall(b"after\n")
        assert sock.recv(100) == b"AFTER\n"
        assert one.logged("closed") == []


def test_the_timers_are_each_listeners_own(daemon):
    toml = """
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "app:timers"
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "app:timers"
    keepalive = { idle = "7s", interval = "5s", count = 3 }
    user_timeout = "11s"
    """
    one = daemon(toml=toml, app=APP)
    assert one.ask(b"?\n") == b"1 120 30 4 240000\n"  # the documented defaults
    assert one.ask(b"?\n", 1) == b"1 7 5 3 11000\n"


def test_a_client_that_says_nothing_is_let_go(daemon, read_to_end, name_of):
    toml = """
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "quick"
    [service.quick]
    builtin = "upper"
    idle_timeout = "1s"
    """
    one = daemon(toml=toml)
    silent, busy = one.connect(), one.connect()
    busy.sendall(b"hello\n")
    assert busy.recv(100) == b"HELLO\n"
    assert read_to_end(silent) == b""
    line = one.closed("idle-timeout", peer=name_of(silent))
    assert 1 <= line["seconds"] <= 2
    assert line["received"] == 0


def test_the_read_timeout_is_15_minutes_by_default(sockd_script, tmp_path):
    (tmp_path / "sockd.toml").write_text(
        '[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "s"\n[service.s]\nbuiltin = "upper"\n'
    )
    done = subprocess.run(
        [sockd_script, "-T", "-c", "sockd.toml"], capture_output=True, text=True, cwd=tmp_path, timeout=30
    )
    assert done.returncode == 0
    assert 'idle_timeout = "15m"' in done.stdout.replace("# ", "")


def test_a_peer_that_does_not_read_is_let_go(daemon):
    toml = """
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "big"
    [service.big]
    handler = "app:big"
    write_timeout = "1s"
    """
    one = daemon(toml=toml, app=APP)
    sock = one.connect(before=lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096))
    sock.sendall(b"go\n")
    line = one.closed("write-stall")  # within 10 s
    assert line["seconds"] >= 1
    assert line["output_pending_bytes"] > 0
