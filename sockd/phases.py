"""The phases of a start, each as what it hands to the next one: an order that nobody can change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sockd.log import OwnHandler
    from sockd.net.address import Address
    from sockd.net.sockets import Listening
    from sockd.planning import Plan
    from sockd.process.privileges import Dropped, Prepared

Opened: TypeAlias = "tuple[Address, Listening, Plan]"
"""An address as written, a socket that it became, and what it shall serve."""


@dataclass(frozen=True)
class Bound:
    """What the first phase made with the rights that the second one drops."""

    log: OwnHandler
    listening: list[Opened]
    rights: Prepared


@dataclass(frozen=True)
class Unprivileged:
    """What the third phase serves with."""

    log: OwnHandler
    listening: list[Opened]
    dropped: Dropped


__all__ = ["Bound", "Opened", "Unprivileged"]
