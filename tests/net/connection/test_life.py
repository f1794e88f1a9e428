# SPDX-License-Identifier: MIT
# Seen failing with Connection._close() that steps to CLOSING again, and with a table where ENDED goes on to CLOSING.
"""The states of a Connection, each table walked whole: by itself, and by what a handler calls."""

from __future__ import annotations

from itertools import product

import pytest

from sockd import Connection
from sockd.net.connection.codec import LineCodec
from sockd.net.connection.life import LIFE, READING, Life, Reading
from sockd.net.loop.state_table import IllegalTransitionError, StateTable
from sockd.wire.framing import Line

NEW, OPEN, FINISHING, CLOSING, ENDED = Life
WANTED = {
    LIFE: {
        (NEW, OPEN), (NEW, FINISHING), (NEW, CLOSING), (NEW, ENDED), (OPEN, FINISHING), (OPEN, CLOSING), (OPEN, ENDED),
        (FINISHING, CLOSING), (FINISHING, ENDED), (CLOSING, ENDED),
    },
    READING: {
        (Reading.ON, Reading.PAUSED), (Reading.PAUSED, Reading.ON),
        (Reading.ON, Reading.OFF), (Reading.PAUSED, Reading.OFF),
    },
}  # fmt: skip


@pytest.mark.parametrize(("table", "kind"), [(LIFE, Life), (READING, Reading)])
def test_the_table_has_these_steps_and_no_others(table, kind):
    for now, then in product(kind, kind):
        if (now, then) in WANTED[table]:
            assert table.step(now, then) is then
        else:
            with pytest.raises(IllegalTransitionError, match=f"from {now.name} to {then.name}"):
                table.step(now, then)


def test_a_table_says_something_of_each_state():
    with pytest.raises(ValueError, match="PAUSED, OFF"):
        StateTable({Reading.ON: ()})


class Anything:
    """A connection table that takes whatever it is asked."""

    def __getattr__(self, _name):
        return lambda *_arguments: 0


@pytest.fixture
def fresh():
    one = Anything()
    return Connection(7, one, LineCodec(Line(100), one, wire=True), 64, Anything(), lambda protocol: protocol)


class Silent:
    """A receiver that wants nothing, and stays at an end of file."""

    def __getattr__(self, _name):
        return lambda *_arguments: None


CALLS = {
    "start": lambda one: one.start(Silent()),
    "pause_reading": lambda one: one.pause_reading(),
    "resume_reading": lambda one: one.resume_reading(),
    "write_eof": lambda one: one.write_eof(),
    "close": lambda one: one.close(),
    "abort": lambda one: one.abort(),
    "lost": lambda one: one.lost(one.close_reason, 0),
    "leave": lambda one: one.leave(),
}
MOVES = {
    # from       call              to
    (NEW, "start"): OPEN,
    (NEW, "leave"): ENDED,
    (NEW, "lost"): ENDED,
    (NEW, "close"): CLOSING,
    (OPEN, "write_eof"): FINISHING,
    (OPEN, "close"): CLOSING,
    (OPEN, "abort"): CLOSING,
    (OPEN, "lost"): ENDED,
    (OPEN, "leave"): ENDED,
    (FINISHING, "close"): CLOSING,
    (FINISHING, "abort"): CLOSING,
    (FINISHING, "lost"): ENDED,
    (FINISHING, "leave"): ENDED,
    (CLOSING, "lost"): ENDED,
    (CLOSING, "leave"): ENDED,
}
WAYS = {NEW: [], OPEN: ["start"], FINISHING: ["start", "write_eof"], CLOSING: ["start", "close"]}
WAYS |= {ENDED: ["start", "lost"]}
WRONG = {(OPEN, "start"), (FINISHING, "start"), (CLOSING, "start"), (ENDED, "start"), (ENDED, "lost"), (ENDED, "leave")}
"""What only a defect of sockd does, in a state that does not have it."""


@pytest.mark.parametrize(("life", "call"), [*product(Life, CALLS)], ids=lambda one: getattr(one, "name", one))
@pytest.mark.parametrize("paused", [False, True])
def test_each_call_in_each_state(fresh, life, call, paused):
    for name in WAYS[life]:
        CALLS[name](fresh)
    if paused:
        fresh.pause_reading()
    assert fresh._life is life
    if (life, call) in WRONG:
        with pytest.raises(IllegalTransitionError):
            CALLS[call](fresh)
        return
    CALLS[call](fresh)
    assert fresh._life is MOVES.get((life, call), life)
    assert fresh.is_closing() == (fresh._life in (CLOSING, ENDED))
    assert not (fresh.is_closing() and fresh.is_reading())
