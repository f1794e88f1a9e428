# SPDX-License-Identifier: MIT
"""A relay target: its addresses, its number of connections, and whether it is up."""

from __future__ import annotations

import ipaddress
import logging
import math
from typing import TYPE_CHECKING

from sockd.errors import SockdError
from sockd.net.address.address import WILDCARDS, resolve_endpoints

if TYPE_CHECKING:
    from collections.abc import Callable

    from sockd.net.address.address import Address
    from sockd.net.address.sockaddr import Endpoint
    from sockd.net.loop.blocking_calls import BlockingCalls
    from sockd.net.loop.loop import EventLoop
    from sockd.settings.relay import TargetState

    Found = Callable[[list[Endpoint] | str], None]

logger = logging.getLogger("sockd.relay")

KEPT_SECONDS = 30.0
"""A name's addresses; getaddrinfo(3) does not return their lifetime."""


class Target:
    """One target of a relay, or a SOCKS server on the way.

    Args:
        service: its name, for the log.
        workers: look its name up.

    Attributes:
        active: connections that it has through us.
        override: what holds whatever is known of it (`sockctl target`); None: as it is known.
    """

    def __init__(self, service: str, address: Address, loop: EventLoop, workers: BlockingCalls) -> None:
        self.address = address
        self.active = 0
        self.override: TargetState | None = None
        self._service = service
        self._loop = loop
        self._workers = workers
        self._down_until = 0.0
        self._endpoints: list[Endpoint] = []
        self._fresh_until = 0.0
        self._asked: list[Found] = []
        if _is_numeric(address):
            self._endpoints = resolve_endpoints(address, passive=False)  # does not block: there is no name to look up
            self._fresh_until = math.inf

    def __str__(self) -> str:
        return str(self.address)

    # ---- its addresses

    def find(self, timeout: float, done: Found) -> None:
        """Find its addresses.

        Args:
            timeout: seconds for the look-up of a name.
            done: is called once, maybe at once: with at least one address, or with why there is none.
        """
        if self._loop.clock() < self._fresh_until:
            done(self._endpoints)
            return
        self._asked.append(done)
        if len(self._asked) == 1:
            self._workers.ask(
                lambda: resolve_endpoints(self.address, passive=False), self._found, timeout, self.address
            )

    def _found(self, answer: list[Endpoint] | BaseException) -> None:
        if isinstance(answer, BaseException):
            text = str(answer) if isinstance(answer, SockdError) else f"{self}: {answer}"
        else:
            self._endpoints, text = answer, f"{self}: has no address"
            self._fresh_until = self._loop.clock() + KEPT_SECONDS
        asked, self._asked = self._asked, []
        for done in asked:  # what was known before is better than nothing
            done(self._endpoints or text)

    # ---- its health

    @property
    def is_down(self) -> bool:
        """Whether others go first, because it could not be connected to."""
        return self.override is None and self._loop.clock() < self._down_until

    def mark_down(self, seconds: float, why: str) -> None:
        """Let others go first for so long; math.inf: until it is reached."""
        if not self._down_until:
            event: dict[str, object] = {"service": self._service, "target": str(self), "error": why}
            event |= {} if math.isinf(seconds) else {"seconds": seconds}
            logger.warning("relay target is down", extra={"event": event})
        self._down_until = self._loop.clock() + seconds

    def was_reached(self) -> None:
        """Record that it accepts connections."""
        if self._down_until:
            logger.info("relay target is up again", extra={"event": {"service": self._service, "target": str(self)}})
        self._down_until = 0.0


def _is_numeric(address: Address) -> bool:
    if address.path or address.host in WILDCARDS:
        return True
    try:
        ipaddress.ip_address(address.host.partition("%")[0])
    except ValueError:
        return False
    return True


__all__ = ["Target"]
