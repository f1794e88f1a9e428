# SPDX-License-Identifier: MIT
"""Clients that are not served: the reasons, of which this is the only list, and how they are counted and logged.

Every client that is turned away counts once, for one reason, at the listener to which it came; the figures of
`sockctl status`, of the page, of the metrics and of the log are these.  The log has one line for each reason and
interval: the first client at once, the later ones together when the interval is over, so that no count is missing.
"""

from __future__ import annotations

import enum
import logging
from functools import partial
from typing import TYPE_CHECKING

from sockd.log.rate_limit import INTERVAL_SECONDS
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from sockd.net.loop.loop import Timer

    CallLater = Callable[[float, Callable[[], None]], Timer]

logger = logging.getLogger("sockd.listener")


class RefusalReason(enum.Enum):
    """Why a client is not served.

    The value is its name in the log, in `sockctl status`, on the page and in the metrics.

    Attributes:
        meaning: for the manual.
        limit: the key of the configuration that decides; empty for none.
    """

    def __new__(cls, value: str, meaning: str, limit: str = "") -> RefusalReason:  # noqa: D102 - a member, see above
        member = object.__new__(cls)
        member._value_ = value
        member.meaning, member.limit = meaning, limit
        return member

    meaning: str
    limit: str

    DENIED = "denied", "its address or name is in `deny`, or not in `allow`", "allow, deny"
    HOSTS_ACCESS = "hosts-access", "hosts.allow and hosts.deny refuse it", "hosts_access"
    SENSOR = (
        "sensor",
        "it came to a listener with `deny_time`, and is denied for that time",
        "deny_time",
    )
    IDENT = "ident", 'its host names no user (RFC 1413), and the listener has `ident = "require"`', "ident"
    HOURS = "hours", "it came at none of the `hours`", "hours"
    LOAD = "load", "the load of the host was `max_load` or above", "max_load"
    TOTAL_RATE = "total-rate", "all clients together connect more often than `total_rate` allows", "total_rate"
    RATE = "rate", "its source connects more often than `rate` allows", "rate"
    PER_SOURCE = "per-source", "its source has `max_connections_per_source` open", "max_connections_per_source"
    FULL = (
        "full",
        "the listener or its service has `max_connections` open, or its program runs `max_instances` times",
        "max_connections, max_instances",
    )
    DAEMON_FULL = "daemon-full", "the daemon has `max_connections` open", "[daemon] max_connections"
    PROXY = "proxy", "no valid PROXY header came in time; see `no PROXY header`"
    TLS = "tls", "its TLS handshake failed; see `no TLS`"
    TCPMUX = "tcpmux", "it sent no line in time, or asked for no service of tcpmux; see `tcpmux: client not served`"
    NO_DESCRIPTOR = "no-descriptor", "no descriptor or memory was left"
    NOT_STARTED = "not-started", "the program for it could not be started; see `program not started`"
    GONE = "gone", "it left before it was served; see `client left before it was served`"
    ERROR = "error", "a system call or an internal error ended it; see `connection dropped`"


LOGGED_ELSEWHERE = frozenset((RefusalReason.GONE, RefusalReason.ERROR, RefusalReason.NOT_STARTED))
"""What has a line of its own, with more in it, for each client or interval."""


@dataclass(frozen=True)
class RefusedClient:
    """Who was not served, or the last one of several; a field is empty where it is not known."""

    peer: str = ""
    source: str = ""
    error: str = ""

    def log_fields(self) -> dict[str, str]:
        """Return what is known, for the log."""
        fields = {"peer": self.peer, "source": self.source, "error": self.error}
        return {key: value for key, value in fields.items() if value}


@dataclass
class _Held:
    """What the log has not been told in this interval."""

    count: int = 0
    client: RefusedClient = RefusedClient()


class Refusals:
    """Counts the clients that one listener does not serve, and logs them.

    Args:
        counts: by the value of RefusalReason: of all who have accepted from the socket.
        service_counts: likewise, of all listeners of the service.
        address: the listener's, for the log.
        service: its name, for the log.
        call_later: of the loop.
    """

    def __init__(
        self, counts: Counter[str], service_counts: Counter[str], address: str, service: str, call_later: CallLater
    ) -> None:
        self._counts = counts
        self._service_counts = service_counts
        self._listener = {"address": address, "service": service}
        self._call_later = call_later
        self._held: dict[RefusalReason, _Held] = {}

    def count(self, reason: RefusalReason, client: RefusedClient, count: int = 1) -> None:
        """Count so many clients."""
        self._counts[reason.value] += count
        self._service_counts[reason.value] += count
        if reason in LOGGED_ELSEWHERE:
            return
        if reason in self._held:
            held = self._held[reason]
            held.count, held.client = held.count + count, client
        else:
            self._write(reason, _Held(count, client))

    def _write(self, reason: RefusalReason, held: _Held) -> None:
        self._held[reason] = _Held()
        self._call_later(INTERVAL_SECONDS, partial(self._interval_over, reason))
        self._log(reason, held)

    def _interval_over(self, reason: RefusalReason) -> None:
        held = self._held.pop(reason, _Held())
        if held.count:
            self._write(reason, held)

    def flush(self) -> None:
        """Log what was held back: nothing more is counted, or nobody would be there to log it."""
        for reason, held in self._held.items():
            if held.count:
                self._log(reason, held)
        self._held.clear()

    def _log(self, reason: RefusalReason, held: _Held) -> None:
        limit = {"limit": reason.limit} if reason.limit else {}
        numbers = {"count": held.count, "total": self._counts[reason.value]}
        event = {**self._listener, **held.client.log_fields(), "reason": reason.value, **limit, **numbers}
        level = logging.INFO if reason is RefusalReason.TLS else logging.WARNING
        logger.log(level, "refused", extra={"event": event})


__all__ = ["LOGGED_ELSEWHERE", "RefusalReason", "Refusals", "RefusedClient"]
