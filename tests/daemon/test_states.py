# SPDX-License-Identifier: MIT
"""Every table of states walked whole: what it has is possible, what it does not have raises, and all can be reached."""

from __future__ import annotations

import importlib

import counts
import pytest

from sockd.daemon.upgrade import receiver, sender
from sockd.net.loop.state_table import IllegalTransitionError, StateTable


def tables() -> dict[str, StateTable]:
    """Return every table that the source has, by module and name."""
    found = {}
    for path, _ in counts.trees("sockd"):
        if "StateTable(\n" in (counts.ROOT / path).read_text():
            name = path.removesuffix(".py").replace("/", ".")
            for key, one in vars(importlib.import_module(name)).items():
                if isinstance(one, StateTable) and one not in found.values():
                    found[f"{name}.{key}"] = one
    return found


TABLES = tables()


def test_these_are_all():
    """Of a connection (its life, and its reading), TLS (tunnel, input), SOCKS, drain, shutdown, and both upgrades;

    of listeners, workers, asyncio's loop, what a coroutine reads from, what is followed, and clients of a simulation.
    """
    written = sum((counts.ROOT / path).read_text().count("= StateTable(") for path, _ in counts.trees("sockd"))
    assert len(TABLES) == written >= 15


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_walked_whole(name):
    table = TABLES[name]
    states = type(next(iter(table.steps)))
    first = next(iter(states))
    assert set(table.steps) == set(states)
    for one in states:
        for other in states:
            if other in table.steps[one]:
                assert table.step(one, other) is other
            else:
                with pytest.raises(IllegalTransitionError, match=f"from {one.name} to {other.name}"):
                    table.step(one, other)
    reached, left = {first}, [first]
    while left:
        for other in table.steps[left.pop()] - reached:
            reached.add(other)
            left.append(other)
    assert reached == set(states)


def test_a_committed_upgrade_is_not_taken_back():
    """The single point of no return, on both sides."""
    assert sender.NEXT.steps[sender.SenderState.COMMITTED] == set()
    assert receiver.NEXT.steps[receiver.ReceiverState.COMMITTED] == {receiver.ReceiverState.SERVING}
