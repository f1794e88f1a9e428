# SPDX-License-Identifier: MIT
"""The door of a listening socket is shut, and those who are inside still come.

Seen to fail: with refuse_new_clients() doing nothing, the late client is connected.
"""

from __future__ import annotations

import errno
import socket
import sys

import pytest

from sockd.net.listen.syn_filter import refuse_new_clients

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is done")


@pytest.fixture(params=["tcp4", "tcp6", "unix"])
def listening(request, tmp_path, has_ipv6):
    if request.param == "unix":
        sock, where = socket.socket(socket.AF_UNIX), f"{tmp_path}/s"
    elif request.param == "tcp6" and not has_ipv6:
        pytest.skip("this host has no IPv6")
    else:
        six = request.param == "tcp6"
        sock = socket.socket(socket.AF_INET6 if six else socket.AF_INET)
        where = ("::1" if six else "127.0.0.1", 0)
    with sock:
        sock.bind(where)
        sock.listen()
        sock.setblocking(False)
        yield sock


def client(listening):
    sock = socket.socket(listening.family)
    sock.settimeout(0.3)
    return sock, sock.connect_ex(listening.getsockname())


def test_nobody_new_and_nobody_lost(listening):
    early, code = client(listening)
    assert code == 0
    early.sendall(b"abc")
    refuse_new_clients(listening)
    late, code = client(listening)
    assert code in (errno.EAGAIN, errno.ECONNREFUSED)  # its SYN is not answered; a Unix socket refuses
    accepted, _ = listening.accept()
    with early, late, accepted:
        accepted.settimeout(10)
        assert accepted.recv(3) == b"abc"
        early.sendall(b"more")
        assert accepted.recv(4) == b"more"
        accepted.sendall(b"answer")
        assert early.recv(6) == b"answer"
        with pytest.raises(BlockingIOError):
            listening.accept()
        listening.close()
        accepted.shutdown(socket.SHUT_WR)
        assert early.recv(1) == b""


def test_a_closed_socket_is_no_mistake(listening):
    listening.close()
    refuse_new_clients(listening)
