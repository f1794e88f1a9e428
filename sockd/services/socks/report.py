# SPDX-License-Identifier: MIT
"""What is told of a client of a SOCKS server at its end: who it was, what was wanted, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sockd.net.address.sockaddr import format_peer
from sockd.net.relay.tally import PairedClient

if TYPE_CHECKING:
    from sockd.net.address.sockaddr import SockAddr, SocketAddress
    from sockd.wire.close_reason import CloseReason
    from sockd.wire.socks_address import Reply
    from sockd.wire.socks_server import SocksCommand, SocksRequest


class ClientReport:
    """Gathers what is known of one client.

    Attributes:
        peer: its address.
        request: what it asked for; None as long as it has not.
        reached: the address that its bytes went to.
        user: as whom it logged in; reply: what it was told in place of being served; empty for nothing.
        dropped: datagrams that were not passed on; None where there can be none.
    """

    def __init__(self, service: str, peer: SocketAddress) -> None:
        self._service = service
        self.peer = peer
        self.request: SocksRequest | None = None
        self.reached: SockAddr | None = None
        self.user = self.reply = ""
        self.dropped: int | None = None

    def shown(self, began: float, moved: tuple[int, int]) -> PairedClient:
        """Return what is shown of the client while it is there."""
        where = "" if self.reached is None else format_peer(self.reached)
        return PairedClient(self.peer, began, moved, where, self.user)

    def at_end(self, reason: CloseReason, why: str, moved: tuple[int, int] | None, seconds: float) -> dict[str, object]:
        """Return the fields of the last line.

        Args:
            moved: bytes received from the client and sent to it; None where none could be.
            seconds: since it came.
        """
        event: dict[str, object] = {"service": self._service, "peer": str(self.peer)}
        if self.request is not None:
            event |= {"version": self.request.version, "command": word(self.request.command)}
            event["destination"] = str(self.request.destination)
        if self.user:
            event["user"] = self.user
        if self.reply:
            event["reply"] = self.reply
        if self.reached is not None:
            event["address"] = format_peer(self.reached)
        event["reason"] = str(reason)
        if why:
            event["why"] = why
        if moved is not None:
            event["received"], event["sent"] = moved
        if self.dropped is not None:
            event["dropped"] = self.dropped
        event["seconds"] = round(seconds, 3)
        return event


def word(one: SocksCommand | Reply) -> str:
    """Return the name of a command or reply as the log has it."""
    return one.name.lower().replace("_", "-")


__all__ = ["ClientReport", "word"]
