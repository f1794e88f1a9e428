# SPDX-License-Identifier: MIT
# Seen failing against a daemon under select() that leaves RLIMIT_NOFILE at its hard limit: what the handler opens
# pushes a connection past descriptor 1,023, and select(2) refuses to wait at all: the daemon ends with a ValueError.
"""select() past its limit says so and keeps serving, also when others come, reset, and use up descriptors."""

from __future__ import annotations

import pytest

FD_SETSIZE = 1024
CLIENTS = 1100
APP = """
import os

files = [os.open(os.devnull, os.O_RDONLY) for _ in range({files})]

def up(line):
    return line.upper()
"""


@pytest.mark.parametrize("files", [0, 200])
def test_more_clients_than_select_can_wait_for(daemon, visit, reset, until, figure, files):
    one = daemon("tcp://127.0.0.1:0=app:up", app=APP.format(files=files), multiplexer="select")
    name = one.sockaddr()[2]
    before = one.descriptors()
    said = one.logged("select() cannot wait for that many connections; use another multiplexer")
    assert [line["descriptors"] for line in said] == [FD_SETSIZE]
    clients = [visit(name) for _ in range(CLIENTS)]
    first = clients[0]
    first.sendall(b"hello\n")
    assert first.recv(10) == b"HELLO\n"
    message = "accept paused, one connection shed" if files else "limit reached, new clients wait in the backlog"
    one.wait_for(message)
    most = one.descriptors()
    assert most <= FD_SETSIZE
    for number in range(100):
        first.sendall(b"hello %d\n" % number)
        assert first.recv(100) == b"HELLO %d\n" % number
    for client in clients[1:]:
        reset(client)
    with visit(name) as fresh:
        fresh.sendall(b"fresh\n")
        assert fresh.recv(100) == b"FRESH\n"
    until(lambda: one.descriptors() <= before + 2)
    first.sendall(b"still here\n")
    assert first.recv(100) == b"STILL HERE\n"
    first.close()
    figure(f"{CLIENTS} clients, {files} files of the handler", f"{most} descriptors at most")
