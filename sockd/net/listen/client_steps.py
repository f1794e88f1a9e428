# SPDX-License-Identifier: MIT
"""The steps that only listeners with such rules have: conditions for all, the name of a client, a greeting.

As in sockd.net.listen.steps, each has one task.
"""

from __future__ import annotations

import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sockd.net.address.sockaddr import SocketAddress, plain
from sockd.net.connect.ident import IdentClient
from sockd.net.connection.peer_gone import is_gone
from sockd.net.listen.admission import source_network
from sockd.net.listen.conditions import OpeningConditions
from sockd.net.listen.hosts_access import UNKNOWN, AccessClient, HostsFiles
from sockd.net.listen.pipeline import AcceptedConnection, AcceptPipeline, Passage
from sockd.net.listen.refusal import RefusalReason
from sockd.net.listen.steps import AdmissionStep
from sockd.settings.networks import cids_among

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.net.listen.admission import Admission
    from sockd.net.listen.conditions import TotalRate
    from sockd.net.listen.delivery import AcceptTools
    from sockd.net.listen.network_overrides import NetworkOverrides
    from sockd.net.listen.pipeline import AcceptStep
    from sockd.settings.listen import ListenSettings

logger = logging.getLogger("sockd.listener")


class NameSource(Protocol):
    """Looks names up (sockd.net.connect.reverse_dns)."""

    def ask(self, host: str, answer: Callable[[str | None], None]) -> None:
        """Have `answer` called once with the confirmed name of an address, or None."""


class ConditionsStep:
    """Refuses everybody while the listener is closed."""

    def __init__(self, conditions: OpeningConditions) -> None:
        self._conditions = conditions

    def run(self, one: AcceptedConnection, _way: AcceptPipeline) -> Passage:
        """Look at the clock and the load."""
        one.refusal = self._conditions.judge()
        return Passage.NEXT if one.refusal is None else Passage.REFUSED


