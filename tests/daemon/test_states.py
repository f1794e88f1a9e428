# SPDX-License-Identifier: MIT
"""Every table of states walked whole: what it has is possible, what it does not have raises, and all can be reached."""

from __future__ import annotations

import pytest

from sockd.daemon import drain, shutdown
from sockd.daemon.upgrade import receiver, sender
from sockd.net.loop.state_table import IllegalTransitionError

TABLES = {
    "shutdown": (shutdown.ServingState, shutdown.ServingState.SERVING, shutdown.NEXT),
    "drain": (drain.DrainState, drain.DrainState.WAITING, drain.NEXT),
    "upgrade, old side": (sender.SenderState, sender.SenderState.IDLE, sender.NEXT),
    "upgrade, new side": (receiver.ReceiverState, receiver.ReceiverState.STARTING, receiver.NEXT),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_walked_whole(name):
    states, first, table = TABLES[name]
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
