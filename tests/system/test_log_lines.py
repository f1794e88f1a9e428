# SPDX-License-Identifier: MIT
"""One event is one line, whatever a peer or a program sends: all 256 byte values through every field that they reach.

The peer's own address (a Unix path), a handler's exception that quotes the frame, a PROXY header that is none, and the
standard error of a program.  Seen to fail: with _escape() returning its text as it is, lines are torn.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
from contextlib import suppress

import pytest
from serving import Client

EVERY = bytes(range(256))
PATH_BYTES = 90
"""What sun_path leaves beside the directory's own name (unix(7))."""
HANDLER = """
def fail(frame):
    raise ValueError(bytes(frame).decode("latin-1"))
"""


def config(tmp_path, user):
    script = tmp_path / "says.sh"
    script.write_text("#!/bin/sh\nhead -c 256 >&2\n")
    script.chmod(0o755)
    return f"""
    [[listen]]
    addresses = ["unix:{tmp_path}/s", "tcp://127.0.0.1:0"]
    service = "fail"
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "says"
    [[listen]]
    address = "tcp://127.0.0.1:0"
    service = "upper"
    proxy_protocol = {{ from = ["127.0.0.1"] }}
    [service.fail]
    handler = "fails:fail"
    framing = "netstring"
    [service.says]
    exec = ["{script}"]
    user = "{user}"
    """


@pytest.mark.parametrize("form", ["json", "text"])
def test_no_byte_of_a_peer_tears_a_line(launch, tmp_path, monkeypatch, form):
    (tmp_path / "fails.py").write_text(HANDLER)
    (tmp_path / "sockd.toml").write_text(config(tmp_path, pwd.getpwuid(os.geteuid()).pw_name))
    server = launch("-f", "-c", "sockd.toml", "--log-format", form)
    server.wait_until(lambda: "Press Ctrl-C to stop." in server.output, "the greeting")
    addresses = [line.split()[2] for line in server.output[1:-1]]
    monkeypatch.chdir(tmp_path)
    count = 0
    for path in names():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(30)
            peer.bind(path)
            peer.connect(f"{tmp_path}/s")
            peer.sendall(b"256:" + EVERY + b",")
            assert peer.recv(1) == b""
        count += 1
    for index, said in ((1, b"256:" + EVERY + b","), (2, EVERY), (3, EVERY)):
        peer = Client(addresses[index])
        peer.send(said)
        with suppress(OSError):  # reset by whoever has not read it: the program, and who believes no header
            peer.half_close()
            peer.to_end()
        peer.close()
    server.signal()
    assert server.wait() == 0
    lines = [json.dumps(event) for event in server.events] if form == "json" else server.words
    for line in lines:
        assert line.isprintable(), line
    if form == "text":
        assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z (debug|info|warning|error) |    \S|     ", line) for line in lines)
        events = [line for line in lines if not line.startswith(" ")]
        assert sum(" handler failed " in line for line in events) == count + 1
        assert sum(" closed " in line for line in events) == count + 1
        assert sum(" no PROXY header " in line for line in events) == 1
    else:
        assert len(server.words) == 0
        assert len(server.having("handler failed")) == count + 1
        assert len(server.having("closed", reason="handler-error")) == count + 1
        fields = {"peer", "service", "frames", "received", "sent", "seconds", "reason"}
        assert fields <= server.having("closed")[0].keys()
        assert len(server.having("no PROXY header")) == 1
        assert len(server.having("program ended")) == 1


def names():
    """File names that hold every byte but the slash, which parts them, and NUL, which ends them."""
    some = bytes(byte for byte in EVERY if byte not in b"\0/")
    return [some[at : at + PATH_BYTES] for at in range(0, len(some), PATH_BYTES)]


LONG = """
def fail(line):
    raise ValueError(line.decode() + "x" * 9000)
"""


def test_lines_of_workers_stay_in_one_piece_in_a_pipe(daemon):
    """fails with lines as long as they are: above PIPE_BUF those of two processes get into each other (pipe(7))"""
    toml = '[daemon]\nworkers = 4\n[[listen]]\naddress = "tcp://127.0.0.1:0"\nservice = "app:fail"\n'
    one = daemon(toml=toml, app=LONG)
    for turn in range(10):
        peers = [one.connect() for _ in range(40)]
        for number, peer in enumerate(peers):
            peer.sendall(b"%d.%d\n" % (turn, number))
        for peer in peers:
            assert peer.recv(10) == b""
    one.let_clients_go()
    assert one.stop() == 0
    lines = one.logged("handler failed")
    assert 400 - sum(line["count"] for line in one.logged("log records lost")) <= len(lines) <= 400
    assert len({line["worker"] for line in lines}) > 1
    for line in lines:
        assert len(json.dumps(line)) < 4096
        assert line["traceback"].startswith("Traceback (most recent call last):")
        assert " [...] " in line["traceback"]
        assert line["traceback"].endswith("x")


def test_what_one_process_writes_is_whole(daemon):
    one = daemon("tcp://127.0.0.1:0=app:fail", app=LONG)
    with one.connect() as peer:
        peer.sendall(b"x\n")
        assert peer.recv(10) == b""
    assert "x" * 9000 in one.wait_for("handler failed")["traceback"]
