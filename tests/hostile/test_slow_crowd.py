# SPDX-License-Identifier: MIT
# Seen failing against a set in which every byte moves framing_ms (none of 1,000 was let go), a loop that dawdles 60 ms
# a turn, one that lets all go in one turn (19,000 connections: the last 1.4 s late), and, for the slow client within
# the limits, a deadline that counts from the connection's beginning.
"""A crowd holds connections, half of it sends a byte a second: others are answered at once, the slow ones let go."""

from __future__ import annotations

import queue
import time

BEST_P99_S = 0.050
ONE_SECOND = 1.0
PAUSE_S = 0.003
"""Between fresh clients, so that their TIME_WAITs leave enough ports (28,000, for 60 s)."""
TOML = """
[daemon]
max_connections = 19900
[[listen]]
address = "tcp://127.0.0.1:0"
service = "s"
[service.s]
handler = "app:up"
frame_timeout = "{deadline}s"
"""
APP = """
def up(line):
    return line.upper()
"""


def fresh_answers(visit, name, slow):
    """Ask on fresh connections until the slow crowd has told its end; seconds of each, and what it told."""
    times = []
    while True:
        start = time.monotonic()
        with visit(name) as sock:
            sock.sendall(b"hello\n")
            assert sock.recv(100) == b"HELLO\n"
        times.append(time.monotonic() - start)
        try:
            return times, slow.hear(within=PAUSE_S)
        except queue.Empty:
            continue


def test_a_fresh_client_is_answered_and_every_slow_one_let_go(daemon, crowd, visit, soak, figure, multiplexer):
    idle, slow, deadline = (9000, 10_000, 12) if soak else (1000, 1000, 3)
    if multiplexer == "poll" and soak:
        idle, slow = 4000, 4000  # poll(2) looks at each of them every turn: 19,000 cost a p99 of 75 ms
    if multiplexer == "select":
        idle, slow = 400, 400  # of the 1,024 descriptors that select(2) can wait for
    one = daemon(toml=TOML.format(deadline=deadline), app=APP)
    name = one.sockaddr()[2]
    silent = crowd("hold", name[1], idle, "127.0.0.2")
    dripping = crowd("drip", name[1], slow, "127.0.0.3", deadline + 10)
    assert silent.hear() == idle
    assert dripping.hear() == slow
    dripping.tell("begin")
    times, told = fresh_answers(visit, name, dripping)
    times.sort()
    p99, ends = times[int(len(times) * 0.99)], told["ends"]
    figure(
        f"{idle + slow} connections, {slow} slow",
        f"{len(times)} fresh clients, p50 {times[len(times) // 2] * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, "
        f"longest {times[-1] * 1000:.0f} ms; "
        f"slow ones let go after {min(ends, default=0):.2f} to {max(ends, default=0):.2f} s of {deadline}, "
        f"{told['left']} not",
    )
    assert told["left"] == 0
    assert len(ends) == slow
    assert deadline - ONE_SECOND <= min(ends) <= max(ends) <= deadline + ONE_SECOND
    assert p99 <= BEST_P99_S
    assert len(one.logged("closed", reason="frame-timeout")) == slow
    silent.tell("are you there")
    assert silent.hear() == idle


def test_a_slow_client_within_the_limits_is_served(daemon):
    """A byte at a time is no crime as long as the frame is whole in time; and each frame has its own time."""
    one = daemon(toml=TOML.format(deadline=1), app=APP)
    sock = one.connect()
    start = time.monotonic()
    rounds = 0
    while time.monotonic() - start < 2:
        for byte in b"slow but whole\n":
            sock.sendall(bytes((byte,)))
        assert sock.recv(100) == b"SLOW BUT WHOLE\n"
        sock.sendall(b"begun")
        sock.sendall(b", ended\n")
        assert sock.recv(100) == b"BEGUN, ENDED\n"
        rounds += 1
    assert rounds > 1
    sock.sendall(b"never whole")
    assert sock.recv(100) == b""
    one.closed("frame-timeout")
