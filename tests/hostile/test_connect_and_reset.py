# SPDX-License-Identifier: MIT
# Seen failing against a set that does not close what has ended (descriptors), and one that never waits for longer than
# 0 ms (59 % of a CPU while idle).
"""Clients that connect and reset: descriptors as before, and no CPU time once they are gone."""

from __future__ import annotations

from collections import Counter

WINDOW_S = 2
MOST_CPU = 0.01


def test_clients_that_connect_and_reset_leave_nothing(daemon, crowd, nothing_comes, until, tcp_states, soak, figure):
    count = 20_000 if soak else 500
    one = daemon("tcp://127.0.0.1:0=upper", "tcp://127.0.0.1:0=app:up", app="def up(line):\n    return line.upper()\n")
    ports = [one.port(index) for index in range(2)]
    watcher = one.connect()
    watcher.sendall(b"hello\n")
    assert watcher.recv(100) == b"HELLO\n"
    before, states = one.descriptors(), Counter(tcp_states(ports[1]))  # the port may have been another test's
    for number, port in enumerate(ports):
        rude = crowd("connect_and_reset", port, count // 2, f"127.0.0.{number + 2}")
        assert rude.hear(within=600) == count // 2
    watcher.sendall(b"and now\n")
    assert watcher.recv(100) == b"AND NOW\n"
    until(lambda: one.descriptors() == before)
    cpu = one.cpu_seconds()
    nothing_comes(watcher, WINDOW_S)  # the time in which the CPU time is counted
    share = (one.cpu_seconds() - cpu) / WINDOW_S
    figure(f"{count} clients that reset", f"descriptors {before} and {one.descriptors()}, idle CPU {share:.1%}")
    assert share < MOST_CPU
    assert Counter(tcp_states(ports[1])) - states == {}
