# SPDX-License-Identifier: MIT
"""Objects that several threads use at once, where no global lock keeps them apart (`make versions` with 3.13t).

An object belongs to one thread at a time; a program that forgets it gets wrong frames, and no broken memory.
Seen failing before, under free-threaded CPython: the encoder wrote netstrings into the room of lines.
"""

from __future__ import annotations

import os
import sys
import threading

import pytest

from sockd._sockbuf import ffi
from sockd.buffer import Line, Netstring, ReceiveBuffer, SendBuffer
from sockd.buffer.core import description
from sockd.buffer.encoder import PayloadEncoder

ROUNDS = 3_000
COUNT = 1_000


def side_by_side(*functions):
    failures = []

    def guarded(function):
        start.wait()
        try:
            for _ in range(ROUNDS):
                function()
        except BaseException as error:
            failures.append(error)

    start = threading.Barrier(len(functions))
    threads = [threading.Thread(target=guarded, args=[function]) for function in functions]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert failures == []


def test_a_framing_that_is_changed_meanwhile():
    payloads = [b"x" * 10] * COUNT
    encoder = PayloadEncoder(Line(100))
    line, netstring = (bytes(ffi.buffer(description(one))) for one in (Line(100), Netstring(100)))
    wanted = {b"xxxxxxxxxx\n" * COUNT, b"10:xxxxxxxxxx," * COUNT}

    def change():
        encoder._use(netstring)
        encoder._use(line)

    def encode():
        assert encoder.encode_all(payloads) in wanted
        assert encoder.encode(b"x") in (b"x\n", b"1:x,")

    side_by_side(change, encode, encode)


def test_a_stream_that_is_fed_and_cut_meanwhile():
    buffer = ReceiveBuffer(Line(100), max_bytes=1 << 30)
    found = []
    side_by_side(lambda: buffer.feed(b"one\ntwo\nthr"), lambda: buffer.feed(b"ee\n"), lambda: found.extend(buffer))
    found.extend(buffer)
    assert sum(map(len, found)) + len(found) + buffer.held == ROUNDS * 14


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="frames may be lost, and are counted here"
)
def test_frames_that_are_appended_and_sent_meanwhile():
    """Seen to fail with a global lock too, by SIGSEGV: cffi releases it, and memory of C moved under a system call."""
    buffer, sent = SendBuffer(Line(1000), max_bytes=1 << 30), []

    def append():
        for _ in range(10):
            buffer.append(b"x" * 500)

    with open(os.devnull, "wb") as null:
        side_by_side(append, append, append, lambda: sent.append(buffer.send_to(null.fileno())))
        while buffer:
            sent.append(buffer.send_to(null.fileno()))
    assert sum(sent) == 3 * 10 * ROUNDS * 501
