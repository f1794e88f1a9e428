# SPDX-License-Identifier: MIT
"""Which connections of a table are encrypted, and which may become so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sockd._sockbuf import lib
from sockd.net.tls.socket_pair import Input
from sockd.wire.close_reason import CloseReason

if TYPE_CHECKING:
    from sockd.net.connection.table import ConnectionTable
    from sockd.net.tls.handshake import Handshakes
    from sockd.net.tls.socket_pair import TlsSocket


class UnreadError(Exception):
    """A peer has sent more before its connection is encrypted."""

    def __init__(self) -> None:
        super().__init__("the peer did not wait for the answer, and what it sent meanwhile is not protected")


class TlsConnections:
    """The rows of a set that are one end of a socket pair, at whose other end bytes are encrypted and decrypted.

    Args:
        connections: the set.
    """

    def __init__(self, connections: ConnectionTable) -> None:
        self._set = connections
        self._ends: dict[int, TlsSocket] = {}
        self._offers: dict[int, Handshakes] = {}

    def note(self, id: int, near: TlsSocket) -> None:
        """Note that a connection is encrypted; when it is lost, its row is told, for its socket does not tell."""
        self._ends[id] = near

        def lost(error: int) -> None:
            if self._ends.get(id) is near:  # else it has ended
                lib.sb_mux_lost(self._set.handle, id, error)

        near.on_lost = lost

    def is_cut(self, id: int) -> bool:
        """Tell whether a connection whose input has ended may have been cut off in the middle of a frame."""
        near = self._ends.get(id)
        return near is not None and near.input in (Input.CUT, Input.LOST)

    def of(self, id: int) -> TlsSocket | None:
        """Return what is known of a connection's encryption, None for one that has none."""
        return self._ends.get(id)

    def count(self, group: int) -> int:
        """Count the connections of a group that are encrypted."""
        return sum(self._set.info(id).group == group for id in self._ends)

    def ended(self, id: int) -> None:
        """Forget a connection that has just ended; what was not all sent does not look as if it were."""
        near = self._ends.pop(id, None)
        if near is not None and (
            self._set.info(id).reason is CloseReason.ABORTED or self._set.output_pending_bytes(id)
        ):
            near.abort()

    # ---- STARTTLS

    def offer(self, group: int, handshakes: Handshakes | None) -> None:
        """Let the connections of a group ask for TLS; None: not any more, for the number is another group's."""
        if handshakes is None:
            self._offers.pop(group, None)
        else:
            self._offers[group] = handshakes

    def offered(self, id: int) -> Handshakes | None:
        """Return what a connection's handshake would be made by; None where it cannot ask for TLS."""
        return self._offers.get(self._set.info(id).group)

    def swap(self, id: int, near: TlsSocket) -> int:
        """Have a connection, which is paused, go on by another socket, which is the set's from now on.

        No deadline of the set counts until goes_on(), for nothing can come by that socket before.

        Returns:
            The descriptor until now, which is the caller's.

        Raises:
            BlockingIOError: not all that was written has left.
            UnreadError: there is input that was not handed out.
            ConnectionError: its end has begun.
            OSError: the socket cannot be watched.
        """
        before = int(lib.sb_mux_swap(self._set.handle, id, near.fileno()))
        if before == lib.SB_ERR_AGAIN:
            raise BlockingIOError
        if before == lib.SB_ERR_MALFORMED:
            raise UnreadError
        if before in (lib.SB_ERR_GONE, lib.SB_ERR_CLOSING):
            raise ConnectionError("it has ended")
        if before < 0:
            number = lib.sb_mux_errno(self._set.handle)
            raise OSError(number, os.strerror(number))
        near.detach()
        self.note(id, near)
        lib.sb_mux_rest(self._set.handle, id, 1)
        return before

    def goes_on(self, id: int) -> None:
        """Say that a connection is encrypted now which was not at first; its deadlines begin."""
        lib.sb_mux_rest(self._set.handle, id, 0)


__all__ = ["TlsConnections", "UnreadError"]
