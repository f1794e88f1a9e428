# SPDX-License-Identifier: MIT
"""Counts of connections without a row in the table, in the same form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sockd.net.connection.info import REASONS, Totals
from sockd.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sockd.net.address.sockaddr import SocketAddress
    from sockd.wire.close_reason import CloseReason


class ByteCounter(Protocol):
    """A connection that counts its bytes."""

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes received from the client, and sent to it."""


@dataclass(frozen=True)
class PairedClient:
    """A client whose bytes pass to another socket.

    Args:
        peer: its address.
        began: when it came, by the loop's clock.
        moved: bytes received from it, and sent to it.
        destination: where they go; empty until that is connected.
        user: as whom it has logged in; empty for nobody.
    """

    peer: SocketAddress
    began: float
    moved: tuple[int, int]
    destination: str = ""
    user: str = ""


T = TypeVar("T", bound=ByteCounter)


class ConnectionCounts(Generic[T]):
    """The open connections of one service, and the sum of the closed ones."""

    def __init__(self) -> None:
        self._open: set[T] = set()
        self._accepted = self._received = self._sent = 0
        self._reasons = [0] * REASONS

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def __iter__(self) -> Iterator[T]:
        """Yield those that are open; they may end meanwhile."""
        yield from tuple(self._open)

    def add(self, connection: T) -> None:
        """Count one that has come."""
        self._open.add(connection)

    def drop(self, connection: T) -> None:
        """Forget one that another goes on for."""
        self._open.discard(connection)

    def end(self, connection: T, reason: CloseReason) -> None:
        """Count one that has ended."""
        self._open.discard(connection)
        received, sent = connection.moved
        self._accepted += 1
        self._received += received
        self._sent += sent
        self._reasons[reason] += 1

    def totals(self) -> Totals:
        """Return what all of them have done, those included that are open."""
        moved = [connection.moved for connection in self._open]
        return Totals(
            accepted=self._accepted + len(moved),
            open=len(moved),
            received=self._received + sum(one for one, _ in moved),
            sent=self._sent + sum(other for _, other in moved),
            reasons=tuple(self._reasons),
        )


__all__ = ["ByteCounter", "ConnectionCounts", "PairedClient"]
