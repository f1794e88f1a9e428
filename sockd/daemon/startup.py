# SPDX-License-Identifier: MIT
"""The phases of a start, and what a process can hold."""

from __future__ import annotations

import logging
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sockd.errors import ConfigurationError
from sockd.net.connection.group import GroupOptions
from sockd.services.builtin import DISCARD
from sockd.wire.framing import Raw

if TYPE_CHECKING:
    from sockd.daemon.plan import ListenerPlan
    from sockd.log.format import OwnHandler
    from sockd.net.address.address import Address
    from sockd.net.listen.bind import ServerSocket
    from sockd.process.privileges import Dropped, PreparedDrop
    from sockd.settings import Settings


Opened: TypeAlias = "tuple[Address, ServerSocket, ListenerPlan]"
"""An address as written, a socket that it became, and what it shall serve."""


@dataclass(frozen=True)
class Bound:
    """What the first phase made with the rights that the second one drops."""

    log: OwnHandler
    listening: list[Opened]
    rights: PreparedDrop


@dataclass(frozen=True)
class Unprivileged:
    """What the third phase serves with."""

    log: OwnHandler
    listening: list[Opened]
    dropped: Dropped


logger = logging.getLogger("sockd.daemon")


PAGE_CONNECTIONS = 16
"""Of the metrics service, beside max_connections: a daemon that is full is the one whose health is asked for."""


OWN_DESCRIPTORS = 64
"""Kept free of connections: listeners, logs, what handlers open."""


SELECT_DESCRIPTORS = 1024
"""FD_SETSIZE of select(2); a descriptor past it cannot be waited for, so none is opened, by handlers neither."""


REFUSED = GroupOptions(
    framing=Raw(),
    serve=DISCARD,
    merge=False,
    announce=False,
    high_water=65_536,
    max_buffer=65_536,
    idle_timeout=1,
    frame_timeout=1,
    write_timeout=1,
    linger_timeout=1,
)
"""For connections that are not let in: a second to take the banner, and to be told apart from a reset."""


REFUSED_SHARE = 8
"""One connection in so many may be of those that are being refused; a source that is past its limit fills no more."""


def room(settings: Settings, *, programs: int, forwarded: int) -> int:
    """Raise the limit of descriptors as far as it goes, and return how many connections there is room for.

    Args:
        programs: that may run at once.
        forwarded: descriptors that relays and SOCKS servers may need.

    Returns:
        max_connections, or what select(2) can wait for.

    Raises:
        ConfigurationError: listeners leave select(2) no connection.
    """
    wanted = settings.daemon.max_connections
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    selects = settings.daemon.multiplexer == "select"
    soft = SELECT_DESCRIPTORS if selects and not 0 <= hard < SELECT_DESCRIPTORS else hard  # RLIM_INFINITY is -1
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    own = OWN_DESCRIPTORS + programs
    own += min(forwarded, SELECT_DESCRIPTORS // 2) if selects else forwarded  # with select() they share what there is
    own += sum(len(listen.addresses) or 1 for listen in settings.listen)
    if hard != resource.RLIM_INFINITY and hard < wanted + own:
        event = {"max_connections": wanted, "descriptors": hard, "own": own}
        logger.warning("fewer descriptors than max_connections may need", extra={"event": event})
    if not selects or wanted + own <= SELECT_DESCRIPTORS:
        return wanted
    if own >= SELECT_DESCRIPTORS:
        raise ConfigurationError(
            f'daemon.multiplexer: "select" waits for {SELECT_DESCRIPTORS} descriptors (FD_SETSIZE), '
            f"{own - OWN_DESCRIPTORS} listeners leave none for a connection; use auto, epoll or poll"
        )
    event = {"max_connections": wanted, "connections": SELECT_DESCRIPTORS - own, "descriptors": SELECT_DESCRIPTORS}
    logger.warning("select() cannot wait for as many connections; use another multiplexer", extra={"event": event})
    return SELECT_DESCRIPTORS - own


__all__ = ["REFUSED", "REFUSED_SHARE", "Bound", "Opened", "Unprivileged", "room"]
