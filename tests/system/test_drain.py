# SPDX-License-Identifier: MIT
"""The stop in order: not ready first, frames finished, goodbye said, and whoever blocks it named (docs/operations.md).

Seen to fail: with pre_drain passed over, a new client is refused; with shut() before the goodbye is written it does
not come; with _name() left out nobody is named.
"""

from __future__ import annotations

import signal

import pytest
from controlling import Sockctl


def config(daemon="", service="upper", table=""):
    listen = f'[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "{service}"\n'
    return f"[daemon]\n{daemon}\n{listen}\n{table}"


def test_pre_drain_serves_on(serve, tmp_path):
    server = serve(config=config(f'pre_drain = "60s"\ncontrol = "{tmp_path}/control.sock"'))
    peer = server.connect()
    server.signal()
    assert server.wait_for("not ready any more, still serving")["seconds"] == 60
    assert server.connect().ask(b"new") == b"NEW"
    assert peer.ask(b"old") == b"OLD"
    assert Sockctl(tmp_path).ask("status")["state"] == "not-ready"
    done = Sockctl(tmp_path).run("reload")
    assert (done.returncode, done.stderr) == (75, "sockctl: the daemon is stopping and cannot reload\n")
    server.signal()  # the second one
    assert server.wait() == 0


def test_pre_drain_ends(serve):
    server = serve(config=config('pre_drain = "200ms"'))
    peer = server.connect()
    assert peer.ask(b"a") == b"A"
    server.signal()
    assert peer.to_end() == b""
    peer.close()
    assert server.wait() == 0


@pytest.mark.parametrize("service", ["upper", "app:upper", "app:upper_with_connection", "app:Upper"])
def test_goodbye_is_the_last_frame(serve, service):
    table = f'[service.mine]\n{"builtin" if service == "upper" else "handler"} = "{service}"\ngoodbye = "421 closing"\n'
    server = serve(config=config(service="mine", table=table))
    quiet, busy = server.connect(), server.connect()
    assert quiet.ask(b"a") == b"A"
    busy.send(b"first\nhal")
    assert busy.line() == b"FIRST\n"
    server.signal()
    assert quiet.to_end() == b"421 closing\n"
    quiet.close()
    busy.send(b"f\n")
    assert busy.to_end() == b"HALF\n421 closing\n"
    busy.close()
    assert server.wait() == 0
    assert {e["reason"] for e in server.having("closed")} == {"shutdown"}


def test_goodbye_of_a_service(serve, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import sockd\nservice = sockd.Service(framing=sockd.Netstring(100), goodbye=b'bye')\n"
        "@service.frame\ndef f(frame): return frame\n"
    )
    server = serve("tcp://127.0.0.1:0=mine:service")
    peer = server.connect()
    peer.send(b"1:x,")
    assert peer.sock.recv(10) == b"1:x,"
    server.signal()
    assert peer.to_end() == b"3:bye,"


def test_who_blocks_it_is_named(serve):
    server = serve(config=config('stop_timeout = "600ms"', "app:act"))
    unfinished, deaf = server.connect(), server.connect(SO_RCVBUF=4096)
    unfinished.send(b"first\nunfinished")
    assert unfinished.line() == b"first\n"
    deaf.send(b"big %d\n" % (32 << 20))
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    first, second = server.having("connection closed before it finished")
    assert (first["peer"], first["input_pending_bytes"], first["service"]) == (unfinished.name, 10, "app:act")
    assert "frame or reply incomplete" in first["why"]
    assert second["peer"] == deaf.name
    assert second["output_pending_bytes"] > 1 << 20
    assert "peer has not read its output" in second["why"]
    with pytest.raises(ConnectionResetError):  # half an answer does not look like a whole one
        deaf.to_end()
