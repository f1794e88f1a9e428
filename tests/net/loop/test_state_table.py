# SPDX-License-Identifier: MIT
# Seen failing with CHECKING -> FINDING (a client whose password nobody has checked yet), and with CLOSED -> CARRYING.
"""Each table of states of the sockets' layers, walked whole: these steps, and no others."""

from __future__ import annotations

from itertools import product

import pytest

from sockd.net.loop.state_table import IllegalTransitionError
from sockd.net.tls.socket_pair import INPUT, Input
from sockd.net.tls.tunnel import TUNNEL, TunnelState
from sockd.services.socks.client_state import CLIENT, ClientState

TABLES = {
    "peer's data of a TLS tunnel": (INPUT, Input, "OPEN>ENDED OPEN>CUT OPEN>LOST ENDED>LOST CUT>LOST"),
    "TLS tunnel": (TUNNEL, TunnelState, "CARRYING>FINISHING CARRYING>CLOSED FINISHING>CLOSED"),
    "SOCKS client": (
        CLIENT,
        ClientState,
        """
        NEGOTIATING>CHECKING CHECKING>NEGOTIATING
        NEGOTIATING>FINDING NEGOTIATING>BINDING NEGOTIATING>ASSOCIATED
        FINDING>CONNECTING FINDING>BINDING CONNECTING>RELAYING BINDING>RELAYING
        NEGOTIATING>REFUSED CHECKING>REFUSED FINDING>REFUSED CONNECTING>REFUSED BINDING>REFUSED
        NEGOTIATING>ENDED CHECKING>ENDED FINDING>ENDED CONNECTING>ENDED BINDING>ENDED
        ASSOCIATED>ENDED RELAYING>ENDED REFUSED>ENDED
        """,
    ),
}


@pytest.mark.parametrize(("table", "kind", "wanted"), TABLES.values(), ids=TABLES)
def test_the_table_has_these_steps_and_no_others(table, kind, wanted):
    steps = {tuple(kind[name] for name in step.split(">")) for step in wanted.split()}
    for now, then in product(kind, kind):
        if (now, then) in steps:
            assert table.step(now, then) is then
        else:
            with pytest.raises(IllegalTransitionError, match=f"from {now.name} to {then.name}"):
                table.step(now, then)


@pytest.mark.parametrize(("table", "kind"), [(table, kind) for table, kind, _ in TABLES.values()], ids=TABLES)
def test_each_state_can_be_come_to_and_the_last_one_from_each(table, kind):
    first, last = next(iter(kind)), [*kind][-1]
    for start in kind:
        reached = {start}
        while new := {then for now in reached for then in table.steps[now]} - reached:
            reached |= new
        assert last in reached
        assert start is not first or reached == set(kind)
