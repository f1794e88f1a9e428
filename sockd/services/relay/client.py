# SPDX-License-Identifier: MIT
"""One relayed connection: a target found for it, then the bytes are a pump's."""

from __future__ import annotations

import ipaddress
import logging
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import SocketAddress
from sockd.net.connection.peer_gone import PeerWatch, is_gone
from sockd.net.relay.pump import RelayPump
from sockd.net.relay.tally import PairedClient
from sockd.net.tls.socket_pair import close_with_reset
from sockd.services.relay.connect import ConnectFailed, TargetConnect
from sockd.wire import proxy
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from sockd.services.relay.connect import Connected
    from sockd.services.relay.server import RelayService
    from sockd.services.relay.target import Target

logger = logging.getLogger("sockd.relay")


class RelaySession:
    """Serves one client.

    Args:
        relay: of the client.
        sock: connected; owned from now on.
        peer: the client's address.
        done: called once, when it is served.
    """

    def __init__(self, relay: RelayService, sock: socket.socket, peer: SocketAddress, done: Callable[[], None]) -> None:
        self._relay = relay
        self._loop = relay.loop
        self._socket = sock
        self._peer = peer
        self._done: Callable[[], None] | None = done
        self._began = self._loop.clock()
        self._candidates = deque(relay.order())
        self._reach: TargetConnect | None = None
        self._target: Target | None = None
        self._pump: RelayPump | None = None
        self._faults: list[str] = []
        self._lookout: PeerWatch | None = None

    def start(self) -> None:
        """Connect to a target; nothing of the client is read meanwhile, its end of file included."""
        self._lookout = PeerWatch(self._loop, self._socket, self._gone)
        self._try_next()

    def _gone(self) -> None:
        self._end(CloseReason.RESET)

    @property
    def shown(self) -> PairedClient:
        """What is shown of it."""
        where = "" if self._pump is None or self._target is None else str(self._target)
        return PairedClient(self._peer, self._began, self.moved, where)

    def uses(self, target: Target) -> bool:
        """Return whether its bytes go to a target."""
        return self._target is target

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes received from the client, and sent to it."""
        return (0, 0) if self._pump is None else self._pump.moved

    # ---- a target

    def _try_next(self) -> None:
        if self._faults and is_gone(self._socket):
            self._gone()
            return
        left = self._began + self._relay.connect_timeout - self._loop.clock()
        if not self._candidates or left <= 0:
            self._end(
                CloseReason.UNREACHABLE,
                why="; ".join(self._faults)
                or ("no time left to connect to a target" if left <= 0 else "every target is drained"),
            )
            return
        share = left / len(self._candidates)  # so that one that is silent leaves time for the others
        targets = self._candidates.popleft()

        def answered(outcome: Connected | ConnectFailed) -> None:
            if isinstance(outcome, ConnectFailed):
                self._faults.append(outcome.why)
                self._relay.failed(targets, outcome)
                self._try_next()
            else:
                outcome.target.was_reached()
                self._connected(outcome)

        def guarded(outcome: Connected | ConnectFailed) -> None:
            self._loop.guarded(partial(answered, outcome), self.abort)()

        self._reach = TargetConnect(self._loop, targets, self._relay.way, timeout=share, done=guarded)

    def _connected(self, reached: Connected) -> None:
        if not self._introduce(reached.sock):
            reached.sock.close()
            self._faults.append(f"{reached.target}: client left before the PROXY header")
            self._try_next()
            return
        self._stop_watching()
        self._target = reached.target
        self._target.active += 1
        self._pump = RelayPump(
            self._loop,
            self._socket,
            reached.sock,
            leftovers=(b"", reached.rest),
            half_close_timeout=self._relay.half_close_timeout,
            idle_timeout=self._relay.idle_timeout,
            on_end=partial(self._pumped, reached.target),
        )

    def _introduce(self, sock: socket.socket) -> bool:
        """Send the client's address, in one send of its own; False if the target does not accept it."""
        version = self._relay.header_version
        if version is None:
            return True
        header = proxy.encode(
            version, _plain(self._peer), _plain(SocketAddress.from_sockaddr(self._socket.getsockname()))
        )
        try:
            return sock.send(header) == len(header)  # on a new connection there is room for it
        except OSError:
            return False

    # ---- the end

    def _pumped(self, target: Target, reason: CloseReason) -> None:
        target.active -= 1
        self._end(reason)

    def abort(self) -> None:
        """End at once."""
        if self._pump is not None:
            self._pump.abort()
        elif self._done is not None:
            self._end(CloseReason.SHUTDOWN)

    def _stop_watching(self) -> None:
        if self._lookout is not None:
            self._lookout.cancel()

    def _end(self, reason: CloseReason, *, why: str = "") -> None:
        self._stop_watching()
        event: dict[str, object] = {"service": self._relay.name, "peer": str(self._peer)}
        if self._pump is None:
            if self._reach is not None:
                self._reach.cancel()
            close_with_reset(self._socket)  # nobody has heard the client
        else:
            event["target"] = str(self._target)
            event["received"], event["sent"] = self.moved
        event["reason"] = str(reason)
        if self._pump is not None and self._pump.error:
            event["error"] = os.strerror(self._pump.error)
            event["at"] = str(self._target) if self._pump.side else event["peer"]
        if why:
            event["why"] = why
        event["seconds"] = round(self._loop.clock() - self._began, 3)
        logger.log(logging.WARNING if why else logging.INFO, "closed", extra={"event": event})
        done, self._done = self._done, None
        self._relay.ended(self, reason)
        if done is not None:
            done()


def _plain(address: SocketAddress) -> tuple[str, int] | None:
    """Return an address as a PROXY header has it: an IPv4-mapped one as IPv4; None without one."""
    if not address.host:
        return None
    host = ipaddress.ip_address(address.host)
    return str(getattr(host, "ipv4_mapped", None) or host), address.port


__all__ = ["RelaySession"]
