# SPDX-License-Identifier: MIT
"""Reload after reload while clients connect without pause ("Shows" 3).

None is refused on a listener that stays, and no completed handshake is reset on one that goes: every client that was
connected is answered, or sees an end in order.  SOCKD_SOAK=1 reloads 50 times.
Seen to fail: with the queue not emptied before its socket is closed, connections are reset.  That nobody slips in
between the two is tests/net/test_last_calls.py.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import Counter

import pytest
from controlling import Sockctl
from serving import sockaddr_of
from watching import SOAK

RELOADS = 50 if SOAK else 6
LISTEN = '[[listen]]\naddress = "{}"\nservice = "upper"\n'


class Connecting(threading.Thread):
    """Connects, asks, closes, and begins again; counts how it went."""

    def __init__(self, address, over):
        super().__init__()
        self.family, self.kind, self.sockaddr = sockaddr_of(address)
        self.over = over
        self.seen = Counter()

    def run(self):
        while not self.over.is_set():
            self.seen[self.once()] += 1

    def once(self):
        with socket.socket(self.family, self.kind) as sock:
            sock.settimeout(20)
            try:
                sock.connect(self.sockaddr)
            except (ConnectionRefusedError, FileNotFoundError):
                return "refused"
            except BlockingIOError:
                return "queue full"
            try:
                sock.sendall(b"abc\n")
                said = sock.recv(100)
            except (ConnectionResetError, BrokenPipeError) as error:
                return f"lost: {error}"
            return "answered" if said == b"ABC\n" else "ended" if not said else f"wrong: {said}"


@pytest.mark.parametrize("scheme", ["tcp", "unix"])
def test_connecting_without_pause_through_reloads(serve, tmp_path, scheme):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stays = f"unix:{tmp_path}/stays" if scheme == "unix" else "tcp://127.0.0.1:0"
    goes = f"unix:{tmp_path}/goes" if scheme == "unix" else f"tcp://127.0.0.1:{port}"

    def write(*addresses):
        daemon = f'[daemon]\ncontrol = "{tmp_path}/control.sock"\nlog = {{ level = "warning" }}\n'
        (tmp_path / "new").write_text(daemon + "".join(map(LISTEN.format, addresses)))
        os.replace(tmp_path / "new", tmp_path / "sockd.toml")

    write(stays, goes)
    server = serve(options=["-c", "sockd.toml"], quiet=True)
    stays = server.output[1].split()[2]
    sockctl, over = Sockctl(tmp_path), threading.Event()
    kept = [Connecting(stays, over) for _ in range(2)]
    gone = [Connecting(goes, over) for _ in range(3)]
    threads = [*kept, *gone]
    for thread in threads:
        thread.start()
    try:
        written = stays if scheme == "unix" else "tcp://127.0.0.1:0"
        for number in range(RELOADS):
            write(written, *([goes] if number % 2 else []))
            sockctl.say("reload")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not [what for thread in threads for what in thread.seen if what.startswith(("lost", "wrong"))], [
        thread.seen for thread in threads
    ]
    assert set().union(*(thread.seen for thread in kept)) <= {"answered"}
    assert sum(thread.seen["answered"] for thread in kept) > RELOADS
    assert sum(thread.seen["answered"] for thread in gone) > 0
    assert sockctl.ask("status")["reloads"] == {"succeeded": RELOADS, "failed": 0}