class NameStep:
    """Waits for the name of a client, where that decides.  Its truth is the number of those who wait."""

    def __init__(self, asks_name: Callable[[str], bool], names: NameSource) -> None:
        self._asks_name = asks_name
        self._names = names
        self._waiting: dict[AcceptedConnection, AcceptPipeline] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Ask for the name, if it decides, of a client that is still there."""
        host = one.client.host or one.accepted.host
        if not self._asks_name(host):
            return Passage.NEXT
        if is_gone(one.sock):
            return way.gone(one)
        way.places.hold(one)  # while its name is looked up
        self._waiting[one] = way
        self._names.ask(host, partial(self._named, one))
        return Passage.WAIT

    def _named(self, one: AcceptedConnection, name: str | None) -> None:
        way = self._waiting.pop(one, None)
        if way is not None:
            one.name = name
            way.advance(one)

    def close(self) -> None:
        """Wait for no name any more: who has none by now is judged without."""
        for one in list(self._waiting):
            self._named(one, None)


class TotalRateStep:
    """Refuses connections above the rate of all clients together; those that were refused before do not count.

    Args:
        rate: the listener's; None: it has none.
        override: tells whether one more is within the rate that an administrator has set; None: there is none.
    """

    def __init__(self, rate: TotalRate | None, override: Callable[[], bool | None]) -> None:
        self._rate = rate
        self._override = override

    def run(self, one: AcceptedConnection, _way: AcceptPipeline) -> Passage:
        """Count a connection."""
        is_within = self._override()
        if is_within is None:
            is_within = self._rate is None or self._rate.admit()
        if is_within:
            return Passage.NEXT
        one.refusal = RefusalReason.TOTAL_RATE
        return Passage.REFUSED


class GreetingStep:
    """Sends a text before anybody serves the connection, and with it whatever encrypts it.

    Args:
        text: so short that the empty buffer of a new socket holds it.
    """

    def __init__(self, text: bytes) -> None:
        self._text = text

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Send it; who has a buffer that is too small for it is not served, for it would get a part."""
        try:
            text = self._text if one.secured is None else one.secured.encrypt(self._text)
            sent = one.sock.send(text, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return way.gone(one)
        if sent < len(text):
            raise OSError(f"only {sent} bytes of the greeting's {len(text)} can be sent at once")
        return Passage.NEXT


class HostsAccessStep:
    """Holds a client against hosts.allow and hosts.deny."""

    def __init__(self, files: HostsFiles) -> None:
        self._files = files

    def run(self, one: AcceptedConnection, _way: AcceptPipeline) -> Passage:
        """Judge a client; one of a Unix socket has no address, and the rules are not about it."""
        host = one.client.host or one.accepted.host
        if not host:
            return Passage.NEXT
        local = SocketAddress.from_sockaddr(one.sock.getsockname()).host
        client = AccessClient(
            self._files.daemon, str(plain(host)), str(plain(local)) if local else UNKNOWN, one.name or UNKNOWN
        )
        if self._files.rules().admit(client):
            return Passage.NEXT
        one.refusal = RefusalReason.HOSTS_ACCESS
        return Passage.REFUSED


class SensorStep:
    """Refuses everyone, and has the source denied at all listeners for a time.

    Args:
        settings: of the listener: `deny_time`, and how long the prefix of a source is.
        overrides: what is denied at all listeners.
    """

    def __init__(self, settings: ListenSettings, overrides: NetworkOverrides) -> None:
        self._settings = settings
        self._overrides = overrides

    def run(self, one: AcceptedConnection, _way: AcceptPipeline) -> Passage:
        """Deny a client; one of a Unix socket has no address, and is only refused."""
        one.refusal = RefusalReason.SENSOR
        if (host := one.client.host or one.accepted.host) and self._overrides.judge(host) is None:
            self._overrides.report(source_network(host, self._settings), self._settings.deny_time or 0.0)
        return Passage.REFUSED


class IdentStep:
    """Asks the client's host for the user, and logs it; where that is required, who has none is refused."""

    def __init__(self, client: IdentClient, *, is_required: bool, service: str) -> None:
        self._client = client
        self._is_required = is_required
        self._service = service
        self._waiting: set[AcceptedConnection] = set()

    def __len__(self) -> int:
        """Return how many clients are asked about."""
        return len(self._waiting)

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Ask, if the client has a host that can be asked, and is still there."""
        if not one.client.host:
            return Passage.NEXT
        if is_gone(one.sock):
            return way.gone(one)
        way.places.hold(one)  # while its host is asked
        self._waiting.add(one)
        local = SocketAddress.from_sockaddr(one.sock.getsockname())
        self._client.ask(_unmapped(local), _unmapped(one.client), partial(self._answered, one, way))
        return Passage.WAIT

    def _answered(self, one: AcceptedConnection, way: AcceptPipeline, user: str | None) -> None:
        self._waiting.discard(one)
        event = {"service": self._service, "peer": str(one.client)}
        if user is not None:
            logger.info("client identified", extra={"event": {**event, "user": user}})
        elif self._is_required:
            way.refuse(one, RefusalReason.IDENT)
            return
        way.advance(one)

    def close(self) -> None:
        """Ask nobody any more."""
        self._client.close()


def _unmapped(address: SocketAddress) -> SocketAddress:
    """Return an IPv4 client of a socket for both families by its IPv4 address."""
    return SocketAddress.parse(str(plain(address.host)), address.port)


class CidStep:
    """Holds the CID of a vsock client against allow and deny; other clients are AdmissionStep's."""

    def __init__(self, settings: ListenSettings) -> None:
        self._allow, self._deny = cids_among(settings.allow), cids_among(settings.deny)
        self._is_open = not settings.allow

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Check a connection."""
        cid = one.accepted.cid
        if cid < 0 or (cid not in self._deny and (self._is_open or cid in self._allow)):
            return Passage.NEXT
        one.refusal = RefusalReason.DENIED
        return Passage.REFUSED


class ClientRules:
    """All rules of a listener about its clients, as steps.

    Args:
        settings: the listener's.
        admission: counts by source.
        tools: whose resolver looks names up.
        total_rate: of all its clients; None for no limit.
        service: its name, for the log.
    """

    def __init__(
        self,
        settings: ListenSettings,
        admission: Admission,
        tools: AcceptTools,
        total_rate: TotalRate | None,
        service: str,
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._total_rate = total_rate
        self._files = None if settings.hosts_access is None else HostsFiles(settings.hosts_access)
        self._naming = NameStep(self._asks_name, tools.resolver)
        self._overrides = tools.network_overrides
        self._rate_override = partial(tools.rate_overrides.judge, service, None)
        self._asking = IdentStep(IdentClient(tools.loop), is_required=settings.ident == "require", service=service)

    def __len__(self) -> int:
        """Return how many clients wait for their names, or for what their hosts say."""
        return len(self._naming) + len(self._asking)

    def close(self) -> None:
        """Wait for neither any more."""
        self._naming.close()
        self._asking.close()

    def _asks_name(self, host: str) -> bool:
        return self._admission.asks_name(host) or bool(host and self._files and self._files.rules().asks_name)

    def steps(self) -> Iterator[AcceptStep]:
        """Yield the steps, in their order."""
        if self._settings.hours or self._settings.max_load is not None:
            yield ConditionsStep(OpeningConditions(self._settings))
        if self._settings.allow or self._settings.deny:
            yield CidStep(self._settings)
        yield self._naming
        yield AdmissionStep(self._admission)
        if self._settings.deny_time is not None:
            yield SensorStep(self._settings, self._overrides)
            return
        if self._files is not None:
            yield HostsAccessStep(self._files)
        yield TotalRateStep(self._total_rate, self._rate_override)
        if self._settings.ident is not None:
            yield self._asking


__all__ = [
    "ClientRules",
    "ConditionsStep",
    "GreetingStep",
    "HostsAccessStep",
    "IdentStep",
    "NameStep",
    "SensorStep",
    "TotalRateStep",
]
