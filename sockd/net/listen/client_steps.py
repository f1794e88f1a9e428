# SPDX-License-Identifier: MIT
"""The steps that only listeners with such rules have: conditions for all, the name of a client, a greeting.

As in sockd.net.listen.steps, each has one task.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sockd.net.address.sockaddr import SocketAddress, plain
from sockd.net.connection.peer_gone import is_gone
from sockd.net.listen.conditions import OpeningConditions
from sockd.net.listen.hosts_access import UNKNOWN, AccessClient, HostsFiles
from sockd.net.listen.pipeline import AcceptedConnection, AcceptPipeline, Passage
from sockd.net.listen.refusal import RefusalReason
from sockd.net.listen.steps import AdmissionStep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sockd.net.listen.admission import Admission
    from sockd.net.listen.conditions import TotalRate
    from sockd.net.listen.pipeline import AcceptStep
    from sockd.settings.listen import ListenSettings


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
    """Refuses connections above the rate of all clients together; those that were refused before do not count."""

    def __init__(self, rate: TotalRate) -> None:
        self._rate = rate

    def run(self, one: AcceptedConnection, _way: AcceptPipeline) -> Passage:
        """Count a connection."""
        if self._rate.admit():
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
            sent = one.sock.send(self._text, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError):
            return way.gone(one)
        if sent < len(self._text):
            raise OSError(f"only {sent} bytes of the greeting's {len(self._text)} can be sent at once")
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


class ClientRules:
    """All rules of a listener about its clients, as steps.

    Args:
        settings: the listener's.
        admission: counts by source.
        names: looks names up.
        total_rate: of all its clients; None for no limit.

    Attributes:
        waiting: the step in which clients wait for their names.
    """

    def __init__(
        self, settings: ListenSettings, admission: Admission, names: NameSource, total_rate: TotalRate | None
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._total_rate = total_rate
        self._files = None if settings.hosts_access is None else HostsFiles(settings.hosts_access)
        self.waiting = NameStep(self._asks_name, names)

    def _asks_name(self, host: str) -> bool:
        return self._admission.asks_name(host) or bool(host and self._files and self._files.rules().asks_name)

    def steps(self) -> Iterator[AcceptStep]:
        """Yield the steps, in their order."""
        if self._settings.hours or self._settings.max_load is not None:
            yield ConditionsStep(OpeningConditions(self._settings))
        yield self.waiting
        yield AdmissionStep(self._admission)
        if self._files is not None:
            yield HostsAccessStep(self._files)
        if self._total_rate is not None:
            yield TotalRateStep(self._total_rate)


__all__ = ["ClientRules", "ConditionsStep", "GreetingStep", "HostsAccessStep", "NameStep", "TotalRateStep"]
