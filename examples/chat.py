# SPDX-License-Identifier: MIT
"""A chat between all who are connected.

In this directory, then in several other terminals:

    sockd --foreground --listen tcp://127.0.0.1:7000=chat:service
    sockctl connect tcp://127.0.0.1:7000
    nc 127.0.0.1 7000

The first line is one's name, every other one is said to all the others.
"""

import re

import sockd

MAX_LINE_BYTES = 1000
NAME = re.compile(rb"\w{1,20}", re.ASCII)
UNPRINTABLE = re.compile(rb"[\x00-\x1f\x7f]")  # would drive the others' terminals

# Whoever reads too slowly is not waited for: what is not sent is kept up to this size, then the connection is ended.
service = sockd.Service(framing=sockd.Line(MAX_LINE_BYTES), max_buffer=256 * 1024, idle_timeout=3600)

room: dict[bytes, "Chat"] = {}


def tell(text: bytes, *, but: "Chat") -> None:
    """Say something to everybody else."""
    for one in tuple(room.values()):
        if one is not but:
            one.send_line(text)


@service.connect
class Chat(sockd.LineProtocol):
    """One who is connected; without a name until the first line."""

    name = b""

    def connection_made(self, transport: sockd.Connection) -> None:
        """Ask for the name."""
        super().connection_made(transport)
        self.send_line(b"Your name?")

    def line_received(self, line: bytes) -> None:
        """Take the name, or what is said."""
        if self.name:
            tell(b"%b: %b" % (self.name, UNPRINTABLE.sub(b"?", line)), but=self)
        else:
            self.enter(line.strip())

    def enter(self, name: bytes) -> None:
        """Let one in whose name is free."""
        if not NAME.fullmatch(name) or name in room:
            self.send_line(b"Letters and digits, please, up to 20, and a name that nobody here has.")
            return
        self.send_line(b"Here: " + (b", ".join(room) or b"nobody else"))
        self.name = name
        room[name] = self
        tell(b"* %b is here" % name, but=self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the others, however it ended."""
        if self.name:
            del room[self.name]
            tell(b"* %b has gone" % self.name, but=self)
