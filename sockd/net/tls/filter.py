# SPDX-License-Identifier: MIT
"""The filter of a connection table: what its C core calls to decrypt and encrypt (csrc/mux_filter.c).

Once for what a connection has received in a turn, and once for what it is sent: the core receives, frames and sends as
for other connections, by the same descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sockd._sockbuf import ffi, lib
from sockd.net.tls.failures import FAILURES
from sockd.net.tls.socket_pair import Input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sockd.net.connection.table import ConnectionTable
    from sockd.net.loop.defects import Defects
    from sockd.net.tls.stream import TlsStream

MORE: int = lib.SB_FILTER_MORE
SEND: int = lib.SB_FILTER_SEND
SEAL_MORE: int = lib.SB_SEAL_MORE
SEAL_END: int = lib.SB_SEAL_END
ENDED: int = lib.SB_ERR_END
RESET: int = lib.SB_ERR_RESET


class TlsFilter:
    """The streams of one table.

    Args:
        connections: the table.
        streams: by the ids of their connections; another one's, which adds to them.
        defects: gets what is no failure of a peer's.

    Raises:
        MemoryError: no memory for received data.
    """

    def __init__(self, connections: ConnectionTable, streams: Mapping[int, TlsStream], defects: Defects) -> None:
        self._table = connections
        self._streams = streams
        self._defects = defects
        self._sealed = b""
        self._handle = ffi.new_handle(self)
        functions = ffi.new("sb_filter *", (self._handle, lib.sockd_tls_open, lib.sockd_tls_seal))
        if lib.sb_mux_set_filter(connections.handle, functions) < 0:
            raise MemoryError

    def open(self, id: int, data: Any, size: int, plain: Any, room: int, then: Any) -> int:  # noqa: ANN401 - cffi's
        """Decrypt what a connection has received, as sb_filter.open."""
        stream = self._streams.get(id)
        if stream is None:
            return 0
        if size:
            stream.receive(ffi.buffer(data, size))
        if stream.failure is not None:
            return RESET
        if stream.input is not Input.OPEN:
            return ENDED
        count = stream.read_into(ffi.buffer(plain, room), room)
        if stream.has_more:
            then[0] = MORE
        if stream.has_output:
            then[0] |= SEND
        return count

    def seal(self, id: int, data: Any, size: int, what: int, sealed: Any) -> int:  # noqa: ANN401 - likewise
        """Encrypt what a connection is to send, as sb_filter.seal."""
        stream = self._streams.get(id)
        if stream is None:
            return 0  # its handshake is not done: nothing can be said
        if size:
            stream.write(ffi.buffer(data, size))
        if what == SEAL_MORE:
            return 0
        if what == SEAL_END:
            stream.end()
        self._sealed = stream.pop_output()
        sealed[0] = ffi.from_buffer(self._sealed)
        return len(self._sealed)

    def failed(self, error: BaseException) -> int:
        """Report what is no failure of a peer's; the connection is lost either way."""
        if not isinstance(error, FAILURES):
            self._defects.report(error)
        return RESET


@ffi.def_extern(error=RESET)  # type: ignore[untyped-decorator]  # cffi
def sockd_tls_open(context: Any, id: int, data: Any, size: int, plain: Any, room: int, then: Any) -> int:  # noqa: ANN401 - sb_filter's
    """Decrypt; nothing is raised into the core."""
    tls: TlsFilter = ffi.from_handle(context)
    try:
        return tls.open(id, data, size, plain, room, then)
    except BaseException as error:
        return tls.failed(error)


@ffi.def_extern(error=RESET)  # type: ignore[untyped-decorator]  # cffi
def sockd_tls_seal(context: Any, id: int, data: Any, size: int, what: int, sealed: Any) -> int:  # noqa: ANN401 - likewise
    """Encrypt; nothing is raised into the core."""
    tls: TlsFilter = ffi.from_handle(context)
    try:
        return tls.seal(id, data, size, what, sealed)
    except BaseException as error:
        return tls.failed(error)


__all__ = ["TlsFilter"]
