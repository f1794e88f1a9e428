# SPDX-License-Identifier: MIT
"""The steps that only listeners with such rules have: conditions for all, the name of a client, a greeting.

As in sockd.net.listen.steps, each has one task.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Protocol

from sockd.net.connection.peer_gone import is_gone
from sockd.net.listen.conditions import OpeningConditions
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

    def __init__(self, admission: Admission, names: NameSource) -> None:
        self._admission = admission
        self._names = names
        self._waiting: dict[AcceptedConnection, AcceptPipeline] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def run(self, one: AcceptedConnection, way: AcceptPipeline) -> Passage:
        """Ask for the name, if it decides, of a client that is still there."""
        host = one.client.host or one.accepted.host
        if not self._admission.asks_name(host):
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


def make_rule_steps(
    settings: ListenSettings, names: NameStep, admission: Admission, total_rate: TotalRate | None
) -> Iterator[AcceptStep]:
    """Yield the steps that hold the rules of a listener against a client, in their order."""
    if settings.hours or settings.max_load is not None:
        yield ConditionsStep(OpeningConditions(settings))
    yield names
    yield AdmissionStep(admission)
    if total_rate is not None:
        yield TotalRateStep(total_rate)


__all__ = ["ConditionsStep", "GreetingStep", "NameStep", "TotalRateStep", "make_rule_steps"]
