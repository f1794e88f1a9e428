# SPDX-License-Identifier: MIT
"""What is written for asyncio is told the same by sockd: every scenario under both, its transcript compared.

A transcript is what the client got, and what the handler noted. Each is played over TCP and Unix sockets, with what
the client sends in one piece and byte by byte. What differs on purpose is a table; docs/handlers.md has it, too.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest
from serving import Client
from two_sides import both

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import protocols_told  # noqa: E402, F401 - importing it adds its scenarios; its place is known from here on
import streams  # noqa: E402 - likewise
from steps import EOF, RESET, SCENARIOS, Await  # noqa: E402 - likewise

KINDS = ("tcp", "unix")
FILES = [HERE / name for name in ("steps.py", "streams.py", "protocols_told.py", "by_asyncio.py")]
CASES = [
    pytest.param(name, kind, size, id=f"{name}-{kind}-{size or 'whole'}")
    for name, (_, _, pieces) in SCENARIOS.items()
    for kind in KINDS
    for size in ((0, 1) if pieces else (0,))
]
DIFFERENT = {
    "RaisesInPause": [["made"], ["data", "x"], ["pause"], ["lost", "LookupError"]],
}
"""Scenarios of which sockd tells something else: an exception ends its connection whichever callback it comes from."""


def play(side, name, kind, size):
    """Do what the client of a scenario does; return the transcript."""
    side.forget(name)
    client = Client(side.addresses[name, kind])
    said = b""
    try:
        for step in SCENARIOS[name][1]:
            said += do(step, client, size, len(said))
        with suppress(ConnectionResetError, ValueError):  # ValueError: it was closed by a reset of ours
            said += client.to_end()
    except (BrokenPipeError, ConnectionResetError):
        pass  # it had not read all: asyncio's FIN is an RST then, while sockd waits for the peer's (FAQ II.5)
    finally:
        with suppress(OSError):
            client.close()
    return said.decode("latin-1"), side.diary(name)


def do(step, client, size, before):
    if step == EOF:
        with suppress(OSError):  # the other end may have reset it by now
            client.half_close()
    elif step == RESET:
        client.reset()
    elif isinstance(step, Await):
        return client.file.read(step.count - before)
    else:
        for at in range(0, len(step), size or len(step)):
            client.send(step[at : at + (size or len(step))])
    return b""


def module_of(name):
    return "streams" if hasattr(streams, name) else "protocols_told"


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Both, each with every scenario on both kinds of sockets."""
    wanted = [(name, kind) for name in SCENARIOS for kind in KINDS]
    with both(wanted, FILES, "by_asyncio.py", module_of, tmp_path_factory.mktemp) as made:
        yield made


@pytest.mark.parametrize(("name", "kind", "size"), CASES)
def test_a_handler_is_told_the_same(sides, name, kind, size):
    own = play(sides["sockd"], name, kind, size)
    others = play(sides["asyncio"], name, kind, size)
    if name in DIFFERENT:
        assert own[1] == DIFFERENT[name] != others[1]
    else:
        assert own == others


def test_there_are_enough():
    assert len(CASES) >= 250
