# SPDX-License-Identifier: MIT
"""Start, stop, restart: signals, addresses, paths (FAQ II.7, IV.1; "Commands" and "Daemon").

Seen to fail: with _drain() left out of Daemon.run what was sent is not answered; with
every connection taken for a quiet one it is not either; with close_listeners() left out of
_drain connect still succeeds behind "stopping"; without the second signal's rule the
unfinished line holds the stop for half of stop_timeout; without SO_REUSEADDR the restart
finds its address in use.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import time

import psutil
import pytest

MULTIPLEXERS = ("auto", "epoll", "poll", "select")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_stops_it(serve, tmp_path, number):
    server = serve("tcp://127.0.0.1:0=upper", f"unix:{tmp_path}/s=upper", f"unixgram:{tmp_path}/d=upper")
    tcp, unix, _ = server.addresses
    peers = [server.connect(tcp), server.connect(unix)]
    for peer in peers:
        assert peer.ask(b"a") == b"A"
    server.signal(number)
    for peer in peers:
        assert peer.to_end() == b""
        peer.close()
    assert server.wait() == 0
    with pytest.raises(ConnectionRefusedError):
        server.connect(tcp)
    assert not os.path.lexists(tmp_path / "s")
    assert not os.path.lexists(tmp_path / "d")
    assert {e["reason"] for e in server.having("closed")} <= {"shutdown", "eof"}
    assert server.having("stopped") == [server.events[-1]]
    assert "Traceback" not in server.said()


@pytest.mark.parametrize("name", MULTIPLEXERS)
def test_what_was_accepted_is_answered(serve, fifo, tmp_path, name):
    """The loop stands still; requests and the signal come meanwhile."""
    server = serve(
        "tcp://127.0.0.1:0=app:act", f"unix:{tmp_path}/s=app:act_with_connection", "tcp://127.0.0.1:0=app:hold",
        "tcp://127.0.0.1:0=upper", options=["--multiplexer", name],
    )  # fmt: skip
    holder = server.connect(server.addresses[2])
    known = [server.connect(server.addresses[i % 2]) for i in range(40)]
    for peer in known:
        assert peer.ask(b"x") == b"x"
    holder.send(fifo.path + b"\n")
    fifo.wait_for_reader()
    fresh = [server.connect(server.addresses[(0, 1, 3)[i % 3]]) for i in range(60)]
    for i, peer in enumerate([*known, *fresh]):
        peer.send(b"%d\n" % i * 10)
    big = server.connect(server.addresses[0])
    big.send(b"big %d\n" % (8 << 20))
    server.signal()
    fifo.release(b"over")
    assert holder.to_end() == b"over\n"
    holder.close()
    for i, peer in enumerate([*known, *fresh]):
        assert peer.to_end() == b"%d\n" % i * 10
        peer.close()
    assert len(big.to_end()) == (8 << 20) + 1
    big.close()
    assert server.wait() == 0


def test_an_unfinished_line_may_be_finished_while_it_stops(serve):
    server = serve("tcp://127.0.0.1:0=upper", "tcp://127.0.0.1:0=upper")
    peer = server.connect()
    peer.send(b"first\nhal")
    assert peer.line() == b"FIRST\n"
    server.signal()
    server.wait_for("stopping")
    with pytest.raises(ConnectionRefusedError):  # though the daemon still waits for the line
        connect_again_and_again(server)
    peer.send(b"f\n")
    assert peer.to_end() == b"HALF\n"
    peer.close()
    assert server.wait() == 0
    assert server.end_of(peer)["reason"] == "shutdown"


def connect_again_and_again(server):
    for _ in range(2000):
        server.connect().close()


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_it_at_once(serve, second):
    server = serve(config=config(stop_timeout="60s"))
    peer = server.connect()
    peer.send(b"first\nunfinished")
    assert peer.line() == b"FIRST\n"
    server.signal()
    server.wait_for("stopping")
    began = time.monotonic()
    server.signal(second)
    assert server.wait() == 0
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", MULTIPLEXERS)
def test_a_stop_takes_no_longer_than_it_may(serve, name):
    """One peer never ends its line, one never takes its output, one never closes."""
    server = serve(config=config(stop_timeout="800ms", multiplexer=name, service="app:act"))
    unfinished, deaf, silent = (server.connect(SO_RCVBUF=4096) for _ in range(3))
    unfinished.send(b"first\nunfinished")
    assert unfinished.line() == b"first\n"
    deaf.send(b"big %d\n" % (32 << 20))
    assert silent.ask(b"x") == b"x"
    began = time.monotonic()
    server.signal()
    assert server.wait() == 0
    assert 0.75 < time.monotonic() - began < 5
    assert server.having("stopped")[0]["connections_left"] >= 1


def config(*, stop_timeout="10s", multiplexer="auto", service="upper"):
    return f"""
    [daemon]
    stop_timeout = "{stop_timeout}"
    multiplexer = "{multiplexer}"
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "{service}"
    """


def test_it_starts_again_on_its_port_at_once(serve):
    """After it has closed connections first, so that they are in TIME_WAIT (FAQ II.7)."""
    server = serve("tcp://127.0.0.1:0=app:act")
    address = server.addresses[0]
    for _ in range(20):
        peer = server.connect()
        peer.send(b"close\n")
        assert peer.to_end() == b""
        peer.close()
    server.wait_for("closed", count=20)
    server.stop()
    port = int(address.rpartition(":")[2])
    waiting = [c for c in psutil.net_connections("tcp4") if c.status == "TIME_WAIT" and c.laddr.port == port]
    assert waiting
    again = serve(f"{address}=upper")
    assert again.addresses == [address]
    assert again.connect().ask(b"again") == b"AGAIN"


def test_a_stale_path_is_replaced(serve, tmp_path):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"{tmp_path}/s")
    server = serve(f"unix:{tmp_path}/s=upper")
    assert server.connect().ask(b"a") == b"A"


def test_a_path_that_it_left_behind_by_a_kill_is_replaced(serve, tmp_path):
    server = serve(f"unix:{tmp_path}/s=upper")
    server.signal(signal.SIGKILL)
    server.wait()
    assert os.path.lexists(tmp_path / "s")
    assert serve(f"unix:{tmp_path}/s=upper").connect().ask(b"a") == b"A"


def test_a_path_where_a_server_answers_is_refused_and_named(serve, launch, tmp_path):
    server = serve(f"unix:{tmp_path}/s=upper")
    second = launch("-f", "-l", f"unix:{tmp_path}/s=upper")
    assert second.wait() == 71
    assert f"unix:{tmp_path}/s is served by pid {server.process.pid}" in second.said()
    assert server.connect().ask(b"still") == b"STILL"


def test_a_file_is_not_taken_for_a_path(launch, tmp_path):
    (tmp_path / "s").write_text("precious")
    server = launch("-f", "-l", f"unix:{tmp_path}/s=upper")
    assert server.wait() == 71
    assert "is a regular file, not a socket" in server.said()
    assert (tmp_path / "s").read_text() == "precious"


@pytest.mark.parametrize("scheme", ["tcp", "udp"])
def test_an_address_in_use_is_named_with_its_holder(serve, launch, scheme):
    server = serve(f"{scheme}://127.0.0.1:0=upper")
    second = launch("-f", "-l", f"{server.addresses[0]}=upper", "-l", "tcp://127.0.0.1:0=upper")
    assert second.wait() == 71
    assert server.addresses[0] in second.said()
    assert "EADDRINUSE" in second.said()
    assert f"pid {server.process.pid}" in second.said()
    assert second.output == []


def test_nothing_is_bound_when_one_address_is_refused(serve, launch, tmp_path):
    server = serve("tcp://127.0.0.1:0=upper")
    second = launch("-f", "-l", f"unix:{tmp_path}/s=upper", "-l", f"{server.addresses[0]}=upper")
    assert second.wait() == 71
    assert not os.path.lexists(tmp_path / "s")


def test_a_descriptor_limit_is_lifted_or_kept_to(serve):
    """A soft limit of 40 descriptors does not keep it from serving 100 peers (FAQ II.10)."""

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

    server = serve("tcp://127.0.0.1:0=upper", preexec_fn=few)
    peers = [server.connect() for _ in range(100)]
    for peer in peers:
        assert peer.ask(b"a") == b"A"


def test_the_built_in_example(launch, tmp_path):
    """With no configuration anywhere: upper on tcp and udp 127.0.0.1:7007 and on a Unix socket."""
    server = launch("-f", "--log-format", "json", environment={"XDG_RUNTIME_DIR": str(tmp_path)})
    server.wait_until(lambda: "Press Ctrl-C to stop." in server.output or server.words, "the greeting")
    if any("EADDRINUSE" in line for line in server.words):
        pytest.skip("port 7007 is in use here")
    tcp, udp, unix = server.ready().addresses
    assert (tcp, udp) == ("tcp://127.0.0.1:7007", "udp://127.0.0.1:7007")
    assert unix == f"unix:{tmp_path}/sockd-example.sock"
    for address in (tcp, unix):
        assert server.connect(address).ask(b"hello") == b"HELLO"
    for address in (tcp, udp, unix):
        assert any(f"sockctl connect {address}" in line for line in server.output)
    server.stop()
