# SPDX-License-Identifier: MIT
"""Settings of tcpmux (RFC 1078): which programs a client may ask for by name, behind one port."""

from __future__ import annotations

from sockd.lazy import pattern
from sockd.values import dataclass

MAX_LINE_BYTES = 256
"""Of the line with a name; RFC 1078 has no limit, inetd(8) and xinetd(8) have this one."""
HELP = "help"
"""Asks for the list of names (RFC 1078)."""
_FORM = pattern(r"(?P<plus>\+?)(?P<name>[!-<>-~]+)(?:=(?P<service>[A-Za-z0-9_.-]{1,64}))?")


@dataclass(frozen=True)
class TcpmuxName:
    """A name that clients ask for.

    Attributes:
        name: as clients write it, in any case.
        greets: whether sockd sends "+Go" before the program starts; else the program answers by itself.
        service: the [service] table with the program.
    """

    name: str
    greets: bool
    service: str

    def __str__(self) -> str:
        service = "" if self.service == self.name else f"={self.service}"
        return f"{'+' * self.greets}{self.name}{service}"


def read_name(text: str) -> TcpmuxName:
    """Read NAME, +NAME or one of them followed by =SERVICE.

    Raises:
        ValueError: it is not one; the message follows the text.
    """
    found = _FORM.fullmatch(text)
    if found is None or len(found["name"]) > MAX_LINE_BYTES - len("\r\n"):
        raise ValueError('is not a name of tcpmux; write "rsync", "+rsync" (sockd answers +) or "+rsync=my-service"')
    if found["name"].lower() == HELP:
        raise ValueError("is what clients send to get the list of names (RFC 1078); choose another name")
    return TcpmuxName(found["name"], bool(found["plus"]), found["service"] or found["name"])


__all__ = ["HELP", "MAX_LINE_BYTES", "TcpmuxName", "read_name"]
