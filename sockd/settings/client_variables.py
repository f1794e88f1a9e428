# SPDX-License-Identifier: MIT
"""Variables of a program that depend on the network of its client, as the rules of tcpserver(1) set them."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from sockd.lazy import pattern
from sockd.settings.networks import Network, read_network
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENTRY = pattern(r"(?P<network>\S+)(?: (?P<variable>(?P<name>[A-Za-z_][A-Za-z0-9_]*)=[^\0]*))?", re.DOTALL)


@dataclass(frozen=True)
class ClientVariable:
    """A variable that the clients of a network bring with them.

    Attributes:
        network: theirs.
        variable: NAME=value; empty: none, although a larger network has some.
    """

    network: Network
    variable: str

    def __str__(self) -> str:
        return f"{self.network} {self.variable}".strip()

    @property
    def name(self) -> str:
        """Of the variable."""
        return self.variable.partition("=")[0]


def read_client_variable(text: str) -> ClientVariable:
    """Read `10.0.0.0/8 NAME=value`, or `10.0.0.0/8` alone.

    Raises:
        ValueError: it is not one; the message follows the text.
    """
    found = _ENTRY.fullmatch(text)
    if found is None:
        raise ValueError('is not a network with a variable; write "10.0.0.0/8 NAME=value", or "10.1.0.0/16" for none')
    return ClientVariable(read_network(found["network"]), found["variable"] or "")


def variables_for(host: str, entries: Sequence[ClientVariable]) -> tuple[str, ...]:
    """Return the variables of a client: those of the smallest network that has it.

    Args:
        host: its address, in numbers; an IPv4 client of a socket for both families with its IPv4 address.
        entries: in any order.
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    found = [one for one in entries if address in one.network]
    longest = max((one.network.prefixlen for one in found), default=0)
    return tuple(one.variable for one in found if one.network.prefixlen == longest and one.variable)


__all__ = ["ClientVariable", "read_client_variable", "variables_for"]
