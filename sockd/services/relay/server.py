# SPDX-License-Identifier: MIT
"""What the connections of one relay share: its targets, and which of them is next."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING

from sockd.errors import SystemFault
from sockd.net.loop.blocking_calls import BlockingCalls
from sockd.net.relay.relay_table import RelayTable
from sockd.net.relay.tally import ConnectionCounts
from sockd.services.relay.client import RelaySession
from sockd.services.relay.connect import ConnectFailed, TargetConnect, UpstreamSocks
from sockd.services.relay.target import Target
from sockd.settings.relay import TargetState
from sockd.wire import proxy

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.net.connection.info import Totals
    from sockd.net.loop.loop import EventLoop
    from sockd.net.relay.tally import PairedClient
    from sockd.services.relay.connect import Connected
    from sockd.settings import RelaySettings
    from sockd.settings.address import Address
    from sockd.wire.close_reason import CloseReason

LOOK_UPS, LOOK_UPS_WAITING = 4, 256
"""Names under way at once; a resolver that hangs holds up these and nothing else."""


class RelayService:
    """Serves the connections of one service.

    Args:
        name: of the service, for the log.
        idle_timeout: seconds that a connection may move nothing.
        password: for the SOCKS server on the way, where it has a user.

    Raises:
        SystemFault: there is no epoll here, or no descriptor left.
    """

    def __init__(
        self,
        name: str,
        settings: RelaySettings,
        loop: EventLoop,
        *,
        idle_timeout: float,
        password: str | None = None,
    ) -> None:
        self.name = name
        self.loop = loop
        self.idle_timeout = idle_timeout
        self.connect_timeout = float(settings.connect_timeout)
        self.half_close_timeout = float(settings.half_close_timeout)
        self.header_version = None if settings.proxy_header is None else int(settings.proxy_header[1:])
        self._settings = settings
        self._workers = BlockingCalls(loop, "look-up", threads=LOOK_UPS, waiting=LOOK_UPS_WAITING)
        self._sessions: ConnectionCounts[RelaySession] = ConnectionCounts()
        self._next = 0
        try:
            loop.instance(RelayTable)
        except OSError as error:
            raise SystemFault(f"service.{name}.relay: cannot be served here: {error.strerror}") from None
        self._targets = [self._target(address) for address in settings.to]
        self.way: UpstreamSocks | None = None
        if settings.via is not None:
            self.way = UpstreamSocks(self._target(settings.via.address), settings.via.user, password)
        self._checks: list[_Check] = []
        if settings.check is not None:
            self._checks = [_Check(self, one, float(settings.check.interval)) for one in self._targets]

    def _target(self, address: Address) -> Target:
        return Target(self.name, address, self.loop, self._workers)

    def __len__(self) -> int:
        """Return how many clients there are."""
        return len(self._sessions)

    def order(self) -> list[Sequence[Target]]:
        """Tell which targets to try, one after the other; those in one sequence together."""
        first, self._next = self._next, (self._next + 1) % len(self._targets)
        targets = [
            one for one in self._targets[first:] + self._targets[:first] if one.override in (None, TargetState.UP)
        ]
        if self._settings.balance == "least-connections":
            targets.sort(key=lambda target: target.active)
        up = [target for target in targets if not target.is_down]
        aside = [target for target in targets if target.is_down]
        if self._settings.balance == "race":
            return [group for group in (up, aside) if group]
        return [(target,) for target in (*up, *aside)]

    def override_targets(self, states: Mapping[str, TargetState]) -> None:
        """Have clients sent to these targets or not, whatever is known of them; to others as it is known."""
        for target in self._targets:
            before, target.override = target.override, states.get(str(target))
            if target.override is TargetState.DOWN is not before:
                for session in [one for one in self._sessions if one.uses(target)]:
                    session.abort()

    def failed(self, targets: Sequence[Target], outcome: ConnectFailed) -> None:
        """Leave targets aside that could not be reached."""
        if not outcome.is_theirs:
            return
        seconds = math.inf if self._checks else float(self._settings.retry_after)
        for target in targets:
            target.mark_down(seconds, outcome.why)

    def serve(self, sock: socket.socket, peer: SocketAddress, done: Callable[[], None]) -> None:
        """Serve a connected, non-blocking socket, which is the relay's from now on; done() is called at its end."""
        session = RelaySession(self, sock, peer, done)
        self._sessions.add(session)
        session.start()

    def ended(self, session: RelaySession, reason: CloseReason) -> None:
        """Forget a client that is served."""
        self._sessions.end(session, reason)

    def clients(self) -> Iterator[PairedClient]:
        """Yield what is shown of its clients of now, also of one that has ended in the meantime."""
        return (session.shown for session in list(self._sessions))

    def totals(self) -> Totals:
        """Return what its clients have done."""
        return self._sessions.totals()

    def abort(self) -> None:
        """Close what is left."""
        for session in self._sessions:
            session.abort()

    def retire(self) -> None:
        """Check no more: no new client comes."""
        for check in self._checks:
            check.close()
        self._checks.clear()

    def close(self) -> None:
        """Check no more, and let the threads end."""
        self.retire()
        self._workers.close()


class _Check:
    """Connects to one target from time to time."""

    def __init__(self, relay: RelayService, target: Target, interval: float) -> None:
        self._relay = relay
        self._target = target
        self._interval = interval
        self._reach: TargetConnect | None = None
        self._timer = relay.loop.call_later(0, self._begin)

    def _again(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._relay.loop.call_later(seconds, self._begin)

    def _begin(self) -> None:
        timeout = self._relay.connect_timeout
        self._again(timeout + self._interval)  # first: a check that fails to begin is not the last one
        self._reach = TargetConnect(
            self._relay.loop, (self._target,), self._relay.way, timeout=timeout, done=self._answered
        )

    def _answered(self, outcome: Connected | ConnectFailed) -> None:
        self._again(self._interval)
        if isinstance(outcome, ConnectFailed):
            self._relay.failed((self._target,), outcome)
        else:
            self._target.was_reached()
            version = self._relay.header_version
            with outcome.sock as sock, suppress(OSError):  # it may be gone already, which says nothing against it
                if version is not None:
                    sock.send(proxy.encode_local(version))

    def close(self) -> None:
        self._timer.cancel()
        if self._reach is not None:
            self._reach.cancel()


__all__ = ["RelayService"]
