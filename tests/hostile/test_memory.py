# SPDX-License-Identifier: MIT
# Seen failing against a set that knows no limit of memory, and one that gives up the oldest connection in place of the
# one that needs more.
"""max_memory reached closes the one connection that needs more, and not the others."""

from __future__ import annotations

KIB, MIB = 1 << 10, 1 << 20
MOST = 8 * MIB
SMALL_CONSTANT = 8 * MIB
"""Of the interpreter and the allocator; the receive arena is 1 to 2 MiB of it."""
TOML = """
[daemon]
max_memory = "8 MiB"
[[listen]]
address = "tcp://127.0.0.1:0"
service = "s"
[service.s]
handler = "app:talk"
max_frame = "4 MiB"
"""
APP = """
def talk(line):
    return b"z" * int(line[6:]) if line.startswith(b"large ") else line.upper()
"""


def is_well(sock, number):
    sock.sendall(b"hello %d\n" % number)
    return sock.recv(100) == b"HELLO %d\n" % number


def test_unfinished_frames(daemon, figure):
    """Peers that send megabytes of a line without its end."""
    one = daemon(toml=TOML, app=APP)
    well = [one.connect() for _ in range(5)]
    assert all(is_well(sock, 0) for sock in well)
    before = one.memory()
    rude = []
    for number in range(20):
        sock = one.connect()
        rude.append(sock)
        try:
            sock.sendall(b"x" * (MIB - 1000))
        except (ConnectionResetError, BrokenPipeError):
            continue
        finally:
            assert all(is_well(sock, number) for sock in well)
    one.closed("limit", count=20 - MOST // MIB)
    growth = one.memory() - before
    figure("20 frames of 1 MiB, 8 MiB allowed", f"memory + {growth / MIB:.1f} MiB, {len(one.logged('closed'))} let go")
    assert growth <= MOST + SMALL_CONSTANT
    assert all(is_well(sock, 99) for sock in well)
    assert {line["reason"] for line in one.logged("closed")} == {"limit"}
    for sock in rude:
        sock.close()
    assert one.ask(b"and again\n") == b"AND AGAIN\n"


def test_answers_that_nobody_reads(daemon, figure):
    one = daemon(toml=TOML, app=APP)
    well = [one.connect() for _ in range(5)]
    assert all(is_well(sock, 0) for sock in well)
    one.connect().sendall(b"large 10\n")
    before = one.memory()
    deaf = []
    for number in range(20):
        sock = one.connect()
        sock.sendall(b"large %d\n" % (5 * MIB))  # of which the sockets take most
        deaf.append(sock)
        assert all(is_well(sock, number) for sock in well)
    one.wait_for("closed", reason="limit")
    growth = one.memory() - before
    given_up = len(one.logged("closed", reason="limit"))
    figure("20 answers of 5 MiB, 8 MiB allowed", f"memory + {growth / MIB:.1f} MiB, {given_up} let go")
    assert 0 < given_up < 20
    assert growth <= MOST + SMALL_CONSTANT + 5 * MIB  # and the answer that is being sent
    for sock in deaf:
        sock.close()
    assert all(is_well(sock, 99) for sock in well)
    assert one.ask(b"and again\n") == b"AND AGAIN\n"
