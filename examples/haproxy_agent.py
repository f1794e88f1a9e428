# SPDX-License-Identifier: MIT
"""An agent for HAProxy's agent-check: a word in a file drains a server and brings it back, its load gets it less.

In this directory, on each server, then in haproxy.cfg:

    sockd --foreground --listen tcp://:9707=haproxy_agent:Agent

    server www 192.0.2.10:80 check agent-check agent-port 9707 agent-inter 5s

then, to take that server out of work once its sessions have ended, and to bring it back:

    echo drain > haproxy_agent.state
    rm haproxy_agent.state

The file, or the one that $HAPROXY_AGENT_STATE names, has words of HAProxy's configuration manual, 5.2, "agent-check":
`drain`, `maint`, `75%`, `maxconn:30`, `down # the disk is full`.

Without it a server gets its configured weight.  Where $HAPROXY_AGENT_FULL_LOAD is set, to the load average of a host
that has all it can do (for a start, as many as it has processors), it gets as many per cent as are left to it.
"""

import os
from pathlib import Path

import sockd

STATE = Path(os.environ.get("HAPROXY_AGENT_STATE", "haproxy_agent.state"))
FULL_LOAD = float(os.environ.get("HAPROXY_AGENT_FULL_LOAD", "inf"))
LEAST_PERCENT = 5
"""Of a server that is overloaded: with 0 all of them would go together."""


def good() -> bytes:
    """Take back all other words (`ready` ends drain and maint, `up` ends down), and say how much there is left."""
    percent = max(LEAST_PERCENT, round(100 * (1 - os.getloadavg()[0] / FULL_LOAD)))
    return b"ready up %d%%" % percent


class Agent(sockd.Protocol):
    """One check: the server speaks first, and ends it."""

    def connection_made(self, transport: sockd.Connection) -> None:
        """Tell the state."""
        try:
            state = STATE.read_bytes().strip()
        except FileNotFoundError:
            state = b""
        transport.write((state or good()) + b"\n")
        transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what `agent-send` says; it makes no difference here."""
