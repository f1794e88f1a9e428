# SPDX-License-Identifier: MIT
"""tcpmux: a defect where a client is passed on ends that client alone, and gives its place back."""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import closing
from types import SimpleNamespace

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.listen.refusal import RefusalReason
from sockd.net.loop.loop import EventLoop
from sockd.services.exec.tcpmux import Choice, TcpmuxServer


def test_a_defect_behind_the_line_of_a_client_gives_its_place_back():
    def serve(_sock, _peer, _done):
        raise ValueError("a defect")

    done = []
    program = SimpleNamespace(is_full=False, serve=serve)
    with selectors.DefaultSelector() as selector, closing(EventLoop(selector, time.monotonic)) as loop:
        ours, theirs = socket.socketpair()
        with theirs:
            TcpmuxServer("mux", [Choice("a", True, program)], loop, farewell=None).serve(
                ours, SocketAddress.from_sockaddr(b""), done.append
            )
            theirs.sendall(b"a\r\n")
            for _ in range(20):
                if done:
                    break
                loop.run_once(0.1)
            assert done == [RefusalReason.ERROR]
            assert (theirs.recv(100), theirs.recv(100)) == (b"+Go\r\n", b"")
            assert loop.defects.count == 1
