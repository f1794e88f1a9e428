"""An agent for HAProxy's agent-check: by a word in a file a server is drained, and brought back.

In this folder, on each server, then in haproxy.cfg:

    sockd --foreground --listen tcp://:9707=haproxy_agent:Agent

    server www 192.0.2.10:80 check agent-check agent-port 9707 agent-inter 5s

then, to take that server out of work once its sessions have ended, and to bring it back:

    echo drain > haproxy_agent.state
    rm haproxy_agent.state

The file, or the one that $HAPROXY_AGENT_STATE names, has words of HAProxy's configuration manual, 5.2, "agent-check":
`drain`, `maint`, `75%`, `maxconn:30`, `down # the disk is full`.
"""

import os
from pathlib import Path

import sockd

STATE = Path(os.environ.get("HAPROXY_AGENT_STATE", "haproxy_agent.state"))
GOOD = b"ready up 100%"
"""Takes back each of the others: `ready` ends drain and maint, `up` ends down, the weight is the configured one."""


class Agent(sockd.Protocol):
    """One check: the server speaks first, and ends it."""

    def connection_made(self, transport: sockd.Connection) -> None:
        """Tell the state."""
        try:
            state = STATE.read_bytes().strip() or GOOD
        except FileNotFoundError:
            state = GOOD
        transport.write(state + b"\n")
        transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what `agent-send` says; it makes no difference here."""
