# SPDX-License-Identifier: MIT
# Seen failing against a Connection.write that leaves pause_writing() to the next turn (the whole answer lies in
# memory), and a set that goes on reading past high water in csrc/set_life.c (memory grows until the peer is let go).
"""A peer that does not read costs no more memory than its high-water mark, and gets everything when it reads."""

from __future__ import annotations

import hashlib
import select
import socket
from pathlib import Path

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
HIGH_WATER = 64 * KIB
SMALL_CONSTANT = 4 * MIB
"""Pages of the interpreter, the receive arena and the allocator that a first answer touches; not of any one peer."""
CHUNK = 64 * KIB
APP = """
import sockd

CHUNK = bytes(range(256)) * 256
state = {"written": 0, "paused": 0}

class Large(sockd.LineProtocol):
    def line_received(self, line):
        self.left = int(line)
        self.resume_writing()

    def resume_writing(self):
        self.paused = False
        while self.left and not self.paused:
            self.transport.write(CHUNK[: self.left])
            state["written"] += min(len(CHUNK), self.left)
            self.left -= min(len(CHUNK), self.left)
        state["paused"] += self.paused

    def pause_writing(self):
        self.paused = True

def tell(line):
    return b"%d %d" % (state["written"], state["paused"])
"""


def peak(one):
    """VmHWM, the most that was ever resident, in bytes (proc(5))."""
    status = Path(f"/proc/{one.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


def forget_peak(one):
    Path(f"/proc/{one.pid}/clear_refs").write_text("5")


def quiet(one, index):
    """Ask the handler how far it is, until twice the same."""
    before = b""
    while (now := one.ask(b"?\n", index)) != before:
        before = now
    return int(now.split()[0])


def test_an_answer_of_a_gibibyte_costs_its_high_water_mark(daemon, soak, figure):
    size = GIB if soak else GIB // 8
    one = daemon("tcp://127.0.0.1:0=app:Large", "tcp://127.0.0.1:0=app:tell", app=APP)
    one.ask(b"1000\n")  # touches what a first answer touches
    one.ask(b"?\n", 1)
    forget_peak(one)
    before = peak(one)
    sock = one.connect()
    sock.sendall(b"%d\n" % size)
    select.select([sock], [], [], 20)
    written = quiet(one, 1)
    assert written < size
    while_deaf = peak(one) - before
    got, digest = 0, hashlib.sha1(usedforsecurity=False)
    while got < size:
        piece = sock.recv(MIB)
        assert piece, f"ended after {got} of {size}"
        digest.update(piece)
        got += len(piece)
    expected = hashlib.sha1(usedforsecurity=False)
    for _ in range(size // CHUNK):
        expected.update(bytes(range(256)) * 256)
    growth = peak(one) - before
    figure(f"{size // MIB} MiB", f"memory + {while_deaf // KIB} KiB while not read, + {growth // KIB} KiB while read")
    assert got == size
    assert digest.digest() == expected.digest()
    assert while_deaf <= HIGH_WATER + CHUNK + SMALL_CONSTANT
    assert growth <= HIGH_WATER + CHUNK + SMALL_CONSTANT


def test_peers_that_ask_and_never_read_are_not_read_any_more(daemon, soak, until, figure):
    """Reading stops at high water; what was received in that turn is answered still, 64 KiB at most."""
    count = 200 if soak else 40
    offered = 64 * MIB
    one = daemon("tcp://127.0.0.1:0=app:up", app="def up(line):\n    return line.upper()\n")
    one.ask(b"hello\n")
    forget_peak(one)
    before = peak(one)

    def small(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)  # serving.Client says why

    socks = [one.connect(before=small) for _ in range(count)]
    line = b"a line that wants an answer\n"
    block = line * 1000
    taken = dict.fromkeys(socks, 0)
    poll = select.poll()
    by_number = {}
    for sock in socks:
        sock.setblocking(False)
        by_number[sock.fileno()] = sock
        poll.register(sock, select.POLLOUT)
    while (ready := poll.poll(300)) and max(taken.values()) < offered:
        for number, _ in ready:
            sock = by_number[number]
            at = taken[sock] % len(block)
            taken[sock] += sock.send(block[at:])
    growth = peak(one) - before
    figure(
        f"{count} peers that never read",
        f"reading stopped after {max(taken.values()) // KIB} KiB at most, memory + {growth // count // KIB} KiB each",
    )
    assert max(taken.values()) < offered
    each = 2 * (HIGH_WATER + 64 * KIB)  # a buffer grows to twice its size
    assert growth <= count * each + SMALL_CONSTANT
    assert one.ask(b"hello\n") == b"HELLO\n"
    sock = socks[0]
    sock.settimeout(20)
    sock.shutdown(socket.SHUT_WR)
    answer = bytearray()
    while piece := sock.recv(MIB):
        answer += piece
    assert answer == line.upper() * (taken[sock] // len(line))
