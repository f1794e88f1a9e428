# SPDX-License-Identifier: MIT
"""The end of a connection as its handler sees it: when the output has left, which the table reports.

Seen failing with a timer that looked after 1, 2, 4 ... 100 ms whether it had: there was always a next one.
"""

from __future__ import annotations

import time

import pytest

import sockd
from sockd.testing.stage import Stage, make_spec

LIMIT_S = 30
LARGE = 1 << 20
"""More than two socket buffers hold, and less than max_buffer."""
events = []


class Once(sockd.Protocol):
    """Says much, and closes."""

    def connection_made(self, transport):
        events.append("made")
        transport.write(bytes(LARGE))
        transport.close()

    def data_received(self, data):
        """Nothing comes."""

    def connection_lost(self, exc):
        events.append(f"lost {exc}")


async def once(reader, writer):
    events.append("made")
    writer.write(bytes(LARGE))
    writer.close()
    await writer.wait_closed()
    events.append("lost None")


def service(handler):
    made = sockd.Service(max_buffer=2 * LARGE, write_timeout=3600, idle_timeout=3600)
    (made.connect if isinstance(handler, type) else made.session)(handler)
    return made


@pytest.fixture(params=[Once, once])
def stage(request):
    events.clear()
    one = Stage(make_spec(service(request.param)), 4, time.monotonic)
    yield one
    one.close()


def test_the_end_is_told_by_the_last_byte_that_leaves_and_no_timer_asks_for_it(stage):
    link = stage.connect()
    end = time.monotonic() + LIMIT_S
    for _ in range(20):
        stage.loop.run_once(0)
    assert events == ["made"]
    assert stage.loop.next_due is None
    while events == ["made"]:
        assert time.monotonic() < end
        assert not link.has_ended
        link.accepted += link.sock.recv(LARGE)
        stage.loop.run_once(0)
    assert events == ["made", "lost None"]
    assert not stage.close_reason(link)  # the row waits for the end of its peer
    while len(link.accepted) < LARGE:
        link.accepted += link.sock.recv(LARGE)
    assert link.sock.recv(1) == b""
