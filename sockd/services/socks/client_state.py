# SPDX-License-Identifier: MIT
"""The states of a client of a SOCKS server, and the order in which they come.

    NEGOTIATING -> FINDING -> CONNECTING -> RELAYING -> ENDED
         |  ^          `-> BINDING ----/
         v  |          `-> ASSOCIATED -----------/
      CHECKING

Each but RELAYING and ASSOCIATED may lead to REFUSED, in which the client is told so and has a moment to take it; each
may lead to ENDED, the last one.  The client's bytes are read while it negotiates and is refused; while something is
under way for it, they are left where they are.
"""

from __future__ import annotations

from enum import Enum

from sockd.net.loop.state_table import StateTable


class ClientState(Enum):
    """What is being done with a client."""

    NEGOTIATING = "its messages are read"
    CHECKING = "its password is checked; behind a wrong one it waits for the answer"
    FINDING = "the addresses of its destination are looked up and judged"
    CONNECTING = "they are connected to"
    BINDING = "a connection from its destination is waited for"
    ASSOCIATED = "its datagrams are passed on, as long as its connection is there"
    RELAYING = "its bytes are passed on"
    REFUSED = "it was told that it is not served, and may take that"
    ENDED = "its socket is closed, or another's"


_LAST = (ClientState.REFUSED, ClientState.ENDED)
CLIENT = StateTable(
    {
        ClientState.NEGOTIATING: (
            ClientState.CHECKING, ClientState.FINDING, ClientState.BINDING, ClientState.ASSOCIATED, *_LAST,
        ),
        ClientState.CHECKING: (ClientState.NEGOTIATING, *_LAST),
        ClientState.FINDING: (ClientState.CONNECTING, ClientState.BINDING, *_LAST),
        ClientState.CONNECTING: (ClientState.RELAYING, *_LAST),
        ClientState.BINDING: (ClientState.RELAYING, *_LAST),
        ClientState.ASSOCIATED: (ClientState.ENDED,),
        ClientState.RELAYING: (ClientState.ENDED,),
        ClientState.REFUSED: (ClientState.ENDED,),
        ClientState.ENDED: (),
    }
)  # fmt: skip

__all__ = ["CLIENT", "ClientState"]
