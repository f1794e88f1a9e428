# SPDX-License-Identifier: MIT
# Seen failing against a daemon that does not linger (csrc/set_life.c, sb__step): close() with unread input sends RST,
# and not one of 20 answers was whole.
"""A peer that is still sending 10 MiB when the answer and the close come gets the whole answer, always (FAQ II.5)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

MIB = 1 << 20
REPLY = b"y" * 200_000 + b"\n"
APP = """
from sockd.errors import Close

def bye(line):
    raise Close(b"y" * 200_000)
"""
AT_ONCE = 4


def whole_answer(visit, name, data):
    """Send from one thread, read in another, as a client that does both; what came and what went wrong."""
    errors = []

    def send():
        try:
            sock.sendall(data)
        except OSError as error:
            errors.append(error)

    with visit(name) as sock:
        sender = threading.Thread(target=send)
        sender.start()
        pieces = []
        try:
            while piece := sock.recv(1 << 18):
                pieces.append(piece)
        except OSError as error:
            errors.append(error)
        sender.join()
    return b"".join(pieces) == REPLY and not errors


def test_the_whole_answer_arrives_every_time(daemon, visit, soak, figure):
    one = daemon("tcp://127.0.0.1:0=app:bye", app=APP)
    name = one.sockaddr()[2]
    rounds = 1000 if soak else 20
    data = b"go\n" + b"q" * (10 * MIB)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        whole = sum(pool.map(lambda _: whole_answer(visit, name, data), range(rounds)))
    figure("whole answers", f"{whole} of {rounds}")
    assert whole == rounds
    one.closed("closed", count=rounds, within=60)
    assert {line["reason"] for line in one.logged("closed")} == {"closed"}
